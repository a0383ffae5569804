"""`act2see score`: what is on the disk, scored again; and our rules against cases of official verdicts."""

import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from act2see.cli.checks import check_file_to_write
from act2see.cli.exits import ANSWERED, MENDABLE
from act2see.config import EvalConfig
from act2see.errors import BackendError, ConfigError, StoreError
from act2see.output import complain, tell_scores

if TYPE_CHECKING:
    from act2see.chat import Tool
    from act2see.evaluation import Scored
    from act2see.interfaces import Benchmark, Continuation, Sample
    from act2see.store import Run
    from act2see.trace import Trace


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
    rescored = _rescored(run.expanduser(), benchmark, data)
    if official_form is not None:
        _write_official_form(rescored, official_form)
    summary = _keep(rescored)
    tell_scores(summary, as_json=as_json)
    if not as_json:
        _tell_official(summary)
        if official_form is not None:
            print(official_form)
    return ANSWERED


# Cases


def _hold_against(path: Path) -> int:
    from act2see.benchmarks.official.cases import run_cases

    results = list(run_cases(path))
    differ = [one for one in results if one.problem is not None]
    for one in differ:
        complain(str(one.problem))
    print(json.dumps({"cases": len(results), "agree": len(results) - len(differ), "differ": [one.id for one in differ]}))
    return MENDABLE if differ else ANSWERED


# A run


@dataclass(frozen=True, slots=True)
class _Rescored:
    """A run, and what became of each of its questions that were asked."""

    run: "Run"
    name: str
    benchmark: "Benchmark"
    scored: "Sequence[Scored]"
    not_asked: int


class _NoModel:
    """Stands where an evaluation has its model: a rescoring asks none."""

    made_with: Mapping[str, str] = {}

    def decode(self, trace: "Trace", tools: "Sequence[Tool]") -> "Generator[str, None, Continuation]":
        yield from ()
        raise BackendError("a rescoring asks no model")


def _rescored(folder: Path, benchmark: str | None, data: Path | None) -> _Rescored:
    from act2see import registry
    from act2see.evaluation import Evaluator
    from act2see.store import Run

    run = Run.open(folder)
    if run.command != "eval":
        raise ConfigError(f"{folder} is a run of {run.command!r}: only runs of act2see eval are scored again")
    name, settings = _asked_for(run, benchmark, data)
    registry.check_benchmark(name)
    asked = registry.benchmark(name, settings, folder / "videos")
    traces = {trace.id: trace for trace in (run.trace_at(place, blank=True) for place in run.places())}
    failed = _failed_before(folder)
    evaluator = Evaluator(asked, _NoModel(), None)
    scored: list[Scored] = []
    not_asked = 0
    for sample in asked.samples():
        trace = traces.pop(sample.id, None)
        if trace is not None and trace.finish:
            scored.append(evaluator.score(sample, trace))
        elif trace is not None or sample.id in failed:
            scored.append(_failed(sample, trace, failed.get(sample.id, ("backend_error", "the trace was cut off"))))
        else:
            not_asked += 1
    _note(folder, name, scored, not_asked, len(traces))
    return _Rescored(run, name, asked, scored, not_asked)


def _failed(sample: "Sample", trace: "Trace | None", why: tuple[str, str | None]) -> "Scored":
    from act2see.evaluation import Scored

    return Scored(sample, "video_error" if why[0] == "video_error" else "backend_error", trace, why[1])


def _note(folder: Path, name: str, scored: "Sequence[Scored]", not_asked: int, left_over: int) -> None:
    if not scored:
        raise ConfigError(f"no trace in {folder} answers a question of {name!r}: is it the data that the run was made with? name them with --data")
    if not_asked:
        complain(f"note: {not_asked} of {len(scored) + not_asked} questions were not asked yet: act2see eval --resume goes on")
    if left_over:
        complain(f"note: {left_over} traces answer no question of {name!r} as it is now")


