"""`export` and `merge` as commands: what goes to stdout and stderr, one-line errors, and Ctrl-C."""

import errno
import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from act2see.store import Run
from act2see.trace import Answer, Frame, Step, Thought, Trace
from cli_fakes import Act2See, start


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with an answered trace and twelve without an answer."""
    run = Run.create(tmp_path / "run", command="ask", config={}, seed=None)
    for number in range(13):
        steps: list[Step] = [Thought("<think>Red.</think>"), *([Answer("B")] if number == 0 else [])]
        frames = (Frame(Image.new("RGB", (16, 16), (number, 0, 0)), 0.0),)
        run.append(Trace(f"q{number}", "clip.mp4", "What colour?", frames, steps=steps, finish="answer" if number == 0 else "end"))
    return run.folder


def test_what_is_exported_is_said_and_what_is_not_is_named(act2see: Act2See, run: Path) -> None:
    done = act2see("export", run, "--format", "trl", "--out", "data")
    assert (done.code, done.out) == (0, "1 traces, rendered as same_turn, 12 left out, in data\n")
    assert "act2see: note: trace q1 is left out: it has no answer (its end: end)\n" in done.err
    assert done.err.count("is left out") == 10
    assert "2 more are left out; data/export.json names them all" in done.err
    told = act2see("export", run, "--format", "parquet", "--out", "table", "--json")
    assert {name: value for name, value in json.loads(told.out).items() if name != "skipped"} == {
        "folder": "table",
        "format": "parquet",
        "traces": 1,
        "images": 0,
        "rendering": None,
    }
    assert [one["id"] for one in json.loads(told.out)["skipped"]] == [f"q{number}" for number in range(1, 13)]


def test_what_cannot_be_exported_is_one_line(act2see: Act2See, run: Path) -> None:
    assert "no run in nowhere" in act2see("export", "nowhere", "--format", "trl", "--out", "data").complaint
    assert "cannot express the rendering" in act2see("export", run, "--format", "swift", "--out", "data", "--rendering", "tool_turn").complaint
    assert act2see("export", run, "--format", "trl", "--out", "data").code == 0
    again = act2see("export", run, "--format", "trl", "--out", "data")
    assert again.code == 1
    assert "act2see: data is not empty" in again.err
    assert act2see("export", run, "--format", "trl", "--out", "data", "--overwrite").code == 0
    assert act2see("export", run, "--format", "csv", "--out", "other").code == 2


def _opened(pipe: Path) -> int | None:
    """The pipe's other end, once somebody waits to read it."""
    try:
        return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return None


def test_an_interrupted_export_leaves_nothing(tmp_path: Path, run: Path) -> None:
    (first,) = (json.loads(line)["frames"] for line in (run / "traces.jsonl").read_text().splitlines()[:1])
    (run / "frames" / first[0]["file"]).unlink()
    pipe = run / "frames" / first[0]["file"]
    os.mkfifo(pipe)  # whoever reads it waits
    process = start(tmp_path, "export", run, "--format", "trl", "--out", tmp_path / "data")
    # Not before it reads: Python dies of a SIGINT that falls into the import of some extension modules, whatever the program then does.
    while (writer := _opened(pipe)) is None:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    assert list(tmp_path.glob(".data.*"))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    os.close(writer)
    assert (process.returncode, out) == (130, "")
    assert "act2see: interrupted" in err
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_merged_model_answers_through_the_command_line(act2see: Act2See, tiny_vlm: Path, clip: Path, tmp_path: Path) -> None:
    import peft
    from transformers import AutoModelForImageTextToText

    base: Any = AutoModelForImageTextToText.from_pretrained(tiny_vlm, dtype="auto")
    peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(str(tmp_path / "adapter"))
    done = act2see("merge", tiny_vlm, "adapter", "--out", "merged", "--json")
    assert done.code == 0
    assert json.loads(done.out) == {"folder": "merged", "dtype": "float32", "layers": 5}
    asked = act2see(
        "ask", clip, "What?", "--backend", "huggingface:merged", "--greedy", "--max-tokens", "3", "--retriever", "none", "--device", "cpu"
    )
    assert asked.code == 3  # random weights answer nothing, but they write
    assert "no answer" in asked.err
    again = act2see("merge", tiny_vlm, "adapter", "--out", "merged")
    assert "merged is not empty" in again.complaint
    shutil.rmtree(tmp_path / "adapter")
    assert "no adapter in adapter: there is no such folder" in act2see("merge", tiny_vlm, "adapter", "--out", "other").complaint
