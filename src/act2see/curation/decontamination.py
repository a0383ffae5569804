"""Finds the traces of a run that overlap with evaluation sets, reports them, and writes the run without them."""

import json
import logging
import os
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from act2see import registry
from act2see.benchmarks.catalogue import BY_NAME
from act2see.config import ContaminationConfig, EvalConfig
from act2see.core.errors import ConfigError, StoreError
from act2see.core.trace import Trace
from act2see.curation import overlaps as measures
from act2see.curation.overlaps import KINDS, HeldOut, Kind, Overlap, find_overlaps, hash_video
from act2see.execution.progress import ProgressCallback, counted
from act2see.storage.folders import whole_folder
from act2see.storage.runs import JSON, SAMPLES, Place, Run

_log = logging.getLogger(__name__)

THRESHOLDS: Mapping[str, float] = {
    "near_words": measures.NEAR_WORDS,
    "short_question": measures.SHORT_QUESTION,
    "near_bits": measures.NEAR_BITS,
    "near_cells": measures.NEAR_CELLS,
    "flat": measures.FLAT,
    "least_frames": measures.LEAST_FRAMES,
    "video_frames": measures.VIDEO_FRAMES,
}


@dataclass(frozen=True, slots=True)
class BenchmarkOverlap:
    """Overlap counts of one evaluation set."""

    questions: int
    overlapping_questions: int


@dataclass(frozen=True, slots=True)
class UnopenedVideo:
    """An evaluation video that could not be compared by its frames, and why."""

    video: str
    error: str


@dataclass(frozen=True, slots=True)
class OverlapSummary:
    """Counts of overlaps, and the videos that could not be compared."""

    traces: int
    overlapping_traces: int
    overlaps: int
    traces_by_kind: Mapping[Kind, int]
    benchmarks: Mapping[str, BenchmarkOverlap]
    videos: int
    videos_not_opened: tuple[UnopenedVideo, ...]
    videos_too_plain: tuple[str, ...]
    """Videos with too few frames that are not flat."""
    thresholds: Mapping[str, float] = field(default_factory=lambda: dict(THRESHOLDS))


@dataclass(frozen=True, slots=True)
class ContaminationResult:
    """The overlaps of a run with evaluation sets."""

    run: str
    frames: bool
    """Whether frames were compared."""
    overlaps: tuple[Overlap, ...]
    """Overlaps of the selected kinds, ordered by trace."""
    summary: OverlapSummary
    unreadable: int
    """Unreadable traces; they are neither compared nor written."""
    out: Path | None = None
    kept: int | None = None
    """Number of traces in the new run `out`; None without `out`."""

    def row(self) -> dict[str, JSON]:
        """The summary as JSON."""
        unreadable = {"unreadable": self.unreadable} if self.unreadable else {}
        kept = {} if self.out is None else {"out": str(self.out), "kept": self.kept}
        return {"run": self.run, "frames": self.frames, **asdict(self.summary), **unreadable, **kept}


def find_contamination(run: Run, options: ContaminationConfig, progress: ProgressCallback | None = None) -> ContaminationResult:
    """Find the traces of a run that overlap with the evaluation sets `options.against`; write `options.report` and `options.out` where given.

    `progress` counts questions, videos and traces in turn. Raises `ConfigError` for options that cannot be used, `StoreError` for files.
    """
    named = [_parsed(one) for one in options.against]
    _check(options, named)
    with tempfile.TemporaryDirectory() as scratch:
        held_out = _held_out(named, Path(scratch), progress, with_frames=options.frames)
    count = sum(1 for _ in run.places())
    damaged: list[str] = []
    compared: set[Place] = set()
    traces = counted(_traces(run, damaged, compared, with_frames=options.frames), progress, "traces", count)
    overlaps = tuple(one for one in find_overlaps(traces, held_out) if not {*options.by}.isdisjoint(one.kinds))
    _warn_of_damage(damaged, "and are not compared, nor written to --out")
    summary = summarise_overlaps(overlaps, count - len(damaged), held_out)
    if options.report is not None:
        _write_report(options.report, overlaps)
    kept = None if options.out is None else _write_clean(run, options, options.out, overlaps, compared)
    return ContaminationResult(str(run.folder), options.frames, overlaps, summary, len(damaged), options.out, kept)


def summarise_overlaps(overlaps: Iterable[Overlap], traces: int, held_out: HeldOut) -> OverlapSummary:
    """Count overlaps among `traces` compared traces, by kind and by benchmark, and list the videos that could not be compared."""
    found = list(overlaps)
    by_kind = {kind: {one.trace_id for one in found if kind in one.kinds} for kind in KINDS}
    asked = Counter(benchmark for benchmark, _ in held_out.samples)
    met = Counter(benchmark for benchmark, _ in {(one.benchmark, one.sample_id) for one in found})
    plain = (video for video in held_out.videos if video.error is None and video.frames.different < measures.LEAST_FRAMES)
    return OverlapSummary(
        traces=traces,
        overlapping_traces=len({one.trace_id for one in found}),
        overlaps=len(found),
        traces_by_kind={kind: len(ids) for kind, ids in by_kind.items()},
        benchmarks={name: BenchmarkOverlap(count, met[name]) for name, count in asked.items()},
        videos=len(held_out.videos),
        videos_not_opened=tuple(UnopenedVideo(str(video.path), video.error) for video in held_out.videos if video.error is not None),
        videos_too_plain=tuple(str(video.path) for video in plain),
    )


