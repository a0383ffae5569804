"""EgoNormia's official rule: numbers anywhere, a shuffled order turned back, lists on one line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from act2see.benchmarks.official.egonormia import FORM, IN_ORDER, OPTIONS, Best, Sensible, last_number, pick_best, pick_sensible

orders = st.permutations(IN_ORDER)
places = st.integers(0, OPTIONS - 1)


@pytest.mark.parametrize(
    ("output", "number"),
    [
        ("3", 3),
        ("1 or 4", 4),
        ("2.5", 5),
        ("-2", 2),
        ("option2b", 2),
        ("03", 3),
        ("٤", 4),  # a decimal digit of another script
        ("²", None),
        ("two", None),
        ("", None),
        (None, None),
        ("1\n2\n", 2),
        ("9" * 5000, None),  # more digits than Python reads
    ],
)
def test_the_last_number(output: str | None, number: int | None) -> None:
    assert last_number(output) == number


@pytest.mark.parametrize(
    ("behaviour", "justification", "results", "points"),
    [
        ("2", "2", (1, 1), (1, 1, 1)),
        ("2", "3", (1, 2), (1, 0, 0)),
        ("3", "2", (2, 1), (0, 1, 0)),
        ("0", "2", (4, 1), (0, 1, 0)),  # out of range: the last place
        ("99", "2", (4, 1), (0, 1, 0)),
        ("2", "0", (1, -1), (1, 0, 0)),  # out of range: nothing
        ("2", "6", (1, -1), (1, 0, 0)),
        ("2", "two", (-1, -1), (0, 0, 0)),  # both are nothing
        ("two", "2", (-1, -1), (0, 0, 0)),
        (None, None, (-1, -1), (0, 0, 0)),
    ],
)
def test_behaviour_and_justification(
    behaviour: str | None, justification: str | None, results: tuple[int, int], points: tuple[int, int, int]
) -> None:
    best = pick_best(behaviour, justification, 1)
    assert best == Best(results, (1, 1))
    assert best.points == points
    assert best.is_saved == (results != (-1, -1))


def test_out_of_range_is_the_last_place_of_a_shuffled_order_too() -> None:
    assert pick_best("7", "7", 0, [1, 2, 3, 4, 0]).results == (0, -1)


@given(orders, places)
def test_a_perfect_pick_is_right_in_any_order(order: list[int], gold: int) -> None:
    place = FORM.format(order.index(gold) + 1)
    assert pick_best(place, place, gold, order).points == (1, 1, 1)


@given(orders, places, places)
def test_another_pick_is_wrong_in_any_order(order: list[int], gold: int, place: int) -> None:
    said = str(place + 1)
    assert pick_best(said, said, gold, order).points == ((1, 1, 1) if order[place] == gold else (0, 0, 0))


@pytest.mark.parametrize(
    ("output", "results"),
    [
        ("[]", ()),
        ("[1]", (0,)),
        ("[5, 1]", (4, 0)),
        ("[1, 1]", (0, 0)),
        ("Sensible: [2].", (1,)),
        ("[3]\n[1, 2]", (0, 1)),
        ("[1, 2]\nnone of [them]", (-1, -1)),  # the last line with brackets
        ("[1] and [2]", (-1, -1)),  # from the first bracket of the line to the last
        ("[1]]", (-1, -1)),
        ("[[1], 2]", (-1, -1)),
        ("[1], [2]", (-1, -1)),
        ("[1,\n2]", (-1, -1)),
        ("[1,\r2]", (0, 1)),
        ("[True]", (0,)),
        ("[False]", ()),
        ("[None]", (-1, -1)),
        ("['1']", (-1, -1)),
        ("[1.0]", (0,)),
        ("[1.5]", (-1, -1)),
        ("[0.5]", (-1, -1)),
        ("[1.5, 9]", ()),
        ("[-1]", ()),
        ("[1, 6]", ()),
        ("[1e999]", ()),
        ("[1j]", (-1, -1)),
        ("[1 + 1]", (-1, -1)),
        ("[01]", (-1, -1)),
        ("[1 2]", (-1, -1)),
        ("[a]", (-1, -1)),
        ("[...]", (-1, -1)),
        ("[" + "9" * 400 + "]", ()),
        ("[" + "9" * 5000 + "]", (-1, -1)),
        ("[" * 500 + "]" * 500, (-1, -1)),
        ("[" + "-" * 20_000 + "1]", (-1, -1)),
        (r"['\d']", (-1, -1)),  # Python warns of the escape; a model's text is no reason to warn
        ("[__import__('os').getcwd()]", (-1, -1)),  # nothing is ever called
        ("1, 2", (-1, -1)),
        ("(1, 2)", (-1, -1)),
        ("", (-1, -1)),
        (None, (-1, -1)),
    ],
)
def test_a_list_of_sensible_ones(output: str | None, results: tuple[int, ...]) -> None:
    sensible = pick_sensible(output, [0, 1])
    assert sensible == Sensible(results, (0, 1))
    assert sensible.is_saved == (results != (-1, -1))


@pytest.mark.parametrize(
    ("output", "gold", "iou"),
    [
        ("[1, 2]", [0, 1], 1.0),
        ("[1, 2, 3]", [0], 1 / 3),
        ("[1, 1]", [0], 1.0),
        ("[2]", [0], 0.0),
        ("[]", [0], 0.0),
        ("[1]", [], 0.0),
        ("[]", [], None),
        ("[9]", [], None),
        ("?", [], 0.0),
    ],
)
def test_the_overlap_of_lists(output: str, gold: list[int], iou: float | None) -> None:
    assert pick_sensible(output, gold).iou == iou


@given(orders, st.sets(places, min_size=1), st.sets(places))
def test_the_overlap_is_that_of_the_sets_in_any_order(order: list[int], gold: set[int], picked: set[int]) -> None:
    said = str([order.index(one) + 1 for one in sorted(picked)])
    assert pick_sensible(said, sorted(gold), order).iou == len(gold & picked) / len(gold | picked)
