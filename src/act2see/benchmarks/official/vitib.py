"""ViTIB (ViTCoT): the capital letter after the first `Answer:` that is followed by one; the mean over the tasks, each counting the same.

Source: BRZ911/ViTCoT, 3f1d882, src/eval.py.
"""

import re

from act2see.benchmarks.official.verdict import Verdict, letter_verdict

SOURCE = "BRZ911/ViTCoT@3f1d882 src/eval.py"
FORM = "Answer: {}"
"""How our own answer is printed: `Answer: C`, without brackets."""

_ANSWER = re.compile(r"Answer:\s*([A-Z])")


def extract(output: str) -> str | None:
    """The letter that the official script reads; any capital counts as one. Line ends are taken out first, so that they join what they parted."""
    match = _ANSWER.search(output.replace("\n", ""))
    return match.group(1) if match else None


def verdict(output: str, gold: str) -> Verdict:
    """The official verdict on an output; the right answer is written as `(C)`, with or without brackets and space around it."""
    right = gold.strip().replace("(", "").replace(")", "")
    extracted = extract(output)
    return letter_verdict(extracted, extracted is not None and extracted == right)
