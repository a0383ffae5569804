"""Compares two runs question by question: what the second gained and lost, and whether the difference is significant."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice
from pathlib import Path

from act2see.config import CompareConfig
from act2see.core.errors import ConfigError, StoreError
from act2see.evaluation.fingerprint import HOW_NOT_WHAT
from act2see.evaluation.scores import Outcome, Score, read_score
from act2see.evaluation.statistics import bootstrap_interval, mcnemar
from act2see.storage.atomic import placed
from act2see.storage.codec import read_text
from act2see.storage.run_metadata import differences, flat
from act2see.storage.runs import JSON, Run

_log = logging.getLogger(__name__)

_NAMED = 3
"""Ids that an error lists."""


@dataclass(frozen=True, slots=True)
class PairedRates:
    """Accuracy of both runs over the same n questions. Everything but a right answer counts as wrong."""

    n: int
    first: float | None
    """Accuracy of the first run; None without questions. Likewise `second` and `difference` (second minus first)."""
    second: float | None
    difference: float | None
    difference_95: tuple[float, float] | None
    """95 % interval from a paired bootstrap clustered by video; None if all questions share one video."""
    gained: int
    lost: int
    mcnemar_p: float
    """Two-sided p-value of McNemar's exact test."""


@dataclass(frozen=True, slots=True)
class ScoreComparison:
    """The second run's scores relative to the first's, over their common questions."""

    overall: PairedRates
    by_kind: Mapping[str, PairedRates]
    gained_ids: tuple[str, ...]
    lost_ids: tuple[str, ...]
    outcomes: Mapping[tuple[Outcome, Outcome], int]
    """Number of questions by outcome in the first and in the second run."""
    only_first: tuple[str, ...]
    """Ids of questions that only the first run has; they are not counted."""
    only_second: tuple[str, ...]

    def row(self) -> dict[str, JSON]:
        """The comparison as JSON."""
        return {
            **_row(self.overall),
            "by_kind": {name: _row(rates) for name, rates in self.by_kind.items()},
            "gained_ids": self.gained_ids,
            "lost_ids": self.lost_ids,
            "outcomes": [{"first": before, "second": after, "n": count} for (before, after), count in self.outcomes.items()],
            "only_first": self.only_first,
            "only_second": self.only_second,
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """The comparison of two runs of one benchmark."""

    benchmark: str
    first_run: str
    second_run: str
    made_differently: Mapping[str, tuple[str, str]]
    """Settings and versions that differ, by name, with both values."""
    scores: ScoreComparison

    def row(self) -> dict[str, JSON]:
        """The comparison as JSON."""
        about = {"benchmark": self.benchmark, "first_run": self.first_run, "second_run": self.second_run}
        return {**about, "made_differently": self.made_differently, **self.scores.row()}


def compare(first: Run | Path | str, second: Run | Path | str, options: CompareConfig = CompareConfig()) -> Comparison:
    """Compare two finished `act2see eval` runs, or those in two folders.

    Raises `ConfigError` for runs without common questions, `StoreError` for unreadable files.
    """
    first, second = (one.folder if isinstance(one, Run) else one for one in (first, second))
    sides = [_side(Run.of(folder)) for folder in (first, second)]
    names = [side.benchmark for side in sides]
    if names[0] != names[1]:
        raise ConfigError(f"{first} is a run of {names[0]!r} and {second} one of {names[1]!r}: compare runs of the same benchmark")
    found = compare_scores(sides[0].scores, sides[1].scores, options.seed)
    if not found.overall.n:
        raise ConfigError(f"{first} and {second} have no question in common: compare runs over the same questions")
    made = [flat(side.provenance(is_short=not all(side.fingerprint for side in sides))) for side in sides]
    return Comparison(names[0], str(first), str(second), differences(made[0], made[1]), found)


def compare_scores(first: Sequence[Score], second: Sequence[Score], seed: int = 0) -> ScoreComparison:
    """Compare scores over the common questions. Raises `StoreError` if an id stands for different questions."""
    firsts, seconds = _by_id(first), _by_id(second)
    pairs = [(one, seconds[one.id]) for one in sorted(firsts.values(), key=lambda one: one.number) if one.id in seconds]
    other = {one.id: found for one, two in pairs if (found := _differences(one, two))}
    if other:
        named = ", ".join(f"{name!r} ({' and '.join(what)})" for name, what in islice(other.items(), _NAMED))
        raise StoreError(
            f"{len(other)} of {len(pairs)} ids stand for different questions in the two runs; the first are {named}: "
            "compare runs over the same version of the data"
        )
    groups: dict[str, list[tuple[Score, Score]]] = {}
    for pair in pairs:
        for name in dict.fromkeys((pair[0].kind, *pair[0].groups)):
            groups.setdefault(name, []).append(pair)
    return ScoreComparison(
        overall=_rates(pairs, seed),
        by_kind={name: _rates(members, seed) for name, members in sorted(groups.items())},
        gained_ids=tuple(one.id for one, two in pairs if two.is_right and not one.is_right),
        lost_ids=tuple(one.id for one, two in pairs if one.is_right and not two.is_right),
        outcomes=dict(sorted(Counter((one.outcome, two.outcome) for one, two in pairs).items())),
        only_first=tuple(one.id for one in first if one.id not in seconds),
        only_second=tuple(one.id for one in second if one.id not in firsts),
    )


def _differences(one: Score, two: Score) -> list[str]:
    """The known differences between two questions with one id; scores by other programs or earlier versions lack some digests."""
    digests = {"other words": (one.question, two.question), "other choices, answer or video": (one.content, two.content)}
    return [what for what, (before, after) in digests.items() if before and after and before != after]


def _by_id(scores: Sequence[Score]) -> dict[str, Score]:
    found = {one.id: one for one in scores}
    if len(found) < len(scores):
        twice = Counter(one.id for one in scores).most_common(1)[0][0]
        raise StoreError(f"duplicate id {twice!r} in the scores of one run: rescore that run with act2see score")
    return found


def _rates(pairs: Sequence[tuple[Score, Score]], seed: int) -> PairedRates:
    gained = sum(two.is_right and not one.is_right for one, two in pairs)
    lost = sum(one.is_right and not two.is_right for one, two in pairs)
    changes = [float(two.is_right) - float(one.is_right) for one, two in pairs]
    n = len(pairs)
    interval = bootstrap_interval(changes, [one.video for one, _ in pairs], seed)
    return PairedRates(
        n=n,
        first=round(sum(one.is_right for one, _ in pairs) / n, 4) if n else None,
        second=round(sum(two.is_right for _, two in pairs) / n, 4) if n else None,
        difference=round(sum(changes) / n, 4) if n else None,
        difference_95=None if interval is None else (interval[0], interval[1]),
        gained=gained,
        lost=lost,
        mcnemar_p=mcnemar(gained, lost),
    )


def _row(rates: PairedRates) -> dict[str, JSON]:
    return {one.name: getattr(rates, one.name) for one in fields(rates)}


# A run's scores


@dataclass(frozen=True, slots=True)
class _Side:
    run: Run
    scores: Sequence[Score]
    fingerprint: Mapping[str, JSON] | None

    @property
    def benchmark(self) -> str:
        """Its name. Raises `StoreError`."""
        with placed(str(self.run.folder / "run.json")):
            return read_text(self.run.config.get("benchmark"), "config.benchmark")

    def provenance(self, *, is_short: bool) -> dict[str, JSON]:
        """The fingerprint; with `is_short`, for runs of which not both have one, what run.json records."""
        if self.fingerprint is not None and not is_short:
            return {name: value for name, value in self.fingerprint.items() if name != "digest"}
        settings = {name: value for name, value in self.run.config.items() if name not in HOW_NOT_WHAT}
        return {"settings": {**settings, "seed": self.run.seed}, "versions": dict(self.run.versions)}


def _side(run: Run) -> _Side:
    folder = run.folder
    if run.command != "eval":
        raise ConfigError(f"{folder} is a run of {run.command!r}: only runs of act2see eval can be compared")
    rows = run.scores()
    if not rows:
        raise ConfigError(f"{folder} has no scores yet: finish it with act2see eval --resume, or score its traces with act2see score")
    summary = run.summary()
    fingerprint = summary.get("fingerprint") if isinstance(summary, dict) else None
    try:
        scores = [read_score(row, where) for where, row in rows]
    except StoreError as error:
        raise StoreError(f"{error}; rescore that run with act2see score") from error
    return _Side(run, _with_videos(run, scores), fingerprint if isinstance(fingerprint, dict) else None)


def _with_videos(run: Run, scores: Sequence[Score]) -> Sequence[Score]:
    """Each score with its video, looked up in the traces if missing. A question without a known video becomes its own cluster."""
    if all(one.video for one in scores):
        return scores
    videos = {trace.id: trace.video for _, trace in run.sketches([])}
    unknown = sum(not one.video and one.id not in videos for one in scores)
    if unknown:
        _log.warning("the video of %s questions in %s is unknown: each is treated as its own cluster", unknown, run.folder)
    return [one if one.video else replace(one, video=videos.get(one.id, f"of {one.id}")) for one in scores]
