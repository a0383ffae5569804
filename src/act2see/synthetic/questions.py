"""Questions about a clip, and scripted, human-like reasoning in varied words.

The wording does not reveal the kind: `What colour is the star?` is *static* if one of the 1 fps frames shows the star, else *transient*.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from act2see.core.trace import Answer, Frame, Observation, Retrieve, Step, Thought
from act2see.synthetic.world import COLOURS, PLACE_WORDS, PLACES, SHAPES, Actor, Clip, place_at

Asked = Literal["colour", "shape", "place"]
Kind = Literal["static", "transient"]

INPUT_FPS = 1.0
RETRIEVE_FPS = 3.0
"""The paper's frame rates of the input and of retrieval. A transient shape is on screen at the latter rate, but not at the former."""
CHOICES = 4

WORDINGS: dict[Asked, tuple[str, ...]] = {
    "colour": (
        "What colour is the {shape}?",
        "Which colour does the {shape} have?",
        "What is the colour of the {shape}?",
        "In which colour does the {shape} appear?",
    ),
    "shape": (
        "Which shape is {colour}?",
        "What shape is the {colour} thing?",
        "What is the shape of the {colour} object?",
        "Which shape appears in {colour}?",
    ),
    "place": (
        "Where is the {shape}?",
        "Where does the {shape} appear?",
        "In which part of the picture is the {shape}?",
        "Where can the {shape} be seen?",
    ),
}


@dataclass(frozen=True, slots=True)
class Question:
    """A multiple-choice question about one actor of a clip. `seen` and `could_see`: timestamps of the 1 fps and 3 fps frames that show it."""

    text: str
    asked: Asked
    actor: Actor
    choices: tuple[str, ...]
    answer: str
    seen: tuple[float, ...]
    could_see: tuple[float, ...]

    @property
    def kind(self) -> Kind:
        """static if the 1 fps frames suffice, else transient."""
        return "static" if self.seen else "transient"


def ask(rng: random.Random, clip: Clip) -> list[Question]:
    """All questions with a unique answer, in random order, with random wording and choices."""
    questions = []
    at_input, at_retrieve = clip.times(INPUT_FPS), clip.times(RETRIEVE_FPS)
    for actor in clip.actors:
        seen = tuple(t for t in at_input if actor.is_there(t))
        could_see = tuple(t for t in at_retrieve if actor.is_there(t))
        if not could_see:
            continue
        for asked in _askable(actor, clip):
            answer = {"colour": actor.colour, "shape": actor.shape, "place": actor.place}[asked]
            text = rng.choice(WORDINGS[asked]).format(shape=actor.shape, colour=actor.colour)
            choices = _choices(rng, asked, answer)
            questions.append(Question(text, asked, actor, choices, answer, seen, could_see))
    rng.shuffle(questions)
    return questions


def _askable(actor: Actor, clip: Clip) -> list[Asked]:
    others = [other for other in clip.actors if other is not actor]
    one_shape = all(other.shape != actor.shape for other in others)
    one_colour = all(actor.colour not in (other.colour, other.later_colour) for other in others)
    asked: list[Asked] = []
    if one_shape and actor.later_colour is None:
        asked.append("colour")
    if one_colour and actor.later_colour is None:
        asked.append("shape")
    if one_shape and actor.target is None:
        asked.append("place")
    return asked


def _choices(rng: random.Random, asked: Asked, answer: str) -> tuple[str, ...]:
    values: Sequence[str] = {"colour": list(COLOURS), "shape": SHAPES, "place": list(PLACES)}[asked]
    wrong = rng.sample([value for value in values if value != answer], CHOICES - 1)
    mixed = [answer, *wrong]
    rng.shuffle(mixed)
    return tuple(mixed)


# Scripted reasoning


@dataclass(frozen=True, slots=True)
class Look:
    """The result of a call in a scripted trace: the frame at `seconds`, or an error if that is None."""

    seconds: float | None
    error: str | None = None


