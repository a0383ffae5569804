"""Builds an evaluator from settings, with models and tools in this process or on a cluster."""

import importlib
import logging
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Semaphore
from typing import Protocol, assert_never

from act2see import registry
from act2see.config import EvalConfig, ExecutionConfig, ModelConfig, RayConfig, SourceConfig
from act2see.core.engine import new_trace
from act2see.core.errors import ConfigError, ScopeError, VideoError
from act2see.core.interfaces import Backend, Benchmark, Generator, Retriever, Sample, batched, is_concurrent, notice_of
from act2see.core.naming import importing
from act2see.core.plaintext import one_line
from act2see.evaluation.evaluator import Evaluator
from act2see.evaluation.fingerprint import fingerprint
from act2see.evaluation.frame_controls import OracleFrames, RandomFrames, WithheldFrames
from act2see.evaluation.picture_controls import UneditedAnchor
from act2see.execution.metering import cost_tracking
from act2see.storage.runs import JSON
from act2see.video import Video

_log = logging.getLogger(__name__)
_VIDEOS_SCREENED = 5
"""Questions whose videos do not open before a run is let begin all the same."""
_RAY = "act2see.integrations.ray.cluster"


class Executor(Protocol):
    """Executes questions, locally or on a cluster."""

    @property
    def evaluator(self) -> Evaluator:
        """Answers and scores a question; may be called from `threads` threads."""
        ...

    @property
    def threads(self) -> int:
        """Threads that keep it busy; 1 where it takes one question at a time."""
        ...

    def fingerprint(self, config: Mapping[str, JSON]) -> Mapping[str, JSON]:
        """See `fingerprint.fingerprint`."""
        ...

    def prefetch(self, samples: Iterable[Sample], done: Container[str]) -> None:
        """Prepare the videos of questions that follow, but of those, by id, that are `done`."""
        ...


@dataclass(frozen=True, slots=True)
class LocalExecutor:
    """Executes questions in this process."""

    evaluator: Evaluator
    workers: int = 1

    @property
    def threads(self) -> int:
        """See `threads_for`."""
        return threads_for(self.workers) if self.evaluator.turns else 1

    def fingerprint(self, config: Mapping[str, JSON]) -> Mapping[str, JSON]:
        """See `fingerprint.fingerprint`."""
        return fingerprint(config, self.evaluator.backend, self.evaluator.retriever, self.evaluator.generator, digest_of)

    def prefetch(self, samples: Iterable[Sample], done: Container[str]) -> None:
        """Nothing: a question's own thread opens its video."""


