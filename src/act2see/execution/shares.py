"""Shares of a machine's CPUs."""

import math


def whole_share(cpus: float) -> float:
    """Whole CPUs, or else hundredths of one: Ray takes no other numbers."""
    return float(math.floor(cpus)) if cpus >= 1 else math.floor(100 * cpus) / 100
