"""Filter statistics as an HTML page: kept traces, rejection reasons, similarity of traces and human reasoning, cost of a kept trace."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from act2see.core.rejection_reasons import MEANINGS
from act2see.report.audit_page import share
from act2see.report.page import template

_WIDTH, _HEIGHT = 760.0, 180.0
_LONGEST_BAR = 420.0


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a chart, in the drawing's units; `kept` is the height of the part for kept traces."""

    x: float
    width: float
    height: float
    kept: float
    title: str


def render_filter(summary: Mapping[str, Any]) -> str:
    """Render a filter's summary (`act2see.curation.filter_statistics.summarise`) as one self-contained HTML page without a script."""
    reasons = [(reason, MEANINGS[reason], row) for reason, row in summary["by_reason"].items()]
    most = max((row["any"] for _, _, row in reasons), default=1)
    lengths = {reason: (_LONGEST_BAR * row["any"] / most, _LONGEST_BAR * row["first"] / most) for reason, _, row in reasons}
    return template("filter.html.j2").render(
        summary=summary,
        reasons=reasons,
        lengths=lengths,
        bars=histogram(summary["similarity"]),
        threshold=_WIDTH * min(1.0, max(0.0, summary["settings"]["reference_similarity"])),
        width=_WIDTH,
        height=_HEIGHT,
        share=share,
    )


def histogram(found: Mapping[str, Any]) -> tuple[Bar, ...]:
    """A bar for each bin of the similarities, which go from 0 to 1."""
    counts, kept = found["bins"], found["kept"]
    wide, most = _WIDTH / len(counts), max([*counts, 1])
    return tuple(
        Bar(
            round(place * wide + 1, 2),
            round(wide - 2, 2),
            round(_HEIGHT * count / most, 2),
            round(_HEIGHT * good / most, 2),
            f"{place / len(counts):.2f} to {(place + 1) / len(counts):.2f}: {count} traces, {good} kept",
        )
        for place, (count, good) in enumerate(zip(counts, kept, strict=True))
    )
