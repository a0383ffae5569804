"""When each frame of a video is shown, which packet holds it, and which packets a decoder needs for it."""

import itertools
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from act2see.video.bitstream import ENTRY, HIDDEN
from act2see.video.packets import CORRUPT, DISCARD, KEY, NO_TIME, Walk

TOLERANCE_SECONDS = 0.001
"""A frame may begin so much after a time and count as on screen: Matroska rounds to milliseconds, and remuxing carries that into other formats."""
MAX_FPS = round(1 / TOLERANCE_SECONDS)
"""Times that lie closer together are not told apart."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Run:
    """Packets `start` up to but without `stop`, to be decoded one after the other. `is_clean`: nothing before `start` is needed."""

    start: int
    stop: int
    is_clean: bool


@dataclass(frozen=True, slots=True)
class Timeline:
    """A video's frames in order of presentation, and its packets in order of decoding."""

    times: NDArray[np.float64]  # seconds, of every frame, rising, the first is 0
    duration_seconds: float
    has_times: bool  # False: the packets carry no presentation times, and `times` was made from their order
    packets: int  # how many to decode: a cut file's last packet is incomplete, and would become a half-grey picture
    missing: str | None
    doubt: str | None  # why no decode plan is made; then `places`, `entries` and `keys` are empty
    pts: NDArray[np.int64]  # of every packet, in ticks
    places: NDArray[np.int64]  # of every frame, the number of the packet that holds it
    entries: NDArray[np.int64]  # the packets at which decoding can begin, rising, and so are their presentation times
    keys: NDArray[np.int64]  # the frames in such packets
    skips: bool

    def on_screen(self, seconds: ArrayLike) -> NDArray[np.int64]:
        """For each time, the number of the frame on screen then: see `on_screen` below, which says the same of a stream of frames."""
        at = np.asarray(seconds, np.float64)
        current = np.maximum(np.searchsorted(self.times, at, side="right") - 1, 0)
        following = np.minimum(current + 1, len(self.times) - 1)
        late = self.times[following] - at
        return np.where((late > 0) & (late <= TOLERANCE_SECONDS) & (late < at - self.times[current]), following, current)

    def grid(self, fps: float) -> NDArray[np.float64]:
        """Those of the times 0, 1/fps, 2/fps, … before the end between which the frame on screen can change."""
        number = np.floor(self.times * fps)
        candidates = np.unique(np.concatenate([number - 1, number, number + 1, number + 2]))
        grid = candidates[candidates >= 0] / fps
        return np.extract((grid == 0) | (grid < self.duration_seconds - TOLERANCE_SECONDS), grid)

    def runs(self, frames: Iterable[int]) -> Iterator[Run]:
        """The packets that must be decoded for these rising frames."""
        places = self.places[np.fromiter(frames, np.int64)]
        # A picture that is shown before the last entry, and decoded after it, needs what was before that entry too.
        before = np.searchsorted(self.entries, places, side="right")
        shown_before = np.searchsorted(self.pts[self.entries], self.pts[places], side="right")
        begun: Run | None = None
        for place, entry in zip(places.tolist(), (np.minimum(before, shown_before) - 1).tolist(), strict=True):
            run = Run(int(self.entries[entry]), place + 1, True) if entry >= 0 else Run(0, place + 1, False)
            if begun is not None and run.start <= begun.stop:
                begun = Run(begun.start, max(begun.stop, run.stop), begun.is_clean)
            else:
                if begun is not None:
                    yield begun
                begun = run
        if begun is not None:
            yield begun


def timeline(found: Walk, first_pts: int | None) -> Timeline:
    """From a file's packets and the presentation time of the first frame that came out of a decoder."""
    count = len(found.pts)
    while count > 1 and found.marks[count - 1] & CORRUPT:
        count -= 1
    missing = found.missing or ("its end is cut off" if count < len(found.pts) else None)
    pts, marks = found.pts[:count], found.marks[:count]
    shown = np.flatnonzero(marks & (DISCARD | HIDDEN) == 0)
    has_times = found.clocked and first_pts is not None and bool((pts != NO_TIME).all())
    if not has_times or first_pts is None:
        times, duration = _counted(found, shown)
        nothing = np.empty(0, np.int64)
        reason = "its packets carry no presentation times"
        return Timeline(np.array(times), duration, False, count, missing, reason, pts, nothing, nothing, nothing, False)
    # Packets before the first decodable frame belong to a picture that began before the file did.
    places = shown[pts[shown] >= first_pts]
    places = places[np.unique(pts[places], return_index=True)[1]]
    ticks = [int(tick) for tick in pts[places]] or [first_pts]
    gaps = [later - earlier for earlier, later in itertools.pairwise(ticks)]
    length = int(found.lengths[places[-1]]) if len(places) else 0
    length = length or (round(statistics.median(gaps)) if gaps else max(1, round(1 / found.rate / found.tick)))
    # Whole numbers of any size, divided once: exact to the last bit.
    up, down = found.tick.numerator, found.tick.denominator
    times = [(tick - first_pts) * up / down for tick in ticks]
    doubt = found.doubt or _doubt(found, count, shown)
    entries = np.empty(0, np.int64) if doubt else _entries(pts, marks, first_pts)
    keys = np.flatnonzero(np.isin(places, entries))
    duration = (ticks[-1] + length - first_pts) * up / down
    return Timeline(np.array(times), duration, True, count, missing, doubt, pts, places, entries, keys, found.skips)


def _counted(found: Walk, shown: NDArray[np.int64]) -> tuple[list[float], float]:
    """Times without a clock: the n-th frame that comes out of a decoder is shown at the n-th decoding time, or at n / rate."""
    decoding = [int(tick) for tick in np.unique(found.dts[shown]) if tick != NO_TIME]
    if len(decoding) == len(shown) > 0:
        times = [float((tick - decoding[0]) * found.tick) for tick in decoding]
    else:
        times = [float(number / found.rate) for number in range(max(1, len(shown)))]
    return times, times[-1] + float(1 / found.rate)


def _doubt(found: Walk, count: int, shown: NDArray[np.int64]) -> str | None:
    """Why these packets' times do not tell which frame comes out of which packet."""
    dts = found.dts[:count]
    dts = dts[dts != NO_TIME]
    if (found.marks[:count] & CORRUPT).any():
        return "a packet is damaged"
    if (dts[1:] <= dts[:-1]).any():
        return "its clock jumps back"
    if len(np.unique(found.pts[shown])) < len(shown):
        return "two frames are shown at one time"
    return None


def _entries(pts: NDArray[np.int64], marks: NDArray[np.uint8], first_pts: int) -> NDArray[np.int64]:
    """The packets at which decoding can begin, and before which no packet is shown later."""
    latest = np.maximum.accumulate(np.concatenate([[NO_TIME], pts[:-1]]))
    wanted, unwanted = ENTRY | KEY, DISCARD | HIDDEN
    return np.flatnonzero((marks & (wanted | unwanted) == wanted) & (pts > latest) & (pts >= first_pts))


def on_screen(frames: Iterable[tuple[float, _T]], at: Sequence[float]) -> Iterator[tuple[float, _T]]:
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
