"""The statistics that a score is given with: intervals that know which questions share a video, and paired comparisons."""

from collections.abc import Hashable, Sequence
from math import comb, sqrt
from statistics import NormalDist


def clustered_interval(values: Sequence[float], clusters: Sequence[Hashable]) -> list[float] | None:
    """The 95 % interval of a mean whose values depend on each other within a cluster: the mean and 1.96 cluster-robust standard errors around it.

    None with fewer than two clusters.
    """
    sums: dict[Hashable, float] = {}
    count = len(values)
    mean = sum(values) / max(1, count)
    for value, cluster in zip(values, clusters, strict=True):
        sums[cluster] = sums.get(cluster, 0.0) + value - mean
    if len(sums) < 2:
        return None
    error = sqrt(len(sums) / (len(sums) - 1) * sum(total * total for total in sums.values())) / count
    half = NormalDist().inv_cdf(0.975) * error
    return [round(mean - half, 4), round(mean + half, 4)]


def mcnemar(gained: int, lost: int) -> float:
    """The exact two-sided p that as uneven a split of the questions on which two runs differ comes by chance."""
    n, least = gained + lost, min(gained, lost)
    tail = sum(comb(n, k) for k in range(least + 1))
    return min(1.0, round(2 * tail / float(2**n), 6))
