"""How many initial frames a model is shown, and how large they are kept: no more of them than it takes in, and no larger than it sees them."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from PIL import Image

from act2see.core.errors import VideoError
from act2see.core.trace import Frame

Size = tuple[int, int]
"""Width and height in pixels."""

MAX_ASPECT = 200
"""Qwen-VL's processors refuse pictures that are longer by more."""
LEAST_LONG_SIDE = 320
"""Frames are kept at least so large, whatever the model sees, because a report shows them at that size. Our choice."""
SHARE_OF_CONTEXT = 0.75
"""So much of a local model's context may be initial frames; the rest is for the question, the thoughts and the looks. Our choice."""
SERVER_PICTURES = 128
"""Pictures in one request to a server, initial and brought ones together: README's `--limit-mm-per-prompt '{"image": 128}'`. Our choice."""
SERVER_PIXELS = SERVER_PICTURES * 1024 * 1024
"""Pixels of all initial frames together that a server is sent: 131,072 tokens of Qwen3-VL, half of its context. Our choice."""


@dataclass(frozen=True, slots=True)
class FrameLimit:
    """What a model takes in of one video."""

    frames: int
    """At most so many initial ones."""
    size: Size | None = None
    """The size at which they are kept; None: as they are."""
    brought: Size | None = None
    """The same for the frames that a look brings."""


@dataclass(frozen=True, slots=True)
class Processor:
    """How Qwen-VL's image processor chooses the size at which a model sees a picture; with several `frames`, its video processor."""

    factor: int
    """Both sides are multiples of it: the pixels of a patch's side times the patches that are merged."""
    least: int
    """Pixels at least; of a video, of all frames together."""
    most: int

    def seen(self, size: Size, frames: int = 1) -> Size:
        """The size at which it is seen; transformers' `smart_resize`. Raises `VideoError` for what the processor refuses."""
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
        """The smallest size at which the processor makes of a picture what it makes of the whole one; None where it is not worth while.

        That is the size at which the model sees it, at which the processor has nothing left to do: or, where that would be too small for a report,
        one of the picture's own shape from which the processor comes to the same size.
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
    """Of how many frames the tokens fit; 1 at least."""
    while frames > 1 and tokens(frames) > room:
        frames -= 1
    return frames


def server_limit(size: Size, frames: int, most_frames: int = SERVER_PICTURES) -> FrameLimit:
    """What a server is sent of a video, whose model and context are not known here: so many frames, and `SERVER_PIXELS` of them together."""
    shown = min(frames, most_frames)
    by = math.sqrt(SERVER_PIXELS / max(1, shown) / (size[0] * size[1]))
    kept = None if by >= 1 else (max(1, math.floor(size[0] * by)), max(1, math.floor(size[1] * by)))
    return FrameLimit(shown, kept, kept)


def at_size(frame: Frame, size: Size | None, whole: Size) -> Frame:
    """The frame at the size at which it is kept, if its picture has the `whole` size of the video's; scaled as the processors of Qwen-VL do."""
    if size is None or frame.image.size != whole:
        return frame
    return replace(frame, image=frame.image.resize(size, Image.Resampling.BICUBIC))
