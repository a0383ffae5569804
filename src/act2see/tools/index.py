"""A video's frames as vectors, made once and kept in the cache: what a text query is compared with.

An index is made part by part, and each finished part is kept: whatever ends the making (Ctrl-C, a kill, a full battery), the next call goes on from
there. A finished index is one safetensors file, mapped into memory. The rate of 3 frames a second is the paper's; the layout is our choice.
"""

import hashlib
import json
import logging
import math
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import save

from act2see.core.errors import ConfigError, VideoError
from act2see.core.interfaces import FrameEncoder
from act2see.core.trace import Frame
from act2see.storage.cache import Cache
from act2see.video import Video

PART_FRAMES = 32
"""Frames that are encoded, and then kept, at once."""
_FORMAT = 1


_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an index has come, in frames; in the end `done` is `total`, which may have become less: where frames cannot be decoded.

    The rate is of this call alone, without what was there already; None before there is any.
    """

    done: int
    total: int | None
    """None while it is not known: how many keyframes there are."""
    frames_per_second: float | None = None
    seconds_left: float | None = None


@dataclass(frozen=True, slots=True)
class _Table:
    """Encoded frames: of a part, or of a whole video."""

    seconds: NDArray[np.float64]
    frame_indices: NDArray[np.int64]
    rows: NDArray[np.int64]  # which row of `vectors` each frame has; -1, in a part, is the last row of the parts before it
    vectors: NDArray[np.float16]  # (rows, vectors, width)
    signature: NDArray[np.uint8]  # of the last frame that was encoded, where near-duplicates are skipped


@dataclass(frozen=True, slots=True)
class _Options:
    fps: float
    skip_duplicates: bool
    keyframes_only: bool


class Index:
    """The encoded frames of a video, in order of time. Made by `Index.build`."""

    def __init__(self, encoder: FrameEncoder, table: _Table) -> None:
        self.encoder = encoder
        self._table = table

    @classmethod
    def build(
        cls,
        video: Video,
        encoder: FrameEncoder,
        fps: float = 3.0,
        cache: Cache | None = None,
        progress: Callable[[Progress], None] | None = None,
        *,
        skip_duplicates: bool = False,
        keyframes_only: bool = False,
    ) -> "Index":
        """The index of the frames that `video.sample(fps)` gives: from the cache, or made now and kept there; not kept without a cache.

        Another process that is making the same index is waited for. Two options trade recall for time and are off by default:
        `skip_duplicates` gives a frame that looks like the one before it that frame's vectors, and `keyframes_only` takes the keyframes alone
        (see `refined`). Raises `VideoError` where no frame can be decoded, and `ConfigError` for an encoder whose vectors cannot be used.
        """
        options = _Options(float(fps), skip_duplicates, keyframes_only)
        maker = _Maker(video, encoder, options, cache)
        found = maker.load()
        if found is None:
            waiting = f"another process is indexing {video.path.name}; waiting for it"
            with cache.lock(maker.name, lambda: _log.warning("%s", waiting)) if cache else nullcontext():
                found = maker.load() or maker.make(progress)
        return cls(encoder, found)

    @property
    def seconds(self) -> NDArray[np.float64]:
        """Each frame's presentation time, rising, of shape (frames,)."""
        return self._table.seconds

    @property
    def frame_indices(self) -> NDArray[np.int64]:
        """Which frame of the video each is, in order of presentation, from 0; of shape (frames,)."""
        return self._table.frame_indices

    @property
    def vectors(self) -> NDArray[np.float16]:
        """The encoder's unit vectors, of shape (frames, vectors, width); read-only and mapped from the cache where they can be."""
        table = self._table
        return table.vectors if np.array_equal(table.rows, np.arange(len(table.vectors))) else table.vectors[table.rows]

    def scores(self, text: str) -> NDArray[np.float32]:
        """How well each frame fits the text, in the encoder's own units, of shape (frames,)."""
        return self.encoder.scores(self._table.vectors, self.encoder.encode_text(text))[self._table.rows]

    def refined(self, video: Video, text: str, fps: float = 3.0, around: int = 4) -> "Index":
        """This index with the frames at `fps` added between the neighbours of the `around` frames that fit the text best. Nothing of it is kept.

        For an index of keyframes alone. `around` = 4 is our choice.
        """
        times = np.array(video.times(fps))
        wanted = np.zeros(len(times), bool)
        for best in np.argsort(-self.scores(text), kind="stable")[:around]:
            after = self.seconds[best - 1] if best else -math.inf
            before = self.seconds[best + 1] if best + 1 < len(self.seconds) else math.inf
            wanted |= (after < times) & (times < before)
        missing = times[wanted & ~np.isin(times, self.seconds)]
        frames = video.frames_at(missing.tolist(), self.encoder.side) if missing.size else iter(())
        parts = [_encoded(batch, video, self.encoder) for batch in _batches(frames)]
        return Index(self.encoder, _by_time(_joined([self._table, *parts])))


