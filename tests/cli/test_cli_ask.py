"""`ask` as a person uses it: the answer on stdout, the rest on stderr, settings from flags and files."""

import errno
import json
import os
from pathlib import Path

import av
import numpy as np
import pytest

from act2see.storage.runs import Run
from cli_fakes import COLOURS, Act2See, fakes

# Answers


def test_the_answer_alone_goes_to_stdout(act2see: Act2See, clip: Path) -> None:
    done = act2see("ask", clip, "What colour?", *COLOURS, *fakes("Looker"))
    assert (done.code, done.out) == (0, "B. red\n")
    assert "It is not here." in done.err
    assert "the red star" in done.err
    assert "frame at 0.5 s (score 0.75)" in done.err
    assert "Now I see it." in done.err


def test_repeated_choices_are_one_list(act2see: Act2See, clip: Path) -> None:
    done = act2see("ask", clip, "What colour?", "--choices", "blue", "--choices", "red", *fakes("Direct"))
    assert done.out == "B. red\n"


def test_an_open_question_prints_the_models_words_without_control_characters(act2see: Act2See, clip: Path) -> None:
    done = act2see("ask", clip, "What is it?", *fakes("Free"))
    assert (done.code, done.out) == (0, "a [31mred star\nand more\n")
    assert "\x1b" not in done.err


def test_json_is_one_line_with_everything(act2see: Act2See, clip: Path, tmp_path: Path) -> None:
    done = act2see("ask", clip, "What colour?", *COLOURS, *fakes("Looker"), "--json", "--save", "runs/one", "--report", "out.html")
    assert done.code == 0
    assert done.out.count("\n") == 1
    told = json.loads(done.out)
    assert told["answer"] == "B"
    assert told["choice"] == 1
    assert told["finish"] == "answer"
    assert told["looks"] == [{"kind": "retrieve", "query": "the red star", "imagined": False, "seconds": pytest.approx(0.5), "score": 0.75}]
    assert told["cost"]["tokens_in"] == 20
    assert told["cost"]["seconds"]["decode"] == 1.0
    assert told["made_with"]["backend"] == "scripted"
    assert told["made_with"]["retriever"] == "finder"
    assert (told["save"], told["report"]) == ("runs/one", "out.html")
    assert (tmp_path / "out.html").read_text(encoding="utf-8").lower().startswith("<!doctype html>")


