"""Timestamps of a video's frames, the packets that hold them, and the packets to decode for them."""

import itertools
import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from act2see.video.bitstream import ENTRY, HIDDEN
from act2see.video.packets import CORRUPT, DISCARD, KEY, NO_TIME, PacketScan

TOLERANCE_SECONDS = 0.001
"""Frames that start up to this much later still count as on screen: Matroska rounds to milliseconds, and remuxing preserves the rounding."""
MAX_FPS = round(1 / TOLERANCE_SECONDS)
"""Timestamps closer together cannot be distinguished."""

_STANDS_SECONDS = 0.1
"""Sound ends with a whole packet. Only sound that lasts at least this much longer than the pictures prolongs the video. Our choice."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Run:
    """Packets [start, stop) to decode in sequence. `is_clean`: `start` is an entry point."""

    start: int
    stop: int
    is_clean: bool


@dataclass(frozen=True, slots=True)
class Timeline:
    """A video's frames in presentation order, and its packets in decoding order."""

    times: NDArray[np.float64]  # every frame's timestamp in seconds on the player's clock, increasing; the first may be later than 0
    duration_seconds: float  # the end of the longest stream of pictures or sound
    zero: Fraction  # time zero in seconds, as the file counts
    has_times: bool  # False: the packets have no presentation times, and `times` is derived from their order
    packets: int  # number of packets to decode: a truncated file's last packet is incomplete and would decode to a half-grey picture
    missing: str | None
    doubt: str | None  # why there is no decode plan; then `places`, `entries` and `keys` are empty
    pts: NDArray[np.int64]  # every packet's presentation time in ticks
    places: NDArray[np.int64]  # for every frame, the index of its packet
    entries: NDArray[np.int64]  # the packets at which decoding can start, in order; their presentation times increase, too
    keys: NDArray[np.int64]  # the frames in these packets
    skips: bool

    def on_screen(self, seconds: ArrayLike) -> NDArray[np.int64]:
        """For each time, the index of the frame on screen; see `on_screen` below, its counterpart for streams of frames."""
        at = np.asarray(seconds, np.float64)
        current = np.maximum(np.searchsorted(self.times, at, side="right") - 1, 0)
        following = np.minimum(current + 1, len(self.times) - 1)
        late = self.times[following] - at
        return np.where((late > 0) & (late <= TOLERANCE_SECONDS) & (late < at - self.times[current]), following, current)

    def grid(self, fps: float) -> NDArray[np.float64]:
        """Of the times 0, 1/fps, 2/fps, … before the end, those at which the frame on screen can differ from the previous one's."""
        number = np.floor(self.times * fps)
        candidates = np.unique(np.concatenate([number - 1, number, number + 1, number + 2]))
        grid = candidates[candidates >= 0] / fps
        return np.extract((grid == 0) | (grid < self.duration_seconds - TOLERANCE_SECONDS), grid)

    def runs(self, frames: Iterable[int]) -> Iterator[Run]:
        """The packets to decode for these frames, given by increasing index."""
        places = self.places[np.fromiter(frames, np.int64)]
        # A picture that is decoded after an entry point but presented before it depends on packets before that entry point.
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


