"""What is kept of each question comes back as it was, and the summary says of it what can be counted by hand."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from act2see.core.errors import StoreError
from act2see.core.interfaces import Sample
from act2see.core.trace import Cost
from act2see.evaluation.scores import OUTCOMES, Score, read_score, right_guesses, summarise_costs, summarise_scores
from act2see.evaluation.statistics import wilson_interval

BASELINES = Path(__file__).parent / "data" / "constant_baselines.json"

whole = st.integers(0, 10**6)
scores = st.builds(
    Score,
    id=st.text(),
    kind=st.text(),
    outcome=st.sampled_from(OUTCOMES),
    error=st.none() | st.text(),
    number=whole,
    video=st.text(),
    groups=st.lists(st.text(), max_size=3).map(tuple),
    content=st.text(),
    calls=whole,
    served=whole,
    refused=whole,
    frames=whole,
    tokens_in=whole,
    tokens_out=whole,
    options=st.integers(0, 26),
    guesses=st.lists(st.sampled_from(["always A", "longest"]), unique=True).map(tuple),
)


def sample(choices: tuple[str, ...], answer: str) -> Sample:
    return Sample("s", Path("v.mp4"), "What?", choices, answer, "kind")


# Lines


@given(scores)
def test_a_score_is_read_back_as_it_was(score: Score) -> None:
    assert read_score(json.loads(json.dumps(score.row())), "there") == score


def test_a_line_of_others_is_read_as_far_as_it_goes() -> None:
    row = {"id": "a", "kind": "k", "outcome": "wrong", "error": None, "official": "correct", "official_extracted": "B"}
    assert read_score(row, "there") == Score("a", "k", "wrong")


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"outcome": "right"}, 'scores.jsonl:3: outcome is "right"; known are correct, wrong'),
        ({"outcome": ["correct"]}, "known are correct, wrong"),
        ({"id": 7}, "scores.jsonl:3: id is 7 where a text"),
        ({"tokens_in": "many"}, 'tokens_in is "many" where a whole number'),
        ({"groups": "rare"}, 'groups is "rare" where a list'),
        ({"kind": ...}, 'the field "kind" is missing'),
    ],
)
def test_a_line_that_says_something_else_is_refused_with_its_place(change: dict[str, Any], part: str) -> None:
    as_read = json.loads(json.dumps(Score("a", "k", "wrong").row()))
    row = {name: value for name, value in {**as_read, **change}.items() if value is not ...}
    with pytest.raises(StoreError) as caught:
        read_score(row, "scores.jsonl:3")
    assert part in str(caught.value)
    with pytest.raises(StoreError, match="an object is expected"):
        read_score([row], "scores.jsonl:3")


# Guessing


@pytest.mark.parametrize(
    ("choices", "answer", "options", "guesses"),
    [
        (("red", "blue", "green"), "blue", 3, ("always B",)),
        (("red", "blue", "green"), "green", 3, ("always C", "longest")),
        (("red", "blue", "tan"), "red", 3, ("always A", "shortest")),  # of the two shortest the first
        (("red", "blue", "tan"), "tan", 3, ("always C",)),
        (("red", "red"), "red", 2, ("always A", "always B", "longest", "shortest")),
        (("red", "blue"), "", 0, ()),  # an answer that its makers keep
        ((), "red", 0, ()),
        (("one", "two"), "[1, 2]", 0, ()),
    ],
)
def test_guesses_are_right_where_the_choice_is(choices: tuple[str, ...], answer: str, options: int, guesses: tuple[str, ...]) -> None:
    assert right_guesses(sample(choices, answer)) == (options, guesses)


def guessed(number: int, kind: str, choices: tuple[str, ...], answer: str) -> Score:
    options, guesses = right_guesses(sample(choices, answer))
    return Score(str(number), kind, "wrong", number=number, video=str(number), options=options, guesses=guesses)


def test_baselines_are_shares_of_what_can_be_guessed() -> None:
    summary = summarise_scores(
        [
            guessed(0, "x", ("red", "blue", "green", "grey"), "red"),
            guessed(1, "x", ("a", "bb"), "bb"),
            guessed(2, "y", (), "open"),
            guessed(3, "z", ("a", "a", "b"), "a"),
        ]
    )
    found = summary["baselines"]
    assert found["n"] == 3
    assert found["ours"] == {
        "always A": 0.6667,
        "always B": 0.6667,
        "always C": 0.0,
        "always D": 0.0,
        "longest": 0.6667,
        "shortest": 0.6667,
        "random": round((1 / 4 + 1 / 2 + 2 / 3) / 3, 4),
    }
    assert found["by_kind"]["x"] == {
        "n": 2,
        "always A": 0.5,
        "always B": 0.5,
        "always C": 0,
        "always D": 0,
        "longest": 0.5,
        "shortest": 0.5,
        "random": 0.375,
    }
    assert found["by_kind"]["y"] == {"n": 0}


def test_without_choices_there_are_no_baselines() -> None:
    assert "baselines" not in summarise_scores([guessed(0, "x", (), "open")])


def test_a_letter_is_counted_as_the_published_constant_baselines_are() -> None:
    """VideoEspresso's 1,382 questions: the published shares of the four letters are over all questions, and add up."""
    published = {letter: row["videoespresso_micro"] for letter, row in json.loads(BASELINES.read_text(encoding="utf-8")).items()}
    counts = {letter: round(share * 1382 / 100) for letter, share in published.items()}
    assert sum(counts.values()) == 1382
    options = ("a", "b", "c", "d")
    letters = [letter for letter, count in counts.items() for _ in range(count)]
    made = [guessed(number, "x", options, options["ABCD".index(letter)]) for number, letter in enumerate(letters)]
    ours = summarise_scores(made)["baselines"]["ours"]
    assert {letter: ours[f"always {letter}"] for letter in counts} == {letter: round(share / 100, 4) for letter, share in published.items()}
    assert ours["random"] == 0.25


