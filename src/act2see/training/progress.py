"""Progress events that a training run reports to its callback."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from act2see.storage.runs import JSON


@dataclass(frozen=True, slots=True)
class Preparing:
    """Fine-tuning is about to read the traces and load the model."""


@dataclass(frozen=True, slots=True)
class StepCompleted:
    """An optimizer step is done."""

    step: int
    steps: int
    loss: float | None
    """The loss logged last; None before the first."""


@dataclass(frozen=True, slots=True)
class MetricsLogged:
    """A line was appended to metrics.jsonl."""

    step: int
    steps: int
    values: Mapping[str, JSON]


@dataclass(frozen=True, slots=True)
class PartStarted:
    """A part of the embedded model's curriculum begins."""

    number: int
    """From 1."""
    parts: int
    name: str
    steps: int


TrainEvent: TypeAlias = Preparing | StepCompleted | MetricsLogged | PartStarted
ProgressCallback: TypeAlias = Callable[[TrainEvent], None]


def no_progress(event: TrainEvent) -> None:
    """A callback that ignores every event."""
