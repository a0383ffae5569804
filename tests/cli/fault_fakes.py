"""Plug-ins with faults of their own: what they raise is no error of act2see's."""

import os
from collections.abc import Collection, Generator, Iterator, Sequence
from dataclasses import replace
from typing import Any

from act2see.core.chat import Tool
from act2see.core.interfaces import Continuation, Sample
from act2see.core.trace import Frame, Trace
from act2see.video import Video
from cli_fakes import Finder
from eval_fakes import Many, Steady

FAULTS: dict[str, Exception] = {
    "TypeError": TypeError("'NoneType' object is not callable"),
    "MemoryError": MemoryError(),
    "KeyError": KeyError("\x1b[31mx\ud800\n"),
    "OSError": OSError(5, "Input/output error"),
    "TimeoutError": TimeoutError(),
    "BrokenPipeError": BrokenPipeError(32, "Broken pipe"),
    "ExceptionGroup": ExceptionGroup("several", [ValueError("x")]),
}


def fail(name: str) -> None:
    """Raise the fault that ACT2SEE_TEST_FAULT names, if this question is one of the faulty ones."""
    if name[:4] in ("q001", "q004"):
        kind = os.environ.get("ACT2SEE_TEST_FAULT", "TypeError")
        if kind == "RecursionError":
            fail(f"{name}/")
        raise FAULTS[kind]


class Faulty(Steady):
    """Cannot answer two questions."""

    def decode(self, trace: Trace, tools: Sequence[Tool]) -> Generator[str, None, Continuation]:
        fail(trace.id)
        return (yield from super().decode(trace, tools))


class FaultyLater(Steady):
    """Looks at every question, and fails on two of them when it has seen the frame."""

    def decode(self, trace: Trace, tools: Sequence[Tool]) -> Generator[str, None, Continuation]:
        if not trace.steps:
            text = "<retrieve> a star </retrieve>"
            yield text
            return Continuation(text, "tag", replace(trace.cost))
        fail(trace.id)
        return (yield from super().decode(trace, tools))


class FaultyFinder(Finder):
    def find(self, video: Video, query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
        raise ZeroDivisionError("no frame")


class FaultyRule(Many):
    def is_right(self, sample: Sample, trace: Trace) -> bool | None:
        fail(sample.id)
        return super().is_right(sample, trace)


class OddSamples(Many):
    """Two questions hold what no question may hold."""

    def samples(self) -> Iterator[Sample]:
        odd: dict[str, dict[str, Any]] = {"q001": {"choices": None}, "q004": {"groups": None}, "q005": {"answer": object()}}
        for sample in super().samples():
            yield replace(sample, **odd.get(sample.id, {}))


class BrokenSource(Many):
    """Its questions end in a fault."""

    def samples(self) -> Iterator[Sample]:
        yield from list(super().samples())[:2]
        raise IndexError("list index out of range")


class Unmade:
    """Cannot even be made."""

    def __init__(self, config: Any) -> None:
        raise AttributeError("no such attribute")


class OddText(Steady):
    """Continues with what is no text."""

    def decode(self, trace: Trace, tools: Sequence[Tool]) -> Generator[str, None, Continuation]:
        yield ""
        return Continuation(None if trace.id == "q001" else "<answer>A</answer>", "tag", replace(trace.cost))  # type: ignore[arg-type]
