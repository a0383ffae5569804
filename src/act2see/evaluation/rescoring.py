"""Rescores a run's stored traces without a model, and tests the official rules on recorded official scores."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from msgspec import Struct

from act2see import registry
from act2see.benchmarks.catalogue import BY_NAME
from act2see.benchmarks.official.cases import Result, run_cases
from act2see.benchmarks.official.files import official_file
from act2see.benchmarks.official.report import official_score, official_summary
from act2see.config import EvalConfig, ScoreConfig
from act2see.config.checks import check_file_to_write
from act2see.core.errors import ConfigError, StoreError, disk_reason
from act2see.core.interfaces import Benchmark
from act2see.core.trace import Trace
from act2see.evaluation.evaluator import Scored, ShuffledOptions, answered, changed, content_of, describe_changes, question_of
from act2see.evaluation.evaluator import score as score_trace
from act2see.evaluation.runner import warn_of_answers, warn_of_damage
from act2see.evaluation.scores import ERRORS, Score, read_score, summarise_scores
from act2see.execution.progress import ProgressCallback, counted
from act2see.storage.atomic import placed, replace_file
from act2see.storage.codec import shown
from act2see.storage.runs import JSON, Run
from act2see.storage.typed_json import Count, converted
from act2see.synthetic.dataset import KINDS, Kind

MOST_QUESTIONS = 100_000
"""A run's file may say any number. Our choice."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ScoreResult:
    """The result of rescoring a run."""

    folder: Path
    questions: int
    """Number of scored questions."""
    not_asked: int
    summary: Mapping[str, JSON] | None
    """What summary.json holds; None where a judge had scored the run: then only the official form was written, and its scores stay as they are."""
    official_form: Path | None


@dataclass(frozen=True, slots=True)
class CasesResult:
    """The result of testing the official rules on a file of cases."""

    results: tuple[Result, ...]

    @property
    def differ(self) -> tuple[Result, ...]:
        """The cases with a different score by our rule, and the invalid lines."""
        return tuple(one for one in self.results if one.problem is not None)


def hold_against(cases: Path) -> CasesResult:
    """Test our rules on cases with official scores. Raises `ConfigError` for a file that is unreadable or has no case."""
    return CasesResult(tuple(run_cases(cases)))


def score(run: Run | Path | str, options: ScoreConfig | None = None, *, progress: ProgressCallback | None = None) -> ScoreResult:
    """Rewrite scores.jsonl and summary.json of a run of `act2see eval` (or its folder) from its traces, and the file `options.official_form`.

    Notes go to the log. Raises `ConfigError` and `StoreError` for a run that cannot be scored, whose files then stay as they are.
    """
    options = options or ScoreConfig()
    check_file_to_write(options.official_form, run=run.folder if isinstance(run, Run) else Path(run))
    opened = Run.of(run)
    if opened.command != "eval":
        raise ConfigError(f"{opened.folder} is a run of {opened.command!r}: only runs of act2see eval can be rescored")
    asked = _Asked.of(opened, options)
    rescored = _rescored(opened, asked, progress)
    summary: Mapping[str, JSON] | None = None
    if options.official_form is not None:
        _write_official_form(rescored, options.official_form)
    if not asked.has_judge:
        summary = _keep(rescored)
    return ScoreResult(opened.folder, len(rescored.scored), rescored.not_asked, summary, options.official_form)


# Benchmark and settings of the run


class _Config(Struct):
    benchmark: str
    n: Count | None = None
    kind: tuple[str, ...] = EvalConfig().kind
    subtitles: bool = False
    data: str | None = None
    answer_judge: str | None = None
    shuffle_options: int | None = None
    given: Literal["own", "right"] = EvalConfig().given


class _AboutRun(Struct):
    config: _Config
    seed: int | None


