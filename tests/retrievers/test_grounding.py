"""The localiser gives what a literal, slow restatement of it gives, and what was computed apart from this project."""

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from act2see.tools.retrievers.grounding import Proposal, localise

CASES = json.loads((Path(__file__).parent / "localiser_cases.json").read_text(encoding="utf-8"))["cases"]


# The algorithm once more, one step after the other, as it is described: no sums kept, every window with every kept one


def slowly(scores: list[float], threshold: float, stride: int, max_window: int, *, keep_unopposed: bool, keep: int = 10) -> list[Proposal]:
    count = len(scores)
    above = [score > threshold for score in scores]
    if not any(above):
        return []
    masked = [score if is_above else 0.0 for score, is_above in zip(scores, above, strict=True)]
    stride = max(1, min(stride, count // 2))
    windows = []
    for length in range(stride, min(count, max_window) + 1, stride):
        for start in range(count - length + 1):
            inside = range(start, start + length)
            outside = [n for n in range(count) if n not in inside]
            opposed = sum(above[n] for n in outside)
            if not opposed and not keep_unopposed:
                continue
            mean_outside = math.fsum(masked[n] for n in outside) / opposed if opposed else 0.0
            windows.append((round(math.fsum(masked[n] for n in inside) / length - mean_outside, 9), length, start))
    windows.sort(key=lambda window: (-window[0], window[1], window[2]))
    kept: list[tuple[float, int, int]] = []
    for score, length, start in windows:
        if len(kept) < keep and all(overlap(start, length, other, other_length) <= 0.3 for _, other_length, other in kept):
            kept.append((score, length, start))
    starts = climb_starts(masked, above, stride)
    return [Proposal(start, start + length, starts[start], score) for score, length, start in kept]


def overlap(start: int, length: int, other: int, other_length: int) -> float:
    both = len(set(range(start, start + length)) & set(range(other, other + other_length)))
    return both / (length + other_length - both)


def climb_starts(masked: list[float], above: list[bool], stride: int) -> list[int]:
    half, weights = 0, [1.0]
    if stride >= 3:
        half = min(stride - 2, 3) // 2
        weights = [math.exp(-(x**2) / 2) / math.sqrt(2 * math.pi) for x in range(-half, half + 1)]
    smooth = {n: sum(w * masked[n + x] for w, x in zip(weights, range(-half, half + 1), strict=True)) for n in range(half, len(masked) - half)}
    rise = [(smooth[n + 1] - smooth[n]) * above[n] if n in smooth and n + 1 in smooth else 0.0 for n in range(len(masked))]
    starts, start = [], 0
    for n, one in enumerate(rise):
        two, three = (rise[n - back] if n >= back else 0.0 for back in (1, 2))
        if max(3 * one, 2 * one + two, one + two + three) <= 0.0005:
            start = n
        starts.append(start)
    return starts


def curve(rng: random.Random, count: int) -> list[float]:
    """Scores about a threshold of 0.2: noise, plateaus of equal scores, or a wandering line."""
    kind = rng.randrange(3)
    if kind == 0:
        return [round(rng.uniform(0.05, 0.35), 5) for _ in range(count)]
    if kind == 1:
        return [rng.choice((0.1, 0.25, 0.3)) for _ in range(count)]
    value, line = 0.2, []
    for _ in range(count):
        value += rng.uniform(-0.02, 0.02)
        line.append(round(value, 4))
    return line


def same(found: list[Proposal], wanted: list[Proposal]) -> None:
    assert [(p.start, p.stop, p.dynamic_start) for p in found] == [(p.start, p.stop, p.dynamic_start) for p in wanted]
    assert [p.score for p in found] == pytest.approx([p.score for p in wanted], abs=2e-9)


@pytest.mark.parametrize("number", range(len(CASES)))
def test_it_gives_the_proposals_that_were_computed_elsewhere(number: int) -> None:
    case: dict[str, Any] = CASES[number]
    found = localise(case["scores"], case["threshold"], stride=case["stride"], max_window=case["max_window"], keep_unopposed=False)
    same(found, [Proposal(p["start"], p["stop"], p["dynamic_start"], p["score"]) for p in case["proposals"]])


@pytest.mark.parametrize("seed", range(60))
def test_it_gives_what_the_slow_restatement_gives(seed: int) -> None:
    rng = random.Random(seed)
    count = rng.choice((1, 2, 3, 4, 5, 7, rng.randint(8, 90)))
    stride, share, kept = rng.randint(1, 25), rng.choice((0.5, 1.0)), rng.random() < 0.5
    longest, scores = max(1, int(count * share)), curve(rng, count)
    found = localise(scores, 0.2, stride=stride, max_window=longest, keep_unopposed=kept)
    same(found, slowly(scores, 0.2, stride, longest, keep_unopposed=kept))


@given(st.lists(st.sampled_from((0.0, 0.19, 0.21, 0.25, 0.9)), min_size=1, max_size=24), st.integers(1, 12), st.booleans())
def test_it_gives_what_the_slow_restatement_gives_where_many_windows_are_equal(scores: list[float], stride: int, kept: bool) -> None:
    found = localise(scores, 0.2, stride=stride, max_window=len(scores), keep_unopposed=kept)
    same(found, slowly(scores, 0.2, stride, len(scores), keep_unopposed=kept))


# Corner cases


def test_nothing_above_the_threshold_is_no_proposal() -> None:
    assert localise([0.1] * 30, 0.2) == []
    assert localise([0.2] * 30, 0.2) == []  # the threshold itself does not pass
    assert localise([], 0.2) == []


def test_a_single_frame_is_a_window() -> None:
    assert localise([0.5], 0.2) == [Proposal(0, 1, 0, 0.5)]


def test_a_find_that_stands_alone_is_kept_unless_told_otherwise() -> None:
    scores = [0.1] * 40
    scores[25] = 0.9
    (best, *_) = localise(scores, 0.2, stride=5)
    assert best.start <= 25 < best.stop
    assert best.score == pytest.approx(0.9 / 5)
    assert all(not p.start <= 25 < p.stop for p in localise(scores, 0.2, stride=5, keep_unopposed=False))


def test_a_whole_video_above_the_threshold_gives_finite_scores() -> None:
    found = localise([0.5] * 30, 0.2, stride=10, max_window=30)
    assert found[0] == Proposal(0, 30, 0, 0.5)  # nothing outside: it counts as 0
    assert all(math.isfinite(p.score) for p in found)


def test_a_flat_line_pulls_no_start_back() -> None:
    assert all(p.dynamic_start == p.start for p in localise([0.5] * 30, 0.2, stride=5))


def test_a_start_is_pulled_back_to_where_the_climb_began() -> None:
    scores = [0.21] * 20 + [0.21 + 0.05 * n for n in range(1, 9)] + [0.61] * 10 + [0.1] * 20 + [0.25] * 20
    best = localise(scores, 0.2, stride=10)[0]
    assert best.dynamic_start < best.start
    assert best.dynamic_start == pytest.approx(19, abs=2)


def test_a_climb_from_the_first_frame_on_begins_there() -> None:
    scores = [0.25 + 0.01 * n for n in range(20)] + [0.1] * 20
    assert all(p.dynamic_start == 0 for p in localise(scores, 0.2, stride=5) if p.stop <= 19)


def test_kept_windows_do_not_overlap_much() -> None:
    rng = np.random.default_rng(0)
    found = localise(rng.uniform(0, 1, 500), 0.2)
    assert len(found) == 10
    for number, one in enumerate(found):
        assert all(overlap(one.start, one.stop - one.start, other.start, other.stop - other.start) <= 0.3 for other in found[:number])
    assert [p.score for p in found] == sorted((p.score for p in found), reverse=True)


def test_long_videos_take_memory_in_proportion_to_their_length() -> None:
    import tracemalloc

    # Four hours at 3 fps have 35 million windows, whose scores alone would take 280 MB.
    scores = np.random.default_rng(0).uniform(0, 0.4, 43_200)
    tracemalloc.start()
    localise(scores, 0.2)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 43_200 * 8 * 16
