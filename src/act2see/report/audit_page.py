"""An audit as an HTML page: accuracy by condition, compared with the real frames, and what looking gained and harmed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from act2see.report.page import template


@dataclass(frozen=True, slots=True)
class Mark:
    """One condition in a chart: the positions of its dot and interval, in percent of the chart's width, and its labels."""

    name: str
    meaning: str
    at: float
    interval: tuple[float, float] | None
    """Start and width; None where the interval is unknown."""
    accuracy: str
    difference: str
    is_real: bool


@dataclass(frozen=True, slots=True)
class Chart:
    """The conditions over one group of questions, and the position of chance, in percent of the chart's width."""

    title: str
    marks: tuple[Mark, ...]
    chance: float | None
    where: Mapping[str, str]
    """The filters of the run's view that show these questions."""


def render_audit(summary: Mapping[str, Any], meanings: Mapping[str, str], view: str | None = None) -> str:
    """Render an audit's summary (`act2see.evaluation.ablation.summarise_audit`) as one self-contained HTML page without a script.

    `view` is the address of the run's site, where there is one: the page's figures then link to their questions.
    """
    charts = [chart(f"All {summary['n']:,} questions", summary["arms"], meanings, summary["chance"])]
    kinds = summary["by_kind"] if len(summary["by_kind"]) > 1 else {}
    charts += [chart(f"{kind} questions", arms, meanings, summary["chance"], {"kind": kind}) for kind, arms in kinds.items()]
    named = {
        "retrieve": "Questions with a retrieve call",
        "generate": "Questions with a generate call",
        "clip": "Questions with a look at a time",
        "zoom": "Questions with a zoom",
        "none": "Questions without a call",
    }
    charts += [chart(named.get(call, call), arms, meanings, summary["chance"], {"call": call}) for call, arms in summary["by_call"].items()]
    looking = {"all": summary["looking"], **summary["looking_by_kind"]}
    return template("audit.html.j2").render(
        summary=summary, charts=charts, looking=looking, facts=_FACTS, shown_by={"gains": "gained", "harms": "harmed"}, share=share, view=view
    )


_FACTS = (
    ("call_rate", "called a tool"),
    ("gains", "right with looking, not without"),
    ("harms", "right without looking, not with"),
    ("only_looking_solves", "right with the real frame, not with tools off, withheld, random or wrong (retrieve), or unedited (generate)"),
    ("over_calling", "called a tool, of those answered rightly without"),
    ("under_calling", "called no tool, of those not answered rightly without"),
)


def chart(title: str, arms: Mapping[str, Any], meanings: Mapping[str, str], chance: float | None, where: Mapping[str, str] | None = None) -> Chart:
    """Lay out a chart; accuracies run from 0 to 100 % over its width. `where`: see `Chart`."""
    marks = tuple(_mark(name, arm, meanings.get(name, "")) for name, arm in arms.items())
    return Chart(title, marks, None if chance is None else _at(chance), where or {})


def _mark(name: str, arm: Mapping[str, Any], meaning: str) -> Mark:
    between = "real_minus_arm" in arm and arm["real_minus_arm"] is not None
    difference = f"{100 * arm['real_minus_arm']:+.1f} [{points(arm['real_minus_arm_95'])}]" if between else ""
    interval = None
    if arm["accuracy_95"] is not None:
        low, high = map(_at, arm["accuracy_95"])
        interval = low, round(high - low, 2)
    return Mark(name.replace("_", " "), meaning, _at(arm["accuracy"] or 0.0), interval, share(arm["accuracy"]), difference, name == "real")


def _at(value: float) -> float:
    return round(100 * min(1.0, max(0.0, value)), 2)


def points(interval: Sequence[float] | None) -> str:
    """An interval of a difference, in points; "unknown" where all questions are about one video."""
    return "unknown" if interval is None else f"{100 * interval[0]:+.1f}, {100 * interval[1]:+.1f}"


def share(value: float | None) -> str:
    """A share as a percentage; a dash for None."""
    return "–" if value is None else f"{100 * value:.1f}\N{NO-BREAK SPACE}%"
