"""Frame controls: retrievers that return other frames than requested, to measure the effect of the retrieved frame itself."""

import itertools
import math
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from act2see.core.errors import ConfigError, NoFrameError
from act2see.core.interfaces import Retriever, Sample
from act2see.core.spots import Spot, cropped, frames_of, shown_by
from act2see.core.trace import Box, Frame
from act2see.tools.retrievers.selection import SAME_TIME_SECONDS
from act2see.video import Video
from act2see.video.pictures import blurred


@dataclass(frozen=True, slots=True)
class RandomFrames:
    """Random frames of the video, seeded by seed, video and query, independent of the query's meaning."""

    fps: float = 3.0
    seed: int = 0

    @property
    def name(self) -> str:
        """For `Trace.made_with`."""
        return f"random@{self.fps:g}fps"

    def find(self, video: Video, query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
        """`count` random frames at times not in `shown`. Raises `ToolError` if none are left."""
        free = [seconds for seconds in video.times(self.fps) if all(abs(seconds - other) > SAME_TIME_SECONDS for other in shown)]
        if not free:
            raise NoFrameError("every frame has been shown")
        rng = random.Random(f"{self.seed} {video.digest} {query} {sorted(shown)}")
        return list(video.frames_at(rng.sample(free, min(count, len(free)))))

    def show(self, video: Video, spot: Spot, *, shown: Collection[float], count: int) -> Sequence[Frame]:
        """A moment, a stretch of the same length or a part of the same size from anywhere in the video."""
        rng = random.Random(f"{self.seed} {video.digest} {spot} {sorted(shown)}")
        if not spot.is_stretch and spot.box is None:
            return self.find(video, str(spot), shown=shown)
        start = rng.uniform(0, max(0.0, video.duration_seconds - (spot.stop - spot.start)))
        return frames_of(video, Spot(start, start + spot.stop - spot.start, spot.box and _random_box(rng, spot.box)), count)


@dataclass(frozen=True, slots=True)
class OracleFrames:
    """The middle frame of the annotated span that answers the question: an upper bound for looking.

    Set the question first with `knowing`.
    """

    fps: float = 3.0
    evidence_seconds: tuple[float, float] | None = None

    @property
    def name(self) -> str:
        """For `Trace.made_with`."""
        return f"oracle@{self.fps:g}fps"

    def knowing(self, sample: Sample) -> "OracleFrames":
        """This retriever for one question. Raises `ConfigError` if the data set has no time span for its answer."""
        if sample.evidence_seconds is None:
            raise ConfigError(f"question {sample.id!r} has no time span of its answer, which --frames oracle needs: use another data set or control")
        return replace(self, evidence_seconds=sample.evidence_seconds)

    def find(self, video: Video, query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
        """At most `count` frames at times not in `shown`, those nearest to the middle first. Raises `ToolError` if none are left."""
        assert self.evidence_seconds is not None
        start, stop = self.evidence_seconds
        free = [seconds for seconds in video.times(self.fps) if all(abs(seconds - other) > SAME_TIME_SECONDS for other in shown)]
        inside = [seconds for seconds in free if start - SAME_TIME_SECONDS <= seconds <= stop + SAME_TIME_SECONDS] or free
        if not inside:
            raise NoFrameError("every frame has been shown")
        nearest = sorted(inside, key=lambda seconds: abs(seconds - (start + stop) / 2))[:count]
        found = {frame.seconds: frame for frame in video.frames_at(sorted(nearest))}
        return [found[seconds] for seconds in nearest if seconds in found]

    def show(self, video: Video, spot: Spot, *, shown: Collection[float], count: int) -> Sequence[Frame]:
        """The whole stretch that is known to answer the question in place of a stretch, else its middle; a part of the picture stays."""
        assert self.evidence_seconds is not None
        start, stop = self.evidence_seconds
        middle = (start + stop) / 2
        return frames_of(video, Spot(start, stop) if spot.is_stretch and start < stop else Spot(middle, middle, spot.box), count)


@dataclass(frozen=True, slots=True)
class WithheldFrames:
    """Never returns a frame."""

    name: str = "withheld"

    def find(self, video: Video, query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
        """Raises `ToolError`."""
        raise NoFrameError("no frame was found")

    def show(self, video: Video, spot: Spot, *, shown: Collection[float], count: int) -> Sequence[Frame]:
        """Raises `ToolError`."""
        raise NoFrameError("no frame was found")


@dataclass(frozen=True, slots=True)
class WrongTimeFrames:
    """For each frame of the real retriever, one from another time: at least a quarter of the video away if possible, else the furthest.

    The distance is our choice. It is seeded by seed, video and query, and keeps its true timestamp.
    """

    real: Retriever
    fps: float = 3.0
    seed: int = 0

    @property
    def name(self) -> str:
        """For `Trace.made_with`."""
        return f"wrong time@{self.fps:g}fps of {self.real.name}"

    def find(self, video: Video, query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
        """At most `count` frames at times not in `shown`. Raises `ToolError` where the real retriever does, and when there are none left."""
        rng = random.Random(f"{self.seed} {video.digest} {query} {sorted(shown)}")
        free = [seconds for seconds in video.times(self.fps) if all(abs(seconds - other) > SAME_TIME_SECONDS for other in shown)]
        wrong: list[float] = []
        for found in self.real.find(video, query, shown=shown, count=count):
            right = found.seconds or 0.0
            left = [seconds for seconds in free if seconds not in wrong and abs(seconds - right) > SAME_TIME_SECONDS]
            if not left:
                raise NoFrameError("every other frame has been shown")
            far = [seconds for seconds in left if abs(seconds - right) >= video.duration_seconds / 4]
            wrong.append(rng.choice(far) if far else max(left, key=lambda seconds: abs(seconds - right)))
        return list(video.frames_at(wrong))

    def show(self, video: Video, spot: Spot, *, shown: Collection[float], count: int) -> Sequence[Frame]:
        """A stretch of the same length from another time, a part of the same size from another time and place, or another moment.

        Raises `ToolError` where the video is too short to hold another one.
        """
        rng = random.Random(f"{self.seed} {video.digest} {spot} {sorted(shown)}")
        length, step = spot.stop - spot.start, 1 / self.fps
        last = max(0.0, video.duration_seconds - length)
        starts = [*(number * step for number in range(math.floor(last / step) + 1)), last]
        if not spot.is_stretch and spot.box is None:
            starts = [seconds for seconds in starts if all(abs(seconds - other) > SAME_TIME_SECONDS for other in shown)]
        away = {start: abs(start - spot.start) for start in starts if abs(start - spot.start) > SAME_TIME_SECONDS}
        if not away:
            raise NoFrameError("the video has no other time as long as this")
        far = [start for start, distance in away.items() if distance >= max(length, video.duration_seconds / 4)]
        start = rng.choice(far) if far else max(away, key=lambda one: away[one])
        return frames_of(video, Spot(start, start + length, spot.box and _other_box(rng, spot.box)), count)


@dataclass(frozen=True, slots=True)
class BlurredFrames:
    """The real retriever's frames, blurred beyond recognition."""

    real: Retriever

    @property
    def name(self) -> str:
        """For `Trace.made_with`."""
        return f"blurred of {self.real.name}"

    def find(self, video: Video, query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
        """The real frames, blurred, with their timestamps. Raises `ToolError` where the real retriever does."""
        return [replace(frame, image=blurred(frame.image)) for frame in self.real.find(video, query, shown=shown, count=count)]

    def show(self, video: Video, spot: Spot, *, shown: Collection[float], count: int) -> Sequence[Frame]:
        """What the spot shows, blurred. A part of a picture is cut from the blurred whole: enlarged as it is, it could still be read."""
        whole = shown_by(self.real, video, replace(spot, box=None), shown=shown, count=count)
        soft = [replace(frame, image=blurred(frame.image)) for frame in whole]
        return soft if spot.box is None else [cropped(frame, spot.box) for frame in soft]


def _random_box(rng: random.Random, box: Box) -> Box:
    """A part of the same size from anywhere in the picture."""
    return _moved(box, rng.random(), rng.random())


def _other_box(rng: random.Random, box: Box) -> Box:
    """A part of the same size that does not touch this one, where there is room; else the one that overlaps it least."""
    others = [_moved(box, x, y) for x, y in itertools.product((0, 0.25, 0.5, 0.75, 1), repeat=2)]
    apart = [other for other in others if not _overlap(box, other)]
    return rng.choice(apart) if apart else min(others, key=lambda other: _overlap(box, other))


def _moved(box: Box, x: float, y: float) -> Box:
    """The box at a place in the picture: `x` and `y` are 0 at the left and the top, and 1 where it touches the right and the bottom."""
    width, height = box[2] - box[0], box[3] - box[1]
    left, top = x * (1 - width), y * (1 - height)
    return left, top, min(1.0, left + width), min(1.0, top + height)


def _overlap(one: Box, other: Box) -> float:
    """The share of the picture that both hold."""
    width, height = (min(one[side + 2], other[side + 2]) - max(one[side], other[side]) for side in (0, 1))
    return max(0.0, width) * max(0.0, height)
