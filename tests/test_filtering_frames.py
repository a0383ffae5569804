"""What is wrong with a trace's frames and with what it says of them: each reason against traces spoilt in that one way."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from act2see.core.trace import Frame, Generate, Observation, Retrieve, Step, Thought, Trace
from act2see.curation.filters import Limits, judge, own_words
from filtering_fakes import (
    AFTER,
    ANSWER,
    BEFORE,
    CALL,
    FOUND,
    OPEN,
    REASONING,
    REFERENCE,
    frame,
    imagined,
    reasons,
    thinks,
    trace,
    words_of_the_reasoning,
)

# What a frame is for


@pytest.mark.parametrize(
    ("query", "after", "is_useless"),
    [
        ("the star", "That is all I need.", True),
        ("the star", "", True),
        ("the star", "The start is over.", True),
        ("the star", "There are stars.", False),
        ("two red STARS", "A star, then.", False),
        ("the star", "The picture settles it.", False),
        ("the star", "I see.", False),
        ("the star", "Seeing off a foreseen visit.", True),
        ("the star", "At 12.25 s it is cyan.", False),
        ("the star", "At 1 second it is cyan.", False),
        ("the star", "Two seconds later it is cyan.", False),
        ("the star", "On second thought it is cyan.", True),
        ("what is there", "There it is.", True),  # small words say nothing
        ("the man's hat", "That's all I need.", True),
        ("a car that doesn't stop", "I don't need more.", True),
        ("房子", "这里有房子。", True),  # words are told apart by spaces
        ("Straße", "Eine STRASSE.", False),
    ],
)
def test_the_text_after_a_frame_speaks_of_it(query: str, after: str, is_useless: bool) -> None:
    for call in (Retrieve(f" {query} "), Generate(query)):
        assert reasons(thinks(after=after, call=call)) == ({"useless_call"} if is_useless else set())


def test_only_what_is_said_before_the_next_call_speaks_of_a_frame() -> None:
    second: tuple[Step, ...] = (Retrieve("a ring"), Observation((frame("d", 0.75),)))
    said = Thought(" The star is blue, as this frame shows.</think>")
    judged = judge(trace([BEFORE, CALL, FOUND, Thought(" Let me go on."), *second, said, ANSWER]), REFERENCE, 0.9, Limits())
    assert dict(judged.reasons) == {"useless_call": "the star"}
    assert reasons(trace([BEFORE, CALL, FOUND, Thought(" No star yet."), *second, said, ANSWER])) == set()
    assert reasons(trace([Thought("<think>Such a star in a frame."), CALL, FOUND, Thought("</think>"), ANSWER])) == {"useless_call"}


def test_a_call_that_brought_nothing_is_not_a_useless_one() -> None:
    assert reasons(trace([BEFORE, CALL, Observation(error="none"), Thought("Well then.</think>"), ANSWER])) == {"failed_call"}


@pytest.mark.parametrize(
    "before",
    [
        "The answer must be blue.",
        "I already know that the star is BLUE, so I look for form's sake.",
        "It has to be blue",
        "So the right option is B.",
        "The answer is (B), clearly",
        "The correct choice is B) by far",
        "Option B is right.",
        "The answer must be B, and I look for form's sake only.",
        "The answer is **B**.",
        "Nothing yet.\nTherefore the star is blue; let me look.",
    ],
)
def test_an_answer_before_its_frame(before: str) -> None:
    judged = judge(thinks(before), REFERENCE, 0.9, Limits())
    assert set(judged.reasons) == {"early_answer"}
    assert judged.reasons["early_answer"] in f"<think>{before}"


@pytest.mark.parametrize(
    "before",
    [
        "Is the answer blue?",
        "The answer might be blue.",
        "The answer could be B.",
        "If it is there, the answer is blue.",
        "I cannot tell whether the answer is blue.",
        "The answer is red or blue.",
        "The answer is not blue.",
        "The choices are red, green and others.",
        "The answer is red.",  # it changed its mind
        "The answer is bluest.",
        "The answer is not yet known. A blue ring is there.",
        "A blue ring is near the border.",
        "Be is a word. The answer is below.",
        "The ring is blue, hence I need to see the star itself.",
    ],
)
def test_no_answer_before_its_frame(before: str) -> None:
    assert reasons(thinks(before)) == set()


def test_an_answer_between_two_frames_is_early_and_one_after_the_last_is_not() -> None:
    second: tuple[Step, ...] = (Retrieve("star"), Observation((frame("d", 0.75),)))
    told = Thought(" This frame shows it. The answer must be blue.")
    assert reasons(trace([BEFORE, CALL, FOUND, told, *second, AFTER, ANSWER])) == {"early_answer"}
    assert reasons(trace([BEFORE, CALL, FOUND, Thought(" This frame is empty."), *second, told, Thought("</think>"), ANSWER])) == set()
    assert reasons(trace([BEFORE, told, Thought("</think>"), ANSWER])) == set()  # it never looked


@pytest.mark.parametrize(
    ("answer", "before"), [("3.5 m", "The answer is 3.5 m."), ("C++ (a|b)*", "The answer must be c++ (A|B)*."), ("$5", "It must be $5")]
)
def test_an_open_answer_before_its_frame(answer: str, before: str) -> None:
    assert reasons(replace(thinks(before, answer=answer), choices=()), replace(OPEN, answer=answer)) == {"early_answer"}


def test_an_answer_is_no_pattern() -> None:
    assert reasons(replace(thinks("The answer must be red.", answer="r.d"), choices=()), replace(OPEN, answer="r.d")) == set()


# What was copied


@pytest.mark.parametrize(
    ("after", "is_leak"),
    [
        (words_of_the_reasoning(8), True),
        (words_of_the_reasoning(8).upper().replace(" ", ",\n"), True),
        (words_of_the_reasoning(7), False),
        (" ".join(reversed(REASONING.split())), False),
        (f"{words_of_the_reasoning(4)} well {' '.join(REASONING.split()[4:8])}", False),
        ("As the reference explanation says, it is there.", True),
        ("The given answer is that.", True),
        ("According to the person's reasoning it is there.", True),
        ("According to the person’s reasoning it is there.", True),
        ("The Ground Truth says so.", True),
        ("This agrees with the human   annotation.", True),
        ("The person reasons about it.", False),
        ("The reference point is the border.", False),
        ("The ground is wet.", False),
        ("None of the given answer choices fits better.", False),
        ("Then I compare the provided answer options.", False),
        ("In it the human answers the telephone.", False),
    ],
)
def test_words_of_the_persons_reasoning(after: str, is_leak: bool) -> None:
    assert reasons(thinks(after=f"This frame shows it. {after}")) == ({"leak"} if is_leak else set())


@pytest.mark.parametrize("where", ["question", "choices"])
def test_words_of_the_question_are_not_copied(where: str) -> None:
    shared = "which of the two rings near the border comes up first"
    told = replace(REFERENCE, reasoning=f"I ask {shared}, and say blue.")
    one = thinks(f"I have to tell {shared}.")
    assert reasons(one, told) == {"leak"}
    change = {"question": f"Tell {shared}?"} if where == "question" else {"choices": (*REFERENCE.choices, shared)}
    assert reasons(one, replace(told, **change)) == set()


def test_as_many_words_as_the_limit_says() -> None:
    assert reasons(thinks(words_of_the_reasoning(5)), limits=Limits(leak_words=5)) == {"leak"}
    assert reasons(thinks(words_of_the_reasoning(8)), limits=Limits(leak_words=9)) == set()


def test_own_words_are_the_thoughts_alone() -> None:
    assert own_words(trace()) == "Nothing like it is here. Let me look in between. This frame shows it, and it is blue."
    assert own_words(trace([Thought("</think>\n"), ANSWER])) == ""


# Frames that were seen, and such that nobody checked


@pytest.mark.parametrize(
    ("brought", "expected"),
    [
        (Observation((frame("c", 0.5),)), None),
        (Observation((frame("a", 0.5),)), "the frame at 0.50 s"),  # the same picture
        (Observation((frame("c", 1.0),)), "the frame at 1.00 s"),  # the same time, stored otherwise
        (Observation((frame("c", 0.5), frame("d", 0.5))), "the frame at 0.50 s"),
        (imagined("a", agreement=0.9), "an imagined frame"),
        (imagined("g", agreement=0.9), None),
    ],
)
def test_a_frame_again(brought: Observation, expected: str | None) -> None:
    judged = judge(trace([BEFORE, CALL, brought, AFTER, ANSWER]), REFERENCE, 0.9, Limits())
    assert dict(judged.reasons) == ({} if expected is None else {"duplicate_frame": expected})


def test_two_imagined_frames_have_no_time_in_common() -> None:
    again: tuple[Step, ...] = (Thought(" This frame shows one."), Generate("a ring"))
    assert reasons(trace([BEFORE, CALL, imagined("g", a=1), *again, imagined("h", a=1), AFTER, ANSWER])) == set()
    assert reasons(trace([BEFORE, CALL, imagined("g", a=1), *again, imagined("g", a=1), AFTER, ANSWER])) == {"duplicate_frame"}


def test_an_imagined_frame_must_have_been_checked() -> None:
    judged = judge(trace([BEFORE, Generate("a green star"), imagined(), AFTER, ANSWER]), REFERENCE, 0.9, Limits())
    assert dict(judged.reasons) == {"unfaithful_frame": "unchecked: a green star"}


# Looks with a time or a place


def placed(query: str, frames: Sequence[Frame], after: str = "This frame shows it.") -> Trace:
    """A trace with one such look."""
    steps: list[Step] = [BEFORE, Retrieve(query), Observation(tuple(frames)), Thought(f" {after} It is blue.</think>"), ANSWER]
    return replace(trace(steps), made_with={"tools": "retrieve,clip,zoom"})


def part(file: str, seconds: float) -> Frame:
    return replace(frame(file, seconds), box=(0.2, 0.1, 0.6, 0.5))


@pytest.mark.parametrize(
    ("query", "after", "is_useless"),
    [
        ("zoom 0.2 0.1 0.6 0.5 at 1 s", "It reads 7.", False),
        ("zoom 0.2 0.1 0.6 0.5 at 1 s", "It is 0.2 or so.", True),  # a number of the call is no word about the picture
        ("0 to 1 s", "The star comes first, the ring then.", False),
        ("0 to 1 s", "So 1 it is.", True),
        ("at 0.5 s", "In the picture it is there.", False),
    ],
)
def test_a_number_of_such_a_call_is_no_word_about_what_it_brought(query: str, after: str, is_useless: bool) -> None:
    found = part("p", 1.0) if query.startswith("zoom") else frame("c", 0.5)
    assert reasons(placed(query, [found], after)) == ({"useless_call"} if is_useless else set())


def test_a_part_of_a_frame_is_no_duplicate_of_the_frame_but_of_the_same_part() -> None:
    once = placed("zoom 0.2 0.1 0.6 0.5 at 1 s", [part("p", 1.0)])
    assert reasons(once) == set()
    again = replace(once, steps=[*once.steps[:3], Thought("This frame shows it."), *once.steps[1:]])
    assert reasons(again) == {"duplicate_frame"}


def test_a_stretch_may_hold_frames_that_were_there_but_something_must_be_new() -> None:
    assert reasons(placed("0 to 1 s", [frame("a", 0.0), frame("c", 0.5), frame("b", 1.0)])) == set()
    assert reasons(placed("0 to 1 s", [frame("a", 0.0), frame("b", 1.0)])) == {"duplicate_frame"}
    assert reasons(placed("the star", [frame("a", 0.0), frame("c", 0.5)])) == {"duplicate_frame"}