def explain(rng: random.Random, clip: Clip, question: Question, looks: Sequence[Look] = (), *, can_look: bool = True) -> list[Step]:
    """Steps that answer the question: from the 1 fps frames if possible, else from the given looks, else by an admitted guess.

    If a look's frame does not show the target, the reasoning states so and continues with the next look. The guess is a random choice, never the
    truth: a model must not learn to assert what it cannot have seen.
    """
    text = wanted(rng, question)
    # Each frame is captioned first, with the target word marked: whether a frame shows the target is then a match between two words, which a small
    # model learns. A model that had to decide this from the pictures alone did not learn it.
    given = clip.times(INPUT_FPS)
    if question.seen:
        first = question.seen[0]
        text += _read(clip, question, [seconds for seconds in given if seconds <= first])
        return conclude(rng, text + _fact(rng, clip, question, first), question.answer)
    text += _read(clip, question, given)
    text += rng.choice((" None of these frames shows it.", " No frame that I was given shows it.", " I cannot see it in these frames."))
    steps: list[Step] = []
    for look in looks if can_look else ():
        text += rng.choice((" I should look again.", " I want to see it.", " I need another frame."))
        steps += [Thought(text), Retrieve(f" {query_for(rng, question)} ")]
        if look.seconds is None:
            steps.append(Observation(error=look.error))
            text = rng.choice((" No frame came back.", " I did not get a frame."))
            continue
        steps.append(Observation(frames=(Frame(clip.draw(look.seconds), look.seconds),)))
        text = _read(clip, question, [look.seconds])
        if question.actor.is_there(look.seconds):
            return [*steps, *conclude(rng, text + _fact(rng, clip, question, look.seconds), question.answer)]
        text += rng.choice((" This frame does not show it.", " It is not in this frame."))
    text += rng.choice((" I can only guess.", " So I have to guess."))
    return [*steps, *conclude(rng, text, rng.choice(question.choices))]


def wanted(rng: random.Random, question: Question) -> str:
    """The first sentence: the target, marked as in the captions, which reduces finding it to copying."""
    thing = f"the {question.actor.shape}!" if question.asked != "shape" else f"something {question.actor.colour}!"
    return "<think>" + rng.choice(("I look for {0}", "The question is about {0}", "I need to find {0}", "Let me find {0}")).format(thing)


def _read(clip: Clip, question: Question, seconds: Sequence[float]) -> str:
    """Captions of the frames, with the target marked: ` 0.0 seconds: blue ring left; 1.0 seconds: red star! top.`"""
    return f" {describe(clip, seconds, question)}."


def query_for(rng: random.Random, question: Question) -> str:
    """The query to the retriever: the target, never the answer."""
    if question.asked == "shape":
        return rng.choice(("something {0}", "the {0} thing", "a {0} shape", "the {0} shape")).format(question.actor.colour)
    return rng.choice(("the {0}", "a {0}", "the {0} appears", "a frame with the {0}")).format(question.actor.shape)


def _fact(rng: random.Random, clip: Clip, question: Question, seconds: float) -> str:
    actor = question.actor
    colour = actor.colour_at(seconds)
    place = f" {PLACE_WORDS[actor.place]}" if actor.target is None else ""
    start = rng.choice((" There it is", " I see it", " This frame shows it"))
    return f"{start}: {'an' if colour[0] in 'aeiou' else 'a'} {colour} {actor.shape}{place}."


def conclude(rng: random.Random, text: str, answer: str) -> list[Step]:
    """The last thought and the answer."""
    end = rng.choice((" So the answer is {}.", " The answer is {}.", " That makes it {}.")).format(answer)
    return [Thought(text + end + "</think>"), Answer(f" {answer}")]


# Captions: dense supervision for visual perception


def describe(clip: Clip, seconds: Sequence[float], question: Question | None = None) -> str:
    """One clause per frame: `0.0 seconds: red star top, blue ring left; 1.0 seconds: nothing`.

    With a question, its target word is marked: `red star! top`.
    """
    return "; ".join(f"{t:.1f} seconds: {_listing(clip, t, question)}" for t in seconds)


def _listing(clip: Clip, seconds: float, question: Question | None) -> str:
    asked = None if question is None else question.actor.colour if question.asked == "shape" else question.actor.shape
    there = [(actor.colour_at(seconds), actor.shape, place_at(actor, seconds)) for actor in clip.visible(seconds)]
    return ", ".join(" ".join(f"{word}!" if word == asked else word for word in thing) for thing in there) or "nothing"
