"""`act2see audit` on the embedded models: its numbers, its page, and a run that was cut off."""

import json
import shutil
from collections.abc import Generator as Yields
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from act2see import cli
from act2see.cli.exits import ANSWERED, FAILURE, INTERRUPTED
from act2see.config import ModelConfig
from act2see.core.chat import Tool
from act2see.core.interfaces import Continuation
from act2see.core.trace import Cost, Trace
from act2see.evaluation.ablation import CONDITIONS

QUESTIONS = ("audit", "synthetic", "--n", "4", "--max-looks", "1", "--json")


def audit(capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    assert cli.main([*QUESTIONS, *more]) == ANSWERED
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("audit") / "run"
    assert cli.main([*QUESTIONS, "--out", str(out)]) == ANSWERED
    return out


def test_a_run_holds_every_arms_trace_the_scores_and_the_page(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    assert summary["n"] == 4
    scores = [json.loads(line) for line in (run / "scores.jsonl").read_text().splitlines()]
    assert [set(score["outcomes"]) for score in scores] == [set(CONDITIONS)] * 4
    ids = [json.loads(line)["id"] for line in (run / "traces.jsonl").read_text().splitlines()]
    called = [score["id"] for score in scores if score["call"]]
    assert called  # the transient ones
    assert sorted(ids) == sorted(
        [f"{score['id']}@{arm}" for score in scores for arm in ("real", "off")]
        + [f"{name}@{arm}" for name in called for arm in ("withheld", "random", "wrong_time", "blurred")]
    )
    assert "What looking is worth: synthetic" in (run / "audit.html").read_text()


def test_workers_change_nothing_of_what_comes_out(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    audit(capsys, "--out", str(tmp_path / "run"), "--workers", "4")
    scores = (run / "scores.jsonl").read_text().replace(str(run), str(tmp_path / "run"))
    assert (tmp_path / "run" / "scores.jsonl").read_text() == scores
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == json.loads((run / "summary.json").read_text())


def test_a_run_that_was_cut_off_ends_as_one_that_was_not(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = json.loads((run / "summary.json").read_text())
    lines = (run / "traces.jsonl").read_bytes().splitlines(keepends=True)
    content = (run / "run.json").read_text()
    out = tmp_path / "cut"
    out.mkdir()
    shutil.copytree(run / "frames", out / "frames")
    (out / "run.json").write_text(content)
    (out / "traces.jsonl").write_bytes(b"".join(lines[: len(lines) // 2]) + lines[-1][:40])
    audit(capsys, "--out", str(out), "--resume")
    assert json.loads((out / "summary.json").read_text()) == whole
    assert len((out / "traces.jsonl").read_bytes().splitlines()) == len(lines)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--frames", "random"), "remove --frames"),
        (("--max-looks", "0"), "set --max-looks to at least 1"),
        (("--retriever", "none"), "needs a retriever"),
        (("--resume",), "--resume needs the run folder: add --out"),
        (("--generator", "nothing"), "no generator 'nothing'"),
    ],
)
def test_what_cannot_be_audited_is_one_line(more: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*QUESTIONS[:4], *(() if "--max-looks" in more else QUESTIONS[4:6]), *more]
    assert cli.main(arguments) == FAILURE
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


class Interrupted:
    """A backend in whose second question somebody presses Ctrl-C."""

    made_with: Mapping[str, str] = {"backend": "interrupted"}

    def __init__(self, config: ModelConfig) -> None:
        self.asked = 0

    def decode(self, trace: Trace, tools: Sequence[Tool]) -> Yields[str, None, Continuation]:
        self.asked += 1
        if self.asked > 2:  # the first question is asked twice: with and without tools
            raise KeyboardInterrupt
        yield "<answer>A</answer>"
        return Continuation("<answer>A</answer>", "tag", Cost())


class InterruptedAtOnce(Interrupted):
    """A model that somebody tires of waiting for."""

    def __init__(self, config: ModelConfig) -> None:
        raise KeyboardInterrupt


@pytest.mark.parametrize("command", ["eval", "audit"])
def test_ctrl_c_before_the_first_answer_says_how_to_go_on(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    flags = ("--backend", f"{__name__}:InterruptedAtOnce", "--retriever", "cli_fakes:Finder", "--out", str(out))
    assert cli.main([command, *QUESTIONS[1:], *flags]) == INTERRUPTED
    assert "continue with --resume act2see: interrupted" in " ".join(capsys.readouterr().err.split())
    resumed = ("--backend", f"{__name__}:Interrupted", "--retriever", "cli_fakes:Finder", "--out", str(out))
    assert cli.main([command, *QUESTIONS[1:], *resumed, "--resume"]) != INTERRUPTED


def test_ctrl_c_keeps_what_was_answered_and_says_how_to_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert cli.main([*QUESTIONS, "--backend", f"{__name__}:Interrupted", "--retriever", "cli_fakes:Finder", "--out", str(out)]) == INTERRUPTED
    assert f"finished answers are stored in {out}: continue with --resume act2see: interrupted" in capsys.readouterr().err.replace("\n", " ")
    assert len((out / "traces.jsonl").read_text().splitlines()) == 2
