"""What is written on the screen: frames that change are searched for text, and of that only what is new is read.

Finding text costs a fraction of reading it. So a frame that looks like the last one is skipped, a text whose pixels are known is not read again,
wherever a scrolling window has moved it, and a text that stands is one line from when it appears until it is gone.
"""

import difflib
import json
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from act2see.core.trace import Line
from act2see.video import Video
from act2see.video.transcript.subtitles import clean

SHORT_SIDE = 1080
"""Frames are scaled down to this shorter side, in pixels."""
_SKETCH_WIDTH, _CHANGED_LEVELS = 320, 20
"""A frame has changed if a pixel of its sketch of this width differs by more than so many of 255 levels. Our choice: less is compression."""
_GLANCE_SIDE, _FULL_EVERY = 480, 3
"""Where the last frame had no text, two of three changed frames are searched at this longer side alone. Our choice."""
_SURE = 0.6
"""Texts of which the reader is less sure are dropped. Our choice."""
_MARGIN_ROWS, _LARGEST_BAND = 48, 0.6
"""Rows around those that changed that are searched too, and the share of the frame from which on all of it is. Our choice."""
_INK_LEVELS = 48
_TYPED_LETTERS = 8
_ROWS, _SAME_LEVELS, _KNOWN_TEXTS = 16, 14, 600


