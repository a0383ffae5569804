"""Selection of frames by score, and baselines to compare with.

A selection is a callable `(curve, shown, count) -> picks`, a frozen dataclass if it has settings. Thresholds come from the encoder.
"""

import random
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from act2see.tools.retrievers import grounding

SAME_TIME_SECONDS = 0.006
"""Timestamps closer than this are the same frame: containers round to a millisecond, and frames at 120 fps are 8.3 ms apart."""
APART_SECONDS = 1.0
"""Minimum distance between picks and runners-up of `grounding` and `top_k`. Our choice."""
RUNNERS_UP = 5
"""Number of next best frames recorded with a pick."""

Span = tuple[float, float]
"""Start and end in seconds."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Scores of a video's indexed frames for one text, in temporal order."""

    seconds: NDArray[np.float64]
    scores: NDArray[np.float64]
    """In the encoder's units, unchanged."""
    threshold: float
    """The encoder's threshold: a higher score counts as a match."""
    frame_indices: NDArray[np.int64]
    """Each frame's index in presentation order, from 0."""
    key: str = ""
    """Identifies video and text, for selections with a seed."""


@dataclass(frozen=True, slots=True)
class Pick:
    """A selected frame. Its fields are those of `trace.Frame` and `trace.Match`."""

    seconds: float
    frame_index: int
    score: float
    span_seconds: Span | None
    runners_up: tuple[tuple[float, float], ...]
    is_fallback: bool
    """Whether its score is at or below the threshold: no remaining frame matches, and this is the best of them; or the middle of a segment that
    matches does not do so by itself."""


Select = Callable[[Curve, Collection[float], int], list[Pick]]
"""Maps the curve, the timestamps already shown (never picked) and `count` to at most `count` picks, best first; none if no frame is left."""


def argmax(curve: Curve, shown: Collection[float], count: int) -> list[Pick]:
    """The highest-scoring frames, however close to each other; ties in temporal order."""
    return _picks(curve, shown, [(at, None) for at in _by_score(curve, free(curve, shown))[:count]])


@dataclass(frozen=True, slots=True)
class TopK:
    """The highest-scoring frames at a minimum distance from each other; fewer than `count` if the video is too short."""

    apart_seconds: float = APART_SECONDS

    def __call__(self, curve: Curve, shown: Collection[float], count: int) -> list[Pick]:
        """See `Select`."""
        return _picks(curve, shown, [(at, None) for at in islice(_apart(curve, _by_score(curve, free(curve, shown)), (), self.apart_seconds), count)])


@dataclass(frozen=True, slots=True)
class Grounding:
    """One frame from each of the best segments of TFVTG's localiser; after the last segment, the highest remaining scores.

    The frame is the one with the highest raw score in the segment; ties go to the one closest to the middle, then to the earlier one. Segments
    whose frames above the threshold have all been shown are skipped. The highest score is our choice; the paper takes the `Middle`.
    """

    stride: int = grounding.STRIDE_FRAMES
    max_share: float = grounding.MAX_SHARE
    apart_seconds: float = APART_SECONDS

    def __call__(self, curve: Curve, shown: Collection[float], count: int) -> list[Pick]:
        """See `Select`."""
        return self.from_spans(curve, shown, count, self.spans(curve))

    def spans(self, curve: Curve) -> list[grounding.Proposal]:
        """The best segments of the curve, best first; none if no score exceeds the threshold."""
        # The localiser sets scores below the threshold to 0, which must not exceed the scores above it.
        lift = max(0.0, -curve.threshold)
        count = len(curve.scores)
        return grounding.localise(
            curve.scores + lift, curve.threshold + lift, stride=self.stride, max_window=max(1, int(count * self.max_share)), keep=grounding.KEEP
        )

    def from_spans(self, curve: Curve, shown: Collection[float], count: int, spans: Iterable[grounding.Proposal]) -> list[Pick]:
        """Like a call, with the segments given, best first."""
        left = free(curve, shown)
        fits = curve.scores > curve.threshold
        chosen: list[tuple[int, Span | None]] = []
        for span in spans:
            if len(chosen) == count:
                break
            inside = np.zeros_like(left)
            inside[span.start : span.stop] = left[span.start : span.stop]
            inside &= _is_apart(curve, [at for at, _ in chosen], self.apart_seconds)
            if (inside & fits).any():
                chosen.append((self._frame_of(curve, inside, inside & fits, span), _seconds(curve, span)))
        taken = [at for at, _ in chosen]
        rest = _apart(curve, _by_score(curve, left), taken, self.apart_seconds)
        return _picks(curve, shown, [*chosen, *((at, None) for at in islice(rest, count - len(chosen)))])

    def _frame_of(self, curve: Curve, inside: NDArray[np.bool_], fitting: NDArray[np.bool_], span: grounding.Proposal) -> int:
        """The segment's frame. The masks are of its frames that may be picked, and of those among them whose scores exceed the threshold."""
        at = np.flatnonzero(fitting)
        return _closest_to_middle(at[curve.scores[at] == curve.scores[at].max()], span)


@dataclass(frozen=True, slots=True)
class Middle(Grounding):
    """The paper's selection: like `Grounding`, but the middle frame of each segment, whatever its own score.

    Of an even number of frames the earlier of the two middle ones; if it has been shown, the closest one that has not. How the paper rounds is not
    known; this is our choice.
    """

    def _frame_of(self, curve: Curve, inside: NDArray[np.bool_], fitting: NDArray[np.bool_], span: grounding.Proposal) -> int:
        return _closest_to_middle(np.flatnonzero(inside), span)


