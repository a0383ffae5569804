"""Frame index: the encoded frames of a video, cached on disk.

An index is built in parts, and every finished part is cached: after an interruption (Ctrl-C, a kill), the next call resumes from there. A finished
index is one memory-mapped safetensors file. The rate of 3 frames per second is the paper's; the layout is our choice.
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
from act2see.video.pictures import CONVERSION

PART_FRAMES = 32
"""Frames per part, encoded and cached together."""
_FORMAT = 2  # 2: times on the player's clock


_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of an index in frames. At the end, `done` equals `total`, which shrinks if frames cannot be decoded.

    The rate covers this call only, without cached parts; None before the first part.
    """

    done: int
    total: int | None
    """None while unknown, as for keyframes."""
    frames_per_second: float | None = None
    seconds_left: float | None = None
    what: str | None = None
    """What is counted instead of frames: seconds of a video whose words are read."""


@dataclass(frozen=True, slots=True)
class _Table:
    """Encoded frames of a part or of a whole video."""

    seconds: NDArray[np.float64]
    frame_indices: NDArray[np.int64]
    rows: NDArray[np.int64]  # each frame's row in `vectors`; -1, in a part, is the last row of the preceding parts
    vectors: NDArray[np.float16]  # (rows, vectors, width)
    signature: NDArray[np.uint8]  # of the last encoded frame, if near-duplicates are skipped


@dataclass(frozen=True, slots=True)
class _Options:
    fps: float
    skip_duplicates: bool
    keyframes_only: bool


