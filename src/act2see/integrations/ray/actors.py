"""The actors of a distributed run: they run the loop, retrieve and generate frames, and index videos. `cluster` starts and calls them.

Each loads its models at its first call, which raises any error to the caller.
"""

import os
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from collections.abc import Generator as Yields
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from act2see import registry
from act2see.config import ConstructConfig, EvalConfig, RayConfig, SourceConfig
from act2see.core.chat import Tool
from act2see.core.errors import BackendError, VideoError
from act2see.core.flops import Flops, counting
from act2see.core.interfaces import (
    Backend,
    Benchmark,
    Continuation,
    Generator,
    IndexingRetriever,
    Retriever,
    Sample,
    encoder_of,
    is_concurrent,
    is_dead,
)
from act2see.core.trace import Frame, Trace
from act2see.curation.constructor import Constructor
from act2see.evaluation import setup
from act2see.evaluation.evaluator import Evaluator, Scored
from act2see.execution.faults import unexpected
from act2see.execution.metering import CostTrackingBackend, Price, RateLimiter, price_in
from act2see.storage.runs import JSON
from act2see.video import Video

VIDEOS_KEPT_OPEN = 4


@dataclass(frozen=True, slots=True)
class Job:
    """The settings that every actor needs."""

    source: str
    """The benchmark's or the source's name."""
    settings: SourceConfig
    prices: Mapping[str, Price] | None
    """By model; the file that they stand in need not be on every node."""
    folder: Path
    """From where the command was started: relative paths mean the same on every node that has it."""

    def enter(self) -> None:
        """Go there, if it is there."""
        with suppress(OSError):
            os.chdir(self.folder)


@dataclass(frozen=True, slots=True)
class Layout:
    """How many processes of which kind there are, and what each has of the cluster. A local model runs on the CPU of a process without a GPU."""

    teachers: int | None = None
    """Those that run the loop; if not given, one for an engine, else one for every eight questions, or, where the backend takes one question at a
    time, for every one."""
    tools: int = 1
    """Those that hold the retriever and the generator."""
    indexers: int = 1
    """Those that index videos ahead of need, with a retriever of their own."""
    cpus: float = 1.0
    """Of each process. On a Ray of one's own the machine's are shared out instead."""
    teacher_gpus: float = 0.0
    tool_gpus: float = 0.0
    """Of each process that holds tools or indexes."""

    @classmethod
    def of(cls, wanted: RayConfig) -> "Layout":
        """As the command line says."""
        return cls(wanted.ray_teachers, wanted.ray_tools, wanted.ray_indexers, teacher_gpus=wanted.ray_teacher_gpus, tool_gpus=wanted.ray_tool_gpus)


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

    @classmethod
    def of(cls, retriever: Retriever | None, generator: Generator | None) -> "AboutTools":
        """What these say of themselves."""
        encoder = encoder_of(retriever)
        return cls(
            None if retriever is None else retriever.name,
            None if generator is None else generator.name,
            None if encoder is None else str(encoder.fingerprint),
            isinstance(retriever, IndexingRetriever),
        )


def own_looker_of(settings: SourceConfig) -> Retriever | None:
    """One that needs no model, which each teacher has for itself: it may have to know the question. None where it is any other."""
    has_a_model = not isinstance(settings, EvalConfig) or settings.frames in ("real", "unedited")
    return None if has_a_model else setup.looker(settings)


def rule_of(job: Job) -> Benchmark:
    """What a teacher scores by: the rule of the source. That of an evaluation may ask a judge, whom the driver alone has."""
    settings = job.settings
    if not isinstance(settings, ConstructConfig):
        return Unscored()
    assert settings.out is not None  # or it is refused before anything starts
    return registry.source(job.source, settings, settings.out / "videos")