@dataclass(frozen=True, slots=True)
class _Asked:
    """The run's benchmark."""

    name: str
    benchmark: Benchmark
    has_judge: bool
    """One scored the run, which is not asked again."""
    n: int | None
    """How many of the benchmark's questions were asked for; None for all."""

    @classmethod
    def of(cls, run: Run, options: ScoreConfig) -> "_Asked":
        """Only the options name code that is loaded and data that are read, never a file: the run may be a stranger's."""
        with placed(str(run.folder / "run.json")):
            about = converted({"config": run.config, "seed": run.seed}, _AboutRun)
            config = about.config
            if (config.n or 0) > MOST_QUESTIONS:
                raise StoreError(f"config.n is {config.n:,}; at most {MOST_QUESTIONS:,} questions are supported")
            kinds = _kinds(config.kind)
        name, judge = config.benchmark, config.answer_judge
        if options.benchmark is not None and options.benchmark != name:
            raise ConfigError(f"{run.folder} is a run of {name!r}, not of {options.benchmark!r}: remove --benchmark")
        if options.benchmark is None and name not in BY_NAME:
            raise ConfigError(
                f"{run.folder} is a run of {name!r}, which is not a benchmark of act2see: add --benchmark {name} if you trust that code"
            )
        if judge is not None and options.official_form is None:
            raise ConfigError(f"{run.folder} was scored by the judge {judge!r}, and score runs no model: rescore it with act2see eval --resume")
        if config.data is not None and options.data is None:
            raise ConfigError(
                f"{run.folder} used the data in {shown(config.data)}: give their folder with --data; paths from a run folder are never opened"
            )
        settings = EvalConfig(n=config.n, seed=about.seed, kind=kinds, subtitles=config.subtitles, given=config.given, data=options.data)
        registry.check_benchmark(name)
        benchmark = registry.benchmark(name, settings, run.folder / "videos", makes_videos=False)
        if config.shuffle_options is not None:
            benchmark = ShuffledOptions(benchmark, config.shuffle_options)
        return cls(name, benchmark, judge is not None, config.n)


def _kinds(named: tuple[str, ...]) -> tuple[Kind, ...]:
    if not named or {*named} - {*KINDS}:
        raise StoreError(f"config.kind names {', '.join(map(repr, named)) or 'none'}; known are {', '.join(KINDS)}")
    return tuple(kind for name in named for kind in KINDS if kind == name)


# Its questions


@dataclass(frozen=True, slots=True)
class _Rescored:
    """A run with the outcomes of its questions."""

    run: Run
    name: str
    scored: Sequence[tuple[int, Scored]]
    """Each with its index in the benchmark's order."""
    words: Mapping[str, str]
    """Of each question that the benchmark has, `Score.question`."""
    before: Mapping[str, Mapping[str, JSON]]
    """The lines of scores.jsonl as they were, by question."""
    not_asked: int
    limit: int | None


def _rescored(run: Run, asked: _Asked, progress: ProgressCallback | None) -> _Rescored:
    damaged: list[str] = []
    traces: dict[str, Trace] = {trace.id: trace for _, trace in run.sketches(damaged)}
    scores, rows = _scores(run)
    failed = {name: one for name, one in scores.items() if one.outcome in ERRORS}
    _refuse_empty(run.folder, traces, failed, damaged)
    limit = _limit_of(run)
    found: list[tuple[int, Scored]] = []
    other: dict[str, tuple[str, ...]] = {}
    words: dict[str, str] = {}
    not_asked = 0
    questions = counted(answered(asked.benchmark, traces), progress, "questions scored", None)
    for number, (as_it_is, sample, trace) in enumerate(questions):
        words[sample.id] = question_of(as_it_is)
        before = failed.get(sample.id)
        if trace is not None and (what := changed(sample, trace)):
            other[sample.id] = what
        elif trace is not None and trace.finish:
            found.append((number, score_trace(asked.benchmark, sample, trace)))
        elif before is not None:
            found.append((number, Scored(sample, before.outcome, trace, before.error)))
        elif trace is not None:
            found.append((number, Scored(sample, "backend_error", trace, "the trace was cut off")))
        else:
            not_asked += limit is None or number < limit
    _refuse_wrong(run.folder, asked.name, len(found), other, damaged if not_asked else [])
    warn_of_damage(damaged, "and each of their questions has another answer")
    _warn(run.folder, asked, len(found), not_asked, len(traces.keys() - {one.sample.id for _, one in found}))
    warn_of_answers({name: one.content for name, one in scores.items()}, {one.sample.id: content_of(one.sample) for _, one in found})
    is_limited = limit is not None and all(number < limit for number, _ in found)
    return _Rescored(run, asked.name, found, words, rows, not_asked, limit if is_limited else None)


