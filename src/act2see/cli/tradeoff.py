"""`act2see tradeoff`: what several runs' accuracy costs, as a table and a plot."""

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from act2see.cli.checks import check_file_to_write
from act2see.cli.exits import ANSWERED
from act2see.errors import ConfigError
from act2see.output import say, say_json

By = Literal["tokens", "seconds", "dollars", "frames"]
UNITS: dict[By, str] = {"tokens": "tokens read and written", "seconds": "seconds", "dollars": "dollars", "frames": "frames seen"}


def tradeoff(
    *runs: Annotated[Path, Parameter(help="Folders of act2see eval's runs over the same benchmark.")],
    by: Annotated[By, Parameter(help="What an answer costs: on the axis.")] = "tokens",
    plot: Annotated[Path | None, Parameter(help="Draw accuracy over cost into this file (.png, .svg or .pdf).")] = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="", help="Print one line of JSON.")] = False,
) -> int:
    """Set runs over the same benchmark side by side: accuracy with its 95 % interval, and what an answer cost on average.

    A run that no other beats in both stands out.
    """
    check_file_to_write(plot)
    if not runs:
        raise ConfigError("there is nothing to set side by side: name the folders of runs")
    points = [_point(folder.expanduser(), by) for folder in runs]
    benchmarks = sorted({str(point["benchmark"]) for point in points})
    if len(benchmarks) > 1:
        raise ConfigError(f"these are runs of {' and '.join(map(repr, benchmarks))}: set runs of the same benchmark side by side")
    for point in points:
        point["is_best"] = not any(_beats(other, point) for other in points)
    if plot is not None:
        from act2see.cli.plot import draw_tradeoff

        draw_tradeoff(points, f"{benchmarks[0]}: accuracy over {UNITS[by]} an answer", UNITS[by], plot)
    if as_json:
        say_json({"by": by, "runs": points, "plot": None if plot is None else str(plot)})
        return ANSWERED
    for point in sorted(points, key=lambda one: float(one["cost"])):
        between = point["accuracy_95"]
        interval = "unknown" if between is None else f"{between[0]:.1%}, {between[1]:.1%}"
        mark = "*" if point["is_best"] else " "
        say(f"{mark} {point['run']}: {point['accuracy']:.1%} [{interval}] for {point['cost']:,.6g} {UNITS[by]} an answer")
    say("* no other run is both as right and cheaper")
    return ANSWERED


def _point(folder: Path, by: By) -> dict[str, Any]:
    from act2see.store import Run

    run = Run.open(folder)
    summary = run.summary()
    if run.command != "eval" or not isinstance(summary, dict) or "accuracy" not in summary:
        raise ConfigError(f"{folder} is no finished run of act2see eval: it has no accuracy")
    return {
        "run": str(folder),
        "benchmark": summary["benchmark"],
        "n": summary["n"],
        "accuracy": summary["accuracy"]["all"],
        "accuracy_95": summary["accuracy_95"]["all"],
        "cost": _cost(folder, summary, by),
    }


def _cost(folder: Path, summary: dict[str, Any], by: By) -> float:
    """Of an answer, on average over those that there are."""
    from act2see.records import parse_json

    if by in ("tokens", "frames"):
        names = ("tokens_in", "tokens_out") if by == "tokens" else ("frames",)
        found = [summary["cost"][name] for name in names]
        if all(found):
            return round(float(sum(one["mean"] for one in found)), 4)
    path = folder / "costs.json"
    spent = parse_json(path.read_bytes()) if path.is_file() else {}
    if by == "seconds" and spent.get("seconds", {}).get("all"):
        return float(spent["seconds"]["all"]["mean"])
    if by == "dollars" and spent.get("dollars") is not None and spent.get("n"):
        return round(float(spent["dollars"]) / int(spent["n"]), 8)
    hint = "; evaluate with --prices" if by == "dollars" else ""
    raise ConfigError(f"{folder} does not say how many {UNITS[by]} an answer took{hint}")


def _beats(one: dict[str, Any], other: dict[str, Any]) -> bool:
    as_good = one["accuracy"] >= other["accuracy"] and one["cost"] <= other["cost"]
    return as_good and (one["accuracy"], one["cost"]) != (other["accuracy"], other["cost"])
