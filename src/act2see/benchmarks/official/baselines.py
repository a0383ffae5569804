"""What is right without a look at the video: always one letter, the longest option, the shortest, a random one.

Beside these a score is to be read: on VideoEspresso's questions the shortest option alone is right in more than half.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any

from act2see.benchmarks.official.rules import Rule
from act2see.chat import letters
from act2see.interfaces import Benchmark, Sample
from act2see.trace import Answer, Trace

_DECIMALS = 4


def baselines(benchmark: Benchmark, samples: Sequence[Sample], rule: Rule | None, seed: int = 0) -> dict[str, Any]:
    """For each way of guessing the share that is right by our rule, and the official headline where all questions have options.

    `n` counts the questions with options and a known answer: the only ones that are guessed at. Empty where there are none.
    """
    asked = [sample for sample in samples if sample.choices and sample.answer]
    if not asked:
        return {}
    found: dict[str, Any] = {"n": len(asked), "ours": {}}
    has_official = rule is not None and len(asked) == len(samples)
    if has_official:
        found["official"] = {}
    for name, guess in _guesses(max(len(sample.choices) for sample in asked), seed).items():
        answered = [(sample, _guessed(sample, guess(sample))) for sample in asked]
        right = sum(benchmark.is_right(sample, trace) is True for sample, trace in answered)
        found["ours"][name] = round(right / len(asked), _DECIMALS)
        if rule is not None and has_official:
            found["official"][name] = rule.figures(answered)["accuracy"]
    return found


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
    """The first of the shortest options, or of the longest for a sign of -1."""
    return min(range(len(sample.choices)), key=lambda index: sign * len(sample.choices[index]))


def _guessed(sample: Sample, index: int) -> Trace:
    return Trace(sample.id, "", sample.question, (), choices=sample.choices, steps=[Answer(letters(26)[index])], finish="answer")
