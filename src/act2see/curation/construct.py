"""Construct training data, a teacher's traces on human-annotated questions: the application behind `act2see construct`."""

import logging
import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Protocol, runtime_checkable

from act2see import registry
from act2see.benchmarks.catalogue import BY_NAME
from act2see.benchmarks.synthetic import SyntheticBenchmark
from act2see.config import ConstructConfig, ConstructExecutionConfig, recorded
from act2see.core.errors import ConfigError, InternalError
from act2see.core.interfaces import Benchmark, Sample
from act2see.core.trace import Cost, Trace
from act2see.curation.constructor import Constructed, Constructor, Spending
from act2see.curation.qa_records import attempt_id, reference, reference_row
from act2see.evaluation import setup
from act2see.evaluation.evaluator import score_of_fault
from act2see.evaluation.fingerprint import prompt_digest
from act2see.evaluation.runner import (
    Failure,
    Runner,
    RunSettings,
    StoredTraces,
    content_by_question,
    open_run,
    video_folder,
    warn_of_answers,
)
from act2see.evaluation.scores import summarise_scores
from act2see.execution.faults import ERRORS_FILE
from act2see.execution.progress import ProgressCallback, counted
from act2see.storage.runs import JSON, SAMPLES, Run

_log = logging.getLogger(__name__)
_NAMED_VIDEOS = 5
"""Maximum number of missing videos that a warning lists; summary.json lists all."""
_SYNTHETIC = "synthetic"
_OWN_LICENCES = (_SYNTHETIC, "jsonl")
"""Sources whose licence is not the catalogue's to judge: clips that this package makes, and questions that state it one by one."""


@dataclass(frozen=True, slots=True)
class ConstructResult:
    """The result of a construction. `summary` is the content of summary.json."""

    folder: Path
    questions: int
    """Number of questions of the source."""
    ended: int
    """Number of finished questions; fewer if the budget was exhausted."""
    dollars: float
    """Dollars spent, including earlier calls of the command."""
    summary: Mapping[str, JSON]

    @property
    def is_complete(self) -> bool:
        """Whether every question is finished."""
        return self.ended == self.questions

    @property
    def errors_file(self) -> Path:
        """File with the tracebacks of internal errors."""
        return self.folder / ERRORS_FILE


@runtime_checkable
class ConstructExecutor(Protocol):
    """An executor whose attempts happen elsewhere."""

    @property
    def constructor(self) -> Constructor:
        """Has each attempt made there."""
        ...


def construct(
    source: str,
    options: ConstructConfig,
    execution: ConstructExecutionConfig | None = None,
    *,
    progress: ProgressCallback | None = None,
) -> ConstructResult:
    """Generate a teacher's traces on a data set's questions, with retries after wrong answers. Every attempt is a trace in `options.out`.

    `source` is synthetic, minerva, causalvqa, social-genome, jsonl (with `options.data`) or `package.module:Class`. The teacher does not see the
    human reasoning unless `options.show_reference` is set. Raises `ConfigError`, `ScopeError`, `StoreError`, and `BackendError` after
    `execution.patience_seconds` without a response from the backend.
    """
    execution = execution or ConstructExecutionConfig()
    out = _checked(source, options, execution)
    with ExitStack() as stack:
        questions = registry.source(source, options, video_folder(out, stack))
        samples = _read(questions, execution.limit, progress)
        check_usable(source, samples, options.allow)
        setup.check_scope(questions, options)
        budget = Spending(execution.budget_usd)
        run = stack.enter_context(open_run(out, _settings(source, options), resume=options.resume, may_change=("n",)))
        before = content_by_question(run) if options.resume else {}
        missing = _write_qa_records(run, source, samples)
        executor = stack.enter_context(setup.executor(questions, source, options, execution))
        constructor = _constructor(executor, options)
        if options.again and "greedy" in constructor.evaluator.backend.made_with.get("decoding", ""):
            _log.warning("this teacher decodes greedily, so a retry gives the same answer: set --temperature")
        # Failed attempts are repeated, but their cost counts.
        stored = StoredTraces.read(run, "and are tried again; what they cost is not counted", count=budget.add)
        runner = Runner.of(execution, run, executor.threads, progress)
        try:
            asked = _prefetched(samples, executor, stored, budget)
            found = runner.collect(asked, Work(constructor, runner, stored, budget), len(samples))
        finally:
            stored.warn()
        ended = sorted((one for one in found if one is not None), key=lambda one: one.score.number)
        warn_of_answers(before, {one.score.id: one.score.content for one in ended if one.score.id not in stored.changes})
        summary = _summary(source, samples, ended, run, executor.fingerprint(run.config), missing)
        run.write_scores(one.score.row() for one in ended)
        run.write_summary(summary)
    return ConstructResult(out, len(samples), len(ended), budget.dollars, summary)


