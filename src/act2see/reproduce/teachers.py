"""The teachers of the reproduction: the scripted teacher in the words that the embedded model knows, with and without looks.

The scripted teacher has words of its own, which a model of 3.5 million parameters learns only in thousands of steps. A trace without a fault is
therefore written in the words of the embedded model's own training (`questions.explain`); one with a fault stays in the scripted teacher's.
"""

import random
from collections.abc import Generator as Yields
from collections.abc import Mapping, Sequence
from typing import Protocol

from act2see.core import chat
from act2see.core.errors import BackendError
from act2see.core.interfaces import Continuation
from act2see.core.protocol import STOPS
from act2see.core.trace import Cost, Frame, Observation, Step, Trace
from act2see.synthetic.dataset import Item, Place, item
from act2see.synthetic.edits import apply
from act2see.synthetic.hypothetical import GeneratedPicture, Hypothetical, explain_hypothetical, read, seen
from act2see.synthetic.questions import Look, Question, explain
from act2see.synthetic.teacher import ErrorRates, ScriptedTeacher
from act2see.synthetic.world import FRAME_RATE

_SECONDS = 0.001
"""Of a decoding, as the scripted teacher's: fixed, so that costs do not differ from run to run."""
_MADE = "the picture does not settle it: answer from what you have seen"


class _HasSeed(Protocol):
    @property
    def seed(self) -> int | None: ...


def rates_of(total: float) -> ErrorRates:
    """All nine faults at the same rate, `total` together."""
    return ErrorRates(*[total / 9] * 9)


class PlainTeacher(ScriptedTeacher):
    """The scripted teacher, with its traces without a fault in the words of `questions.explain`. A miss ends in an admitted guess."""

    faults = 0.0
    """Share of the attempts that draw a fault; not all can have the one that they draw."""

    def __init__(self, config: _HasSeed | None = None) -> None:
        super().__init__(config, rates=rates_of(self.faults))

    @property
    def made_with(self) -> Mapping[str, str]:
        """See `ScriptedTeacher.made_with`."""
        return {**super().made_with, "backend": f"scripted teacher, plain words, {self.faults:g} of the attempts with a fault"}

    def decode(self, trace: Trace, tools: Sequence[chat.Tool]) -> Yields[str, None, Continuation]:
        """See `ScriptedTeacher.decode`. Raises `BackendError` for kinds of questions that the embedded model does not know."""
        if self.fault_of(trace.id, tools) != "none":
            return (yield from super().decode(trace, tools))
        whole = plain_turn(trace, tools, self.seed)
        pieces = chat.render(trace.steps)
        begun = pieces[-1] if pieces and isinstance(pieces[-1], str) else ""
        if not whole.startswith(begun):
            raise BackendError(f"trace {trace.id!r} was started by another teacher, or with another seed: start it anew")
        text = whole.removeprefix(begun)
        if text:
            yield text
        asked = chat.question_text(trace.question, trace.choices)
        cost = Cost(len(asked.split()), len(text.split()), seconds={"decode": _SECONDS})
        return Continuation(text, "tag" if text.endswith(STOPS) else "end", cost)


class NoisyTeacher(PlainTeacher):
    """One attempt in four draws a fault."""

    faults = 0.25


class VeryNoisyTeacher(PlainTeacher):
    """Three attempts in four draw a fault."""

    faults = 0.75


class TextTeacher(PlainTeacher):
    """Never looks, whatever it is offered, and admits that it guesses: what a base model that calls no tool is trained on."""

    def decode(self, trace: Trace, tools: Sequence[chat.Tool]) -> Yields[str, None, Continuation]:
        """See `PlainTeacher.decode`."""
        return (yield from super().decode(trace, ()))


def plain_turn(trace: Trace, tools: Sequence[chat.Tool], seed: int) -> str:
    """The text after the trace's last observation, up to a closing tag or to the end. Raises `BackendError`."""
    place = Place.of(trace.id.partition("#")[0])
    if place is None:
        raise BackendError(f"the scripted teacher has no question {trace.id[:80]!r}: it knows the synthetic data set's")
    asked = item(place)
    rng = random.Random(f"{seed} {trace.id} plain")
    steps = _steps(rng, asked, list(trace.observations), tools)
    return str(chat.render(_after(steps, len(trace.observations)))[0])


def _steps(rng: random.Random, asked: Item, observations: list[Observation], tools: Sequence[chat.Tool]) -> list[Step]:
    """The whole scripted reasoning over what was observed so far, with one more call if none was made yet."""
    question = asked.question
    match question:
        case Question():
            pending = [Look(question.could_see[0])] if not observations else []
            return explain(rng, asked.clip, question, [*map(_look, observations), *pending], can_look="retrieve" in tools)
        case Hypothetical():
            return explain_hypothetical(rng, asked.clip, question, _picture(asked, question, observations) if "generate" in tools else None)
        case _:
            raise BackendError(f"question {asked.name!r} is of kind {question.kind}: use static, transient or hypothetical")


def _after(steps: Sequence[Step], observations: int) -> list[Step]:
    """The steps after as many observations, up to the next one."""
    rest = list(steps)
    for _ in range(observations):
        rest = rest[next(number for number, step in enumerate(rest) if isinstance(step, Observation)) + 1 :]
    end = next((number for number, step in enumerate(rest) if isinstance(step, Observation)), len(rest))
    return rest[:end]


def _look(observation: Observation) -> Look:
    frame = next((one for one in observation.frames if one.seconds is not None), None)
    return Look(None, observation.error) if frame is None else Look(_snapped(frame.seconds))


def _snapped(seconds: float | None) -> float:
    """A timestamp on the clip's frame rate: containers round it."""
    return round((seconds or 0.0) * FRAME_RATE) / FRAME_RATE


def _picture(asked: Item, question: Hypothetical, observations: Sequence[Observation]) -> GeneratedPicture | str:
    """What a generate call brought: the true result of the edit at the anchor's time; before the call, a placeholder."""
    if observations and observations[0].error is not None:
        return observations[0].error
    frame = observations[0].frames[0] if observations else Frame(asked.clip.draw(question.anchors[0]), None)
    anchor = frame.provenance.anchor_seconds if frame.provenance is not None else None
    seconds = question.anchors[0] if anchor is None else _snapped(anchor)
    edited = apply(question.edit, asked.clip, seconds)
    if edited is None:
        return _MADE
    things = seen(edited, seconds)
    return GeneratedPicture(frame, things) if read(question.fact, things) in question.choices else _MADE


__all__ = ["NoisyTeacher", "PlainTeacher", "TextTeacher", "VeryNoisyTeacher", "plain_turn", "rates_of"]
