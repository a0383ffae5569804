"""The table gives back a run's traces; an export's folder is there whole or not at all."""

import resource
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from act2see.config import ExportConfig
from act2see.core import chat
from act2see.core.errors import ConfigError, StoreError
from act2see.core.trace import Answer, Frame, Observation, Retrieve, Thought, Trace
from act2see.curation.export import Format, export_run
from act2see.curation.export.parquet import SCHEMA, read
from act2see.storage.runs import Run, encode_trace
from exported_runs import FORMATS, FOUND, KNOWS, MADE, exported, lines_of, make_run, picture, trace_of

# The table


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path / "run")


def same(left: Trace, right: Trace) -> bool:
    """Equal in everything, pixels included."""

    def record(item: Trace) -> Any:
        return encode_trace(item, lambda frame: f"{frame.image.mode} {frame.image.size} {frame.image.tobytes().hex()}")

    return bool(record(left) == record(right))


def test_a_table_gives_back_the_runs_traces(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "other", command="ask", config={}, seed=3)
    run.append(trace_of("looks"))
    run.append(
        trace_of("odd", (Thought("\ud83d \u2028 <|im_end|>"), Retrieve("<image>"), Observation((Frame(picture(5, (600, 500)), 2.0),)), Answer("A")))
    )
    for number in range(20):  # more than one row group
        run.append(trace_of(f"more {number}", KNOWS, duration_seconds=None))
    done = exported(run, tmp_path / "out", "parquet")
    assert (done.traces, done.rendering, done.skipped) == (22, None, ())
    originals = list(run.traces())
    back = list(read(tmp_path / "out" / "traces.parquet"))
    assert len(back) == 22
    assert all(same(one, other) for one, other in zip(originals, back, strict=True))


def test_datasets_reads_the_table_with_pictures(run: Run, tmp_path: Path) -> None:
    from datasets import load_dataset

    exported(run, tmp_path / "out", "parquet")
    data = load_dataset("parquet", data_files=str(tmp_path / "out" / "traces.parquet"), split="train", cache_dir=str(tmp_path / "cache"))
    assert data.column_names == SCHEMA.names
    first = data[0]
    assert (first["id"], first["question"], first["choices"], first["answer"], first["looks"]) == ("looks", "What falls?", ["a cup", "a pen"], "A", 2)
    assert [np.asarray(image).tolist() for image in first["frames"]] == [
        np.asarray(image).tolist() for image in (picture(0), picture(1), FOUND.image, MADE.image)
    ]


def test_what_is_no_table_of_traces_is_refused_in_one_line(tmp_path: Path) -> None:
    from pyarrow import Table, parquet

    (tmp_path / "text.parquet").write_text("no table")
    parquet.write_table(Table.from_pydict({"a": [1]}), tmp_path / "other.parquet")
    for name, said in (("text", "cannot read"), ("other", "its columns are a"), ("missing", "cannot read")):
        with pytest.raises(StoreError, match=said) as caught:
            list(read(tmp_path / f"{name}.parquet"))
        assert "\n" not in str(caught.value)


# The folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_only_an_export_is_replaced_and_only_when_asked_to(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    exported(run, out, "swift")
    with pytest.raises(ConfigError, match=r"out is not empty .*: give a new folder"):
        exported(run, out, "trl")
    assert "train.jsonl" in names(out)
    exported(run, out, "trl", overwrite=True)
    assert names(out) == ["chat_template.jinja", "export.json", "images", "metadata.jsonl"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match=r"mine is not empty \(it holds thesis.txt\): only one with export.json in it is replaced"):
        exported(run, tmp_path / "mine", "trl", overwrite=True)
    assert names(tmp_path / "mine") == ["thesis.txt"]
    (tmp_path / "new").mkdir()
    assert exported(run, tmp_path / "new", "trl").traces == 2  # an empty one is as good as none
    with pytest.raises(ConfigError, match="is inside the run"):
        exported(run, run.folder / "out", "trl")
    with pytest.raises(ConfigError, match="it is no folder"):
        exported(run, tmp_path / "new" / "export.json", "trl")
    assert names(tmp_path) == ["mine", "new", "out", "run"]


def interrupt_after_one(done: int, total: int | None, what: str) -> None:
    assert (total, what) == (5, "traces")
    if done == 1:
        raise KeyboardInterrupt


