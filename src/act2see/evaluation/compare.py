"""Two runs over the same questions, compared question by question: what the second gained, what it lost, and whether that is more than chance."""

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import Any

from act2see.core.errors import StoreError
from act2see.evaluation.scores import Score
from act2see.evaluation.statistics import bootstrap_interval, mcnemar

_NAMED = 3
"""So many ids are named that stand for different questions."""


def compare_scores(first: Sequence[Score], second: Sequence[Score], seed: int = 0) -> dict[str, Any]:
    """The second run against the first, over the questions that both have; those that only one has are named.

    `difference` is second minus first, its interval a bootstrap of the paired differences that draws whole videos, `mcnemar_p` exact. Everything but
    a right answer counts as not right. Raises `StoreError` where an id does not mean the same question in both.
    """
    firsts, seconds = _by_id(first), _by_id(second)
    pairs = [(one, seconds[one.id]) for one in sorted(firsts.values(), key=lambda one: one.number) if one.id in seconds]
    other = {one.id: found for one, two in pairs if (found := _differences(one, two))}
    if other:
        named = ", ".join(f"{name!r} ({' and '.join(what)})" for name, what in islice(other.items(), _NAMED))
        raise StoreError(
            f"{len(other)} of {len(pairs)} ids stand for different questions in the two runs, the first are {named}: "
            "compare runs over the same version of the data"
        )
    groups: dict[str, list[tuple[Score, Score]]] = {}
    for pair in pairs:
        for name in dict.fromkeys((pair[0].kind, *pair[0].groups)):
            groups.setdefault(name, []).append(pair)
    outcomes = Counter((one.outcome, two.outcome) for one, two in pairs)
    return {
        **_compared(pairs, seed),
        "by_kind": {name: _compared(members, seed) for name, members in sorted(groups.items())},
        "gained_ids": [one.id for one, two in pairs if two.is_right and not one.is_right],
        "lost_ids": [one.id for one, two in pairs if one.is_right and not two.is_right],
        "outcomes": [{"first": before, "second": after, "n": count} for (before, after), count in sorted(outcomes.items())],
        "only_first": [one.id for one in first if one.id not in seconds],
        "only_second": [one.id for one in second if one.id not in firsts],
    }


def _differences(one: Score, two: Score) -> list[str]:
    """What is known to differ between two questions of one id; scores from elsewhere, or of an earlier version, do not tell everything."""
    told = {"other words": (one.question, two.question), "other choices, answer or video": (one.content, two.content)}
    return [what for what, (before, after) in told.items() if before and after and before != after]


def _by_id(scores: Sequence[Score]) -> dict[str, Score]:
    found = {one.id: one for one in scores}
    if len(found) < len(scores):
        twice = Counter(one.id for one in scores).most_common(1)[0][0]
        raise StoreError(f"the id {twice!r} is there twice among one run's scores: score that run again with act2see score")
    return found


def _compared(pairs: Sequence[tuple[Score, Score]], seed: int) -> dict[str, Any]:
    gained = sum(two.is_right and not one.is_right for one, two in pairs)
    lost = sum(one.is_right and not two.is_right for one, two in pairs)
    changes = [float(two.is_right) - float(one.is_right) for one, two in pairs]
    n = len(pairs)
    return {
        "n": n,
        "first": round(sum(one.is_right for one, _ in pairs) / n, 4) if n else None,
        "second": round(sum(two.is_right for _, two in pairs) / n, 4) if n else None,
        "difference": round(sum(changes) / n, 4) if n else None,
        "difference_95": bootstrap_interval(changes, [one.video for one, _ in pairs], seed),
        "gained": gained,
        "lost": lost,
        "mcnemar_p": mcnemar(gained, lost),
    }
