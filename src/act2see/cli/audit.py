"""`act2see audit`: what a model's looking is worth on a benchmark."""

import tempfile
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from act2see.cli.asking import check_scope
from act2see.cli.exits import ANSWERED, INTERRUPTED
from act2see.cli.output import complain, note_questions_with_frames_left_out, progressing, say, say_json, tell_faults
from act2see.cli.runs import note_damaged, videos_in, working_on
from act2see.config import EvalConfig, ExecutionConfig, SettingsFile, recorded
from act2see.core.errors import ConfigError, InternalError
from act2see.execution.faults import ERRORS_FILE, Faults, unexpected

if TYPE_CHECKING:
    from act2see.core.interfaces import Sample
    from act2see.core.trace import Trace
    from act2see.evaluation.ablation import Audited, Auditor, Condition
    from act2see.storage.runs import Place, Run

PAGE = "audit.html"


def audit(
    benchmark: Annotated[str, Parameter(help="As for eval.")],
    /,
    *,
    settings: Annotated[EvalConfig, Parameter(name="*")] = EvalConfig(),
    waiting: Annotated[ExecutionConfig, Parameter(name="*")] = ExecutionConfig(),
    config: SettingsFile = None,
) -> int:
    """Answer each question again with nothing, a random, a wrong, a blurred frame in place of the right one, and count what looking gains and harms.

    Up to the first call all arms share one train of thought. With --out the traces, the summary and a page with charts, audit.html, are kept.
    """
    del config
    from act2see import registry
    from act2see.evaluation import setup
    from act2see.evaluation.ablation import MEANINGS, Auditor, summarise_audit
    from act2see.execution.metering import cost_tracking
    from act2see.report.audit_page import render_audit
    from act2see.report.page import write_page
    from act2see.synthetic.scope import FORCED, NOTICE

    settings = replace(settings, given="right")  # what an arm is asked must not depend on what another answered
    _check(benchmark, settings)
    with ExitStack() as until_told, tempfile.TemporaryDirectory() as scratch:
        asked = registry.benchmark(benchmark, settings, Path(scratch) / "videos" if settings.out is None else videos_in(settings.out))
        check_scope(asked, settings)
        run = until_told.enter_context(_audit_run(benchmark, settings)) if settings.out else None
        backend = cost_tracking(registry.backend(settings.backend, settings), waiting.prices, waiting.requests_per_minute)
        retriever = registry.retriever(settings.retriever, settings)
        if retriever is None:
            raise ConfigError("an audit needs a retriever: name one with --retriever")
        generator = registry.generator(settings.generator, settings, retriever)
        evaluator = setup.evaluator(settings, asked, backend, (retriever, generator))
        auditor = Auditor(evaluator, settings.retrieve_fps)
        try:
            audited = _with_progress(auditor, settings.n, waiting, run)
        except KeyboardInterrupt:
            complain("interrupted" + (f"; what was answered is kept in {run.folder}: go on with --resume" if run else ""))
            return INTERRUPTED
        warned = {NOTICE: FORCED} if settings.force and registry.scope(settings).backend else {}
        summary = {"benchmark": benchmark, "max_looks": settings.max_looks, **warned, **summarise_audit(audited)}
        if run:
            run.write_scores(_scores(one) for one in audited)
            write_page(run.folder / PAGE, render_audit(summary, MEANINGS))
            run.write_summary(*_apart(summary))
    tell_faults(summary["arms"]["real"]["outcomes"], run and run.folder / ERRORS_FILE)
    note_questions_with_frames_left_out(summary)
    if settings.json:
        say_json(summary)
    else:
        _tell(summary, None if run is None else run.folder / PAGE)
    return ANSWERED


def _check(benchmark: str, settings: EvalConfig) -> None:
    from act2see import registry

    registry.check_benchmark(benchmark)
    registry.check_backend(settings.backend)
    registry.check_retriever(settings.retriever)
    registry.check_generator(settings.generator, settings.judge)
    if settings.frames != "real":
        raise ConfigError("an audit shows real frames and all the others in turn: leave --frames out")
    if settings.max_looks < 1 or settings.tools == "none":
        raise ConfigError("an audit of a model that may not look is none: --max-looks must be at least 1, and --tools not none")
    if settings.resume and settings.out is None:
        raise ConfigError("there is nothing to resume: name the run's folder with --out")


def _audit_run(benchmark: str, settings: EvalConfig) -> "AbstractContextManager[Run]":
    assert settings.out is not None
    config = {"benchmark": benchmark, **recorded(settings, leave_out={"out", "resume", "json", "cache", "frames", "official_judge"})}
    about = {"command": "audit", "config": config, "seed": settings.seed}
    return working_on(settings.out, about, resume=settings.resume, may_change=("n",))


