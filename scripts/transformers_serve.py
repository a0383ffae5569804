"""Asks the same questions of a local model twice, over HTTP through `transformers serve` and in this process, and compares every word.

    python scripts/transformers_serve.py src/act2see/micro/vlm --env /tmp/act2see-serve

`transformers serve` is an OpenAI-compatible server that this project did not write. Its processors need torchvision, and so the full torch: they get
a virtual environment of their own in --env (some GB; made there once, and used again). The server listens on 127.0.0.1 only. Both sides decode
greedily, show inserted frames in a turn of the user and see lossless images. Prints a table, the first difference of each pair of texts that
differ, and one line of JSON; exits with 0 if all texts are equal, with 1 otherwise. Needs act2see[local,openai] where it runs.
"""

import sys

from act2see.backends.openai import OpenAIBackend, OpenAISettings
from server_comparison import ask_both, environment, free_port, parsed, parser, report, serving

REQUIREMENTS = ("torch==2.14.1", "torchvision==0.29.1", "transformers[serving]==5.23.0")


def main() -> int:
    """Run both sides; returns the exit status."""
    given = parsed(parser(__doc__, "transformers-serve"))
    program = environment(given.env, "transformers", REQUIREMENTS)
    port = free_port()
    command = [str(program), "serve", str(given.model), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    with serving(command, port, given.work / "server.log") as url:
        print(f"serving {given.model} at {url}")
        # This server fails over `stop` with models that see (it looks for a tokenizer's vocabulary in the processor): the backend cuts instead.
        settings = OpenAISettings(
            str(given.model), url, "user_turn", max_tokens=given.max_tokens, temperature=0.0, image_format="png", send_stop=False
        )
        pairs = ask_both(given, OpenAIBackend(settings), "user_turn")
    return report(pairs, given, REQUIREMENTS)


if __name__ == "__main__":
    sys.exit(main())
