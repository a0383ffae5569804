"""Confidence intervals clustered by video, and paired comparisons.

Questions about one video are right or wrong together more often than questions about different ones, so the video is what counts as drawn
independently, wherever several questions share one. docs/evaluation.md describes the formulas.
"""

from collections.abc import Hashable, Sequence
from math import atan, cos, inf, pi, sin, sqrt
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

RESAMPLES = 10_000
"""Of a bootstrap: the limits of an interval then move by about a hundredth of its width from seed to seed. Our choice."""
_EXACT_DEGREES = 200
"""Up to this many degrees of freedom the t distribution is summed exactly; beyond, its expansion is accurate to nine digits."""
_AT_ONCE = 4_000_000
_Z = NormalDist().inv_cdf(0.975)


def clustered_interval(values: Sequence[float], clusters: Sequence[Hashable], *, between: tuple[float, float] = (-inf, inf)) -> list[float] | None:
    """The 95 % interval of a mean whose values depend on each other within a cluster: the mean and t cluster-robust standard errors around it.

    t has one degree of freedom less than there are clusters. None with fewer than two clusters. `between`: what the mean can be at all,
    such as -1 and 1 for a difference of shares; the interval ends there. A share of right answers has `share_interval`.
    """
    found = _robust_variance(values, clusters)
    if found is None:
        return None
    mean, half = sum(values) / len(values), t_quantile(found.clusters - 1) * sqrt(found.variance)
    return [max(between[0], round(mean - half, 4)), min(between[1], round(mean + half, 4))]


def share_interval(right: Sequence[bool], clusters: Sequence[Hashable]) -> list[float] | None:
    """The 95 % interval of a share: Wilson's, for as many independent questions as the clustered ones are worth. None with fewer than two clusters.

    With one question a cluster it is Wilson's interval. Otherwise n questions are worth n / d, where d is the cluster-robust variance over the one of
    independent questions, and less where clusters are few: times the squared ratio of t's quantiles at n - 1 and at clusters - 1 degrees of freedom
    (Korn and Graubard 1998; with Wilson's interval: Dean and Pagano 2015). Ours: d is never taken below 1, and where all answers are right, or all
    wrong, so that nothing can be measured, the questions are worth no more than there are clusters.
    """
    found = _robust_variance([float(one) for one in right], clusters)
    if found is None:
        return None
    n, share = len(right), sum(right) / len(right)
    if share in (0.0, 1.0):
        worth = float(found.clusters)
    else:
        design = max(1.0, found.variance / (share * (1 - share) / (n - 1)))
        worth = n / design * (t_quantile(n - 1) / t_quantile(found.clusters - 1)) ** 2
    return wilson_interval(share, worth)


def wilson_interval(share: float, n: float) -> list[float]:
    """Wilson's 95 % interval of a share of n independent questions; n need not be whole."""
    centre, half = share + _Z * _Z / (2 * n), _Z * sqrt(share * (1 - share) / n + _Z * _Z / (4 * n * n))
    low, high = (centre - half) / (1 + _Z * _Z / n), (centre + half) / (1 + _Z * _Z / n)
    return [max(0.0, round(low, 4)), min(1.0, round(high, 4))]


def bootstrap_interval(differences: Sequence[float], clusters: Sequence[Hashable], seed: int = 0, resamples: int = RESAMPLES) -> list[float] | None:
    """The 95 % interval of a mean difference between paired values: the percentiles of its means when whole clusters are drawn again and again.

    The same seed gives the same interval. None with fewer than two clusters.
    """
    places = {cluster: place for place, cluster in enumerate(dict.fromkeys(clusters))}
    if len(places) < 2:
        return None
    of = np.array([places[cluster] for cluster in clusters])
    totals = np.bincount(of, weights=np.asarray(differences, np.float64))
    sizes = np.bincount(of)
    draw = np.random.default_rng(seed)
    means = []
    step = max(1, _AT_ONCE // len(places))
    for start in range(0, resamples, step):
        drawn = draw.integers(len(places), size=(min(step, resamples - start), len(places)))
        means.append(totals[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return [round(float(low), 4), round(float(high), 4)]


def mcnemar(gained: int, lost: int) -> float:
    """The exact two-sided p that as uneven a split of the questions on which two runs differ comes by chance, to six digits."""
    n, least = gained + lost, min(gained, lost)
    term = tail = 1
    for k in range(least):
        term = term * (n - k) // (k + 1)
        tail += term
    return min(1.0, float(f"{2 * tail / (1 << n):.6g}"))


def t_quantile(degrees: int) -> float:
    """The 97.5 % quantile of Student's t. Raises `ValueError` below one degree of freedom."""
    if degrees < 1:
        raise ValueError(f"{degrees} degrees of freedom: at least 1 are needed")
    if degrees > _EXACT_DEGREES:  # Cornish and Fisher's expansion in 1 / degrees
        z2 = _Z * _Z
        first = (z2 + 1) / 4
        second = (5 * z2**2 + 16 * z2 + 3) / 96
        third = (3 * z2**3 + 19 * z2**2 + 17 * z2 - 15) / 384
        return _Z * (1 + first / degrees + second / degrees**2 + third / degrees**3)
    low, high = 0.0, 13.0  # with one degree it is 12.706
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, degrees) < 0.95 else (low, middle)
    return high


def _within(t: float, degrees: int) -> float:
    """The probability that Student's t lies between -t and t: the finite sums for whole degrees of freedom (Abramowitz and Stegun 26.7.3, 26.7.4)."""
    angle = atan(t / sqrt(degrees))
    square = cos(angle) ** 2
    is_odd = degrees % 2 == 1
    term, total = (cos(angle), 0.0) if is_odd else (1.0, 0.0)
    for k in range(2 if is_odd else 1, degrees, 2):
        total += term
        term *= square * k / (k + 1)
    return 2 / pi * (angle + sin(angle) * total) if is_odd else sin(angle) * total


class _Robust(NamedTuple):
    """A mean's cluster-robust variance, and how many clusters it comes from."""

    variance: float
    clusters: int


def _robust_variance(values: Sequence[float], clusters: Sequence[Hashable]) -> _Robust | None:
    sums: dict[Hashable, float] = {}
    mean = sum(values) / max(1, len(values))
    for value, cluster in zip(values, clusters, strict=True):
        sums[cluster] = sums.get(cluster, 0.0) + value - mean
    if len(sums) < 2:
        return None
    return _Robust(len(sums) / (len(sums) - 1) * sum(total * total for total in sums.values()) / len(values) ** 2, len(sums))
