"""Asks the same questions of a local model twice, over HTTP through llama.cpp and in this process, and compares every word.

    python scripts/llamacpp_check.py src/act2see/micro/vlm

llama.cpp comes from PyPI (xllamacpp, some 200 MB in an environment of its own in --env, made once), and llamacpp_server.py converts the model.
Both sides decode greedily in float32 and see lossless images, in user turn and in tool turn. In same turn llama.cpp refuses the first look: the
script checks that the error names the rendering to use. Prints a table for each rendering and a line of JSON; exits with 0 if all texts are equal,
with 1 otherwise. Needs act2see[local,openai] where it runs.
"""

import sys
from pathlib import Path

from act2see.backends.openai import OpenAIBackend, OpenAISettings
from act2see.core import chat
from server_comparison import ask_both, environment, free_port, parsed, parser, report, serving

REQUIREMENTS = ("xllamacpp==2026.10.11549", "gguf==0.19.0")
EQUAL: tuple[chat.Rendering, ...] = ("user_turn", "tool_turn")


def main() -> int:
    """Run both sides in each rendering; returns the exit status."""
    given = parsed(parser(__doc__, "llamacpp"))
    python = environment(given.env, "python", REQUIREMENTS)
    port = free_port()
    server = Path(__file__).with_name("llamacpp_server.py")
    command = [str(python), str(server), str(given.model), "--out", str(given.work / "gguf"), "--port", str(port)]
    statuses = []
    with serving(command, port, given.work / "server.log") as url:
        print(f"serving {given.model} at {url}")
        for rendering in EQUAL:
            print(f"\n{rendering}")
            pairs = ask_both(given, backend(given.model.name, url, rendering, given.max_tokens), rendering)
            statuses.append(report(pairs, given, REQUIREMENTS, rendering=rendering))
        given.n = min(given.n, 4)
        looked = [
            pair
            for pair in ask_both(given, backend(given.model.name, url, "same_turn", given.max_tokens), "same_turn")
            if "<retrieve>" in pair.texts[0]
        ]
        refused = [pair for pair in looked if "--rendering user_turn" in pair.texts[1]]
        print(f"\nsame_turn: {len(refused)} of {len(looked)} looks refused, naming the rendering to use")
        for pair in refused[:1]:
            print(f"  {pair.texts[1][-300:]}")
    return max(*statuses, int(len(refused) < len(looked)))


def backend(model: str, url: str, rendering: chat.Rendering, max_tokens: int) -> OpenAIBackend:
    """The server, asked greedily."""
    return OpenAIBackend(OpenAISettings(model, url, rendering, max_tokens=max_tokens, temperature=0.0, image_format="png", retries=0))


if __name__ == "__main__":
    sys.exit(main())
