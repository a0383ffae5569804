"""Video-MME: some openings of sentences are struck out, then the first capital A to D is the answer; what has none is not counted.

Source: thanku-all/parse_answer, afd52cf, eval_your_results.py.
"""

from act2see.benchmarks.official.verdict import Verdict, letter_verdict

SOURCE = "thanku-all/parse_answer@afd52cf eval_your_results.py"
FORM = "{}"
"""How our own answer is printed: the letter alone."""

# In the order in which they are struck out. Two commas are missing in the original, so that two openings are fused to one that nobody writes, and
# "Best answer: D" keeps its capital B.
_OPENINGS = (
    "The best answer is",
    "The correct answer is",
    "The answer is",
    "The answer",
    "The best option is" + "The correct option is",
    "Best answer:" + "Best option:",
    "Answer:",
    "Option:",
    "The correct answer",
    "The correct option",
)


def extract(output: str) -> str:
    """The letter that the official script reads; an empty text where there is none."""
    text = output.strip()
    for opening in _OPENINGS:
        text = text.replace(opening, "")
    return next((letter for letter in text if letter in "ABCD"), "")


def verdict(output: str, gold: str) -> Verdict:
    """The official verdict on an output. What has no letter is left out of the denominator too."""
    extracted = extract(output)
    return letter_verdict(extracted, extracted == gold) if extracted else Verdict("", "excluded", None)