class _Maker:
    """Makes one index, or finds it. What it keeps is named by everything that it is made from."""

    def __init__(self, video: Video, encoder: FrameEncoder, options: _Options, cache: Cache | None) -> None:
        self.video, self.encoder, self.options, self.cache = video, encoder, options, cache
        self.modified = _modified(video.path)
        made_from = [_FORMAT, video.digest, encoder.fingerprint, encoder.side, repr(options)]
        self.key = f"{video.digest[:32]}-{hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:32]}"
        self.name = f"frames/{self.key}.safetensors"

    def load(self) -> _Table | None:
        """The finished index; None where there is none that is whole, or the video was damaged when it was made and has been mended since."""
        found = self._load(self.name)
        if found is None:
            return None
        table, notes = found
        return table if notes.get("damaged") != "yes" or notes.get("modified") == self.modified else None

    def make(self, progress: Callable[[Progress], None] | None) -> _Table:
        """Encode what is not there yet, keeping every part, and join all."""
        times = None if self.options.keyframes_only else self.video.times(self.options.fps)
        parts = self._parts()
        meter = _Meter(progress, None if times is None else len(times), sum(len(part.seconds) for part in parts))
        last = float(parts[-1].seconds[-1]) if parts else -math.inf
        signature = parts[-1].signature if parts else np.zeros((0, 0), np.uint8)
        for batch in _batches(self._frames(times, last), after=last):
            part = _encoded(batch, self.video, self.encoder, signature if self.options.skip_duplicates else None)
            if len(batch) == PART_FRAMES:  # a shorter one is the last, and the whole is kept at once
                self._keep(self._part_name(len(parts)), part, damaged=False)
            parts.append(part)
            signature = part.signature
            meter.add(len(batch))
        meter.end()
        if not parts:
            raise VideoError(f"no frame of {self.video.path} can be decoded")
        whole = _joined(parts)
        damaged = self.video.damage is not None or (times is not None and len(whole.seconds) < len(times))
        if self._keep(self.name, whole, damaged=damaged) and self.cache:
            for number in range(len(parts)):
                self.cache.remove(self._part_name(number))
        return self.load() or whole

    def _frames(self, times: Sequence[float] | None, after: float) -> Iterator[Frame]:
        """The frames at these times, or the keyframes; those up to `after` are not wanted."""
        if times is None:
            return self.video.keyframes(self.encoder.side)
        left = [seconds for seconds in times if seconds > after]
        return self.video.frames_at(left, self.encoder.side) if left else iter(())

    def _parts(self) -> list[_Table]:
        """What an interrupted call has left, of the file as it is now."""
        parts: list[_Table] = []
        while (found := self._load(self._part_name(len(parts)))) and found[1].get("modified") == self.modified:
            parts.append(found[0])
        return parts

    def _part_name(self, number: int) -> str:
        return f"parts/{self.key}/{number}.safetensors"

    def _load(self, name: str) -> tuple[_Table, dict[str, str]] | None:
        path = self.cache.find(name) if self.cache else None
        return _read(path) if path else None

    def _keep(self, name: str, table: _Table, *, damaged: bool) -> bool:
        # A file that changes while it is read is no longer what its digest says.
        if self.cache is None or _modified(self.video.path) != self.modified:
            return False
        self.cache.label(self.video.digest, self.video.path.name)
        return self.cache.write(name, _packed(table, {"modified": self.modified, "damaged": "yes" if damaged else "no"}))


class _Meter:
    """Tells of progress, with the rate of this call."""

    def __init__(self, progress: Callable[[Progress], None] | None, total: int | None, there: int) -> None:
        self._progress, self._total, self._there = progress, total, there
        self._made, self._begun = 0, time.monotonic()
        if progress:
            progress(Progress(there, total))

    def add(self, frames: int) -> None:
        self._made += frames
        self._tell(self._total)

    def end(self) -> None:
        if self._there + self._made != self._total:
            self._tell(self._there + self._made)

    def _tell(self, total: int | None) -> None:
        if self._progress is None:
            return
        done = self._there + self._made
        rate = self._made / max(time.monotonic() - self._begun, 1e-9)
        left = max(0, total - done) / rate if total is not None and rate else None
        self._progress(Progress(done, total, rate or None, left))


def _modified(path: Path) -> str:
    try:
        stat = path.stat()
    except OSError as error:
        raise VideoError(f"cannot read {path}: {error.strerror}") from error
    return f"{stat.st_size} {stat.st_mtime_ns}"


