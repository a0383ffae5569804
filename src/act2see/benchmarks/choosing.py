"""What the benchmarks with one right choice share: how options and answers are written, and our strict reading of an answer."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from act2see.benchmarks.reading import Findings, asked
from act2see.core.chat import chosen, letters
from act2see.core.errors import ConfigError
from act2see.core.interfaces import Sample
from act2see.core.trace import Trace
from act2see.storage.codec import MAX_CHOICES, shown


@dataclass(frozen=True, slots=True)
class OneRightChoice(ABC):
    """A data set in a folder whose questions have one right choice each. A class of its own says how its files are read, and has a `name`."""

    data: Path
    """The folder, or the file of questions in it."""
    count: int | None = None
    """How many questions are asked; all if not given."""
    together: ClassVar[int] = 1
    """So many questions in a row belong to one record, and stay together."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The benchmark's name in reports."""

    @abstractmethod
    def read(self, found: Findings) -> list[Sample]:
        """Every question that can be asked; what keeps others from being asked goes to `found`."""

    def samples(self) -> Iterator[Sample]:
        """The questions, in the file's order; `count` of them are spread evenly over it. Raises `ConfigError` for a file with a fault."""
        return asked(self, self.count, together=self.together)

    def is_right(self, sample: Sample, trace: Trace) -> bool | None:
        """Whether the answer names the right choice, by letter or text; None when it names none for sure, or when nobody knows which it is."""
        return is_right(sample, trace)


def without_letters(options: Sequence[str]) -> tuple[str, ...]:
    """The options' texts where each begins with its own letter, as `A. red`, `A) red` or `(A): red`; all of them as they are otherwise."""
    if len(options) > MAX_CHOICES:  # more than there are letters: none begins with its own
        return tuple(text.strip() for text in options)
    found = [re.match(rf"(?:\({letter}\)[.:]?|{letter}[.:)])", text.strip()) for letter, text in zip(letters(len(options)), options, strict=True)]
    return tuple(text.strip()[match.end() if match and all(found) else 0 :].strip() for match, text in zip(found, options, strict=True))


def right_index(answer: str, count: int) -> int:
    """The index that a data set's answer names by a letter, such as `C` or `(C)`. Raises `ConfigError` where it is none of `count` choices."""
    match = re.fullmatch(r"\(?([A-Z])\)?[.:]?", answer.strip())
    index = letters(count).find(match.group(1)) if match else -1
    if index < 0:
        raise ConfigError(f"the answer {shown(answer)} is not among the choices {letters(count)[0]} to {letters(count)[-1]}")
    return index


def checked_index(index: int, count: int) -> int:
    """The index, from 0. Raises `ConfigError` where it is none of `count` choices."""
    if not 0 <= index < count:
        raise ConfigError(f"the answer {index} is not among the choices 0 to {count - 1}")
    return index


def refuse_count(options: Sequence[str], *allowed: int) -> None:
    """Raise `ConfigError` where there are more or fewer options than the benchmark has, or where one is empty."""
    if len(options) not in allowed:
        raise ConfigError(f"{len(options)} options where {' or '.join(map(str, allowed))} are expected")
    if not all(option.strip() for option in options):
        raise ConfigError(f"an option is empty: {shown(list(options))}")


def is_right(sample: Sample, trace: Trace) -> bool | None:
    """Whether the answer names the right choice, by letter or text; None when it names none for sure, or when nobody knows the right one."""
    index = chosen(trace.answer, sample.choices)
    return None if index is None or not sample.answer else sample.choices[index] == sample.answer


def letter_of(sample: Sample, trace: Trace | None = None) -> str:
    """The right choice's letter. Where two choices say the same, it is the one that the trace chose."""
    index = None if trace is None else chosen(trace.answer, sample.choices)
    if index is not None and sample.choices[index] == sample.answer:
        return letters(26)[index]
    return letters(26)[sample.choices.index(sample.answer)]


def said(sample: Sample, trace: Trace | None, form: str = "{}") -> str:
    """What an official scorer is given: the letter that the answer names for sure, in the scorer's own form, else the answer as it was written.

    Empty where there is no answer: what a model wrote outside its answer is never searched for a letter.
    """
    answer = None if trace is None else trace.answer
    index = chosen(answer, sample.choices)
    return answer or "" if index is None else form.format(letters(26)[index])


def same_words(one: str, other: str) -> bool:
    """Whether two texts say the same but for case, the space between words and a full stop at the end."""
    first, second = (" ".join(text.split()).rstrip(".").casefold() for text in (one, other))
    return first == second
