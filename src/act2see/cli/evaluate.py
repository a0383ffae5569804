"""`act2see eval`: a benchmark's questions, answered and counted."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from act2see.cli.exits import ANSWERED
from act2see.config import EvalConfig, SettingsFile, recorded
from act2see.errors import BackendError, ConfigError
from act2see.output import complain, progressing, tell_scores

if TYPE_CHECKING:
    from act2see.evaluation import Evaluator, Scored
    from act2see.store import Run
    from act2see.trace import Trace

MAX_BACKEND_ERRORS_IN_A_ROW = 3
"""An evaluation whose backend failed on so many questions one after the other stops: the server is gone, not the question hard."""


def evaluate(
    benchmark: Annotated[str, Parameter(help="synthetic, or package.module:Class.")],
    /,
    *,
    settings: Annotated[EvalConfig, Parameter(name="*")] = EvalConfig(),
    config: SettingsFile = None,
) -> int:
    """Answer a benchmark's questions as `ask` does, and count.

    The summary goes to stdout. Questions without an answer, cut off or failed stay in the denominator.
    """
    del config
    from act2see import registry
    from act2see.evaluation import Evaluator, summarise

    registry.check_benchmark(benchmark)
    registry.check_backend(settings.backend)
    registry.check_retriever(settings.retriever)
    registry.check_generator(settings.generator, settings.judge)
    if settings.resume and settings.out is None:
        raise ConfigError("there is nothing to resume: name the run's folder with --out")
    run = _eval_run(benchmark, settings) if settings.out else None
    done = {trace.id: trace for trace in run.traces() if trace.finish} if run and settings.resume else {}
    with tempfile.TemporaryDirectory() as scratch:
        asked = registry.benchmark(benchmark, settings, (settings.out or Path(scratch)) / "videos")
        backend = registry.backend(settings.backend, settings)
        retriever = registry.looker(settings) if settings.max_looks else None
        generator = registry.imaginer(settings, retriever)
        evaluator = Evaluator(asked, backend, retriever, generator, fps=settings.fps, insert=settings.insert, **registry.limits(settings))
        scored = _with_progress(evaluator, settings.n, done, run)
    summary = {"benchmark": benchmark, "frames": settings.frames, "max_looks": settings.max_looks, **summarise(scored)}
    if run:
        run.write_scores({"id": one.sample.id, "kind": one.sample.kind, "outcome": one.outcome, "error": one.error} for one in scored)
        run.write_summary(summary)
    errors = [one.error for one in scored if one.error]
    if errors:
        complain(f"note: {len(errors)} of {len(scored)} questions failed; the first: {errors[0]}")
    tell_scores(summary, as_json=settings.json)
    return ANSWERED


def _eval_run(benchmark: str, settings: EvalConfig) -> "Run":
    from act2see.store import Run

    assert settings.out is not None
    make = Run.resume if settings.resume else Run.create
    config = {"benchmark": benchmark, **recorded(settings, leave_out={"out", "resume", "json", "cache"})}
    return make(settings.out, command="eval", config=config, seed=settings.seed)


def _with_progress(evaluator: "Evaluator", count: int | None, done: dict[str, "Trace"], run: "Run | None") -> list["Scored"]:
    """Every sample's outcome; each new trace is on the disk before the next sample begins."""
    scored: list[Scored] = []
    for one in progressing(evaluator.run(done), "questions", count):
        if run and one.trace is not None and one.sample.id not in done:
            run.append(one.trace)
        scored.append(one)
        last = scored[-MAX_BACKEND_ERRORS_IN_A_ROW:]
        if len(last) == MAX_BACKEND_ERRORS_IN_A_ROW and all(each.outcome == "backend_error" for each in last):
            raise BackendError(f"stopped: the backend failed on {len(last)} questions in a row; {one.error}")
    return scored
