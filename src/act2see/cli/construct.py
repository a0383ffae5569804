"""`act2see construct`: a teacher's traces on questions that people have answered, to be filtered and trained on."""

import os
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from act2see.cli.asking import check_ray, check_scope, digest_of, evaluator_here, threads_for
from act2see.cli.exits import ANSWERED, MENDABLE
from act2see.cli.output import complain, note_questions_with_frames_left_out, progressing, say, say_json, tell_faults
from act2see.cli.runs import contents_of, note_answers, note_damaged, videos_in, working_on
from act2see.config import ConstructConfig, ConstructExecutionConfig, SettingsFile, recorded
from act2see.core.errors import ConfigError, InternalError
from act2see.execution.faults import ERRORS_FILE, Faults, unexpected

if TYPE_CHECKING:
    from act2see.core.interfaces import Benchmark, Sample
    from act2see.curation.construct import Constructed, Constructor, Spending
    from act2see.execution.pool import CircuitBreaker
    from act2see.integrations.ray.cluster import Spread
    from act2see.storage.runs import Place, Run

NAMED_VIDEOS = 5
"""So many missing videos are named on the terminal; summary.json names all."""
MAKES_ITS_OWN = "synthetic"
OWN_LICENCES = (MAKES_ITS_OWN, "jsonl")
"""Sources whose licence is not the catalogue's to judge: clips that this package makes, and questions that say it one by one."""


def construct(
    source: Annotated[str, Parameter(help="synthetic, minerva, causalvqa, social-genome, jsonl (with --data), or package.module:Class.")],
    /,
    *,
    settings: Annotated[ConstructConfig, Parameter(name="*")] = ConstructConfig(),
    spending: Annotated[ConstructExecutionConfig, Parameter(name="*")] = ConstructExecutionConfig(),
    config: SettingsFile = None,
) -> int:
    """Let a teacher answer a data set's questions, looking for real, and again where it was wrong. Every try is kept as a trace in --out.

    `act2see filter` then takes the good ones. The person's reasoning is not shown to the teacher. Exit code 1 where the budget ended it.
    """
    del config
    from act2see import registry
    from act2see.curation.construct import Constructor, Spending
    from act2see.evaluation.fingerprint import fingerprint

    _check(source, settings, spending)
    assert settings.out is not None
    asked = registry.source(source, settings, videos_in(settings.out))
    samples = _read(asked, spending.limit)
    check_usable(source, samples, settings.allow)
    check_scope(asked, settings)
    budget = Spending(spending.budget_usd)
    with ExitStack() as until_done:
        run = until_done.enter_context(_run(settings.out, source, settings))
        before = contents_of(run) if settings.resume else {}
        missing = _write_references(run, source, samples)
        spread = until_done.enter_context(_on_ray(source, asked, settings, spending)) if spending.ray else None
        constructor = (
            spread.constructor if spread else Constructor(evaluator_here(asked, settings, spending), settings.again, settings.show_reference)
        )
        if settings.again and "greedy" in constructor.evaluator.backend.made_with.get("decoding", ""):
            complain("note: this teacher decodes greedily, so that another try says the same again: give it a --temperature")
        ended, changes = _with_progress(constructor, samples, run, spending, budget, spread)
        note_answers(before, {one.score.id: one.score.content for one in ended if one.score.id not in changes})
        models = (constructor.evaluator.backend, constructor.evaluator.retriever, constructor.evaluator.generator)
        made_by = spread.fingerprint(run.config, digest_of) if spread else fingerprint(run.config, *models, digest_of)
        summary = _summary(source, samples, ended, run, made_by, missing)
        run.write_scores(one.score.row() for one in ended)
        run.write_summary(summary)
    tell_faults(summary["outcomes"], run.folder / ERRORS_FILE)
    note_questions_with_frames_left_out(summary)
    _tell(summary, budget, as_json=settings.json)
    return ANSWERED if len(ended) == len(samples) else MENDABLE


# Before the first question


def _read(asked: "Benchmark", limit: int | None) -> "list[Sample]":
    """All questions at once, because what speaks against their use is said before anything is paid for."""
    from act2see.benchmarks.synthetic import SyntheticBenchmark

    samples = islice(asked.samples(), limit)
    if not isinstance(asked, SyntheticBenchmark):
        return list(samples)
    return list(progressing(samples, "clips", min(asked.count, limit or asked.count)))


