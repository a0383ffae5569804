"""Accuracy over cost of several runs over the same benchmark."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from act2see.config.commands import CostUnit, TradeoffConfig
from act2see.core.errors import ConfigError
from act2see.storage.atomic import placed
from act2see.storage.codec import Reader, optional, read_amount, read_count, read_number, read_object, read_pair, read_text
from act2see.storage.runs import Run

_T = TypeVar("_T")
UNITS: Mapping[CostUnit, str] = {
    "tokens": "tokens read and written",
    "seconds": "seconds",
    "dollars": "dollars",
    "frames": "frames seen",
    "flops": "FLOPs",
}


@dataclass(frozen=True, slots=True)
class RunPoint:
    """One run: its accuracy (a share, with its 95 % interval) and the mean cost of an answer."""

    run: str
    benchmark: str
    n: int
    accuracy: float
    accuracy_95: tuple[float, float] | None
    cost: float
    is_best: bool = False
    """Whether it lies on the Pareto front: no other run is at least as accurate and as cheap, and better in one of the two."""


@dataclass(frozen=True, slots=True)
class Tradeoff:
    """Runs over one benchmark, in the order given."""

    benchmark: str
    by: CostUnit
    points: tuple[RunPoint, ...]

    @property
    def unit(self) -> str:
        """The unit of the costs, in words."""
        return UNITS[self.by]


def tradeoff(runs: Sequence[Run | Path | str], options: TradeoffConfig = TradeoffConfig()) -> Tradeoff:
    """Read accuracy and cost of finished `act2see eval` runs, or of those in folders.

    Raises `ConfigError` for runs that cannot be compared, `StoreError` for unreadable files.
    """
    if not runs:
        raise ConfigError("no runs: give the folders of runs to compare")
    points = [_point(Run.of(run), options.by) for run in runs]
    benchmarks = sorted({point.benchmark for point in points})
    if len(benchmarks) > 1:
        raise ConfigError(f"the runs are of {' and '.join(map(repr, benchmarks))}: compare runs of the same benchmark")
    marked = tuple(replace(point, is_best=not any(_beats(other, point) for other in points)) for point in points)
    return Tradeoff(benchmarks[0], options.by, marked)


def _point(run: Run, by: CostUnit) -> RunPoint:
    folder, summary = run.folder, run.summary()
    if run.command != "eval" or not isinstance(summary, dict) or "accuracy" not in summary:
        raise ConfigError(f"{folder} is not a finished run of act2see eval: it has no accuracy")
    with placed(str(folder / "summary.json")):
        read = _read_summary({name: summary.get(name) for name in ("benchmark", "n", "accuracy", "accuracy_95", "cost")}, "")
    if read.accuracy is None:
        raise ConfigError(f"{folder} has no accuracy: it has no questions")
    return RunPoint(str(folder), read.benchmark, read.n, read.accuracy, read.accuracy_95, _cost(run, read, by))


@dataclass(frozen=True, slots=True)
class _Summary:
    """The fields of summary.json that are used, checked: a run from elsewhere may hold anything."""

    benchmark: str
    n: int
    accuracy: float | None
    accuracy_95: tuple[float, float] | None
    cost: dict[str, float]
    """Mean cost of an answer by name; empty where no answer is known."""


def _read_summary(value: object, where: str) -> _Summary:
    """Raises `StoreError`."""

    def of_all(read: Reader[_T]) -> Reader[_T | None]:
        return lambda value, where: optional(read)(value.get("all") if isinstance(value, dict) else None, f"{where}.all")

    read = read_object(_Summary, benchmark=read_text, n=read_count, accuracy=of_all(read_number), accuracy_95=of_all(read_pair), cost=_read_means)
    return read(value, where)


def _read_means(value: object, where: str) -> dict[str, float]:
    """The mean of each spread that is there: `{"tokens_in": {"mean": 1.0, "p50": 1}}`."""
    named = value.items() if isinstance(value, dict) else ()
    return {name: read_amount(one["mean"], f"{where}.{name}.mean") for name, one in named if isinstance(one, dict) and "mean" in one}


def _cost(run: Run, summary: _Summary, by: CostUnit) -> float:
    """The mean cost of an answer, over the answers that there are."""
    names = {"tokens": ("tokens_in", "tokens_out"), "frames": ("frames",)}.get(by, ())
    if names and all(name in summary.cost for name in names):
        return round(sum(summary.cost[name] for name in names), 4)
    costs = run.costs()
    costs = costs if isinstance(costs, dict) else {}
    with placed(str(run.folder / "costs.json")):
        if by == "seconds" and "all" in (means := _read_means(costs.get("seconds"), "seconds")):
            return means["all"]
        if by == "flops" and "all" in (means := _read_means(costs.get("flops"), "flops")):
            return means["all"]
        if by == "dollars" and costs.get("dollars") is not None and costs.get("n"):
            return round(read_amount(costs["dollars"], "dollars") / read_count(costs["n"], "n"), 8)
    hint = "; evaluate with --prices" if by == "dollars" else ""
    raise ConfigError(f"{run.folder} does not record the {UNITS[by]} per answer{hint}")


def _beats(one: RunPoint, other: RunPoint) -> bool:
    as_good = one.accuracy >= other.accuracy and one.cost <= other.cost
    return as_good and (one.accuracy, one.cost) != (other.accuracy, other.cost)