@dataclass(frozen=True, slots=True)
class Unscored:
    """Stands for a benchmark whose questions and rule are elsewhere."""

    name: str = "elsewhere"

    def samples(self) -> Iterator[Sample]:
        """None."""
        return iter(())

    def is_right(self, sample: Sample, trace: Trace) -> bool | None:
        """Not said here."""
        return None


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Placeholder for a backend that is loaded in other processes."""

    made_with: Mapping[str, str]

    def decode(self, trace: Trace, tools: Sequence[Tool]) -> Yields[str, None, Continuation]:
        """Raises `BackendError`."""
        raise BackendError("this backend runs on the cluster, not in this process")
        yield


class Teacher:
    """Runs the loop, on several questions in parallel threads. Its tools accept concurrent calls."""

    def __init__(self, job: Job, retriever: Retriever | None, generator: Generator | None, per_minute: float | None) -> None:
        job.enter()
        self._job, self._retriever, self._generator, self._per_minute = job, retriever, generator, per_minute
        self._loading = threading.Lock()
        self._made: Evaluator | None = None

    @unexpected()
    def about(self) -> AboutBackend:
        """What its backend says of itself."""
        backend = self._evaluator().backend
        return AboutBackend(dict(backend.made_with), is_concurrent(backend))

    @unexpected()
    def answer(self, sample: Sample) -> Scored:
        """A question of an evaluation: how it failed, or the trace to be scored."""
        return self._alive(self._free().answer(sample))

    @unexpected()
    def attempt(self, sample: Sample, tried: int) -> Scored:
        """One try of a question that training data are made from."""
        settings = self._job.settings
        assert isinstance(settings, ConstructConfig)  # nobody else tries again
        return self._alive(Constructor(self._free(), settings.again, settings.show_reference).attempt(sample, tried))

    @unexpected()
    def fingerprint(self, config: Mapping[str, JSON]) -> Mapping[str, JSON]:
        """See `fingerprint.fingerprint`."""
        return setup.LocalExecutor(self._evaluator()).fingerprint(config)

    def _alive(self, scored: Scored) -> Scored:
        """The result; or the end of this process if its engine has ended, so that the driver gives its questions to others."""
        if scored.outcome == "backend_error" and is_dead(self._evaluator().backend):
            os._exit(1)
        return scored

    def _free(self) -> Evaluator:
        """An evaluator lets its threads ask its tools one after the other. These are elsewhere, and see to that themselves."""
        return replace(self._evaluator(), _tools=threading.Lock())

    def _evaluator(self) -> Evaluator:
        with self._loading:
            if self._made is None:
                settings = self._job.settings
                retriever = own_looker_of(settings) or self._retriever
                self._made = setup.evaluator(settings, rule_of(self._job), self._backend(), (retriever, self._generator))
            return self._made

    def _backend(self) -> Backend:
        backend, prices = registry.backend(self._job.settings.backend, self._job.settings), self._job.prices
        price = price_in(prices, backend, "--prices") if prices is not None else None
        pace = RateLimiter(self._per_minute) if self._per_minute else None
        return backend if price is None and pace is None else CostTrackingBackend(backend, price, pace)


class Tools:
    """Holds the retriever and the generator. One call at a time."""

    def __init__(self, job: Job) -> None:
        job.enter()
        self._settings = job.settings
        self._open = lru_cache(VIDEOS_KEPT_OPEN)(Video)
        self._loaded: tuple[Retriever | None, Generator | None] | None = None

    @unexpected()
    def about(self) -> AboutTools:
        """What they are."""
        return AboutTools.of(*self._both())

    @unexpected()
    def find(self, path: str, query: str, shown: Collection[float], count: int) -> tuple[Sequence[Frame], Flops]:
        """See `Retriever.find`; with the FLOPs that it took."""
        retriever, _ = self._both()
        assert retriever is not None  # nobody asks where `about` names none
        try:
            with counting() as flops:
                return retriever.find(self._open(path), query, shown=shown, count=count), flops
        except VideoError:
            self._open.cache_clear()  # a file that was changed may be whole when it is opened again
            raise

    @unexpected()
    def generate(self, prompt: str, anchor: Frame, seed: int) -> tuple[Frame, Flops]:
        """See `Generator.generate`; with the FLOPs that it took."""
        _, generator = self._both()
        assert generator is not None
        with counting() as flops:
            return generator.generate(prompt, anchor, seed=seed), flops

    def _both(self) -> tuple[Retriever | None, Generator | None]:
        if self._loaded is None:
            self._loaded = setup.tools(self._settings)
        return self._loaded


class Indexer:
    """Opens and indexes videos; the indexes are cached. One call at a time."""

    def __init__(self, job: Job) -> None:
        job.enter()
        self._settings = job.settings
        self._retriever: Retriever | None = None

    @unexpected()
    def index(self, path: str) -> None:
        """Index a video, unless its index is cached."""
        if self._retriever is None:
            self._retriever = setup.looker(self._settings)
        assert isinstance(self._retriever, IndexingRetriever)  # or `about` says that it cannot index
        self._retriever.index(Video(path))