@pytest.mark.parametrize("form", FORMATS)
def test_an_interrupted_export_leaves_what_was_there(run: Run, tmp_path: Path, form: Format) -> None:
    with pytest.raises(KeyboardInterrupt):
        export_run(run, ExportConfig(form, tmp_path / "out"), interrupt_after_one)
    assert names(tmp_path) == ["run"]
    exported(run, tmp_path / "out", "swift")
    before = names(tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        export_run(run, ExportConfig(form, tmp_path / "out", overwrite=True), interrupt_after_one)
    assert names(tmp_path / "out") == before
    assert names(tmp_path) == ["out", "run"]


@pytest.mark.parametrize("form", FORMATS)
def test_a_full_disk_is_one_line_and_leaves_nothing(run: Run, tmp_path: Path, form: Format) -> None:
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, old[1]))
        with pytest.raises(ConfigError, match=r"cannot write .*out: .*; nothing was left there") as caught:
            exported(run, tmp_path / "out", form)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == ["run"]


def test_nothing_to_export_and_broken_lines_are_errors(run: Run, tmp_path: Path) -> None:
    empty = Run.create(tmp_path / "empty", command="ask", config={}, seed=None)
    with pytest.raises(ConfigError, match="has no trace to export: it is empty"):
        exported(empty, tmp_path / "out", "trl")
    empty.append(trace_of("cut off", (), finish="length"))
    with pytest.raises(ConfigError, match=r"all 1 were skipped, the first because it has no answer \(its end: length\)"):
        exported(empty, tmp_path / "out", "trl")
    assert names(tmp_path) == ["empty", "run"]
    path = run.folder / "traces.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b'{"version": 99}\n', *lines[1:], b'{"version": 1, "version": 1}\n']))
    done = exported(run, tmp_path / "out", "trl")
    assert done.traces == 2
    reasons = {one.id: one.reason for one in done.skipped}
    assert reasons["of line 2"].startswith("traces.jsonl:2: format version 99")
    assert reasons["of line 7"] == 'traces.jsonl:7: the key "version" is there twice in one object'
    assert str(tmp_path) not in (tmp_path / "out" / "export.json").read_text()


def test_a_question_is_written_once(tmp_path: Path) -> None:
    """As two processes leave it that have answered the same, and as several tries at one question do."""
    run = Run.create(tmp_path / "run", command="eval", config={}, seed=None)
    for name, video in (("a", "1.mp4"), ("b", "2.mp4"), ("a", "1.mp4"), ("c#0", "3.mp4"), ("c#1", "3.mp4"), ("d", "1.mp4")):
        run.append(replace(trace_of(name, KNOWS), video=video))
    run.append(replace(trace_of("b", ()), finish="length"))  # what did not end takes nothing away
    run.append(replace(trace_of("e", KNOWS), video="3.mp4", choices=("a pen", "a saw")))
    done = exported(run, tmp_path / "out", "swift")
    assert (done.traces, len(lines_of(tmp_path / "out" / "train.jsonl"))) == (4, 4)
    assert [(one.id, one.reason.partition(" answers")[0]) for one in done.skipped if "once" in one.reason] == [
        ("a", "line 3"),
        ("a", "line 6"),
        ("c#0", "line 5"),
    ]


def test_what_a_format_cannot_express_is_refused(run: Run, tmp_path: Path) -> None:
    refused: list[tuple[Format, chat.Rendering]] = [
        ("trl", "tool_turn"),
        ("llamafactory", "same_turn"),
        ("swift", "tool_turn"),
        ("parquet", "same_turn"),
    ]
    for form, rendering in refused:
        with pytest.raises(ConfigError, match=f"format '{form}' cannot express the rendering '{rendering}'"):
            exported(run, tmp_path / "out", form, rendering=rendering)
    assert names(tmp_path) == ["run"]


def test_a_run_whose_frames_are_gone_exports_nothing(run: Run, tmp_path: Path) -> None:
    shutil.rmtree(run.folder / "frames")
    with pytest.raises(ConfigError, match=r"all 5 were skipped, the first because traces\.jsonl:1: frames/\w+\.png is missing"):
        exported(run, tmp_path / "out", "llamafactory")