class Index:
    """The encoded frames of a video, in temporal order. Built by `Index.build`."""

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
        """The index of the frames of `video.sample(fps)`: loaded from the cache, or built and cached if there is a cache.

        Waits for another process that is building the same index. Two options trade recall for speed and are off by default: `skip_duplicates`
        reuses the vectors of the previous frame for a near-duplicate, and `keyframes_only` encodes the keyframes only (see `refined`). Raises
        `VideoError` if no frame can be decoded, and `ConfigError` if the encoder's vectors are invalid.
        """
        options = _Options(float(fps), skip_duplicates, keyframes_only)
        builder = _Builder(video, encoder, options, cache)
        table = builder.load()
        if table is None:
            waiting = f"another process is indexing {video.path.name}; waiting for it"
            with cache.lock(builder.name, lambda: _log.warning("%s", waiting)) if cache else nullcontext():
                table = builder.load() or builder.build(progress)
        return cls(encoder, table)

    @property
    def seconds(self) -> NDArray[np.float64]:
        """Presentation times in seconds, increasing, of shape (frames,)."""
        return self._table.seconds

    @property
    def frame_indices(self) -> NDArray[np.int64]:
        """Each frame's index in presentation order, from 0, of shape (frames,)."""
        return self._table.frame_indices

    @property
    def vectors(self) -> NDArray[np.float16]:
        """The encoder's unit vectors, of shape (frames, vectors, width); read-only and memory-mapped if possible."""
        table = self._table
        return table.vectors if np.array_equal(table.rows, np.arange(len(table.vectors))) else table.vectors[table.rows]

    def scores(self, text: str) -> NDArray[np.float32]:
        """Each frame's score for the text, in the encoder's units, of shape (frames,)."""
        return self.encoder.scores(self._table.vectors, self.encoder.encode_text(text))[self._table.rows]

    def refined(self, video: Video, text: str, fps: float = 3.0, around: int = 4) -> "Index":
        """A copy with the frames at `fps` added around the `around` best frames for the text, up to their neighbours. It is not cached.

        For an index of keyframes. `around` = 4 is our choice.
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


class _Builder:
    """Builds or loads one index. The cache key covers all inputs: video, encoder and options."""

    def __init__(self, video: Video, encoder: FrameEncoder, options: _Options, cache: Cache | None) -> None:
        self.video, self.encoder, self.options, self.cache = video, encoder, options, cache
        self.modified = _modified(video.path)
        inputs = [_FORMAT, CONVERSION, video.digest, encoder.fingerprint, encoder.side, repr(options)]
        self.key = f"{video.digest[:32]}-{hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:32]}"
        self.name = f"frames/{self.key}.safetensors"

    def load(self) -> _Table | None:
        """The cached index; None if it is missing or incomplete, or if the file was damaged at the time and has changed since."""
        loaded = self._load(self.name)
        if loaded is None:
            return None
        table, metadata = loaded
        return table if metadata.get("damaged") != "yes" or metadata.get("modified") == self.modified else None

    def build(self, progress: Callable[[Progress], None] | None) -> _Table:
        """Encode and cache the missing parts, and join all parts."""
        times = None if self.options.keyframes_only else self.video.times(self.options.fps)
        parts = self._parts()
        meter = _Meter(progress, None if times is None else len(times), sum(len(part.seconds) for part in parts))
        last = float(parts[-1].seconds[-1]) if parts else -math.inf
        signature = parts[-1].signature if parts else np.zeros((0, 0), np.uint8)
        for batch in _batches(self._frames(times, last), after=last):
            part = _encoded(batch, self.video, self.encoder, signature if self.options.skip_duplicates else None)
            if len(batch) == PART_FRAMES:  # a shorter batch is the last, and the whole index is cached next
                self._store(self._part_name(len(parts)), part, damaged=False)
            parts.append(part)
            signature = part.signature
            meter.add(len(batch))
        meter.end()
        if not parts:
            raise VideoError(f"no frame of {self.video.path} can be decoded")
        whole = _joined(parts)
        damaged = self.video.damage is not None or (times is not None and len(whole.seconds) < len(times))
        if self._store(self.name, whole, damaged=damaged) and self.cache:
            for number in range(len(parts)):
                self.cache.remove(self._part_name(number))
        return self.load() or whole

    def _frames(self, times: Sequence[float] | None, after: float) -> Iterator[Frame]:
        """The frames at these times that are later than `after`; without times, all keyframes."""
        if times is None:
            return self.video.keyframes(self.encoder.side)
        remaining = [seconds for seconds in times if seconds > after]
        return self.video.frames_at(remaining, self.encoder.side) if remaining else iter(())

    def _parts(self) -> list[_Table]:
        """The parts that an interrupted call has cached for the current state of the file."""
        parts: list[_Table] = []
        while (loaded := self._load(self._part_name(len(parts)))) and loaded[1].get("modified") == self.modified:
            parts.append(loaded[0])
        return parts

    def _part_name(self, number: int) -> str:
        return f"parts/{self.key}/{number}.safetensors"

    def _load(self, name: str) -> tuple[_Table, dict[str, str]] | None:
        path = self.cache.find(name) if self.cache else None
        return _read(path) if path else None

    def _store(self, name: str, table: _Table, *, damaged: bool) -> bool:
        # If the file changes while it is read, its digest no longer identifies the content.
        if self.cache is None or _modified(self.video.path) != self.modified:
            return False
        self.cache.label(self.video.digest, self.video.path.name)
        return self.cache.write(name, _packed(table, {"modified": self.modified, "damaged": "yes" if damaged else "no"}))


class _Meter:
    """Reports progress and the rate of this call."""

    def __init__(self, progress: Callable[[Progress], None] | None, total: int | None, cached: int) -> None:
        self._progress, self._total, self._cached = progress, total, cached
        self._encoded, self._started = 0, time.monotonic()
        if progress:
            progress(Progress(cached, total))

    def add(self, frames: int) -> None:
        self._encoded += frames
        self._report(self._total)

    def end(self) -> None:
        if self._cached + self._encoded != self._total:
            self._report(self._cached + self._encoded)

    def _report(self, total: int | None) -> None:
        if self._progress is None:
            return
        done = self._cached + self._encoded
        rate = self._encoded / max(time.monotonic() - self._started, 1e-9)
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
    """Batch the frames, without duplicates and without those up to `after`. A lost frame shows up as a repetition of an earlier one."""
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
    """Encode a part. With the signature of the last encoded frame (or an empty one), near-duplicates of the previous encoded frame are skipped."""
    images, rows = [], []
    for frame in batch:
        looks = None if signature is None else _signature(frame.image)
        if looks is None or _differs(looks, signature):
            images.append(frame.image)
            signature = looks
        rows.append(len(images) - 1)
    vectors = encoder.encode_frames(images) if images else np.zeros((0, 0, 0))
    if images and (vectors.ndim != 3 or len(vectors) != len(images) or not np.isfinite(vectors).all()):
        raise ConfigError(
            f"encoder {encoder.name} returned shape {vectors.shape} for {len(images)} frames; it must return finite vectors (frames, vectors, width)"
        )
    seconds = np.array([frame.seconds for frame in batch], np.float64)
    indices = np.array([video.frame_index(at) for at in seconds.tolist()], np.int64)
    last = np.zeros((0, 0), np.uint8) if signature is None else signature
    return _Table(seconds, indices, np.array(rows, np.int64), vectors.astype(np.float16), last)


def _signature(image: Image.Image) -> NDArray[np.uint8]:
    """The frame's luma at 32×32 pixels."""
    return np.asarray(image.convert("L").resize((32, 32), Image.Resampling.BOX))


