"""EgoNormia: the last whole number of an answer for the behaviour and its justification, the last list on one line for all sensible ones.

Commit 2019f27. The one before it, ff33d6a, turned a shuffled order back the wrong way: a perfect model got 36 % there.
Source: Open-Social-World/EgoNormia, 2019f27, src/eval/eval_api.py and src/final_dataset/compute_scores_final.py.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from act2see.benchmarks.official.literals import literal

SOURCE = "Open-Social-World/EgoNormia@2019f27 src/eval/eval_api.py, src/final_dataset/compute_scores_final.py"
FORM = "{}"
"""How our own answer is printed: the option's number, from 1, alone; or a list of numbers on one line."""
OPTIONS = 5
IN_ORDER = tuple(range(OPTIONS))

_LAST = OPTIONS - 1
_NOTHING = (-1, -1)
_LIST_ON_A_LINE = re.compile(r"\[.*\]")


@dataclass(frozen=True, slots=True)
class Best:
    """What was read for behaviour and justification, and what is right: indices from 0, -1 for nothing."""

    results: tuple[int, int]
    correct: tuple[int, int]

    @property
    def is_saved(self) -> bool:
        """Whether the item is written into the results at all; where nothing was read it is not, and leaves the denominator."""
        return self.results != _NOTHING

    @property
    def points(self) -> tuple[int, int, int]:
        """1 or 0 for the behaviour, for the justification, and for both."""
        behaviour, justification = (int(read == right) for read, right in zip(self.results, self.correct, strict=True))
        return behaviour, justification, behaviour * justification


@dataclass(frozen=True, slots=True)
class Sensible:
    """Which behaviours were read as sensible, and which are: indices from 0, (-1, -1) for an answer that could not be read."""

    results: tuple[int, ...]
    correct: tuple[int, ...]

    @property
    def is_saved(self) -> bool:
        """As of `Best`."""
        return self.results != _NOTHING

    @property
    def iou(self) -> float | None:
        """How many of both are in each; None where both are empty: the original divides by zero there and drops the item half counted."""
        either = {*self.results, *self.correct}
        return len({*self.results} & {*self.correct}) / len(either) if either else None


def last_number(output: str | None) -> int | None:
    """The last whole number in an output, inside words and fractions too: `2.5` is 5. None where there is none."""
    numbers = re.findall(r"\d+", output) if isinstance(output, str) else []
    try:
        return int(numbers[-1]) if numbers else None
    except ValueError:  # more digits than Python reads
        return None


def pick_best(behaviour: str | None, justification: str | None, gold: int, order: Sequence[int] = IN_ORDER) -> Best:
    """The official reading of the two answers. `order` says which option stood at each place; an answer's number is a place, from 1.

    A behaviour's number out of range stands for the last place, a justification's for nothing. Without a number in one of them both are nothing.
    """
    first, second = last_number(behaviour), last_number(justification)
    if first is None or second is None:
        return Best(_NOTHING, (gold, gold))
    behaviour_at = first - 1 if 1 <= first <= OPTIONS else _LAST
    return Best((order[behaviour_at], order[second - 1] if 1 <= second <= OPTIONS else -1), (gold, gold))


def pick_sensible(output: str | None, gold: Sequence[int], order: Sequence[int] = IN_ORDER) -> Sensible:
    """The official reading of a list. One number out of range empties it; what is no list of whole numbers is nothing."""
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
    """The numbers of the last list on one line; a text on one line from the first `[` to the last `]` is one list."""
    found = _LIST_ON_A_LINE.findall(output) if isinstance(output, str) else []
    try:
        read = literal(found[-1]) if found else None
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    if not isinstance(read, list) or not all(isinstance(one, int | float) for one in read):  # True is a 1 here, as in the original
        return None
    return read
