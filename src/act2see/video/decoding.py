"""Frames out of a decoder: by the plan, which leaves out what no wanted frame needs, or plainly, one packet after the other."""

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from av.codec.context import ThreadType
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from act2see.video.packets import packets_of
from act2see.video.timeline import Run, Timeline

_MAX_THREADS = 8  # each holds frames of its own
_LARGE_PIXELS = 3840 * 2160  # above it two threads, for the same reason
_SEEK_PACKETS = 100  # reading on over fewer packets costs less than a seek
# Others have no table of key frames, and seek by guessing a place in the file.
_FORMATS_THAT_SEEK = {"mov", "matroska"}


class PlanError(Exception):
    """What came out of the file or the decoder is not what was announced; the wanted frames have to be found in another way."""


class SeekError(PlanError):
    """Seeking did not lead where it should; reading on from the beginning may."""


def use_cores(stream: VideoStream) -> None:
    """Let the decoder work in threads."""
    context = stream.codec_context
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    context.thread_type = ThreadType.AUTO
    context.thread_count = min(cores, 2 if context.width * context.height > _LARGE_PIXELS else _MAX_THREADS)


def plainly(container: InputContainer, stream: VideoStream, packets: int | None, on_error: Callable[[], None]) -> Iterator[VideoFrame]:
    """The frames of the first `packets` packets (None: of all) as they come; what does not decode is reported and passed over."""
    end = [None]  # makes the decoder give what it still holds
    for packet in itertools.chain(itertools.islice(packets_of(container.demux(stream)), packets), end):
        try:
            pictures = stream.decode(packet)
        except FFmpegError:
            on_error()
            continue
        yield from pictures


def by_plan(container: InputContainer, stream: VideoStream, line: Timeline, frames: Sequence[int], *, seeks: bool) -> Iterator[VideoFrame]:
    """These frames, given by their rising numbers. Raises `PlanError` as soon as one of them does not come as announced."""
    context = stream.codec_context
    reader = _Reader(container, stream, line, seeks=seeks)
    wanted = set(line.places[np.array(frames, np.int64)].tolist())
    gate = _Gate(line, frames)
    for run in line.runs(frames):
        gate.begin(run)
        for place, packet in reader.read(run):
            # The decoder knows which pictures no other needs. Told so before each packet, it also is when it works in threads.
            passes_over = line.skips and run.is_clean and place not in wanted and place != run.start
            context.skip_frame = "NONREF" if passes_over else "DEFAULT"
            try:
                pictures = context.decode(packet)
            except FFmpegError as error:
                # Pictures that are shown before the first one miss what they need; nobody wants them.
                if line.pts[place] >= line.pts[run.start]:
                    raise PlanError(f"packet {place} cannot be decoded") from error
                continue
            yield from gate.wanted(pictures)
        if gate.is_done:
            return
        yield from gate.wanted(_drained(stream))
    gate.end()


def _drained(stream: VideoStream) -> list[VideoFrame]:
    """What a decoder still holds; it is then ready to begin somewhere else."""
    context = stream.codec_context
    try:
        pictures = context.decode(None)
    except FFmpegError as error:
        raise PlanError("a packet cannot be decoded") from error
    context.flush_buffers()
    return pictures


class _Gate:
    """Lets the wanted frames through, and sees to it that each comes, and that decoding began where it can."""

    def __init__(self, line: Timeline, frames: Sequence[int]) -> None:
        self._pts = line.pts
        self._waiting = deque(line.pts[line.places[np.array(frames, np.int64)]].tolist())
        self._first: int | None = None  # the time of a run's first picture, until it came

    @property
    def is_done(self) -> bool:
        return not self._waiting

    def begin(self, run: Run) -> None:
        self.end_run()
        self._first = int(self._pts[run.start]) if run.is_clean else None

    def end_run(self) -> None:
        if self._first is not None:
            raise PlanError("a key frame cannot be decoded")

    def end(self) -> None:
        self.end_run()
        if self._waiting:
            raise PlanError("a frame did not come")

    def wanted(self, pictures: Iterable[VideoFrame]) -> Iterator[VideoFrame]:
        for picture in pictures:
            if picture.pts is None:
                raise PlanError("a frame came without its time")
            if self._first is not None:
                if picture.pts < self._first:
                    continue
                if picture.pts != self._first or not picture.key_frame or picture.pict_type != PictureType.I:
                    raise PlanError("decoding cannot begin at a frame that is marked as a key frame")
                self._first = None
            if self._waiting and picture.pts >= self._waiting[0]:
                if picture.pts > self._waiting[0] or picture.is_corrupt:
                    raise PlanError("a frame did not come, or came damaged")
                self._waiting.popleft()
                yield picture


class _Reader:
    """A file's packets by their numbers, going forward only."""

    def __init__(self, container: InputContainer, stream: VideoStream, line: Timeline, *, seeks: bool) -> None:
        self._container, self._stream, self._pts = container, stream, line.pts
        self._seeks = seeks and bool(_FORMATS_THAT_SEEK & set(container.format.name.split(",")))
        self._source: Iterator[Packet[Any]] = packets_of(container.demux(stream))
        self._next = 0

    def read(self, run: Run) -> Iterator[tuple[int, "Packet[Any]"]]:
        """A run's packets, each with its number."""
        if self._seeks and run.start - self._next > _SEEK_PACKETS:
            self._seek(run.start)
        for packet in self._source:
            place = self._next
            if packet.pts != self._pts[place]:
                raise PlanError(f"packet {place} is another than before")
            self._next += 1
            if place >= run.start:
                yield place, packet
            if self._next >= run.stop:
                return
        raise PlanError("the file ends earlier than before")

    def _seek(self, place: int) -> None:
        try:
            self._container.seek(int(self._pts[place]), stream=self._stream)
        except FFmpegError as error:
            raise SeekError("it cannot seek") from error
        source = packets_of(self._container.demux(self._stream))
        first = next(source, None)
        found = [] if first is None or first.pts is None else np.flatnonzero(self._pts == first.pts).tolist()
        if first is None or len(found) != 1 or found[0] > place:
            raise SeekError("seeking led to another place")
        self._source, self._next = itertools.chain([first], source), found[0]
