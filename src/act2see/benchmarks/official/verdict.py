"""What an official rule says of one output."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["correct", "wrong", "excluded", "random", "share"]
"""`excluded`: left out of numerator and denominator. `random`: the rule draws a choice. `share`: right in part, such as an overlap of two sets."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a rule read in an output, and what came of it. `share` is what it adds to the numerator; None where it counts in neither."""

    extracted: str | tuple[int, ...] | None
    """The letter or the indices (from 0) that were read; None or an empty text, as the rule has it, where there was nothing to read."""
    outcome: Outcome
    share: float | None


def letter_verdict(extracted: str | None, is_right: bool) -> Verdict:
    """Of a rule that reads one letter and counts every item."""
    return Verdict(extracted, "correct" if is_right else "wrong", float(is_right))


def mean_share(verdicts: Iterable[Verdict]) -> float | None:
    """The mean over everything that is in the denominator; None where that is nothing."""
    shares = [one.share for one in verdicts if one.share is not None]
    return sum(shares) / len(shares) if shares else None
