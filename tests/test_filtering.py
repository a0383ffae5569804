"""The filter's rules: for each reason a trace that has it, and near misses that do not."""

from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from act2see.core.rejection_reasons import MEANINGS, Reason
from act2see.core.trace import Answer, Generate, Observation, Retrieve, Step, Thought, Trace
from act2see.curation.filters import Judged, Limits, judge, once_each
from filtering_fakes import ANSWER, BEFORE, CALL, GOOD, OPEN, REFERENCE, frame, imagined, reasons, thinks, trace, words_of_the_reasoning


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
