"""Runs on disk: a folder that can be cut off at any byte, resumed, shared by two processes, and read without trusting it.

    run.json        what made the run: command, config, seed, their digest, versions
    traces.jsonl    one trace a line, append-only; a last line without its newline was cut off and does not count
    scores.jsonl    how each trace was scored; made anew from the traces whenever the run is scored (scores-1-of-2.jsonl: by one of its shards)
    samples.jsonl   of a run of training data: the questions with right answers and people's reasoning, by which its traces are filtered
    frames/         <sha256>.png|jpg, each written once
    summary.json    what came out; costs.json: what of it differs from one machine to the next

A frame's name is the sha256 of its size and RGB pixels; a generated frame's covers its provenance too. Real frames of up to 512x512 and all generated
ones are PNG and come back pixel for pixel; larger real ones are JPEG (quality 95, 4:4:4) and come back almost the same. Our choice: a benchmark's
run holds tens of thousands of real frames. A generated frame's file also says inside that it is one and where it came from.
"""

import fcntl
import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from PIL import Image

from act2see.disk import append_line, end_of_last_line, placed, reading, replace_file, writing
from act2see.errors import StoreError
from act2see.imagined import Kind, imagined_metadata
from act2see.making import differences, flat, library_versions
from act2see.records import (
    FORMAT_VERSION,
    canonical_json,
    decode_trace,
    encode_provenance,
    encode_trace,
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
from act2see.trace import Frame, Trace

__all__ = ["FORMAT_VERSION", "JSON", "MAX_PNG_PIXELS", "SAMPLES", "Place", "Run", "decode_trace", "encode_trace", "file_of", "save_picture"]

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"

MAX_PNG_PIXELS = 512 * 512
"""Larger real frames are stored as JPEG."""

_RUN, _TRACES, _SCORES, _FRAMES, _SUMMARY, _COSTS = "run.json", "traces.jsonl", "scores.jsonl", "frames", "summary.json", "costs.json"
SAMPLES = "samples.jsonl"
_PIXEL = Image.new("RGB", (1, 1))
_KINDS: Mapping[str, Kind] = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a trace stands in its run's traces.jsonl: the line's number, from 1, and the byte at which it begins."""

    line: int
    offset: int


class Run:
    """One run folder. Made by `create`, `resume`, `create_or_open` or `open`; whatever goes wrong is a `StoreError`."""

    def __init__(self, folder: Path, *, command: str, config: Mapping[str, Any], seed: int | None, digest: str, versions: Mapping[str, str]) -> None:
        self.folder = folder
        self.command = command
        self.config = config
        self.seed = seed
        self.digest = digest
        """sha256 over the canonical JSON of command, config and seed: runs with equal digests were asked for the same."""
        self.versions = versions

    @classmethod
    def create(cls, folder: Path, *, command: str, config: Mapping[str, JSON], seed: int | None) -> "Run":
        """Begin a run in a folder that holds none; the folder is made if need be."""
        run = cls(folder, command=command, config=plain(config), seed=seed, digest=_digest(command, config, seed), versions=library_versions())
        names = ("command", "config", "seed", "digest", "versions")
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with _locked(folder) as traces:
                if (folder / _RUN).exists():
                    raise StoreError(f"{folder} holds a run already: resume it, or give another folder")
                if traces.seek(0, os.SEEK_END) > 0:
                    raise StoreError(f"{folder} holds {_TRACES} but no {_RUN}: give another folder")
                replace_file(folder / _RUN, _pretty({"version": FORMAT_VERSION, **{name: getattr(run, name) for name in names}}))
        return run

    @classmethod
    def resume(cls, folder: Path, *, command: str, config: Mapping[str, JSON], seed: int | None) -> "Run":
        """Go on with a run that was asked for in the same way; otherwise the error names every key that differs, with both values."""
        run = cls.open(folder)
        if _digest(command, config, seed) != run.digest:
            before = {"command": run.command, "seed": run.seed} | flat(run.config)
            now = {"command": command, "seed": seed} | flat(plain(config))
            said = ", ".join(f"{name} was {old} and is {new}" for name, (old, new) in differences(before, now).items())
            raise StoreError(f"{folder} was made with other settings: {said or 'its digest differs'}: give the same ones, or another folder")
        return run

    @classmethod
    def create_or_open(cls, folder: Path, *, command: str, config: Mapping[str, JSON], seed: int | None) -> "Run":
        """Begin a run, or add to the one that is there whatever its settings were: every trace says itself how it was made."""
        if not (folder / _RUN).exists():
            return cls.create(folder, command=command, config=config, seed=seed)
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> "Run":
        """A run that exists, to be read."""
        path = folder / _RUN
        if not path.exists():
            raise StoreError(f"no run in {folder}: it holds no {_RUN}")
        with reading(path):
            content = path.read_bytes()

        def make(**read: Any) -> "Run":
            return cls(folder, **read)

        texts = map_of(read_text)
        any_values = map_of(lambda value, _: value)
        read_run = read_object(make, command=read_text, config=any_values, seed=optional(read_integer), digest=read_text, versions=texts)
        with placed(str(path)):
            return read_run(without_version(parse_json(content)), "")

    def append(self, trace: Trace) -> None:
        """Add a trace: its frames first, then its line, all on the disk when this returns. It is not asked whether the id is there already.

        When the disk is full, everything that was appended before stays readable.
        """
        files: dict[str, Frame] = {}

        def name(frame: Frame) -> str:
            found = _name(frame)
            files[found] = frame
            return found

        with placed(f"trace {shown(trace.id)} cannot be written"):
            line = _line(encode_trace(trace, name))
            decode_trace(parse_json(line), lambda file: files[file].image)  # what could not be read again is refused here, not years later
        frames = self.folder / _FRAMES
        with writing(self.folder), _locked(self.folder) as traces:
            frames.mkdir(exist_ok=True)
            missing = {frames / file: frame for file, frame in files.items() if not (frames / file).exists()}
            for path, frame in missing.items():
                replace_file(path, _encoded(frame, _KINDS[path.suffix]))
            append_line(traces, line)

    def traces(self) -> Iterator[Trace]:
        """All traces with their frames, in the order in which they were appended."""
        for number, _, line in self._lines():
            with placed(f"{self.folder / _TRACES}:{number}"):
                trace = decode_trace(parse_json(line), self._load)
            yield trace

    def places(self) -> Iterator[Place]:
        """Where each trace stands, for whoever reads them in another order than the file's. No trace is read."""
        for number, offset, _ in self._lines():
            yield Place(number, offset)

    def trace_at(self, place: Place, *, blank: bool = False) -> Trace:
        """The trace at a place. `blank`: of its pictures only the sizes are true, which is quick and enough to count tokens."""
        return self._trace_at(place, self._load_blank if blank else self._load)

    def sketch_at(self, place: Place) -> Trace:
        """The trace at a place with one black pixel for each of its pictures: no other file is read, and it is enough to score it.

        `file_of` tells which file a sketched frame stands for.
        """
        return self._trace_at(place, _sketched)

    def digest_of_traces(self) -> str:
        """sha256 over the lines of all traces. Frames' names in them are digests too: equal digests are equal traces."""
        found = hashlib.sha256()
        for _, _, line in self._lines():
            found.update(line)
        return found.hexdigest()

    def ids(self) -> set[str]:
        """The ids of all traces, without loading a picture."""
        return {self.sketch_at(place).id for place in self.places()}

    def finished(self) -> dict[str, Place]:
        """Where the traces stand that have ended, by their ids; of several with one id the last. What failed has not ended."""
        return {trace.id: place for place in self.places() if (trace := self.sketch_at(place)).finish}

    def write_summary(self, summary: Mapping[str, JSON], costs: Mapping[str, JSON] | None = None) -> None:
        """Write summary.json, and costs.json where there are any; whoever reads one sees the old one or the new one, never a half."""
        with writing(self.folder), _locked(self.folder):
            replace_file(self.folder / _SUMMARY, _pretty(summary))
            if costs is not None:
                replace_file(self.folder / _COSTS, _pretty(costs))

    def summary(self) -> Any:
        """What summary.json holds; None where there is none."""
        path = self.folder / _SUMMARY
        if not path.exists():
            return None
        with reading(path), placed(str(path)):
            return parse_json(path.read_bytes())

    def subset(self, folder: Path, keep: Callable[[Trace], bool], *, command: str, config: Mapping[str, JSON], seed: int | None) -> "Run":
        """A new run of the traces that are to be kept, each line as it is; of the frames' files, the same ones under a second name where that can be.

        `keep` is asked about sketches (`sketch_at`).
        """
        made = Run.create(folder, command=command, config=config, seed=seed)
        frames = folder / _FRAMES
        with writing(folder), (folder / _TRACES).open("ab") as file:
            frames.mkdir()
            for number, _, line in self._lines():
                names: set[str] = set()

                def note(name: str, names: set[str] = names) -> Image.Image:
                    names.add(name)
                    return _sketched(name)

                with placed(f"{self.folder / _TRACES}:{number}"):
                    trace = decode_trace(parse_json(line), note)
                if keep(trace):
                    for name in names:
                        _link(self.folder / _FRAMES / name, frames / name)
                    file.write(line)
            file.flush()
            os.fsync(file.fileno())
        return made

    def write_scores(self, scores: Iterable[Mapping[str, JSON]], shard: str | None = None) -> None:
        """Write scores.jsonl, or a shard's own, a score a line, as `write_rows` does."""
        self.write_rows(self._scores_of(shard), scores)

    def scores(self, shard: str | None = None) -> list[tuple[str, Any]] | None:
        """Each score with its place, not checked; None where there are none yet."""
        return self.rows(self._scores_of(shard))

    def write_rows(self, name: str, rows: Iterable[Mapping[str, JSON]]) -> None:
        """Write a file of JSON lines into the folder in one step: whoever reads it sees all of the old ones or all of these."""
        with writing(self.folder):
            replace_file(self.folder / name, b"".join(_line(plain(row)) for row in rows))

    def rows(self, name: str) -> list[tuple[str, Any]] | None:
        """Each line of a file of JSON lines in the folder with its place, not checked; None where there is no such file."""
        path = self.folder / name
        if not path.exists():
            return None
        with reading(path):
            lines = path.read_bytes().splitlines()
        found = []
        for number, line in enumerate(lines, start=1):
            with placed(f"{path}:{number}"):
                found.append((f"{path}:{number}", parse_json(line)))
        return found

    def _scores_of(self, shard: str | None) -> str:
        return _SCORES if shard is None else f"scores-{shard}.jsonl"

    def _trace_at(self, place: Place, load: Callable[[str], Image.Image]) -> Trace:
        path = self.folder / _TRACES
        with reading(path), path.open("rb") as file:
            file.seek(place.offset)
            line = file.readline()
        with placed(f"{path}:{place.line}"):
            return decode_trace(parse_json(line), load)

    def _lines(self) -> Iterator[tuple[int, int, bytes]]:
        """Each whole line with its number and where it begins."""
        path = self.folder / _TRACES
        with reading(path), path.open("rb") as file:
            # Up to here nothing ever changes; behind it another process may be writing.
            end = end_of_last_line(file)
            file.seek(0)
            at = 0
            for number, line in enumerate(file, start=1):
                if at + len(line) > end:
                    return
                yield number, at, line
                at += len(line)

    def _load_blank(self, name: str) -> Image.Image:
        return self._load(name, blank=True)

    def _load(self, name: str, *, blank: bool = False) -> Image.Image:
        path = self.folder / _FRAMES / name
        try:
            with Image.open(path, formats=("PNG", "JPEG")) as image:
                loaded = Image.new("RGB", image.size) if blank else image.convert("RGB")
        except FileNotFoundError as error:
            raise StoreError(f"{path} is missing: the trace cannot be read without it") from error
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise StoreError(f"{path} cannot be read as a picture: {error}") from error
        loaded.info = {}  # the texts inside the file are for other programs; two pictures are equal when their pixels are
        return loaded


# Frames as files


def file_of(sketched: Frame) -> str:
    """The name of the file that a sketched frame (`Run.sketch_at`) stands for: equal names are equal pictures."""
    return str(sketched.image.info["file"])


def _sketched(name: str) -> Image.Image:
    pixel = _PIXEL.copy()
    pixel.info["file"] = name
    return pixel


def _link(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system has no such thing. Frames never change."""
    if target.exists():
        return
    try:
        os.link(source, target)
    except FileNotFoundError as error:
        raise StoreError(f"{source} is missing: its trace cannot be kept without it") from error
    except OSError:
        shutil.copyfile(source, target)


def save_picture(path: Path, frame: Frame) -> None:
    """Write a frame as a PNG or JPEG, by the name's ending. A generated one says inside that it is one and where it came from.

    Raises `StoreError`; what was at `path` then stays.
    """
    kind = _KINDS.get(path.suffix.lower())
    if kind is None:
        raise StoreError(f"cannot save a picture as {path}: give a name that ends in {', '.join(_KINDS)}")
    with placed(f"{path} cannot be written"):
        content = _encoded(frame, kind)
    with writing(path.parent):
        replace_file(path, content)


def _name(frame: Frame) -> str:
    image = frame.image.convert("RGB")
    found = hashlib.sha256(f"{image.width}x{image.height}\n".encode() + image.tobytes())
    if frame.provenance is not None:
        found.update(canonical_json(encode_provenance(frame.provenance)).encode())
    is_png = frame.provenance is not None or image.width * image.height <= MAX_PNG_PIXELS
    return f"{found.hexdigest()}.{'png' if is_png else 'jpg'}"


def _encoded(frame: Frame, kind: Kind) -> bytes:
    content = io.BytesIO()
    quality = {} if kind == "PNG" else {"quality": 95, "subsampling": "4:4:4"}
    metadata = {} if frame.provenance is None else imagined_metadata(kind, frame.provenance)
    image = frame.image.convert("RGB")
    image.info = {}  # a JPEG's comment would be taken over from wherever the picture was read
    image.save(content, kind, **quality, **metadata)
    return content.getvalue()


# What made a run


def _digest(command: str, config: Mapping[str, JSON], seed: int | None) -> str:
    return hashlib.sha256(canonical_json({"command": command, "config": plain(config), "seed": seed}).encode()).hexdigest()


def _line(record: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(record, allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError) as error:
        raise StoreError(str(error)) from error


def _pretty(value: Any) -> bytes:
    return json.dumps(value, indent=2, allow_nan=False).encode() + b"\n"


@contextmanager
def _locked(folder: Path) -> Iterator[BinaryIO]:
    """The traces' file, held by this process alone: every change to the folder happens inside."""
    with (folder / _TRACES).open("ab+", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # closing the file gives it back
        yield file
