"""Query decomposition by a language model, and voting over the localisations of its parts: TFVTG's second half. Off by default.

A query in `<retrieve>` is usually a single event in a few words, for which the localiser alone suffices. Voting and combination follow the
released code; the prompt is ours.
"""

import itertools
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast, get_args

from act2see.tools.retrievers.grounding import Proposal

Relation = Literal["single", "simultaneous", "sequential"]

MAX_REWRITES = 3
MAX_EVENTS = 4
"""All combinations of their proposals are scored: 3 to the power of the number of events. Our choice."""
_MAX_CHARACTERS = 300
_WHOLE_KEPT, _EVENT_KEPT, _COMBINED_KEPT = 7, 3, 2  # as released
_TOP = 3  # proposals per localisation that vote, as released
_SHARPNESS = 0.6  # as released


@dataclass(frozen=True, slots=True)
class Decomposition:
    """Rewrites of a query, and its events in temporal order, each in several wordings."""

    rewrites: tuple[str, ...] = ()
    events: tuple[tuple[str, ...], ...] = ()
    """Empty for a query with a single event."""
    relation: Relation = "single"
    problem: str | None = None
    """Why decomposition failed, in one line."""


Decompose = Callable[[str], Decomposition]
Ask = Callable[[str], str]
"""Maps a prompt to a language model's reply."""
Localise = Callable[[str], Sequence[Proposal]]
"""Maps a text to the segments of the video that match it, best first."""

PROMPT = """\
Somebody searches a video for: {query}

Prepare the search. Reply with one JSON object and nothing else, with exactly these keys:
"relation": "single" if one thing is searched for; "sequential" if several events happen one after the other; "simultaneous" if at the same time.
"rewrites": a list of up to 3 sentences that each say the whole query in other words.
"events": for "single" an empty list; else a list of 2 to 4 events in order of time, each a list of up to 3 wordings of that one event.
Name what can be seen. Add nothing that the query does not say.
"""
_AGAIN = "\nYour last reply could not be used: {problem}. Reply with the JSON object alone."


def decomposer(ask: Ask) -> Decompose:
    """A `Decompose` that uses a language model. Retries once if the reply cannot be parsed; then returns the query whole, with `problem` set."""

    def decompose(query: str) -> Decomposition:
        prompt = first_prompt = PROMPT.format(query=json.dumps(query, ensure_ascii=False))
        for _ in range(2):
            try:
                return parse(ask(prompt))
            except ValueError as error:
                problem = str(error)
                prompt = first_prompt + _AGAIN.format(problem=problem)
        return Decomposition(problem=f"query not decomposed: the language model's reply could not be used ({problem})")

    return decompose


def parse(reply: str) -> Decomposition:
    """Parse a reply: the JSON object that `PROMPT` requests, optionally in a code fence. Raises `ValueError` for anything else."""
    fenced = re.fullmatch(r"\s*```(?:json)?\n(.*)\n```\s*", reply, re.DOTALL)
    try:
        read = json.loads(fenced.group(1) if fenced else reply)
    except (ValueError, RecursionError):
        raise ValueError("it is no JSON") from None
    if not isinstance(read, dict) or set(read) != {"relation", "rewrites", "events"}:
        raise ValueError('it is no object with the keys "relation", "rewrites" and "events" alone')
    relation = read["relation"]
    if relation not in get_args(Relation):
        raise ValueError(f'"relation" is none of {", ".join(get_args(Relation))}')
    rewrites = _wordings(read["rewrites"], "rewrites")
    events = read["events"]
    if not isinstance(events, list) or not (len(events) == 0 if relation == "single" else 2 <= len(events) <= MAX_EVENTS):
        raise ValueError(f'"events" is no list of 2 to {MAX_EVENTS} events, or an empty one for "single"')
    return Decomposition(rewrites, tuple(_wordings(event, "events", least=1) for event in events), cast(Relation, relation))


def _wordings(value: object, key: str, *, least: int = 0) -> tuple[str, ...]:
    if not isinstance(value, list) or not least <= len(value) <= MAX_REWRITES:
        raise ValueError(f'"{key}" does not hold lists of {least} to {MAX_REWRITES} texts')
    for text in value:
        if not isinstance(text, str) or not text.strip() or len(text) > _MAX_CHARACTERS:
            raise ValueError(f'"{key}" holds something that is no text of 1 to {_MAX_CHARACTERS} characters')
    return tuple(text.strip() for text in value)


def ground(query: str, decomposition: Decomposition, localise: Localise) -> list[Proposal]:
    """The segments on which the localisations of all wordings agree, best first. Scores are votes, comparable only with each other."""
    whole = [confident(localise(text))[:_TOP] for text in (query, *decomposition.rewrites)]
    # By rank: the best of every wording before the second of any.
    ballot = [found[rank] for rank in range(_TOP) for found in whole if rank < len(found)][:_WHOLE_KEPT]
    if decomposition.events:
        events = [_event(wordings, localise) for wordings in decomposition.events]
        ballot += vote(combine(events, decomposition.relation))[:_COMBINED_KEPT]
    votes = _votes(ballot)
    return [replace(ballot[n], score=votes[n]) for n in _ranked(votes)]


def _event(wordings: Sequence[str], localise: Localise) -> list[Proposal]:
    return vote([found for text in wordings for found in confident(localise(text))[:_TOP]])[:_EVENT_KEPT]


def confident(proposals: Sequence[Proposal]) -> list[Proposal]:
    """The proposals with scores relative to the best one's.

    If the best score is not positive, dividing by it would reverse the order, as it does in the released code; the scores are scaled to 1…0 instead.
    """
    if not proposals:
        return []
    highest, lowest = max(p.score for p in proposals), min(p.score for p in proposals)
    if highest > 0:
        return [replace(p, score=p.score / highest) for p in proposals]
    width = highest - lowest
    return [replace(p, score=(p.score - lowest) / width if width else 1.0) for p in proposals]


def vote(proposals: Sequence[Proposal]) -> list[Proposal]:
    """Sort proposals by votes: the sum of IoU^0.6 × confidence over all proposals, itself included. Scores are unchanged."""
    return [proposals[n] for n in _ranked(_votes(proposals))]


def _ranked(votes: Sequence[float]) -> list[int]:
    return sorted(range(len(votes)), key=lambda n: -votes[n])


def _votes(proposals: Sequence[Proposal]) -> list[float]:
    return [sum(_overlap(one, other) ** _SHARPNESS * max(other.score, 0.0) for other in proposals) for one in proposals]


def _overlap(one: Proposal, other: Proposal) -> float:
    """Intersection over union of the segments, including the rise before them."""
    both = min(one.stop, other.stop) - max(one.dynamic_start, other.dynamic_start)
    union = max(one.stop, other.stop) - min(one.dynamic_start, other.dynamic_start)
    return max(0, both) / union


def combine(events: Sequence[Sequence[Proposal]], relation: Relation) -> list[Proposal]:
    """One segment per combination of the events' proposals that satisfies the relation: their hull, with the product of their confidences."""
    combined = []
    for chosen in itertools.product(*events):
        if relation == "sequential" and any(after.dynamic_start < before.stop for before, after in itertools.pairwise(chosen)):
            continue
        if relation == "simultaneous" and max(p.dynamic_start for p in chosen) > min(p.stop for p in chosen):
            continue
        combined.append(
            Proposal(
                start=min(p.start for p in chosen),
                stop=max(p.stop for p in chosen),
                dynamic_start=min(p.dynamic_start for p in chosen),
                score=math.prod(p.score for p in chosen),
            )
        )
    return combined
