"""Filter statistics: kept traces as the paper counts them, rejections by reason, and the cost per kept trace."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from act2see.core.rejection_reasons import MEANINGS
from act2see.core.trace import Cost, Trace
from act2see.curation.filters import Judged
from act2see.curation.qa_records import Reference
from act2see.storage.codec import JSON

BINS = 20
"""Of the histogram of similarities, from 0 to 1; what is below 0 is counted in the first."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the numbers need of one trace, whatever becomes of it."""

    source: str
    licence: str
    called: bool
    retrieved: int
    generated: int
    cost: Cost


@dataclass(frozen=True, slots=True)
class Counted:
    """One trace's facts, and what speaks against it."""

    judged: Judged
    facts: Facts


def facts_of(trace: Trace, reference: Reference) -> Facts:
    """What the numbers need of a trace."""
    brought = trace.brought_frames
    generated = sum(frame.provenance is not None for frame in brought)
    source = reference.source if reference.source == reference.kind else f"{reference.source}: {reference.kind}"
    return Facts(source, reference.licence, bool(trace.calls), len(brought) - generated, generated, trace.cost)


@dataclass(slots=True)
class _Tally:
    """Traces of one group, and what all of them cost."""

    traces: int = 0
    kept: int = 0
    called: int = 0
    kept_called: int = 0
    cost: Cost = field(default_factory=Cost)

    def add(self, one: Counted) -> None:
        self.traces += 1
        self.called += one.facts.called
        self.cost.add(one.facts.cost)
        if one.judged.is_kept:
            self.kept += 1
            self.kept_called += one.facts.called

    def row(self) -> dict[str, float | None]:
        return {
            "traces": self.traces,
            "kept": self.kept,
            "acceptance": _share(self.kept, self.traces),
            "call_rate": _share(self.called, self.traces),
            "call_rate_kept": _share(self.kept_called, self.kept),
        }


def summarise(everything: Sequence[Counted], questions: int, failed: Sequence[Cost] = ()) -> dict[str, Any]:
    """The numbers, as JSON. `questions` is how many the source has; `failed` what the tries cost that a failure ended: they are paid, not judged."""
    kept = [one for one in everything if one.judged.is_kept]
    whole, sources = _Tally(), dict[str, _Tally]()
    for cost in failed:
        whole.cost.add(cost)
    for one in everything:
        whole.add(one)
        sources.setdefault(one.facts.source, _Tally()).add(one)
    return {
        "questions": questions,
        "unfinished": len(failed),
        **whole.row(),
        "kept_questions": len({one.judged.sample for one in kept}),
        "paper_counts": _as_the_paper(kept),
        "by_source": {name: tally.row() for name, tally in sorted(sources.items())},
        "by_reason": _by_reason([one.judged for one in everything]),
        "similarity": _histogram([one.judged.similarity for one in everything], [one.judged.is_kept for one in everything]),
        "cost": _cost(whole.cost, len(kept)),
        "licences": dict(sorted(Counter(one.facts.licence for one in kept).items())),
    }


def _as_the_paper(kept: Sequence[Counted]) -> dict[str, float | None]:
    """Traces, those with a frame, retrieved and generated. A trace with both kinds counts once in each, and once among those with a frame."""
    with_frame = sum(one.facts.retrieved + one.facts.generated > 0 for one in kept)
    return {
        "traces": len(kept),
        "with_a_frame": with_frame,
        "share_with_a_frame": _share(with_frame, len(kept)),
        "with_retrieved": sum(one.facts.retrieved > 0 for one in kept),
        "with_generated": sum(one.facts.generated > 0 for one in kept),
    }


def _by_reason(judged: Sequence[Judged]) -> dict[str, dict[str, int]]:
    """How many traces each reason is the first of, and how many it is one of."""
    first, spoken = Counter(one.first for one in judged), Counter(reason for one in judged for reason in one.reasons)
    return {reason: {"first": first[reason], "any": spoken[reason]} for reason in MEANINGS if spoken[reason]}


def _histogram(similarities: Sequence[float | None], is_kept: Sequence[bool]) -> dict[str, JSON]:
    counts, kept = [0] * BINS, [0] * BINS
    known = [(one, keep) for one, keep in zip(similarities, is_kept, strict=True) if one is not None]
    for one, keep in known:
        place = min(BINS - 1, max(0, int(one * BINS)))
        counts[place] += 1
        kept[place] += keep
    mean = round(sum(one for one, _ in known) / len(known), 4) if known else None
    return {"n": len(known), "mean": mean, "bins": counts, "kept": kept}


def _cost(cost: Cost, kept: int) -> dict[str, Mapping[str, float | None]]:
    """Cost of all tries, and per kept trace."""
    seconds = round(cost.total_seconds, 3)
    total: Mapping[str, float | None] = {
        "tokens_in": cost.tokens_in,
        "tokens_out": cost.tokens_out,
        "tokens_reused": cost.tokens_reused,
        "seconds": seconds,
        "dollars": None if cost.dollars is None else round(cost.dollars, 6),
        **({} if cost.total_flops is None else {"flops": cost.total_flops}),
    }
    each = {name: None if value is None or not kept else round(value / kept, 6) for name, value in total.items()}
    return {"total": total, "per_kept_trace": each}


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None
