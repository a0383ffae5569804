"""Our own format: exactly the documented fields, and answers that are choices."""

from pathlib import Path
from typing import Any

import pytest

from act2see.benchmarks.jsonl import FIELDS, JsonLines
from act2see.benchmarks.reading import Findings
from act2see.core.interfaces import Sample
from made_up_sets import answered, rows_of_jsonl, write_jsonl

DOCUMENT = Path(__file__).parents[2] / "docs" / "benchmarks.md"


def test_a_line(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "questions.jsonl", rows_of_jsonl())
    assert list(JsonLines(tmp_path).samples())[1] == Sample(
        id="q1",
        video=tmp_path / "clips" / "1.mp4",
        question="Which colour is meant by 1?",
        choices=("green", "blue", "red"),
        answer="red",
        kind="ours",
        reasoning="It is red.",
        licence="CC0-1.0",
    )


def test_the_document_tells_of_every_field_and_its_example_loads(tmp_path: Path) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert all(f"`{field}`" in text for field in FIELDS)
    example = text.split("```json\n")[1].split("```")[0]
    (tmp_path / "questions.jsonl").write_text(example, encoding="utf-8")
    choice, opened = JsonLines(tmp_path).samples()
    assert choice.choices
    assert not opened.choices


def test_an_open_question_is_right_in_the_same_words_only(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "questions.jsonl", [{"id": "a", "video": "a.mp4", "question": "?", "choices": [], "answer": "A red  star."}])
    data = JsonLines(tmp_path)
    (sample,) = data.samples()
    assert data.is_right(sample, answered("a", " a RED star ")) is True
    for other in (None, "a star", "it is a red star"):
        assert data.is_right(sample, answered("a", other)) is None


def _line(**values: Any) -> dict[str, Any]:
    row = {"id": "a", "video": "a.mp4", "question": "?", "choices": ["x", "y"], "answer": "x"} | values
    return {name: value for name, value in row.items() if value is not ...}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (_line(licence=..., license="MIT"), 'unknown field "license"; allowed are id, video'),
        (_line(answer="B"), 'the answer "B" is not one of the choices ["x", "y"]: write the full text of a choice'),
        (_line(answer=...), "missing field 'answer'"),
        (_line(choices=["x"]), "got 1 choices, expected 2 to 26, or none for an open question"),
        (_line(choices=["x", "X"]), "duplicate choice"),
        (_line(choices="x"), 'choices is "x", expected a list of texts'),
        (_line(video="../a.mp4"), "`..` leaves"),
        (_line(reasoning=["x"]), "reasoning is"),
    ],
)
def test_faults(tmp_path: Path, line: dict[str, Any], words: str) -> None:
    write_jsonl(tmp_path / "questions.jsonl", [_line(id="good"), line])
    found = Findings()
    assert [sample.id for sample in JsonLines(tmp_path).read(found)] == ["good"]
    assert found.problems[0].startswith("questions.jsonl:2: ")
    assert words in found.problems[0]
