"""Held-out evaluation during training, through the same loop as `act2see ask`: a falling loss alone does not show that the model learns to look."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from threading import Semaphore

from act2see.core.engine import LoopOptions
from act2see.core.interfaces import Backend, Benchmark, Generator, Retriever, Sample, batched, is_concurrent
from act2see.core.trace import Generate, Observation, Retrieve, Trace
from act2see.evaluation.evaluator import Evaluator, Scored
from act2see.execution.pool import imap_unordered

_log = logging.getLogger(__name__)
_AT_ONCE = 8
"""Questions decoded in one forward pass. Our choice: their caches lie beside the training's own memory."""
_WINDOW = 3
"""A warning is due after this many evaluations without a better accuracy while the loss falls. Our choice."""
_FALL = 0.05


@dataclass(frozen=True, slots=True)
class HeldOutScores:
    """Scores of one evaluation, under the names that metrics.jsonl has. All but `n`, `looks` and `failed` are shares of the questions."""

    n: int
    accuracy: float
    call_rate: dict[str, float]
    """Share of questions with a tool call, by kind of question."""
    format: float
    """Share of answers in the right format."""
    looks: float
    """Mean number of looks per question."""
    failed: int


@dataclass(frozen=True, slots=True)
class HeldOutEvaluation:
    """Questions and tools of the evaluation; the model is passed to `run`."""

    benchmark: Benchmark
    retriever: Retriever | None
    generator: Generator | None = None
    fps: float = 1.0
    max_looks: int = 1
    count: int = 20

    def run(self, backend: Backend) -> tuple[HeldOutScores, list[Trace]]:
        """Ask the first `count` questions; returns scores and traces. A failed question stays in the denominator."""
        many = batched(backend, _AT_ONCE)
        turns = Semaphore(_AT_ONCE) if is_concurrent(many) else None
        evaluator = Evaluator(self.benchmark, many, self.retriever, self.generator, self.fps, LoopOptions(self.max_looks), turns=turns)

        def answer(numbered: tuple[int, Sample]) -> tuple[int, Scored]:
            return numbered[0], evaluator.answer(numbered[1])

        questions = enumerate(islice(self.benchmark.samples(), self.count))
        answers = sorted(imap_unordered(questions, answer, 1 if turns is None else _AT_ONCE), key=lambda one: one[0])
        scored = [one for _, one in answers]
        if errors := [one.error for one in scored if one.error is not None]:
            _log.warning("%d of %d questions failed; the first: %s", len(errors), len(scored), errors[0])
        return _scores(scored), [one.trace for one in scored if one.trace is not None and one.error is None]


def _scores(scored: Sequence[Scored]) -> HeldOutScores:
    traces = [None if one.error is not None else one.trace for one in scored]
    called = [trace is not None and bool(trace.calls) for trace in traces]
    of_kind = {
        kind: [call for call, one in zip(called, scored, strict=True) if one.sample.kind == kind] for kind in {one.sample.kind for one in scored}
    }
    return HeldOutScores(
        n=len(scored),
        accuracy=_share([one.outcome == "correct" for one in scored]),
        call_rate={kind: _share(calls) for kind, calls in sorted(of_kind.items())},
        format=_share([trace is not None and is_valid(trace) for trace in traces]),
        looks=round(sum(trace.looks for trace in traces if trace is not None) / max(1, len(scored)), 4),
        failed=traces.count(None),
    )


def is_valid(trace: Trace) -> bool:
    """Whether the model kept to the format: an answer at the end, and no unreadable call. A tool's failure does not count against the model."""
    unreadable = any(
        isinstance(step, Observation) and step.error is not None and not isinstance(before, Retrieve | Generate)
        for before, step in zip([None, *trace.steps], trace.steps, strict=False)
    )
    return trace.answer is not None and not unreadable


@dataclass(slots=True)
class PlateauDetector:
    """Detects a loss that falls while the accuracy does not improve."""

    losses: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)

    def update(self, loss: float, accuracy: float) -> str | None:
        """The warning that is due after one more evaluation, if any. `loss` is the mean since the previous evaluation."""
        self.losses.append(loss)
        self.accuracies.append(accuracy)
        if len(self.losses) <= _WINDOW:
            return None
        before, now = self.losses[-_WINDOW - 1], self.losses[-1]
        best_before = self.accuracies[-_WINDOW - 1]
        if now > before * (1 - _FALL) or max(self.accuracies[-_WINDOW:]) > best_before:
            return None
        return (
            f"over {_WINDOW} evaluations the loss fell from {before:.4g} to {now:.4g}, but the accuracy stayed at {accuracy:.1%} (it was "
            f"{best_before:.1%}): the model learns the wording rather than to look; check the traces in the run's folder"
        )


def _share(values: Sequence[bool]) -> float:
    return round(sum(values) / len(values), 4) if values else 0.0
