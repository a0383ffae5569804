"""`act2see eval`: a benchmark's questions, answered and counted."""

import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from act2see.cli.exits import ANSWERED
from act2see.config import AskingConfig, EvalConfig, SettingsFile, recorded
from act2see.errors import ConfigError, StoreError
from act2see.output import complain, progressing, tell_scores

if TYPE_CHECKING:
    from threading import Semaphore

    from act2see.evaluation import Evaluator, Scored
    from act2see.interfaces import Backend, Sample
    from act2see.scores import Score
    from act2see.store import Place, Run
    from act2see.trace import Cost
    from act2see.workers import Patience

WAITS_FOR_A_SERVER = "openai:"
"""Backends named so can be asked from several threads. Any other says so itself, by an attribute `concurrent` that is true."""


def evaluate(
    benchmark: Annotated[str, Parameter(help="synthetic, or package.module:Class.")],
    /,
    *,
    settings: Annotated[EvalConfig, Parameter(name="*")] = EvalConfig(),
    asking: Annotated[AskingConfig, Parameter(name="*")] = AskingConfig(),
    config: SettingsFile = None,
) -> int:
    """Answer a benchmark's questions as `ask` does, and count.

    The summary goes to stdout. Questions without an answer, cut off or failed stay in the denominator.
    """
    del config
    from act2see import registry
    from act2see.evaluation import Evaluator, ShuffledOptions
    from act2see.fingerprint import fingerprint, headline

    shard = _checked(benchmark, settings, asking)
    config_of_run = _config(benchmark, settings, asking)
    run = _eval_run(config_of_run, settings, shard) if settings.out else None
    with tempfile.TemporaryDirectory() as scratch:
        asked = registry.benchmark(benchmark, settings, (settings.out or Path(scratch)) / "videos")
        if asking.shuffle_options is not None:
            asked = ShuffledOptions(asked, asking.shuffle_options)
        backend = registry.backend(settings.backend, settings)
        retriever = registry.looker(settings) if settings.max_looks or settings.insert else None
        generator = registry.imaginer(settings, retriever)
        limits = {"fps": settings.fps, "insert": settings.insert, **registry.limits(settings)}
        evaluator = Evaluator(asked, backend, retriever, generator, turns=_turns(backend, settings.backend, asking.workers), **limits)
        made_by = fingerprint(config_of_run, backend, retriever, generator, _digest_of)
        scores, costs = _with_progress(evaluator, settings, asking, shard, run)
    about = {"benchmark": benchmark, "frames": settings.frames, "max_looks": settings.max_looks}
    about |= {} if asking.limit is None else {"limit": asking.limit}
    summary, spent = _counted(about, made_by, scores, costs, run, shard)
    errors = [one.error for one in scores if one.error]
    if errors:
        complain(f"note: {len(errors)} of {len(scores)} questions failed; the first: {errors[0]}")
    tell_scores(summary, as_json=settings.json)
    if not settings.json:
        _tell_seconds(spent)
        print(headline(made_by))
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


def _checked(benchmark: str, settings: EvalConfig, asking: AskingConfig) -> _Shard | None:
    """Refuse what cannot be, before anything heavy is loaded."""
    from act2see import registry

    registry.check_benchmark(benchmark)
    registry.check_backend(settings.backend)
    registry.check_retriever(settings.retriever)
    registry.check_generator(settings.generator, settings.judge)
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


def _config(benchmark: str, settings: EvalConfig, asking: AskingConfig) -> dict[str, Any]:
    shuffled = {} if asking.shuffle_options is None else {"shuffle_options": asking.shuffle_options}
    return {"benchmark": benchmark, **recorded(settings, leave_out={"out", "resume", "json", "cache"}), **shuffled}


def _eval_run(config: dict[str, Any], settings: EvalConfig, shard: _Shard | None) -> "Run":
    from act2see.store import Run

    assert settings.out is not None
    about: dict[str, Any] = {"command": "eval", "config": config, "seed": settings.seed}
    if shard is None:
        return (Run.resume if settings.resume else Run.create)(settings.out, **about)
    try:
        return Run.create(settings.out, **about)
    except StoreError:  # another shard was here first
        return Run.resume(settings.out, **about)


def _digest_of(folders: Sequence[Path]) -> str:
    from act2see.encoders.loading import fingerprint

    return fingerprint(folders)


# The questions


def _with_progress(
    evaluator: "Evaluator", settings: EvalConfig, asking: AskingConfig, shard: _Shard | None, run: "Run | None"
) -> "tuple[list[Score], list[Cost]]":
    """Every question's score, in the benchmark's order, and what its answer cost. Each new trace is on the disk before its worker goes on."""
    from act2see.workers import Patience, each

    there = _finished(run) if run and (settings.resume or shard) else {}
    work = Work(evaluator, run, there, Patience(asking.patience_seconds))
    workers = threads_for(asking.workers) if evaluator.turns else 1
    questions = _questions(evaluator, asking.limit, shard)
    scores: list[Score] = []
    costs: list[Cost] = []
    try:
        for score, cost in progressing(each(questions, work, workers), "questions", _count(settings, asking, shard)):
            scores.append(score)
            costs += [] if cost is None else [cost]
    except KeyboardInterrupt:
        if run:
            complain(f"what was answered is kept in {run.folder}: go on with --resume")
        raise
    return sorted(scores, key=lambda one: one.number), costs


