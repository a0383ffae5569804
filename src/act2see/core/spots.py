"""Looks with a time or a place: the words of a retrieve call that name a moment, a stretch or a part of a picture instead of describing it.

They stand inside the same tag as free words, so that no model needs new tokens. What they look like is decided by their first word or number, and
from there they are parsed strictly: whatever is malformed is refused with advice that the model reads. Not in the paper; ours.
"""

import math
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from PIL import Image

from act2see.core.chat import Tool
from act2see.core.errors import NoFrameError, ToolError
from act2see.core.framing import MAX_ASPECT, MAX_STRETCH_FRAMES, Size
from act2see.core.interfaces import Retriever, ShowsSpots
from act2see.core.trace import Box, Call, Frame, Generate

if TYPE_CHECKING:
    from act2see.video import Video

ENLARGED_SIDE = 512
"""A smaller crop is enlarged to this longer side, in pixels, because models spend few tokens on a small picture. Our choice."""

_UNIT = r"(?:s|sec|secs|seconds?)"
_LIKE_A_NUMBER = r"[+-]?\.?\d[\d.:,eE+-]*"
_MEANS_ZOOM = re.compile(r"zoom\b", re.IGNORECASE)
_MEANS_CLIP = re.compile(
    rf"at\s*{_LIKE_A_NUMBER}\s*(?:{_UNIT}\b|$)"
    rf"|(?:from\s+)?{_LIKE_A_NUMBER}\s*{_UNIT}?\s*(?:to|until|[-–])\s*{_LIKE_A_NUMBER}\s*(?:{_UNIT}\b|$)"
    rf"|between\s+{_LIKE_A_NUMBER}\s*{_UNIT}?\s*(?:and|to|[-–])\s*{_LIKE_A_NUMBER}\s*(?:{_UNIT}\b|$)"
    rf"|{_LIKE_A_NUMBER}\s*{_UNIT}$",
    re.IGNORECASE,
)
"""Words that merely begin with a number are none: `12 to 15 people`, `at 3 o'clock`."""
_NUMBER = r"(\d{1,7}(?:\.\d{1,6})?)"
_AT = re.compile(rf"at {_NUMBER} ?{_UNIT}")
_STRETCH = re.compile(rf"{_NUMBER}(?: ?{_UNIT})? to {_NUMBER} ?{_UNIT}")
_CORNER = r"(-?\d{1,7}(?:\.\d{1,6})?)"
_ZOOM = re.compile(rf"zoom {_CORNER} {_CORNER} {_CORNER} {_CORNER} at {_NUMBER} ?{_UNIT}")
_CLIP_FORMS = "at 12.5 s, or 12 to 15 s"
_ZOOM_FORM = "zoom 0.2 0.1 0.6 0.5 at 12.5 s"
_BOX_FORM = "left, top, right and bottom as fractions of the picture from 0 to 1"


@dataclass(frozen=True, slots=True)
class Spot:
    """What a look names: the video from `start` to `stop` seconds, equal for a moment; with a `box`, that part of the picture."""

    start: float
    stop: float
    box: Box | None = None

    @property
    def is_stretch(self) -> bool:
        """Whether it lasts."""
        return self.stop > self.start

    def times(self, count: int) -> tuple[float, ...]:
        """At most `count` evenly spaced times in seconds, the first and the last among them."""
        if not self.is_stretch or count == 1:
            return ((self.start + self.stop) / 2,)
        step = (self.stop - self.start) / (count - 1)
        return (*(self.start + number * step for number in range(count - 1)), self.stop)


def tool_of(call: Call, offered: Collection[Tool]) -> Tool:
    """The tool that a call means: a retrieve call with a time is `clip` and one with a box `zoom`, where these are offered."""
    if isinstance(call, Generate):
        return "generate"
    words = _squeezed(call.query)
    if "zoom" in offered and _MEANS_ZOOM.match(words):
        return "zoom"
    return "clip" if "clip" in offered and _MEANS_CLIP.match(words) else "retrieve"


def parse(query: str, tool: Tool) -> Spot | None:
    """The spot that the words of a retrieve call name, for the tool that `tool_of` gives; None for free words. Raises `ToolError` with advice."""
    words = _squeezed(query).casefold()
    if tool == "zoom":
        if (match := _ZOOM.fullmatch(words)) is None:
            raise ToolError(f"this zoom cannot be read: write only {_ZOOM_FORM} in the call, with {_BOX_FORM}")
        left, top, right, bottom, seconds = (float(number) for number in match.groups())
        return Spot(seconds, seconds, _checked((left, top, right, bottom)))
    if tool != "clip":
        return None
    if match := _AT.fullmatch(words):
        return Spot(float(match[1]), float(match[1]))
    if (match := _STRETCH.fullmatch(words)) is None:
        raise ToolError(f"this time cannot be read: write only {_CLIP_FORMS} in the call, with plain seconds")
    start, stop = float(match[1]), float(match[2])
    if start >= stop:
        how = "is empty" if start == stop else "runs backwards"
        raise ToolError(f"the stretch {how}: write the earlier time first and the later one second, as in 12 to 15 s")
    return Spot(start, stop)


