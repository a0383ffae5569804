"""Models and a benchmark for whole evaluations: what they say depends on the question alone, so that a run can be cut off and go on."""

import hashlib
import os
import signal
import threading
import time
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from act2see.config import EvalConfig, ModelConfig
from act2see.core.chat import Tool
from act2see.core.errors import BackendError
from act2see.core.interfaces import Continuation, Sample
from act2see.core.protocol import STOPS
from act2see.core.trace import Cost, Frame, Trace
from act2see.video import Video
from cli_fakes import Finder

CHOICES = ("blue", "red", "green")


def _number(trace: Trace) -> int:
    return int(hashlib.sha256(trace.id.encode()).hexdigest(), 16)


class Steady:
    """Looks at every other question, and answers as the question's id decides, after the milliseconds that ACT2SEE_TEST_WAIT says."""

    made_with: Mapping[str, str] = {"backend": "steady", "model": "steady-1", "decoding": "greedy"}
    concurrent = True

    def __init__(self, config: ModelConfig) -> None:
        self._wait = int(os.environ.get("ACT2SEE_TEST_WAIT", "0")) / 1000
        self.asked = 0

    def decode(self, trace: Trace, tools: Sequence[Tool]) -> Generator[str, None, Continuation]:
        self.asked += 1
        time.sleep(self._wait)
        number = _number(trace)
        looks = number % 2 == 0 and not trace.steps and "retrieve" in tools
        text = "<retrieve> a star </retrieve>" if looks else f"<answer>{'ABC?'[number // 2 % 4]}</answer>"
        yield text
        spent = {"decode": time.perf_counter() % 1}  # never twice the same
        return Continuation(text, "tag" if text.endswith(STOPS) else "end", Cost(100 + number % 50, len(text), self.asked, spent))


class OneByOne(Steady):
    """Fails when it is asked by two at once."""

    concurrent = False
    _busy = threading.Lock()

    def decode(self, trace: Trace, tools: Sequence[Tool]) -> Generator[str, None, Continuation]:
        if not self._busy.acquire(blocking=False):
            raise BackendError("two at once")
        try:
            return (yield from super().decode(trace, tools))
        finally:
            self._busy.release()


class Mortal(Steady):
    """Writes down the questions that its process begins in the folder of ACT2SEE_TEST_BEGUN, if there is one; the first with q006 dies of it."""

    def decode(self, trace: Trace, tools: Sequence[Tool]) -> Generator[str, None, Continuation]:
        begun = Path(os.environ["ACT2SEE_TEST_BEGUN"])
        if begun.is_dir() and not trace.steps:
            with (begun / str(os.getpid())).open("a", encoding="utf-8") as file:
                file.write(f"{trace.id}\n")
            if trace.id == "q006" and sum(path.read_text(encoding="utf-8").split().count("q006") for path in begun.iterdir()) == 1:
                os.kill(os.getpid(), signal.SIGKILL)
        return (yield from super().decode(trace, tools))


class Away(Steady):
    """Its server is gone for two questions, unless ACT2SEE_TEST_BACK says that it is back."""

    def decode(self, trace: Trace, tools: Sequence[Tool]) -> Generator[str, None, Continuation]:
        if trace.id in ("q005", "q006") and "ACT2SEE_TEST_BACK" not in os.environ:
            raise BackendError("no answer from the server")
        return (yield from super().decode(trace, tools))


class GoneFinder(Finder):
    def find(self, video: Video, query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
        raise BackendError("no answer from the index")


class Many:
    """`n` questions, two a video; videos are links to the clip of ACT2SEE_TEST_CLIP, but for q003's, which is no video."""

    name = "many"

    def __init__(self, config: EvalConfig) -> None:
        self._count = config.n or 24

    def samples(self) -> Iterator[Sample]:
        clip = Path(os.environ["ACT2SEE_TEST_CLIP"])
        for number in range(self._count):
            video = clip.with_name("no-video.mp4") if number == 3 else clip.with_name(f"clip-{number // 2}.mp4")
            if not video.exists():
                unfinished = video.with_name(f".{video.name}.{os.getpid()}")
                unfinished.write_bytes(b"no video at all" if number == 3 else clip.read_bytes())
                unfinished.replace(video)
            yield Sample(f"q{number:03}", video, "What colour?", CHOICES, CHOICES[number % 3], ("even", "odd")[number % 2])

    def is_right(self, sample: Sample, trace: Trace) -> bool | None:
        letter = (trace.answer or "?")[:1]
        return None if letter not in "ABC" else sample.choices["ABC".index(letter)] == sample.answer


class Few(Many):
    """The same questions but for the first two."""

    def samples(self) -> Iterator[Sample]:
        yield from list(super().samples())[2:]


class Other(Many):
    """Other questions under the same ids."""

    def samples(self) -> Iterator[Sample]:
        for sample in super().samples():
            yield replace(sample, answer=CHOICES[(CHOICES.index(sample.answer) + 1) % 3])


class Twice(Many):
    def samples(self) -> Iterator[Sample]:
        yield from [*super().samples()][:2] * 2


class Chained(Many):
    """Every second question quotes the answer to the one before it."""

    def after(self, sample: Sample) -> str | None:
        number = int(sample.id[1:])
        return f"q{number - 1:03}" if number % 2 else None

    def given_answer(self, sample: Sample, trace: Trace | None) -> Sample:
        return replace(sample, question=f"After {None if trace is None else trace.answer}: what colour?")
