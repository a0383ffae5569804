"""Run a benchmark and report accuracy: the application behind `act2see eval`."""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from act2see import registry
from act2see.benchmarks.official.report import official_summary
from act2see.benchmarks.published import beside
from act2see.benchmarks.vcrbench import VCRBench
from act2see.config import EvalConfig, EvalExecutionConfig, recorded
from act2see.core.errors import ConfigError, InternalError
from act2see.core.interfaces import Benchmark, Sample
from act2see.core.trace import Cost, Trace
from act2see.evaluation import setup
from act2see.evaluation.evaluator import (
    Evaluator,
    Scored,
    ShuffledOptions,
    answered,
    as_shown,
    chains,
    changed,
    question_of,
    quoting,
    score_of_fault,
)
from act2see.evaluation.runner import (
    Failure,
    Runner,
    RunSettings,
    StoredTraces,
    content_by_question,
    limited,
    open_run,
    question_count,
    video_folder,
    warn_of_answers,
)
from act2see.evaluation.scores import Score, read_score, summarise_costs, summarise_scores
from act2see.execution.faults import ERRORS_FILE
from act2see.execution.progress import ProgressCallback, counted
from act2see.storage.runs import JSON, Run
from act2see.synthetic.scope import FORCED, NOTICE

_log = logging.getLogger(__name__)
_NOT_RECORDED = {"out", "resume", "json", "cache", "official_judge"}
"""Settings that do not affect answers, and may change when a run is resumed."""


@dataclass(frozen=True, slots=True)
class EvalResult:
    """The result of an evaluation. `summary` and `costs` are the content of summary.json and costs.json."""

    scores: tuple[Score, ...]
    """One per question, in the benchmark's order; for a shard only its own, until all shards are finished."""
    summary: Mapping[str, JSON]
    costs: Mapping[str, JSON]
    fingerprint: Mapping[str, JSON]
    folder: Path | None = None
    """The run folder; None without `out`."""

    @property
    def errors_file(self) -> Path | None:
        """File with the tracebacks of internal errors."""
        return None if self.folder is None else self.folder / ERRORS_FILE

    @property
    def errors(self) -> tuple[str, ...]:
        """Errors of the questions that failed."""
        return tuple(one.error for one in self.scores if one.error)

    @property
    def accuracy(self) -> float | None:
        """Share of all questions that were answered correctly, failed ones included; None without questions."""
        return sum(one.is_right for one in self.scores) / len(self.scores) if self.scores else None


def evaluate(
    benchmark: str,
    options: EvalConfig | None = None,
    execution: EvalExecutionConfig | None = None,
    *,
    progress: ProgressCallback | None = None,
) -> EvalResult:
    """Run a benchmark and score the answers.

    `benchmark` is a name of `act2see benchmarks` or `package.module:Class`. `options.out` stores traces (each as soon as it ends), scores and the
    summary in a run folder, which `options.resume` continues. Truncated and failed questions count in the denominator. Raises `ConfigError`,
    `ScopeError`, `StoreError`, and `BackendError` after `execution.patience_seconds` without a response from the backend.
    """
    options, execution = options or EvalConfig(), execution or EvalExecutionConfig()
    shard = _checked(benchmark, options, execution)
    config = _recorded(benchmark, options, execution)
    with ExitStack() as stack:
        questions = registry.benchmark(benchmark, options, video_folder(options.out, stack))
        setup.check_scope(questions, options)
        run = _open_run(stack, config, options, shard)
        if execution.shuffle_options is not None:
            questions = ShuffledOptions(questions, execution.shuffle_options)
        with setup.executor(questions, benchmark, options, execution) as executor:
            fingerprint = executor.fingerprint(config)
            scores, costs = _answered(executor, options, execution, shard, run, progress)
        about: dict[str, JSON] = {"benchmark": benchmark, "frames": options.frames, "max_looks": options.max_looks}
        about |= {} if execution.limit is None else {"limit": execution.limit}
        about |= {NOTICE: FORCED} if options.force and registry.scope(options).backend else {}
        if run is not None and shard is not None:
            run.write_scores((one.row() for one in scores), shard=shard.name)
            merged = _merged(run, shard.of)
            if merged is None:
                _log.warning("this is shard %d of %d; the last one to finish writes the summary", shard.first, shard.of)
                about["shard"] = shard.name
            else:
                scores, costs, shard = merged, _costs_of(run), None
        official: Mapping[str, JSON] = {}
        if run is not None and shard is None and execution.limit is None:
            official = official_figures(benchmark, questions, run, judged=options.official_judge, progress=progress)
        settings = fingerprint["settings"]
        assert isinstance(settings, Mapping)
        published = cast("list[JSON]", beside(benchmark, settings))
        beside_ours: dict[str, JSON] = {"published": published} if published else {}
        summary: dict[str, JSON] = {**about, **summarise_scores(scores), **official, **beside_ours, "fingerprint": fingerprint}
        spent = summarise_costs(costs)
        if run is not None and shard is None:
            run.write_scores(one.row() for one in scores)
            run.write_summary(summary, spent)
    return EvalResult(tuple(scores), summary, spent, fingerprint, options.out)


