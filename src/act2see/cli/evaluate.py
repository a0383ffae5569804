"""`act2see eval`: a benchmark's questions, answered and counted."""

import re
import tempfile
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from act2see.cli.asking import check_ray, check_scope, digest_of, evaluator_here, threads_for
from act2see.cli.exits import ANSWERED
from act2see.cli.official import official_figures, tell_official
from act2see.cli.output import complain, note_questions_with_frames_left_out, progressing, say, tell_faults, tell_scores
from act2see.cli.runs import contents_of, note_answers, note_damaged, videos_in, working_on
from act2see.config import EvalConfig, EvalExecutionConfig, SettingsFile, recorded
from act2see.core.errors import ConfigError, InternalError
from act2see.execution.faults import ERRORS_FILE, Faults, unexpected

if TYPE_CHECKING:
    from act2see.core.interfaces import Benchmark, Sample
    from act2see.core.trace import Cost, Trace
    from act2see.evaluation.evaluator import Evaluator, Scored
    from act2see.evaluation.scores import Score
    from act2see.execution.pool import CircuitBreaker
    from act2see.integrations.ray.cluster import Spread
    from act2see.storage.runs import Place, Run


def evaluate(
    benchmark: Annotated[str, Parameter(help="A name that act2see benchmarks lists, or package.module:Class.")],
    /,
    *,
    settings: Annotated[EvalConfig, Parameter(name="*")] = EvalConfig(),
    asking: Annotated[EvalExecutionConfig, Parameter(name="*")] = EvalExecutionConfig(),
    config: SettingsFile = None,
) -> int:
    """Answer a benchmark's questions as `ask` does, and count.

    The summary goes to stdout. Questions without an answer, cut off or failed stay in the denominator.
    """
    del config
    from act2see import registry
    from act2see.evaluation.evaluator import ShuffledOptions
    from act2see.evaluation.fingerprint import fingerprint, headline
    from act2see.synthetic.scope import FORCED, NOTICE

    shard = _checked(benchmark, settings, asking)
    config_of_run = _config(benchmark, settings, asking)
    with ExitStack() as until_told, tempfile.TemporaryDirectory() as scratch:
        asked = registry.benchmark(benchmark, settings, Path(scratch) / "videos" if settings.out is None else videos_in(settings.out))
        check_scope(asked, settings)
        run = until_told.enter_context(_eval_run(config_of_run, settings, shard)) if settings.out else None
        if asking.shuffle_options is not None:
            asked = ShuffledOptions(asked, asking.shuffle_options)
        with ExitStack() as until_asked:
            spread = until_asked.enter_context(_on_ray(benchmark, asked, settings, asking)) if asking.ray else None
            evaluator = spread.evaluator if spread else evaluator_here(asked, settings, asking)
            models = (evaluator.backend, evaluator.retriever, evaluator.generator)
            made_by = spread.fingerprint(config_of_run, digest_of) if spread else fingerprint(config_of_run, *models, digest_of)
            scores, costs = _with_progress(evaluator, settings, asking, shard, run, spread)
        about = {"benchmark": benchmark, "frames": settings.frames, "max_looks": settings.max_looks}
        about |= {} if asking.limit is None else {"limit": asking.limit}
        about |= {NOTICE: FORCED} if settings.force and registry.scope(settings).backend else {}

        def official() -> dict[str, Any]:
            return {} if run is None or asking.limit is not None else official_figures(benchmark, asked, run, judged=settings.official_judge)

        summary, spent = _counted(about, made_by, scores, costs, run, shard, official)
    errors = [one.error for one in scores if one.error]
    if errors:
        complain(f"note: {len(errors)} of {len(scores)} questions failed; the first: {errors[0]}")
    tell_faults(summary["outcomes"], run and run.folder / ERRORS_FILE)
    note_questions_with_frames_left_out(summary)
    tell_scores(summary, as_json=settings.json)
    if not settings.json:
        tell_official(summary)
        _tell_seconds(spent)
        say(headline(made_by))
    return ANSWERED


# Before the first question


@dataclass(frozen=True, slots=True)
class _Shard:
    """Every `of`-th question, from the `first` on, counted from 1."""

    first: int
    of: int

    @property
    def name(self) -> str:
        return f"{self.first}-of-{self.of}"


def _checked(benchmark: str, settings: EvalConfig, asking: EvalExecutionConfig) -> _Shard | None:
    """Refuse what cannot be, before anything heavy is loaded."""
    from act2see import registry

    registry.check_benchmark(benchmark)
    registry.check_backend(settings.backend)
    registry.check_retriever(settings.retriever)
    registry.check_generator(settings.generator, settings.judge)
    check_ray(asking.ray)
    if settings.resume and settings.out is None:
        raise ConfigError("there is nothing to resume: name the run's folder with --out")
    if asking.shard is None:
        return None
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", asking.shard)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ConfigError(f"--shard is {asking.shard!r}; write i/n, from 1/n to n/n, as in 2/4")
    if settings.out is None:
        raise ConfigError("a shard needs the run that it is a part of: name its folder with --out")
    return _Shard(int(match[1]), int(match[2]))


