"""`act2see contamination`: which traces of a run overlap with evaluation sets, and the run without them."""

import json
import os
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from act2see.cli.exits import ANSWERED, MENDABLE
from act2see.cli.output import complain, progressing, say, say_json
from act2see.cli.runs import note_damaged
from act2see.config import ContaminationConfig, EvalConfig, SettingsFile
from act2see.config.checks import check_file_to_write
from act2see.core.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from act2see.core.trace import Trace
    from act2see.curation.decontamination import HeldOut, Overlap
    from act2see.storage.runs import Place, Run

NAMED_LINES = 10
"""So many overlaps, and so many videos that could not be compared, are named on the terminal; --json and --report name all."""


def contamination(
    run: Annotated[Path, Parameter(help="Run folder whose traces are, or will be, trained on.")],
    /,
    *,
    settings: Annotated[ContaminationConfig, Parameter(name="*")],
    config: SettingsFile = None,
) -> int:
    """Find the traces of a run that overlap with evaluation sets: by question, by frames, or by the video's name.

    Exit code 0 when none does, 1 when some do, also where --out writes a run without them: what was given is not clean. Videos that cannot be
    compared are told, and change nothing in the exit code.
    """
    del config
    from act2see.curation.decontamination import find_overlaps, summarise_overlaps
    from act2see.storage.runs import Run

    opened = Run.open(Path(os.path.expanduser(run)))
    named = [_parsed(one) for one in settings.against]
    _check(settings, named)
    with tempfile.TemporaryDirectory() as scratch:
        held_out = _held_out(named, Path(scratch), with_frames=settings.frames)
    count = sum(1 for _ in opened.places())
    damaged: list[str] = []
    compared: set[Place] = set()
    found = find_overlaps(progressing(_traces(opened, damaged, compared, with_frames=settings.frames), "traces", count), held_out)
    overlaps = [one for one in found if not {*settings.by}.isdisjoint(one.kinds)]
    note_damaged(damaged, "and are not compared, nor written to --out")
    unreadable = {"unreadable": len(damaged)} if damaged else {}
    summary = {"run": str(opened.folder), "frames": settings.frames, **summarise_overlaps(overlaps, count - len(damaged), held_out), **unreadable}
    if settings.report is not None:
        _write_report(settings.report, overlaps)
    if settings.out is not None:
        summary |= {"out": str(settings.out), "kept": _write_clean(opened, settings, overlaps, compared)}
    _tell(summary, overlaps, as_json=settings.json)
    return MENDABLE if overlaps else ANSWERED


# Before anything is read


def _parsed(named: str) -> tuple[str, Path | None]:
    """A benchmark and where its data lie, from `NAME=DIR` or `NAME`. Raises `ConfigError`."""
    from act2see import registry
    from act2see.benchmarks.catalogue import BY_NAME

    name, separator, folder = named.partition("=")
    registry.check_benchmark(name)
    if separator and not folder:
        raise ConfigError(f"--against {named}: there is no folder after the =; write {name}=DIR")
    if name == "synthetic" and folder:
        raise ConfigError(f"--against {named}: synthetic makes its own videos; write --against synthetic")
    if name in BY_NAME and name != "synthetic" and not folder:
        raise ConfigError(f"--against {named}: say where its data lie; write {name}=DIR, with {BY_NAME[name].download}")
    path = Path(os.path.expanduser(folder)) if folder else None
    if path is not None and not path.exists():
        raise ConfigError(f"--against {named}: there is no {path}; give the folder of the benchmark's data")
    return name, path


def _check(settings: ContaminationConfig, named: Sequence[tuple[str, Path | None]]) -> None:
    if not named:
        raise ConfigError("--against names no evaluation set: write --against minerva=DIR, or --against synthetic")
    if len(set(named)) < len(named):
        raise ConfigError("--against names the same evaluation set twice: name each once")
    if not settings.by:
        raise ConfigError("--by names nothing that counts: name at least one of question, near_question, frames, video_name")
    if not settings.frames and settings.by == ("frames",):
        raise ConfigError("--no-frames leaves nothing to compare by frames: leave one of the two out")
    check_file_to_write(settings.report)
    if settings.out is not None and settings.out.exists() and (not settings.out.is_dir() or any(settings.out.iterdir())):
        raise ConfigError(f"{settings.out} is there already and not empty: give --out a new folder")


# The traces


