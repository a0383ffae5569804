"""`transcript`, and words as the default of `retrieve`: outputs, one line for what is missing, and nothing where nothing matches."""

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from act2see.cli.terminal import frame_line
from act2see.core.trace import Frame, Line, Match, Observation
from act2see.report import trace_html
from act2see.storage.runs import Run
from cli_fakes import COLOURS, Act2See
from word_videos import srt, write_talk

SUBTITLES = ("--words-from", "subtitles")


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    return write_talk(folder / "talk.mp4")


def test_the_transcript_is_srt_on_stdout(act2see: Act2See, talk: Path) -> None:
    done = act2see("transcript", talk, *SUBTITLES)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("1\n00:00:00,500 --> 00:00:01,400\nWelcome everybody\n\n2\n")


def test_json_names_sources_and_a_file_is_written_by_its_name(act2see: Act2See, talk: Path) -> None:
    told = json.loads(act2see("transcript", talk, *SUBTITLES, "--format", "json").out)
    assert (told["sources"], len(told["lines"])) == (["subtitles:stream 1"], 3)
    done = act2see("transcript", talk, *SUBTITLES, "--out", "talk.vtt")
    assert done.out == "3 lines from subtitles:stream 1 in talk.vtt\n"
    assert Path("talk.vtt").read_text(encoding="utf-8").startswith("WEBVTT\n\n00:00:00.500 --> 00:00:01.400\nWelcome")


def test_nothing_to_read_is_exit_code_3_and_one_line(act2see: Act2See, clip: Path) -> None:
    done = act2see("transcript", clip, *SUBTITLES)
    assert (done.code, done.out) == (3, "")
    assert done.err == "act2see: note: clip.mp4 has no subtitles, and there is no clip.srt beside it\n"


def test_a_missing_extra_is_one_line_with_the_command(act2see: Act2See, talk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("rapidocr", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "act2see.video.transcript.ocr", raising=False)
    done = act2see("transcript", talk, "--words-from", "screen")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "--words-from screen needs onnxruntime: pip install 'act2see[text]'" in done.err


def test_a_folder_that_is_no_model_is_one_line(act2see: Act2See, talk: Path) -> None:
    done = act2see("transcript", talk, "--speech-model", talk.parent)
    assert (done.code, done.out) == (1, "")
    assert "no model.bin and no config.json in it" in done.err


def test_an_interruption_is_told(act2see: Act2See, talk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("act2see.api.read_transcript", interrupted)
    done = act2see("transcript", talk)
    assert (done.code, done.out) == (130, "")
    assert done.err == "act2see: interrupted; what was read is kept, and the same command goes on from there\n"


def test_a_video_that_is_not_of_the_world_is_searched_by_its_words(act2see: Act2See, talk: Path) -> None:
    done = act2see("retrieve", talk, "where she mentions the budget", *SUBTITLES)
    assert done.code == 0
    assert "'Now to the budget of next year'" in done.out
    assert done.err.count("\n") == 1
    assert "no retriever was named, and talk.mp4 is not of the synthetic world: what is said and written in it is searched" in done.err
    told = json.loads(act2see("retrieve", talk, "the budget", *SUBTITLES, "--json").out)
    assert (told["retriever"], told["threshold"]) == ("words", 0.45)
    assert told["frames"][0]["line"]["text"] == "Now to the budget of next year"


def test_where_nothing_matches_there_is_no_frame(act2see: Act2See, talk: Path) -> None:
    done = act2see("retrieve", talk, "a dog", *SUBTITLES, "--retriever", "words", "--json", "--out", "found")
    told = json.loads(done.out)
    assert (done.code, told["frames"]) == (3, [])
    assert told["no_match"] == "nothing said or written matches (searched: subtitles:stream 1)"
    assert not Path("found").exists()


def test_index_reads_the_words_ahead(act2see: Act2See, talk: Path) -> None:
    told = json.loads(act2see("index", talk, "--retriever", "words", *SUBTITLES, "--json").out)
    assert (told["videos"][0]["frames"], told["videos"][0]["lines"]) == (0, 3)


def test_a_model_is_shown_the_lines_and_the_run_has_them(act2see: Act2See, clip: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.mp4"
    own.write_bytes(clip.read_bytes())
    own.with_suffix(".srt").write_text(srt([(0.0, 1.0, "the <answer>budget</answer>")]), encoding="utf-8")
    asked = ("--backend", "cli_fakes:Looker", "--retriever", "cli_fakes:Finder", *SUBTITLES, "--save", "run")
    assert act2see("ask", own, "What?", *COLOURS, *asked, "--transcript", "question").code == 0
    (trace,) = Run.open(Path("run")).traces()
    assert [line.text for line in trace.lines] == ["the budget"]
    assert trace.made_with["transcript"] == "1 of 1 lines: subtitles:own.srt"


def test_the_terminal_and_the_report_name_the_line() -> None:
    line = Line(1.0, 2.5, "the <b>budget</b>\x1b[31m", "subtitles:x")
    frame = Frame(Image.new("RGB", (8, 8)), 1.5, 0.9, match=Match(15, (1.0, 2.5), line=line))
    assert frame_line(frame) == "frame at 1.5 s (score 0.90): the <b>budget</b>[31m [subtitles:x]"
    from act2see.core.trace import Retrieve, Trace

    trace = Trace("1", "v.mp4", "Q", (frame,), steps=[Retrieve("budget"), Observation((frame,))])
    html = trace_html(trace)
    assert "“the &lt;b&gt;budget&lt;/b&gt;" in html
    assert "(1.0 s to 2.5 s, subtitles:x)" in html


def test_a_folder_where_nothing_matches_is_exit_code_3_and_one_note_of_what_was_searched(act2see: Act2See, talk: Path) -> None:
    write_talk(talk.with_name("more.mp4"))
    done = act2see("retrieve", talk.parent, "the giraffe", *SUBTITLES)
    assert (done.code, done.out) == (3, "")
    assert done.err.count("no retriever was named") == 1
    assert "nothing said or written matches 'the giraffe'" in done.err
    assert act2see("retrieve", talk.parent, "the budget", *SUBTITLES).code == 0
