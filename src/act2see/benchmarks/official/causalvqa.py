"""CausalVQA: the last single letter a to e that stands as a word, in either case; a pair counts where both of its questions are right.

Source: facebookresearch/CausalVQA, 3f65605, tasks/utils.py and scripts/prep_mllm_eval.py.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from act2see.benchmarks.official.verdict import Verdict, letter_verdict

SOURCE = "facebookresearch/CausalVQA@3f65605 tasks/utils.py"
FORM = "Your Answer Letter: {} END"
"""How our own answer is printed. Nothing may stand behind it: "a ball" would be read as A."""

_MARKS = ';/["]{}()=+\\_-><@`,?!'
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_STOP = re.compile(r"\.(?!\d)")
_MOST_STOPS = 32
"""So many full stops are taken out: the original gives a flag where the count belongs, and the flag's value is 32."""
_LETTER = re.compile(r"\b[a-e]\b")


class Accuracy(NamedTuple):
    """In percent: of the questions (half a point for one of a pair), and of the pairs."""

    single: float
    paired: float


def _without_marks(text: str) -> str:
    """A mark becomes a space, or nothing where it stands beside a space somewhere, or where any number in the text has a comma."""
    number_has_comma = _COMMA_IN_NUMBER.search(text) is not None
    cleaned = text
    for mark in _MARKS:
        is_beside_space = f"{mark} " in text or f" {mark}" in text
        cleaned = cleaned.replace(mark, "" if number_has_comma or is_beside_space else " ")
    return _STOP.sub("", cleaned, count=_MOST_STOPS)


def read(text: str) -> tuple[str | None, str]:
    """The letter that the official script reads, or None; and what it compares: the letter, or else all that is left of the text.

    The original first looks for its own form of an answer, but in a way that can never match: this rule is what is always used.
    """
    cleaned = _without_marks(text.strip().replace("\n", " ").replace("\t", " ").strip())
    for edge in ("'", '"', ")", "("):
        cleaned = cleaned.strip(edge)
    cleaned = cleaned.strip().lower()
    letters = _LETTER.findall(cleaned)
    return (letters[-1].upper(), letters[-1].upper()) if letters else (None, cleaned)


def verdict(output: str, gold: str) -> Verdict:
    """The official verdict on an output."""
    extracted, compared = read(output)
    return letter_verdict(extracted, compared == read(gold)[1])


def aggregate(results: Iterable[Mapping[str, Any]]) -> Accuracy:
    """The official figures of `{qid, score}`, two of a `qid` being a pair. Raises `ZeroDivisionError` where there are none, as the original does."""
    points: dict[Any, int] = {}
    for result in results:
        points[result["qid"]] = points.get(result["qid"], 0) + int(result["score"])
    pairs = sum(count == 2 for count in points.values())
    halves = sum(count == 1 for count in points.values())
    return Accuracy(single=(pairs + 0.5 * halves) / len(points) * 100, paired=pairs / len(points) * 100)


def format_choices(choices: str, correct: Any) -> tuple[list[tuple[str, str]], str]:
    """Letters and texts of the choices in the file's order, and the right one's letter, as the official preparation makes them.

    A choice's number is its first character and its text begins with the fourth, whatever stands there. Raises `KeyError` for a number that no
    choice has (`2.0`, which a table makes of a column with gaps, is none) and `IndexError` for an empty choice.
    """
    made: list[tuple[str, str]] = []
    letter_of: dict[str, str] = {}
    for at, part in enumerate(choices.split("|")):
        letter, text = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[at], part.strip()
        letter_of[text[0]] = letter
        made.append((letter, text[3:]))
    return made, letter_of[str(correct)]
