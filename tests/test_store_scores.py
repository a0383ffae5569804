"""Scores and summaries beside the traces, and traces without their pictures."""

import json
from pathlib import Path

import pytest
from PIL import Image

from act2see.core.errors import StoreError
from act2see.core.trace import Answer, Cost, Frame, Observation, Retrieve, Step, Trace
from act2see.storage.runs import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run", command="eval", config={}, seed=None)


def trace(name: str) -> Trace:
    frames = tuple(Frame(Image.new("RGB", (40, 30), (number, 9, 9)), number / 2) for number in range(3))
    steps: list[Step] = [Retrieve("a star"), Observation((Frame(Image.new("RGB", (40, 30), "red"), 1.25, 0.5),)), Answer("B")]
    return Trace(name, "v.mp4", "What?", frames, ("red", "blue"), steps=steps, finish="answer", cost=Cost(10, 2, 1, {"decode": 0.5}))


def test_a_sketch_is_the_trace_without_its_pictures_and_reads_no_other_file(run: Run) -> None:
    run.append(trace("one"))
    run.append(trace("two"))
    for path in (run.folder / "frames").iterdir():
        path.unlink()
    first, second = map(run.sketch_at, run.places())
    assert (first.id, second.id, second.answer, second.looks, second.cost) == ("one", "two", "B", 1, trace("two").cost)
    assert [frame.seconds for frame in first.frames] == [0.0, 0.5, 1.0]
    assert {frame.image.size for frame in first.frames} == {(1, 1)}
    assert run.ids() == {"one", "two"}
    with pytest.raises(StoreError, match="is missing"):
        run.trace_at(next(run.places()))


def test_scores_come_back_with_their_places(run: Run) -> None:
    assert run.scores() is None
    run.write_scores([{"id": "one"}, {"id": "zwei\u2028drei"}])
    assert [row for _, row in run.scores() or ()] == [{"id": "one"}, {"id": "zwei\u2028drei"}]
    assert [where for where, _ in run.scores() or ()] == [f"{run.folder}/scores.jsonl:1", f"{run.folder}/scores.jsonl:2"]


def test_shards_have_scores_of_their_own(run: Run) -> None:
    run.write_scores([{"id": "one"}], shard="1-of-2")
    assert run.scores() is None
    assert run.scores("2-of-2") is None
    assert [row for _, row in run.scores("1-of-2") or ()] == [{"id": "one"}]


def test_a_broken_line_of_scores_is_named(run: Run) -> None:
    (run.folder / "scores.jsonl").write_text('{"id": "one"}\n{"id": \n', encoding="utf-8")
    with pytest.raises(StoreError, match=r"scores\.jsonl:2: no JSON"):
        run.scores()


def test_a_summary_and_its_costs(run: Run) -> None:
    assert run.summary() is None
    run.write_summary({"n": 1})
    assert run.summary() == {"n": 1}
    assert not (run.folder / "costs.json").exists()
    run.write_summary({"n": 2}, {"seconds": 0.5})
    assert (run.summary(), json.loads((run.folder / "costs.json").read_text(encoding="utf-8"))) == ({"n": 2}, {"seconds": 0.5})
    (run.folder / "summary.json").write_text("{", encoding="utf-8")
    with pytest.raises(StoreError, match=r"summary\.json: no JSON"):
        run.summary()
