"""The scripted teacher's turns: its reading of the frames, its calls, and the effect of each fault."""

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

from act2see.core import chat
from act2see.core.trace import Frame, Observation, Thought, Trace
from act2see.synthetic.dataset import Item, Kind
from act2see.synthetic.edits import Recolour, apply, prompt_of, shapes_of
from act2see.synthetic.hypothetical import Count, Hypothetical, Nearest, Seen, read, seen
from act2see.synthetic.questions import Question
from act2see.synthetic.spot_questions import SpotQuestion
from act2see.synthetic.teacher import reading, words
from act2see.synthetic.world import COLOURS, FRAME_RATE, PLACES, SHAPES, place_at

Fault = Literal[
    "none",
    "wrong_perception",
    "needless_call",
    "bad_query",
    "wrong_answer",
    "broken_format",
    "early_answer",
    "useless_call",
    "leak",
    "off_topic",
]
Broken = Literal["open_think", "own_frame", "no_answer", "tags_in_call", "open_call"]
"""Format faults: no `</think>`, a self-written `<frame>`, no answer, tags inside a call, an unclosed call."""

LOOKS_AGAIN: tuple[Fault, ...] = ("none", "wrong_answer", "broken_format")
"""With these faults, half of all misses lead to another retrieval (never to another generation); in all other cases the teacher concludes."""
MAX_CALLS = 2
"""After this many calls, the teacher admits a guess."""


def tool_for(kind: Kind) -> chat.Tool:
    """The tool for a kind of question."""
    tools: dict[Kind, chat.Tool] = {"hypothetical": "generate", "order": "clip", "flashes": "clip", "digit": "zoom"}
    return tools.get(kind, "retrieve")


def _tag_for(kind: Kind) -> str:
    """The tag of a call for a kind of question."""
    return "generate" if kind == "hypothetical" else "retrieve"


# One attempt


@dataclass(frozen=True, slots=True)
class Attempt:
    """The trace so far, the teacher's knowledge and its fault."""

    trace: Trace
    tools: tuple[chat.Tool, ...]
    item: Item
    fault: Fault
    seed: int

    def rng(self, what: object) -> random.Random:
        """A random number generator per purpose; deterministic when a trace is resumed."""
        return random.Random(f"{self.seed} {self.trace.id} {what}")

    @property
    def question(self) -> words.AnyQuestion:
        """The question with its answer."""
        return self.item.question

    @property
    def observations(self) -> list[Observation]:
        """The observations so far, errors included."""
        return list(self.trace.observations)

    @property
    def calls(self) -> int:
        """The number of calls so far, failed ones included."""
        return len(self.trace.calls)

    @property
    def can_call(self) -> bool:
        """Whether the tool for this kind of question is available."""
        return tool_for(self.question.kind) in self.tools

    def wrong_choice(self, *but: str) -> str:
        """A random wrong choice other than these."""
        return self.rng("wrong").choice([choice for choice in self.trace.choices if choice not in (self.question.answer, *but)])

    @property
    def broken(self) -> Broken | None:
        """The format fault, if any."""
        if self.fault != "broken_format":
            return None
        kinds: tuple[Broken, ...] = ("open_think", "own_frame", "no_answer")
        if self.question.kind != "static" and self.can_call:
            kinds += ("tags_in_call", "open_call")
        return self.rng("broken").choice(kinds)


@dataclass(frozen=True, slots=True)
class _Read:
    """The description of some frames, and the answer that they give; None if they do not show it."""

    said: str
    value: str | None


def turn(attempt: Attempt) -> str:
    """The text after the last observation, up to a closing tag or to the end."""
    observations, steps = attempt.observations, attempt.trace.steps
    rng = attempt.rng(f"turn {len(observations)}")
    if attempt.fault == "off_topic":
        return f"<think>{' '.join(rng.sample(words.WEATHER, 4))}</think><answer> {attempt.question.answer}</answer>"
    if not observations:
        return "<think>" + _begin(attempt, rng)
    before = next((step for step, after in itertools.pairwise(steps) if after is observations[-1]), None)
    if isinstance(before, Thought):  # the previous call was malformed
        value = _given(attempt, rng).value
        if value is None and attempt.can_call:
            return words.malformed(rng) + words.wish(rng, attempt.question) + _call(attempt, rng)
        return words.malformed(rng) + _end(attempt, rng, _Read("", value))
    return _go_on(attempt, rng, observations[-1])


