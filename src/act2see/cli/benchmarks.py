"""`act2see benchmarks`: lists the benchmarks with their downloads, and checks a download."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from act2see.cli.exits import ANSWERED, FAILURE
from act2see.cli.output import say, say_json
from act2see.config import DataCheckConfig
from act2see.core.errors import ConfigError

if TYPE_CHECKING:
    from act2see.evaluation.data_check import DataCheck

benchmarks = App(name="benchmarks", help="List the benchmarks and what to download for them, or check a download.")
Json = Annotated[bool, Parameter(name="--json", negative="", help="Print one line of JSON.")]
NAMED_LINES = 20
"""Missing videos listed on the terminal; --json lists all."""


@benchmarks.default
def list_benchmarks(name: Annotated[str | None, Parameter(help="Only this benchmark, with its options.")] = None, /, *, as_json: Json = False) -> int:
    """List the benchmarks: what to download for each and from where, its licence, and whether training on it is allowed."""
    from act2see.benchmarks.catalogue import BY_NAME, CATALOGUE

    if name is not None and name not in BY_NAME:
        raise ConfigError(f"unknown benchmark {name!r}; act2see benchmarks lists all")
    entries = CATALOGUE if name is None else (BY_NAME[name],)
    if as_json:
        rows = [{name: value for name, value in asdict(entry).items() if name not in ("loader", "options")} for entry in entries]
        say_json({"benchmarks": rows})
        return ANSWERED
    for entry in entries:
        say(f"{entry.name}: {entry.title}, {entry.about}")
        rows_of = {
            "download": entry.download,
            "from": entry.source,
            "licence": entry.licence,
            "training": f"{entry.training} ({entry.why})",
        }
        for row, value in rows_of.items():
            say(f"    {row:<9} {value}")
        for option in entry.options if name is not None else ():
            say(f"    -o {option.name}=VALUE: {option.help} ({option.allowed})")
    return ANSWERED


@benchmarks.command
def check(
    name: Annotated[str, Parameter(help="Benchmark, as listed by act2see benchmarks.")],
    /,
    *,
    settings: Annotated[DataCheckConfig, Parameter(name="*")],
) -> int:
    """Read a downloaded data set as `act2see eval` does and list all problems, without opening a video.

    Exit code 1 if there are any: an invalid record, listed with its line or number, or a missing or empty video file.
    """
    from act2see.evaluation.data_check import check_data

    found = check_data(name, settings)
    if settings.json:
        say_json(asdict(found))
    else:
        _say(found)
    return ANSWERED if found.is_complete else FAILURE


def _say(found: "DataCheck") -> None:
    say(f"{found.benchmark}: {found.questions:,} questions about {found.videos:,} videos in {found.data}")
    for kind, count in found.kinds.items():
        say(f"    {count:>6,}  {kind}")
    for note in found.notes:
        say(f"note: {note}")
    for problem in found.problems:
        say(f"problem: {problem}")
    for what, videos in (("missing", found.missing_videos), ("empty", found.empty_videos)):
        for video in videos[:NAMED_LINES]:
            say(f"{what}: {video}")
        if len(videos) > NAMED_LINES:
            say(f"{what}: {len(videos) - NAMED_LINES:,} more ({len(videos):,} of {found.videos:,} videos); --json lists all")
    if found.is_complete:
        say("no problems found")