def _scores(run: Run) -> tuple[dict[str, Score], dict[str, Mapping[str, JSON]]]:
    """What was kept of each question when it was scored, and the whole lines. A damaged line is passed over: it is made anew."""
    damaged: list[str] = []
    scores: dict[str, Score] = {}
    rows: dict[str, Mapping[str, JSON]] = {}
    for where, row in run.scores(damaged=damaged) or []:
        try:
            one = read_score(row, where)
        except StoreError as error:
            damaged.append(str(error))
            continue
        scores[one.id], rows[one.id] = one, row if isinstance(row, Mapping) else {}
    if damaged:
        _log.warning("%d scores are unreadable and recomputed if there is a trace; the first: %s", len(damaged), damaged[0])
    return scores, rows


def _limit_of(run: Run) -> int | None:
    """The run's --limit: later questions were skipped on purpose."""
    old = run.summary()
    limit = old.get("limit") if isinstance(old, dict) else None
    return limit if isinstance(limit, int) and not isinstance(limit, bool) else None


def _refuse_empty(folder: Path, traces: Mapping[str, object], failed: Mapping[str, object], damaged: Sequence[str]) -> None:
    if damaged and not traces:
        raise StoreError(f"none of the {len(damaged)} traces in {folder} is readable; the first: {damaged[0]}")
    if not traces and not failed:
        raise ConfigError(f"{folder} has no answers to score yet: run act2see eval --resume")


def _refuse_wrong(folder: Path, name: str, scored: int, other: Mapping[str, tuple[str, ...]], damaged: Sequence[str]) -> None:
    """Refuse a score that would not be the run's."""
    again = "or ask them again with act2see eval --resume"
    if other:
        several = f"{len(other)} of {scored + len(other)} questions differ from those answered in {folder}: {describe_changes(other)}"
        raise ConfigError(f"{several}; give the original data with --data, {again}")
    if damaged:
        raise StoreError(
            f"{len(damaged)} traces are unreadable, and their questions have no other answer; the first: {damaged[0]}; repair it, {again}"
        )
    if not scored:
        raise ConfigError(f"no trace in {folder} answers a question of {name!r}: are these the data that the run used? give their folder with --data")


def _warn(folder: Path, asked: _Asked, scored: int, not_asked: int, left_over: int) -> None:
    if not_asked:
        _log.warning("%d of %d questions have not been run yet: continue with act2see eval --resume", not_asked, scored + not_asked)
    if left_over and asked.n is not None:  # the run may have been resumed with fewer questions
        _log.warning("%d answers in %s are to questions outside this selection; they are kept, but not counted", left_over, folder)
    elif left_over:
        _log.warning("%d traces answer no current question of %r", left_over, asked.name)


# Output


def _keep(rescored: _Rescored) -> dict[str, JSON]:
    """Write scores and summary, each in one step, and give the summary. What else a question's line, or the summary, told of the run stays in it."""
    run, scored = rescored.run, rescored.scored
    rows = [(one, replace(one.score(number), question=rescored.words[one.sample.id])) for number, one in scored]
    about = {"benchmark": rescored.name, "frames": run.config.get("frames"), "max_looks": run.config.get("max_looks")}
    about |= {} if rescored.limit is None else {"limit": rescored.limit}
    old = run.summary()
    made_by = {"fingerprint": old["fingerprint"]} if isinstance(old, dict) and "fingerprint" in old else {}
    not_asked = {"not_asked": rescored.not_asked} if rescored.not_asked else {}
    official = official_summary(rescored.name, [(one.sample, one.trace) for one, _ in rows])
    summary = {**about, **summarise_scores(row for _, row in rows), **not_asked, **official, **made_by}
    run.write_scores({**rescored.before.get(row.id, {}), **row.row(), **official_score(rescored.name, one.sample, one.trace)} for one, row in rows)
    run.write_summary(summary)
    return summary


def _write_official_form(rescored: _Rescored, path: Path) -> None:
    answered = [(one.sample, one.trace) for _, one in rescored.scored]
    model = next((trace.made_with["model"] for _, trace in answered if trace is not None and "model" in trace.made_with), "act2see")
    text = official_file(rescored.name, answered, model)
    try:
        replace_file(path, text.encode())
    except OSError as error:
        raise StoreError(f"cannot write {path}: {disk_reason(error)}") from error
