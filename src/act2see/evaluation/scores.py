"""The score of every question of an evaluation, and the summary computed from the scores alone.

A score is a line of scores.jsonl. It contains no timings or other machine-dependent values: a run that was interrupted and resumed, used several
workers or was split into shards has the same scores and summary, byte for byte, as one that was not.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import numpy as np

from act2see.core.chat import letters
from act2see.core.errors import StoreError
from act2see.core.interfaces import Sample
from act2see.core.trace import Cost
from act2see.evaluation.statistics import share_interval
from act2see.storage.codec import JSON, Reader, optional, read_count, read_text, shown, tuple_of

Outcome = Literal["correct", "wrong", "no_answer", "truncated", "video_error", "tool_error", "backend_error", "judge_error", "internal_error"]
"""How a question ended: answered, silent, cut off, or ended by a failure that is not the model's: an internal error is act2see's, or a plug-in's.
Each question is exactly one of these."""
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
ERRORS: tuple[Outcome, ...] = tuple(outcome for outcome in OUTCOMES if outcome.endswith("_error"))
QUANTILES = (50, 90, 99)
_CALLS = (("made", "calls"), ("served", "served"), ("refused", "refused"))


def backend_problem(outcome: Outcome, error: str | None) -> str | None:
    """What is wrong with the backend, "" if nothing is; None where the question failed for another reason, before or besides asking it."""
    if outcome == "backend_error":
        return error or "it failed"
    return None if outcome in ERRORS else ""


@dataclass(frozen=True, slots=True)
class Score:
    """One question, how it ended, and what it took. What is not known of it, in a file from elsewhere, is as the defaults say."""

    id: str
    kind: str
    outcome: Outcome
    error: str | None = None
    number: int = 0
    """Index in the benchmark's order."""
    video: str = ""
    groups: tuple[str, ...] = ()
    content: str = ""
    """A digest of the choices in any order, the right answer and the video's name: the same id must mean the same question."""
    question: str = ""
    """A digest of its words, without what they may quote of an earlier answer."""
    calls: int = 0
    """Number of calls."""
    served: int = 0
    """Number of calls that returned a frame."""
    refused: int = 0
    """Number of calls, malformed ones included, that returned an error to the model."""
    frames: int = 0
    """Number of initial and inserted frames; 0 if the video could not be opened."""
    left_out: int = 0
    """Number of initial frames omitted by the frame limit."""
    tokens_in: int = 0
    tokens_out: int = 0
    options: int = 0
    """How many choices there are; 0 where it cannot be guessed, because there are none or the right one is not known."""
    guesses: tuple[str, ...] = ()
    """The ways of guessing that are right here; see `right_guesses`."""

    def row(self) -> dict[str, Any]:
        """The line of scores.jsonl."""
        return {name: getattr(self, name) for name in _READERS}

    @property
    def is_right(self) -> bool:
        """Whether the answer was correct. Everything else counts as wrong."""
        return self.outcome == "correct"


def read_score(row: object, where: str) -> Score:
    """The score in a line of scores.jsonl; fields of others in it are passed over. Raises `StoreError` with the place."""
    if not isinstance(row, dict):
        raise StoreError(f"{where}: {shown(row)} where an object is expected")
    for name in ("id", "kind", "outcome"):
        if name not in row:
            raise StoreError(f"{where}: the field {shown(name)} is missing")
    values: dict[str, Any] = {name: read(row[name], f"{where}: {name}") for name, read in _READERS.items() if name in row}
    return Score(**values)


def _read_outcome(value: object, where: str) -> Outcome:
    found = next((outcome for outcome in OUTCOMES if outcome == value), None)
    if found is None:
        raise StoreError(f"{where} is {shown(value)}; known are {', '.join(OUTCOMES)}")
    return found


_texts = tuple_of(read_text)
_OTHERS: Mapping[str, Reader[object]] = {"outcome": _read_outcome, "error": optional(read_text), "groups": _texts, "guesses": _texts}
_READERS = {one.name: _OTHERS.get(one.name) or (read_count if one.type is int else read_text) for one in fields(Score)}


def right_guesses(sample: Sample) -> tuple[int, tuple[str, ...]]:
    """How many choices there are to guess from, and which ways of guessing without a look are right: `always C`, `longest`, `shortest`.

    Of the longest and the shortest choices the first is meant. Nothing can be guessed where the answer is none of the choices.
    """
    if sample.answer not in sample.choices:
        return 0, ()
    lengths = [len(choice) for choice in sample.choices]
    guesses = {f"always {letter}": place for place, letter in enumerate(letters(len(lengths)))}
    guesses |= {"longest": lengths.index(max(lengths)), "shortest": lengths.index(min(lengths))}
    return len(lengths), tuple(name for name, place in guesses.items() if sample.choices[place] == sample.answer)


# The summary


