"""A run made of some of another's traces, and files of rows beside the traces."""

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from act2see.core.errors import StoreError
from act2see.core.trace import Trace
from act2see.storage.runs import JSON, Place, Run, file_of
from stored_traces import CONFIG, same, trace

NAMES = {"one": 0, "two": 1, "three": 50}
"""Seeds of their pictures: the first two have some in common."""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = Run.create(tmp_path / "run", command="construct", config=CONFIG, seed=3)
    for name, seed in NAMES.items():
        made.append(trace(name, seed))
    return made


def lines(run: Run) -> list[bytes]:
    return (run.folder / "traces.jsonl").read_bytes().splitlines(keepends=True)


def files(run: Run) -> dict[str, Path]:
    return {path.name: path for path in (run.folder / "frames").iterdir()}


def subset(run: Run, *names: str, to: str = "kept") -> Run:
    return run.subset(run.folder.parent / to, lambda place, item: item.id in names, command="filter", config={"limit": 0.8}, seed=None)


def test_kept_lines_are_as_they_were_in_their_order(run: Run) -> None:
    before = lines(run)
    spaced = json.dumps(json.loads(before[1]), indent=None, separators=(" ,", " : ")).encode() + b"\n"  # as another version may have written it
    (run.folder / "traces.jsonl").write_bytes(before[0] + spaced + before[2] + b'{"version": 1, "id": "cut')
    made = subset(run, "three", "two")
    assert lines(made) == [spaced, before[2]]
    assert [same(item, trace(item.id, NAMES[item.id])) for item in made.traces()] == [True, True]


def test_it_is_a_run_of_its_own(run: Run) -> None:
    made = Run.open(subset(run, "one").folder)
    assert (made.command, made.config, made.seed) == ("filter", {"limit": 0.8}, None)
    made.append(trace("four", 9))
    assert made.ids() == {"one", "four"}
    assert run.ids() == set(NAMES)
    again = made.subset(run.folder.parent / "again", lambda place, item: True, command="filter", config={}, seed=None)
    assert again.digest_of_traces() == made.digest_of_traces()


def test_the_frames_are_the_same_files(run: Run) -> None:
    made = subset(run, "one", "two")
    assert len(files(made)) == 6  # four real ones and two imagined: three pictures stand in both traces, of them one as a real and an imagined frame
    for name, path in files(made).items():
        assert path.samefile(files(run)[name])


def test_where_files_cannot_have_two_names_they_are_copied(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path, *, follow_symlinks: bool) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    made = subset(run, "one", "two")
    assert [same(item, trace(item.id, NAMES[item.id])) for item in made.traces()] == [True, True]
    for name, path in files(made).items():
        assert not path.samefile(files(run)[name])
        assert path.read_bytes() == files(run)[name].read_bytes()


def test_a_missing_frame_is_told_in_one_line(run: Run) -> None:
    missing = file_of(run.sketch_at(list(run.places())[2]).frames[0])
    files(run)[missing].unlink()
    with pytest.raises(StoreError) as caught:
        subset(run, "three")
    where = run.folder / "traces.jsonl"
    assert str(caught.value) == f"{where}:3: {run.folder / 'frames' / missing} is missing: the trace cannot be kept without it"
    assert subset(run, "one", to="others").ids() == {"one"}  # a trace that is left out needs none of its frames


def test_no_picture_is_read_to_choose(run: Run) -> None:
    for path in files(run).values():
        path.write_bytes(b"no picture")
    asked: list[tuple[str, set[tuple[int, int]]]] = []

    def keep(place: Place, item: Trace) -> bool:
        asked.append((item.id, {frame.image.size for frame in item.frames}))
        return True

    run.subset(run.folder.parent / "kept", keep, command="filter", config={}, seed=None)
    assert asked == [(name, {(1, 1)}) for name in NAMES]


def test_nothing_is_kept(run: Run) -> None:
    made = subset(run)
    assert list(made.traces()) == []
    assert files(made) == {}


@pytest.mark.parametrize("name", ["run", "other"])
def test_a_folder_that_holds_a_run_is_refused(name: str, run: Run) -> None:
    if name == "other":
        Run.create(run.folder.parent / name, command="ask", config={}, seed=0).append(trace("x"))
    before = (run.folder.parent / name / "traces.jsonl").read_bytes()
    with pytest.raises(StoreError, match="holds a run already"):
        subset(run, "one", to=name)
    assert (run.folder.parent / name / "traces.jsonl").read_bytes() == before


def test_a_line_that_is_no_trace_is_named(run: Run) -> None:
    with (run.folder / "traces.jsonl").open("ab") as file:
        file.write(b'{"version": 1}\n')
    with pytest.raises(StoreError, match=r"traces\.jsonl:4"):
        subset(run, "one")


# Files of rows


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


@given(st.lists(st.dictionaries(st.text(), JSON_VALUES, max_size=3), max_size=5))
def test_rows_come_back_with_their_places(tmp_path_factory: pytest.TempPathFactory, rows: list[Mapping[str, JSON]]) -> None:
    run = Run.create(tmp_path_factory.mktemp("rows") / "run", command="ask", config={}, seed=0)
    assert run.rows("some.jsonl") is None
    run.write_rows("some.jsonl", iter(rows))
    assert run.rows("some.jsonl") == [(f"{run.folder}/some.jsonl:{number}", row) for number, row in enumerate(rows, start=1)]


def test_rows_that_cannot_be_written_leave_the_old_ones(run: Run) -> None:
    run.write_rows("some.jsonl", [{"id": "one"}])
    with pytest.raises(StoreError, match="not JSON compliant"):
        run.write_rows("some.jsonl", [{"id": "two"}, {"id": float("nan")}])
    assert [row for _, row in run.rows("some.jsonl") or ()] == [{"id": "one"}]
    run.write_rows("some.jsonl", [])
    assert run.rows("some.jsonl") == []
    assert {path.name for path in run.folder.iterdir()} == {"run.json", "traces.jsonl", "frames", "some.jsonl"}


def test_a_broken_row_is_named(run: Run) -> None:
    (run.folder / "some.jsonl").write_bytes(b'{"id": 1}\n\n')
    with pytest.raises(StoreError, match=r"some\.jsonl:2: no JSON"):
        run.rows("some.jsonl")
