"""`score`: official verdicts held against our rules, and runs scored again without a model."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from act2see import cli, registry
from act2see.benchmarks import reading
from act2see.benchmarks.synthetic import SyntheticBenchmark
from act2see.config import EvalConfig
from act2see.core.trace import Answer, Trace
from act2see.evaluation.evaluator import answered as to_their_questions
from act2see.storage.runs import Run
from cli_fakes import Act2See, fakes
from made_up_sets import MAKERS, answered

CASES = Path(__file__).parents[1] / "data" / "scoring_cases.jsonl"
CASE = {
    "id": "one",
    "benchmark": "vitib",
    "kind": "mcq",
    "model_output": "Answer: C",
    "gold": "(C)",
    "official_extracted": "C",
    "official_verdict": "correct",
}


def read(path: str) -> Any:
    return json.loads(Path(path).read_text(encoding="utf-8"))


def rows(path: str = "run/scores.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


# Cases


def test_all_known_cases_agree_in_one_line_of_json(act2see: Act2See) -> None:
    done = act2see("score", "--cases", CASES)
    assert (done.code, done.err) == (0, "")
    assert done.out == '{"cases": 143, "agree": 143, "differ": []}\n'


def test_what_differs_is_named_and_said_with_its_line(act2see: Act2See) -> None:
    lines = [CASE, {**CASE, "id": "two", "official_verdict": "wrong"}, {**CASE, "id": "three", "kind": "open"}]
    Path("cases.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + "{cut off", encoding="utf-8")
    done = act2see("score", "--cases", "cases.jsonl")
    assert done.code == 1
    assert json.loads(done.out) == {"cases": 4, "agree": 1, "differ": ["two", "three", "cases.jsonl:4"]}
    second, third, last = done.err.splitlines()
    assert second == "act2see: cases.jsonl:2: two: official_verdict is 'wrong', ours is 'correct'"
    assert third == 'act2see: cases.jsonl:3: three: vitib has no cases of the kind "open"; there are mcq'
    assert last.startswith("act2see: cases.jsonl:4: no JSON: ")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ((), "give either a run folder or --cases with a file of official scores"),
        (("run", "--cases", "x.jsonl"), "give either a run folder or --cases"),
        (("--cases", "x.jsonl", "--official-form", "y"), "--cases cannot be combined with --official-form, --benchmark or --data"),
        (("--cases", "nowhere.jsonl"), "cannot read the cases nowhere.jsonl"),
        (("nowhere",), "no run in nowhere: it holds no run.json"),
        (("nowhere", "--official-form", "no/such/file"), "folder no/such does not exist"),
    ],
)
def test_a_score_that_cannot_be_had_is_one_line(act2see: Act2See, arguments: tuple[str, ...], part: str) -> None:
    assert part in act2see("score", *arguments).complaint


# The synthetic benchmark


@pytest.fixture(scope="module")
def synthetic_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run of `eval` on four clips, made once."""
    folder = tmp_path_factory.mktemp("synthetic")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(folder / "settings"))
        patch.chdir(folder)
        assert cli.main(("eval", "synthetic", *fakes("Direct"), "--n", "4", "--kind", "static", "--max-looks", "0", "--out", "run")) == 0
    return folder / "run"


@pytest.fixture
def _synthetic(act2see: Act2See, synthetic_run: Path) -> None:
    """The folder `run` with a copy of that run; the command line's own fixture has gone to an empty folder before."""
    shutil.copytree(synthetic_run, "run")


@pytest.mark.usefixtures("_synthetic")
def test_a_run_scored_again_is_scored_as_before(act2see: Act2See) -> None:
    before = {name: Path("run", name).read_bytes() for name in os.listdir("run") if name.endswith(("json", "jsonl"))}
    Path("run/scores.jsonl").write_text("", encoding="utf-8")
    done = act2see("score", "run", "--json")
    assert done.code == 0
    assert {name: Path("run", name).read_bytes() for name in before} == before
    assert json.loads(done.out) == read("run/summary.json")


@pytest.mark.usefixtures("_synthetic")
def test_scores_and_summary_are_made_from_the_traces_alone(act2see: Act2See) -> None:
    scores, summary = rows(), read("run/summary.json")
    for name in ("scores.jsonl", "summary.json", "costs.json"):
        Path("run", name).unlink(missing_ok=True)
    assert act2see("score", "run").code == 0
    assert rows() == scores
    del summary["fingerprint"]  # what the model was, the traces do not tell
    assert read("run/summary.json") == summary


