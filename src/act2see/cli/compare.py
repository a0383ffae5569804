"""`act2see compare`: two runs of `eval` over the same benchmark, question by question."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from act2see.cli.exits import ANSWERED
from act2see.cli.output import complain, say, say_json
from act2see.config import CompareConfig
from act2see.core.plaintext import one_line

if TYPE_CHECKING:
    from act2see.evaluation.compare import Comparison, PairedRates

NAMED = 10
"""Ids listed on the terminal; --json lists all."""


def compare(
    first: Annotated[Path, Parameter(help="Run folder of act2see eval.")],
    second: Annotated[Path, Parameter(help="Another run folder; gains and losses are relative to the first.")],
    /,
    *,
    settings: Annotated[CompareConfig, Parameter(name="*")] = CompareConfig(),
) -> int:
    """Compare two runs over the same benchmark, question by question: gained, lost, difference with its 95 % interval, and McNemar's exact test.

    Lists questions that only one run contains, which are not counted, and all settings and versions that differ.
    """
    from act2see.evaluation import compare as comparing

    found = comparing.compare(first, second, settings)
    if settings.json:
        say_json(found.row())
    else:
        _say_table(found)
    return ANSWERED


def _say_table(found: "Comparison") -> None:
    scores = found.scores
    overall = scores.overall
    say(f"{overall.n} questions of {found.benchmark} in both: first {overall.first:.1%} right, second {overall.second:.1%}")
    width = max(len("all"), *(len(name) for name in scores.by_kind))
    say(f"{'':<{width}}  questions   first  second  difference                gained  lost  p")
    for name, rates in {"all": overall, **scores.by_kind}.items():
        say(f"{one_line(name):<{width}}  {_columns(rates)}")
    for what, ids in (("gained", scores.gained_ids), ("lost", scores.lost_ids)):
        if ids:
            say(f"{what}: {_named(ids)}")
    for which, only in (("first", scores.only_first), ("second", scores.only_second)):
        if only:
            complain(f"note: {len(only)} questions are only in the {which} run and not counted: {_named(only)}")
    if found.made_differently:
        say(
            "settings and versions that differ: "
            + ", ".join(f"{name} {before} and {after}" for name, (before, after) in found.made_differently.items())
        )
    else:
        say("no recorded setting or version differs")


def _columns(rates: "PairedRates") -> str:
    between = rates.difference_95
    interval = " [unknown]" if between is None else f" [{100 * between[0]:+.1f}, {100 * between[1]:+.1f}]"
    assert rates.difference is not None  # None only without questions
    difference = f"{100 * rates.difference:+.1f} points{interval}"
    return f"{rates.n:>9}  {rates.first:>6.1%}  {rates.second:>6.1%}  {difference:<24}  {rates.gained:>6}  {rates.lost:>4}  {rates.mcnemar_p:.3g}"


def _named(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
    return ", ".join(ids[:NAMED]) + more
