"""Held-out evaluation during training, through the same loop as `act2see ask`: a falling loss alone does not show that the model learns to look."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from act2see.core.engine import LoopOptions, new_trace, reason
from act2see.core.errors import BackendError, VideoError
from act2see.core.interfaces import Backend, Benchmark, Generator, Retriever, Sample
from act2see.core.trace import Generate, Observation, Retrieve, Trace
from act2see.video import Video

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
        traces: list[tuple[Sample, Trace | None]] = []
        for sample, _ in zip(self.benchmark.samples(), range(self.count), strict=False):
            try:
                video = Video(sample.video)
                trace = new_trace(video, sample.question, sample.choices, fps=self.fps, id=sample.id, backend=backend)
                for _ in reason(trace, video, backend, self.retriever, self.generator, LoopOptions(self.max_looks)):
                    pass
            except (VideoError, BackendError):
                traces.append((sample, None))
            else:
                traces.append((sample, trace))
        return self._scores(traces), [trace for _, trace in traces if trace is not None]

    def _scores(self, asked: Sequence[tuple[Sample, Trace | None]]) -> HeldOutScores:
        kinds = sorted({sample.kind for sample, _ in asked})
        right = [trace is not None and bool(self.benchmark.is_right(sample, trace)) for sample, trace in asked]
        called = [trace is not None and bool(trace.calls) for _, trace in asked]
        return HeldOutScores(
            n=len(asked),
            accuracy=_share(right),
            call_rate={kind: _share([c for c, (sample, _) in zip(called, asked, strict=True) if sample.kind == kind]) for kind in kinds},
            format=_share([trace is not None and is_valid(trace) for _, trace in asked]),
            looks=round(sum(trace.looks for _, trace in asked if trace is not None) / max(1, len(asked)), 4),
            failed=sum(trace is None for _, trace in asked),
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
