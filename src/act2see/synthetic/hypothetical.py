"""Counterfactual questions: *if the star were on the left, what colour would the rightmost shape be?* The edited picture answers them.

The answer is the same for every frame that shows the question's shapes, once edited, and differs from the answer in each of these frames unedited.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, assert_never

from act2see.core.trace import Frame, Generate, Observation, Step, Thought
from act2see.synthetic.edits import EDITS, Edit, Move, Recolour, Remove, Swap, apply, prompt_of, random_edit, shapes_of, swap_of
from act2see.synthetic.questions import CHOICES, INPUT_FPS, RETRIEVE_FPS, conclude
from act2see.synthetic.world import COLOURS, PLACE_WORDS, PLACES, UNSEEN_PAIRS, Clip, make_scene, place_at

Side = Literal["leftmost", "rightmost", "highest", "lowest"]
SIDES: tuple[Side, ...] = ("leftmost", "rightmost", "highest", "lowest")
Seen = tuple[str, str, str]
"""A shape in a picture: its colour, shape and place."""


@dataclass(frozen=True, slots=True)
class Extreme:
    """The colour of the outermost shape on one side."""

    side: Side


@dataclass(frozen=True, slots=True)
class Nearest:
    """The colour of the shape that is nearest to a given one."""

    shape: str


@dataclass(frozen=True, slots=True)
class Count:
    """The number of shapes of a colour."""

    colour: str


Fact = Extreme | Nearest | Count


@dataclass(frozen=True, slots=True)
class GeneratedPicture:
    """A generated picture in a scripted trace, and its contents."""

    frame: Frame
    shows: Sequence[Seen]


@dataclass(frozen=True, slots=True)
class Hypothetical:
    """A multiple-choice question about an edited picture. `anchors` are the timestamps of the 3 fps frames that can be edited."""

    text: str
    fact: Fact
    edit: Edit
    choices: tuple[str, ...]
    answer: str
    anchors: tuple[float, ...]

    @property
    def kind(self) -> Literal["hypothetical"]:
        """The kind in reports."""
        return "hypothetical"

    @property
    def asked(self) -> str:
        """The type of fact that the question asks for."""
        match self.fact:
            case Extreme():
                return "colour"
            case Nearest():
                return "nearest"
            case Count():
                return "count"
            case _:
                assert_never(self.fact)


def seen(clip: Clip, seconds: float) -> list[Seen]:
    """The contents of a picture, in reading order."""
    return [(actor.colour_at(seconds), actor.shape, place_at(actor, seconds)) for actor in clip.visible(seconds)]


def read(fact: Fact, things: Sequence[Seen]) -> str | None:
    """The value of a fact, as the text of a choice; None if it is ambiguous."""
    match fact:
        case Count(colour):
            return str(sum(colour == thing[0] for thing in things))
        case Extreme() | Nearest():
            found = _found(fact, things)
            return None if found is None else found[0]
        case _:
            assert_never(fact)


def _found(fact: Extreme | Nearest, things: Sequence[Seen]) -> Seen | None:
    """The thing with the lowest rank; None if there is none or a tie."""
    numbers = [number for number in _numbers(fact, things) if number is not None]
    if not numbers or numbers.count(min(numbers)) > 1:
        return None
    return things[_numbers(fact, things).index(min(numbers))]


def _numbers(fact: Fact, things: Sequence[Seen]) -> list[int | None]:
    """A rank per thing: its running count, or its distance from the reference (1 to 3); None if it does not take part."""
    match fact:
        case Count(colour):
            return [sum(other[0] == colour for other in things[: place + 1]) if thing[0] == colour else None for place, thing in enumerate(things)]
        case Extreme(side):
            axis = 0 if side in ("leftmost", "rightmost") else 1
            steps = sorted({place[axis] for place in PLACES.values()}, reverse=side in ("rightmost", "lowest"))
            return [1 + steps.index(PLACES[thing[2]][axis]) for thing in things]
        case Nearest(shape):
            here = [thing for thing in things if thing[1] == shape]
            if len(here) != 1:
                return [None] * len(things)
            return [None if thing is here[0] else 1 + _GAPS.index(_gap(thing[2], here[0][2])) for thing in things]
        case _:
            assert_never(fact)


def _gap(one: str, other: str) -> float:
    return round(math.dist(PLACES[one], PLACES[other]), 3)


_GAPS = sorted({_gap(one, other) for one in PLACES for other in PLACES if one != other})


# Asking


def ask_hypothetical(rng: random.Random, *, unseen: bool = False, seconds: tuple[float, float] = (4.0, 12.0)) -> tuple[Clip, Hypothetical]:
    """A clip and a question about it. The kind of edit, the fact and the count are drawn before the clip."""
    drawn = _drawn(rng)
    while True:
        clip = make_scene(rng, unseen=unseen, seconds=seconds)
        question = _question(rng, clip, drawn, unseen=unseen)
        if question is not None:
            return clip, question


def ask_more(rng: random.Random, clip: Clip, tries: int) -> list[Hypothetical]:
    """Further questions about a clip: those of `tries` random draws, made independently of the clip, that fit it."""
    asked = (_question(rng, clip, _drawn(rng), unseen=False) for _ in range(tries))
    return [question for question in asked if question is not None]


@dataclass(frozen=True, slots=True)
class _Drawn:
    """The topic of a question, drawn before the clip: the questions that a clip allows leak information about its content."""

    kind: type[Edit]
    about: str
    count: str | None


def _drawn(rng: random.Random) -> _Drawn:
    kind = rng.choice(EDITS)
    about = rng.choice(_ABOUT[kind])
    return _Drawn(kind, about, str(rng.randint(*_COUNTS[about])) if about in _COUNTS else None)


_COUNTS = {"new": (1, 3), "old": (0, 2)}
_ABOUT: dict[type[Edit], tuple[str, ...]] = {
    Recolour: ("new", "old"),
    Move: ("extreme", "extreme", "nearest"),
    Remove: ("extreme", "old"),
    Swap: ("extreme",),
}


def _question(rng: random.Random, clip: Clip, drawn: _Drawn, *, unseen: bool) -> Hypothetical | None:
    times = clip.times(RETRIEVE_FPS)
    moment = rng.choice(times)
    edit = random_edit(rng, clip, moment, drawn.kind, unseen=unseen)
    if edit is None:
        return None
    fact = _fact(rng, clip, moment, edit, drawn.about)
    named = shapes_of(edit)
    anchors = tuple(t for t in times if {actor.shape for actor in clip.visible(t)} >= set(named))
    # A removed shape must be visible throughout: otherwise an unedited frame would answer the question. Swapped places must be visible at 1 fps.
    if (isinstance(edit, Remove) and len(anchors) < len(times)) or (isinstance(edit, Swap) and not any(t in anchors for t in clip.times(INPUT_FPS))):
        return None
    before = {read(fact, seen(clip, t)) for t in anchors}
    edited = [apply(edit, clip, t) for t in anchors]
    after = {read(fact, seen(made, t)) if made is not None else None for made, t in zip(edited, anchors, strict=True)}
    answer = next(iter(after))
    if len(after) != 1 or answer is None or answer in before or drawn.count not in (None, answer):
        return None
    if isinstance(edit, Swap) and any(_swapped(clip, edit, t) != edit for t in anchors):
        return None  # one of the shapes moves or is replaced later
    choices = _choices(rng, fact, answer, before, seen(clip, moment))
    return Hypothetical(_premise(rng, edit) + _wording(rng, fact), fact, edit, choices, answer, anchors)


def _swapped(clip: Clip, edit: Swap, seconds: float) -> Swap:
    """The swap of the same two shapes at another time."""
    there = {actor.shape: actor for actor in clip.visible(seconds)}
    return swap_of(there[edit.shape], there[edit.other], seconds)


def _fact(rng: random.Random, clip: Clip, seconds: float, edit: Edit, about: str) -> Fact:
    match about:
        case "new" if isinstance(edit, Recolour):
            return Count(edit.colour)
        case "old":
            return Count(next(actor.colour_at(seconds) for actor in clip.visible(seconds) if actor.shape == edit.shape))
        case "nearest":
            return Nearest(edit.shape)
        case _:
            return Extreme(rng.choice(SIDES))


def _choices(rng: random.Random, fact: Fact, answer: str, before: set[str | None], things: Sequence[Seen]) -> tuple[str, ...]:
    """The answer, the answers of the unedited picture, then other values in the picture, so that elimination does not reveal the answer."""
    match fact:
        case Count():
            values, there = [str(number) for number in range(CHOICES)], []
        case Extreme() | Nearest():
            values, there = list(COLOURS), [thing[0] for thing in things]
        case _:
            assert_never(fact)
    rng.shuffle(values)
    rng.shuffle(there)
    first = sorted(value for value in before if value is not None)
    mixed = list(dict.fromkeys([answer, *first, *there, *values]))[:CHOICES]
    rng.shuffle(mixed)
    return tuple(mixed)


def _premise(rng: random.Random, edit: Edit) -> str:
    match edit:
        case Recolour(shape, colour):
            return rng.choice((f"If the {shape} were {colour}, ", f"Suppose the {shape} was {colour}: ", f"With the {shape} in {colour}, "))
        case Move(shape, place):
            where = PLACE_WORDS[place]
            return rng.choice((f"If the {shape} were {where}, ", f"Suppose the {shape} was {where}: ", f"With the {shape} {where}, "))
        case Remove(shape):
            return rng.choice((f"If there were no {shape}, ", f"Suppose there was no {shape}: ", f"Without the {shape}, "))
        case Swap(shape, _, other, _):
            both = f"the {shape} and the {other}"
            return rng.choice((f"If {both} changed places, ", f"Suppose {both} changed places: ", f"With {both} in each other's place, "))
        case _:
            assert_never(edit)


def _wording(rng: random.Random, fact: Fact) -> str:
    match fact:
        case Extreme(side):
            return rng.choice((f"what colour would the {side} shape be?", f"which colour would the {side} one have?"))
        case Nearest(shape):
            return rng.choice((f"what colour would be nearest to the {shape}?", f"what colour would the shape nearest to the {shape} have?"))
        case Count(colour):
            return rng.choice((f"how many shapes would be {colour}?", f"how many {colour} shapes would there be?"))
        case _:
            assert_never(fact)


# Scripted reasoning


def explain_hypothetical(rng: random.Random, clip: Clip, question: Hypothetical, generated: GeneratedPicture | str | None) -> list[Step]:
    """Steps that answer the question. `generated`: the generated picture, the error in its place, or None if there is no generator.

    The conclusion follows the picture's actual contents, even if it does not match the prompt. Without a picture the answer is an admitted guess,
    never the truth, as in `questions.explain`.
    """
    text = "<think>" + rng.choice(("This is not so in the video.", "This never happened.", "The video does not show this."))
    if isinstance(question.edit, Swap):
        text += _where_they_are(clip, question.edit, question.anchors)
    steps: list[Step] = []
    if generated is not None:
        text += rng.choice((" I have to imagine it.", " I want to see what it would look like.", " I need a picture of it."))
        steps += [Thought(text), Generate(f" {prompt_of(question.edit, rng)} ")]
        if not isinstance(generated, str):
            said = f" {listing(question.fact, generated.shows)}. {_reading(question.fact, generated.shows)}"
            answer = read(question.fact, generated.shows)
            assert answer in question.choices
            return [*steps, Observation(frames=(generated.frame,)), *conclude(rng, said, answer)]
        steps.append(Observation(error=generated))
        text = rng.choice((" No picture came back.", " I did not get a picture."))
    text += rng.choice((" I can only guess.", " So I have to guess."))
    return [*steps, *conclude(rng, text, rng.choice(question.choices))]


def _where_they_are(clip: Clip, edit: Swap, anchors: Sequence[float]) -> str:
    """The places of the two shapes in the first given frame that shows both."""
    given = next(t for t in clip.times(INPUT_FPS) if t in anchors)
    things = ", ".join(f"{colour} {shape}{'!' if shape in shapes_of(edit) else ''} {place}" for colour, shape, place in seen(clip, given))
    return f" {given:.1f} seconds: {things}. The {edit.shape} is {PLACE_WORDS[edit.other_place]}, the {edit.other} is {PLACE_WORDS[edit.place]}."


def listing(fact: Fact, things: Sequence[Seen]) -> str:
    """A picture's contents, with ranks: `red! star top 1, blue ring left, red! cross right 2` when counting red shapes.

    For `Extreme` and `Nearest`, the number is the distance from the reference, and the lowest number is the answer.
    """
    start = ""
    if isinstance(fact, Nearest):
        start = "".join(f"The {shape} is {PLACE_WORDS[place]}: " for _, shape, place in things if shape == fact.shape)
    words = []
    for (colour, shape, place), number in zip(things, _numbers(fact, things), strict=True):
        mark = "!" if number is not None and isinstance(fact, Count) else ""
        words.append(f"{colour}{mark} {shape} {place}" + (f" {number}" if number is not None else ""))
    return start + (", ".join(words) or "nothing")


def _reading(fact: Fact, things: Sequence[Seen]) -> str:
    if isinstance(fact, Count):
        return f"I count {read(fact, things)} {fact.colour}."
    found = _found(fact, things)
    assert found is not None
    asked = f"The {fact.side}" if isinstance(fact, Extreme) else f"Nearest to the {fact.shape}"
    return f"{asked} is the {found[0]} {found[1]}."


def is_unseen(question: Hypothetical) -> bool:
    """Whether the edit creates a colour-shape pair that never occurs in training."""
    return isinstance(question.edit, Recolour) and (question.edit.colour, question.edit.shape) in UNSEEN_PAIRS
