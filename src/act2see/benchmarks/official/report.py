"""What a run's scores and summary say by the official rule, beside our own."""

from collections.abc import Sequence
from typing import Any

from act2see.benchmarks.official.baselines import official_baselines
from act2see.benchmarks.official.rules import RULES, Answered
from act2see.core.interfaces import Sample
from act2see.core.trace import Trace


def official_score(name: str, sample: Sample, trace: Trace | None) -> dict[str, Any]:
    """For one line of scores.jsonl: the official verdict and what was read; empty for a benchmark without an official rule."""
    if name not in RULES:
        return {}
    verdict = RULES[name].judge(sample, trace)
    return {"official": verdict.outcome, "official_extracted": verdict.extracted}


def official_summary(name: str, answered: Sequence[Answered]) -> dict[str, Any]:
    """For summary.json: the official figures with their own denominator, and what guesses get there; empty without an official rule."""
    rule = RULES.get(name)
    if rule is None:
        return {}
    guesses = official_baselines(rule, [sample for sample, _ in answered])
    return {"official": {"source": rule.source, **rule.figures(answered), "baselines": guesses}}
