"""Baselines by an official rule that ignore the video: always one letter, the longest option, the shortest, a random one.

They put official scores into perspective: on VideoEspresso, the shortest option is right for more than half of the questions. Baselines by our own
rule are in every summary: see `act2see.evaluation.scores`.
"""

import random
from collections.abc import Callable, Sequence

from act2see.benchmarks.official.rules import Rule
from act2see.core.chat import letters
from act2see.core.interfaces import Sample
from act2see.core.trace import Answer, Trace


def official_baselines(rule: Rule, samples: Sequence[Sample], seed: int = 0) -> dict[str, float | None]:
    """The official accuracy of each baseline; empty if a question has no options, since the accuracy covers all questions.

    Of equally long options the first is chosen.
    """
    if not samples or not all(sample.choices and sample.answer for sample in samples):
        return {}
    guesses = _guesses(max(len(sample.choices) for sample in samples), seed)
    return {name: rule.figures([(sample, _answer(sample, guess(sample))) for sample in samples]).accuracy for name, guess in guesses.items()}


def _guesses(most_choices: int, seed: int) -> dict[str, Callable[[Sample], int]]:
    draw = random.Random(seed)

    def always(index: int) -> Callable[[Sample], int]:
        return lambda sample: index

    return {f"always {letter}": always(index) for index, letter in enumerate(letters(most_choices))} | {
        "longest": lambda sample: _at_most(sample, -1),
        "shortest": lambda sample: _at_most(sample, 1),
        "random": lambda sample: draw.randrange(len(sample.choices)),
    }


def _at_most(sample: Sample, sign: int) -> int:
    """The first of the shortest options, or of the longest if sign is -1."""
    return min(range(len(sample.choices)), key=lambda index: sign * len(sample.choices[index]))


def _answer(sample: Sample, index: int) -> Trace:
    return Trace(sample.id, "", sample.question, (), choices=sample.choices, steps=[Answer(letters(26)[index])], finish="answer")
