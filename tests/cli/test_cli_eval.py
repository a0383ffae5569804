"""`eval` and `demo`: many questions, one after the other."""

import json
import re
from pathlib import Path

import pytest

from act2see import registry
from act2see.cli.demo import answer_demo
from act2see.config import ModelConfig
from act2see.storage.runs import Run
from cli_fakes import Act2See, Done, fakes

# Evaluation


def _evaluate(act2see: Act2See, *arguments: str) -> Done:
    return act2see("eval", "cli_fakes:Bench", *fakes("Looker"), *arguments)


@pytest.fixture
def _bench(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACT2SEE_TEST_CLIP", str(clip))


@pytest.mark.usefixtures("_bench")
def test_eval_ends_in_one_line_of_json(act2see: Act2See) -> None:
    done = _evaluate(act2see, "--json", "--n", "4")
    told = json.loads(done.out)
    assert (done.code, done.out.count("\n")) == (0, 1)
    assert told["n"] == 4
    assert told["benchmark"] == "cli_fakes:Bench"
    assert told["accuracy"] == {"all": 1.0, "even": 1.0, "odd": 1.0}
    assert told["call_rate"]["all"] == 1.0


@pytest.mark.usefixtures("_bench")
def test_eval_says_how_many_questions_were_shown_fewer_frames(act2see: Act2See) -> None:
    done = _evaluate(act2see, "--json", "--n", "4", "--fps", "5", "--max-frames", "3", "--out", "few")
    assert json.loads(done.out)["frames_left_out"] == {"questions": 4, "frames": 4 * 7}
    assert done.err.count("note: 4 questions use only some of their initial frames") == 1
    assert {trace.made_with["initial_frames"] for trace in Run.open(Path("few")).traces()} == {"3 of 10"}
    assert Run.open(Path("few")).config["max_frames"] == 3
    whole = _evaluate(act2see, "--json", "--n", "4", "--fps", "5", "--out", "all")
    assert "frames_left_out" not in json.loads(whole.out)
    assert "max_frames" not in Run.open(Path("all")).config  # as before there was such a limit, so that older runs can go on


@pytest.mark.usefixtures("_bench")
def test_eval_for_a_reader(act2see: Act2See) -> None:
    done = _evaluate(act2see)
    first, second, *_ = done.out.splitlines()
    assert (done.code, first) == (0, "3 questions of cli_fakes:Bench: 3 correct")
    assert second == "all: 100.0% right of 3 (95 %: unknown, only one video), 100.0% looked again"


@pytest.mark.usefixtures("_bench")
@pytest.mark.parametrize(("frames", "made_with", "brought"), [("random", "random@3fps", 1), ("withheld", "withheld", 0)])
def test_a_look_can_bring_something_else(act2see: Act2See, frames: str, made_with: str, brought: int) -> None:
    assert _evaluate(act2see, "--frames", frames, "--n", "1", "--out", "run").code == 0
    (trace,) = Run.open(Path("run")).traces()
    assert trace.made_with["retriever"] == made_with
    assert trace.looks == brought


@pytest.mark.usefixtures("_bench")
def test_a_run_is_resumed_only_with_the_same_settings(act2see: Act2See) -> None:
    assert _evaluate(act2see, "--out", "run").code == 0
    assert "holds a run already" in _evaluate(act2see, "--out", "run").complaint
    assert "max_looks" in _evaluate(act2see, "--out", "run", "--resume", "--max-looks", "1").complaint
    lines = Path("run/traces.jsonl").read_bytes().splitlines(keepends=True)
    Path("run/traces.jsonl").write_bytes(b"".join(lines[:1]) + lines[1][:20])  # cut off while the second trace was written
    again = _evaluate(act2see, "--out", "run", "--resume", "--json")
    assert (again.code, json.loads(again.out)["accuracy"]["all"]) == (0, 1.0)
    assert [trace.id for trace in Run.open(Path("run")).traces()] == ["q0", "q1", "q2"]
    assert json.loads(Path("run/summary.json").read_text(encoding="utf-8"))["n"] == 3


@pytest.mark.usefixtures("_bench")
def test_what_failed_is_counted_and_said(act2see: Act2See) -> None:
    done = act2see("eval", "cli_fakes:Bench", *fakes("Dead"), "--n", "2", "--patience-seconds", "0", "--json")
    assert (done.code, json.loads(done.out)["outcomes"]) == (0, {"backend_error": 2})
    assert "note: 2 of 2 questions failed; first error: no answer from the server at localhost: start it" in done.err


@pytest.mark.usefixtures("_bench")
def test_an_evaluation_whose_server_is_gone_stops(act2see: Act2See) -> None:
    done = act2see("eval", "cli_fakes:Bench", *fakes("Dead"), "--n", "50", "--patience-seconds", "0", "--json")
    assert (done.code, done.out) == (1, "")
    assert "the backend failed on 3 questions in a row; no answer from the server at localhost: start it" in done.err


@pytest.mark.parametrize(
    ("arguments", "part"),
    [(("synthetics",), "did you mean synthetic?"), (("cli_fakes:Bench", "--resume"), "--out"), (("cli_fakes:Finder",), "it has no 'samples'")],
)
def test_an_eval_that_cannot_be_done_is_one_line(act2see: Act2See, arguments: tuple[str, ...], part: str) -> None:
    assert part in act2see("eval", *arguments, *fakes("Looker")).complaint


# The demo


def test_the_demo_answers_every_question_and_writes_a_report(
    act2see: Act2See, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    item = {"video": str(clip), "question": "What colour is the star?", "choices": ["blue", "red"], "answer": "red"}
    (tmp_path / "questions.json").write_text(json.dumps([item, {**item, "answer": "blue"}]), encoding="utf-8")
    how = ModelConfig()
    act2see("--version")  # the fixture's folder and fakes
    code = answer_demo(tmp_path, Path("demo.html"), registry.backend("cli_fakes:Looker", how), registry.retriever("cli_fakes:Finder", how), None, how)
    out = capsys.readouterr().out.splitlines()
    assert code == 0
    assert out == [
        "1. What colour is the star? red (right; looked again at 0.50 s)",
        "2. What colour is the star? red (wrong: it is blue; looked again at 0.50 s)",
        "report: demo.html",
    ]
    page = (tmp_path / "demo.html").read_text(encoding="utf-8")
    assert "the red star" in page
    assert page.count("<article") == 2


def test_the_demo_numbers_its_questions_alike_on_stdout_and_in_the_report(
    tmp_path: Path, act2see: Act2See, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether a question brings a look depends on its trace's id here, so some do and some do not."""
    item = {"video": str(clip), "choices": ["blue", "red"], "answer": "red"}
    asked = [f"Question {letter}?" for letter in "abcd"]
    (tmp_path / "questions.json").write_text(json.dumps([{**item, "question": question} for question in asked]), encoding="utf-8")
    how = ModelConfig()
    act2see("--version")
    backend, finder = registry.backend("eval_fakes:Steady", how), registry.retriever("cli_fakes:Finder", how)
    answer_demo(tmp_path, Path("demo.html"), backend, finder, None, how)
    lines = capsys.readouterr().out.splitlines()[:-1]
    assert len({"looked again" in line for line in lines}) == 2
    assert [re.sub(r"\?.*", "?", line) for line in lines] == [f"{number}. {question}" for number, question in enumerate(asked, 1)]
    assert re.findall("<h1[^>]*>(.*?)</h1>", (tmp_path / "demo.html").read_text(encoding="utf-8")) == asked
