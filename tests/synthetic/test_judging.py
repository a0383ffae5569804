"""The referee: the world's own drawing of an edit passes, the picture as it was and one with a wrong shape do not."""

import random
from dataclasses import replace
from typing import NamedTuple

import pytest
from PIL import Image

from act2see.synthetic.edits import EDITS, Edit, apply, random_edit, shapes_of
from act2see.synthetic.judging import Judged, judge, label_at
from act2see.synthetic.world import COLOURS, Clip, make_scene

SECONDS = 1.0


class Case(NamedTuple):
    edit: Edit
    before: Clip
    after: Clip


def a_case(kind: type[Edit], seed: int) -> Case:
    """An edit of a scene that shows something else too."""
    rng = random.Random(seed)
    while True:
        clip = make_scene(rng, unseen=True)
        edit = random_edit(rng, clip, SECONDS, kind, unseen=True)
        after = None if edit is None else apply(edit, clip, SECONDS)
        if edit is not None and after is not None and any(actor.shape not in shapes_of(edit) for actor in after.actors):
            return Case(edit, clip, after)


def others_of(case: Case) -> int:
    return sum(actor.shape not in shapes_of(case.edit) for actor in case.before.visible(SECONDS))


def judged(case: Case, picture: Image.Image) -> Judged:
    return judge(case.edit, case.before, case.after, SECONDS, picture)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", EDITS)
def test_the_worlds_own_drawing_of_an_edit_is_right(kind: type[Edit], seed: int) -> None:
    case = a_case(kind, seed)
    assert judged(case, case.after.draw(SECONDS)) == Judged(done=True, cleared=True, kept=others_of(case), others=others_of(case))


@pytest.mark.parametrize("kind", EDITS)
def test_the_picture_as_it_was_is_not_the_edited_one(kind: type[Edit]) -> None:
    case = a_case(kind, 7)
    found = judged(case, case.before.draw(SECONDS))
    assert not found.done
    assert found.kept == found.others == others_of(case)


def test_a_recoloured_bystander_is_not_kept() -> None:
    case = a_case(EDITS[0], 11)
    bystander = next(actor for actor in case.after.actors if actor.shape not in shapes_of(case.edit))
    other = next(colour for colour in COLOURS if colour != bystander.colour_at(SECONDS))
    actors = tuple(replace(actor, colour=other, later_colour=None) if actor is bystander else actor for actor in case.after.actors)
    found = judged(case, replace(case.after, actors=actors).draw(SECONDS))
    assert (found.done, found.cleared) == (True, True)
    assert found.kept == found.others - 1 == others_of(case) - 1


@pytest.mark.parametrize("kind", EDITS)
def test_a_coarse_picture_is_judged_like_a_fine_one(kind: type[Edit]) -> None:
    case = a_case(kind, 13)
    small = case.after.draw(SECONDS).resize((64, 64), Image.Resampling.BICUBIC)
    found = judged(case, small)
    assert found == Judged(done=True, cleared=True, kept=others_of(case), others=others_of(case))
    if kind is EDITS[0]:
        assert judged(case, small.resize((256, 256), Image.Resampling.BICUBIC)) == found


def test_a_label_is_what_is_drawn_or_nothing() -> None:
    clip = make_scene(random.Random(3), unseen=True)
    actor = clip.visible(SECONDS)[0]
    assert label_at(clip.draw(SECONDS), clip, actor, SECONDS) == (actor.shape, actor.colour_at(SECONDS))
    assert label_at(replace(clip, actors=()).draw(SECONDS), clip, actor, SECONDS) is None
