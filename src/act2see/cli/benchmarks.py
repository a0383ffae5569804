"""`act2see benchmarks`: which data sets can be evaluated on, what to download, and whether what was downloaded is whole."""

import os
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from act2see.cli.exits import ANSWERED, MENDABLE
from act2see.cli.output import say, say_json
from act2see.config import EvalConfig

if TYPE_CHECKING:
    from act2see.core.interfaces import Sample

benchmarks = App(name="benchmarks", help="List what can be evaluated on and what to download for it, or check what was downloaded.")
Json = Annotated[bool, Parameter(name="--json", negative="", help="Print one line of JSON.")]
NAMED_LINES = 20
"""So many missing videos are named on the terminal; --json names all."""


@benchmarks.default
def list_benchmarks(*, as_json: Json = False) -> int:
    """List the benchmarks: what to download for each, from where, its licence, and whether it may be trained on."""
    from act2see.benchmarks.catalogue import CATALOGUE

    if as_json:
        rows = [{name: value for name, value in asdict(entry).items() if name not in ("loader", "options")} for entry in CATALOGUE]
        say_json({"benchmarks": rows})
        return ANSWERED
    for entry in CATALOGUE:
        say(f"{entry.name}: {entry.title}, {entry.about}")
        rows_of = {
            "download": entry.download,
            "from": entry.source,
            "licence": entry.licence,
            "training": f"{entry.training} ({entry.why})",
        }
        for name, value in rows_of.items():
            say(f"    {name:<9} {value}")
    return ANSWERED


@benchmarks.command
def check(
    name: Annotated[str, Parameter(help="The benchmark's name, as act2see benchmarks lists it.")],
    /,
    *,
    data: Annotated[Path, Parameter(help="Folder of its questions and videos, or the file of questions in it.")],
    subtitles: Annotated[bool, Parameter(negative="", help="Video-MME: read the subtitles too.")] = False,
    as_json: Json = False,
) -> int:
    """Read a downloaded data set as `act2see eval` would, and tell everything that is wrong with it. No video is opened.

    Exit code 1 when something is wrong: a record that cannot be asked, with its line or number, or a video that is not there.
    """
    from act2see import registry
    from act2see.benchmarks.reading import Findings

    found = Findings()
    samples = registry.data_set(name, EvalConfig(data=data, subtitles=subtitles)).read(found)
    told = _told(name, data, samples, found.problems, found.notes)
    if as_json:
        say_json(told)
    else:
        _tell(told)
    return MENDABLE if told["problems"] or told["missing_videos"] or told["empty_videos"] else ANSWERED


def _told(name: str, data: Path, samples: "list[Sample]", problems: list[str], notes: list[str]) -> dict[str, Any]:
    videos = sorted({sample.video for sample in samples})
    missing = [str(video) for video in videos if not os.path.isfile(video)]
    empty = [str(video) for video in videos if os.path.isfile(video) and video.stat().st_size == 0]
    return {
        "benchmark": name,
        "data": str(data),
        "questions": len(samples),
        "videos": len(videos),
        "kinds": dict(sorted(Counter(sample.kind for sample in samples).items())),
        "missing_videos": missing,
        "empty_videos": empty,
        "problems": problems,
        "notes": notes,
    }


def _tell(told: dict[str, Any]) -> None:
    say(f"{told['benchmark']}: {told['questions']:,} questions about {told['videos']:,} videos in {told['data']}")
    for kind, count in told["kinds"].items():
        say(f"    {count:>6,}  {kind}")
    for note in told["notes"]:
        say(f"note: {note}")
    for problem in told["problems"]:
        say(f"wrong: {problem}")
    for what in ("missing", "empty"):
        videos = told[f"{what}_videos"]
        for video in videos[:NAMED_LINES]:
            say(f"{what}: {video}")
        if len(videos) > NAMED_LINES:
            say(f"{what}: {len(videos) - NAMED_LINES:,} more ({len(videos):,} of {told['videos']:,} videos); --json names them all")
    if not (told["problems"] or told["missing_videos"] or told["empty_videos"]):
        say("nothing is wrong")
