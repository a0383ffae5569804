"""Retrievers that bring what was not asked for: with them, an evaluation shows whether the retrieved frame itself makes the difference."""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from act2see.core.errors import ConfigError, NoFrameError
from act2see.core.interfaces import Retriever, Sample
from act2see.core.trace import Frame
from act2see.tools.retrievers.selection import SAME_TIME_SECONDS
from act2see.video import Video
from act2see.video.pictures import blurred


@dataclass(frozen=True, slots=True)
class RandomFrames:
    """A frame from anywhere in the video, drawn by seed, video and query, whatever the query says."""

    fps: float = 3.0
    seed: int = 0

    @property
    def name(self) -> str:
        """For `Trace.made_with`."""
        return f"random@{self.fps:g}fps"

    def find(self, video: Video, query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
        """`count` random frames at times not in `shown`. Raises `ToolError` when there are none left."""
        free = [seconds for seconds in video.times(self.fps) if all(abs(seconds - other) > SAME_TIME_SECONDS for other in shown)]
        if not free:
            raise NoFrameError("every frame has been shown")
        rng = random.Random(f"{self.seed} {video.digest} {query} {sorted(shown)}")
        return list(video.frames_at(rng.sample(free, min(count, len(free)))))


@dataclass(frozen=True, slots=True)
class OracleFrames:
    """The frame in the middle of the stretch that is known to answer the question, whatever the query says: the best that looking can bring.

    It must be told the question first, by `knowing`.
    """

    fps: float = 3.0
    evidence_seconds: tuple[float, float] | None = None

    @property
    def name(self) -> str:
        """For `Trace.made_with`."""
        return f"oracle@{self.fps:g}fps"

    def knowing(self, sample: Sample) -> "OracleFrames":
        """The same for one question. Raises `ConfigError` for one whose data set does not tell when its answer is to be seen."""
        if sample.evidence_seconds is None:
            raise ConfigError(f"it is not known when the answer to question {sample.id!r} is to be seen: an oracle needs a data set that tells it")
        return replace(self, evidence_seconds=sample.evidence_seconds)

    def find(self, video: Video, query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
        """At most `count` frames at times not in `shown`, those nearest to the middle first. Raises `ToolError` when there are none left."""
        assert self.evidence_seconds is not None
        start, stop = self.evidence_seconds
        free = [seconds for seconds in video.times(self.fps) if all(abs(seconds - other) > SAME_TIME_SECONDS for other in shown)]
        inside = [seconds for seconds in free if start - SAME_TIME_SECONDS <= seconds <= stop + SAME_TIME_SECONDS] or free
        if not inside:
            raise NoFrameError("every frame has been shown")
        nearest = sorted(inside, key=lambda seconds: abs(seconds - (start + stop) / 2))[:count]
        found = {frame.seconds: frame for frame in video.frames_at(sorted(nearest))}
        return [found[seconds] for seconds in nearest if seconds in found]


@dataclass(frozen=True, slots=True)
class WithheldFrames:
    """Nothing, ever."""

    name: str = "withheld"

    def find(self, video: Video, query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
        """Raises `ToolError`."""
        raise NoFrameError("no frame was found")


@dataclass(frozen=True, slots=True)
class WrongTimeFrames:
    """For each frame that the real retriever finds, one from another time: a quarter of the video away where there is such a one, else the furthest.

    How far is our choice. It is drawn by seed, video and query, and has its own true time.
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


@dataclass(frozen=True, slots=True)
class BlurredFrames:
    """What the real retriever finds, too blurred to read."""

    real: Retriever

    @property
    def name(self) -> str:
        """For `Trace.made_with`."""
        return f"blurred of {self.real.name}"

    def find(self, video: Video, query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
        """The real frames, blurred, at their own times. Raises `ToolError` where the real retriever does."""
        return [replace(frame, image=blurred(frame.image)) for frame in self.real.find(video, query, shown=shown, count=count)]
