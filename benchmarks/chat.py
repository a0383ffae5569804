"""What several questions about one video cost in one conversation, against as many separate asks.

    python benchmarks/chat.py [--seconds 60] [--questions 5] [--json]

Makes a clip of the synthetic world and questions about it, and asks each twice with the embedded models: in one `Conversation`, and alone, with a
cold KV cache and a cold index. Compares the prompt tokens that were computed (not reused), the seconds, and the answers. Takes a few minutes. Needs
the `local` extra.
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

import act2see
from act2see.core.trace import Trace
from act2see.synthetic.questions import Question, ask
from act2see.synthetic.world import make_clip


def main() -> None:
    """Print both costs, their ratio, and whether the answers are the same."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the video")
    parser.add_argument("--questions", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-tokens", type=int, help="cut each continuation, to compare the prompts alone quickly")
    parser.add_argument("--json", action="store_true", help="print only one line of JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        video, questions = made(Path(folder), options.seconds, options.questions, options.seed)
        config = act2see.ModelConfig(cache=False, max_tokens=options.max_tokens)
        together = in_a_row(video, questions, config)
        alone = separately(video, questions, config)
    found = {
        "frames": len(together[0][0].frames),
        "questions": len(questions),
        "computed_tokens": {"conversation": computed(together), "separate": computed(alone)},
        "seconds": {"conversation": round(sum(taken for _, taken in together), 1), "separate": round(sum(taken for _, taken in alone), 1)},
        "token_ratio": round(computed(together) / computed(alone), 3),
        "same_steps": sum(shown(one) == shown(other) for (one, _), (other, _) in zip(together, alone, strict=True)),
        "same_answers": sum(one.answer == other.answer for (one, _), (other, _) in zip(together, alone, strict=True)),
    }
    if options.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name}: {value}")


def made(folder: Path, seconds: float, count: int, seed: int) -> tuple[Path, list[Question]]:
    """A clip of that length, and so many questions about it."""
    rng = random.Random(seed)
    questions: dict[str, Question] = {}
    while len(questions) < count:  # a clip may allow only a few
        clip = make_clip(rng, seconds=(seconds, seconds))
        questions = {one.text: one for _ in range(10) for one in ask(rng, clip)}
    clip.write(folder / "clip.mp4")
    return folder / "clip.mp4", list(questions.values())[:count]


def in_a_row(video: Path, questions: Sequence[Question], config: act2see.ModelConfig) -> list[tuple[Trace, float]]:
    """The questions in one conversation, with the seconds of each."""
    conversation = act2see.Conversation(video, config, models=act2see.load_models(config))
    return [timed(conversation, question) for question in questions]


def separately(video: Path, questions: Sequence[Question], config: act2see.ModelConfig) -> list[tuple[Trace, float]]:
    """Each question alone, as `act2see ask` does; loading the models does not count."""
    alone = []
    for question in questions:
        alone.append(timed(act2see.Conversation(video, config, models=act2see.load_models(config)), question))
    return alone


def timed(conversation: act2see.Conversation, question: Question) -> tuple[Trace, float]:
    """Ask one question."""
    began = time.perf_counter()
    answering = conversation.stream(question.text, question.choices)
    for _ in answering:
        pass
    return answering.trace, time.perf_counter() - began


def computed(traces: Sequence[tuple[Trace, float]]) -> int:
    """Prompt tokens that were not reused."""
    return sum(trace.cost.tokens_in - trace.cost.tokens_reused for trace, _ in traces)


def shown(trace: Trace) -> list[str]:
    """The steps without pixels, to compare two traces."""
    return [repr([frame.seconds for frame in step.frames]) if isinstance(step, act2see.Observation) else repr(step) for step in trace.steps]


if __name__ == "__main__":
    main()
