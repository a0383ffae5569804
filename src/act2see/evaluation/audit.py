"""Audit a model's looks on a benchmark: the application behind `act2see audit`. `ablation` has the conditions."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from act2see import registry
from act2see.config import EvalConfig, ExecutionConfig, recorded
from act2see.core.errors import ConfigError, InternalError, StoreError
from act2see.core.interfaces import Sample, batched
from act2see.core.trace import Cost, Trace
from act2see.evaluation import setup
from act2see.evaluation.ablation import CONDITIONS, Audited, Auditor, Condition, ConditionResult, summarise_audit
from act2see.evaluation.runner import (
    Failure,
    Runner,
    RunSettings,
    StoredTraces,
    limited,
    open_run,
    question_count,
    video_folder,
)
from act2see.execution.faults import ERRORS_FILE
from act2see.execution.metering import cost_tracking
from act2see.execution.progress import ProgressCallback
from act2see.storage.runs import JSON, Run
from act2see.synthetic.scope import FORCED, NOTICE

_NOT_RECORDED = {"out", "resume", "json", "cache", "frames", "official_judge"}
_DIFFERS = ("seconds", "tokens_reused", "flops")
"""Costs that vary between runs, stored apart so that a resumed run has the same summary as an uninterrupted one."""


@dataclass(frozen=True, slots=True)
class AuditResult:
    """The result of an audit. `summary` has `arms` (one a condition), `looking` and `cost`, as summary.json and costs.json have."""

    audited: tuple[Audited, ...]
    summary: Mapping[str, JSON]
    folder: Path | None = None
    """The run folder; None without `out`."""

    @property
    def errors_file(self) -> Path | None:
        """File with the tracebacks of internal errors."""
        return None if self.folder is None else self.folder / ERRORS_FILE


def audit(
    benchmark: str,
    options: EvalConfig | None = None,
    execution: ExecutionConfig | None = None,
    *,
    progress: ProgressCallback | None = None,
) -> AuditResult:
    """Answer each question under every condition of `ablation.CONDITIONS`, and report what looking gains and harms.

    All conditions share the reasoning up to the first call. `options.out` stores traces, scores and the summary in a run folder, which
    `options.resume` continues. Raises what `evaluate` raises.
    """
    options, execution = replace(options or EvalConfig(), given="right"), execution or ExecutionConfig()
    # given: what is asked under one condition must not depend on what was answered under another.
    _check(benchmark, options)
    with ExitStack() as stack:
        questions = registry.benchmark(benchmark, options, video_folder(options.out, stack))
        setup.check_scope(questions, options)
        run = None
        if options.out is not None:
            config = {"benchmark": benchmark, **recorded(options, leave_out=_NOT_RECORDED)}
            settings = RunSettings("audit", config, options.seed)
            run = stack.enter_context(open_run(options.out, settings, resume=options.resume, may_change=("n",)))
        loaded = batched(registry.backend(options.backend, options), execution.workers)
        backend = cost_tracking(loaded, execution.prices, execution.requests_per_minute)
        retriever = registry.retriever(options.retriever, options)
        if retriever is None:
            raise ConfigError("an audit needs a retriever: choose one with --retriever")
        tools = retriever, registry.generator(options.generator, options, retriever)
        turns = setup.turns_for(backend, options.backend, execution.workers)
        auditor = Auditor(setup.evaluator(options, questions, backend, tools, turns), options.retrieve_fps)
        stored = None if run is None else StoredTraces.read(run, "and are made again", with_files=True)
        runner = Runner.of(execution, run, 1 if turns is None else setup.threads_for(execution.workers), progress)
        try:
            samples = enumerate(limited(questions.samples(), execution.limit))
            numbered = runner.collect(samples, _Work(auditor, runner, stored), question_count(options.n, execution.limit))
        finally:
            if stored is not None:
                stored.warn()
        audited = [one for _, one in sorted(numbered, key=lambda pair: pair[0])]
        warned = {NOTICE: FORCED} if options.force and registry.scope(options).backend else {}
        summary = {"benchmark": benchmark, "max_looks": options.max_looks, **warned, **summarise_audit(audited)}
        if run is not None:
            run.write_scores(_row(one) for one in audited)
            run.write_summary(*_apart(summary))
    return AuditResult(tuple(audited), summary, options.out)


def _check(benchmark: str, options: EvalConfig) -> None:
    registry.check_benchmark(benchmark)
    setup.check_models(options)
    if options.frames != "real":
        raise ConfigError("an audit runs all frame controls itself: remove --frames")
    if options.max_looks < 1 or options.tools == "none":
        raise ConfigError("an audit needs looks: set --max-looks to at least 1 and --tools to other than none")
    setup.check_resume(options)


@dataclass(frozen=True, slots=True)
class _Work:
    """Runs one question under every condition. Each finished trace is written to disk immediately."""

    auditor: Auditor
    runner: Runner
    stored: StoredTraces | None

    def __call__(self, numbered: tuple[int, Sample]) -> list[tuple[int, Audited]]:
        number, sample = numbered
        return [(number, self.runner.ask(partial(self._guarded, sample), lambda one: one.backend_problem))]

    def _guarded(self, sample: Sample) -> Audited:
        def fault(error: InternalError) -> Audited:
            failed = ConditionResult("internal_error", Cost(), error=str(error), traceback=error.traceback)
            return Audited(sample, None, 0, 0, 0, dict.fromkeys(CONDITIONS, failed))

        def failures(audited: Audited) -> list[Failure]:
            return [Failure(_trace_id(sample.id, name), one.error, one.traceback) for name, one in audited.arms.items()]

        return self.runner.guard(partial(self._audited, sample), fault, failures)

    def _audited(self, sample: Sample) -> Audited:
        return self.auditor.audit(sample, self._done(sample), partial(self._keep, sample))

    def _done(self, sample: Sample) -> dict[Condition, Trace]:
        """The conditions that the run has traces of, with their frames; none where the question has changed: conditions share their reasoning."""
        stored, names = self.stored, {_trace_id(sample.id, name): name for name in CONDITIONS}
        if stored is None or not (found := stored.of(sample, names)) or sample.id in stored.changes:
            return {}
        return {names[trace_id]: replace(stored.run.trace_at(stored.places[trace_id]), id=sample.id) for trace_id in found}

    def _keep(self, sample: Sample, condition: Condition, trace: Trace) -> None:
        if self.stored is not None:
            self.stored.run.append(replace(trace, id=_trace_id(sample.id, condition)))


def _trace_id(sample: str, condition: Condition) -> str:
    return f"{sample}@{condition}"


def _row(one: Audited) -> dict[str, JSON]:
    outcomes: dict[str, JSON] = {name: result.outcome for name, result in one.arms.items()}
    errors: dict[str, JSON] = {name: result.error for name, result in one.arms.items() if result.error}
    return {"id": one.sample.id, "kind": one.sample.kind, "call": one.call, "looks": one.looks, "outcomes": outcomes, "errors": errors}


def stored_summary(run: Run) -> Mapping[str, JSON] | None:
    """The summary of a finished audit's folder, as `AuditResult` has it; None where there is none. Raises `StoreError` for files of another shape."""
    same, differing = run.summary(), run.costs()
    if same is None:
        return None
    try:
        return {**same, "cost": {name: {**cost, **differing["arms"][name]} for name, cost in same["cost"].items()}}
    except (AttributeError, KeyError, TypeError) as error:
        raise StoreError(f"summary.json and costs.json in {run.folder} are not those of an audit: run act2see audit --resume") from error


def _apart(summary: Mapping[str, JSON]) -> tuple[dict[str, JSON], dict[str, JSON]]:
    """The summary, split into the reproducible part and the costs that vary between runs."""
    costs = summary["cost"]
    assert isinstance(costs, Mapping)
    same: dict[str, JSON] = {}
    differing: dict[str, JSON] = {}
    for name, cost in costs.items():
        assert isinstance(cost, Mapping)
        same[name] = {key: value for key, value in cost.items() if key not in _DIFFERS}
        differing[name] = {key: cost[key] for key in _DIFFERS if key in cost}
    return {**summary, "cost": same}, {"arms": differing}
