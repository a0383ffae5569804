"""Intervals and tests against published values, exact sums and simulated data whose truth is known."""

from fractions import Fraction
from itertools import product
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from act2see.evaluation.statistics import bootstrap_interval, clustered_interval, mcnemar, share_interval, t_quantile, wilson_interval

answers = st.lists(st.booleans(), min_size=2, max_size=60)


# Student's t


@pytest.mark.parametrize(
    ("degrees", "quantile"),
    # As every table has them.
    [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (5, 2.5706), (10, 2.2281), (29, 2.0452), (30, 2.0423), (60, 2.0003), (120, 1.9799)],
)
def test_the_quantiles_of_t_are_the_tables(degrees: int, quantile: float) -> None:
    assert t_quantile(degrees) == pytest.approx(quantile, abs=6e-5)


def test_the_exact_sum_and_the_expansion_meet() -> None:
    values = [t_quantile(degrees) for degrees in range(195, 207)]
    steps = np.diff(values)
    assert (steps < 0).all()
    assert np.abs(np.diff(steps)).max() < 1e-6  # no jump where one formula takes over from the other
    assert t_quantile(10**9) == pytest.approx(1.959964, abs=1e-6)


def test_without_a_degree_of_freedom_there_is_no_quantile() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        t_quantile(0)


# Shares


@pytest.mark.parametrize(
    ("right", "n", "interval"),
    # Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    [(81, 263, [0.2553, 0.3662]), (15, 148, [0.0624, 0.1605]), (0, 20, [0.0, 0.1611]), (1, 29, [0.0061, 0.1718])],
)
def test_wilsons_interval_is_the_published_one(right: int, n: int, interval: list[float]) -> None:
    assert wilson_interval(right / n, n) == interval


@given(answers)
def test_with_one_question_a_video_the_interval_is_wilsons(right: list[bool]) -> None:
    assert share_interval(right, range(len(right))) == wilson_interval(sum(right) / len(right), len(right))


def test_an_interval_worked_out_by_hand() -> None:
    """Three videos of three questions: all right, all wrong, all right. p = 2/3, V = 3/2 * 6/81 = 1/9, d = (1/9) / (2/9/8) = 4."""
    worth = 9 / 4 * (2.3060 / 4.3027) ** 2
    found = share_interval([True] * 3 + [False] * 3 + [True] * 3, "aaabbbccc")
    assert found == pytest.approx(wilson_interval(2 / 3, worth), abs=2e-4)
    assert found == pytest.approx([0.0651, 0.9829], abs=2e-4)


@given(answers, st.integers(2, 12))
def test_shared_videos_never_make_an_interval_narrower(right: list[bool], videos: int) -> None:
    found = share_interval(right, [number % videos for number in range(len(right))])
    assert found is not None
    low, high = wilson_interval(sum(right) / len(right), len(right))
    assert 0 <= found[0] <= low + 1e-4
    assert high - 1e-4 <= found[1] <= 1
    assert found[0] <= sum(right) / len(right) <= found[1]


@given(answers, st.integers(2, 5))
def test_asking_the_same_again_about_the_same_videos_tells_nothing_new(right: list[bool], times: int) -> None:
    """Each video's question, asked `times` times with the same outcome: the interval is about the one of the videos, not of the questions."""
    again = share_interval(right * times, list(range(len(right))) * times)
    once = wilson_interval(sum(right) / len(right), len(right))
    assert again is not None
    assert again[1] - again[0] >= once[1] - once[0] - 2e-4


