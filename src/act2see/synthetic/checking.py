"""Whether a synthetic picture matches a prompt, with scripted reasoning: the training data of the embedded judge."""

import random
from collections.abc import Sequence
from typing import assert_never

from act2see.core.trace import Step
from act2see.synthetic.edits import Edit, Move, Recolour, Remove, Swap, shapes_of
from act2see.synthetic.hypothetical import Seen
from act2see.synthetic.questions import conclude

YES, NO = "yes", "no"


def is_shown(edit: Edit, things: Sequence[Seen]) -> bool:
    """Whether a picture with these contents matches the edit's prompt, whatever else it shows."""
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
    """Reasoning that ends in yes or no: for each shape in the prompt, the target, the contents, and the shape as found.

    Target words are marked with `!` wherever they occur, which reduces comparison to copying: the shape's colour or place is marked or not. Small
    models learn this, but not whether two words are equal.
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