# The summary


def test_rates_are_over_everything_whatever_became_of_it() -> None:
    made = [Score(str(number), "x", outcome, number=number, video=str(number)) for number, outcome in enumerate(OUTCOMES)]
    summary = summarise_scores(made)
    assert summary["outcomes"] == dict.fromkeys(sorted(OUTCOMES), 1)
    assert summary["accuracy"] == {"all": round(1 / 9, 4), "x": round(1 / 9, 4)}
    assert summary["accuracy_95"]["all"] == wilson_interval(1 / 9, 9)
    assert (summary["n"], summary["videos"]) == (9, 9)


def test_the_interval_knows_which_questions_share_a_video() -> None:
    apart = [Score(str(number), "x", "correct" if number < 6 else "wrong", number=number, video=str(number)) for number in range(12)]
    together = [Score(one.id, one.kind, one.outcome, number=one.number, video=str(one.number // 3)) for one in apart]
    (low, high), (lower, higher) = (summarise_scores(made)["accuracy_95"]["all"] for made in (apart, together))
    assert lower < low < high < higher
    assert summarise_scores(together)["videos"] == 4


@given(st.lists(scores, max_size=12), st.randoms())
def test_the_order_in_which_questions_ended_changes_no_byte(made: list[Score], draw: Any) -> None:
    made = [Score(**{**one.row(), "groups": one.groups, "guesses": one.guesses, "number": number}) for number, one in enumerate(made)]
    shuffled = list(made)
    draw.shuffle(shuffled)
    assert json.dumps(summarise_scores(shuffled)) == json.dumps(summarise_scores(made))


def test_a_kind_named_all_does_not_hide_the_whole() -> None:
    summary = summarise_scores([Score("a", "all", "correct", number=0), Score("b", "x", "wrong", number=1)])
    assert summary["accuracy"]["all"] == 0.5


def test_what_an_answer_took() -> None:
    """Percentiles are values that occurred; what never began, because its video did not open, took nothing and is left out of them."""
    made = [Score(str(n), "x", "wrong", number=n, frames=10, tokens_in=n, tokens_out=1, calls=2, served=1, refused=1) for n in range(1, 101)]
    summary = summarise_scores([*made, Score("gone", "x", "video_error", number=101)])
    assert summary["cost"]["tokens_in"] == {"mean": 50.5, "p50": 50, "p90": 90, "p99": 99}
    assert summary["cost"]["frames"]["mean"] == 10
    assert summary["tokens"] == {"in": 5050, "out": 100}
    assert summary["calls"] == {"made": 200, "served": 100, "refused": 100}
    assert summarise_scores([])["cost"]["frames"] is None


def test_seconds_stand_apart_by_stage() -> None:
    found = summarise_costs([Cost(1, 1, 5, {"decode": 1.0, "retrieve": 3.0}), Cost(1, 1, 15, {"decode": 2.0}, dollars=0.5)])
    assert found["n"] == 2
    assert found["seconds"]["all"] == {"mean": 3.0, "p50": 2.0, "p90": 4.0, "p99": 4.0}
    assert found["seconds"]["retrieve"]["mean"] == 1.5  # no retrieval took no time
    assert found["tokens_reused"]["mean"] == 10
    assert found["dollars"] == 0.5
    assert summarise_costs([]) == {"n": 0, "seconds": {"all": None}, "tokens_reused": None, "dollars": None}