def _traces(run: "Run", damaged: list[str], compared: "set[Place]", *, with_frames: bool) -> "Iterator[Trace]":
    """Those that can be read, whose places are added to `compared`; the others are told in `damaged`."""
    for place, trace in run.sketches(damaged, with_files=with_frames):
        try:
            found = run.trace_at(place) if with_frames else trace
        except StoreError as error:
            damaged.append(str(error))
            continue
        compared.add(place)
        yield found


# The evaluation sets


def _held_out(named: Sequence[tuple[str, Path | None]], scratch: Path, *, with_frames: bool) -> "HeldOut":
    from act2see import registry
    from act2see.curation.decontamination import HeldOut, hash_video

    samples = []
    for number, (name, data) in enumerate(named):
        benchmark = registry.benchmark(name, EvalConfig(data=data), scratch / str(number))
        samples += [(name, sample) for sample in progressing(benchmark.samples(), f"questions of {name}", None)]
    paths = list(dict.fromkeys(sample.video for _, sample in samples)) if with_frames else []
    videos = list(progressing(map(hash_video, paths), "videos", len(paths))) if paths else []
    return HeldOut(samples, videos)


# After the last trace


def _write_report(path: Path, overlaps: "Sequence[Overlap]") -> None:
    unfinished = path.with_name(f".{path.name}.part")
    try:
        unfinished.write_text("".join(json.dumps(asdict(one)) + "\n" for one in overlaps), encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from error


def _write_clean(run: "Run", settings: ContaminationConfig, overlaps: "Sequence[Overlap]", compared: "Collection[Place]") -> int:
    """Write the run without the traces that overlap or could not be compared; how many it has."""
    from act2see.storage.folders import whole_folder
    from act2see.storage.runs import SAMPLES

    assert settings.out is not None
    dropped = {one.trace_id for one in overlaps}

    def keep(place: "Place", trace: "Trace") -> bool:
        return place in compared and trace.id not in dropped

    config: dict[str, Any] = {
        "run": str(run.folder),
        "run_digest": run.digest,
        "against": list(settings.against),
        "by": list(settings.by),
        "frames": settings.frames,
    }
    lost: list[str] = []
    with whole_folder(settings.out) as folder:
        clean = run.subset(folder, keep, command="contamination", config=config, seed=run.seed, damaged=lost)
        if (questions := run.rows(SAMPLES)) is not None:  # what was constructed can be filtered again
            clean.write_rows(SAMPLES, (row for _, row in questions))
        kept = sum(1 for _ in clean.places())
    if not settings.frames:  # with them, these were told already
        note_damaged(lost, f"and are not in {settings.out}")
    return kept


def _tell(summary: Mapping[str, Any], overlaps: "Sequence[Overlap]", *, as_json: bool) -> None:
    if as_json:
        say_json(summary)
        return
    asked = ", ".join(f"{found['questions']:,} questions of {name}" for name, found in summary["benchmarks"].items())
    say(f"{summary['overlapping_traces']:,} of {summary['traces']:,} traces overlap with {asked}")
    for kind, count in summary["traces_by_kind"].items():
        if count:
            say(f"    {count:>6,}  {kind}")
    for one in overlaps[:NAMED_LINES]:
        say(f"overlap: trace {one.trace_id} and {one.benchmark} {one.sample_id}: {_how(one)}")
    if len(overlaps) > NAMED_LINES:
        say(f"overlap: {len(overlaps) - NAMED_LINES:,} more; --report FILE names them all")
    if "out" in summary:
        say(f"{summary['kept']:,} traces without them, in {summary['out']}")
    for video in summary["videos_not_opened"][:NAMED_LINES]:
        complain(f"note: not opened, so not compared by frames: {video['video']}: {video['error']}")
    if (count := len(summary["videos_not_opened"])) > NAMED_LINES:
        complain(f"note: {count - NAMED_LINES:,} more were not opened ({count:,} of {summary['videos']:,} videos); --json names them all")
    if plain_ones := summary["videos_too_plain"]:
        complain(f"note: {len(plain_ones):,} of {summary['videos']:,} videos are too plain to be compared by frames; --json names them all")


def _how(one: "Overlap") -> str:
    words = "" if one.question_similarity is None else f", {one.question_similarity:.0%} of the words"
    frames = f", {one.frames} frames" if one.frames else ""
    return f"{' and '.join(one.kinds)}{words}{frames}"
