"""Whether a picture shows what a prompt describes: by hand, against the world's own edits, and as the teacher puts it into words."""

import random

import pytest

from act2see.core import chat
from act2see.core.trace import Answer, Thought
from act2see.synthetic.checking import NO, YES, explain_check, is_shown
from act2see.synthetic.edits import Edit, Move, Recolour, Remove, Swap, apply, random_prompts, shapes_of
from act2see.synthetic.hypothetical import Seen, seen

THINGS: list[Seen] = [("red", "star", "top"), ("blue", "ring", "left")]


@pytest.mark.parametrize(
    ("edit", "shown", "said"),
    [
        (Recolour("star", "red"), True, "I look for red! star!: red! star! top, blue ring left. There: red! star! top."),
        (Recolour("star", "blue"), False, "I look for blue! star!: red star! top, blue! ring left. There: red star! top."),
        (Recolour("cross", "red"), False, "There: nothing."),
        (Move("ring", "left"), True, "I look for ring! left!: red star top, blue ring! left!. There: blue ring! left!."),
        (Move("ring", "top"), False, "There: blue ring! left."),
        (Move("cross", "top"), False, "I look for cross! top!: red star top!, blue ring left. There: nothing."),
        (Remove("cross"), True, "I look for no cross!: red star top, blue ring left. There: nothing."),
        (Remove("star"), False, "There: red star! top."),
        (
            Swap("star", "top", "ring", "left"),
            True,
            "There: red star! top!. I look for ring! left!: red star top, blue ring! left!. There: blue ring! left!.",
        ),
        (Swap("star", "left", "ring", "top"), False, "I look for star! left!: red star! top, blue ring left!. There: red star! top."),
        (Swap("star", "top", "cross", "left"), False, "There: nothing."),
    ],
)
def test_what_is_shown_and_how_it_is_said(edit: Edit, shown: bool, said: str) -> None:
    assert is_shown(edit, THINGS) is shown
    thought, answer = explain_check(random.Random(0), edit, THINGS)
    assert isinstance(thought, Thought)
    assert isinstance(answer, Answer)
    assert said in thought.text
    assert chat.chosen(answer.text, (YES, NO)) == (0 if shown else 1)


def test_an_empty_picture_lacks_everything() -> None:
    assert is_shown(Remove("star"), [])
    assert not is_shown(Move("star", "top"), [])
    thought = explain_check(random.Random(0), Remove("star"), [])[0]
    assert isinstance(thought, Thought)
    assert "I look for no star!: nothing. There: nothing." in thought.text


def test_an_edit_is_shown_after_it_and_not_before() -> None:
    after, before, count = 0, 0, 0
    for number in range(150):
        rng = random.Random(number)
        clip, seconds, made = random_prompts(rng)
        for edit, prompt, edited in made:
            if edited is clip:
                continue
            assert apply(edit, clip, seconds) == edited
            assert all(shape in prompt for shape in shapes_of(edit))
            count += 1
            after += is_shown(edit, seen(edited, seconds))
            before += is_shown(edit, seen(clip, seconds))
    assert count > 300
    assert after == count
    assert before == 0


def test_some_prompts_are_of_shapes_that_are_not_there_and_change_nothing() -> None:
    unchanged = 0
    for number in range(150):
        clip, seconds, made = random_prompts(random.Random(number))
        for edit, _, edited in made:
            if edited is clip:
                unchanged += 1
                assert is_shown(edit, seen(clip, seconds)) is isinstance(edit, Remove)
    assert 20 < unchanged < 300
