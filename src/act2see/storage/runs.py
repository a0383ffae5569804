"""Runs on disk: a folder that can be cut off at any byte, resumed, shared by two processes, and read without trusting it.

    run.json        what made the run: command, config, seed, their digest, versions
    traces.jsonl    one trace a line, append-only; a last line without its newline was cut off and does not count
    scores.jsonl    how each trace was scored; made anew from the traces whenever the run is scored (scores-1-of-2.jsonl: by one of its shards)
    samples.jsonl   of a run of training data: the questions with right answers and people's reasoning, by which its traces are filtered
    frames/         <sha256>.png|jpg, each written once
    summary.json    what came out; costs.json: what of it differs from one machine to the next

How frames are named, kept and checked: frames.py. A folder may be a stranger's: nothing but its regular files is read (see atomic.py), a line that
is no trace is named by its number, and nothing outside the folder is opened or written.
"""

import hashlib
import importlib
import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from act2see.core.errors import StoreError
from act2see.core.trace import Frame, Trace
from act2see.storage.atomic import (
    MAX_LINE_BYTES,
    MAX_LINES_BYTES,
    append_line,
    check_writable_place,
    content_of,
    lines,
    opened,
    placed,
    reading,
    replace_file,
    whole_lines,
    writing,
)
from act2see.storage.codec import (
    FORMAT_VERSION,
    JSON,
    canonical_json,
    map_of,
    optional,
    parse_json,
    plain,
    read_integer,
    read_object,
    read_text,
    shown,
    without_version,
)
from act2see.storage.frames import FRAMES, MAX_PNG_PIXELS, FrameFiles, FramesOfTrace, file_of, files_of, name_of, save_picture, sketched
from act2see.storage.locks import alone
from act2see.storage.records import Load, decode_trace, encode_trace, read_trace
from act2see.storage.run_metadata import differences, flat, library_versions

__all__ = [
    "FORMAT_VERSION",
    "JSON",
    "MAX_PNG_PIXELS",
    "SAMPLES",
    "Place",
    "Run",
    "decode_trace",
    "encode_trace",
    "file_of",
    "files_of",
    "save_picture",
]

