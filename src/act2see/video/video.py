"""A video file, and its frames by presentation time."""

import itertools
import logging
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
from act2see.video.decoding import PlanError, SeekError, by_plan, plainly, use_cores
from act2see.video.packets import Walk, tick_of, walk
from act2see.video.pictures import Painter, scaled_size, upright_size
from act2see.video.timeline import MAX_FPS, TOLERANCE_SECONDS, Timeline, on_screen, timeline

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sampling:
    """A wish for frames: `fps` of them a second, larger ones scaled down so that their shorter side has `short_side` pixels."""

    fps: float
    short_side: int | None = None


class Video:
    """A video file that was opened and checked once; frames are read on demand, streaming.

    With a cache, what the packets say is kept there, so that the file is not read for it again. Raises `VideoError` for whatever has no frame that
    can be decoded: no file, a folder, an empty file, text, sound alone (cover art is no video), and for pictures of more than `MAX_PIXELS`; later,
    for a file that was changed after it was opened.
    """

    def __init__(self, path: str | os.PathLike[str], cache: Cache | None = None) -> None:
        self.path = Path(path)
        self._cache = cache
        self._undecodable = 0
        self._is_planned = self._seeks = True  # until that fails
        files.refuse_no_file(self.path)
        self._state = files.FileState.of(self.path)
        with files.opened(self.path) as (container, stream):
            first = next(plainly(container, stream, None, lambda: None), None)
            if first is None:
                raise VideoError(
                    f"no frame of {files.named(self.path)} can be decoded: it is damaged, or its pictures have more than {files.MAX_PIXELS:,} pixels"
                )
            self._first_pts = first.pts
            self._size = upright_size(first)
            self._colours = approximation(first)

    @property
    def duration_seconds(self) -> float:
        """From the first frame's presentation time to the end of the last one's, from the packets: a header's word may be missing or wrong."""
        return self._timeline.duration_seconds

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the first frame in pixels, upright; frames of another size are scaled to it. Pixels are taken as square."""
        return self._size

    @property
    def damage(self) -> str | None:
        """What of the file cannot be read, in one line; None as far as is known. Complete after a pass over the whole video."""
        undecodable = f"{self._undecodable} packets cannot be decoded" if self._undecodable else None
        problems = [problem for problem in (self._timeline.missing, undecodable) if problem is not None]
        return f"{self.path.name} is damaged: " + "; ".join(problems) if problems else None

    @property
    def colours(self) -> str | None:
        """How far off the colours may be, in one line; None where they are the file's own."""
        return None if self._colours is None else f"{self.path.name}: {self._colours}"

    @cached_property
    def digest(self) -> str:
        """A sha256 over the file's size, first and last MiB: it identifies the content for caches, but does not vouch for every byte."""
        self._state.refuse_change(self.path)
        return files.digest_of(self.path)

    def sample(self, fps: float, short_side: int | None = None, *, at_most: int | None = None) -> Iterator[Frame]:
        """The frames on screen at 0, 1/fps, 2/fps, … before the end, each once and with its own presentation time.

        Of more than `at_most`, so many, evenly spread from the first to the last. A damaged file gives what can be decoded; then a frame of `times`
        may be missing here.
        """
        grid = self._grid(fps) if at_most is None else self._thinned(self._grid(fps), at_most)
        return (frame for _, frame in self._sampled([self._painter(short_side)], [grid]))

    def _thinned(self, grid: NDArray[np.float64], at_most: int) -> NDArray[np.float64]:
        numbers = np.unique(self._timeline.on_screen(grid))
        if len(numbers) <= at_most:
            return grid
        chosen = numbers[np.linspace(0, len(numbers) - 1, at_most).round().astype(int)]
        return np.asarray(self._timeline.times[chosen], np.float64)

    def sample_sets(self, samplings: Sequence[Sampling]) -> Iterator[tuple[int, Frame]]:
        """Several samplings in one pass: every frame with the number of the sampling that it belongs to, in order of time."""
        painters = [self._painter(sampling.short_side) for sampling in samplings]
        grids = [self._grid(sampling.fps) for sampling in samplings]
        return self._sampled(painters, grids)

    def _sampled(self, painters: Sequence[Painter], grids: Sequence[NDArray[np.float64]]) -> Iterator[tuple[int, Frame]]:
        sets = np.repeat(np.arange(len(grids)), [len(grid) for grid in grids])
        seconds = np.concatenate([np.empty(0), *grids])
        order = np.lexsort((sets, seconds))
        given = [-math.inf] * len(grids)
        for number, (shown, picture) in zip(sets[order].tolist(), self._frames_on_screen(seconds[order]), strict=False):
            if shown > given[number]:
                given[number] = shown
                yield number, Frame(image=painters[number].image(picture), seconds=shown)

    def times(self, fps: float) -> list[float]:
        """The times in seconds of the frames that `sample(fps)` gives, from the packets, without decoding."""
        numbers = np.unique(self._timeline.on_screen(self._grid(fps)))
        return [float(seconds) for seconds in self._timeline.times[numbers]]

    def frame_index(self, seconds: float) -> int:
        """Which frame is on screen at that time, in order of presentation, from 0; from the packets, without decoding."""
        self._refuse_outside([seconds])
        return int(self._timeline.on_screen(seconds))

    def frame_at(self, seconds: float, short_side: int | None = None) -> Frame:
        """The frame on screen at that time: the last one shown at or before it. Raises `VideoError` for a time outside the video."""
        frame = next(self.frames_at([seconds], short_side), None)
        if frame is None:
            raise VideoError(f"no frame of {files.named(self.path)} can be decoded any more: it was changed after it was opened")
        return frame

    def frames_at(self, seconds: Sequence[float], short_side: int | None = None) -> Iterator[Frame]:
        """For every one of these times, in order of time, the frame on screen then; one pass. Raises `VideoError` for a time outside the video."""
        self._refuse_outside(seconds)
        painter = self._painter(short_side)
        shown = self._frames_on_screen(np.sort(np.array(seconds, np.float64)))
        return (Frame(image=painter.image(picture), seconds=at) for at, picture in shown)

    def keyframes(self, short_side: int | None = None) -> Iterator[Frame]:
        """The frames at which decoding can begin: a coarse look at the whole video for a small part of the time."""
        painter = self._painter(short_side)
        line = self._timeline
        if self._has_plan:
            shown = self._frames_on_screen(line.times[line.keys])
        else:
            shown = ((at, picture) for at, picture in self._plain() if picture.key_frame)
        return (Frame(image=painter.image(picture), seconds=at) for at, picture in shown)

    def _painter(self, short_side: int | None) -> Painter:
        if short_side is not None and short_side < 1:
            raise VideoError(f"cannot scale frames to {short_side} pixels: give a shorter side of 1 or more")
        return Painter(scaled_size(*self._size, short_side))

    def _refuse_outside(self, seconds: Sequence[float]) -> None:
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
        """For each of these rising times, the frame on screen then, with its own time."""
        done = 0
        numbers = self._timeline.on_screen(at)
        while self._has_plan:
            try:
                for shown in self._planned(numbers[done:]):
                    yield shown
                    done += 1
                return
            except PlanError as error:
                self._state.refuse_change(self.path)
                if self._seeks and isinstance(error, SeekError):
                    self._seeks = False
                else:
                    self._is_planned = False
                _log.info("%s is decoded in a slower way: %s", self.path, error)
        yield from on_screen(self._plain(), at[done:].tolist())

    def _planned(self, numbers: NDArray[np.int64]) -> Iterator[tuple[float, VideoFrame]]:
        line = self._timeline
        with self._opened() as (container, stream):
            frames, counts = np.unique(numbers, return_counts=True)
            pictures = by_plan(container, stream, line, frames.tolist(), seeks=self._seeks)
            for frame, count, picture in zip(frames.tolist(), counts.tolist(), pictures, strict=True):
                self._state.refuse_change(self.path, is_open=True)
                yield from itertools.repeat((float(line.times[frame]), picture), count)

    def _plain(self) -> Iterator[tuple[float, VideoFrame]]:
        """Every decoded frame with its time, in rising order."""
        line = self._timeline
        undecodable = 0

        def count() -> None:
            nonlocal undecodable
            undecodable += 1
            self._undecodable = max(self._undecodable, undecodable)

        with self._opened() as (container, stream):
            last = -math.inf
            for number, picture in enumerate(plainly(container, stream, line.packets, count)):
                seconds = self._time_of(picture, number, stream)
                # Where the clock jumps back (files glued together) there is no telling when a frame is on screen.
                if seconds is not None and seconds > last:
                    last = seconds
                    self._state.refuse_change(self.path, is_open=True)
                    yield seconds, picture
            self._state.refuse_change(self.path, is_open=True)

    def _time_of(self, picture: VideoFrame, number: int, stream: VideoStream) -> float | None:
        line = self._timeline
        if not line.has_times:
            return float(line.times[number]) if number < len(line.times) else None
        if picture.pts is None or self._first_pts is None:
            return None
        tick = tick_of(stream)
        return (picture.pts - self._first_pts) * tick.numerator / tick.denominator

    @contextmanager
    def _opened(self) -> Iterator[tuple[InputContainer, VideoStream]]:
        self._state.refuse_change(self.path)
        with files.opened(self.path) as (container, stream):
            use_cores(stream)
            yield container, stream

    @cached_property
    def _timeline(self) -> Timeline:
        name = f"packets/{self.digest}.npz"
        kept = self._cache.read(name) if self._cache else None
        found = Walk.from_bytes(kept) if kept else None
        if found is None:
            with self._opened() as (container, stream):
                found = walk(container, stream)
            self._state.refuse_change(self.path)
            if self._cache:
                self._cache.label(self.digest, self.path.name)
                self._cache.write(name, found.to_bytes())
        return timeline(found, self._first_pts)