def _config(benchmark: str, settings: EvalConfig, asking: EvalExecutionConfig) -> dict[str, Any]:
    shuffled = {} if asking.shuffle_options is None else {"shuffle_options": asking.shuffle_options}
    return {"benchmark": benchmark, **recorded(settings, leave_out={"out", "resume", "json", "cache", "official_judge"}), **shuffled}


def _eval_run(config: dict[str, Any], settings: EvalConfig, shard: _Shard | None) -> "AbstractContextManager[Run]":
    """How many questions are wanted may change from one call to the next, but not from one shard to the next."""
    assert settings.out is not None
    about: dict[str, Any] = {"command": "eval", "config": config, "seed": settings.seed}
    if shard is not None:
        return working_on(settings.out, about, resume=False, shard=shard.name)
    return working_on(settings.out, about, resume=settings.resume, may_change=("n",))


# The questions


def _on_ray(benchmark: str, asked: "Benchmark", settings: EvalConfig, asking: EvalExecutionConfig) -> "AbstractContextManager[Spread]":
    from act2see.integrations.ray.cluster import on_ray

    return on_ray(asked, benchmark, settings, asking)


def _with_progress(
    evaluator: "Evaluator", settings: EvalConfig, asking: EvalExecutionConfig, shard: _Shard | None, run: "Run | None", spread: "Spread | None"
) -> "tuple[list[Score], list[Cost]]":
    """Every question's score, in the benchmark's order, and what its answer cost. Each new trace is on the disk before its worker goes on."""
    from act2see.evaluation.evaluator import told_changes
    from act2see.execution.pool import CircuitBreaker, imap_unordered

    damaged: list[str] = []
    there = run.finished(damaged) if run and (settings.resume or shard) else {}
    note_damaged(damaged, "and their questions are asked again")
    before = contents_of(run) if run and settings.resume else {}
    faults = Faults(None if run is None else run.folder, asking.fail_fast)
    work = Work(evaluator, run, there, CircuitBreaker(asking.patience_seconds), faults)
    workers = threads_for(spread.slots if spread else asking.workers) if spread or evaluator.turns else 1
    questions = _questions(evaluator, asking.limit, shard)
    if spread:
        questions = _indexed_ahead(questions, spread, there)
    scores: list[Score] = []
    costs: list[Cost] = []
    try:
        answers = (one for chain in imap_unordered(questions, work, workers) for one in chain)
        with unexpected(BrokenPipeError):
            for score, cost in progressing(answers, "questions", _count(settings, asking, shard)):
                scores.append(score)
                costs += [] if cost is None else [cost]
    except (KeyboardInterrupt, InternalError):
        if run:
            complain(f"what was answered is kept in {run.folder}: go on with --resume")
        raise
    finally:
        if work.changes:
            several = f"{len(work.changes)} of {len(there)} questions are not those that {settings.out} has answers to, and were asked again"
            complain(f"note: {several}: {told_changes(work.changes)}")
    note_answers(before, {one.id: one.content for one in scores if one.id not in work.changes})
    if run and asking.limit is None and shard is None and (others := there.keys() - {one.id for one in scores}):
        complain(f"note: {len(others)} answers in {run.folder} are to questions that are not asked now: they stay there and are not counted")
    return sorted(scores, key=lambda one: one.number), costs


@dataclass(frozen=True, slots=True)
class Work:
    """What is done with a question, in whichever thread: all of its trace that is kept in memory is the score and the cost."""

    evaluator: "Evaluator"
    run: "Run | None"
    there: "dict[str, Place]"
    patience: "CircuitBreaker"
    faults: Faults
    changes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """What of a question was not as it was when the run's trace answered it."""

    def __call__(self, chain: "Sequence[tuple[int, Sample]]") -> "list[tuple[Score, Cost | None]]":
        """The score of each question of a chain, and what its answer cost; one that quotes an earlier answer is asked with it."""
        from act2see.evaluation.evaluator import question_of, quoting, score_of_fault

        asked: dict[str, Trace | None] = {}
        found: list[tuple[Score, Cost | None]] = []
        for number, sample in chain:
            try:
                with unexpected():
                    scored = self._scored(quoting(self.evaluator.benchmark, sample, asked))
                    asked[sample.id] = scored.trace
                    score = replace(scored.score(number), question=question_of(sample))
                    found.append((score, None if scored.trace is None else scored.trace.cost))
            except InternalError as error:
                self.faults.note(sample.id, str(error), error.traceback)
                found.append((score_of_fault(sample, number, error), None))
                continue
            self.faults.note(sample.id, scored.error, scored.traceback)
        return found

    def _scored(self, sample: "Sample") -> "Scored":
        """From its trace where that is there already."""
        from act2see.evaluation.evaluator import changed

        if self.run is not None and sample.id in self.there:
            trace = self.run.sketch_at(self.there[sample.id])
            if not (what := changed(sample, trace)):
                return self.evaluator.score(sample, trace)
            self.changes[sample.id] = what
        scored = self.patience.ask(lambda: self.evaluator.answer(sample), lambda scored: scored.backend_problem)
        if self.run is not None and scored.trace is not None:
            self.run.append(scored.trace)
        return scored


