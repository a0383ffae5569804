"""Retrievers and generators for several threads: one call at a time, and a waiting thread gives up with its request."""

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from act2see.api import Models
from act2see.core import spots
from act2see.core.interfaces import Generator, Retriever
from act2see.core.trace import Frame
from act2see.video import Video

_CHECK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Turn:
    """A lock whose waiters call `check` meanwhile, which raises when they are to give up."""

    check: Callable[[], None]
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def taken(self, check: Callable[[], None] | None = None) -> Iterator[None]:
        """Hold the lock while the block runs. `check` stands in for the turn's own."""
        while not self._lock.acquire(timeout=_CHECK_SECONDS):
            (check or self.check)()
        try:
            yield
        finally:
            self._lock.release()


@dataclass(frozen=True, slots=True)
class SharedRetriever:
    """A retriever that several threads may use."""

    inner: Retriever
    turn: Turn

    @property
    def name(self) -> str:
        """The retriever's own name."""
        return self.inner.name

    def find(self, video: Video, query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
        """See `Retriever.find`."""
        with self.turn.taken():
            return self.inner.find(video, query, shown=shown, count=count)

    def show(self, video: Video, spot: spots.Spot, *, shown: Collection[float], count: int) -> Sequence[Frame]:
        """See `ShowsSpots`."""
        return spots.shown_by(self.inner, video, spot, shown=shown, count=count)


@dataclass(frozen=True, slots=True)
class SharedGenerator:
    """A generator that several threads may use."""

    inner: Generator
    turn: Turn

    @property
    def name(self) -> str:
        """The generator's own name."""
        return self.inner.name

    def generate(self, prompt: str, anchor: Frame, *, seed: int) -> Frame:
        """See `Generator.generate`."""
        with self.turn.taken():
            return self.inner.generate(prompt, anchor, seed=seed)


def shared(models: Models, check: Callable[[], None]) -> Models:
    """The models with tools that several threads may use; the backend must be concurrent itself."""
    turn = Turn(check)  # one for both: a generator may use the retriever's encoder
    return replace(
        models,
        retriever=None if models.retriever is None else SharedRetriever(models.retriever, turn),
        generator=None if models.generator is None else SharedGenerator(models.generator, turn),
    )
