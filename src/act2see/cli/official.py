"""The official side of an evaluation, as it is printed: figures by the benchmark's own rules, beside ours."""

from collections.abc import Mapping
from typing import Any

from act2see.cli.output import say


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
