"""`act2see filter`: what is kept is a run of its own, what is not has its reasons, and nothing is computed twice."""

import json
from pathlib import Path
from typing import Any

import pytest

from act2see.storage.runs import SAMPLES, Run
from act2see.tools.encoders.words import Words
from cli_fakes import Act2See, fakes

FLAGS = ("--embedder", "words", "--reference-similarity", "0.3", "--leak-words", "7")


@pytest.fixture(autouse=True)
def run(act2see: Act2See, own_clip: Path) -> None:
    """A run in `raw`: q002 copies, q003 has no video, q004 answers what is no choice."""
    source = ("construct", "construct_fakes:Told", "--teacher", "construct_fakes:Well", "--retriever", "cli_fakes:Finder")
    assert act2see(*source, "--n", "8", "--retries", "1", "--out", "raw").code == 0


def rows(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def test_the_good_ones_are_a_run_and_the_others_have_their_reasons(act2see: Act2See) -> None:
    done = act2see("filter", "raw", "--out", "kept", *FLAGS, "--json")
    assert done.code == 0
    summary = json.loads(done.out)
    kept = Run.open(Path("kept"))
    assert sorted(trace.id for trace in kept.traces()) == ["q000#0", "q001#0", "q005#0", "q006#0", "q007#0"]
    assert {row["trace"]: row["first"] for row in rows("kept/rejected.jsonl")} == {"q002#0": "leak", "q004#0": "no_answer", "q004#1": "no_answer"}
    assert (summary["traces"], summary["kept"], summary["questions"], summary["kept_questions"]) == (8, 5, 8, 5)
    assert summary["paper_counts"] == {
        "traces": 5,
        "with_a_frame": 3,
        "share_with_a_frame": 0.6,
        "with_retrieved": 3,
        "with_generated": 0,
    }
    assert {row["id"] for row in rows(f"kept/{SAMPLES}")} == {"q000", "q001", "q005", "q006", "q007"}
    raw = {json.loads(line)["id"]: line for line in Path("raw/traces.jsonl").read_text(encoding="utf-8").splitlines()}
    assert all(raw[json.loads(line)["id"]] == line for line in Path("kept/traces.jsonl").read_text(encoding="utf-8").splitlines())
    assert "CC BY 4.0" in Path("kept/README.md").read_text(encoding="utf-8")
    assert "5 of 8 traces kept" in Path("kept/filter.html").read_text(encoding="utf-8")


def test_what_is_kept_goes_to_other_trainers(act2see: Act2See) -> None:
    act2see("filter", "raw", "--out", "kept", *FLAGS)
    assert act2see("export", "kept", "--format", "trl", "--out", "exported").out.startswith("3 traces")  # two pairs ask the same about the same video


def test_filtering_again_replaces_the_result_and_embeds_nothing(act2see: Act2See, monkeypatch: pytest.MonkeyPatch) -> None:
    act2see("filter", "raw", "--out", "kept", *FLAGS)

    def refuse(self: Words, texts: list[str]) -> None:
        raise AssertionError("everything is known")

    monkeypatch.setattr(Words, "embed", refuse)
    done = act2see("filter", "raw", "--out", "kept", "--embedder", "words", "--reference-similarity", "0.99", "--json")
    assert json.loads(done.out)["kept"] == 0
    assert {row["first"] for row in rows("kept/rejected.jsonl")} == {"unlike_reference", "no_answer", "leak"}


def test_of_several_good_tries_at_a_question_the_first_is_kept(act2see: Act2See) -> None:
    source = ("construct", "construct_fakes:Told", "--teacher", "construct_fakes:WellInWords", "--retriever", "cli_fakes:Finder")
    act2see(*source, "--n", "2", "--retries", "2", "--out", "again")
    act2see("filter", "again", "--out", "kept", *FLAGS)
    assert sorted(trace.id for trace in Run.open(Path("kept")).traces()) == ["q000#0", "q001#0"]
    assert {row["trace"]: row["reasons"] for row in rows("kept/rejected.jsonl")}["q000#2"] == {"kept_already": "q000#0"}


def test_reasons_may_be_ignored(act2see: Act2See) -> None:
    act2see("filter", "raw", "--out", "kept", *FLAGS, "--ignore", "leak", "no_answer", "kept_already")
    assert not Path("kept/rejected.jsonl").read_text(encoding="utf-8")


def test_verdicts_by_hand_are_applied_and_kept(act2see: Act2See) -> None:
    given = [{"trace": "q000#0", "verdict": "reject", "note": "it guesses"}, {"trace": "q004#0", "verdict": "keep", "note": ""}]
    Path("verdicts.jsonl").write_text("".join(json.dumps(one) + "\n" for one in given), encoding="utf-8")
    act2see("filter", "raw", "--out", "kept", *FLAGS, "--verdicts", "verdicts.jsonl")
    found = {row["trace"]: row["reasons"] for row in rows("kept/rejected.jsonl")}
    assert found["q000#0"] == {"by_hand": "it guesses"}
    assert "q004#0" in found  # a verdict keeps nothing that something else speaks against
    assert rows("kept/verdicts.jsonl") == rows("raw/verdicts.jsonl") == given
    act2see("filter", "raw", "--out", "kept", *FLAGS, "--ignore", "leak")  # without the file: the run remembers them
    assert {row["trace"] for row in rows("kept/rejected.jsonl") if "by_hand" in row["reasons"]} == {"q000#0"}
    Path("verdicts.jsonl").write_text('{"trace": "q000#0", "verdict": "keep", "note": "after all"}\n', encoding="utf-8")
    act2see("filter", "raw", "--out", "kept", *FLAGS, "--verdicts", "verdicts.jsonl")
    assert "q000#0" not in {row["trace"] for row in rows("kept/rejected.jsonl")}


def test_a_verdict_on_another_run_is_refused_and_nothing_is_written(act2see: Act2See) -> None:
    Path("verdicts.jsonl").write_text('{"trace": "x#0", "verdict": "keep", "note": ""}\n', encoding="utf-8")
    assert "verdicts.jsonl:1" in act2see("filter", "raw", "--out", "kept", *FLAGS, "--verdicts", "verdicts.jsonl").complaint
    assert not Path("kept").exists()


def test_a_page_for_a_look_by_hand(act2see: Act2See) -> None:
    act2see("filter", "raw", "--out", "kept", *FLAGS, "--sample", "3", "--page", "look.html")
    page = Path("look.html").read_text(encoding="utf-8")
    assert page.count("<article") == 3
    act2see("filter", "raw", "--out", "kept", *FLAGS, "--sample", "3", "--page", "again.html")
    assert Path("again.html").read_text(encoding="utf-8") == page


def test_a_page_without_a_number_is_refused(act2see: Act2See) -> None:
    assert "--sample" in act2see("filter", "raw", "--out", "kept", *FLAGS, "--page", "look.html").complaint


def test_a_run_that_was_not_constructed_is_refused(act2see: Act2See) -> None:
    act2see("eval", "cli_fakes:Bench", *fakes("Direct"), "--out", "evaluated")
    assert "only runs of act2see construct" in act2see("filter", "evaluated", "--out", "kept", *FLAGS).complaint


def test_nothing_but_an_earlier_result_is_replaced(act2see: Act2See) -> None:
    assert "cannot be the source run" in act2see("filter", "raw", "--out", "raw", *FLAGS).complaint
    act2see("eval", "cli_fakes:Bench", *fakes("Direct"), "--out", "evaluated")
    before = Path("evaluated/traces.jsonl").read_bytes()
    assert "evaluated" in act2see("filter", "raw", "--out", "evaluated", *FLAGS).complaint
    assert Path("evaluated/traces.jsonl").read_bytes() == before


def test_a_broken_line_is_named_and_nothing_is_written(act2see: Act2See) -> None:
    with Path(f"raw/{SAMPLES}").open("a", encoding="utf-8") as file:
        file.write('{"id": 3}\n')
    complaint = act2see("filter", "raw", "--out", "kept", *FLAGS).complaint
    assert f"{SAMPLES}:9" in complaint
    assert not Path("kept").exists()


def test_an_embedder_that_is_not_there_is_one_line(act2see: Act2See) -> None:
    assert "did you mean words?" in act2see("filter", "raw", "--out", "kept", "--embedder", "word").complaint
