"""Optional abilities of plug-ins: found where they are declared, also behind wrappers, and absent anywhere else."""

from collections.abc import Collection, Mapping, Sequence
from collections.abc import Generator as Yields
from dataclasses import dataclass, field

import pytest

from act2see.core.chat import Tool
from act2see.core.interfaces import (
    Backend,
    Continuation,
    IndexingRetriever,
    LimitsFrames,
    Retriever,
    encoder_of,
    is_concurrent,
    notice_of,
    unwrapped,
)
from act2see.core.trace import Cost, Frame, Trace
from act2see.execution.metering import CostTrackingBackend
from act2see.video import Video


@dataclass(frozen=True)
class Plain:
    made_with: Mapping[str, str] = field(default_factory=dict)

    def decode(self, trace: Trace, tools: Sequence[Tool]) -> Yields[str, None, Continuation]:
        yield ""
        return Continuation("", "end", Cost())


@dataclass(frozen=True)
class Threaded(Plain):
    concurrent: bool = True


@dataclass(frozen=True)
class Noted(Plain):
    notice: str | None = "knows stars only"


@dataclass(frozen=True)
class Finds:
    name: str = "finds"

    def find(self, video: Video, query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
        return ()


@dataclass(frozen=True)
class Searches(Finds):
    encoder: None = None

    def index(self, video: Video) -> None:
        raise AssertionError("nobody asked for one")


@pytest.mark.parametrize(("backend", "expected"), [(Plain(), False), (Threaded(), True), (Threaded(concurrent=False), False)])
def test_a_backend_is_called_from_several_threads_only_if_it_declares_so(backend: Backend, expected: bool) -> None:
    assert is_concurrent(backend) is expected
    assert is_concurrent(CostTrackingBackend(backend)) is expected


@pytest.mark.parametrize(("backend", "expected"), [(Plain(), None), (Noted(), "knows stars only"), (Noted(notice=None), None)])
def test_a_wrapper_does_not_hide_the_notice(backend: Backend, expected: str | None) -> None:
    assert notice_of(backend) == expected
    assert notice_of(CostTrackingBackend(CostTrackingBackend(backend))) == expected


def test_wrappers_are_listed_from_the_outermost_inwards() -> None:
    inner = CostTrackingBackend(Plain())
    outer = CostTrackingBackend(inner)
    assert list(unwrapped(outer)) == [outer, inner, inner.inner]
    assert not any(isinstance(one, LimitsFrames) for one in unwrapped(outer))


@pytest.mark.parametrize(("retriever", "can_index"), [(None, False), (Finds(), False), (Searches(), True)])
def test_a_retriever_without_an_encoder_has_none(retriever: Retriever | None, can_index: bool) -> None:
    assert encoder_of(retriever) is None
    assert isinstance(retriever, IndexingRetriever) is can_index