def summarise_scores(scores: Iterable[Score]) -> dict[str, Any]:
    """Counts and rates, overall and by kind and group. Every question counts in the denominator, whatever its outcome.

    `accuracy_95` is `statistics.share_interval` with the videos as clusters: None where all questions share one.
    """
    everything = sorted(scores, key=lambda one: one.number)
    groups: dict[str, list[Score]] = {}
    for one in everything:
        for name in dict.fromkeys((one.kind, *one.groups)):
            groups.setdefault(name, []).append(one)
    named = {"all": everything} | {name: members for name, members in sorted(groups.items()) if name != "all"}
    outcomes = Counter(one.outcome for one in everything)
    return {
        "n": len(everything),
        "videos": len({one.video for one in everything}),
        "n_by_kind": {name: len(members) for name, members in sorted(groups.items())},
        "accuracy": {name: _share([one.is_right for one in members]) for name, members in named.items()},
        "accuracy_95": {name: share_interval([one.is_right for one in members], [one.video for one in members]) for name, members in named.items()},
        "call_rate": {name: _share([one.calls > 0 for one in members]) for name, members in named.items()},
        "outcomes": dict(sorted(outcomes.items())),
        "calls": {told: sum(getattr(one, name) for one in everything) for told, name in _CALLS},
        "tokens": {"in": sum(one.tokens_in for one in everything), "out": sum(one.tokens_out for one in everything)},
        "cost": {name: _spread([getattr(one, name) for one in everything if one.frames]) for name in ("tokens_in", "tokens_out", "frames")},
        **frames_left_out([one.left_out for one in everything]),
        **_baselines(everything, groups),
    }


def frames_left_out(counts: Iterable[int]) -> dict[str, JSON]:
    """Of how many questions not all initial frames were shown, and how many were not; nothing where all were."""
    found = [count for count in counts if count]
    return {"frames_left_out": {"questions": len(found), "frames": sum(found)}} if found else {}


def _baselines(everything: Sequence[Score], groups: Mapping[str, Sequence[Score]]) -> dict[str, JSON]:
    """Accuracy of the guessing baselines, over questions with choices; empty if there are none."""
    if not any(one.options for one in everything):
        return {}
    by_kind = {name: {"n": sum(one.options > 0 for one in members), **_guessed(members)} for name, members in sorted(groups.items())}
    return {"baselines": {"n": sum(one.options > 0 for one in everything), "ours": _guessed(everything), "by_kind": by_kind}}


def _guessed(members: Sequence[Score]) -> dict[str, float]:
    asked = [one for one in members if one.options]
    if not asked:
        return {}
    names = [f"always {letter}" for letter in letters(max(one.options for one in asked))]
    found = {name: sum(name in one.guesses for one in asked) / len(asked) for name in (*names, "longest", "shortest")}
    # Of two choices that say the same, either is right, so that random guessing is right more often than one time in `options`.
    found["random"] = sum(sum(guess.startswith("always ") for guess in one.guesses) / one.options for one in asked) / len(asked)
    return {name: round(share, 4) for name, share in found.items()}


def summarise_costs(costs: Iterable[Cost]) -> dict[str, Any]:
    """What of an answer's cost differs from one machine and one run to the next: seconds by stage, and the tokens that a cache held."""
    everything = list(costs)
    stages = sorted({stage for cost in everything for stage in cost.seconds})
    seconds = {stage: _spread([cost.seconds.get(stage, 0.0) for cost in everything]) for stage in stages}
    dollars = [cost.dollars for cost in everything if cost.dollars is not None]
    return {
        "n": len(everything),
        "seconds": {"all": _spread([cost.total_seconds for cost in everything]), **seconds},
        "tokens_reused": _spread([cost.tokens_reused for cost in everything]),
        **_flops(everything),
        "dollars": round(sum(dollars), 6) if dollars else None,
    }


def _flops(costs: Sequence[Cost]) -> dict[str, JSON]:
    """Spreads over the answers, in all and by part; null where the FLOPs of an answer are unknown. Nothing where no answer has any."""
    parts = sorted({part for cost in costs for part in cost.flops})
    if not parts:
        return {}

    def spread(values: Sequence[float | None]) -> JSON:
        known = [value for value in values if value is not None]
        return _spread(known) if len(known) == len(values) else None

    by_part = {part: spread([cost.flops.get(part, 0.0) for cost in costs]) for part in parts}
    return {"flops": {"all": spread([cost.total_flops for cost in costs]), **by_part}}


def _share(values: Sequence[bool]) -> float | None:
    return round(sum(values) / len(values), 4) if values else None


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    """Mean and percentiles; a percentile is always one of the values, so the result does not depend on their order."""
    if not values:
        return None
    ranked = np.percentile(values, QUANTILES, method="inverted_cdf").tolist()
    return {"mean": round(sum(values) / len(values), 4), **{f"p{name}": round(value, 4) for name, value in zip(QUANTILES, ranked, strict=True)}}
