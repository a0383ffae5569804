"""A run on a Ray cluster: the driver distributes the questions and writes the run; teachers, tools and indexers are separate processes.

Shards, retries, budget, circuit breaker and resuming work as without Ray: only single passes through the loop run elsewhere. The results of a
process are therefore already with the driver when it dies.

Imports ray: it is loaded by name when `--ray` is given.
"""

import logging
import math
import threading
import time
import zlib
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias

from act2see import registry
from act2see.config import ConstructConfig, RayConfig, SourceConfig
from act2see.core.errors import Act2SeeError, BackendError, InternalError
from act2see.core.flops import Flops, count_parts
from act2see.core.interfaces import Benchmark, Sample
from act2see.core.trace import Frame
from act2see.curation.constructor import Constructor
from act2see.evaluation import setup
from act2see.evaluation.evaluator import Evaluator, Scored
from act2see.execution.faults import unexpected
from act2see.execution.metering import read_prices
from act2see.execution.ray_connection import LOCAL, check_address, connected  # sets what Ray reads at import
from act2see.execution.shares import whole_share
from act2see.integrations.ray.actors import AboutBackend, AboutTools, Elsewhere, Indexer, Job, Layout, Teacher, Tools
from act2see.integrations.ray.worker_pool import WorkerPool, WorkersLostError, slots_per_worker
from act2see.storage.runs import JSON
from act2see.video import Video

# isort: split
import ray
import ray.exceptions

__all__ = ["Layout", "Spread", "check_address", "on_ray"]

QUESTIONS_A_TEACHER = 8
"""Concurrent questions per process for server backends; decoding their videos keeps about one core busy. Our choice."""
LONGEST_WAIT_SECONDS = 600.0
"""Seconds to wait for a video's index, which the tools then build themselves, and for tools whose node is lost. Our choice."""
ASKING_AGAIN_SECONDS = 1.0
LOST = (
    ray.exceptions.RayActorError,
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.OutOfMemoryError,
    ray.exceptions.ObjectLostError,
)
"""Errors that mean that a process or its node is lost."""

