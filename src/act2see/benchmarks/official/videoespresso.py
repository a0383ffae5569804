"""VideoEspresso: the first capital A to D, in the output as in the gold answer; accuracy over all items.

Source: hshjerry/VideoEspresso, c865570, eval/score.py.
"""

from act2see.benchmarks.official.verdict import Verdict, letter_verdict

SOURCE = "hshjerry/VideoEspresso@c865570 eval/score.py"
FORM = "({})"
"""Format of our answer: `(C)`. A prefix would be searched for capitals: `Answer: C` is read as A."""


def extract(output: str | None) -> str | None:
    """The letter that the official script extracts; None if there is none, or no text."""
    return next((letter for letter in output if letter in "ABCD"), None) if isinstance(output, str) else None


def verdict(output: str | None, gold: str | None) -> Verdict:
    """The official verdict on an output; the gold answer has the form `(C)`."""
    extracted = extract(output)
    return letter_verdict(extracted, extracted is not None and extracted == extract(gold))
