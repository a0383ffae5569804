"""Taking a query apart and voting: the reply is read strictly, and the rules give what they give by hand."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from act2see.tools.retrievers.decomposition import Decomposition, combine, confident, decomposer, ground, parse, vote
from act2see.tools.retrievers.grounding import Proposal

GOOD = {"relation": "sequential", "rewrites": ["a cat jumps, then sleeps"], "events": [["a cat jumps", "a leaping cat"], ["a cat sleeps"]]}


def span(start: int, stop: int, score: float, dynamic_start: int | None = None) -> Proposal:
    return Proposal(start, stop, start if dynamic_start is None else dynamic_start, score)


# The language model's reply


def test_a_good_reply_is_read() -> None:
    wanted = Decomposition(("a cat jumps, then sleeps",), (("a cat jumps", "a leaping cat"), ("a cat sleeps",)), "sequential")
    assert parse(json.dumps(GOOD)) == wanted
    assert parse(f"```json\n{json.dumps(GOOD, indent=1)}\n```\n") == wanted
    assert parse('{"relation": "single", "rewrites": [], "events": []}') == Decomposition()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"relation": "before"}, '"relation" is none of single, simultaneous, sequential'),
        ({"relation": ["single"]}, '"relation" is none of'),
        ({"relation": "single"}, '"events" is no list'),
        ({"events": []}, '"events" is no list of 2 to 4'),
        ({"events": [["a"], ["b"], ["c"], ["d"], ["e"]]}, '"events" is no list of 2 to 4'),
        ({"events": [["a"], []]}, '"events" does not hold lists of 1 to 3'),
        ({"events": [["a"], "b"]}, '"events" does not hold lists'),
        ({"events": [["a"], [3]]}, "no text of 1 to 300"),
        ({"rewrites": ["a", "b", "c", "d"]}, '"rewrites" does not hold lists of 0 to 3'),
        ({"rewrites": ["  "]}, "no text of 1 to 300"),
        ({"rewrites": ["a" * 301]}, "no text of 1 to 300"),
        ({"path": "/etc/passwd"}, "no object with the keys"),
    ],
)
def test_anything_else_is_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as raised:
        parse(json.dumps(GOOD | changes))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("reply", ["", "no", "[]", "null", "{'relation': 'single'}", "Here it is: " + json.dumps(GOOD), "[" * 100_000])
def test_a_reply_that_is_no_object_is_refused(reply: str) -> None:
    with pytest.raises(ValueError, match=r"no JSON|no object"):
        parse(reply)


def replying(*replies: str) -> tuple[Callable[[str], str], list[str]]:
    """A language model that gives these replies in turn, and the prompts that it gets."""
    prompts: list[str] = []

    def ask(prompt: str) -> str:
        prompts.append(prompt)
        return replies[len(prompts) - 1]

    return ask, prompts


def test_a_bad_reply_is_asked_for_once_more_with_what_was_wrong() -> None:
    ask, prompts = replying("Sure!", json.dumps(GOOD))
    assert decomposer(ask)('the {problem} of a "cat"').relation == "sequential"
    assert 'for: "the {problem} of a \\"cat\\""\n' in prompts[0]
    assert prompts[1].startswith(prompts[0])
    assert "it is no JSON" in prompts[1]


def test_after_two_bad_replies_the_query_stays_whole_and_says_so() -> None:
    ask, prompts = replying("Sure!", "{}", json.dumps(GOOD))
    taken_apart = decomposer(ask)("a cat")
    assert (taken_apart.rewrites, taken_apart.events) == ((), ())
    assert taken_apart.problem is not None
    assert "query not decomposed" in taken_apart.problem
    assert len(prompts) == 2


# Votes


def test_a_vote_is_the_sum_of_overlap_to_the_power_of_06_times_confidence() -> None:
    # IoU of the second with the first is 5 / 15, with the third 0; the third has the highest confidence, but nobody agrees with it.
    first, second, third = span(0, 10, 0.8), span(5, 15, 0.7), span(50, 60, 1.0)
    shared = (5 / 15) ** 0.6
    assert [first, second, third] == vote([third, second, first])
    voted = ground("q", Decomposition(), lambda text: [first, second, third])
    assert [p.start for p in voted] == [0, 5, 50]
    assert [p.score for p in voted] == pytest.approx([0.8 + 0.7 * shared, 0.7 + 0.8 * shared, 1.0])


def test_a_negative_confidence_does_not_vote() -> None:
    assert vote([span(0, 10, -3.0), span(0, 10, 0.1), span(20, 30, 0.5)])[0] == span(20, 30, 0.5)


def test_overlap_counts_the_climb_before_a_stretch() -> None:
    later, earlier = span(20, 30, 0.5), span(10, 20, 0.5)
    flat, climbing = span(20, 22, 0.1), span(20, 22, 0.1, dynamic_start=9)
    assert [p for p in vote([later, earlier, flat]) if p is not flat] == [later, earlier]
    assert [p for p in vote([later, earlier, climbing]) if p is not climbing] == [earlier, later]


def test_confidences_are_shares_of_the_best_and_keep_their_order_below_zero() -> None:
    assert [p.score for p in confident([span(0, 1, 0.4), span(1, 2, 0.1), span(2, 3, -0.2)])] == pytest.approx([1.0, 0.25, -0.5])
    assert [p.score for p in confident([span(0, 1, -0.1), span(1, 2, -0.2), span(2, 3, -0.5)])] == pytest.approx([1.0, 0.75, 0.0])
    assert [p.score for p in confident([span(0, 1, -0.1)])] == [1.0]
    assert confident([]) == []


# Combining


def test_events_one_after_the_other_keep_their_order() -> None:
    jump = [span(10, 20, 0.5), span(40, 50, 0.9)]
    sleep = [span(30, 38, 0.8, dynamic_start=22)]
    assert combine([jump, sleep], "sequential") == [span(10, 38, 0.5 * 0.8)]
    assert combine([sleep, jump], "sequential") == [Proposal(30, 50, 22, 0.8 * 0.9)]
    touching = [span(20, 25, 1.0)]
    assert combine([jump[:1], touching], "sequential") == [span(10, 25, 0.5)]


def test_events_at_the_same_time_overlap() -> None:
    assert combine([[span(10, 20, 0.5)], [span(15, 30, 0.5), span(40, 50, 0.5)]], "simultaneous") == [span(10, 30, 0.25)]


def test_events_that_do_not_go_together_leave_the_whole_query_to_decide() -> None:
    found = {"whole": [span(0, 5, 1.0)], "a": [span(40, 50, 1.0)], "b": [span(10, 20, 1.0)]}
    taken_apart = Decomposition((), (("a",), ("b",)), "sequential")
    assert ground("whole", taken_apart, found.__getitem__) == [span(0, 5, 1.0)]


def test_the_rewrites_and_the_events_outvote_the_query() -> None:
    found = {
        "whole": [span(0, 5, 1.0)],
        "in other words": [span(30, 50, 1.0)],
        "a": [span(30, 38, 1.0), span(90, 95, 0.2)],
        "b": [span(40, 50, 1.0)],
    }
    best = ground("whole", Decomposition(("in other words",), (("a",), ("b",)), "sequential"), found.__getitem__)[0]
    assert (best.start, best.stop) == (30, 50)


def test_only_the_first_seven_of_the_whole_query_vote_in_order_of_rank() -> None:
    asked: list[str] = []

    def localise(text: str) -> list[Proposal]:
        asked.append(text)
        number = len(asked) - 1
        return [span(100 * number + 10 * rank, 100 * number + 10 * rank + 5, 1.0 - rank / 10) for rank in range(5)]

    found = ground("q", Decomposition(("r", "s", "t")), localise)
    assert asked == ["q", "r", "s", "t"]
    assert sorted(p.start for p in found) == [0, 10, 100, 110, 200, 210, 300]


def test_nothing_found_is_nothing_to_vote_on() -> None:
    assert ground("q", Decomposition(("r",), (("a",), ("b",)), "simultaneous"), lambda text: []) == []