def _check(source: str, settings: ConstructConfig, spending: ConstructExecutionConfig) -> None:
    """Refuse what cannot be, before anything heavy is loaded."""
    from act2see import registry
    from act2see.storage.runs import Run

    registry.check_benchmark(source)
    registry.check_backend(settings.backend)
    registry.check_retriever(settings.retriever)
    registry.check_generator(settings.generator, settings.judge)
    check_ray(spending.ray)
    if settings.out is None:
        raise ConfigError("the traces need a place: name the run's folder with --out")
    if os.path.lexists(settings.out / "run.json") and not settings.resume:  # before the source is read, which may take a while
        raise ConfigError(f"{settings.out} holds a run already: go on with --resume, or give another folder")
    if settings.resume:
        Run.open(settings.out)
    if spending.budget_usd is not None and spending.prices is None:
        raise ConfigError("a budget in dollars needs the price of a token: name a file with --prices (examples/prices.toml)")


def _run(folder: Path, source: str, settings: ConstructConfig) -> "AbstractContextManager[Run]":
    from act2see.evaluation.fingerprint import prompt_digest

    prompts = {rendering: prompt_digest({"rendering": rendering}) for rendering in ("same_turn", "tool_turn", "user_turn")}
    config = {"source": source, **recorded(settings, leave_out={"out", "resume", "json", "cache"}), "prompts": prompts}
    about = {"command": "construct", "config": config, "seed": settings.seed}
    return working_on(folder, about, resume=settings.resume, may_change=("n",))


def check_usable(source: str, samples: "Sequence[Sample]", allowed: Sequence[str]) -> None:
    """Refuse, in one line, what may not be trained on or cannot be verified, unless it is wanted all the same. Raises `ConfigError`."""
    from act2see.benchmarks.catalogue import BY_NAME

    entry, problems = BY_NAME.get(source), {}
    if entry is not None and source not in OWN_LICENCES and entry.training != "yes":
        problems["licence"] = f"it may not be trained on ({entry.why})" if entry.training == "no" else f"nobody has said that it may be ({entry.why})"
    for what, named, unusable in (
        ("answers", "the right answer", [one for one in samples if not one.answer]),
        ("reasoning", "a person's reasoning", [one for one in samples if not one.reasoning]),
    ):
        if unusable:
            problems[what] = f"{len(unusable):,} of {len(samples):,} questions come without {named}"
    missing = [what for what in problems if what not in allowed]
    if missing:
        said = "; ".join(problems[what] for what in missing)
        raise ConfigError(f"{source} cannot make training data as it is: {said}; to go on all the same: --allow {' '.join(missing)}")


def _write_references(run: "Run", source: str, samples: "Sequence[Sample]") -> list[str]:
    """Keep the questions beside the traces; gives the videos that are not there, once each. Raises `ConfigError` for an id that comes twice."""
    from act2see.benchmarks.catalogue import BY_NAME
    from act2see.curation.qa_records import reference, reference_row
    from act2see.storage.runs import SAMPLES

    twice = [name for name, count in Counter(one.id for one in samples).items() if count > 1]
    if twice:
        raise ConfigError(f"the source has two questions with the id {twice[0]!r}: each needs one of its own")
    entry = BY_NAME.get(source)
    licence = "Apache-2.0" if source == MAKES_ITS_OWN else "not stated" if entry is None or source in OWN_LICENCES else entry.licence
    now = {one.id for one in samples}
    # Questions that are not asked this time keep theirs: their traces are still there, and are filtered with the others.
    before = run.rows(SAMPLES) or []
    readable = [row for _, row in before if isinstance(row, dict) and isinstance(row.get("id"), str)]
    if len(readable) < len(before):
        complain(f"note: {len(before) - len(readable)} lines of {run.folder / SAMPLES} are no questions and are left out")
    others = [row for row in readable if row["id"] not in now]
    run.write_rows(SAMPLES, [*(reference_row(reference(one, source, licence)) for one in samples), *others])
    missing = sorted({str(one.video) for one in samples if not os.path.isfile(one.video)})
    if missing:
        named = ", ".join(missing[:NAMED_VIDEOS]) + (f" and {len(missing) - NAMED_VIDEOS} more" if len(missing) > NAMED_VIDEOS else "")
        complain(f"note: {len(missing)} videos are not there, and their questions end as video errors: {named}")
    return missing


# The questions


def _on_ray(source: str, asked: "Benchmark", settings: ConstructConfig, spending: ConstructExecutionConfig) -> "AbstractContextManager[Spread]":
    from act2see.integrations.ray.cluster import on_ray

    return on_ray(asked, source, settings, spending)


