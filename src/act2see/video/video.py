"""A video file and its frames by presentation time."""

import itertools
import logging
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from act2see.core.errors import VideoError
from act2see.core.trace import Frame
from act2see.storage.cache import Cache
from act2see.video import files
from act2see.video.colours import approximation
from act2see.video.cropping import container_crop
from act2see.video.decoding import PlanError, SeekError, decode_planned, decode_sequentially, enable_threads
from act2see.video.display import check_base_layer, cropped, shown_size, side_data, turn_of
from act2see.video.packets import FORMAT, PacketScan, scan, tick_of
from act2see.video.pictures import FrameConverter, scaled_size
from act2see.video.timeline import MAX_FPS, TOLERANCE_SECONDS, Timeline, on_clock, on_screen, timeline

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sampling:
    """A request for frames: `fps` per second, scaled down to at most `short_side` pixels on the shorter side."""

    fps: float
    short_side: int | None = None


class Video:
    """A video file, validated on construction; frames are decoded on demand, streaming.

    With a cache, the packet scan is stored there and the file need not be scanned again. Raises `VideoError` for anything without a decodable
    frame (a missing file, a folder, an empty file, text, audio only; cover art is not a video) and for pictures of more than `MAX_PIXELS`. Later
    calls raise it for a file that has changed since it was opened.
    """

    def __init__(self, path: str | os.PathLike[str], cache: Cache | None = None) -> None:
        self.path = Path(path)
        self._cache = cache
        self._undecodable = 0
        self._is_planned = self._seeks = True  # until that fails
        files.check_regular_file(self.path)
        self._state = files.FileState.of(self.path)
        with files.opened(self.path) as (container, stream):
            first = next(decode_sequentially(container, stream, None, lambda: None), None)
            if first is None:
                reason = f"it is damaged, or its pictures have more than {files.MAX_PIXELS:,} pixels"
                raise VideoError(f"no frame of {files.printable(self.path)} can be decoded: {reason}")
            self._first_pts = first.pts
            extra = side_data(first)
            check_base_layer(self.path, stream, first, extra)
            self._turn = turn_of(first, extra)
            self._crop = container_crop(self.path, container, stream, (first.width, first.height))
            self._size = shown_size(cropped(first, self._crop), stream, self._turn, files.MAX_PIXELS)
            self._colours = approximation(first)
            self._shape = stream.codec_context.sample_aspect_ratio
            self._watches_shape = stream.sample_aspect_ratio in (None, self._shape)  # what the container alone states holds for the whole file

    @property
    def duration_seconds(self) -> float:
        """End of the longest stream of pictures or sound, until which the last frame stands; from the packets: headers may be missing or wrong."""
        return self._timeline.duration_seconds

    @property
    def zero_seconds(self) -> Fraction:
        """Time zero of the player's clock, as the file counts: subtract it from the times of the file's sound and subtitles."""
        return self._timeline.zero

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the upright first frame in square pixels. Frames of other sizes are scaled to it."""
        return self._size

    @property
    def damage(self) -> str | None:
        """The known damage in one line, None if there is none. Complete after a pass over the whole video."""
        undecodable = f"{self._undecodable} packets cannot be decoded" if self._undecodable else None
        problems = [problem for problem in (self._timeline.missing, undecodable) if problem is not None]
        return f"{self.path.name} is damaged: " + "; ".join(problems) if problems else None

    @property
    def colours(self) -> str | None:
        """A one-line warning about approximate colours; None if the conversion is exact."""
        return None if self._colours is None else f"{self.path.name}: {self._colours}"

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file's size and its first and last MiB: a cache key, not an integrity check."""
        self._state.check_unchanged(self.path)
        return files.digest_of(self.path)

    def sample(self, fps: float, short_side: int | None = None, *, at_most: int | None = None) -> Iterator[Frame]:
        """The frames on screen at 0, 1/fps, 2/fps, … before the end, without repetitions and with their own presentation times.

        If there are more than `at_most`, returns that many, evenly spaced from the first to the last. For a damaged file, returns what can be
        decoded; frames of `times` may then be missing.
        """
        grid = self._grid(fps) if at_most is None else self._thinned(self._grid(fps), at_most)
        return (frame for _, frame in self._sampled([self._converter(short_side)], [grid]))

    def _thinned(self, grid: NDArray[np.float64], at_most: int) -> NDArray[np.float64]:
        numbers = np.unique(self._timeline.on_screen(grid))
        if len(numbers) <= at_most:
            return grid
        chosen = numbers[np.linspace(0, len(numbers) - 1, at_most).round().astype(int)]
        return np.asarray(self._timeline.times[chosen], np.float64)

    def sample_sets(self, samplings: Sequence[Sampling]) -> Iterator[tuple[int, Frame]]:
        """Several samplings in one pass: every frame with the index of its sampling, in temporal order."""
        converters = [self._converter(sampling.short_side) for sampling in samplings]
        grids = [self._grid(sampling.fps) for sampling in samplings]
        return self._sampled(converters, grids)

    def _sampled(self, converters: Sequence[FrameConverter], grids: Sequence[NDArray[np.float64]]) -> Iterator[tuple[int, Frame]]:
        sets = np.repeat(np.arange(len(grids)), [len(grid) for grid in grids])
        seconds = np.concatenate([np.empty(0), *grids])
        order = np.lexsort((sets, seconds))
        given = [-math.inf] * len(grids)
        for number, (shown, picture) in zip(sets[order].tolist(), self._frames_on_screen(seconds[order]), strict=False):
            if shown > given[number]:
                given[number] = shown
                yield number, Frame(image=converters[number].image(picture), seconds=shown)

    def times(self, fps: float) -> list[float]:
        """The timestamps in seconds of the frames of `sample(fps)`, without decoding."""
        numbers = np.unique(self._timeline.on_screen(self._grid(fps)))
        return [float(seconds) for seconds in self._timeline.times[numbers]]

    def frame_index(self, seconds: float) -> int:
        """The index of the frame on screen at a time in seconds, in presentation order from 0, without decoding."""
        self._check_times([seconds])
        return int(self._timeline.on_screen(seconds))

    def frame_time(self, seconds: float) -> float:
        """The presentation time of the frame on screen at a time in seconds, without decoding."""
        return float(self._timeline.times[self.frame_index(seconds)])

    def frame_at(self, seconds: float, short_side: int | None = None) -> Frame:
        """The frame on screen at a time in seconds: the last one that starts at or before it. Raises `VideoError` for a time outside the video."""
        frame = next(self.frames_at([seconds], short_side), None)
        if frame is None:
            raise VideoError(f"no frame of {files.printable(self.path)} can be decoded: the file was changed after it was opened")
        return frame

    def frames_at(self, seconds: Sequence[float], short_side: int | None = None) -> Iterator[Frame]:
        """The frames on screen at each of these times, in temporal order and in one pass. Raises `VideoError` for a time outside the video."""
        self._check_times(seconds)
        converter = self._converter(short_side)
        shown = self._frames_on_screen(np.sort(np.array(seconds, np.float64)))
        return (Frame(image=converter.image(picture), seconds=at) for at, picture in shown)

    def frames_between(self, start_seconds: float, stop_seconds: float, short_side: int | None = None) -> Iterator[Frame]:
        """The frame on screen at the start and all that begin before the stop, in temporal order.

        Raises `VideoError` for a start outside the video.
        """
        self._check_times([start_seconds])
        line = self._timeline
        first = int(line.on_screen(start_seconds))
        stop = max(first + 1, int(np.searchsorted(line.times, stop_seconds)))
        return (frame for _, frame in self._sampled([self._converter(short_side)], [line.times[first:stop]]))

    def keyframes(self, short_side: int | None = None) -> Iterator[Frame]:
        """The frames at which decoding can start: a coarse sample of the whole video at a fraction of the cost."""
        converter = self._converter(short_side)
        line = self._timeline
        if self._has_plan:
            shown = self._frames_on_screen(line.times[line.keys])
        else:
            shown = ((at, picture) for at, picture in self._plain() if picture.key_frame)
        return (Frame(image=converter.image(picture), seconds=at) for at, picture in shown)

    def _converter(self, short_side: int | None) -> FrameConverter:
        if short_side is not None and short_side < 1:
            raise VideoError(f"cannot scale frames to {short_side} pixels: give a shorter side of 1 or more")
        return FrameConverter(scaled_size(*self._size, short_side), self._turn, self._crop)

    def _check_times(self, seconds: Sequence[float]) -> None:
        end = self.duration_seconds
        for wanted in seconds:
            if not -TOLERANCE_SECONDS <= wanted <= end + TOLERANCE_SECONDS:
                raise VideoError(f"no frame at {wanted:.2f} s; {self.path.name} runs from 0 to {end:.2f} s")

    def _grid(self, fps: float) -> NDArray[np.float64]:
        if not 0 < fps <= MAX_FPS:
            raise VideoError(f"cannot sample {fps} frames a second: give a number above 0 and up to {MAX_FPS}, like 1 or 0.5")
        return self._timeline.grid(fps)

    @property
    def _has_plan(self) -> bool:
        return self._timeline.doubt is None and self._is_planned

    def _frames_on_screen(self, at: NDArray[np.float64]) -> Iterator[tuple[float, VideoFrame]]:
        """For each of these increasing times, the frame on screen with its own timestamp."""
        done = 0
        numbers = self._timeline.on_screen(at)
        while self._has_plan:
            try:
                for shown in self._planned(numbers[done:]):
                    yield shown
                    done += 1
                return
            except PlanError as error:
                self._state.check_unchanged(self.path)
                if self._seeks and isinstance(error, SeekError):
                    self._seeks = False
                else:
                    self._is_planned = False
                _log.info("falling back to slower decoding of %s: %s", self.path, error)
        yield from on_screen(self._plain(), at[done:].tolist())

    def _planned(self, numbers: NDArray[np.int64]) -> Iterator[tuple[float, VideoFrame]]:
        line = self._timeline
        with self._opened() as (container, stream):
            frames, counts = np.unique(numbers, return_counts=True)
            pictures = decode_planned(container, stream, line, frames.tolist(), seeks=self._seeks)
            for frame, count, picture in zip(frames.tolist(), counts.tolist(), pictures, strict=True):
                self._state.check_unchanged(self.path, is_open=True)
                self._watch_shape(stream, float(line.times[frame]))
                yield from itertools.repeat((float(line.times[frame]), picture), count)

    def _plain(self) -> Iterator[tuple[float, VideoFrame]]:
        """All decoded frames with their timestamps, in increasing order."""
        line = self._timeline
        undecodable = 0

        def count() -> None:
            nonlocal undecodable
            undecodable += 1
            self._undecodable = max(self._undecodable, undecodable)

        with self._opened() as (container, stream):
            last = -math.inf
            for number, picture in enumerate(decode_sequentially(container, stream, line.packets, count)):
                seconds = self._time_of(picture, number, stream)
                # Frames whose timestamps jump back (concatenated files) are skipped: their position in the video is unknown.
                if seconds is not None and seconds > last:
                    last = seconds
                    self._state.check_unchanged(self.path, is_open=True)
                    self._watch_shape(stream, seconds)
                    yield seconds, picture
            self._state.check_unchanged(self.path, is_open=True)

    def _watch_shape(self, stream: VideoStream, seconds: float) -> None:
        """Warn once where the pixels get another shape than those of the first frame: all frames are stretched as that one is."""
        if self._watches_shape and (shape := stream.codec_context.sample_aspect_ratio) != self._shape:
            self._watches_shape = False
            _log.warning(
                "%s: pixels are %s times as wide as high from about %.1f s on, and %s before: later frames are shown as if nothing had changed",
                self.path.name,
                shape or 1,
                seconds,
                self._shape or 1,
            )

    def _time_of(self, picture: VideoFrame, number: int, stream: VideoStream) -> float | None:
        line = self._timeline
        if not line.has_times:
            return float(line.times[number]) if number < len(line.times) else None
        return None if picture.pts is None else on_clock(tick_of(stream), line.zero)(picture.pts)

    @contextmanager
    def _opened(self) -> Iterator[tuple[InputContainer, VideoStream]]:
        self._state.check_unchanged(self.path)
        with files.opened(self.path) as (container, stream):
            enable_threads(stream)
            yield container, stream

    @cached_property
    def _timeline(self) -> Timeline:
        name = f"packets/{self.digest}-{FORMAT}.npz"
        cached = self._cache.read(name) if self._cache else None
        packets = PacketScan.from_bytes(cached) if cached else None
        if packets is None:
            with self._opened() as (container, stream):
                packets = scan(container, stream)
            self._state.check_unchanged(self.path)
            if self._cache:
                self._cache.label(self.digest, self.path.name)
                self._cache.write(name, packets.to_bytes())
        return timeline(packets, self._first_pts)