# Before the first question


def _checked(source: str, options: ConstructConfig, execution: ConstructExecutionConfig) -> Path:
    """The run folder. Raises `ConfigError` for invalid options before anything heavy is loaded."""
    registry.check_benchmark(source)
    setup.check_models(options)
    setup.check_ray(execution.ray)
    if options.out is None:
        raise ConfigError("missing --out (the run folder for the traces)")
    if os.path.lexists(options.out / "run.json") and not options.resume:  # before the source is read, which may take a while
        raise ConfigError(f"{options.out} already contains a run: continue it with --resume, or give another folder")
    if options.resume:
        Run.open(options.out)
    if execution.budget_usd is not None and execution.prices is None:
        raise ConfigError("--budget-usd needs token prices: give a file with --prices (see examples/prices.toml)")
    return options.out


def _settings(source: str, options: ConstructConfig) -> RunSettings:
    prompts = {rendering: prompt_digest({"rendering": rendering}, registry.offered(options)) for rendering in ("same_turn", "tool_turn", "user_turn")}
    config = {"source": source, **recorded(options, leave_out={"out", "resume", "json", "cache"}), "prompts": prompts}
    return RunSettings("construct", config, options.seed)


def _read(questions: Benchmark, limit: int | None, progress: ProgressCallback | None) -> list[Sample]:
    """All questions, so that problems are reported before any cost occurs."""
    samples = islice(questions.samples(), limit)
    if not isinstance(questions, SyntheticBenchmark):
        return list(samples)
    return list(counted(samples, progress, "clips", min(questions.count, limit or questions.count)))


def check_usable(source: str, samples: Sequence[Sample], allowed: Sequence[str]) -> None:
    """Refuse sources without a licence for training, right answers or human reasoning, unless `allowed`. Raises `ConfigError`."""
    entry, problems = BY_NAME.get(source), {}
    if entry is not None and source not in _OWN_LICENCES and entry.training != "yes":
        problems["licence"] = (
            f"training on it is not allowed ({entry.why})" if entry.training == "no" else f"it has no permission for training ({entry.why})"
        )
    for what, named, unusable in (
        ("answers", "the right answer", [one for one in samples if not one.answer]),
        ("reasoning", "human reasoning", [one for one in samples if not one.reasoning]),
    ):
        if unusable:
            problems[what] = f"{len(unusable):,} of {len(samples):,} questions lack {named}"
    missing = [what for what in problems if what not in allowed]
    if missing:
        said = "; ".join(problems[what] for what in missing)
        raise ConfigError(f"{source} is not usable as training data: {said}; to proceed anyway, add --allow {' '.join(missing)}")