_RUN, _TRACES, _SCORES, _SUMMARY, _COSTS = "run.json", "traces.jsonl", "scores.jsonl", "summary.json", "costs.json"
SAMPLES = "samples.jsonl"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a trace stands in its run's traces.jsonl: the line's number, from 1, and the byte at which it begins."""

    line: int
    offset: int


class Run:
    """One run folder. Made by `create`, `resume`, `create_or_open` or `open`; whatever goes wrong is a `StoreError`."""

    def __init__(self, folder: Path, *, command: str, config: Mapping[str, JSON], seed: int | None, digest: str, versions: Mapping[str, str]) -> None:
        self.folder = folder
        self._traces = folder / _TRACES
        self.command = command
        self.config = config
        self.seed = seed
        self.digest = digest
        """sha256 over the canonical JSON of command, config and seed: runs with equal digests were asked for the same."""
        self.versions = versions
        self.frames = FrameFiles(folder)

    @classmethod
    def create(cls, folder: Path, *, command: str, config: Mapping[str, JSON], seed: int | None) -> "Run":
        """Begin a run in a folder that holds none; the folder is made if need be."""
        run = cls(folder, command=command, config=plain(config), seed=seed, digest=_digest(command, config, seed), versions=library_versions())
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            if os.path.lexists(folder / _RUN):
                raise StoreError(f"{folder} holds a run already: go on with --resume, or give another folder")
            with _locked(folder) as traces:
                if os.path.lexists(folder / _RUN):  # another process was faster
                    raise StoreError(f"{folder} holds a run already: go on with --resume, or give another folder")
                if traces.seek(0, os.SEEK_END) > 0:
                    raise StoreError(f"{folder} holds {_TRACES} but no {_RUN}: give another folder")
                run._write_about()
        return run

    @classmethod
    def resume(cls, folder: Path, *, command: str, config: Mapping[str, JSON], seed: int | None, may_change: Collection[str] = ()) -> "Run":
        """Go on with a run that was asked for in the same way; otherwise the error names every key that differs, with both values.

        Keys of the config in `may_change` may differ (how many questions are wanted): run.json then says what is wanted now.
        """
        run = cls.open(folder)
        before, now = ({"command": run.command, "seed": run.seed} | flat(run.config), {"command": command, "seed": seed} | flat(plain(config)))
        different = differences(before, now)
        if refused := {name: pair for name, pair in different.items() if name not in may_change}:
            said = ", ".join(f"{name} was {old} and is {new}" for name, (old, new) in refused.items())
            raise StoreError(f"{folder} was made with other settings: {said}: give the same ones, or another folder")
        if different:
            run.config, run.digest = plain(config), _digest(command, config, seed)
            with writing(folder), _locked(folder):
                run._write_about()
        return run

    @classmethod
    def create_or_open(cls, folder: Path, *, command: str, config: Mapping[str, JSON], seed: int | None) -> "Run":
        """Begin a run, or add to the one that is there whatever its settings were: every trace says itself how it was made."""
        with reading(folder):
            is_new = not os.path.lexists(folder / _RUN)
        return cls.create(folder, command=command, config=config, seed=seed) if is_new else cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> "Run":
        """A run that exists, to be read."""
        path = folder / _RUN
        try:
            with reading(path):
                content = content_of(folder, _RUN)
        except StoreError as error:
            if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
                raise StoreError(f"no run in {folder}: it holds no {_RUN}") from error
            raise

        texts = map_of(read_text)
        any_values = map_of(lambda value, _: value)
        read_run = read_object(
            partial(cls, folder), command=read_text, config=any_values, seed=optional(read_integer), digest=read_text, versions=texts
        )
        with placed(str(path)):
            return read_run(without_version(parse_json(content)), "")

    @classmethod
    def of(cls, run: "Run | Path | str") -> "Run":
        """A run as it is, or the one in a folder, whose name may begin with `~`."""
        return run if isinstance(run, Run) else cls.open(Path(os.path.expanduser(run)))

    def append(self, trace: Trace) -> None:
        """Add a trace: its frames first, then its line, all on the disk when this returns. It is not asked whether the id is there already.

        When the disk is full, everything that was appended before stays readable.
        """
        files: dict[str, Frame] = {}

        def name(frame: Frame) -> str:
            found = name_of(frame)
            files[found] = frame
            return found

        with placed(f"trace {shown(trace.id)} cannot be written"):
            line = _line(encode_trace(trace, name))
            if len(line) > MAX_LINE_BYTES:
                raise StoreError(f"it takes {len(line):,} bytes; at most {MAX_LINE_BYTES:,} are read")
            read_trace(line, lambda file: files[file].image)  # what could not be read again is refused here, not years later
        with writing(self.folder), _locked(self.folder) as traces:
            self.frames.add(files)
            append_line(traces, line)

    def traces(self) -> Iterator[Trace]:
        """All traces with their frames, in the order in which they were appended."""
        for number, _, line in self._lines():
            yield self._decoded(number, line, FramesOfTrace(self.frames))

    def places(self) -> Iterator[Place]:
        """Where each trace stands, for whoever reads them in another order than the file's. No trace is read."""
        for number, offset, _ in self._lines():
            yield Place(number, offset)

    def sketches(self, damaged: list[str] | None = None, *, with_files: bool = False) -> Iterator[tuple[Place, Trace]]:
        """All traces as `sketch_at` gives them, each with its place.

        With `damaged`, a line that is no trace is told there, with its place, and passed over; else it is a `StoreError`. `with_files`: so is a trace
        of which a frame's file is not there.
        """
        load = self.frames.sketching() if with_files else sketched
        for number, offset, line in self._lines():
            try:
                trace = self._decoded(number, line, load)
            except StoreError as error:
                if damaged is None:
                    raise
                damaged.append(str(error))
                continue
            yield Place(number, offset), trace

    def trace_at(self, place: Place, *, blank: bool = False) -> Trace:
        """The trace at a place. `blank`: of its pictures only the sizes are true, which is quick and enough to count tokens."""
        return self._decoded(place.line, self._line_at(place), FramesOfTrace(self.frames, blank=blank))

    def sketch_at(self, place: Place) -> Trace:
        """The trace at a place with one black pixel for each of its pictures: no other file is read, and it is enough to score it.

        `file_of` tells which file a sketched frame stands for.
        """
        return self._decoded(place.line, self._line_at(place), sketched)

    def stored_at(self, place: Place) -> tuple[Trace, dict[str, JSON], dict[int, Path]]:
        """The trace at a place, its record without the version, and its frames' files by the identity of their images."""
        found: dict[int, Path] = {}
        frames = FramesOfTrace(self.frames)

        def load(name: str) -> Image.Image:
            image = frames.load(name)
            found[id(image)] = self.frames.path(name)
            return image

        with placed(f"{self.folder / _TRACES}:{place.line}"):
            record = parse_json(_not_too_long(self._line_at(place)))
            return decode_trace(record, load, frames.check), without_version(record), found

    def digest_of_traces(self) -> str:
        """sha256 over the lines of all traces. Frames' names in them are digests too: equal digests are equal traces."""
        found = hashlib.sha256()
        for _, _, line in self._lines():
            found.update(b"too long" if line is None else line)
        return found.hexdigest()

    def ids(self) -> set[str]:
        """The ids of all traces, without loading a picture."""
        return {trace.id for _, trace in self.sketches()}

    def write_summary(self, summary: Mapping[str, object], costs: Mapping[str, object] | None = None) -> None:
        """Write summary.json, and costs.json where there are any; whoever reads one sees the old one or the new one, never a half."""
        with writing(self.folder), _locked(self.folder):
            _replace(self.folder / _SUMMARY, _pretty(summary))
            if costs is not None:
                _replace(self.folder / _COSTS, _pretty(costs))

    def summary(self) -> Any:
        """What summary.json holds, not checked; None where there is none."""
        return self._json(_SUMMARY)

    def costs(self) -> Any:
        """What costs.json holds, not checked; None where there is none."""
        return self._json(_COSTS)

    def subset(
        self,
        folder: Path,
        keep: Callable[[Place, Trace], bool],
        *,
        command: str,
        config: Mapping[str, JSON],
        seed: int | None,
        damaged: list[str] | None = None,
    ) -> "Run":
        """A new run of the traces that are to be kept.

        `keep` is asked about places and sketches (`sketch_at`). `damaged`: see `sketches`; what is damaged is not in the new run.
        """
        kept = {place: files_of(trace) for place, trace in self.sketches(damaged) if keep(place, trace)}
        return self.selection(folder, kept, command=command, config=config, seed=seed, damaged=damaged)

    def selection(
        self,
        folder: Path,
        kept: Mapping[Place, Collection[str]],
        *,
        command: str,
        config: Mapping[str, JSON],
        seed: int | None,
        damaged: list[str] | None = None,
    ) -> "Run":
        """A new run of the traces at these places, each with its frames' files (`files_of`). No trace is decoded.

        Each line stays as it is; of the frames' files the new run has the same ones under a second name where that can be. With `damaged`, a trace
        whose files cannot be kept is told there and left out; else it is a `StoreError`.
        """
        made = Run.create(folder, command=command, config=config, seed=seed)
        frames, there = folder / FRAMES, set[str]()
        with writing(folder), (folder / _TRACES).open("ab") as file:
            frames.mkdir()
            for number, offset, line in self._lines():
                files = kept.get(Place(number, offset))
                if files is None:
                    continue
                new = [name for name in dict.fromkeys(files) if name not in there]
                try:
                    with placed(f"{self._traces}:{number}"):
                        for name in new:  # before anything of the trace is written
                            self.frames.sketched(name)
                    self.frames.give(new, frames)
                    file.write(_not_too_long(line))
                    there.update(new)
                except StoreError as error:
                    if damaged is None:
                        raise
                    damaged.append(str(error))
            file.flush()
            os.fsync(file.fileno())
        return made

    def write_scores(self, scores: Iterable[Mapping[str, JSON]], shard: str | None = None) -> None:
        """Write scores.jsonl, or a shard's own, a score a line, as `write_rows` does."""
        self.write_rows(self._scores_of(shard), scores)

    def scores(self, shard: str | None = None, damaged: list[str] | None = None) -> list[tuple[str, Any]] | None:
        """Each score with its place, not checked; None where there are none yet."""
        return self.rows(self._scores_of(shard), damaged)

    def write_rows(self, name: str, rows: Iterable[Mapping[str, JSON]]) -> None:
        """Write a file of JSON lines into the folder in one step: whoever reads it sees all of the old ones or all of these."""
        with writing(self.folder):
            _replace(self.folder / name, b"".join(_line(plain(row)) for row in rows))

    def rows(self, name: str, damaged: list[str] | None = None) -> list[tuple[str, Any]] | None:
        """Each line of a file of JSON lines in the folder with its place, not checked; None where there is none. `damaged`: see `sketches`."""
        found = []
        try:
            with opened(self.folder, name, max_bytes=MAX_LINES_BYTES) as file:
                for number, line in lines(file):
                    try:
                        with placed(where := f"{self.folder / name}:{number}"):
                            found.append((where, parse_json(_not_too_long(line))))
                    except StoreError as error:
                        if damaged is None:
                            raise
                        damaged.append(str(error))
        except FileNotFoundError:
            return None
        except OSError as error:
            with reading(self.folder / name):
                raise error
        return found

    def _scores_of(self, shard: str | None) -> str:
        return _SCORES if shard is None else f"scores-{shard}.jsonl"

    def _json(self, name: str) -> JSON:
        path = self.folder / name
        try:
            content = content_of(self.folder, name)
        except FileNotFoundError:
            return None
        except OSError as error:
            with reading(path):
                raise error
        with placed(str(path)):
            return parse_json(content)

    def _repr_html_(self) -> str:
        """A table for notebooks. Loaded by name: the pages stand above this package."""
        html: str = importlib.import_module("act2see.report").run_html(self)
        return html

    def _write_about(self) -> None:
        names = ("command", "config", "seed", "digest", "versions")
        _replace(self.folder / _RUN, _pretty({"version": FORMAT_VERSION, **{name: getattr(self, name) for name in names}}))

    def _decoded(self, number: int, line: bytes | None, frames: FramesOfTrace | Load) -> Trace:
        with placed(f"{self._traces}:{number}"):
            content = _not_too_long(line)
            return read_trace(content, frames.load, frames.check) if isinstance(frames, FramesOfTrace) else read_trace(content, frames)

    def _line_at(self, place: Place) -> bytes | None:
        path = self.folder / _TRACES
        with reading(path), opened(self.folder, _TRACES, max_bytes=MAX_LINES_BYTES) as file:
            file.seek(place.offset)
            line = file.readline(MAX_LINE_BYTES)
        return line if line.endswith(b"\n") else None

    def _lines(self) -> Iterator[tuple[int, int, bytes | None]]:
        """Each whole line with its number and where it begins; None for one that is too long."""
        path = self.folder / _TRACES
        with reading(path), opened(self.folder, _TRACES, max_bytes=MAX_LINES_BYTES) as file, placed(str(path)):
            yield from whole_lines(file)


# What made a run


def _digest(command: str, config: Mapping[str, JSON], seed: int | None) -> str:
    return hashlib.sha256(canonical_json({"command": command, "config": plain(config), "seed": seed}).encode()).hexdigest()


def _line(record: Mapping[str, object]) -> bytes:
    try:
        return json.dumps(record, allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError) as error:
        raise StoreError(str(error)) from error


def _pretty(value: object) -> bytes:
    return json.dumps(value, indent=2, allow_nan=False).encode() + b"\n"


def _replace(path: Path, content: bytes) -> None:
    check_writable_place(path)
    replace_file(path, content)


def _not_too_long(line: bytes | None) -> bytes:
    if line is None:
        raise StoreError(f"the line is longer than {MAX_LINE_BYTES:,} bytes")
    return line


@contextmanager
def _locked(folder: Path) -> Iterator[BinaryIO]:
    """The traces' file, held by this process alone: every change to the folder happens inside."""
    with opened(folder, _TRACES, max_bytes=MAX_LINES_BYTES, flags=os.O_RDWR | os.O_APPEND | os.O_CREAT) as file, alone(file):
        yield file
