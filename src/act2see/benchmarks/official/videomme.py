"""Video-MME: some sentence openings are removed, then the first capital A to D is the answer; outputs without one are not counted.

Source: thanku-all/parse_answer, afd52cf, eval_your_results.py.
"""

from act2see.benchmarks.official.verdict import Verdict, letter_verdict

SOURCE = "thanku-all/parse_answer@afd52cf eval_your_results.py"
FORM = "{}"
"""Format of our answer: the letter alone."""

# In the order in which they are removed. The original lacks two commas, which fuses two pairs of openings, so that "Best answer: D" keeps its
# capital B.
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
    """The letter that the official script extracts; empty if there is none."""
    text = output.strip()
    for opening in _OPENINGS:
        text = text.replace(opening, "")
    return next((letter for letter in text if letter in "ABCD"), "")


def verdict(output: str, gold: str) -> Verdict:
    """The official verdict on an output. Outputs without a letter leave the denominator too."""
    extracted = extract(output)
    return letter_verdict(extracted, extracted == gold) if extracted else Verdict("", "excluded", None)
