"""Evaluation: the same loop over a benchmark's samples, every one of which ends as exactly one outcome."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

from act2see.chat import Tool
from act2see.engine import NO_BUDGET, Budget, insert, new_trace, reason
from act2see.errors import BackendError, VideoError
from act2see.interfaces import Backend, Benchmark, Generator, Retriever, Sample
from act2see.trace import Generate, Retrieve, Trace
from act2see.video import Video

Outcome = Literal["correct", "wrong", "no_answer", "truncated", "video_error", "backend_error"]


@dataclass(frozen=True, slots=True)
class Scored:
    """A sample, how it ended, and the trace; None when the video could not be opened."""

    sample: Sample
    outcome: Outcome
    trace: Trace | None
    error: str | None = None

    @property
    def called(self) -> bool:
        """Whether the model asked to see more, whatever came of it."""
        return self.trace is not None and any(isinstance(step, Retrieve | Generate) for step in self.trace.steps)


@dataclass(frozen=True, slots=True)
class Evaluator:
    """What stays the same over all samples."""

    benchmark: Benchmark
    backend: Backend
    retriever: Retriever | None
    generator: Generator | None = None
    fps: float = 1.0
    max_looks: int = 1
    seed: int = 0
    offered: tuple[Tool, ...] = ("retrieve", "generate")
    budget: Budget = NO_BUDGET
    insert: int = 0
    """How many frames are put among the initial ones without the model's asking."""

    def run(self, done: dict[str, Trace] | None = None) -> Iterator[Scored]:
        """Score the samples in order. Traces in `done` (by sample id) are scored again without running the model."""
        for sample in self.benchmark.samples():
            yield self.score(sample, done[sample.id]) if done and sample.id in done else self.answer(sample)

    def answer(self, sample: Sample) -> Scored:
        """Ask the model about one sample, as `act2see ask` does."""
        try:
            video = Video(sample.video)
            trace = new_trace(video, sample.question, sample.choices, fps=self.fps, id=sample.id)
            if self.insert and self.retriever is not None:
                insert(trace, video, self.retriever, self.insert)
        except VideoError as error:
            return Scored(sample, "video_error", None, str(error))
        limits: dict[str, Any] = {"max_looks": self.max_looks, "seed": self.seed, "offered": self.offered, "budget": self.budget}
        try:
            for _ in reason(trace, video, self.backend, self.retriever, self.generator, **limits):
                pass
        except VideoError as error:
            return Scored(sample, "video_error", trace, str(error))
        except BackendError as error:
            return Scored(sample, "backend_error", trace, str(error))
        return self.score(sample, trace)

    def score(self, sample: Sample, trace: Trace) -> Scored:
        """The outcome of a trace that has ended."""
        if trace.finish == "length":
            return Scored(sample, "truncated", trace)
        right = self.benchmark.is_right(sample, trace)
        return Scored(sample, "no_answer" if right is None else "correct" if right else "wrong", trace)


def summarise(scored: Iterable[Scored]) -> dict[str, Any]:
    """Counts and rates, overall and by kind and group. Every sample stays in the denominator, whatever became of it."""
    everything = list(scored)
    groups: dict[str, list[Scored]] = {}
    for one in everything:
        for name in (one.sample.kind, *one.sample.groups):
            groups.setdefault(name, []).append(one)
    outcomes = Counter(one.outcome for one in everything)
    traces = [one.trace for one in everything if one.trace is not None]
    return {
        "n": len(everything),
        "n_by_kind": {name: len(members) for name, members in sorted(groups.items())},
        "accuracy": {"all": _rate(everything, "correct")} | {name: _rate(members, "correct") for name, members in sorted(groups.items())},
        "accuracy_95": {"all": _interval(everything)} | {name: _interval(members) for name, members in sorted(groups.items())},
        "call_rate": {"all": _calls(everything)} | {name: _calls(members) for name, members in sorted(groups.items())},
        "outcomes": dict(sorted(outcomes.items())),
        "tokens": {
            "in": sum(trace.cost.tokens_in for trace in traces),
            "out": sum(trace.cost.tokens_out for trace in traces),
            "reused": sum(trace.cost.tokens_reused for trace in traces),
        },
    }


def _rate(members: list[Scored], outcome: Outcome) -> float | None:
    return round(sum(one.outcome == outcome for one in members) / len(members), 4) if members else None


def _interval(members: list[Scored]) -> list[float]:
    """Wilson's 95 % interval of the accuracy."""
    n, z = len(members), NormalDist().inv_cdf(0.975)
    if n == 0:
        return [0.0, 1.0]
    share = sum(one.outcome == "correct" for one in members) / n
    centre, half = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return [round((centre - half) / (1 + z * z / n), 4), round((centre + half) / (1 + z * z / n), 4)]


def _calls(members: list[Scored]) -> float | None:
    return round(sum(one.called for one in members) / len(members), 4) if members else None