def _asked_for(run: "Run", benchmark: str | None, data: Path | None) -> tuple[str, EvalConfig]:
    """The benchmark that the run was asked for, with what decides its questions. Only the command line names code that is loaded, never a file."""
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
    except StoreError as error:
        raise StoreError(f"{run.folder / 'run.json'}: {error}") from error
    if benchmark is not None and benchmark != name:
        raise ConfigError(f"{run.folder} is a run of {name!r}, not of {benchmark!r}: leave --benchmark out")
    if benchmark is None and name not in BY_NAME:
        raise ConfigError(f"{run.folder} is a run of {name!r}, which is no benchmark of act2see: say --benchmark {name} if you trust that code")
    where = data or (Path(lay_at) if lay_at is not None else None)
    return name, EvalConfig(n=count, seed=seed, kind=_kinds(kinds), subtitles=subtitles, data=where)


def _kinds(named: tuple[str, ...]) -> Any:
    from act2see.synthetic.dataset import KINDS

    if unknown := sorted({*named} - {*KINDS}):
        raise StoreError(f"run.json: config.kind holds {', '.join(unknown)}; known are {', '.join(KINDS)}")
    return named


def _failed_before(folder: Path) -> dict[str, tuple[str, str | None]]:
    """The questions that ended without a trace or in the middle of one, with how and why, as the run's own scores say."""
    from act2see.records import optional, parse_json, read_text

    path = folder / "scores.jsonl"
    found: dict[str, tuple[str, str | None]] = {}
    try:
        lines = path.read_bytes().splitlines() if path.exists() else []
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}") from error
    for number, line in enumerate(lines, start=1):
        try:
            row = parse_json(line)
            if not isinstance(row, dict):
                raise StoreError("an object is expected")
            outcome = read_text(row.get("outcome"), "outcome")
            if outcome.endswith("_error"):
                found[read_text(row.get("id"), "id")] = (outcome, optional(read_text)(row.get("error"), "error"))
        except StoreError as error:
            raise StoreError(f"{path}:{number}: {error}") from error
    return found


def _keep(rescored: _Rescored) -> dict[str, Any]:
    """Write scores and summary, each in one step, and give the summary."""
    from act2see.benchmarks.official.report import official_score, official_summary
    from act2see.evaluation import summarise

    run, scored = rescored.run, rescored.scored
    about = {"benchmark": rescored.name, "frames": run.config.get("frames"), "max_looks": run.config.get("max_looks")}
    not_asked = {"not_asked": rescored.not_asked} if rescored.not_asked else {}
    official = official_summary(rescored.name, rescored.benchmark, [(one.sample, one.trace) for one in scored])
    summary = {**about, **summarise(scored), **not_asked, **official}
    run.write_scores(
        {"id": one.sample.id, "kind": one.sample.kind, "outcome": one.outcome, "error": one.error}
        | official_score(rescored.name, one.sample, one.trace)
        for one in scored
    )
    run.write_summary(summary)
    return summary


def _write_official_form(rescored: _Rescored, path: Path) -> None:
    from act2see.benchmarks.official.files import official_file

    answered = [(one.sample, one.trace) for one in rescored.scored]
    model = next((trace.made_with["model"] for _, trace in answered if trace is not None and "model" in trace.made_with), "act2see")
    text = official_file(rescored.name, answered, model)
    unfinished = path.with_name(f".{path.name}.part")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from error


def _tell_official(summary: Mapping[str, Any]) -> None:
    if official := summary.get("official"):
        print(f"official: {_share(official['accuracy'])} of {official['n']}, {official['left_out']} left out ({official['source']})")
    if guesses := summary.get("baselines"):
        print("without looking: " + ", ".join(f"{name} {_share(share)}" for name, share in guesses["ours"].items()))


def _share(value: float | None) -> str:
    return "nothing" if value is None else f"{value:.1%}"
