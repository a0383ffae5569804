"""Whether a picture of the synthetic world shows what a prompt describes, and the scripted teacher's reasoning about it: how a judge is taught."""

import random
from collections.abc import Sequence
from typing import assert_never

from act2see.core.trace import Step
from act2see.synthetic.edits import Edit, Move, Recolour, Remove, Swap, shapes_of
from act2see.synthetic.hypothetical import Seen
from act2see.synthetic.questions import conclude

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
    """Steps that say yes or no, for each shape that the prompt is about: what is looked for, what is there, and that shape as it is there.

    The words that are looked for are marked where they are found, so that comparing is repeating what stood before: the shape's colour or place has
    its mark, or has not. Small models learn that; whether two words are the same they do not.
    """
    said = " ".join(_looked_for(edit, shape, things) for shape in shapes_of(edit))
    return conclude(rng, f"<think>{said}", YES if is_shown(edit, things) else NO)


def _looked_for(edit: Edit, shape: str, things: Sequence[Seen]) -> str:
    match edit:
        case Recolour(_, colour):
            wanted, start = {colour, shape}, f"{colour}! {shape}!"
        case Move(_, place):
            wanted, start = {shape, place}, f"{shape}! {place}!"
        case Swap(first, place, _, other_place):
            where = place if shape == first else other_place
            wanted, start = {shape, where}, f"{shape}! {where}!"
        case Remove():
            wanted, start = {shape}, f"no {shape}!"
        case _:
            assert_never(edit)
    words = [" ".join(f"{word}!" if word in wanted else word for word in thing) for thing in things]
    found = [said for said, thing in zip(words, things, strict=True) if thing[1] == shape]
    return f"I look for {start}: {', '.join(words) or 'nothing'}. There: {', '.join(found) or 'nothing'}."