def timeline(scan: PacketScan, first_pts: int | None) -> Timeline:
    """Build the timeline from a file's packets and the presentation time of its first decoded frame, in ticks.

    Time zero is the file's start, or that frame if it is earlier: a decoder may show pictures before the packet that FFmpeg takes for the first.
    """
    count = len(scan.pts)
    while count > 1 and scan.marks[count - 1] & CORRUPT:
        count -= 1
    missing = scan.missing or ("its end is cut off" if count < len(scan.pts) else None)
    pts, marks = scan.pts[:count], scan.marks[:count]
    shown = np.flatnonzero(marks & (DISCARD | HIDDEN) == 0)
    has_times = scan.has_pts and first_pts is not None and bool((pts != NO_TIME).all())
    if not has_times or first_pts is None:
        times, duration = _counted(scan, shown)
        if scan.others_end is not None:
            duration = float(_prolonged(Fraction(duration), scan.others_end - (scan.start or 0)))
        nothing = np.empty(0, np.int64)
        reason = "its packets have no presentation times"
        return Timeline(np.array(times), duration, Fraction(0), False, count, missing, reason, pts, nothing, nothing, nothing, False)
    # Packets before the first decodable frame belong to pictures whose references precede the file's start.
    places = shown[pts[shown] >= first_pts]
    places = places[np.unique(pts[places], return_index=True)[1]]
    ticks = [int(tick) for tick in pts[places]] or [first_pts]
    gaps = [later - earlier for earlier, later in itertools.pairwise(ticks)]
    length = int(scan.lengths[places[-1]]) if len(places) else 0
    length = length or (round(statistics.median(gaps)) if gaps else max(1, round(1 / scan.rate / scan.tick)))
    first = first_pts * scan.tick
    zero = first if scan.start is None else min(scan.start, first)
    seconds = on_clock(scan.tick, zero)
    times = [seconds(tick) for tick in ticks]
    doubt = scan.doubt or _doubt(scan, count, shown)
    entries = np.empty(0, np.int64) if doubt else _entries(pts, marks, first_pts)
    keys = np.flatnonzero(np.isin(places, entries))
    end = (ticks[-1] + length) * scan.tick
    duration = float((end if scan.others_end is None else _prolonged(end, scan.others_end)) - zero)
    return Timeline(np.array(times), duration, zero, True, count, missing, doubt, pts, places, entries, keys, scan.skips)


def on_clock(tick: Fraction, zero: Fraction) -> Callable[[int], float]:
    """Converts presentation times in ticks to seconds since `zero`: integers with a single division, exact to the last bit."""
    down = math.lcm(tick.denominator, zero.denominator)
    up, shift = int(tick * down), int(zero * down)
    return lambda ticks: (ticks * up - shift) / down


def _prolonged(end: Fraction, others_end: Fraction) -> Fraction:
    """The end of the video, given the ends of its pictures and of the longest other stream."""
    return others_end if others_end - end >= _STANDS_SECONDS else end


def _counted(scan: PacketScan, shown: NDArray[np.int64]) -> tuple[list[float], float]:
    """Timestamps without presentation times: the n-th decoded frame gets the n-th decoding time, or n / rate."""
    decoding = [int(tick) for tick in np.unique(scan.dts[shown]) if tick != NO_TIME]
    if len(decoding) == len(shown) > 0:
        times = [float((tick - decoding[0]) * scan.tick) for tick in decoding]
    else:
        times = [float(number / scan.rate) for number in range(max(1, len(shown)))]
    return times, times[-1] + float(1 / scan.rate)


def _doubt(scan: PacketScan, count: int, shown: NDArray[np.int64]) -> str | None:
    """Why timestamps cannot map these packets to frames; None if they can."""
    dts = scan.dts[:count]
    dts = dts[dts != NO_TIME]
    if (scan.marks[:count] & CORRUPT).any():
        return "a packet is damaged"
    if (dts[1:] <= dts[:-1]).any():
        return "its timestamps jump back"
    if len(np.unique(scan.pts[shown])) < len(shown):
        return "two frames have the same timestamp"
    return None


def _entries(pts: NDArray[np.int64], marks: NDArray[np.uint8], first_pts: int) -> NDArray[np.int64]:
    """The packets at which decoding can start and whose predecessors are all presented earlier."""
    latest = np.maximum.accumulate(np.concatenate([[NO_TIME], pts[:-1]]))
    wanted, unwanted = ENTRY | KEY, DISCARD | HIDDEN
    return np.flatnonzero((marks & (wanted | unwanted) == wanted) & (pts > latest) & (pts >= first_pts))


def on_screen(frames: Iterable[tuple[float, _T]], at: Sequence[float]) -> Iterator[tuple[float, _T]]:
    """For each of the increasing times `at`, the frame on screen: the last one that starts at or before it.

    A frame that starts within the tolerance after it counts as well, unless the previous one is closer.
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
