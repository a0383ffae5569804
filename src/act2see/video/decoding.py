"""Decoding: by a plan that skips packets which no requested frame depends on, or sequentially."""

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import cast

import numpy as np
from av.codec.context import ThreadType
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from act2see.video.packets import packets_of
from act2see.video.timeline import Run, Timeline

_MAX_THREADS = 8  # every thread buffers frames
_LARGE_PIXELS = 3840 * 2160  # use two threads above this size, for the same reason
_SEEK_PACKETS = 100  # reading through fewer packets is cheaper than seeking
# Other formats have no keyframe index and estimate the position.
_SEEKABLE_FORMATS = {"mov", "matroska"}


_WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


class PlanError(Exception):
    """The file or the decoder deviates from the decode plan; fall back to another way of decoding."""


class SeekError(PlanError):
    """Seeking led to the wrong packet; reading from the start may still work."""


def enable_threads(stream: VideoStream) -> None:
    """Enable multi-threaded decoding."""
    context = stream.codec_context
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    context.thread_type = ThreadType.AUTO
    context.thread_count = min(cores, 2 if context.width * context.height > _LARGE_PIXELS else _MAX_THREADS)


def decoder(stream: VideoStream) -> VideoCodecContext:
    """The stream's decoder; for VP8 and VP9 with transparency libvpx, because FFmpeg's own decoders leave it out."""
    name = _WITH_ALPHA.get(stream.codec.canonical_name)
    if name is None or stream.metadata.get("alpha_mode") != "1":
        return stream.codec_context
    context = cast("VideoCodecContext", VideoCodecContext.create(name, "r"))
    context.thread_count = stream.codec_context.thread_count
    return context


def decode_sequentially(container: InputContainer, stream: VideoStream, packets: int | None, on_error: Callable[[], None]) -> Iterator[VideoFrame]:
    """Decode the first `packets` packets (None: all) in order; call `on_error` for each packet that fails, and skip it."""
    context = decoder(stream)
    flush = [None]  # makes the decoder return its buffered frames
    for packet in itertools.chain(itertools.islice(packets_of(container.demux(stream)), packets), flush):
        try:
            pictures = context.decode(packet)
        except FFmpegError:
            on_error()
            continue
        yield from pictures


def decode_planned(container: InputContainer, stream: VideoStream, line: Timeline, frames: Sequence[int], *, seeks: bool) -> Iterator[VideoFrame]:
    """Decode the frames with these increasing indices. Raises `PlanError` on the first deviation from the plan."""
    context = decoder(stream)
    reader = _Reader(container, stream, line, seeks=seeks)
    wanted = set(line.places[np.array(frames, np.int64)].tolist())
    gate = _Gate(line, frames, tells_keys=context is stream.codec_context)
    for run in line.runs(frames):
        gate.begin(run)
        for place, packet in reader.read(run):
            # The decoder recognises non-reference pictures. The setting is per packet, also with threads.
            skips = line.skips and run.is_clean and place not in wanted and place != run.start
            context.skip_frame = "NONREF" if skips else "DEFAULT"
            try:
                pictures = context.decode(packet)
            except FFmpegError as error:
                # Pictures presented before the first one lack their references, and are not requested.
                if line.pts[place] >= line.pts[run.start]:
                    raise PlanError(f"packet {place} cannot be decoded") from error
                continue
            yield from gate.wanted(pictures)
        if gate.is_done:
            return
        yield from gate.wanted(_flushed(context))
    gate.end()


def _flushed(context: VideoCodecContext) -> list[VideoFrame]:
    """Flush the decoder and return its buffered frames; it can then start at another packet."""
    try:
        pictures = context.decode(None)
    except FFmpegError as error:
        raise PlanError("a packet cannot be decoded") from error
    context.flush_buffers()
    return pictures


class _Gate:
    """Passes the requested frames; checks that each arrives and that every run starts at a valid entry point."""

    def __init__(self, line: Timeline, frames: Sequence[int], *, tells_keys: bool) -> None:
        self._pts = line.pts
        self._tells_keys = tells_keys  # whether the decoder marks key frames
        self._waiting = deque(line.pts[line.places[np.array(frames, np.int64)]].tolist())
        self._first: int | None = None  # timestamp of a run's first picture, until it arrives

    @property
    def is_done(self) -> bool:
        return not self._waiting

    def begin(self, run: Run) -> None:
        self.end_run()
        self._first = int(self._pts[run.start]) if run.is_clean else None

    def end_run(self) -> None:
        if self._first is not None:
            raise PlanError("a keyframe cannot be decoded")

    def end(self) -> None:
        self.end_run()
        if self._waiting:
            raise PlanError("a frame is missing")

    def wanted(self, pictures: Iterable[VideoFrame]) -> Iterator[VideoFrame]:
        for picture in pictures:
            if picture.pts is None:
                raise PlanError("a frame has no timestamp")
            if self._first is not None:
                if picture.pts < self._first:
                    continue
                is_key = not self._tells_keys or (picture.key_frame and picture.pict_type == PictureType.I)
                if picture.pts != self._first or not is_key:
                    raise PlanError("decoding cannot start at a frame that is marked as a keyframe")
                self._first = None
            if self._waiting and picture.pts >= self._waiting[0]:
                if picture.pts > self._waiting[0] or picture.is_corrupt:
                    raise PlanError("a frame is missing or damaged")
                self._waiting.popleft()
                yield picture


class _Reader:
    """Reads a file's packets by index, forward only."""

    def __init__(self, container: InputContainer, stream: VideoStream, line: Timeline, *, seeks: bool) -> None:
        self._container, self._stream, self._pts = container, stream, line.pts
        self._seeks = seeks and bool(_SEEKABLE_FORMATS & set(container.format.name.split(",")))
        self._source: Iterator[Packet[VideoStream]] = packets_of(container.demux(stream))
        self._next = 0

    def read(self, run: Run) -> Iterator[tuple[int, "Packet[VideoStream]"]]:
        """A run's packets with their indices."""
        if self._seeks and run.start - self._next > _SEEK_PACKETS:
            self._seek(run.start)
        for packet in self._source:
            place = self._next
            if packet.pts != self._pts[place]:
                raise PlanError(f"packet {place} has changed")
            self._next += 1
            if place >= run.start:
                yield place, packet
            if self._next >= run.stop:
                return
        raise PlanError("the file is shorter than before")

    def _seek(self, place: int) -> None:
        try:
            self._container.seek(int(self._pts[place]), stream=self._stream)
        except FFmpegError as error:
            raise SeekError("seeking failed") from error
        source = packets_of(self._container.demux(self._stream))
        first = next(source, None)
        found = [] if first is None or first.pts is None else np.flatnonzero(self._pts == first.pts).tolist()
        if first is None or len(found) != 1 or found[0] > place:
            raise SeekError("seeking led to the wrong packet")
        self._source, self._next = itertools.chain([first], source), found[0]
