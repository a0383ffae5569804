"""Whole audits: killed and resumed, and with a server that goes away."""

import json
import signal
import time
from pathlib import Path

import pytest

from act2see.storage.runs import Run
from cli_fakes import Act2See, start

FILES = ("summary.json", "scores.jsonl")


pytestmark = pytest.mark.usefixtures("own_clip")


def flags(backend: str = "eval_fakes:Steady") -> tuple[str, ...]:
    return ("audit", "eval_fakes:Many", "--backend", backend, "--retriever", "cli_fakes:Finder", "--max-looks", "1")


def content(run: str | Path) -> list[str]:
    return [Path(run, name).read_text(encoding="utf-8") for name in FILES]


@pytest.mark.slow
def test_an_audit_that_was_killed_and_resumed_is_the_same_byte_for_byte(act2see: Act2See, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert act2see(*flags(), "--out", "whole").code == 0
    monkeypatch.setenv("ACT2SEE_TEST_WAIT", "30")
    process = start(tmp_path, *flags(), "--out", tmp_path / "killed")
    traces = tmp_path / "killed" / "traces.jsonl"
    until = time.monotonic() + 120
    while time.monotonic() < until and (not traces.exists() or traces.read_bytes().count(b"\n") < 20):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = Run.open(tmp_path / "killed").ids()
    assert not (tmp_path / "killed" / "summary.json").exists()
    monkeypatch.setenv("ACT2SEE_TEST_WAIT", "0")
    assert act2see(*flags(), "--out", "killed", "--resume").code == 0
    assert content("killed") == content("whole")
    assert 20 <= len(kept) < len(Run.open(Path("killed")).ids()) == len(Run.open(Path("whole")).ids())


def test_the_first_few_and_then_the_rest(act2see: Act2See) -> None:
    assert act2see(*flags(), "--out", "whole").code == 0
    assert json.loads(act2see(*flags(), "--out", "run", "--limit", "6", "--json").out)["n"] == 6
    assert act2see(*flags(), "--out", "run", "--resume").code == 0
    assert content("run") == content("whole")


def test_a_server_that_is_gone_ends_it_after_a_while_and_one_that_is_back_is_gone_on_with(act2see: Act2See, monkeypatch: pytest.MonkeyPatch) -> None:
    done = act2see(*flags("eval_fakes:Away"), "--out", "run", "--json")
    assert done.code == 0
    assert json.loads(done.out)["arms"]["real"]["outcomes"]["backend_error"] == 2
    monkeypatch.setenv("ACT2SEE_TEST_BACK", "1")
    again = act2see(*flags("eval_fakes:Away"), "--out", "run", "--resume", "--json")
    assert "backend_error" not in json.loads(again.out)["arms"]["real"]["outcomes"]


def test_a_server_that_stays_away_stops_it(act2see: Act2See) -> None:
    done = act2see(*flags("cli_fakes:Dead"), "--patience-seconds", "0")
    assert done.code == 1
    assert "the backend failed on 3 questions in a row" in done.err