def threads_for(workers: int) -> int:
    """More threads than may ask the backend at once: some open videos and write traces while the others wait (our choice: a quarter more)."""
    return workers + max(1, workers // 4)


def digest_of(folders: Sequence[Path]) -> str:
    """The digest of model folders, for a fingerprint."""
    from act2see.tools.encoders.loading import fingerprint as digest  # torch, which a server's clients need not have

    return digest(folders)


@contextmanager
def executor(benchmark: Benchmark, source: str, config: SourceConfig, execution: RayConfig) -> Iterator[Executor]:
    """Load the models that the settings name, here or on the Ray cluster that `execution.ray` names. `source` is the benchmark's name there.

    Raises what `registry` raises, and `ConfigError` for an unreachable cluster.
    """
    if execution.ray is None:
        yield local_executor(benchmark, config, execution)
        return
    cluster: AbstractContextManager[Executor] = importlib.import_module(_RAY).on_ray(benchmark, source, config, execution)
    with cluster as found:
        yield found


def local_executor(benchmark: Benchmark, config: SourceConfig, execution: ExecutionConfig) -> LocalExecutor:
    """Load the models that the settings name in this process."""
    loaded = registry.backend(config.backend, config)
    # Whether the embedded model knows the questions was checked before.
    if (notice := notice_of(loaded)) and benchmark.name != "synthetic" and (config.force or not registry.scope(config).backend):
        _log.warning("%s", one_line(notice))
    backend = cost_tracking(batched(loaded, execution.workers), execution.prices, execution.requests_per_minute)
    turns = turns_for(backend, config.backend, execution.workers)
    return LocalExecutor(evaluator(config, benchmark, backend, tools(config), turns), execution.workers)


def turns_for(backend: Backend, name: str, workers: int) -> Semaphore | None:
    """Limit of concurrent requests; None if the backend handles one question at a time."""
    if workers > 1 and not is_concurrent(backend):
        _log.warning("backend %r handles one question at a time: --workers %d has no effect", name, workers)
        return None
    return Semaphore(workers) if workers > 1 else None


def evaluator(
    config: SourceConfig,
    benchmark: Benchmark,
    backend: Backend,
    tools: tuple[Retriever | None, Generator | None],
    turns: Semaphore | None = None,
) -> Evaluator:
    """An evaluator with what a config says beside benchmark, backend and tools."""
    return Evaluator(
        benchmark,
        backend,
        *tools,
        fps=config.fps,
        loop=registry.loop_options(config),
        max_frames=config.max_frames,
        insert=config.insert,
        scope=registry.scope(config),
        lines=registry.lines_of_videos(config),
        turns=turns,
    )


# Checks before anything heavy is loaded


def check_models(config: ModelConfig) -> None:
    """Refuse unknown names of backends, retrievers and generators. Raises `ConfigError`."""
    registry.check_backend(config.backend)
    registry.check_retriever(config.retriever)
    registry.check_generator(config.generator, config.judge)
    if config.backend == "micro" and (untrained := [tool for tool in registry.offered(config) if tool in ("clip", "zoom")]):
        _log.warning(
            "the embedded model was trained without %s and does not use them: leave them out of --tools, or name another --backend",
            " and ".join(untrained),
        )


def check_resume(config: SourceConfig) -> None:
    """Refuse to resume without a run folder. Raises `ConfigError`."""
    if config.resume and config.out is None:
        raise ConfigError("--resume needs the run folder: add --out")


def check_ray(address: str | None) -> None:
    """Refuse --ray without Ray installed, or with an address at which nothing listens. Raises `ConfigError`."""
    if address is not None:
        with importing("--ray"):
            cluster = importlib.import_module(_RAY)
        cluster.check_address(address)


def check_scope(benchmark: Benchmark, config: SourceConfig) -> None:
    """Refuse questions outside the embedded model's domain: screens the first video that opens. Raises `ScopeError`.

    Questions on later videos outside the synthetic world end without an answer.
    """
    scope = registry.scope(config)
    if benchmark.name == "synthetic" or not scope.backend or scope.force:
        return
    for sample in islice(benchmark.samples(), _VIDEOS_SCREENED):
        try:
            trace = new_trace(Video(sample.video), sample.question, sample.choices, fps=config.fps, id=sample.id)
        except VideoError:
            continue
        if (refused := scope.refusal(trace)) is not None:
            raise ScopeError(f"question {sample.id!r}: {refused}")
        return


# Tools


def imaginer(config: EvalConfig, found_by: Retriever | None) -> Generator | None:
    """What brings pictures in an evaluation: the generator that the config names, or the anchor as it is."""
    if config.frames == "unedited":
        return UneditedAnchor()
    return registry.generator(config.generator, config, found_by)


def tools(config: SourceConfig) -> tuple[Retriever | None, Generator | None]:
    """What brings frames and what brings pictures for many questions."""
    found = looker(config)
    return found, imaginer(config, found) if isinstance(config, EvalConfig) else registry.generator(config.generator, config, found)


def looker(config: SourceConfig) -> Retriever | None:
    """What brings frames for many questions: the retriever that the config names, or in an evaluation one of those that show whether frames matter.

    None where nothing may be looked for.
    """
    if not isinstance(config, EvalConfig):
        return registry.retriever(config.retriever, config) if config.max_looks else None
    if not (config.max_looks or config.insert):
        return None
    match config.frames:
        case "real" | "unedited":
            return registry.retriever(config.retriever, config)
        case "random":
            return RandomFrames(fps=config.retrieve_fps, seed=config.seed or 0)
        case "oracle":
            return OracleFrames(fps=config.retrieve_fps)
        case "withheld":
            return WithheldFrames()
        case _:
            assert_never(config.frames)