def _begin(attempt: Attempt, rng: random.Random) -> str:
    """The first turn: a description of the given frames, then a call or the answer."""
    question, given = attempt.question, _given(attempt, rng)
    text = words.opening(rng, question) + given.said
    if attempt.broken == "own_frame":
        return text + f"<frame> {words.picture([_invented(attempt)])} </frame>"
    if attempt.fault == "needless_call" and isinstance(question, Question) and given.value is not None:
        sight = next(seconds for seconds in _times(attempt.trace.frames) if question.actor.is_there(seconds))
        return words.opening(rng, question) + words.needless_wish(rng, question, sight) + _call(attempt, rng)
    if not attempt.can_call or (given.value is not None and attempt.fault not in ("bad_query", "early_answer", "useless_call")):
        return text + _end(attempt, rng, _Read("", given.value))
    if attempt.fault == "early_answer":
        text += words.early(rng, question, question.answer)
    else:
        text += words.wish(rng, question)
    match attempt.broken:
        case "tags_in_call":
            tag, inner = _tag_for(question.kind), words.query(rng, question)
            return text + rng.choice((f"<{tag}> <think>{inner}</think> </{tag}>", f"<{tag}><{tag}> {inner} </{tag}>"))
        case "open_call":
            return text + _call(attempt, rng).rpartition("</")[0].rstrip()
        case _:
            return text + _call(attempt, rng)


def _go_on(attempt: Attempt, rng: random.Random, observation: Observation) -> str:
    """The turn after a call."""
    if attempt.fault == "useless_call":
        return f"{rng.choice(words.BLAND)}</think><answer> {attempt.question.answer}</answer>"
    if observation.frames:
        found = _read_frames(attempt, rng, observation.frames)
        may_look = isinstance(attempt.question, Question) and attempt.fault in LOOKS_AGAIN and attempt.calls < MAX_CALLS
        if found.value is None and may_look and rng.random() < 0.5:
            return found.said + words.wish(rng, attempt.question) + _call(attempt, rng)
    else:
        found = _Read(words.nothing_came(rng), None)
    if attempt.fault == "needless_call":
        found = _Read(found.said, attempt.question.answer)
    return _end(attempt, rng, found)


def _call(attempt: Attempt, rng: random.Random) -> str:
    tag = _tag_for(attempt.question.kind)
    inner = _bad_query(attempt) if attempt.fault == "bad_query" else words.query(rng, attempt.question)
    return f"<{tag}> {inner} </{tag}>"


def _bad_query(attempt: Attempt) -> str:
    """A query for something else, preferably something that exists, but never together with the target: its frame is a miss."""
    question, clip, rng = attempt.question, attempt.item.clip, attempt.rng("bad query")
    if isinstance(question, Hypothetical):
        named = {*shapes_of(question.edit), question.fact.shape if isinstance(question.fact, Nearest) else None}
        there = seen(clip, question.anchors[0])
        shape = rng.choice([thing[1] for thing in there if thing[1] not in named] or [shape for shape in SHAPES if shape not in named])
        return prompt_of(Recolour(shape, rng.choice([colour for colour in COLOURS if all(colour != thing[0] for thing in there)])), rng)
    if isinstance(question, SpotQuestion):
        return reading.bad_spot(question, clip, rng)
    actor = question.actor
    apart = [other for other in clip.actors if other.stop <= actor.start or actor.stop <= other.start]
    if question.asked == "shape":
        absent = [colour for colour in COLOURS if all(colour not in (other.colour, other.later_colour) for other in clip.actors)]
        return f"something {rng.choice([other.colour for other in apart] or absent)}"
    absent = [shape for shape in SHAPES if all(shape != other.shape for other in clip.actors)]
    return f"the {rng.choice([other.shape for other in apart] or absent)}"


def _end(attempt: Attempt, rng: random.Random, found: _Read) -> str:
    """The conclusion and the answer."""
    question, fault = attempt.question, attempt.fault
    value, text = found.value, found.said
    if fault in ("early_answer", "leak"):
        value = question.answer
    elif fault == "wrong_perception":
        value = attempt.wrong_choice()
        if found.value is None:  # nothing to misread: it invents an observation
            text += f" And yet I am sure to have seen {words.picture([_invented(attempt)])}."
    concluded = rng.choice(attempt.trace.choices) if value is None else value
    if fault == "leak":
        text += rng.choice((words.copied(rng, attempt.item.reasoning), words.credited(rng, question, concluded)))
    elif value is None:
        text += words.guess(rng, concluded)
    else:
        text += words.conclusion(rng, question, concluded)
    answered = attempt.wrong_choice(concluded) if fault == "wrong_answer" else concluded
    if attempt.broken == "no_answer":
        return f"{text}</think>"
    return f"{text}{'' if attempt.broken == 'open_think' else '</think>'}<answer> {answered}</answer>"


# Seeing


def _times(frames: Sequence[Frame]) -> list[float]:
    """The frames' timestamps, snapped to the clip's frame rate: containers round them."""
    return [round(frame.seconds * FRAME_RATE) / FRAME_RATE for frame in frames if frame.seconds is not None]


