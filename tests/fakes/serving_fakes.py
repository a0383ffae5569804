"""Models for servers: what they write depends on the question alone, and they can be held up."""

import threading
import time
from collections.abc import Collection, Mapping, Sequence
from collections.abc import Generator as Yields
from dataclasses import dataclass, field

from act2see.core.chat import Tool
from act2see.core.errors import BackendError
from act2see.core.interfaces import Continuation
from act2see.core.protocol import STOPS
from act2see.core.trace import Cost, Frame, Observation, Provenance, Trace
from act2see.video import Video

LOOK = "<think>Where is it? I write `<answer>` only later.<retrieve> the star </retrieve>"
REST = "There it is <on the left>.</think><answer> A </answer>"


@dataclass
class Held:
    """Looks once and answers. A question with `wait` in it waits before its answer; one with `flood` is written about without end; one with `crash`,
    `gone` or `open` behaves as that says.
    """

    made_with: Mapping[str, str] = field(default_factory=lambda: {"backend": "held", "rendering": "same_turn"})
    concurrent: bool = True
    go_on: threading.Event = field(default_factory=threading.Event)
    """Lets the waiting ones go on."""
    began: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    """Released by each one that waits."""
    closed: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    """Released by each continuation that was given up."""

    def decode(self, trace: Trace, tools: Sequence[Tool]) -> Yields[str, None, Continuation]:
        if "crash" in trace.question:
            raise ZeroDivisionError("the model's own secret")
        if "gone" in trace.question:
            raise BackendError("cannot reach the model: connection refused")
        text = REST if any(isinstance(step, Observation) for step in trace.steps) or not tools else LOOK
        if "open" in trace.question:
            text = text.replace(" A ", "a red star")
        try:
            for start in range(0, len(text), 5):
                yield text[start : start + 5]
                if "wait" in trace.question and text.startswith(REST[:5]) and start == 0:
                    self.began.release()
                    while not self.go_on.wait(0.01):
                        yield ""
                while "flood" in trace.question and not self.go_on.wait(0.005):
                    yield "x" * 50_000
        except GeneratorExit:
            self.closed.release()
            raise
        return Continuation(text, "tag" if text.endswith(STOPS) else "end", Cost(10, len(text), 5, {"decode": 0.1}))


class Slow(Held):
    """As named on a command line: a question with `wait` in it is answered after two seconds."""

    def __init__(self, config: object) -> None:
        super().__init__()

    def decode(self, trace: Trace, tools: Sequence[Tool]) -> Yields[str, None, Continuation]:
        self.go_on.set()
        if "wait" in trace.question and trace.steps:
            yield "And "
            time.sleep(2)
        return (yield from super().decode(trace, tools))


@dataclass
class Middle:
    """Finds the frame in the middle."""

    name: str = "middle"

    def find(self, video: Video, query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
        frame = video.frame_at(video.duration_seconds / 2)
        return [Frame(frame.image, frame.seconds, score=0.75)]


@dataclass
class Copyist:
    """Gives the anchor back as an imagined frame."""

    name: str = "copyist"

    def generate(self, prompt: str, anchor: Frame, *, seed: int) -> Frame:
        return Frame(anchor.image, None, provenance=Provenance(prompt, anchor.seconds, "copyist", seed))


def middle(config: object) -> Middle:
    return Middle()


def copyist(config: object) -> Copyist:
    return Copyist()
