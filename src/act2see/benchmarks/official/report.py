"""What a run's scores and summary say by the official rule, beside our own."""

from collections.abc import Sequence
from typing import Any

from act2see.benchmarks.official.baselines import baselines
from act2see.benchmarks.official.rules import RULES, Answered
from act2see.interfaces import Benchmark, Sample
from act2see.trace import Trace


def official_score(name: str, sample: Sample, trace: Trace | None) -> dict[str, Any]:
    """For one line of scores.jsonl: the official verdict and what was read; empty for a benchmark without an official rule."""
    if name not in RULES:
        return {}
    verdict = RULES[name].judge(sample, trace)
    return {"official": verdict.outcome, "official_extracted": verdict.extracted}


def official_summary(name: str, benchmark: Benchmark, answered: Sequence[Answered]) -> dict[str, Any]:
    """For summary.json: the official figures with their own denominator, and what guessing without a look would get. Both only where there are."""
    rule = RULES.get(name)
    official = {} if rule is None else {"official": {"source": rule.source, **rule.figures(answered)}}
    guesses = baselines(benchmark, [sample for sample, _ in answered], rule)
    return official | ({"baselines": guesses} if guesses else {})
