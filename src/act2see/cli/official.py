"""Prints an evaluation's official figures: scores by the benchmark's own rules."""

from collections.abc import Mapping
from typing import Any

from act2see.cli.output import say


def print_official(summary: Mapping[str, Any]) -> None:
    """Print the official figures and the published numbers, if any."""
    if official := summary.get("official"):
        say(f"official: {_share(official['accuracy'])} of {official['n']}, {official['left_out']} left out ({official['source']})")
        if guesses := official["baselines"]:
            say("official guessing baselines: " + ", ".join(f"{name} {_share(share)}" for name, share in guesses.items()))
    if judged := summary.get("official_judged"):
        accuracy, counted = _share(judged["accuracy"]["overall_accuracy"]), judged["n"]
        say(f"judged by {judged['judge']}: {accuracy} of {counted}, {judged['judge_errors']} judge errors")
        if overall := judged["reasoning"].get("overall"):
            say("reasoning scores: " + ", ".join(f"{name} {_share(value)}" for name, value in overall.items()))
    for one in summary.get("published", ()):
        differs = ", ".join(f"{name} {theirs} there, {here} here" for name, (theirs, here) in one["differs"].items())
        settings = f"{differs or 'no known setting differs'}; unknown: {', '.join(one['unknown'])}"
        say(f"published: {_share(one['accuracy'])} by {one['model']} ({one['source']}); {settings}")


def _share(value: float | None) -> str:
    return "none" if value is None else f"{value:.1%}"