# Encoding


def _batches(frames: Iterator[Frame], after: float = -math.inf) -> Iterator[list[Frame]]:
    """Frames in batches, each once and none at or before `after`: where a frame is lost, an earlier one is on screen."""
    last = after
    batch: list[Frame] = []
    for frame in frames:
        if frame.seconds is None or frame.seconds <= last:
            continue
        last = frame.seconds
        batch.append(frame)
        if len(batch) == PART_FRAMES:
            yield batch
            batch = []
    if batch:
        yield batch


def _encoded(batch: Sequence[Frame], video: Video, encoder: FrameEncoder, signature: NDArray[np.uint8] | None = None) -> _Table:
    """A part. With a signature, of the frame encoded last (or an empty one), a frame that looks like the one encoded before it is not encoded."""
    images, rows = [], []
    for frame in batch:
        looks = None if signature is None else _signature(frame.image)
        if looks is None or _differs(looks, signature):
            images.append(frame.image)
            signature = looks
        rows.append(len(images) - 1)
    vectors = encoder.encode_frames(images) if images else np.zeros((0, 0, 0))
    if images and (vectors.ndim != 3 or len(vectors) != len(images) or not np.isfinite(vectors).all()):
        raise ConfigError(f"encoder {encoder.name} gave {vectors.shape} for {len(images)} frames; finite vectors (frames, vectors, width) are needed")
    seconds = np.array([frame.seconds for frame in batch], np.float64)
    indices = np.array([video.frame_index(at) for at in seconds.tolist()], np.int64)
    last = np.zeros((0, 0), np.uint8) if signature is None else signature
    return _Table(seconds, indices, np.array(rows, np.int64), vectors.astype(np.float16), last)


def _signature(image: Image.Image) -> NDArray[np.uint8]:
    """The frame's luma at 32x32."""
    return np.asarray(image.convert("L").resize((32, 32), Image.Resampling.BOX))


def _differs(one: NDArray[np.uint8], other: NDArray[np.uint8] | None) -> bool:
    """Whether two frames are no near-duplicates: apart by more than 3 of 255 on average, or by more than 12 in one of 8x8 blocks. Our choice."""
    if other is None or other.shape != one.shape:
        return True
    apart = np.abs(one.astype(np.int16) - other)
    return bool(apart.mean() > 3 or apart.reshape(8, 4, 8, 4).mean(axis=(1, 3)).max() > 12)


def _joined(parts: Sequence[_Table]) -> _Table:
    """One table of several; a part's row -1 is the last row of what stands before it."""
    before = np.cumsum([0, *(len(part.vectors) for part in parts)])
    rows = np.concatenate([part.rows + start for part, start in zip(parts, before, strict=False)])
    vectors = np.concatenate([part.vectors for part in parts if len(part.vectors)])
    seconds, indices = (np.concatenate([getattr(part, name) for part in parts]) for name in ("seconds", "frame_indices"))
    return _Table(seconds, indices, rows, vectors, parts[-1].signature)


def _by_time(table: _Table) -> _Table:
    order = np.argsort(table.seconds, kind="stable")
    return _Table(table.seconds[order], table.frame_indices[order], table.rows[order], table.vectors, table.signature)


# On disk

_TYPES = {"seconds": np.float64, "frame_indices": np.int64, "rows": np.int64, "vectors": np.float16, "signature": np.uint8}


def _packed(table: _Table, notes: Mapping[str, str]) -> bytes:
    """A safetensors file, with a checksum of its numbers and shapes among the notes."""
    arrays = {name: np.ascontiguousarray(getattr(table, name)) for name in _TYPES}
    return save(arrays, {**notes, "crc32": _checksum(table)})


def _read(path: Path) -> tuple[_Table, dict[str, str]] | None:
    """A table mapped from its file, with its notes; None for a file that is cut off, damaged or something else."""
    try:
        mapped = np.memmap(path, np.uint8, mode="r")
        length = int.from_bytes(mapped[:8].tobytes(), "little")
        header = json.loads(mapped[8 : 8 + length].tobytes())
        arrays = {}
        for name, kind in _TYPES.items():
            start, stop = header[name]["data_offsets"]
            arrays[name] = mapped[8 + length + start : 8 + length + stop].view(kind).reshape(header[name]["shape"])
        table, notes = _Table(**arrays), header["__metadata__"]
        return (table, notes) if notes["crc32"] == _checksum(table) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _checksum(table: _Table) -> str:
    checksum = 0
    for name in _TYPES:
        array = getattr(table, name)
        checksum = zlib.crc32(np.ascontiguousarray(array).data, zlib.crc32(str(array.shape).encode(), checksum))
    return f"{checksum:08x}"
