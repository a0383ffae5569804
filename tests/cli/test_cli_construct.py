"""`act2see construct`: every question ends once, whatever happens in between; wrong answers are asked again; what may not be used is refused."""

import json
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from act2see.storage.runs import SAMPLES, Run
from cli_fakes import Act2See, Done, start
from construct_fakes import Throttled

FILES = ("summary.json", "scores.jsonl", SAMPLES)


pytestmark = pytest.mark.usefixtures("own_clip")


def flags(source: str = "Told", teacher: str = "eval_fakes:Steady") -> tuple[str, ...]:
    return ("construct", f"construct_fakes:{source}", "--teacher", teacher, "--retriever", "cli_fakes:Finder", "--generator", "none")


def tries(run: str | Path) -> dict[str, list[int]]:
    """The numbers of the tries at each question, in the order of the file."""
    found: dict[str, list[int]] = {}
    for line in Path(run, "traces.jsonl").read_text(encoding="utf-8").splitlines():
        sample, _, number = json.loads(line)["id"].rpartition("#")
        found.setdefault(sample, []).append(int(number))
    return found


def rows(run: str | Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(run, name).read_text(encoding="utf-8").splitlines()]


def content(run: str | Path) -> list[str]:
    return [Path(run, name).read_text(encoding="utf-8") for name in FILES]


@pytest.fixture
def whole(act2see: Act2See) -> Done:
    done = act2see(*flags(), "--out", "whole", "--json")
    assert done.code == 0
    return done


# What is asked, and how often


def test_a_question_is_asked_until_it_is_right_and_at_most_three_times(whole: Done) -> None:
    numbers = tries("whole")
    assert {tuple(found) for found in numbers.values()} == {(0,), (0, 1), (0, 1, 2)}
    outcomes = {row["id"]: row["outcome"] for row in rows("whole", "scores.jsonl")}
    assert len(outcomes) == 24
    assert outcomes["q003"] == "video_error"
    assert "q003" not in numbers
    for sample, found in numbers.items():
        if len(found) < 3:
            assert outcomes[sample] == "correct"


def test_the_summary_counts_questions_and_tries(whole: Done) -> None:
    summary = json.loads(whole.out)
    counted = Counter(len(found) for found in tries("whole").values())
    counted[1] += 1  # q003, whose only try ended before there was a trace
    assert summary["tries"] == {str(number): counted[number] for number in sorted(counted)}
    assert (summary["n"], summary["questions"], sum(summary["outcomes"].values())) == (24, 24, 24)
    assert summary["reference_shown"] is False


def test_without_retries_each_question_is_asked_once(act2see: Act2See) -> None:
    act2see(*flags(), "--out", "run", "--retries", "0")
    assert set(map(tuple, tries("run").values())) == {(0,)}


def test_what_traces_are_judged_by_lies_beside_them(whole: Done) -> None:
    samples = {row["id"]: row for row in rows("whole", SAMPLES)}
    assert samples["q001"]["reasoning"] == "I looked at q001 and saw something red."
    assert (samples["q001"]["answer"], samples["q001"]["licence"]) == ("red", "CC BY 4.0")
    config = json.loads(Path("whole/run.json").read_text(encoding="utf-8"))["config"]
    assert set(config["prompts"]) == {"same_turn", "tool_turn", "user_turn"}


def test_the_reference_is_shown_only_where_it_is_wanted_and_is_in_no_trace(act2see: Act2See) -> None:
    act2see(*flags(teacher="construct_fakes:Curious"), "--out", "hidden", "--n", "2", "--retries", "0")
    act2see(*flags(teacher="construct_fakes:Curious"), "--out", "shown", "--n", "2", "--retries", "0", "--show-reference")
    for folder, answer, made_with in (("hidden", "guesses", None), ("shown", "knows", "shown")):
        for trace in Run.open(Path(folder)).traces():
            assert trace.answer == answer
            assert trace.question == "What colour?"
            assert trace.made_with.get("reference") == made_with
    assert json.loads(Path("shown/summary.json").read_text(encoding="utf-8"))["reference_shown"] is True


# Cut off


