"""Edits: what is named changes, all else stays as it is, and what cannot be made is not made."""

import random
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest

from act2see.synthetic.edits import EDITS, Edit, Move, Recolour, Remove, Swap, absent_shape, apply, prompt_of, random_edit, shapes_of
from act2see.synthetic.world import COLOURS, PLACE_WORDS, PLACES, SHAPES, UNSEEN_PAIRS, Actor, Clip, make_clip, make_scene, place_at

BOX = 36


class Case(NamedTuple):
    clip: Clip
    seconds: float
    edit: Edit
    edited: Clip


def cases(kind: type[Edit], seeds: int, *, unseen: bool = True) -> Iterator[Case]:
    for seed in range(seeds):
        rng = random.Random(seed)
        clip = make_scene(rng, unseen=unseen) if seed % 2 else make_clip(rng, unseen=unseen)
        seconds = rng.choice(clip.times(3.0))
        edit = random_edit(rng, clip, seconds, kind, unseen=unseen)
        if edit is not None:
            edited = apply(edit, clip, seconds)
            assert edited is not None
            yield Case(clip, seconds, edit, edited)


def named(edit: Edit, clip: Clip, seconds: float) -> dict[str, Actor]:
    found = [actor for actor in clip.visible(seconds) if actor.shape in shapes_of(edit)]
    assert len({actor.shape for actor in found}) == len(found)
    return {actor.shape: actor for actor in found}


@pytest.mark.parametrize("kind", EDITS)
def test_nothing_but_the_named_shapes_changes(kind: type[Edit]) -> None:
    found = list(cases(kind, 300))
    assert len(found) > 100
    for clip, seconds, edit, edited in found:
        kept, still = ([actor for actor in one.visible(seconds) if actor.shape not in shapes_of(edit)] for one in (clip, edited))
        assert kept == still
        assert len(edited.actors) == len(clip.visible(seconds)) - isinstance(edit, Remove)
        assert (edited.duration_seconds, edited.background, edited.noise_seed) == (clip.duration_seconds, clip.background, clip.noise_seed)
        before, after = named(edit, clip, seconds), named(edit, edited, seconds)
        for shape, was in before.items():
            is_now = after.get(shape)
            match edit:
                case Remove():
                    assert is_now is None
                case Recolour(_, colour):
                    assert is_now is not None
                    assert was.colour_at(seconds) != colour == is_now.colour_at(seconds)
                    assert is_now.centre(seconds) == was.centre(seconds)
                case Move(_, place):
                    assert is_now is not None
                    assert place_at(was, seconds) != place
                    assert is_now.centre(seconds) == PLACES[place]
                case Swap():
                    (other,) = set(before) - {shape}
                    assert is_now is not None
                    assert is_now.centre(seconds) == PLACES[place_at(before[other], seconds)]
            if is_now is not None:
                assert is_now.radius == was.radius
                assert isinstance(edit, Recolour) or is_now.colour_at(seconds) == was.colour_at(seconds)


@pytest.mark.parametrize("kind", EDITS)
def test_the_picture_changes_where_the_named_shapes_are_and_were_alone(kind: type[Edit]) -> None:
    for clip, seconds, edit, edited in cases(kind, 30):
        differs = (np.asarray(clip.draw(seconds)) != np.asarray(edited.draw(seconds))).any(axis=2)
        assert differs.any()
        for actor in [*named(edit, clip, seconds).values(), *named(edit, edited, seconds).values()]:
            x, y = (round(value) for value in actor.centre(seconds))
            differs[max(0, y - BOX) : y + BOX, max(0, x - BOX) : x + BOX] = False
        assert not differs.any()


STAR, RING = Actor("star", "red", "top", 25, 0.0, 9.0), Actor("ring", "blue", "left", 25, 0.0, 9.0)
FLASH = Actor("cross", "cyan", "bottom", 25, 2.0, 2.5)
CLIP = Clip(8.0, (STAR, RING, FLASH))
ALL_OF_STAR: tuple[Edit, ...] = (Recolour("star", "green"), Move("star", "right"), Remove("star"), Swap("star", "left", "ring", "top"))


