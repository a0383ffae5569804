"""The official rule's part of a run's scores and summary."""

from collections.abc import Sequence
from typing import TypedDict

from act2see.benchmarks.official.baselines import official_baselines
from act2see.benchmarks.official.rules import RULES, Answered
from act2see.core.interfaces import Sample
from act2see.core.trace import Trace
from act2see.storage.runs import JSON


class OfficialFigures(TypedDict):
    """The figures of an official scorer, as summary.json stores them."""

    source: str
    n: int
    left_out: int
    accuracy: float | None
    by: dict[str, float | None]
    baselines: dict[str, float | None]


class OfficialSummary(TypedDict, total=False):
    """The official part of summary.json."""

    official: OfficialFigures


def official_score(name: str, sample: Sample, trace: Trace | None) -> dict[str, JSON]:
    """For one line of scores.jsonl: the official verdict and the extracted answer; empty for a benchmark without an official rule."""
    if name not in RULES:
        return {}
    verdict = RULES[name].judge(sample, trace)
    return {"official": verdict.outcome, "official_extracted": verdict.extracted}


def official_summary(name: str, answered: Sequence[Answered]) -> OfficialSummary:
    """For summary.json: the official figures with their own denominator, and baselines; empty without an official rule."""
    rule = RULES.get(name)
    if rule is None:
        return {}
    guesses = official_baselines(rule, [sample for sample, _ in answered])
    figures = rule.figures(answered)
    return {
        "official": {
            "source": rule.source,
            "n": figures.n,
            "left_out": figures.left_out,
            "accuracy": figures.accuracy,
            "by": figures.by,
            "baselines": guesses,
        }
    }