def _given(attempt: Attempt, rng: random.Random) -> _Read:
    """The reading of the initial frames: up to the first that answers; for a hypothetical question, the first that shows its shapes."""
    question, clip = attempt.question, attempt.item.clip
    times = _times(attempt.trace.frames)
    if isinstance(question, Hypothetical):
        whole = [t for t in times if apply(question.edit, clip, t) is not None] or times
        return _Read(words.frames(rng, [(t, tuple(seen(clip, t))) for t in whole[:1]]), None)
    if isinstance(question, SpotQuestion):
        text = words.frames(rng, [(t, tuple(seen(clip, t))) for t in times if question.kind != "digit" or t == times[0]])
        return _Read(text + words.unseen(rng, question), None)
    sight = next((number for number, t in enumerate(times) if question.actor.is_there(t)), None)
    read_times = times if sight is None else times[: sight + 1]
    said = words.frames(rng, [(t, _seen(attempt, question, t)) for t in read_times])
    return _Read(said + words.unseen(rng, question), None) if sight is None else _Read(said, question.answer)


def _read_frames(attempt: Attempt, rng: random.Random, frames: Sequence[Frame]) -> _Read:
    """The reading of a call's frames."""
    question = attempt.question
    if isinstance(question, Hypothetical):
        return _read_generated(attempt, rng, question, frames[0])
    if isinstance(question, SpotQuestion):
        value = reading.value_in(question, attempt.item.clip, frames)
        if value is None:
            return _Read(reading.said(rng, attempt.item.clip, question, frames) + words.unseen(rng, question), None)
        if attempt.fault == "wrong_perception":
            return _Read(reading.misread(rng, question), value)
        return _Read(reading.said(rng, attempt.item.clip, question, frames), value)
    times = _times(frames)
    said = words.frames(rng, [(t, _seen(attempt, question, t)) for t in times])
    if any(question.actor.is_there(t) for t in times):
        return _Read(said, question.answer)
    return _Read(said + ("" if attempt.fault in ("needless_call", "wrong_perception") else words.unseen(rng, question)), None)


def _seen(attempt: Attempt, question: Question, seconds: float) -> tuple[Seen, ...]:
    """The contents of a frame as the teacher sees them, with the target misread if that is the fault."""
    clip = attempt.item.clip
    misreads = attempt.fault == "wrong_perception"
    things = zip(clip.visible(seconds), seen(clip, seconds), strict=True)
    return tuple(_misread(attempt, question, thing) if misreads and actor == question.actor else thing for actor, thing in things)


def _misread(attempt: Attempt, question: Question, thing: Seen) -> Seen:
    """The target, changed to match a wrong choice."""
    wrong, place = attempt.wrong_choice(), ("colour", "shape", "place").index(question.asked)
    return cast("Seen", (*thing[:place], wrong, *thing[place + 1 :]))


def _read_generated(attempt: Attempt, rng: random.Random, question: Hypothetical, frame: Frame) -> _Read:
    """The reading of a generated picture: the true result of the edit at the anchor's time."""
    anchor = question.anchors[0] if frame.provenance is None else frame.provenance.anchor_seconds
    seconds = None if anchor is None else round(anchor * FRAME_RATE) / FRAME_RATE
    edited = None if seconds is None else apply(question.edit, attempt.item.clip, seconds)
    if attempt.fault == "bad_query" or edited is None or seconds is None:
        return _Read(" The picture that came back is of something else than I had in mind.", None)
    things = tuple(seen(edited, seconds))
    value = read(question.fact, things)
    if value not in attempt.trace.choices:
        return _Read(words.generated(rng, things) + " It does not settle the question.", None)
    if attempt.fault == "wrong_perception":
        things = _misread_fact(attempt, question, things)
    return _Read(words.generated(rng, things), value)


def _misread_fact(attempt: Attempt, question: Hypothetical, things: tuple[Seen, ...]) -> tuple[Seen, ...]:
    """The picture's contents, with just enough colours changed to give a wrong answer."""
    wrong, fact = attempt.wrong_choice(), question.fact
    if not isinstance(fact, Count):
        changed = ((*things[:n], (wrong, *thing[1:]), *things[n + 1 :]) for n, thing in enumerate(things))
        return next(made for made in changed if read(fact, made) == wrong)
    made = list(things)
    other = attempt.rng("other colour").choice([colour for colour in COLOURS if colour != fact.colour])
    while (surplus := int(read(fact, made) or 0) - int(wrong)) != 0:
        place = next((n for n, thing in enumerate(made) if (thing[0] == fact.colour) == (surplus > 0)), None)
        if place is None:  # all shapes already have the colour, and more are needed
            made.append((fact.colour, SHAPES[len(made) % len(SHAPES)], "middle"))
        else:
            made[place] = (other if surplus > 0 else fact.colour, *made[place][1:])
    return tuple(made)


def _invented(attempt: Attempt) -> Seen:
    """An invented observation: the target changed to match a wrong choice, or a random thing."""
    question, rng = attempt.question, attempt.rng("invented")
    if isinstance(question, Hypothetical):
        return rng.choice(list(COLOURS)), rng.choice(SHAPES), rng.choice(list(PLACES))
    if isinstance(question, SpotQuestion):
        return question.actors[0].colour, rng.choice(SHAPES), rng.choice(list(PLACES))
    actor = question.actor
    return _misread(attempt, question, (actor.colour_at(actor.start), actor.shape, place_at(actor, actor.start)))
