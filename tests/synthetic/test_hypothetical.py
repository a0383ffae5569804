"""Hypothetical questions: one answer by brute force, not the one that the video gives, and a teacher that without a picture only guesses."""

import math
import random
import re
from collections import Counter
from dataclasses import replace
from typing import NamedTuple

import pytest
from PIL import Image

from act2see.core import chat
from act2see.core.trace import Answer, Frame, Generate, Observation, Step, Thought
from act2see.synthetic.dataset import Kind, items
from act2see.synthetic.edits import EDITS, Edit, Move, Recolour, Remove, Swap, prompt_of, shapes_of
from act2see.synthetic.hypothetical import (
    Count,
    Extreme,
    Fact,
    GeneratedPicture,
    Hypothetical,
    Nearest,
    Seen,
    ask_hypothetical,
    explain_hypothetical,
    listing,
    read,
)
from act2see.synthetic.world import PLACE_WORDS, PLACES, UNSEEN_PAIRS, Clip, place_at

PICTURE = Frame(Image.new("RGB", (8, 8)), None)
ERROR = "no picture was made"


class Asking(NamedTuple):
    clip: Clip
    question: Hypothetical


@pytest.fixture(scope="module")
def askings() -> list[Asking]:
    return [Asking(*ask_hypothetical(random.Random(seed), unseen=True)) for seed in range(400)]


def picture(clip: Clip, seconds: float) -> list[Seen]:
    return [(actor.colour_at(seconds), actor.shape, place_at(actor, seconds)) for actor in clip.actors if actor.is_there(seconds)]


def imagined(edit: Edit, things: list[Seen]) -> list[Seen]:
    """What stands where after the edit: the two that swap take the places in which they are found."""
    at = {shape: place for _, shape, place in things}
    assert all(sum(shape == named for _, shape, _ in things) == 1 for named in shapes_of(edit))
    goes, colours = dict[str, str](), dict[str, str]()
    if isinstance(edit, Recolour):
        colours = {edit.shape: edit.colour}
    elif isinstance(edit, Move):
        goes = {edit.shape: edit.place}
    elif isinstance(edit, Swap):
        goes = {edit.shape: at[edit.other], edit.other: at[edit.shape]}
    kept = [thing for thing in things if not (isinstance(edit, Remove) and thing[1] == edit.shape)]
    return [(colours.get(shape, colour), shape, goes.get(shape, place)) for colour, shape, place in kept]


def answer_of(fact: Fact, things: list[Seen]) -> str | None:
    if isinstance(fact, Count):
        return str(len([thing for thing in things if thing[0] == fact.colour]))
    x, y = PLACES[next(place for _, shape, place in things if shape == fact.shape)] if isinstance(fact, Nearest) else (0, 0)

    def off(thing: Seen) -> float:
        right, down = PLACES[thing[2]]
        sides = {"leftmost": right, "rightmost": -right, "highest": down, "lowest": -down}
        return sides[fact.side] if isinstance(fact, Extreme) else math.dist((right, down), (x, y))

    among = sorted((thing for thing in things if not isinstance(fact, Nearest) or thing[1] != fact.shape), key=off)
    if not among or (len(among) > 1 and off(among[0]) == off(among[1])):
        return None
    return among[0][0]


def test_the_answer_is_the_same_at_every_anchor_and_not_the_videos(askings: list[Asking]) -> None:
    for clip, question in askings:
        assert question.anchors
        assert list(question.anchors) == [t for t in clip.times(3.0) if {s for _, s, _ in picture(clip, t)} >= set(shapes_of(question.edit))]
        as_it_is = {answer_of(question.fact, picture(clip, t)) for t in question.anchors}
        assert {answer_of(question.fact, imagined(question.edit, picture(clip, t))) for t in question.anchors} == {question.answer}
        assert question.answer not in as_it_is
        assert len(question.choices) == len(set(question.choices)) == 4
        assert set(question.choices) >= {question.answer} | (as_it_is - {None})


def test_a_sentence_says_what_is_supposed_and_not_the_answer(askings: list[Asking]) -> None:
    for _, question in askings:
        premise, _, asked = re.split("(, |: )", question.text, maxsplit=1)
        assert all(shape in premise for shape in shapes_of(question.edit))
        assert not isinstance(question.edit, Recolour) or question.edit.colour in premise
        assert not isinstance(question.edit, Move) or PLACE_WORDS[question.edit.place] in premise
        assert isinstance(question.fact, Nearest) <= (getattr(question.fact, "shape", "") in asked)
        assert not isinstance(question.fact, Extreme) or question.fact.side in asked


def test_all_is_asked_and_no_letter_pays_and_a_seed_tells_all(askings: list[Asking]) -> None:
    assert {type(question.edit) for _, question in askings} == set(EDITS)
    assert {question.asked for _, question in askings} == {"colour", "nearest", "count"}
    letters = Counter(question.choices.index(question.answer) for _, question in askings)
    assert all(0.15 * len(askings) <= letters[index] <= 0.35 * len(askings) for index in range(4))
    assert [ask_hypothetical(random.Random(seed), unseen=True) for seed in range(5)] == askings[:5]


TOP, LEFT, MIDDLE, BOTTOM = ("red", "star", "top"), ("blue", "ring", "left"), ("red", "cross", "middle"), ("white", "circle", "bottom")


