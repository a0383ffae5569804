"""`export` and `merge` as commands: what goes to stdout and stderr, one-line errors, and Ctrl-C."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from act2see.core.trace import Answer, Frame, Step, Thought, Trace
from act2see.storage.runs import Run
from cli_fakes import Act2See


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
    assert (done.code, done.out) == (0, "1 traces, rendered as same_turn, 12 skipped, in data\n")
    assert "act2see: note: skipped trace q1: it has no answer (its end: end)\n" in done.err
    assert done.err.count("skipped trace") == 10
    assert "2 more skipped; data/export.json lists all" in done.err
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


_STUCK = """
import sys, time
import act2see.curation.export.writing as exporting
from act2see.cli import main

whole = exporting.stored

def stuck(run):
    for one in whole(run):
        yield one
        print("begun", flush=True)
        time.sleep(600)

exporting.stored = stuck
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def stuck(run: Path, tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """An export that has written one trace and goes no further."""
    command = (sys.executable, "-c", _STUCK, "export", str(run), "--format", "trl", "--out", str(tmp_path / "data"))
    environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path.parent / "settings")}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, preexec_fn=_with_sigint)  # noqa: PLW1509
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    assert list(tmp_path.glob(".data.*.unfinished"))
    yield process
    process.kill()
    process.communicate()


def _with_sigint() -> None:
    # A test run in the background may ignore SIGINT, and its children would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_an_interrupted_export_leaves_nothing(tmp_path: Path, stuck: "subprocess.Popen[str]") -> None:
    stuck.send_signal(signal.SIGINT)
    out, err = stuck.communicate()
    assert (stuck.returncode, out) == (130, "")
    assert "act2see: interrupted" in err
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_what_a_killed_export_left_goes_with_the_next_one(act2see: Act2See, tmp_path: Path, run: Path, stuck: "subprocess.Popen[str]") -> None:
    (tmp_path / ".data.mine.unfinished").mkdir()  # not a name of ours
    command = ("export", run, "--format", "swift", "--out", tmp_path / "data")
    assert act2see(*command).code == 0
    (there,) = tmp_path.glob(".data.????????.unfinished")  # of the one that still lives
    stuck.send_signal(signal.SIGKILL)
    stuck.wait()
    assert act2see(*command, "--overwrite").code == 0
    assert not there.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".data.mine.unfinished", "data", "run"]


def test_a_merged_model_answers_through_the_command_line(act2see: Act2See, tiny_vlm: Path, clip: Path, tmp_path: Path) -> None:
    import peft
    from transformers import AutoModelForImageTextToText

    base: Any = AutoModelForImageTextToText.from_pretrained(tiny_vlm, dtype="auto")
    peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(str(tmp_path / "adapter"))
    done = act2see("merge", tiny_vlm, "adapter", "--out", "merged", "--json")
    assert done.code == 0
    told = json.loads(done.out)
    assert 0 <= told.pop("difference") < 0.006
    assert told == {"folder": "merged", "dtype": "float32", "layers": 5}
    asked = act2see(
        "ask", clip, "What?", "--backend", "huggingface:merged", "--greedy", "--max-tokens", "3", "--retriever", "none", "--device", "cpu"
    )
    assert asked.code == 3  # random weights answer nothing, but they write
    assert "no answer" in asked.err
    again = act2see("merge", tiny_vlm, "adapter", "--out", "merged")
    assert "merged is not empty" in again.complaint
    shutil.rmtree(tmp_path / "adapter")
    assert "no adapter in adapter: no such folder" in act2see("merge", tiny_vlm, "adapter", "--out", "other").complaint