Actor: TypeAlias = ray.actor.ActorHandle
"""A process on the cluster, by which its methods are called."""
Reference: TypeAlias = ray.ObjectRef
"""What a call will bring."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Spread:
    """A cluster that is ready for questions."""

    evaluator: Evaluator
    """One whose answers come from the cluster and are scored here; its backend only says what it was made with."""
    _settings: SourceConfig
    _teachers: "_Teachers"

    @property
    def constructor(self) -> Constructor:
        """One whose attempts happen on the cluster, for training data."""
        assert isinstance(self._settings, ConstructConfig)
        return _Constructor(self.evaluator, self._settings.again, self._settings.show_reference, teachers=self._teachers)

    @property
    def slots(self) -> int:
        """Questions in flight at once."""
        return self._teachers.pool.slots

    @property
    def threads(self) -> int:
        """See `setup.threads_for`."""
        return setup.threads_for(self.slots)

    def prefetch(self, samples: Iterable[Sample], done: Container[str]) -> None:
        """Begin to index their videos, but not those of samples, by id, that are `done`: their indexes are cached."""
        for sample in samples:
            if sample.id not in done:
                self._teachers.indexing.begin(sample.video)

    def fingerprint(self, config: Mapping[str, JSON]) -> Mapping[str, JSON]:
        """See `fingerprint.fingerprint`: computed where the models are."""
        found: Mapping[str, JSON] = self._teachers.pool.do(lambda one: _result(one.fingerprint.remote(dict(config))))
        return found


@contextmanager
def on_ray(benchmark: Benchmark, source: str, settings: SourceConfig, asking: RayConfig, layout: Layout | None = None) -> Iterator[Spread]:
    """Start what is needed on the cluster that `asking.ray` names, and end it afterwards. `source` is the benchmark's name.

    Raises what `registry` raises for settings that cannot be, and `ConfigError` for a cluster that cannot be reached.
    """
    prices = None if asking.prices is None else read_prices(asking.prices)
    job = Job(source, settings, prices, Path.cwd())
    with connected(asking.ray or LOCAL), _Actors() as actors:
        layout = _for_engines(layout or Layout.of(asking), settings)
        shares = _Shares.of(layout, asking)
        tools = _tools(job, layout, shares, actors)
        indexers = layout.indexers if tools.about.can_index and settings.cache else 0
        indexing = _Indexing([actors.start(Indexer, job, **shares.tools, max_restarts=-1, max_task_retries=1) for _ in range(indexers)])
        pool, made_with = _teacher_pool(job, layout, asking, shares, tools, actors)
        teachers = _Teachers(pool, indexing)
        yield Spread(_Evaluator(benchmark, Elsewhere(made_with), None, teachers=teachers), settings, teachers)


def _teacher_pool(
    job: Job, layout: Layout, asking: RayConfig, shares: "_Shares", tools: "_FarTools", actors: "_Actors"
) -> tuple[WorkerPool[Actor], Mapping[str, str]]:
    """The teachers, and what their backend was made with. Only the first one, loaded, can say whether it takes several questions at once."""
    slots = slots_per_worker(asking.workers, layout.teachers or math.ceil(asking.workers / QUESTIONS_A_TEACHER))

    def hire() -> Actor:
        per_minute = None if asking.requests_per_minute is None else asking.requests_per_minute / len(slots)
        options = {**shares.teachers, "max_concurrency": max(slots)}
        return actors.start(Teacher, job, tools.retriever, tools.generator, per_minute, **options)

    first = hire()
    about: AboutBackend = _loaded("teacher", first.about.remote())
    hired = [first]
    if not about.concurrent:
        slots = (1,) * (layout.teachers or asking.workers)
        if asking.requests_per_minute is not None:  # its part of what may be asked a minute was reckoned for fewer teachers
            actors.end(hired.pop())
    pool = WorkerPool(lambda: hired.pop() if hired else hire(), actors.end, slots, LOST, lambda teacher: _result(teacher.about.remote()))
    return pool, about.made_with


def _for_engines(layout: Layout, settings: SourceConfig) -> Layout:
    """The layout with the processes and GPUs that engines need, where nothing else is said."""
    if not registry.is_engine(settings.backend):
        return layout
    gpus = layout.teacher_gpus or (float(settings.tensor_parallel) if ray.cluster_resources().get("GPU") else 0.0)
    return replace(layout, teachers=layout.teachers or 1, teacher_gpus=gpus)


# The driver's side


@dataclass(frozen=True, slots=True)
class _Teachers:
    """The teachers and the indexers."""

    pool: WorkerPool[Actor]
    indexing: "_Indexing"

    def ask(self, sample: Sample, asked_of: Callable[[Actor], Reference]) -> Scored:
        """What a teacher brought, as soon as the video is indexed; an outcome too where each that was asked died."""
        try:
            with unexpected():
                self.indexing.wait(sample.video)
                scored: Scored = self.pool.do(lambda teacher: _result(asked_of(teacher)))
        except WorkersLostError as error:
            return Scored(sample, "backend_error", None, str(error))
        except InternalError as error:
            return Scored(sample, "internal_error", None, str(error), error.traceback)
        return replace(scored, sample=sample)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Evaluator(Evaluator):
    """Runs each question on a teacher, and scores the answer here."""

    teachers: _Teachers

    def answer(self, sample: Sample) -> Scored:
        found = self.teachers.ask(sample, lambda teacher: teacher.answer.remote(sample))
        return found if found.trace is None or found.outcome.endswith("_error") else self.score(sample, found.trace)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Constructor(Constructor):
    """Runs each try on a teacher."""

    teachers: _Teachers

    def attempt(self, sample: Sample, tried: int) -> Scored:
        return self.teachers.ask(sample, lambda teacher: teacher.attempt.remote(sample, tried))


class _Indexing:
    """Has every video indexed once, whatever the number of questions on it. What is wrong with one, the loop will say when it opens it."""

    def __init__(self, indexers: Sequence[Actor]) -> None:
        self._indexers = indexers
        self._begun: dict[Path, Reference] = {}
        self._lock = threading.Lock()

    def begin(self, video: Path) -> Reference | None:
        """Have it indexed; nothing is waited for. None where nothing indexes."""
        if not self._indexers:
            return None
        with self._lock:
            if video not in self._begun:
                self._begun[video] = self._indexers[len(self._begun) % len(self._indexers)].index.remote(str(video))
            return self._begun[video]

    def wait(self, video: Path) -> None:
        """Come back when it is indexed, or will not be."""
        under_way = self.begin(video)
        if under_way is not None:
            ray.wait([under_way], timeout=LONGEST_WAIT_SECONDS, fetch_local=False)


class _Actors:
    """All started processes, so that none is left running."""

    def __init__(self) -> None:
        self._started: list[Actor] = []
        self._is_over = False

    def __enter__(self) -> "_Actors":
        return self

    def __exit__(self, *error: object) -> None:
        self._is_over = True
        for actor in tuple(self._started):
            _kill(actor)

    def start(self, kind: type, *arguments: object, **options: object) -> Actor:
        """A new process of that kind. It loads nothing before its first call."""
        if self._is_over:  # a thread that has just lost its teacher, because all are ended, wants another
            raise BackendError("the cluster is shut down")
        started = ray.remote(kind).options(scheduling_strategy="SPREAD", **options).remote(*arguments)
        self._started.append(started)
        return started

    def end(self, actor: Actor) -> None:
        """Kill a process that may be dead or disconnected, so that it does not continue work that another one repeats."""
        self._started.remove(actor)
        _kill(actor)


def _kill(actor: Actor) -> None:
    with suppress(ray.exceptions.RayError, ValueError):  # it is gone
        ray.kill(actor, no_restart=True)


@dataclass(frozen=True, slots=True)
class _Shares:
    """What a process of each kind has of the cluster, as Ray's options."""

    teachers: Mapping[str, float]
    tools: Mapping[str, float]

    @classmethod
    def of(cls, layout: Layout, asking: RayConfig) -> "_Shares":
        """As the layout says; of one's own machine, tools share one half of the CPUs and teachers the other, so that all of them find a place."""
        computing, teaching = layout.tools + layout.indexers, layout.teachers or asking.workers
        cpus = {"teachers": layout.cpus, "tools": layout.cpus}
        has = ray.cluster_resources()
        if asking.ray in (None, LOCAL):
            half = has.get("CPU", 1.0) / 2
            cpus = {"teachers": whole_share(half / teaching), "tools": whole_share(half / computing)}
        elif (wanted := layout.cpus * (computing + 1)) > has.get("CPU", 0.0):
            _log.warning("the cluster has %g CPUs, but at least %g are needed: waiting for more", has.get("CPU", 0.0), wanted)
        return cls({"num_cpus": cpus["teachers"], "num_gpus": layout.teacher_gpus}, {"num_cpus": cpus["tools"], "num_gpus": layout.tool_gpus})


