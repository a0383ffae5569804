"""Progress of a training on stderr."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from act2see.cli.output import complain

if TYPE_CHECKING:
    from act2see.storage.runs import JSON
    from act2see.training.progress import ProgressCallback, TrainEvent


@contextmanager
def progress_bar(*, transient: bool) -> "Iterator[ProgressCallback]":
    """A callback that draws a progress bar with rate and time left on a terminal; elsewhere it prints a line for each line of metrics.

    A transient bar is removed at the end.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from act2see.training.progress import MetricsLogged, PartStarted, Preparing, StepCompleted

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[status]}", markup=False))
    bar = Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, transient=transient, disable=not console.is_terminal)
    task = bar.add_task("preparing", total=None, status="")

    def show(event: "TrainEvent") -> None:
        match event:
            case Preparing():
                bar.start()
            case StepCompleted(step, steps, loss):
                bar.update(task, description="steps", completed=step, total=steps, status=_status(loss, bar.tasks[0].speed))
            case MetricsLogged(step, steps, values) if not console.is_terminal or "probe" in values:
                complain(f"step {step}/{steps}: {_one_line(values)}")
            case PartStarted(number, parts, name, steps):
                complain(f"part {number} of {parts}: {name}, {steps:,} steps")

    try:
        yield show
    finally:
        if bar.live.is_started:  # stopping a bar that never started prints an empty line
            bar.stop()


def _status(loss: float | None, steps_per_second: float | None) -> str:
    if not steps_per_second:
        return ""
    return f"{steps_per_second:.2f}/s" + (f", loss {loss:.4f}" if loss is not None else "")


def _one_line(values: "Mapping[str, JSON]") -> str:
    return ", ".join(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items())