@dataclass(frozen=True, slots=True)
class Box:
    """Where a text is, in pixels; right and bottom are exclusive."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True, slots=True)
class Read:
    """A text that was read, and how sure the reader is of it, from 0 to 1."""

    text: str
    confidence: float


class TextReader(Protocol):
    """Finds and reads text in pictures, which are RGB of shape (height, width, 3)."""

    def find(self, picture: NDArray[np.uint8]) -> Sequence[Box]:
        """Where there are lines of text."""
        ...

    def read(self, picture: NDArray[np.uint8]) -> Read:
        """The text of one line, cut out."""
        ...


class NamedReader(Protocol):
    """A class of readers: loaded only when a frame has to be read."""

    name: str

    def __call__(self) -> TextReader:
        """Load the models."""
        ...

    def key(self) -> str:
        """Versions and settings, for the cache."""
        ...


@dataclass(slots=True)
class _Text:
    """A text on the screen: where it is now, its pixels, and since when it stands."""

    box: Box
    pixels: NDArray[np.int16]
    read: Read
    start_seconds: float
    stop_seconds: float
    is_shown: bool = field(default=True)


class Screen:
    """The source of what is written: a `Source` of `reading`. `fps` frames a second are looked at."""

    def __init__(self, reader: NamedReader, fps: float = 1.0) -> None:
        self._named, self.fps = reader, fps
        self._reader: TextReader | None = None
        self._showing: list[_Text] = []
        self._gone: list[_Text] = []
        self._known: list[tuple[NDArray[np.int16], Read]] = []
        self._note: str | None = None
        self._since_full = 0
        self.frames_searched = 0
        """Frames that were not skipped as unchanged."""
        self.texts_read = 0
        """Texts that were not known by their pixels."""

    @property
    def name(self) -> str:
        """The source's name in each line."""
        return f"screen:{self._named.name}"

    @property
    def key(self) -> str:
        """The reader, and how often it looks."""
        return json.dumps([self._named.key(), self.fps, SHORT_SIDE])

    @property
    def lines(self) -> Sequence[Line]:
        """What was read so far, in time order; texts that appear at once in reading order."""
        at_once: dict[float, list[_Text]] = {}
        for text in (*self._gone, *self._showing):
            if is_text(text.read):
                at_once.setdefault(text.start_seconds, []).append(text)
        return [
            Line(round(start, 3), round(texts[at].stop_seconds, 3), clean(texts[at].read.text), self.name)
            for start, texts in sorted(at_once.items())
            for at in reading_order([text.box for text in texts])
        ]

    @property
    def note(self) -> str | None:
        """Why there is no text."""
        return self._note

    def read(self, video: Video, after_seconds: float) -> Iterator[float]:
        """Read the frames after a time. See `reading.Source`."""
        times = [seconds for seconds in video.times(self.fps) if not after_seconds or seconds > after_seconds]
        short_side = SHORT_SIDE if min(video.size) > SHORT_SIDE else None
        sketch: NDArray[np.int16] | None = None
        for frame in video.frames_at(times, short_side) if times else ():
            seconds = frame.seconds or 0.0
            # What is on the screen stands until the next frame that is looked at, or the end.
            stop = min(seconds + 1 / self.fps, video.duration_seconds)
            looks = _sketch(frame.image)
            differs = None if sketch is None else (np.abs(looks - sketch) > _CHANGED_LEVELS).any(axis=1)
            if differs is None or differs.any():
                sketch = looks
                picture = np.asarray(frame.image)
                self._look(picture, seconds, self._band(picture.shape[0], differs))
            for text in self._showing:
                text.stop_seconds = max(stop, text.stop_seconds)
            yield seconds
        if not self.lines and not after_seconds:
            self._note = f"no text is seen on the screen of {video.path.name}"

    def _band(self, height: int, differs: NDArray[np.bool_] | None) -> tuple[int, int]:
        """The rows to search: those that differ, with every text that they touch whole; all of them where that is most of the frame."""
        if differs is None or not self._showing:
            return 0, height
        rows = np.flatnonzero(differs) * height / len(differs)
        top, bottom = max(0, int(rows[0]) - _MARGIN_ROWS), min(height, int(rows[-1]) + _MARGIN_ROWS)
        for _ in range(2):  # a text that is drawn in may overlap another one
            touched = [text.box for text in self._showing if text.box.bottom > top and text.box.top < bottom]
            top, bottom = min([top, *(box.top - 4 for box in touched)]), max([bottom, *(box.bottom + 4 for box in touched)])
        top, bottom = max(0, top), min(height, bottom)
        return (top, bottom) if bottom - top < _LARGEST_BAND * height else (0, height)

    def _look(self, picture: NDArray[np.uint8], seconds: float, band: tuple[int, int]) -> None:
        """Search the rows of one frame, and follow its texts; those above and below stand as they did."""
        self._reader = self._reader or self._named()
        has_text = any(is_text(text.read) for text in self._showing)
        if not has_text and 0 < self._since_full < _FULL_EVERY and max(picture.shape) > _GLANCE_SIDE:
            self._since_full += 1
            small = _small(picture)
            if not _lines_in(self._reader.find(small), small.shape[0]):
                self._gone += self._showing  # stray marks
                self._showing = []
                return
        self._since_full = 1
        self.frames_searched += 1
        top, bottom = band
        before = [text for text in self._showing if text.box.bottom > top and text.box.top < bottom]
        self._showing = [text for text in self._showing if not (text.box.bottom > top and text.box.top < bottom)]
        for text in before:
            text.is_shown = False
        for box in _lines_in(self._reader.find(picture[top:bottom]), picture.shape[0]):
            self._follow(self._reader, picture, Box(box.left, box.top + top, box.right, box.bottom + top), before, seconds)
        for text in before:
            if not text.is_shown:
                text.stop_seconds = max(text.start_seconds, min(text.stop_seconds, seconds))
                self._gone.append(text)

    def _follow(self, reader: TextReader, picture: NDArray[np.uint8], box: Box, before: Sequence[_Text], seconds: float) -> None:
        """A text that stood already goes on; any other begins."""
        cut = picture[box.top : box.bottom, box.left : box.right]
        if min(cut.shape[:2]) < 4:
            return
        pixels = _pixels(cut)
        left = [text for text in before if not text.is_shown]
        for text in left:
            if _overlap(text.box, box) > 0.5 and _are_same(text.pixels, pixels):
                self._go_on(text, box, text.read)
                return
        read = next((known for looks, known in reversed(self._known) if _are_same(looks, pixels)), None)
        if read is None:
            read = reader.read(cut)
            self.texts_read += 1
        self._known.append((pixels, read))
        del self._known[:-_KNOWN_TEXTS]
        for text in left:
            is_there = _overlap(text.box, box) > 0.3
            if is_continued(text.read.text, read.text) or (is_there and is_same_text(text.read.text, read.text)):
                better = read if (read.confidence, len(read.text)) > (text.read.confidence, 0) or len(read.text) > len(text.read.text) else text.read
                self._go_on(text, box, better)
                text.pixels = pixels
                return
        self._showing.append(_Text(box, pixels, read, seconds, seconds))

    def _go_on(self, text: _Text, box: Box, read: Read) -> None:
        text.box, text.read, text.is_shown = box, read, True
        self._showing.append(text)


def _lines_in(boxes: Sequence[Box], height: int) -> list[Box]:
    """Those that can be lines of text: a box of half the frame's height is a blur that was taken for one."""
    return [box for box in boxes if 2 * (box.bottom - box.top) < height]


