"""`act2see score`: what is on the disk, scored again; and our rules against cases of official verdicts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from act2see.cli.checks import check_file_to_write
from act2see.cli.exits import ANSWERED, MENDABLE
from act2see.cli.official import tell_official
from act2see.config import EvalConfig
from act2see.errors import ConfigError, StoreError
from act2see.output import complain, say, say_json, tell_scores

if TYPE_CHECKING:
    from act2see.evaluation import Scored
    from act2see.store import Run


def score(
    run: Annotated[Path | None, Parameter(help="A run's folder, as eval --out wrote it.")] = None,
    /,
    *,
    cases: Annotated[Path | None, Parameter(help="File of official verdicts, a JSON object a line, to hold our rules against.")] = None,
    official_form: Annotated[Path | None, Parameter(help="File to write the run's answers into, as the official script takes them.")] = None,
    benchmark: Annotated[str | None, Parameter(help="Needed for a run of your own class: package.module:Class.")] = None,
    data: Annotated[Path | None, Parameter(help="Where the benchmark's data lie now, if they have moved since.")] = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="", help="End with one line of JSON.")] = False,
) -> int:
    """Score a run's traces again without any model: its scores.jsonl and summary.json are made anew.

    With --cases instead of a run, hold the official rules against a file of official verdicts; exit code 1 if they differ.
    """
    if (run is None) == (cases is None):
        raise ConfigError("give a run's folder, or a file of official verdicts with --cases: one of the two")
    if cases is not None:
        if official_form or benchmark or data:
            raise ConfigError("--cases stands alone: --official-form, --benchmark and --data belong to a run")
        return _hold_against(cases)
    assert run is not None
    check_file_to_write(official_form)
    rescored = _rescored(run.expanduser(), benchmark, data, scores_too=official_form is None)
    if official_form is not None:
        _write_official_form(rescored, official_form)
        if rescored.run.config.get("answer_judge") is not None:  # what the judge said stays as it is
            say_json({"official_form": str(official_form)}) if as_json else say(official_form)
            return ANSWERED
    summary = _keep(rescored)
    tell_scores(summary, as_json=as_json)
    if not as_json:
        tell_official(summary)
        if official_form is not None:
            say(official_form)
    return ANSWERED


# Cases


def _hold_against(path: Path) -> int:
    from act2see.benchmarks.official.cases import run_cases

    results = list(run_cases(path))
    differ = [one for one in results if one.problem is not None]
    for one in differ:
        complain(str(one.problem))
    say_json({"cases": len(results), "agree": len(results) - len(differ), "differ": [one.id for one in differ]})
    return MENDABLE if differ else ANSWERED


# A run


@dataclass(frozen=True, slots=True)
class _Rescored:
    """A run, and what became of each of its questions that were asked."""

    run: "Run"
    name: str
    scored: "Sequence[tuple[int, Scored]]"
    """Each with its place in the benchmark's order."""
    before: Mapping[str, dict[str, Any]]
    """The lines of scores.jsonl as they were, by question."""
    not_asked: int
    limit: int | None


def _rescored(folder: Path, benchmark: str | None, data: Path | None, *, scores_too: bool) -> _Rescored:
    from act2see import registry
    from act2see.evaluation import Scored, ShuffledOptions
    from act2see.evaluation import score as score_trace
    from act2see.scores import ERRORS, read_score
    from act2see.store import Run

    run = Run.open(folder)
    if run.command != "eval":
        raise ConfigError(f"{folder} is a run of {run.command!r}: only runs of act2see eval are scored again")
    name, settings, shuffled = _asked_for(run, benchmark, data, scores_too=scores_too)
    registry.check_benchmark(name)
    asked = registry.benchmark(name, settings, folder / "videos")
    if shuffled is not None:
        asked = ShuffledOptions(asked, shuffled)
    traces = {trace.id: trace for trace in map(run.sketch_at, run.places())}
    rows = run.scores() or []
    failed = {one.id: one for one in (read_score(row, where) for where, row in rows) if one.outcome in ERRORS}
    limit = _limit_of(run)
    scored: list[tuple[int, Scored]] = []
    not_asked = 0
    for number, sample in enumerate(asked.samples()):
        trace, before = traces.pop(sample.id, None), failed.get(sample.id)
        if trace is not None and trace.finish:
            scored.append((number, score_trace(asked, sample, trace)))
        elif before is not None:
            scored.append((number, Scored(sample, before.outcome, trace, before.error)))
        elif trace is not None:
            scored.append((number, Scored(sample, "backend_error", trace, "the trace was cut off")))
        else:
            not_asked += limit is None or number < limit
    _note(folder, name, len(scored), not_asked, len(traces))
    is_limited = limit is not None and all(number < limit for number, _ in scored)
    return _Rescored(run, name, scored, {row["id"]: row for _, row in rows}, not_asked, limit if is_limited else None)


