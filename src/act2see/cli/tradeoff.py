"""`act2see tradeoff`: what several runs' accuracy costs, as a table and a plot."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from act2see.cli.exits import ANSWERED
from act2see.cli.output import say, say_json
from act2see.config.checks import check_file_to_write
from act2see.core.errors import ConfigError

if TYPE_CHECKING:
    from act2see.storage.runs import Run

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
    points = [_point(Path(os.path.expanduser(folder)), by) for folder in runs]
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
    from act2see.storage.atomic import placed
    from act2see.storage.runs import Run

    run = Run.open(folder)
    summary = run.summary()
    if run.command != "eval" or not isinstance(summary, dict) or "accuracy" not in summary:
        raise ConfigError(f"{folder} is no finished run of act2see eval: it has no accuracy")
    with placed(str(folder / "summary.json")):
        read = _read_summary({name: summary.get(name) for name in ("benchmark", "n", "accuracy", "accuracy_95", "cost")}, "")
    if read.accuracy is None:
        raise ConfigError(f"{folder} has no accuracy: none of its questions was asked")
    told = {"run": str(folder), "benchmark": read.benchmark, "n": read.n, "accuracy": read.accuracy, "accuracy_95": read.accuracy_95}
    return {**told, "cost": _cost(run, read, by)}


@dataclass(frozen=True, slots=True)
class _Summary:
    """What a table needs of summary.json, where a run from elsewhere may hold anything."""

    benchmark: str
    n: int
    accuracy: float | None
    accuracy_95: tuple[float, float] | None
    means: dict[str, float]
    """What an answer cost on average, by name; nothing where no answer is known."""


def _read_summary(value: Any, where: str) -> _Summary:
    """Raises `StoreError`."""
    from act2see.storage.codec import optional, read_count, read_number, read_object, read_pair, read_text

    def of_all(read: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
        return lambda value, where: optional(read)(value.get("all") if isinstance(value, dict) else None, f"{where}.all")

    def make(**fields: Any) -> _Summary:
        return _Summary(means=fields.pop("cost"), **fields)

    read = read_object(make, benchmark=read_text, n=read_count, accuracy=of_all(read_number), accuracy_95=of_all(read_pair), cost=_read_means)
    return read(value, where)


def _read_means(value: Any, where: str) -> dict[str, float]:
    """The mean of each spread that is there: `{"tokens_in": {"mean": 1.0, "p50": 1}}`."""
    from act2see.storage.codec import read_amount

    named = value.items() if isinstance(value, dict) else ()
    return {name: read_amount(one["mean"], f"{where}.{name}.mean") for name, one in named if isinstance(one, dict) and "mean" in one}


def _cost(run: "Run", summary: _Summary, by: By) -> float:
    """Of an answer, on average over those that there are."""
    from act2see.storage.atomic import placed
    from act2see.storage.codec import read_amount, read_count

    names = {"tokens": ("tokens_in", "tokens_out"), "frames": ("frames",)}.get(by, ())
    if names and all(name in summary.means for name in names):
        return round(sum(summary.means[name] for name in names), 4)
    costs = run.costs()
    costs = costs if isinstance(costs, dict) else {}
    with placed(str(run.folder / "costs.json")):
        if by == "seconds" and "all" in (means := _read_means(costs.get("seconds"), "seconds")):
            return means["all"]
        if by == "dollars" and costs.get("dollars") is not None and costs.get("n"):
            return round(read_amount(costs["dollars"], "dollars") / read_count(costs["n"], "n"), 8)
    hint = "; evaluate with --prices" if by == "dollars" else ""
    raise ConfigError(f"{run.folder} does not say how many {UNITS[by]} an answer took{hint}")


def _beats(one: dict[str, Any], other: dict[str, Any]) -> bool:
    as_good = one["accuracy"] >= other["accuracy"] and one["cost"] <= other["cost"]
    return as_good and (one["accuracy"], one["cost"]) != (other["accuracy"], other["cost"])