def _with_progress(auditor: "Auditor", count: int | None, waiting: ExecutionConfig, run: "Run | None") -> list["Audited"]:
    """Every question in all arms; each trace is on the disk as soon as it ends. A backend that is away is waited for."""
    from act2see.execution.pool import CircuitBreaker

    places = _places(run) if run else {}
    patience = CircuitBreaker(waiting.patience_seconds)
    faults = Faults(None if run is None else run.folder, waiting.fail_fast)
    samples = islice(auditor.evaluator.benchmark.samples(), waiting.limit)
    known = [one for one in (count, waiting.limit) if one is not None]
    audited: list[Audited] = []
    for sample in progressing(samples, "questions", min(known, default=None)):
        audited.append(patience.ask(partial(_asked, auditor, sample, run, places, faults), lambda one: one.backend_problem))
    return audited


def _asked(auditor: "Auditor", sample: "Sample", run: "Run | None", places: dict[str, "Place"], faults: Faults) -> "Audited":
    """The question in all arms, whatever happens in one of them; tracebacks of internal errors are kept, each once."""
    from act2see.core.trace import Cost
    from act2see.evaluation.ablation import CONDITIONS, Audited, ConditionResult

    try:
        with unexpected():
            audited = _audited(auditor, sample, run, places)
    except InternalError as error:
        armed = ConditionResult("internal_error", Cost(), error=str(error), traceback=error.traceback)
        audited = Audited(sample, None, 0, 0, 0, dict.fromkeys(CONDITIONS, armed))
    noted: set[str | None] = set()
    for arm, found in audited.arms.items():
        if found.traceback not in noted:
            noted.add(found.traceback)
            faults.note(_name(sample.id, arm), found.error, found.traceback)
    return audited


def _audited(auditor: "Auditor", sample: "Sample", run: "Run | None", places: dict[str, "Place"]) -> "Audited":
    from act2see.evaluation.ablation import CONDITIONS
    from act2see.evaluation.evaluator import changed, told_changes

    done: dict[Condition, Trace] = {}
    if run:
        there = {arm: run.sketch_at(places[name]) for arm in CONDITIONS if (name := _name(sample.id, arm)) in places}
        if what := {one for trace in there.values() for one in changed(sample, trace)}:
            complain(
                f"note: a question is not the one that {run.folder} has answers to, and is asked again: {told_changes({sample.id: sorted(what)})}"
            )
        else:
            done = {arm: replace(run.trace_at(places[_name(sample.id, arm)]), id=sample.id) for arm in there}

    def keep(arm: "Condition", trace: "Trace") -> None:
        if run:
            run.append(replace(trace, id=_name(sample.id, arm)))

    return auditor.audit(sample, done, keep)


def _name(sample: str, arm: str) -> str:
    return f"{sample}@{arm}"


def _places(run: "Run") -> dict[str, "Place"]:
    damaged: list[str] = []
    found = {trace.id: place for place, trace in run.sketches(damaged, with_files=True)}
    note_damaged(damaged, "and are made again")
    return found


def _scores(one: "Audited") -> dict[str, Any]:
    outcomes = {arm: armed.outcome for arm, armed in one.arms.items()}
    errors = {arm: armed.error for arm, armed in one.arms.items() if armed.error}
    return {"id": one.sample.id, "kind": one.sample.kind, "call": one.call, "looks": one.looks, "outcomes": outcomes, "errors": errors}


def _apart(summary: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The summary, and what of its costs differs from run to run: one that was cut off has the summary of one that was not."""
    differs = ("seconds", "tokens_reused")
    same = {arm: {name: value for name, value in cost.items() if name not in differs} for arm, cost in summary["cost"].items()}
    return {**summary, "cost": same}, {"arms": {arm: {name: cost[name] for name in differs} for arm, cost in summary["cost"].items()}}


def _tell(summary: dict[str, Any], page: Path | None) -> None:
    from act2see.report.audit_page import points, share

    say(f"{summary['n']} questions of {summary['benchmark']}, chance {share(summary['chance'])}")
    for arm, found in summary["arms"].items():
        said = f"; real is {100 * found['real_minus_arm']:+.1f} points above [{points(found['real_minus_arm_95'])}]" if arm != "real" else ""
        say(f"{arm.replace('_', ' '):<11}{share(found['accuracy']):>8}{said}")
    looking = summary["looking"]
    say(f"looking gains {share(looking['gains'])} and harms {share(looking['harms'])}; only looking solves {share(looking['only_looking_solves'])}")
    say(f"called without need {share(looking['over_calling'])}, did not call in need {share(looking['under_calling'])}")
    if page is not None:
        say(page)
    failed = {name: count for name, count in summary["arms"]["real"]["outcomes"].items() if name.endswith("_error")}
    if failed:
        complain("note: " + ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in failed.items()) + " count as not right")