@pytest.mark.usefixtures("_synthetic")
def test_what_the_traces_say_now_is_what_counts(act2see: Act2See) -> None:
    run = Run.open(Path("run"))
    traces = list(run.traces())
    Path("run/traces.jsonl").unlink()
    for number, trace in enumerate(traces):
        trace.steps[-1] = Answer("no such choice" if number else "also none")
        run.append(trace)
    summary = json.loads(act2see("score", "run", "--json").out)
    assert summary["outcomes"] == {"no_answer": 4}
    assert {row["outcome"] for row in rows()} == {"no_answer"}


@pytest.mark.usefixtures("_synthetic")
def test_for_a_reader(act2see: Act2See) -> None:
    first, second, *others = act2see("score", "run").out.splitlines()
    assert first.startswith("4 questions of synthetic: ")
    assert second.startswith("all: ")
    assert not [line for line in others if line.startswith("official")]


@pytest.mark.usefixtures("_synthetic")
def test_shuffled_options_are_read_in_the_order_in_which_they_were_shown(act2see: Act2See) -> None:
    run = Run.open(Path("run"))
    traces = list(run.traces())
    answers = {one.id: one.answer for one in SyntheticBenchmark(Path("run/videos"), 4, kinds=("static",)).samples()}
    Path("run/traces.jsonl").unlink()
    for trace in traces:
        choices = tuple(sorted(trace.choices))
        run.append(replace(trace, choices=choices, steps=[Answer("ABCD"[choices.index(answers[trace.id])])]))
    Path("run/run.json").write_text(json.dumps(read("run/run.json") | {"config": {**run.config, "shuffle_options": 3}}), encoding="utf-8")
    assert json.loads(act2see("score", "run", "--json").out)["outcomes"] == {"correct": 4}


@pytest.mark.usefixtures("_synthetic")
def test_questions_that_were_not_asked_yet_are_said(act2see: Act2See) -> None:
    lines = Path("run/traces.jsonl").read_bytes().splitlines(keepends=True)
    Path("run/traces.jsonl").write_bytes(lines[0] + lines[1][:50])
    Path("run/scores.jsonl").unlink()
    done = act2see("score", "run", "--json")
    assert (done.code, json.loads(done.out)["n"], json.loads(done.out)["not_asked"]) == (0, 1, 3)
    assert "note: 3 of 4 questions have not been run yet: continue with act2see eval --resume" in done.err


@pytest.mark.usefixtures("_synthetic")
@pytest.mark.parametrize(("there", "not_asked", "limit"), [(2, None, 2), (1, 1, 2), (3, None, None)])
def test_questions_behind_a_limit_were_left_out_on_purpose(act2see: Act2See, there: int, not_asked: int | None, limit: int | None) -> None:
    lines = Path("run/traces.jsonl").read_bytes().splitlines(keepends=True)
    Path("run/traces.jsonl").write_bytes(b"".join(lines[:there]))
    Path("run/summary.json").write_text(json.dumps({**read("run/summary.json"), "limit": 2}), encoding="utf-8")
    summary = json.loads(act2see("score", "run", "--json").out)
    assert (summary["n"], summary.get("not_asked"), summary.get("limit")) == (there, not_asked, limit)


@pytest.mark.usefixtures("_synthetic")
def test_a_question_that_failed_stays_failed(act2see: Act2See) -> None:
    """Three ways: the video could not be opened, the backend died half way, and so it did but the scores were never written."""
    run = Run.open(Path("run"))
    traces = list(run.traces())
    Path("run/traces.jsonl").unlink()
    kept, lost, half, half_too = (trace.id for trace in traces)
    for trace in (traces[0], traces[2], traces[3]):
        trace.finish = "answer" if trace.id == kept else None
        run.append(trace)
    run.write_scores(
        [
            {"id": lost, "kind": "static", "outcome": "video_error", "error": "no such file", "note": "by hand"},
            {"id": half, "kind": "static", "outcome": "backend_error", "error": "the server is gone"},
            {"id": "of another run", "kind": "static", "outcome": "backend_error", "error": None},
        ]
    )
    done = act2see("score", "run", "--json")
    assert done.code == 0
    assert json.loads(done.out)["outcomes"].items() >= {"video_error": 1, "backend_error": 2}.items()
    assert {row["id"]: row["error"] for row in rows()} == {
        kept: None,
        lost: "no such file",
        half: "the server is gone",
        half_too: "the trace was cut off",
    }
    assert [row.get("note") for row in rows()] == [None, "by hand", None, None]  # what else a line held stays


