"""Edits of synthetic pictures, as prompts and as drawings: the training data of the embedded generator."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import assert_never

from act2see.synthetic.world import COLOURS, PLACE_WORDS, PLACES, ROOM, SHAPES, UNSEEN_PAIRS, Actor, Clip, make_clip, make_scene, place_at


@dataclass(frozen=True, slots=True)
class Recolour:
    """One shape in another colour."""

    shape: str
    colour: str


@dataclass(frozen=True, slots=True)
class Move:
    """One shape moved to the centre of another place."""

    shape: str
    place: str


@dataclass(frozen=True, slots=True)
class Remove:
    """One shape removed."""

    shape: str


@dataclass(frozen=True, slots=True)
class Swap:
    """Two shapes swapped. Each place is where the shape moves to."""

    shape: str
    place: str
    other: str
    other_place: str


Edit = Recolour | Move | Remove | Swap
EDITS: tuple[type[Edit], ...] = (Recolour, Move, Remove, Swap)


def shapes_of(edit: Edit) -> tuple[str, ...]:
    """The shapes that an edit changes; each must be on screen exactly once."""
    return (edit.shape, edit.other) if isinstance(edit, Swap) else (edit.shape,)


def prompt_of(edit: Edit, rng: random.Random) -> str:
    """A description of the edited picture, as image-to-image models expect: the target, not an instruction."""
    match edit:
        case Recolour(shape, colour):
            article = "an" if colour[0] in "aeiou" else "a"
            return rng.choice((f"{article} {colour} {shape}", f"the {colour} {shape}", f"the {shape} is {colour}"))
        case Move(shape, place):
            where = PLACE_WORDS[place]
            return rng.choice((f"the {shape} {where}", f"a {shape} {where}", f"the {shape} is {where}"))
        case Remove(shape):
            return rng.choice((f"no {shape}", f"there is no {shape}", f"without the {shape}"))
        case Swap(shape, place, other, other_place):
            return f"the {shape} {PLACE_WORDS[place]} and the {other} {PLACE_WORDS[other_place]}"
        case _:
            assert_never(edit)


def apply(edit: Edit, clip: Clip, seconds: float) -> Clip | None:
    """The clip that shows the edited picture at this time; None if a shape is missing or ambiguous, or if there is no room."""
    there = clip.visible(seconds)
    for shape in shapes_of(edit):
        if sum(actor.shape == shape for actor in there) != 1:
            return None

    def changed(actor: Actor) -> Actor | None:
        match edit:
            case Recolour(shape, colour):
                return replace(actor, colour=colour, later_colour=None, tint=None) if actor.shape == shape else actor
            case Move(shape, place):
                return _at(actor, place) if actor.shape == shape else actor
            case Remove(shape):
                return None if actor.shape == shape else actor
            case Swap(shape, place, other, other_place):
                return _at(actor, place) if actor.shape == shape else _at(actor, other_place) if actor.shape == other else actor
            case _:
                assert_never(edit)

    actors = tuple(made for actor in there if (made := changed(actor)) is not None)
    centres = [actor.centre(seconds) for actor in actors]
    if any(math.dist(one, two) < ROOM for number, one in enumerate(centres) for two in centres[:number]):
        return None
    return replace(clip, actors=actors)


def _at(actor: Actor, place: str) -> Actor:
    """The shape at rest in the centre of a place."""
    return replace(actor, place=place, target=None, sway=0.0)


def random_edit(rng: random.Random, clip: Clip, seconds: float, kind: type[Edit], *, unseen: bool = False) -> Edit | None:
    """A random edit of this kind that changes the picture; None if there is none. `unseen` allows colour-shape pairs that are not in training."""
    there = clip.visible(seconds)
    single = [actor for actor in there if sum(other.shape == actor.shape for other in there) == 1]
    rng.shuffle(single)
    make: dict[type[Edit], Callable[[Actor], Edit | None]] = {
        Recolour: lambda actor: Recolour(actor.shape, colour) if (colour := _other_colour(rng, actor, seconds, unseen=unseen)) else None,
        Move: lambda actor: Move(actor.shape, rng.choice([place for place in PLACES if place != place_at(actor, seconds)])),
        Remove: lambda actor: Remove(actor.shape),
        Swap: lambda actor: swap_of(actor, other, seconds) if (other := next((one for one in single if one is not actor), None)) else None,
    }
    for actor in single:
        edit = make[kind](actor)
        if edit is not None and apply(edit, clip, seconds) is not None:
            return edit
    return None


def swap_of(one: Actor, other: Actor, seconds: float) -> Swap:
    """The swap of two shapes at their current places."""
    return Swap(one.shape, place_at(other, seconds), other.shape, place_at(one, seconds))


def _other_colour(rng: random.Random, actor: Actor, seconds: float, *, unseen: bool) -> str | None:
    left = [colour for colour in COLOURS if colour != actor.colour_at(seconds) and (unseen or (colour, actor.shape) not in UNSEEN_PAIRS)]
    return rng.choice(left) if left else None


def absent_shape(rng: random.Random, clip: Clip, seconds: float) -> str:
    """A shape that is not on screen at this time."""
    there = {actor.shape for actor in clip.visible(seconds)}
    return rng.choice([shape for shape in SHAPES if shape not in there])


def random_prompts(rng: random.Random) -> tuple[Clip, float, list[tuple[Edit, str, Clip]]]:
    """A picture (a clip and a time) and edits of it: each with its prompt and the clip that shows the result at this time.

    Some prompts have no effect, because the picture already matches or the shape is missing: then nothing must change.
    """
    clip = make_scene(rng) if rng.random() < 0.75 else make_clip(rng)
    seconds = rng.uniform(0, clip.duration_seconds - 0.05)
    made: list[tuple[Edit, str, Clip]] = []
    # Moves are the hardest to learn.
    for kind in rng.choices(EDITS, [2 if kind in (Move, Swap) else 1 for kind in EDITS], k=4):
        edit = random_edit(rng, clip, seconds, kind)
        edited = apply(edit, clip, seconds) if edit is not None else None
        if edit is None or edited is None or rng.random() < 0.05:
            shape = absent_shape(rng, clip, seconds)
            edit = rng.choice((Recolour(shape, rng.choice(list(COLOURS))), Move(shape, rng.choice(list(PLACES))), Remove(shape)))
            edited = clip
        made.append((edit, prompt_of(edit, rng), edited))
    return clip, seconds, made