# Before the first question


@dataclass(frozen=True, slots=True)
class _Shard:
    """Every `of`-th chain of questions from the `first` on, counted from 1."""

    first: int
    of: int

    @property
    def name(self) -> str:
        return f"{self.first}-of-{self.of}"


def _checked(benchmark: str, options: EvalConfig, execution: EvalExecutionConfig) -> _Shard | None:
    registry.check_benchmark(benchmark)
    setup.check_models(options)
    setup.check_ray(execution.ray)
    setup.check_resume(options)
    if execution.shard is None:
        return None
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", execution.shard)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ConfigError(f"--shard is {execution.shard!r}; it must be i/n, from 1/n to n/n, such as 2/4")
    if options.out is None:
        raise ConfigError("--shard needs a shared run folder: add --out")
    return _Shard(int(match[1]), int(match[2]))


def _recorded(benchmark: str, options: EvalConfig, execution: EvalExecutionConfig) -> dict[str, JSON]:
    shuffled = {} if execution.shuffle_options is None else {"shuffle_options": execution.shuffle_options}
    return {"benchmark": benchmark, **recorded(options, leave_out=_NOT_RECORDED), **shuffled}


def _open_run(stack: ExitStack, config: Mapping[str, JSON], options: EvalConfig, shard: _Shard | None) -> Run | None:
    """The number of questions may change from one call to the next, but not from one shard to the next."""
    if options.out is None:
        return None
    settings = RunSettings("eval", config, options.seed)
    if shard is not None:
        return stack.enter_context(open_run(options.out, settings, resume=False, shard=shard.name))
    return stack.enter_context(open_run(options.out, settings, resume=options.resume, may_change=("n",)))


# The questions

_Answer = tuple[Score, Cost | None]


def _answered(
    executor: setup.Executor,
    options: EvalConfig,
    execution: EvalExecutionConfig,
    shard: _Shard | None,
    run: Run | None,
    progress: ProgressCallback | None,
) -> tuple[list[Score], list[Cost]]:
    """Every question's score, in the benchmark's order, and its cost."""
    resumes = run is not None and (options.resume or shard is not None)
    stored = StoredTraces.read(run, "and their questions are asked again") if run is not None and resumes else None
    before = content_by_question(run) if run is not None and options.resume else {}
    runner = Runner.of(execution, run, executor.threads, progress)
    work = Work(executor.evaluator, runner, stored)
    done = stored.places if stored else {}
    chained = _prefetched(_numbered_chains(executor.evaluator.benchmark, execution.limit, shard), executor, done)
    try:
        answers = runner.collect(chained, work, _count(options, execution, shard))
    finally:
        if stored is not None:
            stored.warn()
    scores = sorted((score for score, _ in answers), key=lambda one: one.number)
    changes = stored.changes if stored else {}
    warn_of_answers(before, {one.id: one.content for one in scores if one.id not in changes})
    if run is not None and execution.limit is None and shard is None and (others := done.keys() - {one.id for one in scores}):
        _log.warning("%d answers in %s are to questions outside this selection; they are kept, but not counted", len(others), run.folder)
    return scores, [cost for _, cost in answers if cost is not None]


