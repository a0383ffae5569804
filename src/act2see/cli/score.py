"""`act2see score`: what is on the disk, scored again; and our rules against cases of official verdicts."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from act2see.cli.exits import ANSWERED, MENDABLE
from act2see.cli.official import tell_official
from act2see.cli.output import complain, say, say_json, tell_scores
from act2see.cli.runs import note_answers, note_damaged
from act2see.config import EvalConfig
from act2see.config.checks import check_file_to_write
from act2see.core.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from act2see.evaluation.evaluator import Scored
    from act2see.evaluation.scores import Score
    from act2see.storage.runs import Run

MOST_QUESTIONS = 100_000
"""A run's file may say any number. Our choice."""


def score(
    run: Annotated[Path | None, Parameter(help="A run's folder, as eval --out wrote it.")] = None,
    /,
    *,
    cases: Annotated[Path | None, Parameter(help="File of official verdicts, a JSON object a line, to hold our rules against.")] = None,
    official_form: Annotated[Path | None, Parameter(help="File to write the run's answers into, as the official script takes them.")] = None,
    benchmark: Annotated[str | None, Parameter(help="Needed for a run of your own class: package.module:Class.")] = None,
    data: Annotated[Path | None, Parameter(help="Where the benchmark's data lie: a run's own word for it is not opened.")] = None,
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
    rescored = _rescored(Path(os.path.expanduser(run)), benchmark, data, scores_too=official_form is None)
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
    words: Mapping[str, str]
    """Of each question that the benchmark has, `Score.question`."""
    before: Mapping[str, dict[str, Any]]
    """The lines of scores.jsonl as they were, by question."""
    not_asked: int
    limit: int | None


def _rescored(folder: Path, benchmark: str | None, data: Path | None, *, scores_too: bool) -> _Rescored:
    from act2see import registry
    from act2see.evaluation.evaluator import Scored, ShuffledOptions, answered, changed, content_of, question_of
    from act2see.evaluation.evaluator import score as score_trace
    from act2see.evaluation.scores import ERRORS
    from act2see.storage.runs import Run

    run = Run.open(folder)
    if run.command != "eval":
        raise ConfigError(f"{folder} is a run of {run.command!r}: only runs of act2see eval are scored again")
    name, settings, shuffled = _asked_for(run, benchmark, data, scores_too=scores_too)
    registry.check_benchmark(name)
    asked = registry.benchmark(name, settings, folder / "videos", makes_videos=False)
    if shuffled is not None:
        asked = ShuffledOptions(asked, shuffled)
    damaged: list[str] = []
    traces = {trace.id: trace for _, trace in run.sketches(damaged)}
    scores, rows = _scores(run)
    failed = {name: one for name, one in scores.items() if one.outcome in ERRORS}
    _refuse_empty(folder, traces, failed, damaged)
    limit = _limit_of(run)
    found: list[tuple[int, Scored]] = []
    other: dict[str, tuple[str, ...]] = {}
    words: dict[str, str] = {}
    not_asked = 0
    for number, (as_it_is, sample, trace) in enumerate(answered(asked, traces)):
        words[sample.id] = question_of(as_it_is)
        before = failed.get(sample.id)
        if trace is not None and (what := changed(sample, trace)):
            other[sample.id] = what
        elif trace is not None and trace.finish:
            found.append((number, score_trace(asked, sample, trace)))
        elif before is not None:
            found.append((number, Scored(sample, before.outcome, trace, before.error)))
        elif trace is not None:
            found.append((number, Scored(sample, "backend_error", trace, "the trace was cut off")))
        else:
            not_asked += limit is None or number < limit
    _refuse_wrong(folder, name, len(found), other, damaged if not_asked else [])
    note_damaged(damaged, "and each of their questions has another answer")
    _note(folder, name, len(found), not_asked, len(traces.keys() - {one.sample.id for _, one in found}))
    note_answers({name: one.content for name, one in scores.items()}, {one.sample.id: content_of(one.sample) for _, one in found})
    is_limited = limit is not None and all(number < limit for number, _ in found)
    return _Rescored(run, name, found, words, rows, not_asked, limit if is_limited else None)


def _scores(run: "Run") -> "tuple[dict[str, Score], dict[str, dict[str, Any]]]":
    """What was kept of each question when it was scored, and the whole lines. A damaged line is passed over: it is made anew."""
    from act2see.evaluation.scores import read_score

    damaged: list[str] = []
    scores: dict[str, Score] = {}
    rows: dict[str, dict[str, Any]] = {}
    for where, row in run.scores(damaged=damaged) or []:
        try:
            one = read_score(row, where)
        except StoreError as error:
            damaged.append(str(error))
            continue
        scores[one.id], rows[one.id] = one, row
    if damaged:
        complain(f"note: {len(damaged)} scores cannot be read and are made anew where there is a trace; the first: {damaged[0]}")
    return scores, rows


def _limit_of(run: "Run") -> int | None:
    """How many questions were asked for with --limit: what lies behind it was left out on purpose."""
    old = run.summary()
    limit = old.get("limit") if isinstance(old, dict) else None
    return limit if isinstance(limit, int) and not isinstance(limit, bool) else None


def _refuse_empty(folder: Path, traces: Mapping[str, object], failed: Mapping[str, object], damaged: Sequence[str]) -> None:
    if damaged and not traces:
        raise StoreError(f"none of the {len(damaged)} traces in {folder} can be read; the first: {damaged[0]}")
    if not traces and not failed:
        raise ConfigError(f"{folder} holds no answer yet: there is nothing to score; act2see eval --resume asks the questions")


def _refuse_wrong(folder: Path, name: str, scored: int, other: Mapping[str, tuple[str, ...]], damaged: Sequence[str]) -> None:
    """Refuse a score that would not be the run's."""
    from act2see.evaluation.evaluator import told_changes

    again = "or ask them again with act2see eval --resume"
    if other:
        several = f"{len(other)} of {scored + len(other)} questions are not those that {folder} has answers to: {told_changes(other)}"
        raise ConfigError(f"{several}; give the data as they were with --data, {again}")
    if damaged:
        raise StoreError(f"{len(damaged)} traces cannot be read, and their questions have no other answer; the first: {damaged[0]}; mend it, {again}")
    if not scored:
        raise ConfigError(f"no trace in {folder} answers a question of {name!r}: is it the data that the run was made with? name them with --data")


def _note(folder: Path, name: str, scored: int, not_asked: int, left_over: int) -> None:
    if not_asked:
        complain(f"note: {not_asked} of {scored + not_asked} questions were not asked yet: act2see eval --resume goes on")
    if left_over:
        complain(f"note: {left_over} traces answer no question of {name!r} as it is now")


def _asked_for(run: "Run", benchmark: str | None, data: Path | None, *, scores_too: bool) -> tuple[str, EvalConfig, int | None]:
    """The benchmark that the run was asked for, what decides its questions, and the seed of their options' order, where that is not their own.

    Only the command line names code that is loaded and data that are read, never a file: the run may be a stranger's.
    """
    from act2see.benchmarks.catalogue import BY_NAME
    from act2see.storage.codec import optional, read_count, read_integer, read_text, read_truth, shown, tuple_of

    config = run.config
    try:
        name = read_text(config.get("benchmark"), "config.benchmark")
        count = optional(read_count)(config.get("n"), "config.n")
        seed = optional(read_integer)(run.seed, "seed")
        kinds = tuple_of(read_text)(config.get("kind", list(EvalConfig().kind)), "config.kind")
        subtitles = read_truth(config.get("subtitles", False), "config.subtitles")
        lay_at = optional(read_text)(config.get("data"), "config.data")
        judge = optional(read_text)(config.get("answer_judge"), "config.answer_judge")
        shuffled = optional(read_integer)(config.get("shuffle_options"), "config.shuffle_options")
        given: Any = read_text(config.get("given", EvalConfig().given), "config.given")
    except StoreError as error:
        raise StoreError(f"{run.folder / 'run.json'}: {error}") from error
    if (count or 0) > MOST_QUESTIONS:
        raise StoreError(f"{run.folder / 'run.json'}: config.n is {count:,}; at most {MOST_QUESTIONS:,} questions are gone through")
    if benchmark is not None and benchmark != name:
        raise ConfigError(f"{run.folder} is a run of {name!r}, not of {benchmark!r}: leave --benchmark out")
    if benchmark is None and name not in BY_NAME:
        raise ConfigError(f"{run.folder} is a run of {name!r}, which is no benchmark of act2see: say --benchmark {name} if you trust that code")
    if judge is not None and scores_too:
        raise ConfigError(f"{run.folder} was scored by the judge {judge!r}, and score asks no model: act2see eval --resume scores it again with it")
    if lay_at is not None and data is None:
        raise ConfigError(f"{run.folder} was made with the data in {shown(lay_at)}: name them with --data; a run's folder does not say what is read")
    return name, EvalConfig(n=count, seed=seed, kind=_kinds(run, kinds), subtitles=subtitles, given=given, data=data), shuffled


def _kinds(run: "Run", named: tuple[str, ...]) -> Any:
    from act2see.synthetic.dataset import KINDS

    if not named or {*named} - {*KINDS}:
        raise StoreError(f"{run.folder / 'run.json'}: config.kind names {', '.join(map(repr, named)) or 'none'}; known are {', '.join(KINDS)}")
    return named


def _keep(rescored: _Rescored) -> dict[str, Any]:
    """Write scores and summary, each in one step, and give the summary. What else a question's line, or the summary, told of the run stays in it."""
    from act2see.benchmarks.official.report import official_score, official_summary
    from act2see.evaluation.scores import summarise_scores

    run, scored = rescored.run, rescored.scored
    rows = [(one, replace(one.score(number), question=rescored.words[one.sample.id])) for number, one in scored]
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
    from act2see.core.errors import disk_reason
    from act2see.storage.atomic import replace_file

    answered = [(one.sample, one.trace) for _, one in rescored.scored]
    model = next((trace.made_with["model"] for _, trace in answered if trace is not None and "model" in trace.made_with), "act2see")
    text = official_file(rescored.name, answered, model)
    try:
        replace_file(path, text.encode())
    except OSError as error:
        raise StoreError(f"cannot write {path}: {disk_reason(error)}") from error
