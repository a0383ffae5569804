"""The embedded models on videos that they do not know: one line and exit code 3, or a notice everywhere with --force."""

import json
from pathlib import Path
from typing import Any

import pytest

from act2see import cli
from act2see.storage.runs import Run
from act2see.synthetic.scope import FORCED
from cli_fakes import COLOURS, Act2See, fakes

PLAIN = ("--generator", "none")
"""For what is not about pictures: loading the generator takes longer than the question."""
WAYS = ("huggingface:Qwen/Qwen3-VL-8B-Thinking", "vLLM", "hosted", "--force")


@pytest.fixture
def questions(tmp_path: Path, clip: Path) -> Path:
    """One about a bundled clip, then one about another video."""
    item: dict[str, Any] = json.loads((cli.DEMO / "questions.json").read_text(encoding="utf-8"))[0]
    (tmp_path / "own.mp4").write_bytes((cli.DEMO / item["video"]).read_bytes())
    (tmp_path / "other.mp4").write_bytes(clip.read_bytes())
    rows = [{"id": name, "video": f"{name}.mp4", **{key: item[key] for key in ("question", "choices", "answer")}} for name in ("own", "other")]
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_ask_refuses_in_one_line_before_it_loads_or_keeps_anything(act2see: Act2See, clip: Path) -> None:
    done = act2see("ask", clip, "What colour?", *COLOURS, "--save", "run", "--report", "out.html")
    assert (done.code, done.out, done.err.count("\n")) == (3, "", 1)
    assert "clip.mp4 is not of the synthetic world" in done.err
    assert all(way in done.err for way in WAYS)
    assert not Path("run").exists()
    assert not Path("out.html").exists()


def test_its_json_says_that_it_was_refused(act2see: Act2See, clip: Path) -> None:
    done = act2see("ask", clip, "What colour?", *COLOURS, "--json")
    told = json.loads(done.out)
    assert (done.code, told["answer"], told["choice"]) == (3, None, None)
    assert "not of the synthetic world" in told["refused"]


def test_open_questions_are_refused_too(act2see: Act2See) -> None:
    done = act2see("ask", cli.DEMO / "clip-1.mp4", "What colour is the star?")
    assert (done.code, done.out) == (3, "")
    assert "does not support open questions: add choices (ask: --choices)" in done.err


def test_force_asks_and_the_notice_stands_everywhere(act2see: Act2See, clip: Path) -> None:
    done = act2see("ask", clip, "What colour is the star?", *COLOURS, *PLAIN, "--force", "--json", "--save", "run", "--report", "out.html")
    assert done.code in (0, 3)  # whatever it says, it said something
    assert f"note: {FORCED}" in done.err
    assert json.loads(done.out)["made_with"]["notice"] == FORCED
    (trace,) = Run.open(Path("run")).traces()
    assert trace.made_with["notice"] == FORCED
    assert Run.open(Path("run")).config["force"] is True
    page = Path("out.html").read_text(encoding="utf-8")
    assert f'<p class="warning" role="note">{FORCED}</p>' in page


def test_nothing_is_said_about_its_own_world(act2see: Act2See) -> None:
    item = json.loads((cli.DEMO / "questions.json").read_text(encoding="utf-8"))[0]
    done = act2see("ask", cli.DEMO / item["video"], item["question"], "--choices", *item["choices"], *PLAIN, "--json")
    assert done.code == 0
    assert "notice" not in json.loads(done.out)["made_with"]
    assert "synthetic world" not in done.err


def test_another_model_is_asked_with_a_notice_about_the_embedded_retriever(act2see: Act2See, clip: Path) -> None:
    done = act2see("ask", clip, "What colour?", *COLOURS, *PLAIN, "--backend", "cli_fakes:Looker", "--json")
    assert done.code == 0
    assert "the embedded retriever knows nothing else" in json.loads(done.out)["made_with"]["notice"]
    assert "note: clip.mp4 is not of the synthetic world" in done.err
    assert "notice" not in json.loads(act2see("ask", clip, "What colour?", *COLOURS, *PLAIN, *fakes("Looker"), "--json").out)["made_with"]


def test_generate_says_which_embedded_model_does_not_know_the_video(act2see: Act2See, clip: Path) -> None:
    both = act2see("generate", clip, "a red star at the top")
    assert (both.code, both.out) == (3, "")
    assert "the embedded retriever and generator know nothing else" in both.err
    anchored = act2see("generate", clip, "a red star at the top", "--at", "0")
    assert "the embedded generator knows nothing else: use --generator diffusers:MODEL; --force" in anchored.err


def test_tools_that_the_embedded_model_was_not_trained_with_are_named(act2see: Act2See) -> None:
    item = json.loads((cli.DEMO / "questions.json").read_text(encoding="utf-8"))[0]
    question = ("ask", cli.DEMO / item["video"], item["question"], "--choices", *item["choices"], *PLAIN)
    assert "the embedded model was trained without clip and zoom" in act2see(*question, "--tools", "both,clip,zoom").err
    assert "trained without" not in act2see(*question).err


def test_a_picture_that_the_embedded_judge_cannot_know_is_not_verified(act2see: Act2See, clip: Path) -> None:
    refused = act2see("generate", clip, "a red star at the top")
    assert (refused.code, refused.out) == (3, "")
    assert not Path("imagined.png").exists()
    done = act2see("generate", clip, "a red star at the top", "--force", "--at", "0", "--json")
    told = json.loads(done.out)
    assert done.code == 0
    assert told["notice"] == FORCED
    assert told["scores"] == {}
    assert "its judge knows only the synthetic world" in told["unverified"]
    said = act2see("generate", clip, "a red star at the top", "--force", "--at", "0")
    assert "not verified (its judge knows only the synthetic world" in said.out


def test_eval_refuses_before_anything_is_asked(act2see: Act2See, questions: Path) -> None:
    questions.write_text("".join(reversed(questions.read_text(encoding="utf-8").splitlines(keepends=True))), encoding="utf-8")
    for command in ("eval", "audit"):
        done = act2see(command, "jsonl", "--data", questions, "--out", "run")
        assert (done.code, done.out) == (3, "")
        assert "question 'other': other.mp4 is not of the synthetic world" in done.err
        assert not Path("run").exists()


def test_eval_ends_a_later_question_without_an_answer_and_goes_on(act2see: Act2See, questions: Path) -> None:
    done = act2see("eval", "jsonl", "--data", questions, *PLAIN, "--out", "run", "--json")
    told = json.loads(done.out)
    assert done.code == 0
    assert told["outcomes"]["no_answer"] == 1
    assert told["outcomes"]["correct"] == 1
    assert "1 of 2 questions failed; first error: other.mp4 is not of the synthetic world" in done.err
    assert "notice" not in told


def test_a_forced_eval_says_so_in_its_summary_and_traces(act2see: Act2See, questions: Path) -> None:
    done = act2see("eval", "jsonl", "--data", questions, *PLAIN, "--out", "run", "--json", "--force")
    assert json.loads(done.out)["notice"] == FORCED
    notices = {trace.id: trace.made_with.get("notice") for trace in Run.open(Path("run")).traces()}
    assert notices == {"own": None, "other": FORCED}
