"""`act2see tradeoff`: accuracy over cost of several runs, as a table and a plot."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from act2see.cli.exits import ANSWERED
from act2see.cli.output import say, say_json
from act2see.config import TradeoffConfig
from act2see.config.checks import check_plot

if TYPE_CHECKING:
    from act2see.evaluation.tradeoff import Tradeoff


def tradeoff(
    *runs: Annotated[Path, Parameter(help="Run folders of act2see eval over the same benchmark.")],
    settings: Annotated[TradeoffConfig, Parameter(name="*")] = TradeoffConfig(),
) -> int:
    """Compare runs over the same benchmark by accuracy, with its 95 % interval, and mean cost per answer.

    Marks the Pareto-optimal runs, which no other run beats in both.
    """
    from act2see.evaluation import tradeoff as trading

    check_plot(settings.plot)
    found = trading.tradeoff(runs, settings)
    if settings.plot is not None:
        from act2see.report.plots import draw_tradeoff

        draw_tradeoff(found, settings.plot)
    if settings.json:
        say_json({"by": found.by, "runs": [asdict(point) for point in found.points], "plot": None if settings.plot is None else str(settings.plot)})
    else:
        _say_table(found)
    return ANSWERED


def _say_table(found: "Tradeoff") -> None:
    for point in sorted(found.points, key=lambda one: one.cost):
        between = point.accuracy_95
        interval = "unknown" if between is None else f"{between[0]:.1%}, {between[1]:.1%}"
        mark = "*" if point.is_best else " "
        say(f"{mark} {point.run}: {point.accuracy:.1%} [{interval}] for {point.cost:,.6g} {found.unit} per answer")
    say("* Pareto-optimal: no other run is at least as accurate and cheaper")
