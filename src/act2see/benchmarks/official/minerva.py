"""MINERVA has no official scorer; this is lmms-eval's: the letter after the last "answer is" or the like, else the last capital A to E.

Where it finds none it draws a letter. We draw none: such an item adds what the draw is worth, a fifth.
Source: EvolvingLMMs-Lab/lmms-eval, 75571cf, lmms_eval/tasks/minerva/utils.py.
"""

import re
from collections.abc import Mapping
from typing import Any

from act2see.benchmarks.official.verdict import Verdict, letter_verdict

SOURCE = "EvolvingLMMs-Lab/lmms-eval@75571cf lmms_eval/tasks/minerva/utils.py (there is no official scorer)"
FORM = "Answer: {}"
"""How our own answer is printed."""
LETTERS = "ABCDE"

_SAID = re.compile(r"(?:answer|option)\s*(?:is|:)\s*([A-E])", re.IGNORECASE)
# In the order in which they are struck out.
_OPENINGS = (
    "The best answer is",
    "The correct answer is",
    "The answer is",
    "Answer:",
    "Option:",
    "Therefore, the final answer is:",
)


def extract(output: object) -> str:
    """The letter that lmms-eval reads; an empty text where there is none."""
    text = str(output).strip()
    if said := _SAID.findall(text):
        last: str = said[-1]
        return last.upper()
    for opening in _OPENINGS:
        text = text.replace(opening, "")
    return next((letter for letter in reversed(text) if letter in LETTERS), "")


def verdict(output: object, gold: str) -> Verdict:
    """lmms-eval's verdict on an output; `random` where it would draw a letter."""
    extracted = extract(output)
    return letter_verdict(extracted, extracted == gold) if extracted else Verdict("", "random", 1 / len(LETTERS))


def gold_letter(record: Mapping[str, Any]) -> str:
    """The right letter of a record: by `answer_id`, else by the first choice with the answer's text; an empty text where there is none.

    Raises `ValueError` for digits that are no decimal ones, as the original does.
    """
    number = record.get("answer_id")
    if isinstance(number, str) and number.isdigit():
        number = int(number)
    if isinstance(number, int) and 0 <= number < len(LETTERS):
        return LETTERS[number]
    answer = str(record.get("answer", "")).strip()
    choices = (str(record.get(f"answer_choice_{at}", "")).strip() for at in range(len(LETTERS)))
    return next((letter for letter, choice in zip(LETTERS, choices, strict=True) if choice == answer), "")
