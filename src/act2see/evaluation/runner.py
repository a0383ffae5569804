"""The runner: resuming, shards, workers, retries, failures and progress of every command that runs the questions of a data set.

`evaluate`, `construct`, `audit`, the lmms-eval model, the Inspect task and the Ray integration only differ in how they process a question.
"""

import logging
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeVar

from act2see.config import ExecutionConfig
from act2see.core.errors import ConfigError, InternalError, StoreError
from act2see.core.interfaces import Sample
from act2see.core.trace import Trace
from act2see.evaluation.evaluator import changed, describe_changes
from act2see.evaluation.scores import read_score
from act2see.execution.faults import Faults, unexpected
from act2see.execution.pool import CircuitBreaker, imap_unordered
from act2see.execution.progress import ProgressCallback
from act2see.storage.atomic import check_writable_place, writing
from act2see.storage.locks import at_work
from act2see.storage.runs import JSON, Place, Run

T = TypeVar("T")
R = TypeVar("R")

_log = logging.getLogger(__name__)
_NAMED = 3
"""Maximum number of questions that a warning lists."""


# The run folder


@dataclass(frozen=True, slots=True)
class RunSettings:
    """Settings recorded in a run folder; a run can only be resumed with the same ones."""

    command: str
    config: Mapping[str, JSON]
    seed: int | None


@contextmanager
def open_run(folder: Path, settings: RunSettings, *, resume: bool, shard: str | None = None, may_change: Collection[str] = ()) -> Iterator[Run]:
    """Create or resume a run, and lock its folder meanwhile: see `Run.create`, `Run.resume` and `locks.at_work`. Raises `StoreError`.

    The first of several shards creates it. An interrupt is answered by a warning that says what is kept and how to continue.
    """
    created = None if resume else _created(folder, settings, is_shared=shard is not None)
    if created is None:
        Run.open(folder)  # nothing is written into a folder that holds no run
    with at_work(folder, shard):
        run = created or Run.resume(folder, command=settings.command, config=settings.config, seed=settings.seed, may_change=may_change)
        try:
            yield run
        except (KeyboardInterrupt, InternalError):
            _log.warning("finished answers are stored in %s: %s", folder, "continue with --resume" if shard is None else "the same command continues")
            raise


def _created(folder: Path, settings: RunSettings, *, is_shared: bool) -> Run | None:
    try:
        return Run.create(folder, command=settings.command, config=settings.config, seed=settings.seed)
    except StoreError:
        if not is_shared:
            raise
        return None  # another shard was first


def video_folder(out: Path | None, stack: ExitStack) -> Path:
    """The folder for a run's own videos; without a run folder a temporary one, removed with `stack`.

    Raises `StoreError` where a link would lead out of the run.
    """
    if out is None:
        return Path(stack.enter_context(tempfile.TemporaryDirectory())) / "videos"
    with writing(out):
        for name in ("videos", "videos/clips"):
            check_writable_place(out / name)
    return out / "videos"


@dataclass(slots=True)
class StoredTraces:
    """The stored traces of a run, by id, and the questions that have changed since. Thread-safe."""

    run: Run
    places: Mapping[str, Place]
    changes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Changes of questions, by id."""

    @classmethod
    def read(cls, run: Run, lost: str, *, with_files: bool = False, count: Callable[[Trace], None] = lambda trace: None) -> "StoredTraces":
        """The finished traces of a run; of several with one id the last. `lost` says what becomes of a line that cannot be read.

        `with_files`: a trace without one of its frames' files counts as damaged. `count` sees every trace, finished or not.
        """
        damaged: list[str] = []
        places: dict[str, Place] = {}
        for place, trace in run.sketches(damaged, with_files=with_files):
            count(trace)
            if trace.finish:
                places[trace.id] = place
        warn_of_damage(damaged, lost)
        return cls(run, places)

    def of(self, sample: Sample, ids: Iterable[str]) -> dict[str, Trace]:
        """The traces with these ids that answer the question as it is now, each with blank frames (`Run.sketch_at`)."""
        found = {name: self.run.sketch_at(self.places[name]) for name in ids if name in self.places}
        what = dict.fromkeys(one for trace in found.values() for one in changed(sample, trace))
        if what:
            self.changes[sample.id] = tuple(what)
        return {name: trace for name, trace in found.items() if not what or not changed(sample, trace)}

    def warn(self) -> None:
        """Warn of questions that were run again because they have changed."""
        if self.changes:
            _log.warning(
                "%d questions have changed since %s answered them, and were run again: %s",
                len(self.changes),
                self.run.folder,
                describe_changes(self.changes),
            )


def content_by_question(run: Run) -> dict[str, str]:
    """`Score.content` of each question in the run's scores; empty where they cannot be read: they are written anew."""
    try:
        return {one.id: one.content for one in (read_score(row, where) for where, row in run.scores() or ())}
    except StoreError:
        return {}


