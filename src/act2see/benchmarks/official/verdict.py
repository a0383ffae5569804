"""The verdict of an official rule on one output."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["correct", "wrong", "excluded", "random", "share"]
"""`excluded`: in neither numerator nor denominator. `random`: the rule draws a choice. `share`: partial credit, such as an overlap of two sets."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The extracted answer and its outcome. `share` is what it adds to the numerator; None if it is excluded."""

    extracted: str | tuple[int, ...] | None
    """The extracted letter or indices (from 0); None or empty, depending on the rule, if nothing was extracted."""
    outcome: Outcome
    share: float | None


def letter_verdict(extracted: str | None, is_right: bool) -> Verdict:
    """The verdict of a rule that extracts one letter and counts every item."""
    return Verdict(extracted, "correct" if is_right else "wrong", float(is_right))


def mean_share(verdicts: Iterable[Verdict]) -> float | None:
    """The mean share of the verdicts that are not excluded; None if there are none."""
    shares = [one.share for one in verdicts if one.share is not None]
    return sum(shares) / len(shares) if shares else None
