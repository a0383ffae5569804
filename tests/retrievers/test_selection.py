"""Which frames a score curve gives: each way to choose, the controls, and what holds for all of them."""

from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from act2see.tools.retrievers.selection import SELECTIONS, Curve, Grounding, Middle, Oracle, Pick, Random, Select, TopK, argmax, uniform


def curve_of(scores: Sequence[float], *, threshold: float = 0.5, fps: float = 3.0, key: str = "clip query") -> Curve:
    """Frames at `fps` of a 24 fps video: the n-th searched frame is the 24 / fps · n-th of the video."""
    numbers = np.arange(len(scores))
    return Curve(numbers / fps, np.array(scores, np.float64), threshold, np.round(numbers * 24 / fps).astype(np.int64), key)


def times(picks: Sequence[Pick]) -> list[float]:
    return [round(pick.seconds * 3) for pick in picks]


def peaks(count: int, **at: float) -> list[float]:
    """A flat line of 0.1 with these scores at these frames: `peaks(30, f7=0.9)`."""
    scores = [0.1] * count
    for name, score in at.items():
        scores[int(name[1:])] = score
    return scores


ALL: list[Select] = [*(make() for make in SELECTIONS.values()), Oracle([(2.0, 3.0)])]


@pytest.mark.parametrize("select", ALL)
@given(scores=st.lists(st.floats(-1, 1), min_size=1, max_size=40), count=st.integers(1, 6), shown=st.sets(st.integers(0, 39), max_size=40))
def test_no_choice_repeats_itself_or_gives_what_was_shown(select: Select, scores: list[float], count: int, shown: set[int]) -> None:
    curve = curve_of(scores)
    given_before = [number / 3 for number in shown]
    picks = select(curve, given_before, count)
    left = set(range(len(scores))) - shown
    assert len(picks) == len(set(times(picks))) <= count
    assert set(times(picks)) <= left
    assert bool(picks) == bool(left)
    for pick in picks:
        at = round(pick.seconds * 3)
        assert (pick.seconds, pick.frame_index, pick.score) == (curve.seconds[at], 8 * at, scores[at])
        assert pick.is_fallback == (scores[at] <= 0.5)
        assert {round(seconds * 3) for seconds, _ in pick.runners_up} <= left
        assert [score for _, score in pick.runners_up] == sorted((score for _, score in pick.runners_up), reverse=True)
        assert all(abs(seconds - other.seconds) > 0.99 for seconds, _ in pick.runners_up for other in picks)


@pytest.mark.parametrize("shown", [(4 / 3,), (4 / 3 + 0.001,), (4 / 3 - 0.005,)])
def test_the_same_frame_by_another_containers_clock_is_not_given_again(shown: Collection[float]) -> None:
    assert times(argmax(curve_of(peaks(9, f4=0.9, f5=0.8)), shown, 1)) == [5]


def test_a_frame_next_to_a_shown_one_may_be_given_even_at_120_fps() -> None:
    curve = curve_of(peaks(9, f4=0.9, f5=0.8), fps=120.0)
    (pick,) = argmax(curve, [4 / 120], 1)
    assert pick.seconds == 5 / 120


# argmax and top_k


def test_argmax_gives_the_highest_scores_and_the_earlier_of_equal_ones() -> None:
    assert times(argmax(curve_of([0.1, 0.7, 0.9, 0.7, 0.9]), (), 9)) == [2, 4, 1, 3, 0]


def test_top_k_gives_frames_that_lie_apart() -> None:
    scores = peaks(20, f4=0.8, f5=0.9, f6=0.85, f8=0.7, f15=0.6)
    assert times(TopK()(curve_of(scores), (), 3)) == [5, 8, 15]  # a second apart is enough
    assert times(TopK(apart_seconds=0.0)(curve_of(scores), (), 3)) == [5, 6, 4]
    assert times(TopK(apart_seconds=2.0)(curve_of(scores), (), 3)) == [5, 15]  # no room for a third


def test_top_k_gives_fewer_where_there_is_no_room() -> None:
    assert times(TopK()(curve_of([0.1, 0.2, 0.3, 0.2, 0.1]), (), 5)) == [2]


# grounding


def scattered(*, offset: float = 0.0) -> list[float]:
    """Of 81 frames every fourth just passes 0.5; from the 30th on six fit well, best the 32nd; one fits better still, alone, the 57th."""
    scores = [0.55 if n % 4 == 0 else 0.1 for n in range(81)]
    scores[30:36] = [0.7, 0.75, 0.8, 0.75, 0.7, 0.7]
    scores[57] = 0.95
    return [score + offset for score in scores]


def test_grounding_gives_the_best_frame_of_the_best_stretch_and_not_a_lone_higher_one() -> None:
    (pick,) = Grounding(stride=6)(curve_of(scattered()), (), 1)
    assert times([pick]) == [32]
    assert pick.span_seconds == (30 / 3, 35 / 3)
    assert not pick.is_fallback
    assert pick.runners_up[0] == (57 / 3, 0.95)
    assert times(argmax(curve_of(scattered()), (), 1)) == [57]


def test_of_equal_frames_in_a_stretch_the_nearest_to_its_middle_is_given_then_the_earlier() -> None:
    scores = [0.1] * 20 + [0.8] * 6 + [0.1] * 20
    assert times(Grounding(stride=6)(curve_of(scores), (), 1)) == [22]
    assert times(Grounding(stride=6)(curve_of(scores), [22 / 3], 1)) == [23]


