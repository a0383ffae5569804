"""The filter's rules: for each reason a trace that has it, and near misses that do not."""

from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from act2see.filtering import Judged, Limits, judge, once_each, own_words
from act2see.reasons import MEANINGS, Reason
from act2see.references import Reference
from act2see.trace import Answer, Finish, Frame, Generate, Observation, Provenance, Retrieve, Step, Thought, Trace

REASONING = "Between the second and the third frame a blue star comes up near the left border, so it has to be blue."
REFERENCE = Reference(
    "q", "made-up", "MIT", "v.mp4", "What colour is the star?", ("red", "blue", "green"), "blue", "colour", "She says so. " + REASONING
)
OPEN = replace(REFERENCE, choices=())


def frame(file: str, seconds: float | None, provenance: Provenance | None = None) -> Frame:
    """As `Run.sketch_at` gives it."""
    image = Image.new("RGB", (1, 1))
    image.info["file"] = file
    return Frame(image, seconds, provenance=provenance)


def imagined(file: str = "g", **scores: float) -> Observation:
    return Observation((frame(file, None, Provenance("a green star", 1.0, "some-model", 0, None, scores)),))


INITIAL = (frame("a", 0.0), frame("b", 1.0))
CALL, FOUND, ANSWER = Retrieve(" the star "), Observation((frame("c", 0.5),)), Answer(" B ")
BEFORE, AFTER = Thought("<think>Nothing like it is here. Let me look in between."), Thought(" This frame shows it, and it is blue.</think>")
GOOD: tuple[Step, ...] = (BEFORE, CALL, FOUND, AFTER, ANSWER)


def trace(steps: Sequence[Step] = GOOD, finish: Finish | None = "answer", choices: tuple[str, ...] = REFERENCE.choices) -> Trace:
    return Trace("q#0", "v.mp4", REFERENCE.question, INITIAL, choices, steps=list(steps), finish=finish)


def thinks(before: str = "Let me look.", after: str = "This frame shows it.", answer: str = "B", call: Step = CALL) -> Trace:
    """A trace with one frame, by what is thought before and after it."""
    return trace([Thought(f"<think>{before}"), call, FOUND, Thought(f"{after}</think>"), Answer(answer)])


def reasons(one: Trace, reference: Reference = REFERENCE, similarity: float | None = 0.9, limits: Limits | None = None) -> set[str]:
    return set(judge(one, reference, similarity, limits or Limits()).reasons)


def test_a_good_trace_is_kept() -> None:
    judged = judge(trace(), REFERENCE, 0.9, Limits())
    assert judged == Judged("q#0", "q", {}, 0.9)
    assert judged.is_kept
    assert judged.first is None


def test_every_reason_has_a_meaning_in_its_order() -> None:
    assert tuple(MEANINGS) == get_args(Reason)


# The answer


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("B", set()),
        (" (b) ", set()),
        ("B. blue", set()),
        ("Blue.", set()),
        ("A", {"wrong_answer"}),
        ("red", {"wrong_answer"}),
        ("B. red", {"no_answer"}),
        ("red or blue", {"no_answer"}),
        ("it is blue", {"no_answer"}),
        ("D", {"no_answer"}),
    ],
)
def test_an_answer_names_the_right_choice_for_sure(answer: str, expected: set[str]) -> None:
    assert reasons(thinks(answer=answer)) == expected


@pytest.mark.parametrize(("answer", "expected"), [(" the  Blue star. ", set()), ("a blue star", {"wrong_answer"}), ("B", {"wrong_answer"})])
def test_an_open_answer_must_say_the_same(answer: str, expected: set[str]) -> None:
    assert reasons(replace(thinks(answer=answer), choices=()), replace(OPEN, answer="The blue star")) == expected


def test_a_trace_without_an_answer() -> None:
    judged = judge(trace(GOOD[:-1], "length"), REFERENCE, 0.9, Limits())
    assert dict(judged.reasons) == {"no_answer": "length"}


@pytest.mark.parametrize("choices", [REFERENCE.choices, ()])
def test_nobody_knows_the_right_answer(choices: tuple[str, ...]) -> None:
    unknown = replace(REFERENCE, choices=choices, answer="")
    assert reasons(trace(), unknown) == {"unknown_answer"}
    assert reasons(trace(GOOD[:-1], "end"), unknown) == {"no_answer"}