@pytest.mark.usefixtures("_synthetic")
@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"command": "audit"}, "is a run of 'audit': only runs of act2see eval can be rescored"),
        ({"config": {"benchmark": 7}}, "config.benchmark is 7 where a text is expected"),
        ({"config": {"benchmark": "synthetic", "n": "4"}}, 'config.n is "4" where a count (0 to 2^53) is expected'),
        ({"config": {"benchmark": "synthetic", "kind": ["static", "cubic"]}}, "config.kind names 'static', 'cubic'; known are "),
        ({"config": {"benchmark": "synthetic", "kind": []}}, "config.kind names none; known are "),
        ({"config": {"benchmark": "synthetic", "n": -4}}, "config.n is -4 where a count (0 to 2^53) is expected"),
        ({"config": {"benchmark": "synthetic", "n": 10**9}}, "config.n is 1,000,000,000; at most 100,000 questions"),
        ({"config": {"benchmark": "synthetic", "data": "somewhere"}}, 'used the data in "somewhere": give their folder with --data'),
        ({"config": {"benchmark": "video-mme", "data": "/somewhere"}}, 'used the data in "/somewhere": give their folder with --data'),
        ({"config": {"benchmark": "vcr-bench", "answer_judge": "micro"}}, "was scored by the judge 'micro', and score runs no model"),
        ({"config": {"benchmark": "video-mme"}}, "needs its data: --data DIR"),
        ({"config": {"benchmark": "synthetic", "n": 4, "kind": ["transient"]}}, "answers a question of 'synthetic': are these the data"),
        ({"config": {"benchmark": "cli_fakes:Bench"}}, "add --benchmark cli_fakes:Bench if you trust that code"),
    ],
)
def test_a_run_that_cannot_be_scored_again_is_one_line(act2see: Act2See, change: dict[str, Any], part: str) -> None:
    Path("run/run.json").write_text(json.dumps(read("run/run.json") | change), encoding="utf-8")
    before = Path("run/scores.jsonl").read_bytes()
    assert part in act2see("score", "run").complaint
    assert Path("run/scores.jsonl").read_bytes() == before


@pytest.mark.usefixtures("_synthetic")
@pytest.mark.parametrize("line", ["{", "[]", '{"outcome": "video_error"}', '{"outcome": 3}', '{"id": "q", "outcome": "video_error", "error": 1}'])
def test_a_broken_line_of_scores_is_named_and_made_anew(act2see: Act2See, line: str) -> None:
    before = rows()
    with Path("run/scores.jsonl").open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    done = act2see("score", "run")
    assert done.code == 0
    assert "note: 1 scores are unreadable and recomputed if there is a trace; the first: run/scores.jsonl:5: " in done.err
    assert rows() == before


@pytest.mark.usefixtures("_synthetic")
def test_a_broken_trace_is_no_smaller_denominator(act2see: Act2See) -> None:
    lines = Path("run/traces.jsonl").read_bytes().splitlines(keepends=True)
    before = Path("run/scores.jsonl").read_bytes(), Path("run/summary.json").read_bytes()
    Path("run/traces.jsonl").write_bytes(b"".join([lines[0], lines[1][:100] + b"\n", *lines[2:]]))
    complaint = act2see("score", "run").complaint
    assert complaint.startswith("act2see: 1 traces are unreadable, and their questions have no other answer; the first: run/traces.jsonl:2: no JSON")
    with Path("run/traces.jsonl").open("ab") as file:
        file.write(lines[1])  # as eval --resume asks it again
    done = act2see("score", "run")
    assert done.code == 0
    assert "note: 1 traces are unreadable, and each of their questions has another answer; the first: run/traces.jsonl:2: " in done.err
    assert (Path("run/scores.jsonl").read_bytes(), Path("run/summary.json").read_bytes()) == before
    Path("run/traces.jsonl").write_bytes(b"{}\n[]\n")
    assert "none of the 2 traces in run is readable; the first: run/traces.jsonl:1: " in act2see("score", "run").complaint


