"""Progress on stderr: a bar with rate and time left on a terminal, elsewhere a line now and then."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from act2see.cli.output import Lines
from act2see.core.plaintext import one_line

if TYPE_CHECKING:
    from act2see.evaluation.runner import ProgressCallback


@contextmanager
def progress_bar() -> "Iterator[ProgressCallback]":
    """A progress callback. Each kind of item has a bar, or lines, of its own."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        lines: dict[str, Lines] = {}

        def tell(done: int, total: int | None, what: str, /) -> None:
            lines.setdefault(what, Lines(what)).tell(done, total)

        yield tell
        for one in lines.values():
            one.end()
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}", markup=False))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as shown:
        tasks: dict[str, TaskID] = {}

        def update(done: int, total: int | None, what: str, /) -> None:
            if what not in tasks:
                tasks[what] = shown.add_task(one_line(what), total=total, rate="")
            speed = shown.tasks[tasks[what]].speed
            shown.update(tasks[what], completed=done, total=total, rate=f"{speed:.2f}/s" if speed else "")

        yield update


@contextmanager
def loading_status() -> "Iterator[ProgressCallback]":
    """A progress callback that shows on a terminal what is being loaded; gone again once it is."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)
    status = console.status("")

    def update(done: int, total: int | None, what: str, /) -> None:
        if done == total:
            status.stop()
        elif console.is_terminal:
            status.update(Text(one_line(what)))
            status.start()

    try:
        yield update
    finally:
        status.stop()
