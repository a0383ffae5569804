"""EgoNormia: three questions an item, two ways to name the fields, empty options, and the question that quotes an answer."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from act2see.benchmarks.egonormia import EgoNormia, listed
from act2see.benchmarks.reading import Findings
from made_up_sets import answered, clip, rows_of_egonormia, write_json, write_parquet


def test_three_questions_an_item(tmp_path: Path) -> None:
    write_json(tmp_path / "final_data.json", rows_of_egonormia())
    what, why, which = list(EgoNormia(tmp_path).samples())[:3]
    assert [sample.id for sample in (what, why, which)] == ["clip-0/behaviour", "clip-0/justification", "clip-0/sensible"]
    assert [sample.kind for sample in (what, why, which)] == ["behaviour", "justification", "sensible"]
    assert what.choices == ("do red", "do green", "do blue", "do yellow", "None")
    assert why.choices == ("because of red", "because of green", "because of blue", "because of yellow", "None")
    assert (what.answer, why.answer, which.answer) == ("do red", "because of red", "[1, 2]")
    assert '"do red"' in why.question
    assert which.choices == ()
    assert which.question.endswith("\n1. do red\n2. do green\n3. do blue\n4. do yellow\n5. None")
    assert what.groups == ("norm: Safety", "norm: Politeness")
    assert "empty world" not in what.question + why.question + which.question  # the description would tell what is to be seen


def test_none_is_an_option_wherever_it_stands_and_can_be_right(tmp_path: Path) -> None:
    write_json(tmp_path / "final_data.json", rows_of_egonormia())
    samples = {sample.id: sample for sample in EgoNormia(tmp_path).samples()}
    places = {samples[f"clip-{number}/behaviour"].choices.index("None") for number in range(20)}
    assert places == {0, 1, 2, 3, 4}
    what, which = samples["clip-9/behaviour"], samples["clip-9/sensible"]
    assert (what.answer, which.answer) == ("None", "[]")
    data = EgoNormia(tmp_path)
    assert data.is_right(what, answered("q", "None")) is True
    assert data.is_right(which, answered("q", "[]")) is True
    assert data.is_right(which, answered("q", "None.")) is True
    assert data.is_right(which, answered("q", "[1]")) is False


def test_the_hubs_names_and_the_repositorys_are_the_same(tmp_path: Path) -> None:
    rows = rows_of_egonormia()
    write_json(tmp_path / "repository" / "final_data.json", rows)
    renamed = {"correct": "correct_idx", "sensibles": "sensible_idx", "desc": "description"}
    hub = [{renamed.get(name, name): value for name, value in row.items() if name != "taxonomy"} for row in rows.values()]
    write_parquet(tmp_path / "hub" / "train.parquet", hub)
    first, second = (list(EgoNormia(tmp_path / place).samples()) for place in ("repository", "hub"))
    assert [(one.id, one.question, one.choices, one.answer) for one in first] == [(one.id, one.question, one.choices, one.answer) for one in second]


def test_the_clip_ends_before_what_is_asked(tmp_path: Path) -> None:
    write_json(tmp_path / "final_data.json", rows_of_egonormia())
    clip(tmp_path / "video" / "clip-0" / "video_during.mp4")
    assert next(EgoNormia(tmp_path).samples()).video == tmp_path / "video" / "clip-0" / "video_prev.mp4"
    clip(tmp_path / "videos" / "clip-0.mp4")
    assert next(EgoNormia(tmp_path).samples()).video == tmp_path / "videos" / "clip-0.mp4"


def test_the_justification_can_quote_the_models_own_behaviour(tmp_path: Path) -> None:
    write_json(tmp_path / "final_data.json", rows_of_egonormia())
    own, right = EgoNormia(tmp_path, given="own"), EgoNormia(tmp_path)
    what, why, which = list(own.samples())[:3]
    assert [own.after(sample) for sample in (what, why, which)] == [None, what.id, None]
    assert [right.after(sample) for sample in (what, why, which)] == [None, None, None]
    asked = own.given_answer(why, answered(what.id, "C", what.choices))
    assert '"do blue"' in asked.question
    assert "do red" not in asked.question
    assert (asked.id, asked.choices, asked.answer) == (why.id, why.choices, why.answer)
    for silent in (None, answered(what.id, None, what.choices), answered(what.id, "either", what.choices)):
        assert 'this was chosen: "None"' in own.given_answer(why, silent).question


@given(st.sets(st.integers(1, 5)))
def test_lists_are_read_in_every_common_form(numbers: set[int]) -> None:
    joined = ", ".join(map(str, sorted(numbers)))
    assert listed(f"[{joined}]") == listed(f" [ {joined.replace(', ', ' ,')} ]. ") == frozenset(numbers)
    if numbers:
        assert listed(joined) == frozenset(numbers)


@pytest.mark.parametrize("answer", [None, "", "[1, 6]", "[0]", "1 and 2", "[1] or [2]", "[1, 2", "1, 2]", "[[1]]", "[1.5]", "[-1]", "A", "[1 2]"])
def test_what_is_no_list_for_sure(answer: str | None) -> None:
    assert listed(answer) is None


def test_faults_of_single_items(tmp_path: Path) -> None:
    rows = rows_of_egonormia()
    rows["clip-0"]["behaviors"].pop()
    rows["clip-1"]["correct"] = 5
    rows["clip-2"]["sensibles"] = [0, -1]
    rows["clip-3"]["sensibles"] = "0"
    rows["clip-4"]["taxonomy"] = {str(rows["clip-4"]["correct"]): "Safety"}
    del rows["clip-5"]["id"]
    write_json(tmp_path / "final_data.json", rows)
    found = Findings()
    samples = EgoNormia(tmp_path).read(found)
    assert len(samples) == 3 * 15
    assert samples[0].id == "clip-5/behaviour"
    expected = (
        "got 4 behaviors, expected 5",
        "the answer 5 is not one of",
        "the answer -1 is not one of",
        'sensibles is "0", expected a list',
        "taxonomy is ",
    )
    assert len(found.problems) == 5
    for number, (problem, words) in enumerate(zip(found.problems, expected, strict=True), start=1):
        assert problem.startswith(f'final_data.json: item {number} ("clip-{number - 1}"): {words}')
