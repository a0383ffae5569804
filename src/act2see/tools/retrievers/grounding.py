"""Temporal grounding: TFVTG's training-free localiser (Zheng et al., ECCV 2024), the paper's retriever.

Its only input is one score per frame. Sliding windows of several lengths are scored by mean score inside minus mean score outside; the best
non-overlapping windows are kept. Each window's start is then extended back to where the scores begin to rise. Frame ranges are half open.

The released code compares all windows with all kept ones, which takes minutes for an hour of video. Here, prefix sums score the windows, and a
length is searched again only if its best window may be the overall best; the results are identical.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

STRIDE_FRAMES = 20
"""Window lengths are multiples of this: 20 in the released settings for Charades (40 for ActivityNet, 50 for QVHighlights)."""
MAX_SHARE = 0.5
"""Maximum window length as a fraction of the video: 0.5 in the released settings for Charades and QVHighlights (1 for ActivityNet)."""
KEEP = 10
"""Number of windows to keep, as released."""

_OVERLAP_NUMERATOR, _OVERLAP_DENOMINATOR = 3, 10  # non-maximum suppression at an IoU of 0.3, as released
_RISE = 0.0005  # smaller rises are ignored, as released
_DECIMALS = 9  # scores are compared after rounding: otherwise the order of summation would break ties
_SLACK = 1e-8

_Reals = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Proposal:
    """A segment [start, stop) of frames. From `dynamic_start` to `start`, the scores rise towards it."""

    start: int
    stop: int
    dynamic_start: int
    score: float
    """Mean score inside minus mean score outside; scores at or below the threshold count as 0."""


def localise(
    scores: Sequence[float] | NDArray[np.floating],
    threshold: float,
    *,
    stride: int = STRIDE_FRAMES,
    max_window: int | None = None,
    keep: int = KEEP,
    keep_unopposed: bool = True,
) -> list[Proposal]:
    """The best windows, best first; ties in order of length, then of start. Empty if no score is above the threshold.

    `max_window` is in frames; the default is half of the video. If all frames above the threshold are inside a window, its outside mean is 0. With
    `keep_unopposed=False` such windows are dropped, as in the released code (which loses a match that is the only one in the video).
    O(frames) memory; O(frames² / stride) time, 0.01 s for an hour at 3 frames per second.
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
    """Scores of all windows of a given length."""

    def __init__(self, relevant: _Reals, above: NDArray[np.bool_], keep_unopposed: bool) -> None:
        count = len(relevant)
        self.count = count
        self._sums = np.concatenate(([0.0], np.cumsum(relevant)))
        self._counts = np.concatenate(([0.0], np.cumsum(above, dtype=np.float64)))
        # The sum outside [p, p + k) is sums[p] + total - sums[p + k]: with the total already added, one subtraction.
        self._sums_and_total = self._sums + self._sums[-1]
        self._counts_and_total = self._counts + self._counts[-1]
        places = np.flatnonzero(above)
        self._extent = int(places[-1] - places[0]) + 1  # the shortest window that can contain all frames above the threshold
        self._keep_unopposed = keep_unopposed
        self._rows = np.empty((2, count))

    def scores(self, length: int) -> _Reals:
        """Scores by window start. The next call overwrites the array. Dropped windows have -inf."""
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
    """Yield start, length and score of the best window, then of the best one that does not overlap it, and so on.

    A length's best score can only decrease as windows are taken, so an earlier value is an upper bound: only the length with the highest bound is
    scored again.
    """
    bounds = np.round([windows.scores(length).max() for length in lengths.tolist()], _DECIMALS)
    taken: list[tuple[int, int]] = []
    while len(taken) < keep and len(bounds) and bounds.max() > -np.inf:
        number = int(bounds.argmax())  # ties go to the shorter window
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
    """The starts of the windows of this length that overlap [start, stop) too much. Integer arithmetic avoids rounding errors."""
    both = stop - start + length
    # intersection / (both - intersection) > numerator / denominator
    needed = _OVERLAP_NUMERATOR * both // (_OVERLAP_NUMERATOR + _OVERLAP_DENOMINATOR) + 1
    if needed > min(length, stop - start):
        return slice(0, 0)
    return slice(max(0, start + needed - length), max(0, stop - needed + 1))


def _climb_starts(relevant: _Reals, above: NDArray[np.bool_], stride: int) -> NDArray[np.int_]:
    """For each frame, the start of the rise that it is part of: the last frame at or before it without a rise, else 0."""
    half = 0 if stride < 3 else min(stride - 2, 3) // 2
    smooth = relevant
    if stride >= 3:
        # An unnormalised Gaussian kernel, as released: its sum is 0.88 for three taps.
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
