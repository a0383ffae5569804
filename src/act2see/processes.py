"""What the processes of a spread construction do: teach, find and make frames, index videos. How they are started and reached is not known here.

Each loads its models at its first call, whose error then is the caller's.
"""

import os
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from act2see import registry
from act2see.config import ConstructConfig
from act2see.construction import Constructor
from act2see.errors import ConfigError, VideoError
from act2see.evaluation import Evaluator, Scored
from act2see.fingerprint import fingerprint
from act2see.interfaces import Backend, Generator, Retriever, Sample
from act2see.metering import Metered, Pace, Price
from act2see.trace import Frame
from act2see.video import Video

VIDEOS_KEPT_OPEN = 4


@dataclass(frozen=True, slots=True)
class Job:
    """What every process must know."""

    source: str
    settings: ConstructConfig
    prices: Mapping[str, Price] | None
    """By model; the file that they stand in need not be on every node."""
    folder: Path
    """From where the command was started: relative paths mean the same on every node that has it."""

    def enter(self) -> None:
        """Go there, if it is there."""
        with suppress(OSError):
            os.chdir(self.folder)


@dataclass(frozen=True, slots=True)
class AboutBackend:
    """What the driver must know of a backend that it does not load."""

    made_with: Mapping[str, str]
    concurrent: bool


@dataclass(frozen=True, slots=True)
class AboutTools:
    """What the driver and the teachers must know of tools that they do not load: their names, None where there are none."""

    retriever: str | None = None
    generator: str | None = None
    weights: str | None = None
    """The fingerprint of the retriever's encoder, where it has one."""
    can_index: bool = False


class Teacher:
    """Runs the loop, for several questions at once in threads. Its tools may be asked by all of them at once."""

    def __init__(self, job: Job, retriever: Retriever | None, generator: Generator | None, per_minute: float | None) -> None:
        job.enter()
        self._job, self._retriever, self._generator, self._per_minute = job, retriever, generator, per_minute
        self._loading = threading.Lock()
        self._made: Constructor | None = None

    def about(self) -> AboutBackend:
        """What its backend says of itself."""
        backend = self._constructor().evaluator.backend
        return AboutBackend(dict(backend.made_with), bool(getattr(backend, "concurrent", False)))

    def attempt(self, sample: Sample, tried: int) -> Scored:
        """One try of a question."""
        made = self._constructor()
        # An evaluator lets its threads ask its tools one after the other. These are elsewhere, and see to that themselves.
        free = replace(made.evaluator, _tools=threading.Lock())
        return replace(made, evaluator=free).attempt(sample, tried)

    def fingerprint(self, config: Mapping[str, Any], digest_of: Callable[[Sequence[Path]], str]) -> dict[str, Any]:
        """See `fingerprint.fingerprint`."""
        evaluator = self._constructor().evaluator
        return fingerprint(config, evaluator.backend, evaluator.retriever, evaluator.generator, digest_of)

    def _constructor(self) -> Constructor:
        with self._loading:
            if self._made is None:
                settings = self._job.settings
                assert settings.out is not None
                asked = registry.source(self._job.source, settings, settings.out / "videos")
                limits = {"fps": settings.fps, "insert": settings.insert, **registry.limits(settings)}
                evaluator = Evaluator(asked, self._backend(), self._retriever, self._generator, **limits)
                self._made = Constructor(evaluator, settings.again, settings.show_reference)
            return self._made

    def _backend(self) -> Backend:
        backend, prices = registry.backend(self._job.settings.backend, self._job.settings), self._job.prices
        model = backend.made_with.get("model", "")
        if prices is not None and model not in prices:
            raise ConfigError(f"--prices has no price for {model!r}; it has {', '.join(map(repr, prices)) or 'none'}: add a table for it")
        price, pace = prices[model] if prices else None, Pace(self._per_minute) if self._per_minute else None
        return backend if price is None and pace is None else Metered(backend, price, pace)


class Tools:
    """Holds the retriever and the generator. One call at a time."""

    def __init__(self, job: Job) -> None:
        job.enter()
        self._settings = job.settings
        self._open = lru_cache(VIDEOS_KEPT_OPEN)(Video)
        self._loaded: tuple[Retriever | None, Generator | None] | None = None

    def about(self) -> AboutTools:
        """What they are."""
        retriever, generator = self._both()
        encoder = getattr(retriever, "encoder", None)
        return AboutTools(
            None if retriever is None else retriever.name,
            None if generator is None else generator.name,
            None if encoder is None else str(encoder.fingerprint),
            hasattr(retriever, "index"),
        )

    def find(self, path: str, query: str, shown: Collection[float], count: int) -> Sequence[Frame]:
        """See `Retriever.find`."""
        retriever, _ = self._both()
        assert retriever is not None  # nobody asks where `about` names none
        try:
            return retriever.find(self._open(path), query, shown=shown, count=count)
        except VideoError:
            self._open.cache_clear()  # a file that was changed may be whole when it is opened again
            raise

    def generate(self, prompt: str, anchor: Frame, seed: int) -> Frame:
        """See `Generator.generate`."""
        _, generator = self._both()
        assert generator is not None
        return generator.generate(prompt, anchor, seed=seed)

    def _both(self) -> tuple[Retriever | None, Generator | None]:
        if self._loaded is None:
            retriever = registry.retriever(self._settings.retriever, self._settings)
            self._loaded = retriever, registry.generator(self._settings.generator, self._settings, retriever)
        return self._loaded


class Indexer:
    """Opens videos and makes their indexes, which are kept in the cache. One call at a time."""

    def __init__(self, job: Job) -> None:
        job.enter()
        self._settings = job.settings
        self._retriever: Any = None

    def index(self, path: str) -> None:
        """Make a video's index, unless it is there."""
        if self._retriever is None:
            self._retriever = registry.retriever(self._settings.retriever, self._settings)
        self._retriever.index(Video(path))
