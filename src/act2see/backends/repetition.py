"""Detect repetition in a model's output."""

from collections.abc import Sequence

EVERY = 16
"""Check interval in tokens, so that the cost is negligible."""


def repeats(ids: Sequence[int], window: int) -> bool:
    """Whether the last `window` tokens are periodic with at least four periods. A window of 0 disables the check.

    Checked at multiples of `EVERY` tokens only. Enumerations (`1.0 seconds: nothing; 2.0 seconds: nothing`) are not periodic: their numbers differ.
    """
    if window <= 0 or len(ids) < window or len(ids) % EVERY:
        return False
    last = ids[-window:]
    return any(last[period:] == last[:-period] for period in range(1, window // 4 + 1))
