"""Number and size of the initial frames: no more than the model's context holds, no larger than its processor's input."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from PIL import Image

from act2see.core.errors import VideoError
from act2see.core.trace import Frame

Size = tuple[int, int]
"""Width and height in pixels."""

MAX_ASPECT = 200
"""Qwen-VL's processors reject pictures with a larger aspect ratio."""
MAX_STRETCH_FRAMES = 8
"""Maximum number of frames that a look at a stretch of time returns. Not in the paper; our choice."""
LEAST_LONG_SIDE = 320
"""Minimum of a stored frame's longer side, in pixels, because a report shows frames at that size. Our choice."""
SHARE_OF_CONTEXT = 0.75
"""Share of a local model's context for initial frames; the rest is for the question, the thoughts and the looks. Our choice."""
SERVER_PICTURES = 128
"""Maximum number of pictures in a request, initial and from looks: README's `--limit-mm-per-prompt '{"image": 128}'`. Our choice."""
SERVER_PIXELS = SERVER_PICTURES * 1024 * 1024
"""Maximum total pixels of the initial frames in a request: 131,072 tokens of Qwen3-VL, half of its context. Our choice."""


@dataclass(frozen=True, slots=True)
class FrameLimit:
    """How much of one video a model takes."""

    frames: int
    """Maximum number of initial frames."""
    size: Size | None = None
    """The size at which initial frames are stored; None for their own."""
    brought: Size | None = None
    """The same for frames from looks."""


@dataclass(frozen=True, slots=True)
class Processor:
    """The resizing rule of Qwen-VL's image processor; with several `frames`, that of its video processor."""

    factor: int
    """Both sides become multiples of this: patch size times merge size."""
    least: int
    """Minimum number of pixels; of a video, of all frames together."""
    most: int
    """Maximum number of pixels, counted alike."""

    def seen(self, size: Size, frames: int = 1) -> Size:
        """The size after resizing, as transformers' `smart_resize`. Raises `VideoError` for pictures that the processor rejects."""
        width, height = size
        if max(size) > MAX_ASPECT * min(size):
            raise VideoError(
                f"its pictures have {width}x{height} pixels; the model takes none that are more than {MAX_ASPECT} times as long as wide: "
                "pad them, as with ffmpeg -vf 'pad=max(iw\\,ih/100):max(ih\\,iw/100)'"
            )
        seen = _multiple(round, width, self.factor), _multiple(round, height, self.factor)
        pixels = seen[0] * seen[1] * frames
        if pixels > self.most:
            by = math.sqrt(width * height * frames / self.most)
            return _multiple(math.floor, width / by, self.factor, 1), _multiple(math.floor, height / by, self.factor, 1)
        if pixels < self.least:
            by = math.sqrt(self.least / (width * height * frames))
            return _multiple(math.ceil, width * by, self.factor), _multiple(math.ceil, height * by, self.factor)
        return seen

    def kept(self, size: Size, frames: int = 1) -> Size | None:
        """The smallest size at which a picture can be stored without changing the processor's output; None if it is not worth it.

        This is the processor's output size, which it leaves as it is. If that is too small for a report, it is a size of the picture's own aspect
        ratio that the processor resizes to the same output size.
        """
        seen = self.seen(size, frames)
        if max(size) <= LEAST_LONG_SIDE or seen[0] * seen[1] * frames > self.most or _multiple(round, size[0], self.factor) == seen[0]:
            return None
        if max(seen) >= LEAST_LONG_SIDE and self.seen(seen, frames) == seen:
            return seen if seen[0] <= size[0] and seen[1] <= size[1] else None
        for longer in range(max(LEAST_LONG_SIDE, *seen), max(size)):
            by = longer / max(size)
            smaller = max(1, round(size[0] * by)), max(1, round(size[1] * by))
            if smaller[0] >= seen[0] and smaller[1] >= seen[1] and _is_seen_as(self, smaller, frames, seen):
                return smaller
        return None


def _is_seen_as(processor: Processor, size: Size, frames: int, seen: Size) -> bool:
    return max(size) <= MAX_ASPECT * min(size) and processor.seen(size, frames) == seen


def _multiple(rounded: Callable[[float], int], length: float, factor: int, least: int = 0) -> int:
    return max(least, rounded(length / factor)) * factor


def most_that_fit(frames: int, tokens: Callable[[int], int], room: int) -> int:
    """The largest number of frames whose tokens fit; at least 1."""
    while frames > 1 and tokens(frames) > room:
        frames -= 1
    return frames


def server_limit(size: Size, frames: int, most_frames: int = SERVER_PICTURES) -> FrameLimit:
    """The limit for a server, whose model and context are unknown: `most_frames`, and `SERVER_PIXELS` in total."""
    shown = min(frames, most_frames)
    by = math.sqrt(SERVER_PIXELS / max(1, shown) / (size[0] * size[1]))
    kept = None if by >= 1 else (max(1, math.floor(size[0] * by)), max(1, math.floor(size[1] * by)))
    return FrameLimit(shown, kept, kept)


def at_size(frame: Frame, size: Size | None, whole: Size) -> Frame:
    """The frame resized to `size` if it has the video's own size, `whole`; bicubic, as the processors of Qwen-VL."""
    if size is None or frame.image.size != whole:
        return frame
    return replace(frame, image=frame.image.resize(size, Image.Resampling.BICUBIC))