def advice(offered: Collection[Tool]) -> str:
    """What may be written in a retrieve call where free words may not."""
    forms = [*([_CLIP_FORMS] if "clip" in offered else []), *([_ZOOM_FORM] if "zoom" in offered else [])]
    return f"words are not searched for here: write {', or '.join(forms)} in the call"


def check_inside(spot: Spot, video: "Video") -> None:
    """Refuse a spot that the video does not have. Raises `ToolError` with advice."""
    end = video.duration_seconds
    if spot.stop > end:
        # Rounded down: the end as it is named here may be asked for.
        raise ToolError(f"there is nothing at {spot.stop:g} s: the video runs from 0 to {math.floor(end * 100) / 100:.2f} s, so name a time in there")
    if spot.box is not None:
        left, top, right, bottom = _pixels(spot.box, video.size)
        width, height = right - left, bottom - top
        if max(width, height) > MAX_ASPECT * min(width, height):
            raise ToolError(f"the box is too narrow with {width}x{height} pixels: take one at most {MAX_ASPECT} times as long as wide")


def is_known(spot: Spot, video: "Video", frames: Collection[Frame], count: int) -> bool:
    """Whether all that the spot shows is among these frames."""
    end = video.duration_seconds
    known = {(video.frame_index(frame.seconds), frame.box) for frame in frames if frame.seconds is not None and 0 <= frame.seconds <= end}
    return all((video.frame_index(seconds), spot.box) in known for seconds in spot.times(count))


def frames_of(video: "Video", spot: Spot, count: int = MAX_STRETCH_FRAMES) -> tuple[Frame, ...]:
    """The frames on screen at up to `count` evenly spaced times of the spot, each once; with a box, that part of them, from the full-size picture.

    Raises `ToolError` if none can be decoded, and `VideoError`.
    """
    found: dict[float | None, Frame] = {}
    for frame in video.frames_at(spot.times(count)):
        found.setdefault(frame.seconds, frame if spot.box is None else cropped(frame, spot.box))
    if not found:
        raise NoFrameError("no frame there can be decoded")
    return tuple(found.values())


def shown_by(retriever: Retriever | None, video: "Video", spot: Spot, *, shown: Collection[float], count: int) -> tuple[Frame, ...]:
    """The frames of a spot: what the retriever has in their place, if it has the ability, else `frames_of`."""
    if isinstance(retriever, ShowsSpots):
        return tuple(retriever.show(video, spot, shown=shown, count=count))
    return frames_of(video, spot, count)


def fitted(frame: Frame, size: Size | None) -> Frame:
    """A crop with no more pixels than a frame of this size has, the model's own; None for no limit."""
    width, height = frame.image.size
    if size is None or width * height <= size[0] * size[1]:
        return frame
    by = math.sqrt(size[0] * size[1] / (width * height))
    return replace(frame, image=frame.image.resize((max(1, math.floor(width * by)), max(1, math.floor(height * by))), Image.Resampling.BICUBIC))


def box_text(box: Box) -> str:
    """A box as it is written in a call."""
    return " ".join(f"{side:g}" for side in box)


def cropped(frame: Frame, box: Box) -> Frame:
    """A part of a whole frame, enlarged to `ENLARGED_SIDE` if it is smaller."""
    part = frame.image.crop(_pixels(box, frame.image.size))
    by = ENLARGED_SIDE / max(part.size)
    if by > 1:
        part = part.resize((max(1, round(part.width * by)), max(1, round(part.height * by))), Image.Resampling.BICUBIC)
    return replace(frame, image=part, box=box)


def _pixels(box: Box, size: Size) -> tuple[int, int, int, int]:
    """The pixels that a box touches; at least one."""
    width, height = size
    left, top = (min(length - 1, math.floor(side * length + 1e-6)) for side, length in ((box[0], width), (box[1], height)))
    right, bottom = (math.ceil(side * length - 1e-6) for side, length in ((box[2], width), (box[3], height)))
    return left, top, max(left + 1, right), max(top + 1, bottom)


def _checked(box: Box) -> Box:
    left, top, right, bottom = box
    if not all(0 <= side <= 1 for side in box):
        raise ToolError(f"the box {box_text(box)} leaves the picture: give {_BOX_FORM}")
    if left >= right or top >= bottom:
        raise ToolError(f"the box {box_text(box)} is empty: give {_BOX_FORM}, left less than right and top less than bottom")
    return box


def _squeezed(query: str) -> str:
    return " ".join(query.split())
