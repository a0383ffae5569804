"""Whatever a plug-in raises, each question ends as exactly one outcome, the run goes on, and a single command ends in one line."""

import json
from pathlib import Path
from typing import Any

import pytest

from act2see.config import EvalConfig
from act2see.core.errors import InternalError
from act2see.execution.faults import ERRORS_FILE
from act2see.integrations.lmms_eval import Answering, Settings, asked
from act2see.integrations.ray.actors import Job, Teacher, Tools
from act2see.storage.runs import Run
from cli_fakes import Act2See
from eval_fakes import Many
from fault_fakes import FAULTS

pytestmark = pytest.mark.usefixtures("own_clip")


def flags(backend: str = "eval_fakes:Steady", retriever: str = "cli_fakes:Finder") -> tuple[str, ...]:
    return ("--backend", backend, "--retriever", retriever, "--generator", "none")


def errors(run: str | Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (Path(run) / ERRORS_FILE).read_text(encoding="utf-8").splitlines()]


def scores(run: str) -> dict[str, Any]:
    return {row["id"]: row for _, row in Run.open(Path(run)).scores() or ()}


@pytest.mark.parametrize("fault", [*FAULTS, "RecursionError"])
@pytest.mark.parametrize("workers", ["1", "4"])
def test_any_exception_in_a_question_is_its_outcome(act2see: Act2See, monkeypatch: pytest.MonkeyPatch, fault: str, workers: str) -> None:
    monkeypatch.setenv("ACT2SEE_TEST_FAULT", fault)
    done = act2see("eval", "eval_fakes:Many", *flags("fault_fakes:Faulty"), "--n", "12", "--workers", workers, "--out", "run", "--json")
    assert done.code == 0
    summary = json.loads(done.out)
    assert summary["n"] == sum(summary["outcomes"].values()) == 12
    assert summary["outcomes"]["internal_error"] == 2
    found = scores("run")
    assert [name for name, row in found.items() if row["outcome"] == "internal_error"] == ["q001", "q004"]
    assert found["q001"]["error"].startswith(f"internal error: {fault} at act2see.")
    assert "raised at " in found["q001"]["error"]
    assert sorted(row["id"] for row in errors("run")) == ["q001", "q004"]
    assert all("Traceback (most recent call last)" in row["traceback"] for row in errors("run"))
    assert done.err.count("errors.jsonl") == 1  # said once, not for each
    assert "2 ended in an internal error, a bug in act2see or a plug-in; the tracebacks are in run/errors.jsonl" in done.err
    assert "Traceback" not in done.err


def test_what_was_thought_before_a_fault_is_kept_and_asked_again_by_resume(act2see: Act2See) -> None:
    how = ("eval", "eval_fakes:Many", *flags("fault_fakes:FaultyLater"), "--n", "6", "--out", "run", "--json")
    assert json.loads(act2see(*how).out)["outcomes"]["internal_error"] == 2
    traces = {trace.id: trace for trace in Run.open(Path("run")).traces()}
    assert (len(traces["q001"].steps), traces["q001"].finish) == (2, None)  # the call and its frame
    again = act2see(*how, "--resume")
    assert json.loads(again.out)["outcomes"]["internal_error"] == 2
    assert [row["id"] for row in errors("run")] == ["q001", "q004"] * 2


@pytest.mark.parametrize(
    ("benchmark", "how", "faulty"),
    [
        ("fault_fakes:FaultyRule", flags(), ["q001", "q004"]),
        ("fault_fakes:OddSamples", flags(), ["q001", "q004", "q005"]),
        ("eval_fakes:Many", flags("fault_fakes:OddText"), ["q001"]),
    ],
)
def test_faults_of_benchmarks_and_odd_values_are_outcomes_too(act2see: Act2See, benchmark: str, how: tuple[str, ...], faulty: list[str]) -> None:
    done = act2see("eval", benchmark, *how, "--n", "8", "--out", "run")
    assert done.code == 0
    assert "Traceback" not in done.err
    assert [name for name, row in scores("run").items() if row["outcome"] == "internal_error"] == faulty
    assert f"{len(faulty)} internal_error" in done.out


def test_a_retrievers_fault_is_told_apart_from_a_tool_that_failed(act2see: Act2See) -> None:
    done = act2see("eval", "eval_fakes:Many", *flags(retriever="fault_fakes:FaultyFinder"), "--n", "12", "--json")
    outcomes = json.loads(done.out)["outcomes"]
    assert outcomes["internal_error"] > 2
    assert "tool_error" not in outcomes
    assert "rerun with --fail-fast for the traceback" in done.err  # no run keeps it


def test_fail_fast_ends_the_run_with_the_traceback_and_keeps_what_is_done(act2see: Act2See) -> None:
    done = act2see("eval", "eval_fakes:Many", *flags("fault_fakes:FaultyLater"), "--n", "12", "--out", "run", "--fail-fast")
    assert (done.code, done.out) == (70, "")
    assert "Traceback (most recent call last)" in done.err
    assert "TypeError: 'NoneType' object is not callable" in done.err
    assert [trace.id for trace in Run.open(Path("run")).traces()] == ["q000", "q001"]
    assert [row["id"] for row in errors("run")] == ["q001"]


def test_a_source_that_breaks_ends_the_run_and_what_was_answered_is_kept(act2see: Act2See) -> None:
    done = act2see("eval", "fault_fakes:BrokenSource", *flags(), "--out", "run")
    assert (done.code, done.out) == (70, "")
    assert "finished answers are stored in run: continue with --resume" in done.err
    assert "internal error: IndexError" in done.err
    assert len(list(Run.open(Path("run")).traces())) == 2


