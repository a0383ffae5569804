"""CausalVQA: pairs from one row, numbers as tables write them, answers that are kept."""

from pathlib import Path
from typing import Any

import pytest

from act2see.benchmarks.causalvqa import CausalVQA, pair_of
from act2see.benchmarks.reading import Findings
from act2see.benchmarks.social_genome import SocialGenome
from made_up_sets import answered, rows_of_causalvqa, rows_of_social_genome, write_csv, write_json


def test_a_row_is_asked_twice(tmp_path: Path) -> None:
    write_csv(tmp_path / "metadata.csv", rows_of_causalvqa())
    first, second, *_ = CausalVQA(tmp_path).samples()
    assert (first.id, second.id) == ("pair-0/1", "pair-0/2")
    assert pair_of(first) == pair_of(second) == "pair-0"
    assert first.question == second.question
    assert first.choices == ("It is red.", "It is green.", "It is blue.", "It is yellow.", "It is white.")
    assert second.choices[0] == "green it is."
    assert (first.answer, second.answer) == ("It is red.", "red it is.")
    assert first.kind == "anticipation"
    assert first.groups == ("difficulty: easy", "anticipation, easy")
    assert first.video == tmp_path / "videos" / "made-up-0.mp4"


def test_numbers_need_not_be_in_order(tmp_path: Path) -> None:
    rows = rows_of_causalvqa()[:1]
    rows[0] |= {"choices1": "3. falls|1. stays| 2. rolls: 4 times ", "correct1": 1}
    write_csv(tmp_path / "metadata.csv", rows)
    sample = next(CausalVQA(tmp_path).samples())
    assert sample.choices == ("falls", "stays", "rolls: 4 times")
    assert sample.answer == "stays"
    assert CausalVQA(tmp_path).is_right(sample, answered("q", "B")) is True


def test_the_set_with_answers_is_taken_first(tmp_path: Path) -> None:
    rows = rows_of_causalvqa()
    write_csv(tmp_path / "test" / "test_metadata.csv", [{**row, "correct1": "", "correct2": ""} for row in rows])
    kept = list(CausalVQA(tmp_path).samples())
    assert {sample.answer for sample in kept} == {""}
    assert {CausalVQA(tmp_path).is_right(sample, answered("q", "A")) for sample in kept} == {None}
    write_csv(tmp_path / "debug" / "debug_metadata.csv", rows[:2])
    assert [bool(sample.answer) for sample in CausalVQA(tmp_path).samples()] == [True] * 4


def _row(**values: Any) -> list[dict[str, Any]]:
    return [{**rows_of_causalvqa()[0], **values}]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (_row(choices1="1. a|b"), 'the choice "b" has no number: expected `1. text|2. text`'),
        (_row(choices1="1. a|1. b"), "duplicate choice 1"),
        (_row(choices1="1. a"), "got 1 options, expected 2 or 3 or 4 or 5"),
        (_row(correct1="6"), "the answer 6 is not one of the choices 1, 2, 3, 4, 5"),
        (_row(correct1="b"), 'correct1 is "b", expected an integer'),
        (_row(renamed_video="../x.mp4"), "`..` leaves"),
        ([{name: value for name, value in _row()[0].items() if name != "correct1"}], "missing field 'correct1'; did you mean 'correct2'?"),
    ],
)
def test_faults(tmp_path: Path, rows: list[dict[str, Any]], words: str) -> None:
    write_csv(tmp_path / "metadata.csv", rows)
    found = Findings()
    assert CausalVQA(tmp_path).read(found) == []
    (problem,) = found.problems
    assert problem.startswith("metadata.csv:2: ")
    assert words in problem


def test_social_genome_with_answers_and_without(tmp_path: Path) -> None:
    write_json(tmp_path / "qa_test.json", rows_of_social_genome())
    found = Findings()
    kept = SocialGenome(tmp_path).read(found)
    assert kept[1].choices == ("green", "blue", "yellow", "red")
    assert SocialGenome(tmp_path).is_right(kept[1], answered("q", "D")) is None
    assert found.problems == []
    assert found.notes[0].endswith("no answer counts as right (and at 19 more places)")
    write_json(tmp_path / "qa_test.json", [{**row, "answer_idx": number % 5} for number, row in enumerate(rows_of_social_genome())])
    found = Findings()
    known = SocialGenome(tmp_path).read(found)
    assert SocialGenome(tmp_path).is_right(known[1], answered("q", "B")) is True
    assert SocialGenome(tmp_path).is_right(known[1], answered("q", "D")) is False
    assert found.problems == ["qa_test.json: item 5: the answer 4 is not one of the choices 0 to 3 (and at 3 more places)"]
