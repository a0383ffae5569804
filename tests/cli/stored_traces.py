"""A trace with everything in it, for tests of what is written and read."""

from typing import Any

import numpy as np
from PIL import Image

from act2see.core.trace import Answer, Cost, Frame, Generate, Match, Observation, Provenance, Retrieve, Thought, Trace
from act2see.storage.runs import encode_trace

CONFIG: dict[str, Any] = {"fps": 1, "backend": {"name": "micro", "temperature": 0.6}, "choices": ["a", "b"]}


def picture(seed: int, size: tuple[int, int] = (12, 8)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def generated(seed: int) -> Frame:
    made = Provenance("a red — “star”", 1.5, "some/model", 7, 0.6, {"same place": 0.9})
    return Frame(picture(seed), None, provenance=made)


def trace(name: str = "one", seed: int = 0) -> Trace:
    return Trace(
        id=name,
        video="clip.mp4",
        question="What\nfalls?",
        frames=(Frame(picture(seed), 0.0), Frame(picture(seed + 1), 1.0)),
        choices=("a cup", "a pen"),
        duration_seconds=2.5,
        steps=[
            Thought("<think>hm\u2028</think>"),
            Retrieve(" the cup "),
            Observation(
                (Frame(picture(seed + 2), 1.25, score=0.5, match=Match(30, (1.0, 2.0), ((4.5, 0.25),), is_fallback=True, curve=((1.0, 0.5),))),)
            ),
            Generate("a star"),
            Observation((generated(seed + 3),)),
            Retrieve("x"),
            Observation(error="no look is left"),
            Answer(" A "),
        ],
        finish="answer",
        cost=Cost(10, 20, 5, {"decode": 1.5}, 0.25),
        made_with={"backend": "micro"},
    )


def same(left: Trace, right: Trace) -> bool:
    """Equal in everything, pixels included."""

    def seen(item: Trace) -> list[object]:
        frames = [*item.frames, *(frame for step in item.steps if isinstance(step, Observation) for frame in step.frames)]
        return [(frame.image.size, frame.image.tobytes(), frame.seconds, frame.score, frame.provenance, frame.match) for frame in frames]

    def record(item: Trace) -> object:
        return encode_trace(item, lambda frame: "")

    return seen(left) == seen(right) and record(left) == record(right)