@pytest.mark.usefixtures("_synthetic")
def test_a_run_without_an_answer_is_one_line(act2see: Act2See) -> None:
    Path("run/scores.jsonl").unlink()
    Path("run/traces.jsonl").write_bytes(b"")
    assert "run has no answers to score yet: run act2see eval --resume" in act2see("score", "run").complaint


@pytest.mark.usefixtures("_synthetic")
def test_answers_to_other_questions_are_not_scored(act2see: Act2See) -> None:
    traces = [json.loads(line) for line in Path("run/traces.jsonl").read_text(encoding="utf-8").splitlines()]
    traces[1]["question"] = "What else?"
    traces[2]["video"], traces[2]["choices"] = "elsewhere/other.mp4", ["red", "green"]
    Path("run/traces.jsonl").write_text("".join(json.dumps(one) + "\n" for one in traces), encoding="utf-8")
    one, two = (json.dumps(traces[number]["id"]) for number in (1, 2))
    said = f"2 of 4 questions differ from those answered in run: {one} (other words), {two} (other choices and video)"
    assert f"{said}; give the original data with --data, or ask them again with act2see eval --resume" in act2see("score", "run").complaint


@pytest.mark.usefixtures("_synthetic")
def test_another_right_answer_is_named(act2see: Act2See) -> None:
    changed = rows()
    changed[3]["content"] = "0" * 12  # as an earlier version of the data had it
    Path("run/scores.jsonl").write_text("".join(json.dumps(one) + "\n" for one in changed), encoding="utf-8")
    done = act2see("score", "run")
    assert done.code == 0
    assert f"note: the right answer of 1 questions has changed since they were scored: {changed[3]['id']!r}; they are scored by" in done.err


@pytest.mark.usefixtures("_synthetic")
def test_no_video_is_made_to_score(act2see: Act2See) -> None:
    shutil.rmtree("run/videos")
    assert act2see("score", "run").code == 0
    assert not Path("run/videos").exists()


# A third party's class