def test_two_choices_that_say_the_same_are_both_right() -> None:
    assert reasons(thinks(answer="B"), replace(REFERENCE, choices=("blue", "blue", "red"))) == set()


def test_more_choices_than_letters() -> None:
    many = tuple(f"colour {number}" for number in range(30))
    assert reasons(thinks(answer="colour 29"), replace(REFERENCE, choices=many, answer="colour 29")) == set()


# The person's reasoning


@pytest.mark.parametrize(
    ("similarity", "expected"),
    [(0.8000001, set()), (0.8, {"unlike_reference"}), (-0.2, {"unlike_reference"}), (float("nan"), {"unlike_reference"})],
)
def test_the_similarity_must_exceed_the_limit(similarity: float, expected: set[str]) -> None:
    assert reasons(trace(), similarity=similarity) == expected
    assert "unlike_reference" not in reasons(trace(), similarity=0.81, limits=Limits(0.81 - 1e-9))


@pytest.mark.parametrize("reasoning", [None, ""])
def test_without_a_persons_reasoning_nothing_is_alike(reasoning: str | None) -> None:
    assert reasons(trace(), replace(REFERENCE, reasoning=reasoning), None) == {"no_reference"}


# The format


def marked(*texts: str) -> Trace:
    """Thoughts with a frame between each two, then the answer."""
    steps: list[Step] = []
    for number, text in enumerate(texts):
        steps += [Thought(text + " this frame"), Retrieve(f" star {number} "), Observation((frame(f"x{number}", 0.1 + number),))]
    return trace([*steps[:-2], ANSWER])


@pytest.mark.parametrize(
    "texts",
    [
        ("<think>it is blue</think>",),
        ("it is blue</think>",),  # the template wrote the first mark
        ("<think>one", "two</think>"),
        ("one", "two</think>"),
        ("<think>one</think>", "<think>two</think>"),  # a hosted model thinks anew in each turn
        ("one</think>", "<think>two</think>"),
        ("<think>one</think><think>two</think>",),
        ("<think>a < b and b > a</think>",),
        ("<think>the sign says <exit> and </exit></think>",),
    ],
)
def test_thinking_between_its_marks(texts: tuple[str, ...]) -> None:
    assert reasons(marked(*texts)) == set()


@pytest.mark.parametrize(
    "texts",
    [
        ("it is blue",),
        ("<think>it is blue",),
        ("one", "two"),
        ("<think>one<think>two</think>",),
        ("<think>one</think>two</think>",),
        ("<think>one", "<think>two</think>"),
        ("<think>one</think>", "<think>two"),
        ("</think>it is blue<think>",),
        ("<Think>it is blue</Think>",),
    ],
)
def test_thinking_without_its_marks(texts: tuple[str, ...]) -> None:
    assert reasons(marked(*texts)) == {"format"}


@pytest.mark.parametrize("tag", [f"<{slash}{name}>" for slash in ("", "/") for name in ("retrieve", "generate", "frame", "answer")])
def test_a_stray_tag_in_any_thought(tag: str) -> None:
    for one in (thinks(before=f"I {tag} it."), thinks(after=f"This frame {tag}.")):
        judged = judge(one, REFERENCE, 0.9, Limits())
        assert dict(judged.reasons) == {"format": f"a stray {tag}"}


@pytest.mark.parametrize("after", [Thought("\n"), Answer("B")])
def test_nothing_follows_an_answer(after: Step) -> None:
    assert "format" in reasons(trace([*GOOD, after]))


def test_a_calls_failure_is_no_malformed_call() -> None:
    problem = Observation(error="no frame was found: answer from what you have seen")
    failed = trace([BEFORE, CALL, problem, Generate("a star"), problem, Thought("Well.</think>"), ANSWER])
    assert dict(judge(failed, REFERENCE, 0.9, Limits()).reasons) == {"failed_call": problem.error}
    malformed = trace([Thought("<think>I look:</retrieve>"), Observation(error="a closing retrieve"), Thought("</think>"), ANSWER])
    assert dict(judge(malformed, REFERENCE, 0.9, Limits()).reasons) == {"format": "a closing retrieve"}
    both = trace([Thought("<think>"), CALL, problem, Thought("</retrieve>"), Observation(error="a closing retrieve"), Thought("</think>"), ANSWER])
    assert reasons(both) == {"format", "failed_call"}


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


