"""A language model takes a query apart, and many localisations vote on where it happens: TFVTG's second half. An option, off by default.

A query in `<retrieve>` is usually one event in few words, for which the localiser alone is enough. The rules of voting and combining are those of
the released code; the prompt is ours.
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
"""Their proposals are combined each with each, 3 to the power of this many. Our choice."""
_MAX_CHARACTERS = 300
_WHOLE_KEPT, _EVENT_KEPT, _COMBINED_KEPT = 7, 3, 2  # as released
_TOP = 3  # proposals of each localisation that vote, as released
_SHARPNESS = 0.6  # as released


@dataclass(frozen=True, slots=True)
class Decomposition:
    """A query in other words, and the single events that it is made of, in order of time, each in several wordings."""

    rewrites: tuple[str, ...] = ()
    events: tuple[tuple[str, ...], ...] = ()
    """Empty when the query is one event."""
    relation: Relation = "single"
    problem: str | None = None
    """Why the query was not taken apart although it was asked for, in one line."""


Decompose = Callable[[str], Decomposition]
Ask = Callable[[str], str]
"""A prompt to a language model's answer."""
Localise = Callable[[str], Sequence[Proposal]]
"""A text to the stretches of the video that fit it, best first."""

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
    """A `Decompose` that asks a language model. A reply that cannot be read is asked for once more; then the query stays whole, and says why."""

    def decompose(query: str) -> Decomposition:
        prompt = asked = PROMPT.format(query=json.dumps(query, ensure_ascii=False))
        for _ in range(2):
            try:
                return parse(ask(asked))
            except ValueError as error:
                problem = str(error)
                asked = prompt + _AGAIN.format(problem=problem)
        return Decomposition(problem=f"the query was searched for as it is: the language model's reply could not be used ({problem})")

    return decompose


def parse(reply: str) -> Decomposition:
    """The decomposition that a reply holds. Raises `ValueError` for anything but the JSON object asked for, which may stand in a code fence."""
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
    """The stretches that the localisations of all wordings agree on, best first. Their scores are votes, comparable among themselves only."""
    whole = [confident(localise(text))[:_TOP] for text in (query, *decomposition.rewrites)]
    # By rank: every wording's best before any wording's second.
    ballot = [found[rank] for rank in range(_TOP) for found in whole if rank < len(found)][:_WHOLE_KEPT]
    if decomposition.events:
        events = [_event(wordings, localise) for wordings in decomposition.events]
        ballot += vote(combine(events, decomposition.relation))[:_COMBINED_KEPT]
    votes = _votes(ballot)
    return [replace(ballot[n], score=votes[n]) for n in _ranked(votes)]


def _event(wordings: Sequence[str], localise: Localise) -> list[Proposal]:
    return vote([found for text in wordings for found in confident(localise(text))[:_TOP]])[:_EVENT_KEPT]


def confident(proposals: Sequence[Proposal]) -> list[Proposal]:
    """The proposals with scores as shares of the best one's.

    Where even that is not above 0, dividing would turn the order round, as it does in the released code: they are spread from 1 down to 0 instead.
    """
    if not proposals:
        return []
    highest, lowest = max(p.score for p in proposals), min(p.score for p in proposals)
    if highest > 0:
        return [replace(p, score=p.score / highest) for p in proposals]
    width = highest - lowest
    return [replace(p, score=(p.score - lowest) / width if width else 1.0) for p in proposals]


def vote(proposals: Sequence[Proposal]) -> list[Proposal]:
    """In order of how much confidence overlaps with each: the sum, over all and itself, of IoU^0.6 × confidence. Scores are kept."""
    return [proposals[n] for n in _ranked(_votes(proposals))]


def _ranked(votes: Sequence[float]) -> list[int]:
    return sorted(range(len(votes)), key=lambda n: -votes[n])


def _votes(proposals: Sequence[Proposal]) -> list[float]:
    return [sum(_overlap(one, other) ** _SHARPNESS * max(other.score, 0.0) for other in proposals) for one in proposals]


def _overlap(one: Proposal, other: Proposal) -> float:
    """Intersection over union of the whole stretches, the climbs before them included."""
    both = min(one.stop, other.stop) - max(one.dynamic_start, other.dynamic_start)
    union = max(one.stop, other.stop) - min(one.dynamic_start, other.dynamic_start)
    return max(0, both) / union


def combine(events: Sequence[Sequence[Proposal]], relation: Relation) -> list[Proposal]:
    """One stretch over all events, for every choice of a proposal each that goes with the relation; confidences are multiplied."""
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