def _differs(one: NDArray[np.uint8], other: NDArray[np.uint8] | None) -> bool:
    """Whether two frames differ by more than 3 of 255 levels on average, or by more than 12 in one of 8×8 blocks. Our choice."""
    if other is None or other.shape != one.shape:
        return True
    difference = np.abs(one.astype(np.int16) - other)
    return bool(difference.mean() > 3 or difference.reshape(8, 4, 8, 4).mean(axis=(1, 3)).max() > 12)


def _joined(parts: Sequence[_Table]) -> _Table:
    """Concatenate parts; row -1 of a part refers to the last row of the preceding parts."""
    before = np.cumsum([0, *(len(part.vectors) for part in parts)])
    rows = np.concatenate([part.rows + start for part, start in zip(parts, before, strict=False)])
    vectors = np.concatenate([part.vectors for part in parts if len(part.vectors)])
    seconds = np.concatenate([part.seconds for part in parts])
    indices = np.concatenate([part.frame_indices for part in parts])
    return _Table(seconds, indices, rows, vectors, parts[-1].signature)


def _by_time(table: _Table) -> _Table:
    order = np.argsort(table.seconds, kind="stable")
    return _Table(table.seconds[order], table.frame_indices[order], table.rows[order], table.vectors, table.signature)


# On disk

_TYPES = {"seconds": np.float64, "frame_indices": np.int64, "rows": np.int64, "vectors": np.float16, "signature": np.uint8}


def _arrays(table: _Table) -> dict[str, NDArray[np.generic]]:
    """The table's arrays by name, in the order of `_TYPES`."""
    return {
        "seconds": table.seconds,
        "frame_indices": table.frame_indices,
        "rows": table.rows,
        "vectors": table.vectors,
        "signature": table.signature,
    }


def _packed(table: _Table, metadata: Mapping[str, str]) -> bytes:
    """A safetensors file, with a checksum of values and shapes in its metadata."""
    arrays = {name: np.ascontiguousarray(array) for name, array in _arrays(table).items()}
    return save(arrays, {**metadata, "crc32": _checksum(table)})


def _read(path: Path) -> tuple[_Table, dict[str, str]] | None:
    """A memory-mapped table and its metadata; None for a file that is truncated, damaged or of another kind."""
    try:
        mapped = np.memmap(path, np.uint8, mode="r")
        length = int.from_bytes(mapped[:8].tobytes(), "little")
        header = json.loads(mapped[8 : 8 + length].tobytes())
        arrays = {}
        for name, kind in _TYPES.items():
            start, stop = header[name]["data_offsets"]
            arrays[name] = mapped[8 + length + start : 8 + length + stop].view(kind).reshape(header[name]["shape"])
        table, metadata = _Table(**arrays), header["__metadata__"]
        return (table, metadata) if metadata["crc32"] == _checksum(table) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _checksum(table: _Table) -> str:
    checksum = 0
    for array in _arrays(table).values():
        checksum = zlib.crc32(np.ascontiguousarray(array).data, zlib.crc32(str(array.shape).encode(), checksum))
    return f"{checksum:08x}"