def test_an_answer_is_told_though_its_report_cannot_be_written(act2see: Act2See, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    done = act2see("ask", clip, "What colour?", "--choices", "blue", "red", *fakes("Direct"), "--report", "full.html")
    assert (done.code, done.out) == (1, "B. red\n")
    assert "act2see: cannot write the report to full.html: the disk is full" in done.err
    assert not Path("full.html").exists()


def test_a_report_never_takes_the_videos_place(act2see: Act2See, clip: Path, tmp_path: Path) -> None:
    content = clip.read_bytes()
    (tmp_path / "link.html").symlink_to(clip)
    for place in (clip, tmp_path / "link.html"):
        done = act2see("ask", clip, "What colour?", *fakes("Direct"), "--report", place)
        assert (done.code, done.out) == (1, "")
        assert f"cannot write {place}: it is an input of the command" in done.err
    assert clip.read_bytes() == content


def test_a_tools_failure_is_told_to_the_model_and_in_the_json(act2see: Act2See, clip: Path) -> None:
    done = act2see("ask", clip, "What colour?", *COLOURS, *fakes("Looker", "Blind"), "--json")
    assert done.code == 0
    look = {"kind": "retrieve", "query": "the red star", "imagined": False, "seconds": None, "score": None, "error": "no frame left to show"}
    assert json.loads(done.out)["looks"] == [look]
    assert "no frame left to show" in done.err


def test_save_keeps_every_trace_in_one_run(act2see: Act2See, clip: Path) -> None:
    for question in ("What colour?", "Which colour?"):
        assert act2see("ask", clip, question, *COLOURS, *fakes("Looker"), "--save", "run").code == 0
    run = Run.open(Path("run"))
    traces = list(run.traces())
    assert [trace.question for trace in traces] == ["What colour?", "Which colour?"]
    assert [trace.answer for trace in traces] == ["B", "B"]
    assert [frame.seconds for frame in traces[0].frames] == pytest.approx([0.0, 1.0])
    assert run.command == "ask"
    assert run.config["max_looks"] == 3


def test_a_model_may_look_at_a_stretch_and_into_a_part_without_any_retriever(act2see: Act2See, clip: Path) -> None:
    models = ("--backend", "cli_fakes:Watcher", "--retriever", "none")
    done = act2see("ask", clip, "What colour?", *COLOURS, *models, "--tools", "clip,zoom", "--json", "--save", "run", "--report", "r.html")
    looks = json.loads(done.out)["looks"]
    assert (done.code, [look["kind"] for look in looks]) == (0, ["clip"] * 8 + ["zoom", "clip"])
    assert (looks[8]["box"], looks[8]["seconds"]) == ([0, 0, 0.5, 0.5], pytest.approx(0.5))
    assert "the video runs from 0 to" in looks[9]["error"]
    assert "part 0 0 0.5 0.5 of the frame at 0.5 s" in done.err
    (trace,) = Run.open(Path("run")).traces()
    assert [frame.box for frame in trace.brought_frames] == [None] * 8 + [(0, 0, 0.5, 0.5)]
    assert trace.brought_frames[8].image.size == (512, 384)
    assert "Looks closer" in Path("r.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("names", ["all", "none,clip", "clip,clip"])
def test_tools_that_there_are_not_are_refused_in_one_line(act2see: Act2See, clip: Path, names: str) -> None:
    done = act2see("ask", clip, "What colour?", *COLOURS, *fakes("Looker"), "--tools", names)
    assert (done.code, done.out) == (2, "")
    assert "Must be none, or some of both, retrieve, generate, clip, zoom" in done.err


def test_without_looks_no_tool_is_offered_and_no_retriever_is_loaded(act2see: Act2See, clip: Path) -> None:
    done = act2see("ask", clip, "What colour?", *COLOURS, "--backend", "cli_fakes:Direct", "--retriever", "json:loads", "--max-looks", "0", "--json")
    assert (done.code, json.loads(done.out)["made_with"]["tools"]) == (0, "none")


def test_a_backend_says_what_it_does_not_know(act2see: Act2See, clip: Path) -> None:
    done = act2see("ask", clip, "What colour?", *COLOURS, *fakes("Narrow"))
    assert (done.code, done.out) == (0, "B. red\n")
    assert "act2see: note: this model knows only stars\n" in done.err


# No answer


@pytest.mark.parametrize("backend", ["Silent", "Stubborn", "Purple"])
def test_no_answer_is_3_and_nothing_on_stdout(act2see: Act2See, clip: Path, backend: str) -> None:
    done = act2see("ask", clip, "What colour?", *COLOURS, *fakes(backend))
    assert (done.code, done.out) == (3, "")
    assert "no answer" in done.err


def test_no_answer_in_json(act2see: Act2See, clip: Path) -> None:
    done = act2see("ask", clip, "What colour?", *COLOURS, *fakes("Silent"), "--json")
    told = json.loads(done.out)
    assert (done.code, told["answer"], told["choice"], told["finish"]) == (3, None, None, "end")


# Settings files


def test_settings_fill_what_the_command_line_leaves_open(act2see: Act2See, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('backend = "cli_fakes:Direct"\nretriever = "none"\nmax-looks = 5\n[ask]\njson = true\n', encoding="utf-8")
    asked = ("ask", clip, "What colour?", *COLOURS, "--config", "mine.toml")
    assert json.loads(act2see(*asked).out)["made_with"]["looks"] == "5"
    assert json.loads(act2see(*asked, "--max-looks", "2").out)["made_with"]["looks"] == "2"
    assert act2see(*asked, "--no-json").out == "B. red\n"


def test_the_users_own_settings_are_read_without_being_named(act2see: Act2See, clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "settings" / "act2see"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text('backend = "cli_fakes:Direct"\nretriever = "none"\n', encoding="utf-8")
    assert act2see("ask", clip, "What colour?", *COLOURS).out == "B. red\n"
    (tmp_path / "other.toml").write_text('backend = "cli_fakes:Purple"\nretriever = "none"\n', encoding="utf-8")
    assert act2see("ask", clip, "What colour?", *COLOURS, "--config", "other.toml").code == 3


@pytest.mark.parametrize(
    ("text", "part"), [("bakend = 'micro'", "unknown key 'bakend'; did you mean 'backend'?"), ("[asc]\nfps = 2", "unknown table 'asc'")]
)
def test_an_unknown_setting_is_refused_with_its_file(act2see: Act2See, clip: Path, tmp_path: Path, text: str, part: str) -> None:
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    complaint = act2see("ask", clip, "What colour?", *fakes("Direct"), "--config", "mine.toml").complaint
    assert "mine.toml" in complaint
    assert part in complaint


def test_a_setting_of_the_wrong_kind_names_file_and_key(act2see: Act2See, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('max-looks = "many"', encoding="utf-8")
    done = act2see("ask", clip, "What colour?", *fakes("Direct"), "--config", "mine.toml")
    assert (done.code, done.out) == (2, "")
    assert "max-looks" in done.err
    assert "mine.toml" in done.err


# How many frames are shown


def test_fewer_initial_frames_are_told_of_everywhere(act2see: Act2See, clip: Path, tmp_path: Path) -> None:
    done = act2see(
        "ask", clip, "What colour?", *COLOURS, *fakes("Direct"), "--fps", 10, "--max-frames", 4, "--json", "--save", "one", "--report", "a.html"
    )
    assert done.code == 0
    assert done.err.count("note: 4 of 20 initial frames are used, evenly spaced") == 1
    assert json.loads(done.out)["made_with"]["initial_frames"] == "4 of 20"
    assert "4 of 20" in Path("a.html").read_text(encoding="utf-8")
    (trace,) = Run.open(Path("one")).traces()
    assert [frame.seconds for frame in trace.frames] == pytest.approx([0, 0.6, 1.3, 1.9])


def test_all_initial_frames_are_nothing_to_tell(act2see: Act2See, clip: Path) -> None:
    done = act2see("ask", clip, "What colour?", *COLOURS, *fakes("Direct"), "--fps", 10, "--max-frames", 20, "--json")
    assert "initial frames are used" not in done.err
    assert "initial_frames" not in json.loads(done.out)["made_with"]


def test_max_frames_stands_in_settings_files(act2see: Act2See, clip: Path, tmp_path: Path) -> None:
    settings = tmp_path / "few.toml"
    settings.write_text("max-frames = 1\nfps = 10\n")
    done = act2see("ask", clip, "What colour?", *COLOURS, *fakes("Direct"), "--json", "--config", settings)
    assert json.loads(done.out)["made_with"]["initial_frames"] == "1 of 20"


def test_pictures_that_are_too_long_for_the_model_are_one_line(act2see: Act2See, tmp_path: Path) -> None:
    path = tmp_path / "wide.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=2)
        stream.width, stream.height, stream.pix_fmt = 2048, 8, "yuv420p"
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((8, 2048, 3), 90, np.uint8), format="rgb24")))
        container.mux(stream.encode())
    done = act2see("ask", path, "What colour?", *COLOURS, "--backend", "micro", "--force")
    assert (done.code, done.out) == (1, "")
    assert done.err.splitlines()[-1].startswith(
        "act2see: wide.mp4: its pictures have 2048x8 pixels; the model takes none that are more than 200 times"
    )


@pytest.mark.parametrize("place", ["run/run.json", "run/traces.jsonl", "run/summary.json", "run/frames/a.html", "link/traces.jsonl"])
def test_a_report_never_takes_the_place_of_a_runs_data(act2see: Act2See, clip: Path, place: str) -> None:
    asked = ("ask", clip, "What colour?", *COLOURS, *fakes("Direct"), "--save", "run")
    assert act2see(*asked).code == 0
    Path("link").symlink_to("run")
    before = Path("run/traces.jsonl").read_bytes()
    assert act2see(*asked, "--report", place).complaint == f"act2see: cannot write {place}: the run keeps its own data there; give another file\n"
    assert Path("run/traces.jsonl").read_bytes() == before
    assert act2see(*asked, "--report", "run/report.html").code == 0
