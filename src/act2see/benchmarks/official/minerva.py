"""MINERVA has no official scorer; this is lmms-eval's: the letter after the last "answer is" or similar, else the last capital A to E.

If it finds none, it draws a random letter. We use the expected value instead: such an item adds a fifth.
Source: EvolvingLMMs-Lab/lmms-eval, 75571cf, lmms_eval/tasks/minerva/utils.py.
"""

import re
from collections.abc import Mapping

from act2see.benchmarks.official.verdict import Verdict, letter_verdict

SOURCE = "EvolvingLMMs-Lab/lmms-eval@75571cf lmms_eval/tasks/minerva/utils.py (there is no official scorer)"
FORM = "Answer: {}"
"""Format of our answer."""
LETTERS = "ABCDE"

_SAID = re.compile(r"(?:answer|option)\s*(?:is|:)\s*([A-E])", re.IGNORECASE)
# In the order in which they are removed.
_OPENINGS = (
    "The best answer is",
    "The correct answer is",
    "The answer is",
    "Answer:",
    "Option:",
    "Therefore, the final answer is:",
)


def extract(output: object) -> str:
    """The letter that lmms-eval extracts; empty if there is none."""
    text = str(output).strip()
    if said := _SAID.findall(text):
        last: str = said[-1]
        return last.upper()
    for opening in _OPENINGS:
        text = text.replace(opening, "")
    return next((letter for letter in reversed(text) if letter in LETTERS), "")


def verdict(output: object, gold: str) -> Verdict:
    """lmms-eval's verdict on an output; `random` if it would draw a letter."""
    extracted = extract(output)
    return letter_verdict(extracted, extracted == gold) if extracted else Verdict("", "random", 1 / len(LETTERS))


def gold_letter(record: Mapping[str, object]) -> str:
    """The right letter of a record: by `answer_id`, else the first choice with the answer's text; empty if there is none.

    Raises `ValueError` for non-decimal digits, as the original does.
    """
    number = record.get("answer_id")
    if isinstance(number, str) and number.isdigit():
        number = int(number)
    if isinstance(number, int) and 0 <= number < len(LETTERS):
        return LETTERS[number]
    answer = str(record.get("answer", "")).strip()
    choices = (str(record.get(f"answer_choice_{at}", "")).strip() for at in range(len(LETTERS)))
    return next((letter for letter, choice in zip(LETTERS, choices, strict=True) if choice == answer), "")