def _with_progress(
    constructor: "Constructor",
    samples: "Sequence[Sample]",
    run: "Run",
    spending: ConstructExecutionConfig,
    budget: "Spending",
    spread: "Spread | None",
) -> "tuple[list[Constructed], Collection[str]]":
    """Every question that ended, in the source's order, and those that were asked again because they had changed. Each new trace is on the disk
    before its worker goes on.
    """
    from act2see.evaluation.evaluator import told_changes
    from act2see.execution.pool import CircuitBreaker, imap_unordered

    there = _tries(run, budget)
    work = Work(constructor, run, there, CircuitBreaker(spending.patience_seconds), budget, Faults(run.folder, spending.fail_fast))
    workers = threads_for(spread.slots if spread else spending.workers) if spread or constructor.evaluator.turns else 1
    questions = spread.ahead(samples, there, budget.has_left) if spread else samples
    ended = []
    try:
        for one in progressing(imap_unordered(enumerate(questions), work, workers), "questions", len(samples)):
            ended += [] if one is None else [one]
    except (KeyboardInterrupt, InternalError):
        complain(f"what was answered is kept in {run.folder}: go on with --resume")
        raise
    finally:
        if work.changes:
            several = f"{len(work.changes)} questions are not those that {run.folder} has traces of, and were asked again"
            complain(f"note: {several}: {told_changes(work.changes)}")
    return sorted(ended, key=lambda one: one.score.number), work.changes


@dataclass(frozen=True, slots=True)
class Work:
    """What is done with a question, in whichever thread."""

    constructor: "Constructor"
    run: "Run"
    there: "dict[str, dict[int, Place]]"
    patience: "CircuitBreaker"
    budget: "Spending"
    faults: Faults
    changes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """What of a question was not as it was when the run's traces were made."""

    def __call__(self, question: "tuple[int, Sample]") -> "Constructed | None":
        """How a question ended; None where the budget was spent before it could."""
        from act2see.core.trace import Cost
        from act2see.curation.construct import Constructed
        from act2see.evaluation.evaluator import score_of_fault

        number, sample = question
        try:
            with unexpected():
                ended = self._constructed(number, sample)
        except InternalError as error:
            ended = Constructed(score_of_fault(sample, number, error), Cost(), 1, error.traceback)
        if ended is not None:
            self.faults.note(sample.id, ended.score.error, ended.traceback)
        return ended

    def _constructed(self, number: int, sample: "Sample") -> "Constructed | None":
        from act2see.evaluation.evaluator import changed

        done = {tried: self.run.sketch_at(place) for tried, place in self.there.get(sample.id, {}).items()}
        if what := {one for trace in done.values() for one in changed(sample, trace)}:
            self.changes[sample.id] = tuple(sorted(what))
            done = {tried: trace for tried, trace in done.items() if not changed(sample, trace)}
        return self.constructor.construct(
            sample,
            number,
            done,
            self._keep,
            lambda ask: self.patience.ask(ask, lambda scored: scored.backend_problem),
            self.budget.has_left,
        )

    def _keep(self, trace: "Any") -> None:
        self.budget.add(trace)
        self.run.append(trace)


def _tries(run: "Run", budget: "Spending") -> "dict[str, dict[int, Place]]":
    """Where the tries stand that have ended, by question and number. What failed is tried again; its cost was paid all the same."""
    from act2see.curation.qa_records import sample_and_number

    found: dict[str, dict[int, Place]] = {}
    damaged: list[str] = []
    for place, trace in run.sketches(damaged):
        budget.add(trace)
        if trace.finish:
            sample, number = sample_and_number(trace.id)
            found.setdefault(sample, {})[number] = place
    note_damaged(damaged, "and are tried again; what they cost is not counted")
    return found


# After the last question


def _summary(
    source: str, samples: "Sequence[Sample]", ended: "Sequence[Constructed]", run: "Run", made_by: dict[str, Any], missing: list[str]
) -> dict[str, Any]:
    """What came out, by the questions. What it all cost is told of the filtered run, for each trace that was kept."""
    from act2see.evaluation.scores import summarise_scores

    tries = Counter(one.tries for one in ended)
    return {
        "source": source,
        "questions": len(samples),
        "teacher": run.config["backend"],
        "reference_shown": run.config["show_reference"],
        **summarise_scores(one.score for one in ended),
        "tries": {str(count): tries[count] for count in sorted(tries)},
        "missing_videos": missing,
        "fingerprint": made_by,
    }


def _tell(summary: dict[str, Any], budget: "Spending", *, as_json: bool) -> None:
    if as_json:
        say_json({**summary, "dollars": round(budget.dollars, 6)})
    else:
        say(f"{summary['n']} of {summary['questions']} questions of {summary['source']}: " + (_counts(summary["outcomes"]) or "none"))
        tries = ", ".join(f"{count} in {number}" for number, count in summary["tries"].items()) or "none"
        say(f"tries that it took: {tries}; {summary['call_rate']['all'] or 0:.1%} looked in their last one")
        if budget.dollars:
            say(f"{budget.dollars:.4f} dollars spent")
    if summary["n"] < summary["questions"]:
        complain(f"stopped: {budget.dollars:.4f} of {budget.budget} dollars are spent; go on with --resume and a larger --budget-usd")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())