def _closest_to_middle(at: NDArray[np.int64], span: grounding.Proposal) -> int:
    """Of these frames, in temporal order, the one closest to the middle of the segment; the earlier one of two."""
    middle = (span.start + span.stop - 1) / 2
    return int(at[np.abs(at - middle).argmin()])


def _seconds(curve: Curve, span: grounding.Proposal) -> Span:
    """Timestamps of the first and the last frame. The rise before the segment is excluded: by construction, its frames match less well."""
    return float(curve.seconds[span.start]), float(curve.seconds[span.stop - 1])


# Controls, to measure what the selection contributes


def uniform(curve: Curve, shown: Collection[float], count: int) -> list[Pick]:
    """Evenly spaced frames, regardless of score: those closest to the middles of `count` equal parts of the video."""
    left = free(curve, shown)
    chosen: list[int] = []
    length = len(curve.seconds)
    for part in range(min(count, int(left.sum()))):
        at = np.flatnonzero(left)
        best = int(at[np.abs(at - ((part + 0.5) * length / count - 0.5)).argmin()])
        left[best] = False
        chosen.append(best)
    return _picks(curve, shown, [(at, None) for at in chosen])


@dataclass(frozen=True, slots=True)
class Random:
    """Random frames, regardless of score; deterministic in seed, video and text."""

    seed: int = 0

    def __call__(self, curve: Curve, shown: Collection[float], count: int) -> list[Pick]:
        """See `Select`."""
        left = np.flatnonzero(free(curve, shown)).tolist()
        rng = random.Random(f"{self.seed} {curve.key} {sorted(shown)}")
        return _picks(curve, shown, [(at, None) for at in rng.sample(left, min(count, len(left)))])


@dataclass(frozen=True, slots=True)
class Oracle:
    """The highest-scoring frames inside the ground-truth segments, ends included: an upper bound for selections.

    If no indexed frame lies inside one, the closest frame.
    """

    spans: Sequence[Span]

    def __call__(self, curve: Curve, shown: Collection[float], count: int) -> list[Pick]:
        """See `Select`."""
        left = free(curve, shown)
        far = np.full(len(curve.seconds), np.inf)
        for start, stop in self.spans:
            far = np.minimum(far, np.maximum(0.0, np.maximum(start - curve.seconds, curve.seconds - stop)))
        at = np.flatnonzero(left)
        ranked = at[np.lexsort((at, -curve.scores[at], far[at]))]
        inside = [int(n) for n in ranked if far[n] == 0.0]
        return _picks(curve, shown, [(n, None) for n in (inside or [int(n) for n in ranked[:1]])[:count]])


SELECTIONS: Mapping[str, Callable[[], Select]] = {
    "grounding": Grounding,
    "middle": Middle,
    "argmax": lambda: argmax,
    "top_k": TopK,
    "uniform": lambda: uniform,
    "random": Random,
}
"""Selections by name, with their defaults. `Oracle` has no name, as it needs the ground truth."""


# Shared helpers


def free(curve: Curve, shown: Collection[float]) -> NDArray[np.bool_]:
    """A mask of the frames that have not been shown, of shape (frames,)."""
    times = np.sort(np.fromiter((-np.inf, *shown, np.inf), np.float64))
    after = np.searchsorted(times, curve.seconds)
    return np.minimum(curve.seconds - times[after - 1], times[after] - curve.seconds) > SAME_TIME_SECONDS


def _by_score(curve: Curve, left: NDArray[np.bool_]) -> NDArray[np.int64]:
    at = np.flatnonzero(left)
    return at[np.argsort(-curve.scores[at], kind="stable")]


def _is_apart(curve: Curve, taken: Iterable[int], apart_seconds: float) -> NDArray[np.bool_]:
    result = np.ones(len(curve.seconds), dtype=np.bool_)
    for at in taken:
        result &= np.abs(curve.seconds - curve.seconds[at]) >= apart_seconds - SAME_TIME_SECONDS
    return result


def _apart(curve: Curve, ranked: NDArray[np.int64], taken: Iterable[int], apart_seconds: float) -> Iterator[int]:
    """The ranked frames that keep the minimum distance from the taken ones and from those already yielded."""
    allowed = _is_apart(curve, taken, apart_seconds)
    while len(ranked := ranked[allowed[ranked]]):
        at = int(ranked[0])
        allowed &= _is_apart(curve, [at], apart_seconds)
        allowed[at] = False  # even if the distance is 0
        yield at


def _picks(curve: Curve, shown: Collection[float], chosen: Sequence[tuple[int, Span | None]]) -> list[Pick]:
    others = _apart(curve, _by_score(curve, free(curve, shown)), [at for at, _ in chosen], APART_SECONDS)
    runners_up = tuple((float(curve.seconds[at]), float(curve.scores[at])) for at in islice(others, RUNNERS_UP)) if chosen else ()
    return [
        Pick(
            seconds=float(curve.seconds[at]),
            frame_index=int(curve.frame_indices[at]),
            score=float(curve.scores[at]),
            span_seconds=span,
            runners_up=runners_up,
            is_fallback=not curve.scores[at] > curve.threshold,
        )
        for at, span in chosen
    ]
