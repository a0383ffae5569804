"""MINERVA: ids and addresses of videos, two spellings of the type, a person's reasoning."""

from pathlib import Path

import pytest

from act2see.benchmarks.minerva import Minerva
from act2see.benchmarks.reading import Findings
from act2see.core.interfaces import Sample
from made_up_sets import rows_of_minerva, write_json


def test_a_question_with_its_reasoning(tmp_path: Path) -> None:
    write_json(tmp_path / "minerva.json", rows_of_minerva())
    assert list(Minerva(tmp_path).samples())[1] == Sample(
        id="made-up-001:1",
        video=tmp_path / "videos" / "made-up-001.mp4",
        question="Which colour is meant by 1?",
        choices=("green", "blue", "yellow", "white", "red"),
        answer="red",
        kind="Short Films",
        groups=("type: Counting", "type: Temporal Reasoning", "category: Soccer"),
        reasoning="At 00:01 it is red.",
    )


@pytest.mark.parametrize(
    "address",
    [
        "https://www.youtube.com/watch?v=abcDEF-1_23",
        "http://youtube.com/watch?app=x&v=abcDEF-1_23&t=1s",
        "https://youtu.be/abcDEF-1_23?t=3",
        "https://m.youtube.com/shorts/abcDEF-1_23",
        "https://www.youtube-nocookie.com/embed/abcDEF-1_23",
    ],
)
def test_an_address_is_read_for_its_id(tmp_path: Path, address: str) -> None:
    write_json(tmp_path / "minerva.json", [{**rows_of_minerva()[0], "video_id": address}])
    assert next(Minerva(tmp_path).samples()).video == tmp_path / "videos" / "abcDEF-1_23.mp4"


@pytest.mark.parametrize(
    "address", ["https://example.org/watch?v=abcDEF-1_23", "file:///etc/passwd", "https://evil.org/youtu.be/abcDEF-1_23", "https://youtu.be/../../x"]
)
def test_other_addresses_are_faults(tmp_path: Path, address: str) -> None:
    write_json(tmp_path / "minerva.json", [{**rows_of_minerva()[0], "video_id": address}])
    found = Findings()
    assert Minerva(tmp_path).read(found) == []
    assert "expected a YouTube id or URL" in found.problems[0]


def test_faults_and_notes(tmp_path: Path) -> None:
    rows = rows_of_minerva()
    rows[0]["answer_id"] = 5
    rows[1]["answer_id"] = "two"
    del rows[2]["answer_choice_4"]
    rows[4]["answer"] = "Something else"
    rows[5]["answer"] = " RED. "
    for row in rows[6:]:
        row.pop("reasoning")
        row.pop("category")
    write_json(tmp_path / "minerva.json", rows)
    found = Findings()
    samples = Minerva(tmp_path).read(found)
    assert len(samples) == 17
    assert "the answer 5 is not one of the choices 0 to 4" in found.problems[0]
    assert 'answer_id is "two", expected an integer' in found.problems[1]
    assert "missing field 'answer_choice_4'; did you mean 'answer_choice_" in found.problems[2]
    assert found.notes == ["minerva.json: item 5: the answer differs from the choice at answer_id: answer_id is used"]
    assert samples[-1].reasoning is None
    assert samples[-1].groups == ("type: Counting", "type: Temporal Reasoning")
