"""`compare`: two runs by their questions; what differs between them, and what only one has, is said."""

import json
from pathlib import Path
from typing import Any

import pytest

from act2see.storage.runs import Run
from cli_fakes import Act2See, Done

pytestmark = pytest.mark.usefixtures("own_clip")


def make(act2see: Act2See, out: str, *arguments: str, benchmark: str = "Many", backend: str = "Steady") -> Done:
    named = ("--backend", f"eval_fakes:{backend}", "--retriever", "eval_fakes:Finder", "--patience-seconds", "0")
    done = act2see("eval", f"eval_fakes:{benchmark}", *named, "--out", out, *arguments)
    assert done.code == 0
    return done


def rewrite(run: str, change: Any) -> None:
    """The run's scores, each as `change` makes it; None drops it."""
    path = Path(run, "scores.jsonl")
    rows = [change(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows if row is not None), encoding="utf-8")


def test_a_run_compared_with_itself_gains_and_loses_nothing(act2see: Act2See) -> None:
    make(act2see, "a")
    done = act2see("compare", "a", "a", "--json")
    told = json.loads(done.out)
    assert (done.code, done.out.count("\n"), done.err) == (0, 1, "")
    assert (told["n"], told["difference"], told["difference_95"], told["gained"], told["lost"]) == (24, 0, [0, 0], 0, 0)
    assert (told["mcnemar_p"], told["made_differently"]) == (1.0, {})


def test_gains_and_losses_are_counted_by_kind_and_named(act2see: Act2See) -> None:
    make(act2see, "a")
    make(act2see, "b", "--max-looks", "0")
    right = {run: {row["id"] for _, row in Run.open(Path(run)).scores() or () if row["outcome"] == "correct"} for run in "ab"}
    rewrite("b", lambda row: {**row, "outcome": "correct"} if row["id"] in ("q000", "q001", "q002") else row)
    gained = sorted({"q000", "q001", "q002"} - right["a"])
    told = json.loads(act2see("compare", "a", "b", "--json").out)
    assert told["gained_ids"] == gained
    assert told["gained"] == len(gained) == sum(row["gained"] for row in told["by_kind"].values())
    assert told["lost_ids"] == sorted(right["a"] - right["b"] - {"q000", "q001", "q002"})
    assert set(told["by_kind"]) == {"even", "odd"}
    assert told["difference"] == round(told["second"] - told["first"], 4)
    assert sum(cell["n"] for cell in told["outcomes"]) == 24
    assert told["made_differently"]["settings.max_looks"] == ["3", "0"]


def test_what_a_reader_is_told(act2see: Act2See) -> None:
    make(act2see, "a")
    make(act2see, "b", "--max-looks", "0")
    rewrite("b", lambda row: {**row, "outcome": "correct"})
    lines = act2see("compare", "a", "b").out.splitlines()
    assert lines[0].startswith("24 questions of eval_fakes:Many in both: first ")
    assert lines[1].split() == ["questions", "first", "second", "difference", "gained", "lost", "p"]
    assert [line.split()[0] for line in lines[2:5]] == ["all", "even", "odd"]
    assert any(line.startswith("gained: q0") and "more" in line for line in lines)
    assert "settings.max_looks 3 and 0" in lines[-1]


def test_questions_that_one_run_alone_has_are_named_and_not_counted(act2see: Act2See) -> None:
    make(act2see, "a", "--limit", "20")
    make(act2see, "b", "--n", "24")
    rewrite("b", lambda row: None if row["id"] == "q001" else row)
    done = act2see("compare", "a", "b", "--json")
    told = json.loads(done.out)
    assert (told["n"], told["only_first"], told["only_second"]) == (19, ["q001"], ["q020", "q021", "q022", "q023"])
    reader = act2see("compare", "a", "b")
    assert "1 questions are only in the first run and not counted: q001" in reader.err
    assert "4 questions are only in the second run and not counted: q020, q021, q022, q023" in reader.err


def test_the_seed_decides_the_bootstrap(act2see: Act2See) -> None:
    make(act2see, "a")
    make(act2see, "b", "--max-looks", "0")
    rewrite("b", lambda row: {**row, "outcome": "correct"} if row["number"] % 3 else row)
    intervals = [json.loads(act2see("compare", "a", "b", "--seed", seed, "--json").out)["difference_95"] for seed in ("1", "1", "2")]
    assert intervals[0] == intervals[1]
    assert intervals[0] == pytest.approx(intervals[2], abs=0.05)


def test_a_run_that_was_scored_again_finds_its_videos_in_the_traces(act2see: Act2See) -> None:
    """Scores from elsewhere do not tell the video; the interval must know all the same which questions share one."""
    make(act2see, "a")
    make(act2see, "b", "--max-looks", "0")
    rewrite("b", lambda row: {**row, "outcome": "correct"})
    full = json.loads(act2see("compare", "a", "b", "--json").out)
    rewrite("a", lambda row: {name: row[name] for name in ("id", "kind", "outcome", "error")})
    done = act2see("compare", "a", "b", "--json")
    short = json.loads(done.out)
    assert short["difference_95"] == pytest.approx(full["difference_95"], abs=0.03)
    assert "the video of 1 questions in a is unknown" in done.err  # that whose video could not be opened has no trace


# What cannot be compared


def test_runs_of_different_benchmarks_are_refused(act2see: Act2See) -> None:
    make(act2see, "a")
    make(act2see, "b", benchmark="Few")
    complaint = act2see("compare", "a", "b").complaint
    assert "a is a run of 'eval_fakes:Many' and b one of 'eval_fakes:Few': compare runs of the same benchmark" in complaint


def test_other_questions_under_the_same_ids_are_refused(act2see: Act2See) -> None:
    make(act2see, "a")
    make(act2see, "b", benchmark="Other")
    about = json.loads(Path("b/run.json").read_text(encoding="utf-8"))
    about["config"]["benchmark"] = "eval_fakes:Many"  # another version of the same benchmark
    Path("b/run.json").write_text(json.dumps(about), encoding="utf-8")
    assert (
        "24 of 24 ids stand for different questions in the two runs; the first are 'q000' (other choices, answer or video), "
        in act2see("compare", "a", "b").complaint
    )


def test_what_is_no_ended_evaluation_is_one_line(act2see: Act2See) -> None:
    make(act2see, "a")
    make(act2see, "b")
    assert "no run in nowhere" in act2see("compare", "a", "nowhere").complaint
    Path("b/scores.jsonl").unlink()
    assert "b has no scores yet" in act2see("compare", "a", "b").complaint
    Path("b/scores.jsonl").write_text('{"id": "q000"}\n', encoding="utf-8")
    assert 'b/scores.jsonl:1: the field "kind" is missing' in act2see("compare", "a", "b").complaint
    Run.create(Path("c"), command="ask", config={}, seed=None)
    assert "c is a run of 'ask'" in act2see("compare", "a", "c").complaint


def test_runs_without_a_common_question_are_refused(act2see: Act2See) -> None:
    make(act2see, "a")
    make(act2see, "b")
    rewrite("b", lambda row: {**row, "id": f"x{row['id']}"})
    assert "a and b have no question in common" in act2see("compare", "a", "b").complaint