def test_one_video_tells_nothing_about_others() -> None:
    assert share_interval([True, False, True], ["a", "a", "a"]) is None
    assert clustered_interval([1.0, 0.0], ["a", "a"]) is None
    assert bootstrap_interval([1.0, 0.0], ["a", "a"]) is None
    assert share_interval([], []) is None


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Forty videos of five questions, right together: of 95 % intervals about 95 % hold the truth, of plain ones far fewer."""
    draw = np.random.default_rng(0)
    truth, times = 0.6, 600
    held = {"clustered": 0, "plain": 0}
    clusters = np.repeat(np.arange(40), 5).tolist()
    for _ in range(times):
        shares = draw.beta(truth * 2, (1 - truth) * 2, size=40)
        right = (draw.random((40, 5)) < shares[:, None]).ravel().tolist()
        found = share_interval(right, clusters)
        assert found is not None
        held["clustered"] += found[0] <= truth <= found[1]
        low, high = wilson_interval(sum(right) / 200, 200)
        held["plain"] += low <= truth <= high
    assert 0.925 <= held["clustered"] / times <= 0.98
    assert held["plain"] / times < 0.88


# Differences


def test_a_means_interval_is_the_textbooks() -> None:
    """One value a cluster: the mean and t standard errors. Of 1, 2, 3, 4: 2.5 and 3.1824 times 0.6455."""
    assert clustered_interval([1.0, 2.0, 3.0, 4.0], "abcd") == [0.4457, 4.5543]


@given(st.lists(st.tuples(st.sampled_from([-1.0, 0.0, 1.0]), st.integers(0, 4)), min_size=2, max_size=20))
def test_no_interval_of_a_difference_leaves_what_a_difference_can_be(drawn: list[tuple[float, int]]) -> None:
    values, clusters = zip(*drawn, strict=True)
    for interval in (clustered_interval(values, clusters, between=(-1, 1)), bootstrap_interval(values, clusters, resamples=50)):
        assert interval is None if len(set(clusters)) < 2 else interval is not None and -1 <= interval[0] <= interval[1] <= 1


def test_two_videos_leave_a_difference_open_within_its_bounds() -> None:
    assert clustered_interval([1.0, 0.0], "ab") == [-5.8531, 6.8531]
    assert clustered_interval([1.0, 0.0], "ab", between=(-1, 1)) == [-1, 1]


def test_a_bootstrap_draws_whole_videos() -> None:
    """Two videos of which one gains all and one loses all: a drawing is all the one, all the other, or both."""
    assert bootstrap_interval([1.0, 1.0, 1.0, -1.0, -1.0, -1.0], "aaabbb") == [-1.0, 1.0]
    alone = bootstrap_interval([1.0, 1.0, 1.0, -1.0, -1.0, -1.0], "abcdef")
    assert alone is not None
    assert -1.0 < alone[0] < 0 < alone[1] < 1.0


def test_a_bootstrap_agrees_with_the_formula_where_that_holds() -> None:
    draw = np.random.default_rng(1)
    changes = draw.choice([-1.0, 0.0, 1.0], size=400, p=[0.1, 0.7, 0.2]).tolist()
    clusters = [number // 2 for number in range(400)]
    by_formula, drawn = clustered_interval(changes, clusters), bootstrap_interval(changes, clusters)
    assert by_formula is not None
    assert drawn == pytest.approx(by_formula, abs=0.006)


def test_the_seed_decides_a_bootstrap() -> None:
    size = 50
    changes = [float(number % 3 - 1) for number in range(size)]
    first = bootstrap_interval(changes, range(size), seed=3)
    assert first == bootstrap_interval(changes, range(size), seed=3)
    assert len({str(bootstrap_interval(changes, range(size), seed=seed, resamples=200)) for seed in range(5)}) > 1


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemars_p_is_the_exact_sum(gained: int, lost: int) -> None:
    n = gained + lost
    exact = sum((Fraction(comb(n, k), 2**n) for k in range(n + 1) if abs(2 * k - n) >= abs(gained - lost)), Fraction(0))
    assert mcnemar(gained, lost) == pytest.approx(float(exact), rel=1e-5)
    assert mcnemar(gained, lost) == mcnemar(lost, gained)


def test_mcnemars_p_of_many_questions_is_a_number() -> None:
    assert (mcnemar(0, 0), mcnemar(5000, 5000)) == (1.0, 1.0)
    assert 0 < mcnemar(1000, 1300) < 1e-9
    assert mcnemar(0, 5000) == 0.0  # less than any float


def test_intervals_of_few_clusters_are_enumerated() -> None:
    """Three clusters: every one of the 27 drawings is as likely as any other, so the bootstrap's limits lie on what they give."""
    totals, sizes = [2.0, 0.0, -1.0], [2, 3, 1]
    means = sorted({sum(totals[i] for i in drawn) / sum(sizes[i] for i in drawn) for drawn in product(range(3), repeat=3)})
    found = bootstrap_interval([1.0, 1.0, 0.0, 0.0, 0.0, -1.0], "aabbbc")
    assert found == [round(means[0], 4), round(means[-1], 4)]