def _write_qa_records(run: Run, source: str, samples: Sequence[Sample]) -> list[str]:
    """Keep the questions beside the traces; returns the missing videos, once each. Raises `ConfigError` for an id that comes twice."""
    twice = [name for name, count in Counter(one.id for one in samples).items() if count > 1]
    if twice:
        raise ConfigError(f"duplicate question id {twice[0]!r} in the source: ids must be unique")
    entry = BY_NAME.get(source)
    licence = "Apache-2.0" if source == _SYNTHETIC else "not stated" if entry is None or source in _OWN_LICENCES else entry.licence
    now = {one.id for one in samples}
    # Questions outside this selection keep their records, since their traces are filtered too.
    before = run.rows(SAMPLES) or []
    readable = [row for _, row in before if isinstance(row, dict) and isinstance(row.get("id"), str)]
    if len(readable) < len(before):
        _log.warning("%d lines of %s are not questions and are dropped", len(before) - len(readable), run.folder / SAMPLES)
    others = [row for row in readable if row["id"] not in now]
    run.write_rows(SAMPLES, [*(reference_row(reference(one, source, licence)) for one in samples), *others])
    missing = sorted({str(one.video) for one in samples if not os.path.isfile(one.video)})
    if missing:
        named = ", ".join(missing[:_NAMED_VIDEOS]) + (f" and {len(missing) - _NAMED_VIDEOS} more" if len(missing) > _NAMED_VIDEOS else "")
        _log.warning("%d videos are missing, and their questions end as video errors: %s", len(missing), named)
    return missing


# The questions


def _constructor(executor: setup.Executor, options: ConstructConfig) -> Constructor:
    if isinstance(executor, ConstructExecutor):
        return executor.constructor
    return Constructor(executor.evaluator, options.again, options.show_reference)


def _prefetched(samples: Sequence[Sample], executor: setup.Executor, stored: StoredTraces, budget: Spending) -> Iterator[tuple[int, Sample]]:
    """Yield the numbered questions and prefetch their videos, until the budget is exhausted."""
    begun: Collection[str] = {sample.id for sample in samples if attempt_id(sample.id, 0) in stored.places}
    for number, sample in enumerate(samples):
        if budget.has_left():
            executor.prefetch((sample,), begun)
        yield number, sample


@dataclass(frozen=True, slots=True)
class Work:
    """Runs the teacher on one question, in any thread. Each attempt's trace is on disk before the next attempt."""

    constructor: Constructor
    runner: Runner
    stored: StoredTraces
    budget: Spending

    def __call__(self, question: tuple[int, Sample]) -> list[Constructed | None]:
        """The outcome of a question; None if the budget was exhausted first."""
        number, sample = question

        def fault(error: InternalError) -> Constructed | None:
            return Constructed(score_of_fault(sample, number, error), Cost(), 1, error.traceback)

        def failures(ended: Constructed | None) -> list[Failure]:
            return [] if ended is None else [Failure(sample.id, ended.score.error, ended.traceback)]

        return [self.runner.guard(partial(self._constructed, number, sample), fault, failures)]

    def _constructed(self, number: int, sample: Sample) -> Constructed | None:
        attempts = {attempt_id(sample.id, tried): tried for tried in range(self.constructor.retries + 1)}
        done = {attempts[name]: trace for name, trace in self.stored.of(sample, attempts).items()}
        return self.constructor.construct(
            sample, number, done, self._keep, lambda ask: self.runner.ask(ask, lambda scored: scored.backend_problem), self.budget.has_left
        )

    def _keep(self, trace: Trace) -> None:
        self.budget.add(trace)
        self.stored.run.append(trace)


# After the last question


def _summary(
    source: str, samples: Sequence[Sample], ended: Sequence[Constructed], run: Run, fingerprint: Mapping[str, JSON], missing: Sequence[str]
) -> dict[str, JSON]:
    """Counts by question. The filtered run reports the cost per kept trace."""
    tries = Counter(one.tries for one in ended)
    return {
        "source": source,
        "questions": len(samples),
        "teacher": run.config["backend"],
        "reference_shown": run.config["show_reference"],
        **summarise_scores(one.score for one in ended),
        "tries": {str(count): tries[count] for count in sorted(tries)},
        "missing_videos": missing,
        "fingerprint": fingerprint,
    }