def test_code_that_a_run_names_is_loaded_only_when_the_command_line_names_it_too(
    act2see: Act2See, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACT2SEE_TEST_CLIP", str(clip))
    assert act2see("eval", "cli_fakes:Bench", *fakes("Direct"), "--out", "run").code == 0
    assert "if you trust that code" in act2see("score", "run").complaint
    assert "is a run of 'cli_fakes:Bench', not of 'synthetic'" in act2see("score", "run", "--benchmark", "synthetic").complaint
    done = act2see("score", "run", "--benchmark", "cli_fakes:Bench", "--json")
    assert json.loads(done.out)["accuracy"] == {"all": 1.0, "even": 1.0, "odd": 1.0}


# Data sets


def made_up_run(name: str, *answers: Trace) -> None:
    """A made-up data set in `data`, and a run on it in `run` with these answers to its questions."""
    MAKERS[name](Path("data"))
    run = Run.create(Path("run"), command="eval", config={"benchmark": name, "data": "data", "frames": "real", "max_looks": 1}, seed=None)
    asked = registry.benchmark(name, EvalConfig(data=Path("data")), Path("videos"))
    for _, sample, trace in to_their_questions(asked, {trace.id: trace for trace in answers}):
        if trace is not None:
            trace.question, trace.choices, trace.video = sample.question, sample.choices, str(sample.video)  # in place: the next one may quote it
            run.append(trace)


def test_a_run_on_a_data_set_has_its_official_side(act2see: Act2See) -> None:
    choices = ("Red.", "Green.", "Blue.", "Yellow.")
    act2see("--version")  # the fixture's folder
    made_up_run("video-mme", answered("001-1", "A", choices), answered("001-2", "nonsense"), answered("001-3", None), answered("002-1", "B"))
    done = act2see("score", "run", "--data", "data", "--official-form", "results.json")
    assert done.code == 0
    assert "official: 50.0% of 2, 2 left out (thanku-all/parse_answer@afd52cf eval_your_results.py)" in done.out.splitlines()
    assert done.out.splitlines()[-1] == "results.json"
    assert "note: 16 of 20 questions have not been run yet" in done.err
    assert [(row["outcome"], row["official"], row["official_extracted"]) for row in rows()] == [
        ("correct", "correct", "A"),
        ("no_answer", "excluded", ""),
        ("no_answer", "excluded", ""),
        ("wrong", "wrong", "B"),
    ]
    summary = read("run/summary.json")
    assert summary["accuracy"]["all"] == 0.25  # ours counts every question
    assert (summary["official"]["n"], summary["official"]["accuracy"]) == (2, 0.5)
    first, second = read("results.json")
    assert [question["response"] for video in (first, second) for question in video["questions"]] == ["A", "nonsense", "", "B"]


def test_data_that_have_moved_are_named_anew(act2see: Act2See) -> None:
    act2see("--version")
    made_up_run("videoespresso", answered("videoespresso-00001", "A"))
    Path("data").rename("moved")
    assert "no folder data" in act2see("score", "run", "--data", "data").complaint
    done = act2see("score", "run", "--data", "moved", "--json")
    assert json.loads(done.out)["official"]["accuracy"] == 1.0


@pytest.mark.parametrize("name", ["minerva", "causalvqa", "jsonl"])
def test_where_there_is_no_official_file_nothing_is_written(act2see: Act2See, name: str) -> None:
    act2see("--version")
    id = {"minerva": "made-up-000:0", "causalvqa": "pair-0/1", "jsonl": "q0"}[name]
    made_up_run(name, answered(id, "A"))
    done = act2see("score", "run", "--data", "data", "--official-form", "out.json")
    assert done.code == 1
    assert f"benchmark '{name}' has no official answer file" in done.err
    assert not Path("out.json").exists()
    assert not Path("run/scores.jsonl").exists()


def test_egonormias_file_names_the_model_that_made_the_traces(act2see: Act2See) -> None:
    act2see("--version")
    traces = [answered("clip-0/behaviour", "A"), answered("clip-0/justification", "A"), answered("clip-0/sensible", "[1, 2]")]
    traces[0].made_with = {"model": "some-model"}
    made_up_run("egonormia", *traces)
    assert act2see("score", "run", "--data", "data", "--official-form", "x_eval.json", "--json").code == 0
    assert list(read("x_eval.json")["clip-0"]) == ["some-model"]
    assert read("run/summary.json")["official"]["by"] == {"behaviour": 1.0, "justification": 1.0, "both": 1.0, "sensible": 1.0}


@pytest.mark.parametrize(
    "name", ["run.json", "traces.jsonl", "scores.jsonl", "scores-1-of-2.jsonl", "summary.json", "costs.json", "frames/form.json"]
)
def test_an_official_form_never_takes_the_place_of_a_runs_data(act2see: Act2See, name: str) -> None:
    run = Run.create(Path("run"), command="eval", config={"benchmark": "synthetic"}, seed=None)
    before = {path.name: path.read_bytes() for path in run.folder.iterdir()}
    done = act2see("score", "run", "--official-form", f"run/{name}")
    assert done.complaint == f"act2see: cannot write run/{name}: the run keeps its own data there; give another file\n"
    assert {path.name: path.read_bytes() for path in run.folder.iterdir()} == before


def test_answers_beyond_a_smaller_number_of_questions_are_reported_as_by_eval(act2see: Act2See) -> None:
    asked = ("eval", "synthetic", *fakes("Direct"), "--out", "run", "--resume", "--n")
    assert act2see(*(one for one in asked if one != "--resume"), "5").code == 0
    note = "3 answers in run are to questions outside this selection; they are kept, but not counted"
    assert note in act2see(*asked, "2").err
    done = act2see("score", "run")
    assert note in done.err
    assert "answer no current question" not in done.err


def test_a_data_set_is_read_once(act2see: Act2See, monkeypatch: pytest.MonkeyPatch) -> None:
    question = {"id": "a", "video": "a.mp4", "question": "What?", "choices": ["red", "blue"], "answer": "red"}
    Path("questions.jsonl").write_text(json.dumps(question) + "\n", encoding="utf-8")
    run = Run.create(Path("run"), command="eval", config={"benchmark": "jsonl", "data": "questions.jsonl"}, seed=None)
    run.append(Trace("a", "a.mp4", "What?", (), ("red", "blue"), steps=[Answer("red")], finish="answer"))
    read, records = [], reading.records

    def counted(path: Path, found: reading.Findings) -> Iterator[reading.Record]:
        read.append(path)
        return records(path, found)

    monkeypatch.setattr(reading, "records", counted)
    assert json.loads(act2see("score", "run", "--data", "questions.jsonl", "--json").out)["accuracy"]["all"] == 1
    assert [path.name for path in read] == ["questions.jsonl"]