def test_middle_gives_the_middle_of_the_same_stretches_whatever_its_score() -> None:
    scores = [0.1] * 20 + [0.9, 0.6, 0.3, 0.6, 0.6] + [0.1] * 20
    (best,), (middle,) = (select(curve_of(scores), (), 1) for select in (Grounding(stride=5), Middle(stride=5)))
    assert best.span_seconds == middle.span_seconds == (20 / 3, 24 / 3)
    assert times([best]) == [20]
    assert times([middle]) == [22]
    assert middle.is_fallback  # it does not match by itself
    assert times(Middle(stride=5)(curve_of(scores), [22 / 3], 1)) == [21]  # the closest that is left, of two the earlier


def test_of_an_even_stretch_the_earlier_middle_is_given() -> None:
    assert times(Middle(stride=6)(curve_of([0.1] * 20 + [0.8] * 6 + [0.1] * 20), (), 1)) == [22]


def test_further_picks_come_from_further_stretches_then_from_what_is_left() -> None:
    scores = [0.1] * 20 + [0.6, 0.8, 0.6] + [0.1] * 20 + [0.6, 0.7, 0.6] + [0.1] * 20
    picks = Grounding(stride=3)(curve_of(scores), (), 4)
    assert times(picks)[:2] == [21, 44]
    assert all(pick.span_seconds is not None and not pick.is_fallback for pick in picks[:2])
    assert [(pick.span_seconds, pick.is_fallback) for pick in picks[2:]] == [(None, True)] * 2


def test_a_stretch_whose_fitting_frames_were_shown_is_passed_over() -> None:
    scores = [0.1] * 20 + [0.8] * 2 + [0.1] * 20 + [0.7] * 2 + [0.1] * 20
    (pick,) = Grounding(stride=6)(curve_of(scores), [20 / 3, 21 / 3], 1)
    assert pick.score == 0.7
    (pick,) = Middle(stride=6)(curve_of(scores), [20 / 3, 21 / 3], 1)
    assert pick.span_seconds is not None
    assert pick.span_seconds[1] > 13  # it reaches to the other two


def test_without_a_frame_above_the_threshold_grounding_gives_the_best_there_is_and_says_so() -> None:
    (pick,) = Grounding()(curve_of(peaks(30, f7=0.4)), (), 1)
    assert times([pick]) == [7]
    assert pick.is_fallback
    assert pick.span_seconds is None


@pytest.mark.parametrize("offset", [-5.0, -0.5])
def test_an_encoder_with_a_threshold_below_zero_is_grounded_as_one_with_zero(offset: float) -> None:
    lowered = Grounding(stride=6)(curve_of(scattered(offset=offset), threshold=0.5 + offset), (), 3)
    at_zero = Grounding(stride=6)(curve_of(scattered(offset=-0.5), threshold=0.0), (), 3)
    assert [(p.seconds, p.span_seconds, p.is_fallback) for p in lowered] == [(p.seconds, p.span_seconds, p.is_fallback) for p in at_zero]
    assert lowered[0].score == 0.8 + offset


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_shortest_videos_give_their_frames(count: int) -> None:
    assert times(Grounding()(curve_of([0.9] * count), (), 1))
    assert times(Grounding()(curve_of([0.1] * count), (), 1)) == [0]


# Controls


def test_uniform_spreads_over_the_video_whatever_the_scores() -> None:
    assert times(uniform(curve_of(peaks(9, f0=0.9)), (), 1)) == [4]
    assert times(uniform(curve_of(peaks(9, f0=0.9)), (), 3)) == [1, 4, 7]
    assert times(uniform(curve_of(peaks(9, f0=0.9)), [4 / 3], 1)) == [3]
    assert sorted(times(uniform(curve_of([0.1] * 4), (), 9))) == [0, 1, 2, 3]


def test_random_depends_on_seed_video_and_text_alone() -> None:
    one, other = curve_of([0.1] * 30), curve_of([0.9] * 30)
    assert times(Random(3)(one, (), 5)) == times(Random(3)(other, (), 5))
    assert len({tuple(times(Random(seed)(one, (), 5))) for seed in range(8)}) > 6
    assert len({tuple(times(Random(0)(curve_of([0.1] * 30, key=key), (), 5))) for key in "abcdefgh"}) > 6


def test_random_gives_every_frame_its_chance() -> None:
    drawn = Counter(times(Random(seed)(curve_of([0.1] * 7), [1 / 3], 1))[0] for seed in range(120))
    assert set(drawn) == {0, 2, 3, 4, 5, 6}
    assert max(drawn.values()) < 40


def test_the_oracle_gives_the_best_frames_of_the_true_stretches_alone() -> None:
    scores = peaks(30, f3=0.9, f12=0.2, f13=0.3)
    oracle = Oracle([(4.0, 4.5), (20.0, 21.0)])
    assert times(oracle(curve_of(scores), (), 1)) == [13]
    assert times(oracle(curve_of(scores), (), 9)) == [13, 12]
    assert times(oracle(curve_of(scores), [13 / 3, 12 / 3], 9)) == [14]  # none is left inside: the nearest


def test_the_names_are_those_of_the_documentation() -> None:
    assert set(SELECTIONS) == {"grounding", "middle", "argmax", "top_k", "uniform", "random"}