@dataclass(frozen=True, slots=True)
class Work:
    """Answers a chain of questions, in whichever thread. Each new trace is on the disk before the next question; score and cost stay in memory."""

    evaluator: Evaluator
    runner: Runner
    stored: StoredTraces | None = None

    def __call__(self, chain: Sequence[tuple[int, Sample]]) -> list[_Answer]:
        """The score of each question of a chain, and what its answer cost; one that quotes an earlier answer is asked with it."""
        traces: dict[str, Trace | None] = {}
        return [self._answer(number, sample, traces) for number, sample in chain]

    def _answer(self, number: int, sample: Sample, traces: dict[str, Trace | None]) -> _Answer:
        failed: list[Failure] = []

        def work() -> _Answer:
            scored = self._scored(quoting(self.evaluator.benchmark, sample, traces))
            traces[sample.id] = scored.trace
            failed.append(Failure(sample.id, scored.error, scored.traceback))
            return replace(scored.score(number), question=question_of(sample)), None if scored.trace is None else scored.trace.cost

        def fault(error: InternalError) -> _Answer:
            failed.append(Failure(sample.id, str(error), error.traceback))
            return score_of_fault(sample, number, error), None

        return self.runner.guard(work, fault, lambda _: failed)

    def _scored(self, sample: Sample) -> Scored:
        """Its score from the stored trace, if the run has one."""
        if self.stored is not None and (trace := self.stored.of(sample, (sample.id,)).get(sample.id)) is not None:
            return self.evaluator.score(sample, trace)
        scored = self.runner.ask(lambda: self.evaluator.answer(sample), lambda scored: scored.backend_problem)
        if self.runner.run is not None and scored.trace is not None:
            self.runner.run.append(scored.trace)
        return scored


def _numbered_chains(benchmark: Benchmark, limit: int | None, shard: _Shard | None) -> Iterator[list[tuple[int, Sample]]]:
    """The questions with their places, in chains: a shard has whole ones."""
    number = 0
    for place, chain in enumerate(chains(benchmark, limited(benchmark.samples(), limit))):
        if shard is None or place % shard.of == shard.first - 1:
            yield list(enumerate(chain, start=number))
        number += len(chain)


def _prefetched(
    chained: Iterable[list[tuple[int, Sample]]], executor: setup.Executor, done: Mapping[str, object]
) -> Iterator[list[tuple[int, Sample]]]:
    for chain in chained:
        executor.prefetch((sample for _, sample in chain), done)
        yield chain


def _count(options: EvalConfig, execution: EvalExecutionConfig, shard: _Shard | None) -> int | None:
    """Upper bound on the number of questions, if known."""
    count = question_count(options.n, execution.limit)
    return count if count is None or shard is None else len(range(shard.first - 1, count, shard.of))


# After the last question


def official_figures(name: str, benchmark: Benchmark, run: Run, *, judged: bool, progress: ProgressCallback | None) -> dict[str, JSON]:
    """The official figures over every question that the benchmark has and, if wanted, those of its judge; empty without an official rule.

    The judge is called four times per answer; its earlier responses are reused.
    """
    traces = {trace.id: trace for _, trace in run.sketches([]) if trace.finish}
    pairs = [(sample, None if trace is None or changed(sample, trace) else trace) for _, sample, trace in answered(benchmark, traces)]
    pairs = [(sample if trace is None else as_shown(sample, trace), trace) for sample, trace in pairs]
    found = cast("dict[str, JSON]", official_summary(name, pairs))
    inner = benchmark.benchmark if isinstance(benchmark, ShuffledOptions) else benchmark
    if judged and isinstance(inner, VCRBench):
        found["official_judged"] = cast("JSON", inner.figures(counted(pairs, progress, "answers judged", len(pairs))))
    return found


def _merged(run: Run, shards: int) -> list[Score] | None:
    """All shards' scores in the benchmark's order; None until every question has one."""
    parts = [run.scores(_Shard(first, shards).name) for first in range(1, shards + 1)]
    scores = sorted((read_score(row, where) for part in parts for where, row in part or ()), key=lambda one: one.number)
    is_whole = all(part is not None for part in parts) and [one.number for one in scores] == list(range(len(scores)))
    return scores if is_whole else None


def _costs_of(run: Run) -> list[Cost]:
    costs = {trace.id: trace.cost for _, trace in run.sketches([])}
    return list(costs.values())
