"""Frames of a video file by presentation time: never by index times average rate, and never the whole video in memory.

Times are seconds since the first frame that can be decoded. Every pass opens the file anew, decodes forward from its start and closes it again.
"""

import hashlib
import itertools
import math
import os
import statistics
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import av
from av.buffer import Buffer
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from act2see.errors import VideoError
from act2see.trace import Frame

MAX_PIXELS = 8192 * 4320
"""Larger pictures are refused: a file of a few bytes can claim 65535x65535. Our choice: the largest common format, 8K DCI."""
TOLERANCE_SECONDS = 0.001
"""A frame may begin so much after a time and count as on screen: Matroska rounds to milliseconds, and remuxing carries that into other formats."""
MAX_FPS = round(1 / TOLERANCE_SECONDS)
"""Times that lie closer together are not told apart."""
FALLBACK_FPS = 25
"""The rate of a raw stream that states none; FFmpeg's own default."""

# Formats that hold pictures themselves. Left out on purpose: playlists (hls, dash, concat), which name other files and addresses to open, and
# `tty` and the still-image formats, which make a "video" of any text or picture. Sound formats are here for a clearer message.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,flv,ogg,gif,apng,asf,h264,hevc,vvc,obu,av1,ivf,dv,mxf,nut,rm,yuv4mpegpipe,"
    "mp3,wav,flac,aac,aiff,amr"
)
# AVI knows the order of decoding only; what the packets carry as presentation times is wrong where frames are reordered.
_FORMATS_WITHOUT_TIMES = {"avi"}
# The header of these says how long the file is; others' durations are guesses from the bit rate.
_FORMATS_WITH_DURATION = {"mov", "matroska", "flv"}
_MISSING_SECONDS = 0.5  # a header's last rounded-up frame or a subtitle's tail is no damage