@pytest.mark.parametrize("edit", ALL_OF_STAR)
def test_a_shape_that_is_missing_or_there_twice_cannot_be_edited(edit: Edit) -> None:
    second = Actor("star", "white", "middle", 25, 4.0, 9.0)
    assert apply(edit, CLIP, 1.0) is not None
    assert apply(edit, Clip(8.0, (RING,)), 1.0) is None
    assert apply(edit, Clip(8.0, (*CLIP.actors, second)), 5.0) is None
    assert apply(edit, Clip(8.0, (*CLIP.actors, second)), 1.0) is not None


def test_a_shape_is_edited_only_while_it_is_there_and_only_where_there_is_room() -> None:
    assert apply(Remove("cross"), CLIP, 1.0) is None
    assert apply(Remove("cross"), CLIP, 2.2) == Clip(8.0, (STAR, RING))
    assert apply(Move("star", "left"), CLIP, 1.0) is None
    assert apply(Move("star", "bottom"), CLIP, 1.0) is not None
    assert apply(Move("star", "bottom"), CLIP, 2.2) is None
    assert apply(Swap("star", "left", "cross", "top"), CLIP, 2.2) is None  # the ring stands there


def test_nothing_is_found_where_nothing_can_be_edited() -> None:
    twins = Clip(8.0, (STAR, Actor("star", "white", "bottom", 25, 0.0, 9.0)))
    for kind in EDITS:
        assert random_edit(random.Random(0), Clip(8.0, ()), 1.0, kind) is None
        assert random_edit(random.Random(0), twins, 1.0, kind) is None
    assert random_edit(random.Random(0), Clip(8.0, (STAR,)), 1.0, Swap) is None


def test_an_unseen_pair_is_made_only_where_it_is_allowed() -> None:
    def made(unseen: bool) -> set[tuple[str, str]]:
        return {
            (actor.colour_at(t), actor.shape) for kind in EDITS for _, t, _, edited in cases(kind, 400, unseen=unseen) for actor in edited.visible(t)
        }

    assert not made(False) & UNSEEN_PAIRS
    recoloured = {(edit.colour, edit.shape) for _, _, edit, _ in cases(Recolour, 400) if isinstance(edit, Recolour)}
    assert recoloured >= UNSEEN_PAIRS


def test_a_prompt_names_every_shape_and_what_is_new_and_fits_no_other_edit() -> None:
    edits: list[Edit] = [Remove(shape) for shape in SHAPES]
    edits += [Recolour(shape, colour) for shape in SHAPES for colour in COLOURS]
    edits += [Move(shape, place) for shape in SHAPES for place in PLACES]
    edits += [Swap(one, here, two, there) for one in SHAPES for two in SHAPES if one != two for here in PLACES for there in PLACES if here != there]
    meant: dict[str, Edit] = {}
    for edit in edits:
        new = {Recolour: (getattr(edit, "colour", ""),), Remove: ("no ", "without ")}.get(type(edit), ())
        for prompt in {prompt_of(edit, random.Random(seed)) for seed in range(12)}:
            assert all(shape in prompt for shape in shapes_of(edit))
            assert not new or any(word in prompt for word in new)
            if isinstance(edit, Move | Swap):
                assert f"{edit.shape} {PLACE_WORDS[edit.place]}" in prompt.replace(" is ", " ")
            if isinstance(edit, Swap):
                assert f"{edit.other} {PLACE_WORDS[edit.other_place]}" in prompt
            assert "a orange" not in prompt
            assert meant.setdefault(prompt, edit) == edit


def test_an_absent_shape_is_not_on_screen() -> None:
    found = {absent_shape(random.Random(seed), CLIP, 2.2) for seed in range(50)}
    assert found == set(SHAPES) - {"star", "ring", "cross"}
    assert "cross" in {absent_shape(random.Random(seed), CLIP, 1.0) for seed in range(50)}
