"""What a data file may hold and what of it is refused: every fault is one line with its place, and no name leads out of the folder."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from act2see.benchmarks.jsonl import JsonLines
from act2see.benchmarks.reading import Findings, Record, as_integer, check_inside, collect, find_files, locate, records, select
from act2see.core.errors import ConfigError
from act2see.core.interfaces import Sample
from made_up_sets import rows_of_jsonl, write_csv, write_json, write_jsonl, write_parquet


def problems_of(path: Path) -> list[str]:
    found = Findings()
    list(records(path, found))
    return found.problems


def values_of(path: Path) -> list[object]:
    found = Findings()
    values = [dict(record.values) for record in records(path, found)]
    assert found.problems == []
    return list(values)


# Files


def test_the_same_rows_come_back_from_every_kind_of_file(tmp_path: Path) -> None:
    rows = rows_of_jsonl()[:4]
    assert values_of(write_json(tmp_path / "a.json", rows)) == rows
    assert values_of(write_jsonl(tmp_path / "a.jsonl", rows)) == rows
    assert values_of(write_json(tmp_path / "page.json", {"features": [], "rows": [{"row_idx": 0, "row": row} for row in rows]})) == rows
    assert values_of(write_json(tmp_path / "one.json", rows[0])) == rows[:1]
    flat = [{"a": "x, y\u2028z", "b": "two\nlines"}, {"a": 'a "quote"', "b": ""}]
    assert values_of(write_csv(tmp_path / "a.csv", [*flat])) == flat
    nested: list[dict[str, Any]] = [{"options": ["A. x", "B. y"], "n": 3}, {"options": [], "n": None}]
    assert values_of(write_parquet(tmp_path / "a.parquet", [*nested])) == nested


def test_places_are_lines_or_numbers(tmp_path: Path) -> None:
    found = Findings()
    rows = [{"a": "1\n2"}, {"a": "3"}]
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n\n{"a": 2}\n')
    assert [record.where for record in records(tmp_path / "a.jsonl", found)] == ["a.jsonl:1", "a.jsonl:3"]
    assert [record.where for record in records(write_csv(tmp_path / "a.csv", [*rows]), found)] == ["a.csv:3", "a.csv:4"]
    assert [record.where for record in records(write_json(tmp_path / "a.json", rows), found)] == ["a.json: item 1", "a.json: item 2"]
    assert [record.where for record in records(write_parquet(tmp_path / "a.parquet", [*rows]), found)] == ["a.parquet: row 1", "a.parquet: row 2"]
    named = list(records(write_json(tmp_path / "named.json", {"clip-1": {"a": 1}, "clip-2": {"a": 2}}), found))
    assert [(record.where, record.key) for record in named] == [
        ('named.json: item 1 ("clip-1")', "clip-1"),
        ('named.json: item 2 ("clip-2")', "clip-2"),
    ]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_byte_order_marks_and_line_ends_change_nothing(tmp_path: Path, mark: str, newline: str) -> None:
    rows = [{"a": "x", "b": "é"}, {"a": "y", "b": "z"}]
    texts = {
        "a.json": json.dumps(rows, indent=1, ensure_ascii=False),
        "a.jsonl": "\n".join(json.dumps(row, ensure_ascii=False) for row in rows),
        "a.csv": "a,b\nx,é\ny,z\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_bytes((mark + text.replace("\n", newline)).encode())
        found = Findings()
        assert [dict(record.values) for record in records(tmp_path / name, found)] == rows
        assert found.problems == []
        assert found.notes == ([f"{name}: starts with a byte order mark, which is ignored"] if mark else [])


@given(data=st.data())
def test_a_file_that_was_cut_off_is_one_line(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    text = json.dumps(rows_of_jsonl()[:3], indent=1)
    path = tmp_path_factory.mktemp("cut") / "cut.json"
    path.write_text(text[: data.draw(st.integers(1, len(text) - 1))])
    (problem,) = problems_of(path)
    assert problem.startswith("cut.json:")
    assert "invalid JSON" in problem
    assert "\n" not in problem


FAULTS = {
    "cut off": (
        "a.json",
        b'[{"a": "bc',
        "a.json:1: invalid JSON: Unterminated string starting at column 8; the file is truncated: download it again",
    ),
    "a comma too many": ("a.json", b'[{"a": 1},\n]', "a.json:"),
    "an empty file": ("a.json", b"", "a.json:1: invalid JSON: Expecting value at column 1"),
    "a name twice": ("a.json", b'{"x": {"a": 1}, "x": {"a": 2}}', 'a.json: invalid JSON: duplicate key "x" in one object'),
    "no number": ("a.json", b'[{"a": NaN}]', "a.json: invalid JSON: NaN is not allowed"),
    "no object": ("a.json", b'[{"a": 1}, 7]', "a.json: item 2: got 7, expected an object"),
    "no UTF-8": ("a.json", b'["\xff"]', "a.json: not UTF-8: byte 2 is 0xff"),
    "a bad line": (
        "a.jsonl",
        b'{"a": 1}\n{"a": \n',
        "a.jsonl:2: invalid JSON: Expecting value at column 7; the file is truncated: download it again",
    ),
    "a list in a line": ("a.jsonl", b"[1]\n", "a.jsonl:1: got [1], expected an object"),
    "too few values": ("a.csv", b"a,b\n1\n", "a.csv:2: got 1 values, expected 2"),
    "too many values": ("a.csv", b"a,b\n1,2,3,4\n", "a.csv:2: got 4 values, expected 2"),
    "an open quote": ("a.csv", b'a,b\n1,"2\n', "a.csv:2: invalid CSV: unexpected end of data"),
    "no table": ("a.parquet", b"PAR1 and no more", "a.parquet: not a Parquet table"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_each_fault_of_a_file_is_one_line_with_its_place(tmp_path: Path, case: str) -> None:
    name, content, expected = FAULTS[case]
    (tmp_path / name).write_bytes(content)
    (problem,) = problems_of(tmp_path / name)
    assert problem.startswith(expected)


def test_very_deep_json_and_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "deep.json").write_text("[" * 100_000)
    assert "invalid JSON" in problems_of(tmp_path / "deep.json")[0]
    (tmp_path / "folder.json").mkdir()
    assert problems_of(tmp_path / "folder.json")[0].startswith("folder.json: unreadable: ")
    with pytest.raises(ConfigError, match=r"cannot read a\.xml: question files end in \.json"):
        problems_of(tmp_path / "a.xml")


def test_files_are_found_by_the_first_pattern_that_fits(tmp_path: Path) -> None:
    for name in ("b.json", "a.json", "._a.json", "bench.json"):
        (tmp_path / name).write_text("[]")
    assert find_files(tmp_path, ("bench.json", "*.json")) == (tmp_path, [tmp_path / "bench.json"])
    assert [path.name for path in find_files(tmp_path, ("*.jsonl", "*.json"))[1]] == ["a.json", "b.json", "bench.json"]
    assert find_files(tmp_path / "a.json", ("bench.json",)) == (tmp_path, [tmp_path / "a.json"])
    with pytest.raises(ConfigError, match=r"has no question file \(expected \*\.csv or \*\.tsv"):
        find_files(tmp_path, ("*.csv", "*.tsv"))
    with pytest.raises(ConfigError, match=r"no folder .*nowhere"):
        find_files(tmp_path / "nowhere", ("*.csv",))


# Fields


def record(**values: object) -> Record:
    return Record("here", 1, values)


def test_a_field_under_another_versions_name_and_one_that_is_not_there() -> None:
    assert record(correct_idx=3).integer("correct", "correct_idx") == 3
    with pytest.raises(ConfigError, match="missing field 'videoID'; did you mean 'video_ID'\\? its fields are video_ID, question"):
        record(video_ID="x", question="?").text("videoID")
    with pytest.raises(ConfigError, match="missing field 'a' or 'b'; its fields are none"):
        record().text("a", "b")


@pytest.mark.parametrize("value", [None, "", "  ", 1.5, True, ["x"], {"x": 1}])
def test_what_is_no_text(value: object) -> None:
    with pytest.raises(ConfigError, match=r"question is .*, expected a text"):
        record(question=value).text("question")


@pytest.mark.parametrize("value", ["x", {"a": "x"}, ["x", 1], ["x", ""], None])
def test_what_is_no_list_of_texts(value: object) -> None:
    with pytest.raises(ConfigError, match="options"):
        record(options=value).texts("options")


def test_texts_are_stripped_and_empty_ones_can_stand_for_something() -> None:
    assert record(options=[" a ", "b\n"]).texts("options") == ("a", "b")
    assert record(options=["a", " "]).texts("options", empty="None") == ("a", "None")
    assert record(id=7).text("id") == "7"


@given(st.integers(-(10**8), 10**8))
def test_whole_numbers_as_tables_write_them(number: int) -> None:
    for written in (number, str(number), f" {number}.0 ", float(number)):
        assert as_integer(written, "n") == number


@pytest.mark.parametrize("value", [True, None, "2.5", "two", 2.5, "", [1], "1e3"])
def test_what_is_no_whole_number(value: object) -> None:
    with pytest.raises(ConfigError, match=r"n is .*, expected an integer"):
        as_integer(value, "n")
    with pytest.raises(ConfigError):
        record(n=[value]).integers("n")
    with pytest.raises(ConfigError, match="list of integers"):
        record(n=value if not isinstance(value, list) else "1").integers("n")


# Videos


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../x.mp4", "a/../../x.mp4", "a\\..\\x.mp4", "C:\\x.mp4", "\\\\host\\x.mp4", "C:x.mp4", "a\x00b.mp4", "a\nb", "", " "]
)
def test_names_that_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="the video path is"):
        locate(tmp_path, name)
    with pytest.raises(ConfigError):
        check_inside(name)


@given(st.lists(st.sampled_from(["..", ".", "a", "b.mp4", "", "/", "\\", "~", "C:"]), min_size=1, max_size=6))
def test_no_name_leads_out_of_the_folder(parts: list[str]) -> None:
    root = Path("/data/set")
    try:
        found = locate(root, "/".join(parts))
    except ConfigError:
        return
    assert Path(*[part for part in found.parts if part != "."]).is_relative_to(root)
    assert ".." not in found.parts


def test_the_first_place_with_a_file_counts(tmp_path: Path) -> None:
    places = {"folders": ("videos", ""), "endings": (".mp4", ".mkv")}
    assert locate(tmp_path, "x", **places) == tmp_path / "videos" / "x.mp4"
    (tmp_path / "x.mkv").write_bytes(b"1")
    assert locate(tmp_path, "x", **places) == tmp_path / "x.mkv"
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "x.mkv").write_bytes(b"1")
    assert locate(tmp_path, "x", **places) == tmp_path / "videos" / "x.mkv"


# Data sets


def test_equal_faults_are_one_line_and_an_evaluation_stops_at_the_first(tmp_path: Path) -> None:
    rows = rows_of_jsonl()
    for row in rows[3:9]:
        del row["answer"]
    rows[10]["id"] = "q0"
    write_jsonl(tmp_path / "questions.jsonl", rows)
    found = Findings()
    samples = JsonLines(tmp_path).read(found)
    assert len(samples) == len(rows) - 7
    assert found.problems[-1] == 'questions.jsonl:11: duplicate id "q0", first used at questions.jsonl:1'
    assert sum("(and at " in problem for problem in found.problems) == 2  # one of lines with all fields, one of those without a source
    with pytest.raises(ConfigError, match=r"^questions\.jsonl:4: missing field 'answer'.*\(2 more: act2see benchmarks check jsonl lists"):
        list(JsonLines(tmp_path).samples())


def test_a_set_without_a_question_is_a_fault(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", [])
    found = Findings()
    assert collect([tmp_path / "a.json"], lambda _: [], found) == []
    assert found.problems == ["a.json: no questions"]


class Numbered:
    """A data set of so many questions."""

    name = "numbered"

    def __init__(self, count: int) -> None:
        self.count = count

    def samples(self) -> list[Sample]:
        return self.read(Findings())

    def is_right(self, sample: Sample, trace: object) -> bool | None:
        return None

    def read(self, found: Findings) -> list[Sample]:
        return [Sample(str(number), Path("x.mp4"), "?", (), "", "all") for number in range(self.count)]


@given(st.integers(1, 40), st.integers(1, 60), st.sampled_from([1, 2, 3]))
def test_some_of_the_questions_are_spread_over_the_set(records_count: int, count: int, together: int) -> None:
    size = records_count * together
    picked = [int(sample.id) for sample in select(Numbered(size), count, per_record=together)]
    assert len(picked) == min(count, size)
    assert picked == sorted(set(picked))
    if count < size:
        whole = picked[: len(picked) - len(picked) % together]
        assert all(at % together == number % together for number, at in enumerate(whole))
        gaps = [after // together - before // together for before, after in zip(picked, picked[together:], strict=False)]
        assert not gaps or max(gaps) - min(gaps) <= 1
    assert [sample.id for sample in select(Numbered(size), None)] == [str(number) for number in range(size)]