def _limit_of(run: "Run") -> int | None:
    """How many questions were asked for with --limit: what lies behind it was left out on purpose."""
    old = run.summary()
    limit = old.get("limit") if isinstance(old, dict) else None
    return limit if isinstance(limit, int) else None


def _note(folder: Path, name: str, scored: int, not_asked: int, left_over: int) -> None:
    if not scored:
        raise ConfigError(f"no trace in {folder} answers a question of {name!r}: is it the data that the run was made with? name them with --data")
    if not_asked:
        complain(f"note: {not_asked} of {scored + not_asked} questions were not asked yet: act2see eval --resume goes on")
    if left_over:
        complain(f"note: {left_over} traces answer no question of {name!r} as it is now")


def _asked_for(run: "Run", benchmark: str | None, data: Path | None, *, scores_too: bool) -> tuple[str, EvalConfig, int | None]:
    """The benchmark that the run was asked for, what decides its questions, and the seed of their options' order, where that is not their own.

    Only the command line names code that is loaded, never a file.
    """
    from act2see.benchmarks.catalogue import BY_NAME
    from act2see.records import optional, read_integer, read_text, read_truth, tuple_of

    config = run.config
    try:
        name = read_text(config.get("benchmark"), "config.benchmark")
        count = optional(read_integer)(config.get("n"), "config.n")
        seed = optional(read_integer)(run.seed, "seed")
        kinds = tuple_of(read_text)(config.get("kind", list(EvalConfig().kind)), "config.kind")
        subtitles = read_truth(config.get("subtitles", False), "config.subtitles")
        lay_at = optional(read_text)(config.get("data"), "config.data")
        judge = optional(read_text)(config.get("answer_judge"), "config.answer_judge")
        shuffled = optional(read_integer)(config.get("shuffle_options"), "config.shuffle_options")
    except StoreError as error:
        raise StoreError(f"{run.folder / 'run.json'}: {error}") from error
    if benchmark is not None and benchmark != name:
        raise ConfigError(f"{run.folder} is a run of {name!r}, not of {benchmark!r}: leave --benchmark out")
    if benchmark is None and name not in BY_NAME:
        raise ConfigError(f"{run.folder} is a run of {name!r}, which is no benchmark of act2see: say --benchmark {name} if you trust that code")
    if judge is not None and scores_too:
        raise ConfigError(f"{run.folder} was scored by the judge {judge!r}, and score asks no model: act2see eval --resume scores it again with it")
    where = data or (Path(lay_at) if lay_at is not None else None)
    return name, EvalConfig(n=count, seed=seed, kind=_kinds(kinds), subtitles=subtitles, data=where), shuffled


def _kinds(named: tuple[str, ...]) -> Any:
    from act2see.synthetic.dataset import KINDS

    if unknown := sorted({*named} - {*KINDS}):
        raise StoreError(f"run.json: config.kind holds {', '.join(unknown)}; known are {', '.join(KINDS)}")
    return named


def _keep(rescored: _Rescored) -> dict[str, Any]:
    """Write scores and summary, each in one step, and give the summary. What else a question's line, or the summary, told of the run stays in it."""
    from act2see.benchmarks.official.report import official_score, official_summary
    from act2see.scores import summarise_scores

    run, scored = rescored.run, rescored.scored
    rows = [(one, one.score(number)) for number, one in scored]
    about = {"benchmark": rescored.name, "frames": run.config.get("frames"), "max_looks": run.config.get("max_looks")}
    about |= {} if rescored.limit is None else {"limit": rescored.limit}
    old = run.summary()
    made_by = {"fingerprint": old["fingerprint"]} if isinstance(old, dict) and "fingerprint" in old else {}
    not_asked = {"not_asked": rescored.not_asked} if rescored.not_asked else {}
    official = official_summary(rescored.name, [(one.sample, one.trace) for one, _ in rows])
    summary = {**about, **summarise_scores(row for _, row in rows), **not_asked, **official, **made_by}
    run.write_scores(rescored.before.get(row.id, {}) | row.row() | official_score(rescored.name, one.sample, one.trace) for one, row in rows)
    run.write_summary(summary)
    return summary


def _write_official_form(rescored: _Rescored, path: Path) -> None:
    from act2see.benchmarks.official.files import official_file

    answered = [(one.sample, one.trace) for _, one in rescored.scored]
    model = next((trace.made_with["model"] for _, trace in answered if trace is not None and "model" in trace.made_with), "act2see")
    text = official_file(rescored.name, answered, model)
    unfinished = path.with_name(f".{path.name}.part")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from error
