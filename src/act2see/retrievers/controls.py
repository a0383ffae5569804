"""Retrievers that bring what was not asked for: with them, an evaluation shows whether the retrieved frame itself makes the difference."""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from act2see.errors import ToolError
from act2see.retrievers.selection import SAME_TIME_SECONDS
from act2see.trace import Frame
from act2see.video import Video


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
            raise ToolError("every frame has been shown: answer from what you have seen")
        rng = random.Random(f"{self.seed} {video.digest} {query} {sorted(shown)}")
        return list(video.frames_at(rng.sample(free, min(count, len(free)))))


@dataclass(frozen=True, slots=True)
class WithheldFrames:
    """Nothing, ever."""

    name: str = "withheld"

    def find(self, video: Video, query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
        """Raises `ToolError`."""
        raise ToolError("no frame was found: answer from what you have seen")
