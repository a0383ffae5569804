"""The audit as an HTML page: every arm's accuracy beside the real one's, and what looking gained and harmed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from act2see.report.page import template

_ROW, _TOP, _LEFT, _WIDTH = 26.0, 8.0, 108.0, 560.0


@dataclass(frozen=True, slots=True)
class Mark:
    """One arm in a chart: where its dot and its interval stand, in the drawing's units, and the words beside them."""

    name: str
    meaning: str
    y: float
    x: float
    low: float
    high: float
    accuracy: str
    difference: str
    is_real: bool


@dataclass(frozen=True, slots=True)
class Chart:
    """The arms over one group of questions. `ticks` are the percentages on the axis with their places."""

    title: str
    marks: tuple[Mark, ...]
    ticks: tuple[tuple[float, str], ...]
    chance: float | None
    height: float


def render_audit(summary: Mapping[str, Any], meanings: Mapping[str, str]) -> str:
    """The page of an audit's summary (`act2see.audit.summarise_audit`), one HTML file that needs nothing else and runs no script."""
    charts = [chart(f"All {summary['n']:,} questions", summary["arms"], meanings, summary["chance"])]
    kinds = summary["by_kind"] if len(summary["by_kind"]) > 1 else {}
    charts += [chart(f"{kind} questions", arms, meanings, summary["chance"]) for kind, arms in kinds.items()]
    named = {"retrieve": "Questions that asked for a frame", "generate": "Questions that asked for a picture", "none": "Questions without a call"}
    charts += [chart(named.get(call, call), arms, meanings, summary["chance"]) for call, arms in summary["by_call"].items()]
    looking = {"all": summary["looking"], **summary["looking_by_kind"]}
    return template("audit.html.j2").render(summary=summary, charts=charts, looking=looking, facts=_FACTS, share=share, left=_LEFT, width=_WIDTH)


_FACTS = (
    ("call_rate", "asked to see more"),
    ("gains", "right with looking, not without"),
    ("harms", "right without looking, not with"),
    ("only_looking_solves", "right with the real one, and not off, withheld, random, or wrong (a frame's time) or unedited (a picture)"),
    ("over_calling", "asked, of those that are answered rightly without"),
    ("under_calling", "did not ask, of those that are not answered rightly without"),
)


def chart(title: str, arms: Mapping[str, Any], meanings: Mapping[str, str], chance: float | None) -> Chart:
    """Where everything of a chart stands; accuracies run from 0 to 100 % over the drawing's width."""
    marks = tuple(_mark(place, name, arm, meanings.get(name, "")) for place, (name, arm) in enumerate(arms.items()))
    ticks = tuple((_at(number / 4), f"{number * 25} %") for number in range(5))
    return Chart(title, marks, ticks, None if chance is None else _at(chance), _TOP + _ROW * len(marks))


def _mark(place: int, name: str, arm: Mapping[str, Any], meaning: str) -> Mark:
    accuracy = arm["accuracy"] or 0.0
    low, high = arm["accuracy_95"] or (accuracy, accuracy)
    between = "real_minus_arm" in arm and arm["real_minus_arm"] is not None
    difference = f"{100 * arm['real_minus_arm']:+.1f} [{points(arm['real_minus_arm_95'])}]" if between else ""
    y = _TOP + _ROW * (place + 0.5)
    return Mark(name.replace("_", " "), meaning, y, _at(accuracy), _at(low), _at(high), share(arm["accuracy"]), difference, name == "real")


def _at(value: float) -> float:
    return round(_LEFT + _WIDTH * min(1.0, max(0.0, value)), 2)


def points(interval: Sequence[float] | None) -> str:
    """An interval of a difference, in points."""
    return "" if interval is None else f"{100 * interval[0]:+.1f}, {100 * interval[1]:+.1f}"


def share(value: float | None) -> str:
    """A share as a percentage; a dash where there is none."""
    return "–" if value is None else f"{100 * value:.1f}\N{NO-BREAK SPACE}%"
