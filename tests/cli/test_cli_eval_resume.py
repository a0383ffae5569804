"""A run that is gone on with knows its questions by what they ask, and one process at a time works on it."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from act2see import cli
from cli_fakes import Act2See, start
from eval_fakes import CHOICES, Many

STEADY = ("--backend", "eval_fakes:Steady", "--retriever", "cli_fakes:Finder")


pytestmark = pytest.mark.usefixtures("own_clip")


def evaluated(*more: str) -> tuple[str, ...]:
    return ("eval", "eval_fakes:Many", *STEADY, "--out", "run", "--json", *more)


def traces() -> list[str]:
    return [json.loads(line)["id"] for line in Path("run/traces.jsonl").read_text(encoding="utf-8").splitlines()]


def test_more_and_fewer_questions_are_a_run_that_goes_on(act2see: Act2See) -> None:
    assert json.loads(act2see(*evaluated("--n", "6")).out)["n"] == 6
    done = act2see(*evaluated("--n", "10", "--resume"))
    assert (json.loads(done.out)["n"], "run again" in done.err) == (10, False)
    assert traces() == [f"q{number:03}" for number in range(10) if number != 3]  # that one's video is none
    assert json.loads(Path("run/run.json").read_text(encoding="utf-8"))["config"]["n"] == 10
    scores, summary = Path("run/scores.jsonl").read_bytes(), Path("run/summary.json").read_bytes()
    assert act2see(*evaluated("--n", "10", "--resume")).code == 0
    assert (Path("run/scores.jsonl").read_bytes(), Path("run/summary.json").read_bytes()) == (scores, summary)
    done = act2see(*evaluated("--n", "4", "--resume"))
    assert json.loads(done.out)["n"] == 4
    assert "note: 6 answers in run are to questions outside this selection; they are kept, but not counted" in done.err
    assert act2see(*evaluated("--n", "4", "--resume", "--fps", "2")).complaint.startswith("act2see: run was made with other settings: fps was 1")
    assert "run holds a run already: go on with --resume, or give another folder" in act2see(*evaluated()).complaint


def test_changed_questions_are_named_and_asked_again(act2see: Act2See, monkeypatch: pytest.MonkeyPatch) -> None:
    assert act2see(*evaluated("--n", "8")).code == 0
    before = traces()
    samples = Many.samples

    def changed(self: Many):  # type: ignore[no-untyped-def]
        from dataclasses import replace

        for sample in samples(self):
            match sample.id:
                case "q001":
                    yield replace(sample, question="What shape?")
                case "q002":
                    yield replace(sample, choices=(*CHOICES, "grey"))
                case "q004":
                    yield replace(sample, video=sample.video.with_name("clip-0.mp4"))
                case "q005":
                    yield replace(sample, answer=CHOICES[(CHOICES.index(sample.answer) + 1) % 3])
                case "q006":
                    yield replace(sample, choices=sample.choices[::-1])  # the same ones
                case _:
                    yield sample

    monkeypatch.setattr(Many, "samples", changed)
    done = act2see(*evaluated("--n", "8", "--resume"))
    assert done.code == 0
    assert '3 questions have changed since run answered them, and were run again: "q001" (other words), "q002" (other choices)' in done.err
    assert '"q004" (other video)' in done.err
    assert "note: the right answer of 1 questions has changed since they were scored: 'q005'; they are scored by the current one" in done.err
    assert traces() == [*before, "q001", "q002", "q004"]
    again = act2see(*evaluated("--n", "8", "--resume"))
    assert traces() == [*before, "q001", "q002", "q004"]
    assert "run again" not in again.err
    assert json.loads(again.out) == json.loads(done.out)


def test_a_broken_trace_is_named_and_asked_again(act2see: Act2See) -> None:
    first = act2see(*evaluated("--n", "6"))
    lines = Path("run/traces.jsonl").read_bytes().splitlines(keepends=True)
    Path("run/traces.jsonl").write_bytes(b"".join([lines[0], b'{"version": 1}\n', *lines[2:]]))
    done = act2see(*evaluated("--n", "6", "--resume"))
    assert "note: 1 traces are unreadable, and their questions are asked again; the first: run/traces.jsonl:2: " in done.err
    assert json.loads(done.out)["outcomes"] == json.loads(first.out)["outcomes"]
    assert len(Path("run/traces.jsonl").read_bytes().splitlines()) == len(lines) + 1


def test_a_run_of_an_earlier_version_goes_on(act2see: Act2See) -> None:
    """Its scores say nothing of the questions' words."""
    first = act2see(*evaluated("--n", "6"))
    rows = [json.loads(line) for line in Path("run/scores.jsonl").read_text(encoding="utf-8").splitlines()]
    for row in rows:
        del row["question"]
    Path("run/scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    done = act2see(*evaluated("--n", "6", "--resume"))
    assert (done.code, done.out) == (0, first.out)
    assert "note: the right answer" not in done.err


def test_a_second_process_asks_nothing(act2see: Act2See, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    act2see("--version")
    monkeypatch.setenv("ACT2SEE_TEST_WAIT", "200")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]))
    first = start(tmp_path, *evaluated("--n", "24"))
    while not (Path("run/traces.jsonl").exists() and traces()):
        assert first.poll() is None, first.communicate()
        time.sleep(0.05)
    for more in (("--resume",), ("--resume", "--n", "6")):
        second = act2see(*evaluated(*more)) if "--n" in more else act2see(*evaluated("--n", "24", *more))
        assert f"run is being worked on by process {first.pid} on " in second.complaint
    assert json.loads(Path("run/run.json").read_text(encoding="utf-8"))["config"]["n"] == 24
    first.send_signal(signal.SIGKILL)
    first.communicate()
    monkeypatch.setenv("ACT2SEE_TEST_WAIT", "0")
    assert cli.main(evaluated("--n", "24", "--resume")) == 0  # a dead one's is free
    assert len(traces()) == len(set(traces()))