@dataclass(frozen=True, slots=True)
class Work:
    """What is done with a question, in whichever thread: all of its trace that is kept in memory is the score and the cost."""

    evaluator: "Evaluator"
    run: "Run | None"
    there: "dict[str, Place]"
    patience: "Patience"

    def __call__(self, question: "tuple[int, Sample]") -> "tuple[Score, Cost | None]":
        """A question's score, from its trace where that is there already, and what the answer cost."""
        number, sample = question
        if self.run is not None and sample.id in self.there:
            scored = self.evaluator.score(sample, self.run.sketch_at(self.there[sample.id]))
        else:
            scored = self.patience.ask(lambda: self.evaluator.answer(sample), _problem)
            if self.run is not None and scored.trace is not None:
                self.run.append(scored.trace)
        return scored.score(number), None if scored.trace is None else scored.trace.cost


def _problem(scored: "Scored") -> str | None:
    """What is wrong with the backend; None where the question failed for another reason, before or besides asking it."""
    if scored.outcome == "backend_error":
        return scored.error or "it failed"
    return None if scored.outcome.endswith("_error") else ""


def _questions(evaluator: "Evaluator", limit: int | None, shard: _Shard | None) -> "Iterator[tuple[int, Sample]]":
    seen: set[str] = set()
    for number, sample in enumerate(islice(evaluator.benchmark.samples(), limit)):
        if sample.id in seen:
            raise ConfigError(f"the benchmark has two questions with the id {sample.id!r}: each needs one of its own")
        seen.add(sample.id)
        if shard is None or number % shard.of == shard.first - 1:
            yield number, sample


def _finished(run: "Run") -> "dict[str, Place]":
    """Where the traces stand that have ended, by the question. What failed is asked again."""
    found = {}
    for place in run.places():
        trace = run.sketch_at(place)
        if trace.finish:
            found[trace.id] = place
    return found


def _turns(backend: "Backend", name: str, wanted: int) -> "Semaphore | None":
    """What lets so many ask the backend at once; None where it takes one question at a time."""
    from threading import Semaphore

    if wanted > 1 and not getattr(backend, "concurrent", name.startswith(WAITS_FOR_A_SERVER)):
        complain(f"note: backend {name!r} takes one question at a time: --workers {wanted} is 1")
        return None
    return Semaphore(wanted) if wanted > 1 else None


def threads_for(workers: int) -> int:
    """More threads than may ask at once, so that videos are opened and traces are written while all of those wait (our choice: a quarter more)."""
    return workers + max(1, workers // 4)


def _count(settings: EvalConfig, asking: AskingConfig, shard: _Shard | None) -> int | None:
    """How many questions there will be at most, as far as it is known."""
    known = [count for count in (settings.n, asking.limit) if count is not None]
    if not known:
        return None
    return min(known) if shard is None else len(range(shard.first - 1, min(known), shard.of))


# After the last question


def _counted(
    about: dict[str, Any], made_by: dict[str, Any], scores: "list[Score]", costs: "list[Cost]", run: "Run | None", shard: _Shard | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The summary, and what differs from one machine to the next. Both are kept, by the last one of several shards for all of them."""
    from act2see.scores import summarise_costs, summarise_scores

    if run is not None and shard is not None:
        run.write_scores((one.row() for one in scores), shard=shard.name)
        merged = _merged(run, shard.of)
        if merged is None:
            complain(f"note: this is shard {shard.first} of {shard.of}; the one that ends last writes the summary of all")
            about = {**about, "shard": shard.name}
        else:
            scores, costs, shard = merged, _costs_of(run), None
    summary = {**about, **summarise_scores(scores), "fingerprint": made_by}
    spent = summarise_costs(costs)
    if run is not None and shard is None:
        run.write_scores(one.row() for one in scores)
        run.write_summary(summary, spent)
    return summary, spent


def _merged(run: "Run", shards: int) -> "list[Score] | None":
    """All shards' scores in the benchmark's order; None while not every question has one."""
    from act2see.scores import read_score

    parts = [run.scores(_Shard(first, shards).name) for first in range(1, shards + 1)]
    scores = sorted((read_score(row, where) for part in parts for where, row in part or ()), key=lambda one: one.number)
    is_whole = all(part is not None for part in parts) and [one.number for one in scores] == list(range(len(scores)))
    return scores if is_whole else None


def _costs_of(run: "Run") -> "list[Cost]":
    costs = {trace.id: trace.cost for trace in map(run.sketch_at, run.places())}
    return list(costs.values())


def _tell_seconds(spent: dict[str, Any]) -> None:
    if whole := spent["seconds"]["all"]:
        stages = ", ".join(f"{name} {found['mean']:.2f}" for name, found in spent["seconds"].items() if name != "all")
        print(f"an answer took {whole['mean']:.2f} s (p50 {whole['p50']:.2f}, p90 {whole['p90']:.2f}, p99 {whole['p99']:.2f}): {stages}")
