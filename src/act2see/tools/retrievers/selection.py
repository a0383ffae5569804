"""From a score a frame to the frames that are shown: the ways to choose, and the controls that they are compared with.

A way to choose is a callable `(curve, shown, count) -> picks`; what needs settings is a frozen dataclass. Thresholds are the encoder's, never ours.
"""

import random
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from act2see.tools.retrievers import grounding

SAME_TIME_SECONDS = 0.006
"""Two times closer than this are the same frame: containers round times to a millisecond, and at 120 frames a second they lie 8.3 ms apart."""
APART_SECONDS = 1.0
"""Picks and runners-up of `grounding` and `top_k` lie at least so far apart. Our choice."""
RUNNERS_UP = 5
"""How many next best frames a pick tells of."""

Span = tuple[float, float]
"""Seconds from and to."""


@dataclass(frozen=True, slots=True)
class Curve:
    """How well each of a video's searched frames fits a text, in order of time."""

    seconds: NDArray[np.float64]
    scores: NDArray[np.float64]
    """In the encoder's units, as they came from it."""
    threshold: float
    """The encoder's: a score above it means that the frame shows something like the text."""
    frame_indices: NDArray[np.int64]
    """Which frame of the video each is, in order of presentation, from 0."""
    key: str = ""
    """Names video and text for a choice that draws by seed."""


@dataclass(frozen=True, slots=True)
class Pick:
    """One chosen frame. Its fields are those of `trace.Frame` and `trace.Match`."""

    seconds: float
    frame_index: int
    score: float
    span_seconds: Span | None
    runners_up: tuple[tuple[float, float], ...]
    is_fallback: bool
    """Its score does not pass the threshold: nothing that was left to show did, and this is merely the best of it."""


Select = Callable[[Curve, Collection[float], int], list[Pick]]
"""Curve, times already shown in seconds (never picked), and how many: at most so many picks, best first; none when nothing is left to show."""


def argmax(curve: Curve, shown: Collection[float], count: int) -> list[Pick]:
    """The frames of the highest scores, however near to each other; equal ones in order of time."""
    return _picks(curve, shown, [(at, None) for at in _by_score(curve, free(curve, shown))[:count]])


@dataclass(frozen=True, slots=True)
class TopK:
    """The frames of the highest scores that lie some time apart from each other: fewer than asked for when the video is too short for so many."""

    apart_seconds: float = APART_SECONDS

    def __call__(self, curve: Curve, shown: Collection[float], count: int) -> list[Pick]:
        """See `Select`."""
        return _picks(curve, shown, [(at, None) for at in islice(_apart(curve, _by_score(curve, free(curve, shown)), (), self.apart_seconds), count)])


@dataclass(frozen=True, slots=True)
class Grounding:
    """One frame from each of the stretches that fit best, as TFVTG's localiser finds them; after the last one, the highest scores that are left.

    In a stretch it is the frame of the highest raw score; of equal ones the nearest to the middle, then the earlier. A stretch whose frames above
    the threshold were all shown is passed over. The paper does not say how a frame is chosen from a stretch; this is our choice.
    """

    stride: int = grounding.STRIDE_FRAMES
    max_share: float = grounding.MAX_SHARE
    apart_seconds: float = APART_SECONDS

    def __call__(self, curve: Curve, shown: Collection[float], count: int) -> list[Pick]:
        """See `Select`."""
        return self.from_spans(curve, shown, count, self.spans(curve))

    def spans(self, curve: Curve) -> list[grounding.Proposal]:
        """The stretches of the curve that fit best, best first; none when no score passes the threshold."""
        # The localiser counts what does not fit as 0, which must not be better than what does.
        lift = max(0.0, -curve.threshold)
        count = len(curve.scores)
        return grounding.localise(
            curve.scores + lift, curve.threshold + lift, stride=self.stride, max_window=max(1, int(count * self.max_share)), keep=grounding.KEEP
        )

    def from_spans(self, curve: Curve, shown: Collection[float], count: int, spans: Iterable[grounding.Proposal]) -> list[Pick]:
        """As a call, with the stretches given, best first."""
        left = free(curve, shown)
        fits = left & (curve.scores > curve.threshold)
        chosen: list[tuple[int, Span | None]] = []
        for span in spans:
            if len(chosen) == count:
                break
            inside = np.zeros_like(left)
            inside[span.start : span.stop] = fits[span.start : span.stop]
            inside &= _is_apart(curve, [at for at, _ in chosen], self.apart_seconds)
            if inside.any():
                chosen.append((_best_inside(curve, inside, span), _seconds(curve, span)))
        taken = [at for at, _ in chosen]
        rest = _apart(curve, _by_score(curve, left), taken, self.apart_seconds)
        return _picks(curve, shown, [*chosen, *((at, None) for at in islice(rest, count - len(chosen)))])


def _best_inside(curve: Curve, inside: NDArray[np.bool_], span: grounding.Proposal) -> int:
    at = np.flatnonzero(inside)
    highest = at[curve.scores[at] == curve.scores[at].max()]
    middle = (span.start + span.stop - 1) / 2
    return int(highest[np.abs(highest - middle).argmin()])


def _seconds(curve: Curve, span: grounding.Proposal) -> Span:
    """From its first frame to its last. The climb before it is no part: by its construction what is seen there fits less."""
    return float(curve.seconds[span.start]), float(curve.seconds[span.stop - 1])


# Controls: what the choice itself is worth


def uniform(curve: Curve, shown: Collection[float], count: int) -> list[Pick]:
    """Frames spread evenly over the video, whatever their scores: the middle one, or those nearest to the middles of `count` equal parts."""
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
    """Frames drawn by seed, video and text, whatever their scores."""

    seed: int = 0

    def __call__(self, curve: Curve, shown: Collection[float], count: int) -> list[Pick]:
        """See `Select`."""
        left = np.flatnonzero(free(curve, shown)).tolist()
        rng = random.Random(f"{self.seed} {curve.key} {sorted(shown)}")
        return _picks(curve, shown, [(at, None) for at in rng.sample(left, min(count, len(left)))])


@dataclass(frozen=True, slots=True)
class Oracle:
    """The frames of the highest scores inside the stretches that are known to be right, ends included: the best that a choice can do.

    Where no searched frame lies in any, the nearest one.
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
    "argmax": lambda: argmax,
    "top_k": TopK,
    "uniform": lambda: uniform,
    "random": Random,
}
"""What can be named, made with its defaults. `Oracle` cannot: it needs the truth."""


# What they share


def free(curve: Curve, shown: Collection[float]) -> NDArray[np.bool_]:
    """Which frames were not shown yet."""
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
    """Those of the ranked frames that lie apart from the taken ones and from those given before."""
    allowed = _is_apart(curve, taken, apart_seconds)
    while len(ranked := ranked[allowed[ranked]]):
        at = int(ranked[0])
        allowed &= _is_apart(curve, [at], apart_seconds)
        allowed[at] = False  # whatever the distance
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