def _questions(evaluator: "Evaluator", limit: int | None, shard: _Shard | None) -> "Iterator[list[tuple[int, Sample]]]":
    """The questions with their places, in chains: a shard has whole ones."""
    from act2see.evaluation.evaluator import chains

    seen: set[str] = set()
    number = 0
    for place, chain in enumerate(chains(evaluator.benchmark, islice(evaluator.benchmark.samples(), limit))):
        for sample in chain:
            if sample.id in seen:
                raise ConfigError(f"the benchmark has two questions with the id {sample.id!r}: each needs one of its own")
            seen.add(sample.id)
        if shard is None or place % shard.of == shard.first - 1:
            yield list(enumerate(chain, start=number))
        number += len(chain)


def _indexed_ahead(questions: "Iterable[list[tuple[int, Sample]]]", spread: "Spread", there: Container[str]) -> "Iterator[list[tuple[int, Sample]]]":
    """The same; as each chain is taken, the indexes of its videos are begun, but for what is answered already."""
    for chain in questions:
        spread.begin((sample for _, sample in chain), there)
        yield chain


def _count(settings: EvalConfig, asking: EvalExecutionConfig, shard: _Shard | None) -> int | None:
    """How many questions there will be at most, as far as it is known."""
    known = [count for count in (settings.n, asking.limit) if count is not None]
    if not known:
        return None
    return min(known) if shard is None else len(range(shard.first - 1, min(known), shard.of))


# After the last question


def _counted(
    about: dict[str, Any],
    made_by: dict[str, Any],
    scores: "list[Score]",
    costs: "list[Cost]",
    run: "Run | None",
    shard: _Shard | None,
    official: Callable[[], dict[str, Any]],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The summary, and what differs from one machine to the next. Both are kept, by the last one of several shards for all of them."""
    from act2see.benchmarks.published import beside
    from act2see.evaluation.scores import summarise_costs, summarise_scores

    if run is not None and shard is not None:
        run.write_scores((one.row() for one in scores), shard=shard.name)
        merged = _merged(run, shard.of)
        if merged is None:
            complain(f"note: this is shard {shard.first} of {shard.of}; the one that ends last writes the summary of all")
            about = {**about, "shard": shard.name}
        else:
            scores, costs, shard = merged, _costs_of(run), None
    theirs = official() if shard is None else {}
    published = beside(about["benchmark"], made_by["settings"])
    summary = {**about, **summarise_scores(scores), **theirs, **({"published": published} if published else {}), "fingerprint": made_by}
    spent = summarise_costs(costs)
    if run is not None and shard is None:
        run.write_scores(one.row() for one in scores)
        run.write_summary(summary, spent)
    return summary, spent


def _merged(run: "Run", shards: int) -> "list[Score] | None":
    """All shards' scores in the benchmark's order; None while not every question has one."""
    from act2see.evaluation.scores import read_score

    parts = [run.scores(_Shard(first, shards).name) for first in range(1, shards + 1)]
    scores = sorted((read_score(row, where) for part in parts for where, row in part or ()), key=lambda one: one.number)
    is_whole = all(part is not None for part in parts) and [one.number for one in scores] == list(range(len(scores)))
    return scores if is_whole else None


def _costs_of(run: "Run") -> "list[Cost]":
    costs = {trace.id: trace.cost for _, trace in run.sketches([])}
    return list(costs.values())


def _tell_seconds(spent: dict[str, Any]) -> None:
    if whole := spent["seconds"]["all"]:
        stages = ", ".join(f"{name} {found['mean']:.2f}" for name, found in spent["seconds"].items() if name != "all")
        took = f"an answer took {whole['mean']:.2f} s (p50 {whole['p50']:.2f}, p90 {whole['p90']:.2f}, p99 {whole['p99']:.2f})"
        say(f"{took}: {stages}" if stages else took)
