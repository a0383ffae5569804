"""`act2see contamination`: which traces of a run overlap with evaluation sets, and the run without them."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from act2see.cli.exits import ANSWERED, FAILURE
from act2see.cli.output import complain, say, say_json, show_progress
from act2see.config import ContaminationConfig, SettingsFile
from act2see.config.checks import check_file_to_write

if TYPE_CHECKING:
    from act2see.curation.decontamination import ContaminationResult
    from act2see.curation.overlaps import Overlap

NAMED_LINES = 10
"""Maximum number of overlaps and of incomparable videos on the terminal; --json and --report list all."""


def contamination(
    run: Annotated[Path, Parameter(help="Run folder with traces for training.")],
    /,
    *,
    settings: Annotated[ContaminationConfig, Parameter(name="*")],
    config: SettingsFile = None,
) -> int:
    """Find the traces of a run that overlap with evaluation sets: by question, by frames, or by the video's name.

    Exit code 0 without overlaps, 1 with overlaps, even if --out writes a run without them. Videos that cannot be compared are listed and do not
    change the exit code.
    """
    del config
    from act2see.curation.decontamination import find_contamination
    from act2see.storage.runs import Run

    check_file_to_write(settings.report)
    with show_progress() as progress:
        found = find_contamination(Run.open(Path(os.path.expanduser(run))), settings, progress)
    if settings.json:
        say_json(found.row())
    else:
        _say(found)
    return FAILURE if found.overlaps else ANSWERED


def _say(found: "ContaminationResult") -> None:
    summary = found.summary
    asked = ", ".join(f"{one.questions:,} questions of {name}" for name, one in summary.benchmarks.items())
    say(f"{summary.overlapping_traces:,} of {summary.traces:,} traces overlap with {asked}")
    for kind, count in summary.traces_by_kind.items():
        if count:
            say(f"    {count:>6,}  {kind}")
    for one in found.overlaps[:NAMED_LINES]:
        say(f"overlap: trace {one.trace_id} and {one.benchmark} {one.sample_id}: {_how(one)}")
    if len(found.overlaps) > NAMED_LINES:
        say(f"overlap: {len(found.overlaps) - NAMED_LINES:,} more; --report FILE lists all")
    if found.out is not None:
        say(f"{found.kept:,} traces without them, in {found.out}")
    for video in summary.videos_not_opened[:NAMED_LINES]:
        complain(f"note: not opened, so not compared by frames: {video.video}: {video.error}")
    if (count := len(summary.videos_not_opened)) > NAMED_LINES:
        complain(f"note: {count - NAMED_LINES:,} more were not opened ({count:,} of {summary.videos:,} videos); --json lists all")
    if plain_ones := summary.videos_too_plain:
        complain(f"note: {len(plain_ones):,} of {summary.videos:,} videos are too plain to be compared by frames; --json lists all")


def _how(one: "Overlap") -> str:
    words = "" if one.question_similarity is None else f", {one.question_similarity:.0%} of the words"
    frames = f", {one.frames} frames" if one.frames else ""
    return f"{' and '.join(one.kinds)}{words}{frames}"