READINGS: list[tuple[Fact, list[Seen], str | None]] = [
    (Extreme("leftmost"), [TOP, LEFT], "blue"),
    (Extreme("leftmost"), [TOP, MIDDLE], None),
    (Extreme("highest"), [LEFT, MIDDLE, BOTTOM], None),
    (Extreme("lowest"), [TOP, LEFT, BOTTOM], "white"),
    (Extreme("lowest"), [], None),
    (Nearest("star"), [TOP, LEFT, MIDDLE], "red"),
    (Nearest("cross"), [TOP, LEFT, MIDDLE], None),
    (Nearest("star"), [TOP], None),
    (Nearest("star"), [TOP, ("cyan", "star", "right"), LEFT], None),
    (Count("cyan"), [TOP, LEFT, MIDDLE], "0"),
    (Count("red"), [TOP, LEFT, MIDDLE], "2"),
]


@pytest.mark.parametrize(("fact", "things", "answer"), READINGS)
def test_a_fact_is_read_or_has_no_one_answer(fact: Fact, things: list[Seen], answer: str | None) -> None:
    assert read(fact, things) == answer


LISTINGS: list[tuple[Fact, str]] = [
    (Extreme("leftmost"), "red star top 2, blue ring left 1, red cross middle 2, white circle bottom 2"),
    (Extreme("rightmost"), "red star top 2, blue ring left 3, red cross middle 2, white circle bottom 2"),
    (Extreme("lowest"), "red star top 3, blue ring left 2, red cross middle 2, white circle bottom 1"),
    (Nearest("ring"), "The ring is on the left: red star top 2, blue ring left, red cross middle 1, white circle bottom 2"),
    (Nearest("star"), "The star is at the top: red star top, blue ring left 2, red cross middle 1, white circle bottom 3"),
    (Count("red"), "red! star top 1, blue ring left, red! cross middle 2, white circle bottom"),
]


@pytest.mark.parametrize(("fact", "text"), LISTINGS)
def test_what_decides_is_written_after_each_thing(fact: Fact, text: str) -> None:
    assert listing(fact, [TOP, LEFT, MIDDLE, BOTTOM]) == text
    assert listing(fact, []) == "nothing"


def answered(steps: list[Step], question: Hypothetical) -> str:
    thought, last = steps[-2:]
    assert isinstance(thought, Thought)
    assert isinstance(last, Answer)
    index = chat.chosen(last.text, question.choices)
    assert index is not None
    assert re.search(rf"(answer is|makes it) {question.choices[index]}\.</think>$", thought.text)
    return question.choices[index]


def test_with_the_picture_the_teacher_is_right(askings: list[Asking]) -> None:
    for seed, (clip, question) in enumerate(askings):
        shown = imagined(question.edit, picture(clip, question.anchors[0]))
        steps = explain_hypothetical(random.Random(seed), clip, question, GeneratedPicture(PICTURE, shown))
        assert [type(step) for step in steps] == [Thought, Generate, Observation, Thought, Answer]
        assert steps[2] == Observation(frames=(PICTURE,))
        call, text = steps[1], "".join(step.text for step in steps if isinstance(step, Thought))
        assert isinstance(call, Generate)
        assert call.prompt.strip() in {prompt_of(question.edit, random.Random(one)) for one in range(40)}
        assert answered(steps, question) == question.answer
        assert "guess" not in text
        for thing in shown:
            assert " ".join(thing) in text.replace("!", "")
        assert chat.parse(chat.render(steps)) == steps


def test_a_picture_that_is_not_what_was_asked_for_is_read_as_it_is(askings: list[Asking]) -> None:
    wrong = 0
    for clip, question in askings:
        shown = picture(clip, question.anchors[0])
        as_it_is = answer_of(question.fact, shown)
        if as_it_is is not None:
            steps = explain_hypothetical(random.Random(0), clip, question, GeneratedPicture(PICTURE, shown))
            assert answered(steps, question) == as_it_is != question.answer
            wrong += 1
    assert wrong > len(askings) / 2


@pytest.mark.parametrize("came", [ERROR, None])
def test_without_it_the_teacher_guesses_whatever_is_true(askings: list[Asking], came: str | None) -> None:
    right = 0
    for seed, (clip, question) in enumerate(askings):
        steps = explain_hypothetical(random.Random(seed), clip, question, came)
        others = [explain_hypothetical(random.Random(seed), clip, replace(question, answer=choice), came) for choice in question.choices]
        assert all(other == steps for other in others)
        assert sum(isinstance(step, Generate) for step in steps) == (came is not None)
        assert [step for step in steps if isinstance(step, Observation)] == ([] if came is None else [Observation(error=came)])
        assert any(isinstance(step, Thought) and "guess" in step.text for step in steps)
        right += answered(steps, question) == question.answer
    assert 0.18 < right / len(askings) < 0.32


@pytest.mark.parametrize("kinds", [("hypothetical",), ("static", "hypothetical", "transient")])
def test_an_item_is_the_same_whatever_else_is_asked(kinds: tuple[Kind, ...]) -> None:
    found, default = list(items("train", 12, kinds=kinds)), list(items("train", 24))
    assert [item.question.kind for item in found] == [kinds[number % len(kinds)] for number in range(12)]
    assert len({item.name for item in [*found, *default]}) == len({repr(item) for item in [*found, *default]})
    for kind in kinds:
        alone = default if kind != "hypothetical" else list(items("train", 12, kinds=("hypothetical",)))
        mine, theirs = ([item for item in some if item.question.kind == kind] for some in (found, alone))
        assert mine == theirs[: len(mine)]
        assert mine
    held_out = items("held-out", 60, kinds=("hypothetical",))
    assert not any(
        (actor.colour, actor.shape) in UNSEEN_PAIRS for item in found if item.question.kind == "hypothetical" for actor in item.clip.actors
    )
    assert not any(item.is_unseen_pair for item in found)
    assert any(item.is_unseen_pair for item in held_out)