# A display matrix maps the stored point (p, q), q downwards, to (a p + c q, b p + d q); keys are the signs of (a, b, c, d).
_UPRIGHT = {
    (0, 1, -1, 0): Image.Transpose.ROTATE_270,
    (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
    (0, -1, 1, 0): Image.Transpose.ROTATE_90,
    (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM,
    (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
    (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
}
_SIDEWAYS = {Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270, Image.Transpose.TRANSPOSE, Image.Transpose.TRANSVERSE}

_T = TypeVar("_T")


@dataclass(frozen=True)
class _Index:
    """What one walk over the packets tells, without decoding."""

    times: tuple[float, ...]  # of every frame, rising, the first is 0
    duration_seconds: float
    has_times: bool  # False: the packets carry no presentation times, and `times` was made from their order
    packets: int  # how many to decode: a cut file's last packet is incomplete, and would become a half-grey picture
    missing: str | None


class Video:
    """A video file that was opened and checked once; frames are read on demand, streaming.

    Raises `VideoError` for whatever has no frame that can be decoded: no file, a folder, an empty file, text, sound alone (cover art is no video),
    and for pictures of more than `MAX_PIXELS`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._undecodable = 0
        _refuse_no_file(self.path)
        with self._opened() as (container, stream):
            first = next(self._decoded(container, stream), None)
            if first is None:
                raise VideoError(f"no frame of {self.path} can be decoded: it is damaged, or its pictures have more than {MAX_PIXELS:,} pixels")
            self._first_pts = first.pts
            width, height = first.width, first.height
            self._size = (height, width) if _transposition(first) in _SIDEWAYS else (width, height)

    @property
    def duration_seconds(self) -> float:
        """From the first frame's presentation time to the end of the last one's, from the packets: a header's word may be missing or wrong."""
        return self._index.duration_seconds

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the first frame in pixels, upright. Pixels are taken as square."""
        return self._size

    @property
    def damage(self) -> str | None:
        """What of the file cannot be read, in one line; None as far as is known. Complete after a pass over the whole video."""
        undecodable = f"{self._undecodable} packets cannot be decoded" if self._undecodable else None
        problems = [problem for problem in (self._index.missing, undecodable) if problem is not None]
        return f"{self.path.name} is damaged: " + "; ".join(problems) if problems else None

    @cached_property
    def digest(self) -> str:
        """A sha256 over the file's size, first and last MiB: it identifies the content for caches, but does not vouch for every byte."""
        mebibyte = 1 << 20
        try:
            with self.path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                found = hashlib.sha256(f"{size}\n".encode() + file.read(mebibyte))
                file.seek(max(0, size - mebibyte))
                found.update(file.read(mebibyte))
        except OSError as error:
            raise VideoError(f"cannot read {self.path}: {error.strerror}") from error
        return found.hexdigest()

    def sample(self, fps: float) -> Iterator[Frame]:
        """The frames on screen at 0, 1/fps, 2/fps, … before the end, each once and with its own presentation time.

        A damaged file gives what can be decoded; then a frame of `times` may be missing here.
        """
        return self._frames(_once(_on_screen(self._pictures(), self._grid(fps))))

    def times(self, fps: float) -> list[float]:
        """The times in seconds of the frames that `sample(fps)` gives, from the packets, without decoding."""
        known = ((seconds, None) for seconds in self._index.times)
        return [seconds for seconds, _ in _once(_on_screen(known, self._grid(fps)))]

    def frame_at(self, seconds: float) -> Frame:
        """The frame on screen at that time: the last one shown at or before it. Raises `VideoError` for a time outside the video."""
        frame = next(self.frames_at([seconds]), None)
        if frame is None:
            raise VideoError(f"no frame of {self.path} can be decoded any more: it was changed after it was opened")
        return frame

    def frames_at(self, seconds: Sequence[float]) -> Iterator[Frame]:
        """For every one of these times, in order of time, the frame on screen then; one pass. Raises `VideoError` for a time outside the video."""
        end = self.duration_seconds
        for wanted in seconds:
            if not -TOLERANCE_SECONDS <= wanted <= end + TOLERANCE_SECONDS:
                raise VideoError(f"no frame at {wanted:.2f} s; {self.path.name} runs from 0 to {end:.2f} s")
        return self._frames(_on_screen(self._pictures(), sorted(seconds)))

    def _grid(self, fps: float) -> Iterator[float]:
        if not 0 < fps <= MAX_FPS:
            raise VideoError(f"cannot sample {fps} frames a second: give a number above 0 and up to {MAX_FPS}, like 1 or 0.5")
        return self._grid_times(fps)

    def _grid_times(self, fps: float) -> Iterator[float]:
        yield 0.0
        last = self.duration_seconds - TOLERANCE_SECONDS
        number = 1
        while (seconds := number / fps) < last:
            yield seconds
            number += 1

    def _frames(self, shown: Iterator[tuple[float, VideoFrame]]) -> Iterator[Frame]:
        for seconds, picture in shown:
            yield Frame(image=self._image(picture), seconds=seconds)

    def _image(self, picture: VideoFrame) -> Image.Image:
        image = Image.fromarray(picture.to_ndarray(format="rgb24"))
        transposition = _transposition(picture)
        return image if transposition is None else image.transpose(transposition)

    def _pictures(self) -> Iterator[tuple[float, VideoFrame]]:
        """Every decoded frame with its time, in rising order."""
        index = self._index
        with self._opened() as (container, stream):
            last = -math.inf
            for number, picture in enumerate(self._decoded(container, stream, index.packets)):
                seconds = self._time_of(picture, number, stream, index)
                # Where the clock jumps back (files glued together) there is no telling when a frame is on screen.
                if seconds is not None and seconds > last:
                    last = seconds
                    yield seconds, picture

    def _time_of(self, picture: VideoFrame, number: int, stream: VideoStream, index: _Index) -> float | None:
        if not index.has_times:
            return index.times[number] if number < len(index.times) else None
        if picture.pts is None or self._first_pts is None:
            return None
        return float((picture.pts - self._first_pts) * _tick(stream))

    @contextmanager
    def _opened(self) -> Iterator[tuple[InputContainer, VideoStream]]:
        options = {"protocol_whitelist": "file", "format_whitelist": _FORMATS, "max_pixels": str(MAX_PIXELS)}
        try:
            # "file:" keeps a file called "http:x" or "pipe:0" a file.
            container = av.open(f"file:{self.path.absolute()}", options=options, metadata_errors="ignore")
        except FFmpegError as error:
            raise VideoError(f"{self.path} cannot be read as a video ({error.strerror}): give a video file, such as an mp4") from error
        with container:
            stream = _video_stream(container, self.path)
            self._refuse_too_large(stream.codec_context.width, stream.codec_context.height)
            stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
            yield container, stream

    def _decoded(self, container: InputContainer, stream: VideoStream, packets: int | None = None) -> Iterator[VideoFrame]:
        """The frames of the first `packets` packets, in order of presentation; what does not decode is counted and passed over."""
        undecodable = 0
        end = [None]  # makes the decoder give what it still holds
        for packet in itertools.chain(itertools.islice(_packets(container.demux(stream)), packets), end):
            try:
                pictures = stream.decode(packet)
            except FFmpegError:
                undecodable += 1
                self._undecodable = max(self._undecodable, undecodable)
                continue
            yield from pictures

    def _refuse_too_large(self, width: int, height: int) -> None:
        if width * height > MAX_PIXELS:
            raise VideoError(f"{self.path} has pictures of {width}x{height} pixels; at most {MAX_PIXELS:,} pixels are read: give a smaller video")

    @cached_property
    def _index(self) -> _Index:
        starts: list[Fraction] = []
        ends: list[Fraction] = []
        found: list[_Packet] = []
        with self._opened() as (container, stream):
            for packet in _packets(container.demux()):
                base = packet.stream.time_base
                if packet.pts is not None and base is not None:
                    starts.append(packet.pts * base)
                    ends.append((packet.pts + (packet.duration or 0)) * base)
                if packet.stream_index == stream.index:
                    found.append(_Packet(packet.pts, packet.dts, packet.duration or 0, packet.is_discard, packet.is_corrupt))
            tick = _tick(stream)
            rate = stream.guessed_rate or stream.average_rate or Fraction(FALLBACK_FPS)
            clocked = container.format.name not in _FORMATS_WITHOUT_TIMES
            missing = _missing(container, max(ends) - min(starts)) if starts else None
        whole = list(found)
        while len(whole) > 1 and whole[-1].is_corrupt:
            whole.pop()
        if missing is None and len(whole) < len(found):
            missing = "its end is cut off"
        times, duration, has_times = _timeline(
            [packet for packet in whole if not packet.is_discard], self._first_pts if clocked else None, tick, rate
        )
        return _Index(times, duration, has_times, len(whole), missing)


class _Packet(NamedTuple):
    """A packet's times in ticks and its marks. `is_discard`: decoded for the sake of others and not shown (an edit list begins after it)."""

    pts: int | None
    dts: int | None
    length: int
    is_discard: bool
    is_corrupt: bool


def _timeline(packets: Sequence[_Packet], first_pts: int | None, tick: Fraction, rate: Fraction) -> tuple[tuple[float, ...], float, bool]:
    """The frames' times and the duration in seconds, and whether the packets had presentation times."""
    shown = {packet.pts: packet.length for packet in packets if packet.pts is not None}
    if first_pts is not None and all(packet.pts is not None for packet in packets):
        # Packets before the first decodable frame belong to a picture that began before the file did.
        ticks = sorted(pts for pts in shown if pts >= first_pts) or [first_pts]
        gaps = [later - earlier for earlier, later in itertools.pairwise(ticks)]
        length = shown.get(ticks[-1]) or (round(statistics.median(gaps)) if gaps else max(1, round(1 / rate / tick)))
        times = tuple(float((pts - first_pts) * tick) for pts in ticks)
        return times, float((ticks[-1] + length - first_pts) * tick), True
    # Frames come out of a decoder in order of presentation: the n-th one is shown at the n-th decoding time, or at n / rate.
    decoding = sorted({packet.dts for packet in packets if packet.dts is not None})
    if len(decoding) == len(packets) > 0:
        times = tuple(float((dts - decoding[0]) * tick) for dts in decoding)
    else:
        times = tuple(float(number / rate) for number in range(max(1, len(packets))))
    return times, times[-1] + float(1 / rate), False


def _missing(container: InputContainer, span: Fraction) -> str | None:
    """What the header promises and the packets do not hold."""
    if container.duration is None or not _FORMATS_WITH_DURATION & set(container.format.name.split(",")):
        return None
    promised = container.duration / av.time_base
    if promised - float(span) <= _MISSING_SECONDS:
        return None
    return f"it ends after {float(span):.2f} s although its header says {promised:.2f} s"


def _on_screen(frames: Iterable[tuple[float, _T]], at: Iterable[float]) -> Iterator[tuple[float, _T]]:
    """For each of the rising times `at`, the frame on screen then: the last one that begins at or before it.

    A frame that begins within the tolerance after it counts too, unless the one before it is nearer.
    """
    source = iter(frames)
    current = next(source, None)
    following = next(source, None)
    for wanted in at:
        while following is not None:
            late = following[0] - wanted
            if current is not None and late > 0 and (late > TOLERANCE_SECONDS or late >= wanted - current[0]):
                break
            current, following = following, next(source, None)
        if current is not None:
            yield current


def _once(shown: Iterable[tuple[float, _T]]) -> Iterator[tuple[float, _T]]:
    previous: float | None = None
    for seconds, item in shown:
        if seconds != previous:
            yield seconds, item
        previous = seconds


def _packets(packets: Iterator["Packet[Any]"]) -> Iterator["Packet[Any]"]:
    """The packets that hold something; a read error ends them, as the end of the file would."""
    try:
        yield from (packet for packet in packets if packet.size)
    except FFmpegError:
        return


def _video_stream(container: InputContainer, path: Path) -> VideoStream:
    pictures = Disposition.attached_pic | Disposition.timed_thumbnails
    streams = [stream for stream in container.streams.video if not stream.disposition & pictures]
    if not streams:
        held = "only sound" if container.streams.audio else "no video"
        raise VideoError(f"{path} holds {held}: give a file with a video in it")
    return next((stream for stream in streams if stream.disposition & Disposition.default), streams[0])


def _tick(stream: VideoStream) -> Fraction:
    return stream.time_base or Fraction(1, av.time_base)


def _transposition(picture: VideoFrame) -> Image.Transpose | None:
    """How a stored picture is turned upright; None where nothing is to be done, or where the file asks for an angle between the right ones."""
    found = cast(Mapping[SideDataType, Buffer], picture.side_data).get(SideDataType.DISPLAYMATRIX)
    if found is None:
        return None
    matrix = struct.unpack("=9i", bytes(found)[:36])
    a, b, c, d = (matrix[at] / max(abs(number) for number in (*matrix[0:2], *matrix[3:5], 1)) for at in (0, 1, 3, 4))
    return _UPRIGHT.get((round(a), round(b), round(c), round(d)))


def _refuse_no_file(path: Path) -> None:
    try:
        if not path.exists():
            raise VideoError(f"no such file: {path}")
        if path.is_dir():
            raise VideoError(f"{path} is a folder: give a video file")
        if not path.is_file():
            raise VideoError(f"{path} is no ordinary file: give a video file")
        if path.stat().st_size == 0:
            raise VideoError(f"{path} is empty (0 bytes): give a video file")
    except (OSError, ValueError) as error:
        raise VideoError(f"cannot read {path}: {error}") from error