def _loaded(what: str, under_way: Reference) -> Any:
    """What a process says of itself once it has loaded its models."""
    try:
        return _result(under_way)
    except LOST as error:
        said = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise BackendError(f"the process that loads the {what} died: {said}; does it have enough memory?") from error


def _result(under_way: Reference) -> Any:
    """What a call brought. One of our errors is raised as it was there, without Ray's account of where."""
    try:
        return ray.get(under_way)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, Act2SeeError):
            raise error.cause from None
        raise


# The tools as a teacher sees them


@dataclass(frozen=True, slots=True)
class _FarEncoder:
    """As much of an encoder as a fingerprint needs."""

    fingerprint: str


@dataclass(frozen=True, slots=True)
class _FarRetriever:
    """A retriever in other processes: the same one for the same video, because it has it open and its index in memory."""

    name: str
    encoder: _FarEncoder | None
    tools: Sequence[Actor]

    def find(self, video: Video, query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
        chosen = self.tools[zlib.crc32(str(video.path).encode()) % len(self.tools)]
        found: tuple[Sequence[Frame], Flops] = _asked(lambda: chosen.find.remote(str(video.path), query, tuple(shown), count))
        count_parts(found[1])
        return found[0]


@dataclass(frozen=True, slots=True)
class _FarGenerator:
    """A generator in other processes, each in turn."""

    name: str
    tools: Sequence[Actor]
    turn: Iterator[int]

    def generate(self, prompt: str, anchor: Frame, *, seed: int) -> Frame:
        made: tuple[Frame, Flops] = _asked(lambda: self.tools[next(self.turn) % len(self.tools)].generate.remote(prompt, anchor, seed))
        count_parts(made[1])
        return made[0]


@dataclass(frozen=True, slots=True)
class _FarTools:
    """The processes that hold the tools, and what these are."""

    about: AboutTools
    processes: tuple[Actor, ...] = ()

    @property
    def retriever(self) -> _FarRetriever | None:
        encoder = None if self.about.weights is None else _FarEncoder(self.about.weights)
        return None if self.about.retriever is None else _FarRetriever(self.about.retriever, encoder, self.processes)

    @property
    def generator(self) -> _FarGenerator | None:
        return None if self.about.generator is None else _FarGenerator(self.about.generator, self.processes, count())


def _tools(job: Job, layout: Layout, shares: _Shares, actors: _Actors) -> _FarTools:
    """The tools' processes, their models loaded in one of them; none where no frame is ever brought."""
    if not (job.settings.max_looks or job.settings.insert):
        return _FarTools(AboutTools.of(*setup.tools(job.settings)))  # nothing is loaded then, and none is ever asked
    started = [actors.start(Tools, job, **shares.tools, max_restarts=-1, max_task_retries=3) for _ in range(layout.tools)]
    return _FarTools(_loaded("tools", started[0].about.remote()), tuple(started))


def _asked(ask: Callable[[], Reference]) -> Any:
    """What a tool brought. Ray starts a process that died anew and asks it again, three times; while it looks for a place for it, we wait."""
    until = time.monotonic() + LONGEST_WAIT_SECONDS
    while True:
        try:
            return _result(ask())
        except ray.exceptions.ActorUnavailableError as error:
            if time.monotonic() >= until:
                raise BackendError(f"its process has been away for {LONGEST_WAIT_SECONDS:g} s") from error
            time.sleep(ASKING_AGAIN_SECONDS)
        except LOST as error:
            raise BackendError(f"the process that holds it died each time that it was asked ({type(error).__name__})") from error
