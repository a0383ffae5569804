"""EgoNormia: the last integer of an answer for behaviour and justification, the last single-line list for the sensible behaviours.

Commit 2019f27. Its predecessor ff33d6a inverted the shuffling wrongly: a perfect model scored 36 %.
Source: Open-Social-World/EgoNormia, 2019f27, src/eval/eval_api.py and src/final_dataset/compute_scores_final.py.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from act2see.benchmarks.official.literals import literal

SOURCE = "Open-Social-World/EgoNormia@2019f27 src/eval/eval_api.py, src/final_dataset/compute_scores_final.py"
FORM = "{}"
"""Format of our answer: the option's number, from 1, alone; or a list of numbers on one line."""
OPTIONS = 5
IN_ORDER = tuple(range(OPTIONS))

_LAST = OPTIONS - 1
_NOTHING = (-1, -1)
_LIST_ON_A_LINE = re.compile(r"\[.*\]")


@dataclass(frozen=True, slots=True)
class Best:
    """Extracted and right behaviour and justification: indices from 0, -1 for none."""

    results: tuple[int, int]
    correct: tuple[int, int]

    @property
    def is_saved(self) -> bool:
        """Whether the item is written into the results; if nothing was extracted it is not, and leaves the denominator."""
        return self.results != _NOTHING

    @property
    def points(self) -> tuple[int, int, int]:
        """1 or 0 each for the behaviour, the justification, and both."""
        behaviour, justification = (int(read == right) for read, right in zip(self.results, self.correct, strict=True))
        return behaviour, justification, behaviour * justification


@dataclass(frozen=True, slots=True)
class Sensible:
    """Extracted and right sensible behaviours: indices from 0, (-1, -1) for an unreadable answer."""

    results: tuple[int, ...]
    correct: tuple[int, ...]

    @property
    def is_saved(self) -> bool:
        """As for `Best`."""
        return self.results != _NOTHING

    @property
    def iou(self) -> float | None:
        """Intersection over union; None if both are empty: there the original divides by zero and drops the item half counted."""
        either = {*self.results, *self.correct}
        return len({*self.results} & {*self.correct}) / len(either) if either else None


def last_number(output: str | None) -> int | None:
    """The last run of digits in an output, also within words and fractions: `2.5` gives 5. None if there is none."""
    numbers = re.findall(r"\d+", output) if isinstance(output, str) else []
    try:
        return int(numbers[-1]) if numbers else None
    except ValueError:  # more digits than Python converts
        return None


def pick_best(behaviour: str | None, justification: str | None, gold: int, order: Sequence[int] = IN_ORDER) -> Best:
    """The official parsing of the two answers. `order` maps each position to its option; an answer's number is a position, from 1.

    An out-of-range behaviour becomes the last position, an out-of-range justification none. If either has no number, both are none.
    """
    first, second = last_number(behaviour), last_number(justification)
    if first is None or second is None:
        return Best(_NOTHING, (gold, gold))
    behaviour_at = first - 1 if 1 <= first <= OPTIONS else _LAST
    return Best((order[behaviour_at], order[second - 1] if 1 <= second <= OPTIONS else -1), (gold, gold))


def pick_sensible(output: str | None, gold: Sequence[int], order: Sequence[int] = IN_ORDER) -> Sensible:
    """The official parsing of a list. One number out of range empties it; anything but a list of integers is unreadable."""
    numbers = _listed(output)
    if numbers is None:
        return Sensible(_NOTHING, tuple(gold))
    in_range = all(-1 < number - 1 <= _LAST for number in numbers)
    if not in_range:
        return Sensible((), tuple(gold))
    if any(number != int(number) for number in numbers):
        return Sensible(_NOTHING, tuple(gold))
    return Sensible(tuple(order[int(number) - 1] for number in numbers), tuple(gold))


def _listed(output: str | None) -> list[float] | None:
    """The numbers of the last single-line list; within a line, a list extends from the first `[` to the last `]`."""
    found = _LIST_ON_A_LINE.findall(output) if isinstance(output, str) else []
    try:
        read = literal(found[-1]) if found else None
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    if not isinstance(read, list) or not all(isinstance(one, int | float) for one in read):  # True counts as 1, as in the original
        return None
    return read
