"""Base of multiple-choice benchmarks: parsing of options and gold answers, and strict reading of a model's answer."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from act2see.benchmarks.reading import Findings, select
from act2see.core.chat import chosen, letters
from act2see.core.errors import ConfigError
from act2see.core.interfaces import Sample
from act2see.core.trace import Trace
from act2see.storage.codec import MAX_CHOICES, shown


@dataclass(frozen=True, slots=True)
class OneRightChoice(ABC):
    """A multiple-choice data set in a folder. A subclass reads its files and has a `name`."""

    data: Path
    """The folder, or the question file in it."""
    count: int | None = None
    """Number of questions to ask; None for all."""
    per_record: ClassVar[int] = 1
    """Questions per record; `count` never splits a record's questions except at the end."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Name in reports."""

    @abstractmethod
    def read(self, found: Findings) -> list[Sample]:
        """All valid questions; problems with other records are added to `found`."""

    def samples(self) -> Iterator[Sample]:
        """The questions in the file's order, or `count` evenly spaced ones. Raises `ConfigError` for invalid data."""
        return select(self, self.count, per_record=self.per_record)

    def is_right(self, sample: Sample, trace: Trace) -> bool | None:
        """Whether the answer names the right choice, by letter or text; None if it is ambiguous, or if the right choice is unknown."""
        return is_right(sample, trace)


def without_letters(options: Sequence[str]) -> tuple[str, ...]:
    """The options without their letters if each starts with its own (`A. red`, `A) red` or `(A): red`); otherwise unchanged."""
    if len(options) > MAX_CHOICES:  # more options than letters
        return tuple(text.strip() for text in options)
    found = [re.match(rf"(?:\({letter}\)[.:]?|{letter}[.:)])", text.strip()) for letter, text in zip(letters(len(options)), options, strict=True)]
    return tuple(text.strip()[match.end() if match and all(found) else 0 :].strip() for match, text in zip(found, options, strict=True))


def right_index(answer: str, count: int) -> int:
    """The index of a gold letter such as `C` or `(C)`. Raises `ConfigError` if it is none of `count` choices."""
    match = re.fullmatch(r"\(?([A-Z])\)?[.:]?", answer.strip())
    index = letters(count).find(match.group(1)) if match else -1
    if index < 0:
        raise ConfigError(f"the answer {shown(answer)} is not one of the choices {letters(count)[0]} to {letters(count)[-1]}")
    return index


def checked_index(index: int, count: int) -> int:
    """The index, from 0. Raises `ConfigError` if it is none of `count` choices."""
    if not 0 <= index < count:
        raise ConfigError(f"the answer {index} is not one of the choices 0 to {count - 1}")
    return index


def check_option_count(options: Sequence[str], *allowed: int) -> None:
    """Raise `ConfigError` for an unexpected number of options or an empty option."""
    if len(options) not in allowed:
        raise ConfigError(f"got {len(options)} options, expected {' or '.join(map(str, allowed))}")
    if not all(option.strip() for option in options):
        raise ConfigError(f"empty option: {shown(list(options))}")


def is_right(sample: Sample, trace: Trace) -> bool | None:
    """Whether the answer names the right choice, by letter or text; None if it is ambiguous, or if the right choice is unknown."""
    index = chosen(trace.answer, sample.choices)
    return None if index is None or not sample.answer else sample.choices[index] == sample.answer


def letter_of(sample: Sample, trace: Trace | None = None) -> str:
    """The right choice's letter. Of two identical choices, the one that the trace chose."""
    index = None if trace is None else chosen(trace.answer, sample.choices)
    if index is not None and sample.choices[index] == sample.answer:
        return letters(26)[index]
    return letters(26)[sample.choices.index(sample.answer)]


def scorer_output(sample: Sample, trace: Trace | None, form: str = "{}") -> str:
    """The output passed to an official scorer: the letter that the answer names, in the scorer's format, or the raw answer if it is ambiguous.

    Empty if there is no answer: text outside the answer is never searched for a letter.
    """
    answer = None if trace is None else trace.answer
    index = chosen(answer, sample.choices)
    return answer or "" if index is None else form.format(letters(26)[index])


def same_words(one: str, other: str) -> bool:
    """Whether two texts are equal up to case, whitespace and a final full stop."""
    first, second = (" ".join(text.split()).rstrip(".").casefold() for text in (one, other))
    return first == second
