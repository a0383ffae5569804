"""CausalVQA: the last standalone letter a to e, in either case; a pair counts if both of its questions are right.

Source: facebookresearch/CausalVQA, 3f65605, tasks/utils.py and scripts/prep_mllm_eval.py.
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from act2see.benchmarks.official.verdict import Verdict, letter_verdict

SOURCE = "facebookresearch/CausalVQA@3f65605 tasks/utils.py"
FORM = "Your Answer Letter: {} END"
"""Format of our answer. No text may follow the letter: "a ball" would be read as A."""

_MARKS = ';/["]{}()=+\\_-><@`,?!'
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_STOP = re.compile(r"\.(?!\d)")
_MOST_STOPS = 32
"""Full stops to remove: the original passes a flag in place of the count, and the flag's value is 32."""
_LETTER = re.compile(r"\b[a-e]\b")


class Accuracy(NamedTuple):
    """Accuracy in percent: per question (half a point for one of a pair), and per pair."""

    single: float
    paired: float


def _without_marks(text: str) -> str:
    """Replace each mark by a space, or delete it if it occurs beside a space or any number in the text has a comma."""
    number_has_comma = _COMMA_IN_NUMBER.search(text) is not None
    cleaned = text
    for mark in _MARKS:
        is_beside_space = f"{mark} " in text or f" {mark}" in text
        cleaned = cleaned.replace(mark, "" if number_has_comma or is_beside_space else " ")
    return _STOP.sub("", cleaned, count=_MOST_STOPS)


def read(text: str) -> tuple[str | None, str]:
    """The letter that the official script extracts, if any, and the text that it compares: the letter, or the remaining text.

    The original first tries its own answer format, with a pattern that can never match, so this rule always applies.
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


def aggregate(results: Iterable[Mapping[str, str | int]]) -> Accuracy:
    """The official figures of `{qid, score}`; two results with one `qid` are a pair. Raises `ZeroDivisionError` if there are none."""
    points: dict[str | int, int] = {}
    for result in results:
        points[result["qid"]] = points.get(result["qid"], 0) + int(result["score"])
    pairs = sum(count == 2 for count in points.values())
    halves = sum(count == 1 for count in points.values())
    return Accuracy(single=(pairs + 0.5 * halves) / len(points) * 100, paired=pairs / len(points) * 100)


def format_choices(choices: str, correct: object) -> tuple[list[tuple[str, str]], str]:
    """Letters and texts of the choices in the file's order, and the right one's letter, as the official preparation script computes them.

    A choice's number is its first character, and its text starts at the fourth. Raises `KeyError` for a number without a choice (including `2.0`,
    which a table makes of a column with gaps) and `IndexError` for an empty choice.
    """
    made: list[tuple[str, str]] = []
    letter_of: dict[str, str] = {}
    for at, part in enumerate(choices.split("|")):
        letter, text = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[at], part.strip()
        letter_of[text[0]] = letter
        made.append((letter, text[3:]))
    return made, letter_of[str(correct)]