def warn_of_answers(before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Warn of questions whose right answer has changed since the run was scored. `now` has those alone of which nothing else has changed."""
    differing = [name for name, content in now.items() if before.get(name) and before[name] != content]
    if differing:
        named = ", ".join(map(repr, differing[:_NAMED])) + (f" and {len(differing) - _NAMED} more" if len(differing) > _NAMED else "")
        _log.warning(
            "the right answer of %d questions has changed since they were scored: %s; they are scored by the current one", len(differing), named
        )


def warn_of_damage(damaged: Sequence[str], consequence: str) -> None:
    """Warn of unreadable lines of a run."""
    if damaged:
        _log.warning("%d traces are unreadable, %s; the first: %s", len(damaged), consequence, damaged[0])


# Working through items


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed item: its id, the error, and the traceback of an internal error."""

    id: str
    error: str | None
    traceback: str | None


@dataclass(frozen=True, slots=True)
class Runner:
    """Processes items concurrently; a failure of one does not stop the others. Thread-safe."""

    breaker: CircuitBreaker
    faults: Faults
    run: Run | None = None
    workers: int = 1
    """Number of threads; with 1, items run in order in the calling thread."""
    progress: ProgressCallback | None = None

    @classmethod
    def of(cls, execution: ExecutionConfig, run: Run | None, workers: int = 1, progress: ProgressCallback | None = None) -> "Runner":
        """A runner with the given settings."""
        faults = Faults(None if run is None else run.folder, execution.fail_fast)
        return cls(CircuitBreaker(execution.patience_seconds), faults, run, workers, progress)

    def collect(self, items: Iterable[T], work: Callable[[T], Sequence[R]], total: int | None, what: str = "questions") -> list[R]:
        """The results, in the order in which they complete."""
        results: list[R] = []
        self._report(0, total, what)
        with unexpected(BrokenPipeError):
            for some in imap_unordered(items, work, self.workers):
                for one in some:
                    results.append(one)
                    self._report(len(results), total, what)
        return results

    def _report(self, done: int, total: int | None, what: str) -> None:
        if self.progress is not None:
            self.progress(done, total, what)

    def guard(self, work: Callable[[], R], failed: Callable[[InternalError], R], failures: Callable[[R], Iterable[Failure]]) -> R:
        """The result of one item; an internal error becomes a result too, and its traceback is kept in the run folder."""
        try:
            with unexpected():
                result = work()
        except InternalError as error:
            result = failed(error)
        noted: set[str] = set()
        for one in failures(result):
            if one.traceback is not None and one.traceback not in noted:
                noted.add(one.traceback)
                self.faults.note(one.id, one.error, one.traceback)
        return result

    def ask(self, work: Callable[[], R], problem: Callable[[R], str | None]) -> R:
        """Do work that asks the backend, under the circuit breaker: see `CircuitBreaker.ask`."""
        return self.breaker.ask(work, problem)


def question_count(n: int | None, limit: int | None) -> int | None:
    """Upper bound on the number of questions, if known."""
    return min((count for count in (n, limit) if count is not None), default=None)


def limited(samples: Iterable[Sample], limit: int | None) -> Iterator[Sample]:
    """The first samples. Raises `ConfigError` for a duplicate id."""
    seen: set[str] = set()
    for sample in islice(samples, limit):
        if sample.id in seen:
            raise ConfigError(f"duplicate question id {sample.id!r} in the benchmark: ids must be unique")
        seen.add(sample.id)
        yield sample