def reading_order(boxes: Sequence[Box]) -> list[int]:
    """The boxes' numbers, row by row and from left to right. The words of a slanted line are one row; tops alone would not tell."""
    rows: list[list[int]] = []
    for number in sorted(range(len(boxes)), key=lambda at: boxes[at].top + boxes[at].bottom):
        # Lines of two columns may be level by turns, and a detector's boxes overlap: what is below another box of the row begins a new one.
        if rows and _are_level(boxes[rows[-1][-1]], boxes[number]) and not any(_is_below(boxes[number], boxes[one]) for one in rows[-1]):
            rows[-1].append(number)
        else:
            rows.append([number])
    return [number for row in rows for number in sorted(row, key=lambda at: boxes[at].left)]


def _are_level(one: Box, other: Box) -> bool:
    """Whether more than half of the higher box is level with the other: a picture's large title is no part of the lines beside it."""
    level = min(one.bottom, other.bottom) - max(one.top, other.top)
    return 2 * level > max(one.bottom - one.top, other.bottom - other.top)


def _is_below(box: Box, other: Box) -> bool:
    """Whether a box takes more than half of the narrower one's columns."""
    shared = min(box.right, other.right) - max(box.left, other.left)
    return 2 * shared > min(box.right - box.left, other.right - other.left)


def is_text(read: Read) -> bool:
    """Whether it is more than a stray mark: two letters or digits, and mostly these."""
    letters = sum(unicodedata.category(letter)[0] in "LN" for letter in read.text)
    return read.confidence >= _SURE and letters >= 2 and 2 * letters >= len(_packed(read.text)) and len(set(_packed(read.text))) > 1


def is_continued(before: str, now: str) -> bool:
    """Whether a text, wherever it has scrolled to, is the one before or goes on from it; a few letters could begin anything."""
    first, second = _packed(before), _packed(now)
    return first == second or (len(first) >= _TYPED_LETTERS and second.startswith(first))


def is_same_text(one: str, other: str) -> bool:
    """Whether two readings at one place are of the same text: a few letters differ, or one is the other as it is typed on."""
    first, second = sorted((_packed(one), _packed(other)), key=len)
    if len(first) >= 3 and second.startswith(first):
        return True
    return bool(first) and difflib.SequenceMatcher(None, first, second, autojunk=False).ratio() >= 0.8


def _packed(text: str) -> str:
    return "".join(text.split()).casefold()


def _sketch(image: Image.Image) -> NDArray[np.int16]:
    height = max(1, round(image.height * _SKETCH_WIDTH / image.width))
    return np.asarray(image.convert("L").resize((_SKETCH_WIDTH, height), Image.Resampling.BOX), np.int16)


def _small(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    image = Image.fromarray(picture)
    image.thumbnail((_GLANCE_SIDE, _GLANCE_SIDE))
    return np.asarray(image)


def _pixels(cut: NDArray[np.uint8]) -> NDArray[np.int16]:
    """The text in grey at a fixed height, without the margin that a detector leaves around it, which varies by pixels."""
    grey = np.asarray(Image.fromarray(cut).convert("L"))
    ink = np.abs(grey.astype(np.int16) - np.int16(np.median(grey))) > _INK_LEVELS
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    if len(rows) > 3 and len(columns) > 3:
        grey = grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = grey.shape
    size = (max(1, min(1600, round(width * _ROWS / height))), _ROWS)
    return np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BOX), np.int16)


def _are_same(one: NDArray[np.int16], other: NDArray[np.int16]) -> bool:
    """Whether two cuts show the same text: no letter's width of columns differs, whichever of two neighbouring rows a box begins at."""
    if abs(one.shape[1] - other.shape[1]) > 2:
        return False
    width = min(one.shape[1], other.shape[1])
    first = one[:, :width]
    for shift in (0, 1, -1):
        second = np.roll(other[:, :width], shift, axis=0)
        columns = np.abs(first - second)[1:-1].mean(axis=0)
        window = min(8, width)
        sums = np.cumsum(np.concatenate(([0.0], columns)))
        if (sums[window:] - sums[:-window]).max() / window <= _SAME_LEVELS:
            return True
    return False


def _overlap(one: Box, other: Box) -> float:
    """The share of the smaller box that is in the other."""
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.bottom, other.bottom) - max(one.top, other.top)
    if width <= 0 or height <= 0:
        return 0.0
    smaller = min((box.right - box.left) * (box.bottom - box.top) for box in (one, other))
    return width * height / max(1, smaller)
