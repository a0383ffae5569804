"""The official side of an evaluation: figures by the benchmark's own rules, beside ours, from the traces on the disk."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from act2see.cli.output import say

if TYPE_CHECKING:
    from act2see.core.interfaces import Benchmark
    from act2see.storage.runs import Run


def official_figures(name: str, asked: "Benchmark", run: "Run", *, judged: bool) -> dict[str, Any]:
    """For summary.json: the official figures over every question that the benchmark has, and, if wanted, those that its judge gives.

    Empty for a benchmark without an official rule. A judge is asked four questions an answer; what it was asked already is not asked again.
    """
    from act2see.benchmarks.official.report import official_summary
    from act2see.benchmarks.vcrbench import VCRBench
    from act2see.cli.output import progressing
    from act2see.evaluation.evaluator import ShuffledOptions, answered, as_shown, changed

    traces = {trace.id: trace for _, trace in run.sketches([]) if trace.finish}
    pairs = [(sample, None if trace is None or changed(sample, trace) else trace) for _, sample, trace in answered(asked, traces)]
    pairs = [(sample if trace is None else as_shown(sample, trace), trace) for sample, trace in pairs]
    found = official_summary(name, pairs)
    inner = asked.benchmark if isinstance(asked, ShuffledOptions) else asked
    if judged and isinstance(inner, VCRBench):
        found["official_judged"] = inner.figures(progressing(pairs, "answers judged", len(pairs)))
    return found


def tell_official(summary: Mapping[str, Any]) -> None:
    """Print the official figures and the published numbers, where there are any."""
    if official := summary.get("official"):
        say(f"official: {_share(official['accuracy'])} of {official['n']}, {official['left_out']} left out ({official['source']})")
        if guesses := official["baselines"]:
            say("official, guessing: " + ", ".join(f"{name} {_share(share)}" for name, share in guesses.items()))
    if judged := summary.get("official_judged"):
        accuracy, counted = _share(judged["accuracy"]["overall_accuracy"]), judged["n"]
        say(f"by the judge {judged['judge']}: {accuracy} of {counted}, {judged['judge_errors']} judge errors")
        if overall := judged["reasoning"].get("overall"):
            say("its reasoning: " + ", ".join(f"{name} {_share(value)}" for name, value in overall.items()))
    for one in summary.get("published", ()):
        differs = ", ".join(f"{name} {theirs} there and {here} here" for name, (theirs, here) in one["differs"].items())
        told = f"{differs or 'no known setting differs'}; not told: {', '.join(one['unknown'])}"
        say(f"published: {_share(one['accuracy'])} by {one['model']} ({one['source']}); {told}")


def _share(value: float | None) -> str:
    return "nothing" if value is None else f"{value:.1%}"
