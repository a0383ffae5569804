"""ViTIB (ViTCoT): the capital letter after the first `Answer:` that one follows; the unweighted mean over the tasks.

Source: BRZ911/ViTCoT, 3f1d882, src/eval.py.
"""

import re

from act2see.benchmarks.official.verdict import Verdict, letter_verdict

SOURCE = "BRZ911/ViTCoT@3f1d882 src/eval.py"
FORM = "Answer: {}"
"""Format of our answer: `Answer: C`, without brackets."""

_ANSWER = re.compile(r"Answer:\s*([A-Z])")


def extract(output: str) -> str | None:
    """The letter that the official script extracts; any capital counts. Newlines are removed first, which joins the text around them."""
    match = _ANSWER.search(output.replace("\n", ""))
    return match.group(1) if match else None


def verdict(output: str, gold: str) -> Verdict:
    """The official verdict on an output; the gold answer has the form `(C)`, with optional brackets and whitespace."""
    right = gold.strip().replace("(", "").replace(")", "")
    extracted = extract(output)
    return letter_verdict(extracted, extracted is not None and extracted == right)
