"""`act2see export`: a run's traces for other trainers."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from act2see.cli.exits import ANSWERED
from act2see.cli.output import complain, progressing, say, say_json
from act2see.config import ExportConfig, SettingsFile

if TYPE_CHECKING:
    from act2see.curation.export import Exported

NAMED_SKIPS = 10
"""So many left-out traces are named on the terminal; export.json names all."""


def export(
    run: Annotated[Path, Parameter(help="Run folder whose traces to export.")],
    /,
    *,
    settings: Annotated[ExportConfig, Parameter(name="*")],
    config: SettingsFile = None,
) -> int:
    """Write a run's answered traces as another trainer's data, pictures beside.

    Traces without an answer, those that cannot be read or that the format cannot hold, and all but the last about one question are left out, counted
    and named. Ctrl-C leaves nothing behind.
    """
    del config
    from act2see.curation import export as exporting
    from act2see.storage.runs import Run

    exporting.rendering_of(settings.format, settings.rendering)
    opened = Run.open(run)
    traces = progressing(exporting.stored(opened), "traces", exporting.count(opened))
    done = exporting.export(
        opened, traces, settings.out, settings.format, rendering=settings.rendering, opening=settings.opening, overwrite=settings.overwrite
    )
    _tell(done, settings)
    return ANSWERED


def _tell(done: "Exported", settings: ExportConfig) -> None:
    if settings.json:
        say_json({**asdict(done), "folder": str(done.folder), "format": settings.format})
        return
    for one in done.skipped[:NAMED_SKIPS]:
        complain(f"note: trace {one.id} is left out: {one.reason}")
    if len(done.skipped) > NAMED_SKIPS:
        complain(f"note: {len(done.skipped) - NAMED_SKIPS} more are left out; {done.folder / 'export.json'} names them all")
    rendered = f", rendered as {done.rendering}" if done.rendering else ""
    left_out = f", {len(done.skipped)} left out" if done.skipped else ""
    say(f"{done.traces} traces{rendered}{left_out}, in {done.folder}")