def test_a_plug_in_that_cannot_be_made_is_one_line(act2see: Act2See) -> None:
    for named in (("--backend", "fault_fakes:Unmade"), ("--retriever", "fault_fakes:Unmade", "--backend", "eval_fakes:Steady")):
        done = act2see("eval", "eval_fakes:Many", *named, "--generator", "none")
        assert (done.code, done.out, done.err.count("\n")) == (70, "", 1)
        assert "internal error: AttributeError at act2see." in done.err
    assert act2see("eval", "fault_fakes:Unmade", *flags()).code == 70


def test_construct_and_audit_go_on_too(act2see: Act2See) -> None:
    about = ("construct_fakes:Told", *flags("fault_fakes:Faulty"), "--n", "6", "--json")
    summary = json.loads(act2see("construct", *about, "--out", "made").out)
    assert sum(summary["outcomes"].values()) == 6
    audited = act2see("audit", "eval_fakes:Many", *flags("fault_fakes:FaultyLater"), "--n", "6", "--out", "audit", "--json")
    assert audited.code == 0
    outcomes = json.loads(audited.out)["arms"]["real"]["outcomes"]
    assert outcomes["internal_error"] == 2
    assert {row["id"].partition("@")[0] for row in errors("audit")} == {"q001", "q004"}


def test_a_fault_of_the_rule_ends_no_construction(act2see: Act2See) -> None:
    done = act2see("construct", "fault_fakes:FaultyRule", *flags(), "--n", "6", "--out", "made", "--allow", "reasoning", "--json")
    assert json.loads(done.out)["outcomes"]["internal_error"] == 2
    assert [row["id"] for row in errors("made")] == ["q001", "q004"]


def test_one_command_is_one_line_with_a_code_of_its_own(act2see: Act2See, own_clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = ("ask", own_clip, "What colour?", "--choices", "a", "b", *flags(retriever="fault_fakes:FaultyFinder"), "--insert", "1")
    done = act2see(*ask)
    assert (done.code, done.out, done.err.count("\n")) == (70, "", 1)
    assert "act2see: internal error: ZeroDivisionError at act2see." in done.err
    assert "rerun with ACT2SEE_DEBUG=1 for the traceback" in done.err
    monkeypatch.setenv("ACT2SEE_DEBUG", "1")
    assert "Traceback (most recent call last)" in act2see(*ask).err


def test_what_the_system_refuses_is_no_internal_error(act2see: Act2See, own_clip: Path) -> None:
    long = "n" * 300
    for arguments in (
        ("ask", own_clip, "What?", *flags(), "--report", f"{long}.html"),
        ("ask", own_clip, "What?", *flags(), "--save", long),
        ("eval", "eval_fakes:Many", *flags(), "--out", long),
        ("retrieve", own_clip, "star", "--retriever", "cli_fakes:Finder", "--out", long),
        ("export", long, "--format", "trl", "--out", "x"),
        ("score", long),
        ("benchmarks", "check", "jsonl", "--data", long),
    ):
        assert "File name too long" in act2see(*arguments).complaint


# Other runners


def test_an_index_job_that_fails_does_not_stop_the_others(act2see: Act2See, own_clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from act2see.tools.index import Index

    made = Index.build

    def build(video: Any, *arguments: Any, **options: Any) -> Any:
        if video.path.name == "clip.mp4":
            raise KeyError("frame")
        return made(video, *arguments, **options)

    monkeypatch.setattr(Index, "build", build)
    other = own_clip.with_name("other.mp4")
    other.write_bytes(own_clip.read_bytes())
    done = act2see("index", own_clip, other, "--retriever", "tiny_encoder:Grey", "--json")
    told = json.loads(done.out)
    assert done.code == 1
    assert [one["video"] for one in told["videos"]] == [str(other)]
    assert told["failed"][0]["error"].startswith("internal error: KeyError")


def test_lmms_eval_gets_an_empty_answer_and_the_run_goes_on(own_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"backend": "fault_fakes:OddText", "retriever": "cli_fakes:Finder", "generator": "none", "out": str(tmp_path / "run")}
    models = Answering(Settings.read(given))
    questions = [asked("Which colour?", [str(own_clip)], "colours", "test", number) for number in range(3)]
    monkeypatch.setattr(models._evaluator.backend, "decode", _failing_second(models._evaluator.backend.decode))
    replies = dict(models.answer(questions))
    assert [replies[number].text for number in range(3)] == ["A", "", "A"]
    assert "internal error: LookupError" in str(replies[1].error)
    assert [row["id"] for row in errors(tmp_path / "run")] == ["colours/test/1"]


def _failing_second(decode: Any) -> Any:
    def decode_or_fail(trace: Any, tools: Any) -> Any:
        if trace.id == "colours/test/1":
            raise LookupError("nothing there")
        return decode(trace, tools)

    return decode_or_fail


def test_a_process_of_the_cluster_gives_the_outcome_or_the_error_with_its_traceback(own_clip: Path, tmp_path: Path) -> None:
    settings = EvalConfig(backend="fault_fakes:Faulty", retriever="fault_fakes:FaultyFinder", generator="none", n=6)
    job = Job("eval_fakes:Many", settings, None, tmp_path)
    samples = list(Many(settings).samples())
    answered = Teacher(job, None, None, None).answer(samples[1])
    assert (answered.outcome, "Traceback" in (answered.traceback or "")) == ("internal_error", True)
    with pytest.raises(InternalError, match="ZeroDivisionError") as raised:
        Tools(job).find(str(own_clip), "a star", (), 1)
    assert "Traceback" in raised.value.traceback
