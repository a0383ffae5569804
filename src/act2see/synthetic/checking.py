"""Whether a picture of the synthetic world shows what a prompt describes, and the scripted teacher's reasoning about it: how a judge is taught."""

import random
from collections.abc import Sequence
from typing import assert_never

from act2see.synthetic.edits import Edit, Move, Recolour, Remove, Swap, shapes_of
from act2see.synthetic.hypothetical import Seen
from act2see.synthetic.questions import conclude
from act2see.synthetic.world import PLACE_WORDS
from act2see.trace import Step

YES, NO = "yes", "no"


def is_shown(edit: Edit, things: Sequence[Seen]) -> bool:
    """Whether a picture of these things is as the edit's prompt describes it, whatever else is in it."""
    match edit:
        case Recolour(shape, colour):
            return any(thing[:2] == (colour, shape) for thing in things)
        case Move(shape, place):
            return any(thing[1:] == (shape, place) for thing in things)
        case Remove(shape):
            return all(thing[1] != shape for thing in things)
        case Swap(shape, place, other, other_place):
            return {(shape, place), (other, other_place)} <= {thing[1:] for thing in things}
        case _:
            assert_never(edit)


def explain_check(rng: random.Random, edit: Edit, things: Sequence[Seen]) -> list[Step]:
    """Steps that say yes or no: what is there, then what is so of the shapes in question, in the words of the prompts."""
    named = shapes_of(edit)
    there = ", ".join(f"{colour} {shape}{'!' if shape in named else ''} {place}" for colour, shape, place in things) or "nothing"
    said = " ".join(_so(edit, shape, [thing for thing in things if thing[1] == shape]) for shape in named)
    return conclude(rng, f"<think>I see {there}. {said}", YES if is_shown(edit, things) else NO)


def _so(edit: Edit, shape: str, found: Sequence[Seen]) -> str:
    if not found:
        return f"There is no {shape}."
    if isinstance(edit, Remove):
        return f"There is a {shape}."
    facts = " and ".join(colour if isinstance(edit, Recolour) else PLACE_WORDS[place] for colour, _, place in found)
    return f"The {shape} is {facts}."