def words_of_the_reasoning(count: int) -> str:
    return " ".join(REASONING.split()[:count])


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


# Several reasons


BAD = trace([Thought("Given the ground truth."), CALL, Observation((frame("a", 0.5),)), Thought("Well."), imagined(), Answer("A"), Thought("\n")])


def test_the_first_reason_is_the_one_that_it_is_counted_under() -> None:
    judged = judge(BAD, REFERENCE, 0.1, Limits(), "blurred")
    expected = ["no_answer", "unlike_reference", "format", "useless_call", "leak", "duplicate_frame", "unfaithful_frame", "by_hand"]
    assert list(judged.reasons) == expected
    assert judged.first == "no_answer"
    assert judged.reasons["by_hand"] == "blurred"


@given(st.frozensets(st.sampled_from(get_args(Reason))))
def test_what_is_ignored_keeps_no_trace_out_and_changes_nothing_else(ignore: frozenset[Reason]) -> None:
    everything = judge(BAD, REFERENCE, 0.1, Limits(), "")
    judged = judge(BAD, REFERENCE, 0.1, Limits(ignore=ignore), "")
    assert dict(judged.reasons) == {reason: said for reason, said in everything.reasons.items() if reason not in ignore}
    assert judged.is_kept == (set(everything.reasons) <= ignore)
    assert judged.first == next(iter(judged.reasons), None)


def test_a_rejection_by_hand_needs_no_words() -> None:
    assert dict(judge(trace(), REFERENCE, 0.9, Limits(), "").reasons) == {"by_hand": ""}


# One trace a question


TRIES = st.lists(st.tuples(st.sampled_from("pqr"), st.booleans()), max_size=9)


def judged_tries(tries: Sequence[tuple[str, bool]]) -> list[Judged]:
    return [Judged(f"{sample}#{number}", sample, {} if good else {"leak": "x"}, None) for number, (sample, good) in enumerate(tries)]


@given(TRIES)
def test_of_each_question_the_first_good_try_is_kept(tries: list[tuple[str, bool]]) -> None:
    before = judged_tries(tries)
    after = list(once_each(before, Limits()))
    first = {one.sample: one for one in reversed(before) if one.is_kept}
    assert [one for one in after if one.is_kept] == [one for one in before if one is first.get(one.sample)]
    assert [one.trace for one in after] == [one.trace for one in before]
    for old, new in zip(before, after, strict=True):
        if old.is_kept and not new.is_kept:
            assert dict(new.reasons) == {"kept_already": first[old.sample].trace}
        else:
            assert new == old


@given(TRIES)
def test_all_good_tries_may_be_kept(tries: list[tuple[str, bool]]) -> None:
    assert list(once_each(judged_tries(tries), Limits(ignore=frozenset({"kept_already"})))) == judged_tries(tries)


# Whatever a teacher writes


@given(st.text(), st.text(), st.text(min_size=1), st.booleans())
def test_any_text_can_be_judged(before: str, query: str, answer: str, is_open: bool) -> None:
    reference = replace(REFERENCE, choices=() if is_open else (answer, "red"), answer=answer)
    one = thinks(f"The answer is {answer}. {before}", before, answer, Retrieve(query))
    assert all(isinstance(said, str) for said in judge(one, reference, 0.9, Limits()).reasons.values())


LENGTH = 200_000


@pytest.mark.parametrize(
    "part",
    [
        "the answer ",
        "answer is",
        "i",
        "s",
        " ",
        "\n",
        ".",
        "<think",
        "</",
        "<retrieve",
        "the human ",
        "it must be ",
        "a.",
        "\\(",
        words_of_the_reasoning(7) + " ",
    ],
)
def test_a_very_long_text_ends_too(part: str) -> None:
    """A pattern that backtracks without a bound would not end before pytest's own timeout."""
    long = (part * (LENGTH // len(part) + 1))[:LENGTH]
    for one in (thinks(before=long), thinks(after=long), thinks(answer=long), thinks("The answer is " + long, answer=long, call=Retrieve(long))):
        assert judge(one, OPEN, 0.9, Limits()).trace == "q#0"