@pytest.mark.slow
def test_many_questions_killed_twice_end_once_each_and_as_if_nothing_had_happened(
    act2see: Act2See, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = (*flags("OneClip"), "--n", "160", "--workers", "8")
    assert act2see(*asked, "--out", "whole").code == 0
    monkeypatch.setenv("ACT2SEE_TEST_WAIT", "20")
    killed, before = tmp_path / "killed", 0
    for resume in ((), ("--resume",)):
        process = start(tmp_path, *asked, "--out", killed, *resume)
        until = time.monotonic() + 120
        while time.monotonic() < until and _lines(killed) < before + 45:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        before = _lines(killed)
    monkeypatch.setenv("ACT2SEE_TEST_WAIT", "0")
    assert before < len(rows("whole", "traces.jsonl"))
    assert act2see(*asked, "--out", "killed", "--resume").code == 0
    assert content("killed") == content("whole")
    assert len(rows("killed", "scores.jsonl")) == 160
    assert {name: sorted(found) for name, found in tries("killed").items()} == {name: sorted(found) for name, found in tries("whole").items()}


def _lines(run: Path) -> int:
    traces = run / "traces.jsonl"
    return traces.read_bytes().count(b"\n") if traces.exists() else 0


def test_a_run_of_the_first_few_goes_on_with_all(act2see: Act2See, whole: Done) -> None:
    assert act2see(*flags(), "--out", "run", "--limit", "5").code == 0
    assert len(rows("run", SAMPLES)) == 5
    assert act2see(*flags(), "--out", "run", "--resume", "--json").out == whole.out
    assert content("run") == content("whole")


def test_without_a_run_there_is_nothing_to_resume_and_nothing_is_made(act2see: Act2See) -> None:
    done = act2see("construct", "synthetic", "--teacher", "eval_fakes:Steady", "--out", "none", "--n", "2", "--resume")
    assert (done.code, done.err) == (1, "act2see: no run in none: it holds no run.json\n")
    assert not Path("none").exists()


def test_who_interrupts_is_told_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACT2SEE_TEST_WAIT", "100")
    process = start(tmp_path, *flags(), "--out", tmp_path / "run")
    until = time.monotonic() + 120
    while time.monotonic() < until and _lines(tmp_path / "run") < 3:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130
    assert "continue with --resume" in said


@pytest.mark.parametrize("workers", ["3", "20"])
def test_workers_change_nothing_of_what_comes_out(act2see: Act2See, whole: Done, workers: str) -> None:
    assert act2see(*flags(), "--out", "run", "--workers", workers, "--json").out == whole.out
    assert content("run") == content("whole")


def test_other_settings_are_refused_by_name(act2see: Act2See, whole: Done) -> None:
    complaint = act2see(*flags(), "--out", "whole", "--resume", "--retries", "1").complaint
    assert "again was 2 and is 1" in complaint


# Dollars


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    path = tmp_path / "prices.toml"
    path.write_text('["steady-1"]\ninput = 1000.0\noutput = 0.0\ncached = 1000.0\n', encoding="utf-8")  # about 0.1 dollars a request
    return path


def test_a_spent_budget_ends_it_cleanly_and_a_larger_one_goes_on(act2see: Act2See, whole: Done, prices: Path) -> None:
    budget = ("--prices", str(prices), "--budget-usd", "1")
    first = act2see(*flags(), "--out", "run", *budget, "--json")
    assert first.code == 1
    assert "continue with --resume and a larger --budget-usd" in first.err
    told = json.loads(first.out)
    assert 1 <= told["dollars"] < 1.2  # one request is under way when it is spent
    assert 0 < told["n"] < 24
    again = act2see(*flags(), "--out", "run", *budget, "--resume", "--json")
    assert json.loads(again.out)["dollars"] == told["dollars"]  # nothing more is asked
    last = act2see(*flags(), "--out", "run", "--prices", str(prices), "--budget-usd", "100", "--resume", "--json")
    assert last.code == 0
    assert content("run") == content("whole")
    assert json.loads(last.out)["dollars"] == pytest.approx(sum(trace["cost"]["dollars"] for trace in rows("run", "traces.jsonl")), abs=1e-6)


def test_a_budget_without_prices_is_refused(act2see: Act2See) -> None:
    assert "--prices" in act2see(*flags(), "--out", "run", "--budget-usd", "1").complaint
    assert not Path("run").exists()


def test_a_model_without_a_price_is_named(act2see: Act2See, tmp_path: Path) -> None:
    other = tmp_path / "prices.toml"
    other.write_text("[other]\ninput = 1.0\noutput = 2.0\n", encoding="utf-8")
    assert "no price for 'steady-1'; it has 'other'" in act2see(*flags(), "--out", "run", "--prices", other).err


# What goes wrong


def test_videos_that_are_not_there_are_listed(act2see: Act2See) -> None:
    done = act2see(*flags("Gone"), "--out", "run", "--n", "9", "--json")
    assert "8 videos are missing" in done.err
    assert "and 3 more" in done.err
    summary = json.loads(done.out)
    assert len(summary["missing_videos"]) == 8
    assert summary["outcomes"]["video_error"] == 8


@pytest.mark.parametrize(("source", "option"), [("Untold", "reasoning"), ("Unanswered", "answers")])
def test_what_cannot_be_verified_is_refused_in_one_line_unless_it_is_wanted(act2see: Act2See, source: str, option: str) -> None:
    complaint = act2see(*flags(source), "--out", "run").err.splitlines()[-1]
    assert "24 of 24 questions lack" in complaint
    assert complaint.endswith(f"--allow {option}")
    assert not Path("run/run.json").exists()
    assert act2see(*flags(source), "--out", "run", "--allow", option).code == 0


def test_a_question_without_an_answer_is_asked_once(act2see: Act2See) -> None:
    act2see(*flags("Unanswered"), "--out", "run", "--allow", "answers")
    assert set(map(tuple, tries("run").values())) == {(0,)}


def test_garbage_is_kept_as_it_came_and_counts_as_no_answer(act2see: Act2See) -> None:
    done = act2see(*flags(teacher="construct_fakes:Garbage"), "--out", "run", "--n", "3", "--json")
    assert done.code == 0
    assert json.loads(done.out)["outcomes"] == {"no_answer": 3}
    assert all(found == [0, 1, 2] for found in tries("run").values())


def test_a_storm_of_refusals_is_waited_out_and_what_failed_is_asked_on_resuming(
    act2see: Act2See, whole: Done, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Throttled, "refusals", 3)
    first = act2see(*flags(teacher="construct_fakes:Throttled"), "--out", "run", "--json")
    assert first.code == 0
    assert json.loads(first.out)["outcomes"]["backend_error"] == 3
    second = act2see(*flags(teacher="construct_fakes:Throttled"), "--out", "run", "--resume", "--json")
    assert json.loads(second.out)["outcomes"] == json.loads(whole.out)["outcomes"]


def test_a_teacher_that_is_gone_stops_it_and_loses_nothing(act2see: Act2See, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Throttled, "refusals", 10_000)
    done = act2see(*flags(teacher="construct_fakes:Throttled"), "--out", "run", "--patience-seconds", "0")
    assert done.code == 1
    assert "the backend failed on 3 questions in a row" in done.err
    assert len(rows("run", SAMPLES)) == 24


def test_a_place_is_needed(act2see: Act2See) -> None:
    assert "--out" in act2see(*flags()).complaint


def test_settings_may_stand_in_a_file_under_the_flags_names(act2see: Act2See) -> None:
    Path("settings.toml").write_text('[construct]\nteacher = "eval_fakes:Steady"\nretries = 0\nrequest-retries = 1\n', encoding="utf-8")
    done = act2see("construct", "construct_fakes:Told", "--retriever", "cli_fakes:Finder", "--config", "settings.toml", "--out", "run")
    assert done.code == 0
    assert set(map(tuple, tries("run").values())) == {(0,)}
    assert Run.open(Path("run")).config["retries"] == 1


def test_a_run_that_is_there_is_gone_on_with_only_if_that_is_said(act2see: Act2See, whole: Done) -> None:
    assert "whole already contains a run: continue it with --resume" in act2see(*flags(), "--out", "whole").complaint
    assert act2see(*flags(), "--out", "whole", "--resume", "--json").out == whole.out
    assert "no run in nowhere" in act2see(*flags(), "--out", "nowhere", "--resume").complaint


@pytest.mark.parametrize("asked", [flags(), ("eval", "eval_fakes:Many", "--backend", "eval_fakes:Steady")])
def test_a_cluster_without_ray_is_one_line(act2see: Act2See, asked: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, "act2see.integrations.ray.cluster", raising=False)
    assert "--ray needs ray: pip install 'act2see[ray]'" in act2see(*asked, "--ray", "local", "--out", "run").complaint
    assert not Path("run").exists()


def test_a_model_that_knows_little_says_so_about_questions_of_others(act2see: Act2See) -> None:
    asked = ("--teacher", "cli_fakes:Narrow", "--retriever", "none", "--n", "2", "--retries", "0")
    assert "note: this model knows only stars" in act2see("construct", "construct_fakes:Told", *asked, "--out", "told").err
    assert "knows only stars" not in act2see("construct", "synthetic", *asked, "--out", "own").err


def test_lines_of_samples_that_are_no_questions_are_told_and_made_anew(act2see: Act2See) -> None:
    assert act2see(*flags(), "--out", "run", "--limit", "5").code == 0
    before = rows("run", SAMPLES)
    odd = [{"id": {"a": 1}}, {"id": None}, [1]]
    Path("run", SAMPLES).write_text("".join(json.dumps(row) + "\n" for row in [*before, *odd]), encoding="utf-8")
    done = act2see(*flags(), "--out", "run", "--limit", "5", "--resume")
    assert done.code == 0
    assert "note: 3 lines of run/samples.jsonl are not questions and are dropped" in done.err
    assert rows("run", SAMPLES) == before
