"""`act2see export`: exports a run's traces for other trainers."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from act2see.cli.exits import ANSWERED
from act2see.cli.output import complain, say, say_json, show_progress
from act2see.config import ExportConfig, SettingsFile

if TYPE_CHECKING:
    from act2see.curation.export import ExportResult

NAMED_SKIPS = 10
"""Skipped traces listed on the terminal; export.json lists all."""


def export(
    run: Annotated[Path, Parameter(help="Run folder whose traces to export.")],
    /,
    *,
    settings: Annotated[ExportConfig, Parameter(name="*")],
    config: SettingsFile = None,
) -> int:
    """Write a run's answered traces, with their pictures, in another trainer's format.

    Skips, counts and lists traces without an answer, traces that are unreadable or that the format cannot represent, and all but the last trace of
    each question. Ctrl-C leaves no output.
    """
    del config
    from act2see.curation.export import export_run, rendering_of

    rendering_of(settings.format, settings.rendering)  # errors before the run is read
    with show_progress() as progress:
        done = export_run(run, settings, progress)
    if settings.json:
        say_json({**asdict(done), "folder": str(done.folder), "format": settings.format})
    else:
        _say(done)
    return ANSWERED


def _say(done: "ExportResult") -> None:
    for one in done.skipped[:NAMED_SKIPS]:
        complain(f"note: skipped trace {one.id}: {one.reason}")
    if len(done.skipped) > NAMED_SKIPS:
        complain(f"note: {len(done.skipped) - NAMED_SKIPS} more skipped; {done.folder / 'export.json'} lists all")
    rendered = f", rendered as {done.rendering}" if done.rendering else ""
    skipped = f", {len(done.skipped)} skipped" if done.skipped else ""
    say(f"{done.traces} traces{rendered}{skipped}, in {done.folder}")
