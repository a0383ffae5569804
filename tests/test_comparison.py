"""Paired by the question, and by nothing else."""

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from act2see.config import CompareConfig
from act2see.core.errors import StoreError
from act2see.evaluation.compare import compare, compare_scores
from act2see.evaluation.scores import Outcome, Score
from act2see.evaluation.statistics import mcnemar
from act2see.storage.runs import JSON, Run

SAMPLED: tuple[Outcome, ...] = ("correct", "wrong", "no_answer", "backend_error")
outcomes = st.sampled_from(SAMPLED)
pairs = st.lists(st.tuples(outcomes, outcomes), min_size=1, max_size=30)


def side(outcomes: list[Outcome], videos: int = 5) -> list[Score]:
    return [Score(f"q{n}", "even" if n % 2 == 0 else "odd", outcome, number=n, video=f"v{n % videos}") for n, outcome in enumerate(outcomes)]


@given(pairs)
def test_the_difference_is_what_was_gained_less_what_was_lost(made: list[tuple[Outcome, Outcome]]) -> None:
    found = compare_scores(side([one for one, _ in made]), side([two for _, two in made]))
    gained = sum(two == "correct" != one for one, two in made)
    lost = sum(one == "correct" != two for one, two in made)
    assert (found.overall.n, found.overall.gained, found.overall.lost, found.overall.mcnemar_p) == (len(made), gained, lost, mcnemar(gained, lost))
    assert found.overall.difference == round((gained - lost) / len(made), 4)
    if found.overall.difference_95 is not None:
        low, high = found.overall.difference_95
        assert -1 <= low <= found.overall.difference <= high <= 1
    assert len(found.gained_ids) == gained
    assert sum(rates.n for rates in found.by_kind.values()) == len(made)


@given(pairs, st.randoms())
def test_neither_order_nor_direction_matters(made: list[tuple[Outcome, Outcome]], draw: random.Random) -> None:
    first, second = side([one for one, _ in made]), side([two for _, two in made])
    there, back = compare_scores(first, second), compare_scores(second, first)
    assert (there.gained_ids, there.lost_ids) == (back.lost_ids, back.gained_ids)
    assert there.overall.mcnemar_p == back.overall.mcnemar_p
    shuffled = list(second)
    draw.shuffle(shuffled)
    assert compare_scores(first, shuffled) == there


def test_what_only_one_has_is_named_and_not_counted() -> None:
    found = compare_scores(side(["correct"] * 4)[:3], side(["wrong"] * 5)[1:])
    assert (found.overall.n, found.overall.first, found.overall.second) == (2, 1.0, 0.0)
    assert (found.only_first, found.only_second) == (("q0",), ("q3", "q4"))


def test_nothing_in_common_is_nothing_compared() -> None:
    found = compare_scores(side(["correct"]), [Score("other", "x", "correct")])
    assert (found.overall.n, found.overall.difference, found.overall.difference_95, found.overall.mcnemar_p) == (0, None, None, 1.0)


def test_the_same_id_with_another_content_is_refused() -> None:
    one, two = (Score("a", "x", "correct", content=content) for content in ("1", "2"))
    with pytest.raises(StoreError, match="1 of 1 ids stand for different questions in the two runs; the first are 'a' "):
        compare_scores([one], [two])
    assert compare_scores([one], [Score("a", "x", "wrong")]).overall.lost == 1  # a score from elsewhere does not say


def test_an_id_that_is_there_twice_is_refused() -> None:
    with pytest.raises(StoreError, match="duplicate id 'q0'"):
        compare_scores(side(["correct"]) * 2, side(["correct"]))


def test_questions_about_one_video_are_drawn_together() -> None:
    """Four videos, all questions of one gained: with whole videos drawn the interval reaches down to nothing gained, as it must."""
    first = [Score(f"q{n}", "x", "wrong", number=n, video=str(n // 10)) for n in range(40)]
    second = [Score(one.id, "x", "correct" if one.number < 10 else "wrong", number=one.number, video=one.video) for one in first]
    assert compare_scores(first, second).overall.difference_95 == (0.0, 0.75)


# Runs


def run_with(folder: Path, outcomes: list[Outcome], **settings: JSON) -> Path:
    run = Run.create(folder, command="eval", config={"benchmark": "made", **settings}, seed=0)
    run.write_scores(score.row() for score in side(outcomes))
    return folder


def test_two_runs_are_compared_with_their_settings(tmp_path: Path) -> None:
    first = run_with(tmp_path / "first", ["correct", "wrong", "wrong", "wrong"], max_looks=3)
    second = run_with(tmp_path / "second", ["correct", "correct", "correct", "wrong"], max_looks=0)
    found = compare(first, second)
    assert (found.benchmark, found.first_run, found.second_run) == ("made", str(first), str(second))
    assert found.made_differently == {"settings.max_looks": ("3", "0")}
    assert (found.scores.overall.first, found.scores.overall.second, found.scores.overall.difference) == (0.25, 0.75, 0.5)
    assert found.scores.gained_ids == ("q1", "q2")
    assert found.scores.outcomes == {("correct", "correct"): 1, ("wrong", "correct"): 2, ("wrong", "wrong"): 1}
    row = found.row()
    assert list(row)[:6] == ["benchmark", "first_run", "second_run", "made_differently", "n", "first"]
    assert json.loads(json.dumps(row["outcomes"]))[0] == {"first": "correct", "second": "correct", "n": 1}


def test_the_seed_of_the_options_is_the_bootstraps(tmp_path: Path) -> None:
    before: list[Outcome] = ["wrong"] * 30
    after: list[Outcome] = [("correct", "wrong", "wrong")[n % 3] for n in range(30)]
    first, second = run_with(tmp_path / "first", before), run_with(tmp_path / "second", after)
    for seed in (1, 2):
        expected = compare_scores(side(before), side(after), seed).overall.difference_95
        assert compare(first, second, CompareConfig(seed=seed)).scores.overall.difference_95 == expected
