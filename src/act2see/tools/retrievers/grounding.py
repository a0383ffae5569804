"""Which stretches of a video fit a text: the training-free localiser of TFVTG (Zheng et al., ECCV 2024), which the paper retrieves with.

It reads a score a frame and nothing else. Every window of a few lengths is scored by how much better the frames inside fit than those outside; the
best ones that do not overlap are kept. Then each one's start is pulled back to where the scores began to climb. Frame numbers are half open.

The released code compares all windows with all kept ones, which takes minutes for an hour of video. Here a window's score is a difference of
prefix sums, and a length is searched again only when its best window may be the best of all; the result is the same.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

STRIDE_FRAMES = 20
"""Window lengths are multiples of this: 20 in the released settings for Charades (40 for ActivityNet, 50 for QVHighlights)."""
MAX_SHARE = 0.5
"""The longest window's share of the video: 0.5 in the released settings for Charades and QVHighlights (1 for ActivityNet)."""
KEEP = 10
"""How many windows are kept, as released."""

_OVERLAP_NUMERATOR, _OVERLAP_DENOMINATOR = 3, 10  # windows whose intersection is more than 0.3 of their union are the same find, as released
_RISE = 0.0005  # a climb of less is none, as released
_DECIMALS = 9  # windows whose scores differ by less are equal: else the order of adding up would decide between them
_SLACK = 1e-8

_Reals = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Proposal:
    """A stretch [start, stop) of frames. From `dynamic_start` on the scores climb towards it; what lies before `start` fits less than the rest."""

    start: int
    stop: int
    dynamic_start: int
    score: float
    """Mean score inside less mean score outside; scores at or below the threshold count as 0."""


def localise(
    scores: Sequence[float] | NDArray[np.floating],
    threshold: float,
    *,
    stride: int = STRIDE_FRAMES,
    max_window: int | None = None,
    keep: int = KEEP,
    keep_unopposed: bool = True,
) -> list[Proposal]:
    """The best windows, best first; equal ones in order of length, then of start. None when no score is above the threshold.

    `max_window` is in frames, half of all if not given. A window with no frame above the threshold outside it has nothing to be compared with: its
    outside counts as 0, or with `keep_unopposed=False` it is dropped, as the released code does (that would drop the very find that stands alone).
    O(frames) memory; time O(frames² / stride), 0.01 s for an hour at 3 frames a second.
    """
    raw = np.asarray(scores, dtype=np.float64)
    count = len(raw)
    above = raw > threshold
    if not above.any():
        return []
    stride = max(1, min(stride, count // 2))
    longest = min(count, max(1, int(count * MAX_SHARE)) if max_window is None else max_window)
    relevant = np.where(above, raw, 0.0)
    windows = _Windows(relevant, above, keep_unopposed)
    starts = _climb_starts(relevant, above, stride)
    return [
        Proposal(start, start + length, int(starts[start]), score)
        for start, length, score in _best(windows, np.arange(stride, longest + 1, stride), keep)
    ]


class _Windows:
    """The scores of all windows of one length at a time."""

    def __init__(self, relevant: _Reals, above: NDArray[np.bool_], keep_unopposed: bool) -> None:
        count = len(relevant)
        self.count = count
        self._sums = np.concatenate(([0.0], np.cumsum(relevant)))
        self._counts = np.concatenate(([0.0], np.cumsum(above, dtype=np.float64)))
        # The sum outside [p, p + k) is sums[p] + total - sums[p + k]: with the total already added, one subtraction.
        self._sums_and_total = self._sums + self._sums[-1]
        self._counts_and_total = self._counts + self._counts[-1]
        places = np.flatnonzero(above)
        self._extent = int(places[-1] - places[0]) + 1  # no shorter window holds every frame above the threshold
        self._keep_unopposed = keep_unopposed
        self._rows = np.empty((2, count))

    def scores(self, length: int) -> _Reals:
        """By start, for windows of this length. The array is used again by the next call. Dropped windows have -inf."""
        outside, weight = (row[: self.count - length + 1] for row in self._rows)
        np.subtract(self._sums_and_total[: len(outside)], self._sums[length:], out=outside)
        np.subtract(self._counts_and_total[: len(outside)], self._counts[length:], out=weight)
        alone = weight == 0.0 if length >= self._extent else None
        if alone is not None:
            weight[alone] = np.inf
        # inside / length - outside / outside_count, where inside = total - outside.
        np.divide(1.0, weight, out=weight)
        weight += 1.0 / length
        outside *= weight
        np.subtract(self._sums[-1] / length, outside, out=outside)
        if alone is not None and not self._keep_unopposed:
            outside[alone] = -np.inf
        return outside


def _best(windows: _Windows, lengths: NDArray[np.int_], keep: int) -> Iterator[tuple[int, int, float]]:
    """Start, length and score of the best window, of the best one that does not overlap it, and so on.

    A length's best score can only fall as windows are taken, so an old one is a bound: a length is looked at again only when its bound is highest.
    """
    bounds = np.round([windows.scores(length).max() for length in lengths.tolist()], _DECIMALS)
    taken: list[tuple[int, int]] = []
    while len(taken) < keep and len(bounds) and bounds.max() > -np.inf:
        number = int(bounds.argmax())  # the first of equal ones: the shorter window
        length = int(lengths[number])
        row = windows.scores(length)
        for start, stop in taken:
            row[_overlapping(start, stop, length)] = -np.inf
        highest = float(row.max())
        score = float(np.round(highest, _DECIMALS))
        if score < bounds[number]:
            bounds[number] = score
            continue
        near = np.flatnonzero(row >= highest - _SLACK)
        start = int(near[np.round(row[near], _DECIMALS) == score][0])
        taken.append((start, start + length))
        yield start, length, score


def _overlapping(start: int, stop: int, length: int) -> slice:
    """The starts of those windows of this length that overlap [start, stop) too much. Whole numbers: no rounding decides."""
    both = stop - start + length
    # intersection / (both - intersection) > numerator / denominator
    needed = _OVERLAP_NUMERATOR * both // (_OVERLAP_NUMERATOR + _OVERLAP_DENOMINATOR) + 1
    if needed > min(length, stop - start):
        return slice(0, 0)
    return slice(max(0, start + needed - length), max(0, stop - needed + 1))


def _climb_starts(relevant: _Reals, above: NDArray[np.bool_], stride: int) -> NDArray[np.int_]:
    """For each frame, where the climb that it is in began: the last frame at or before it that does not rise, 0 before any."""
    half = 0 if stride < 3 else min(stride - 2, 3) // 2
    smooth = relevant
    if stride >= 3:
        # The normal density as released, not normalised: its sum is 0.88 for three taps.
        weights = np.exp(-(np.arange(-half, half + 1) ** 2) / 2) / np.sqrt(2 * np.pi)
        smooth = np.convolve(relevant, weights, mode="valid")
    steps = np.zeros(len(relevant))
    steps[half : half + len(smooth) - 1] = np.diff(smooth)
    steps *= above
    before = np.concatenate(([0.0, 0.0], steps))
    one, two, three = before[2:], before[1:-1], before[:-2]
    climb = np.maximum(np.maximum(3 * one, 2 * one + two), one + two + three)
    flat = np.where(climb > _RISE, 0, np.arange(len(relevant)))
    return np.maximum.accumulate(flat)