# Before anything is read


def _parsed(named: str) -> tuple[str, Path | None]:
    """A benchmark and the folder of its data, from `NAME=DIR` or `NAME`. Raises `ConfigError`."""
    name, separator, folder = named.partition("=")
    registry.check_benchmark(name)
    if separator and not folder:
        raise ConfigError(f"--against {named}: missing folder after the =; write {name}=DIR")
    if name == "synthetic" and folder:
        raise ConfigError(f"--against {named}: synthetic generates its own videos; write --against synthetic")
    if name in BY_NAME and name != "synthetic" and not folder:
        raise ConfigError(f"--against {named}: missing data folder; write {name}=DIR, with {BY_NAME[name].download} in it")
    path = Path(os.path.expanduser(folder)) if folder else None
    if path is not None and not path.exists():
        raise ConfigError(f"--against {named}: {path} does not exist; give the folder of the benchmark's data")
    return name, path


def _check(options: ContaminationConfig, named: Sequence[tuple[str, Path | None]]) -> None:
    if not named:
        raise ConfigError("--against has no evaluation set: write --against minerva=DIR, or --against synthetic")
    if len(set(named)) < len(named):
        raise ConfigError("--against has a duplicate evaluation set: give each once")
    if not options.by:
        raise ConfigError("--by is empty: give at least one of question, near_question, frames, video_name")
    if not options.frames and options.by == ("frames",):
        raise ConfigError("--no-frames and --by frames are mutually exclusive: remove one")
    if options.out is not None and options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
        raise ConfigError(f"{options.out} is not empty: give --out a new folder")


# The traces, and the evaluation sets


def _traces(run: Run, damaged: list[str], compared: set[Place], *, with_frames: bool) -> Iterator[Trace]:
    """Yield the traces that can be read and add their places to `compared`; the errors of the others are added to `damaged`."""
    for place, trace in run.sketches(damaged, with_files=with_frames):
        try:
            found = run.trace_at(place) if with_frames else trace
        except StoreError as error:
            damaged.append(str(error))
            continue
        compared.add(place)
        yield found


def _held_out(named: Sequence[tuple[str, Path | None]], scratch: Path, progress: ProgressCallback | None, *, with_frames: bool) -> HeldOut:
    samples = []
    for number, (name, data) in enumerate(named):
        benchmark = registry.benchmark(name, EvalConfig(data=data), scratch / str(number))
        samples += [(name, sample) for sample in counted(benchmark.samples(), progress, f"questions of {name}", None)]
    paths = list(dict.fromkeys(sample.video for _, sample in samples)) if with_frames else []
    videos = list(counted(map(hash_video, paths), progress, "videos", len(paths))) if paths else []
    return HeldOut(samples, videos)


# After the last trace


def _warn_of_damage(damaged: Sequence[str], consequence: str) -> None:
    if damaged:
        _log.warning("%s traces are unreadable, %s; the first: %s", len(damaged), consequence, damaged[0])


def _write_report(path: Path, overlaps: Iterable[Overlap]) -> None:
    unfinished = path.with_name(f".{path.name}.part")
    try:
        unfinished.write_text("".join(json.dumps(asdict(one)) + "\n" for one in overlaps), encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from error


def _write_clean(run: Run, options: ContaminationConfig, out: Path, overlaps: Iterable[Overlap], compared: Collection[Place]) -> int:
    """Write the run without the traces that overlap or could not be compared, and count its traces."""
    dropped = {one.trace_id for one in overlaps}
    config: dict[str, JSON] = {
        "run": str(run.folder),
        "run_digest": run.digest,
        "against": list(options.against),
        "by": list(options.by),
        "frames": options.frames,
    }

    def keep(place: Place, trace: Trace) -> bool:
        return place in compared and trace.id not in dropped

    lost: list[str] = []
    with whole_folder(out) as folder:
        clean = run.subset(folder, keep, command="contamination", config=config, seed=run.seed, damaged=lost)
        if (questions := run.rows(SAMPLES)) is not None:  # a constructed run stays one that can be filtered
            clean.write_rows(SAMPLES, (row for _, row in questions if isinstance(row, dict)))
        kept = sum(1 for _ in clean.places())
    if not options.frames:  # with frames, the caller has warned already
        _warn_of_damage(lost, f"and are not in {out}")
    return kept
