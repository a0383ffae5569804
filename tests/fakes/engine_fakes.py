"""A model, a retriever and a painter that do what a test wrote down, and traces that they make."""

import itertools
from collections.abc import Collection, Mapping, Sequence
from collections.abc import Generator as Yields
from dataclasses import dataclass, field
from typing import Literal

from PIL import Image

from act2see.core import chat
from act2see.core.engine import LoopOptions, reason
from act2see.core.errors import BackendError, ToolError, VideoError
from act2see.core.interfaces import Continuation, Retriever
from act2see.core.protocol import STOPS
from act2see.core.trace import Cost, Frame, Observation, Provenance, Step, Trace
from act2see.video import Video

PICTURE = Image.new("RGB", (8, 8), (200, 10, 10))
CALL, ANSWER = "<think>I look.<retrieve> the star </retrieve>", " It is red.</think><answer> A </answer>"
Stopped = Literal["tag", "end", "length"]


@dataclass
class Scripted:
    """A model that writes the text of its turn after as many observations as the trace holds; like a real one it goes on from its own last words."""

    texts: Sequence[str]
    without_tag: Stopped = "end"
    fails: int = 0
    """How many of the first calls end in an error halfway."""
    made_with: Mapping[str, str] = field(default_factory=lambda: {"backend": "scripted", "rendering": "same_turn"})
    read: list[list[Step]] = field(default_factory=list)
    told: list[tuple[chat.Tool, ...]] = field(default_factory=list)

    def decode(self, trace: Trace, tools: Sequence[chat.Tool]) -> Yields[str, None, Continuation]:
        self.read.append(list(trace.steps))
        self.told.append(tuple(tools))
        pieces = chat.render(trace.steps)
        turn = sum(isinstance(piece, Observation) for piece in pieces)
        whole = self.texts[turn] if turn < len(self.texts) else ""
        written = pieces[-1] if pieces and isinstance(pieces[-1], str) else ""
        text = whole.removeprefix(written)
        for start in range(0, len(text), 7):
            yield text[start : start + 7]
            if self.fails:
                self.fails -= 1
                raise BackendError("the server is gone")
        return Continuation(text, "tag" if text.endswith(STOPS) else self.without_tag, Cost(10, len(text), 5, {"decode": 1.0}))


@dataclass
class Numbered:
    """Gives the frame at 0.1, 1.1, 2.1, … seconds, the first that was not shown; fails for a query with 'nothing' in it."""

    name: str = "numbered"
    asked: list[tuple[str, tuple[float, ...]]] = field(default_factory=list)
    breaks: int = 0

    def find(self, video: Video, query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
        self.asked.append((query, tuple(shown)))
        if self.breaks:
            self.breaks -= 1
            raise VideoError("the file is gone")
        if "nothing" in query:
            raise ToolError("no frame was found")
        seconds = next(n + 0.1 for n in itertools.count() if n + 0.1 not in shown)
        return [Frame(PICTURE, seconds, score=0.5)]


@dataclass
class Painter:
    """Gives back its anchor as a generated frame; refuses a prompt with 'never' in it."""

    name: str = "painter"
    asked: list[tuple[str, Frame, int]] = field(default_factory=list)

    def generate(self, prompt: str, anchor: Frame, *, seed: int) -> Frame:
        self.asked.append((prompt, anchor, seed))
        if "never" in prompt:
            raise ToolError("no faithful picture could be made")
        return Frame(anchor.image, None, provenance=Provenance(prompt, anchor.seconds, "painter", seed))


def fresh(frames: int = 2) -> Trace:
    return Trace("t", "clip.mp4", "What colour is the star?", tuple(Frame(PICTURE, float(n)) for n in range(frames)), ("red", "blue"))


def finished(
    video: Video, texts: Sequence[str], *, max_looks: int = 1, retriever: Retriever | None = None, without_tag: Stopped = "end"
) -> tuple[Trace, Scripted]:
    backend, trace = Scripted(texts, without_tag), fresh()
    for _ in reason(trace, video, backend, retriever or Numbered(), options=LoopOptions(max_looks=max_looks)):
        pass
    return trace, backend


def written(trace: Trace) -> str:
    """Everything that the model wrote."""
    return "".join(piece for piece in chat.render(trace.steps) if isinstance(piece, str))


def seen_at(seconds: float) -> Observation:
    return Observation(frames=(Frame(PICTURE, seconds, score=0.5),))
