"""Whether a model writes the same tokens over and over."""

from collections.abc import Sequence

EVERY = 16
"""It is looked for after every so many tokens: at a cost that no decoding shows."""


def repeats(ids: Sequence[int], window: int) -> bool:
    """Whether the last `window` tokens are one piece over and over: at least four times, of at most a quarter of them. 0 turns it off.

    True at multiples of `EVERY` tokens only. Lists that count (`1.0 seconds: nothing; 2.0 seconds: nothing`) do not repeat: their numbers differ.
    """
    if window <= 0 or len(ids) < window or len(ids) % EVERY:
        return False
    last = ids[-window:]
    return any(last[period:] == last[:-period] for period in range(1, window // 4 + 1))
