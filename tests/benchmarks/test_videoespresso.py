"""VideoEspresso and ViTIB: one form of record, two files."""

from pathlib import Path

import pytest

from act2see.benchmarks.reading import Findings
from act2see.benchmarks.videoespresso import VideoEspresso
from act2see.benchmarks.vitib import ViTIB
from act2see.core.interfaces import Sample
from made_up_sets import MAKERS, answered, rows_of_espresso, write_json, write_jsonl


def test_an_item_of_videoespresso(tmp_path: Path) -> None:
    write_json(tmp_path / "bench_hard.json", rows_of_espresso())
    assert list(VideoEspresso(tmp_path).samples())[1] == Sample(
        id="videoespresso-00002",
        video=tmp_path / "all_video" / "Made" / "1.mp4",
        question="Which colour is meant by 1?",
        choices=("green", "blue", "yellow", "red"),
        answer="red",
        kind="Task 1",
    )


def test_the_hard_file_is_taken_where_there_are_several(tmp_path: Path) -> None:
    rows = rows_of_espresso()
    write_json(tmp_path / "train.json", rows)
    assert len(list(VideoEspresso(tmp_path).samples())) == 20
    write_json(tmp_path / "bench_final.json", rows[:9])
    assert len(list(VideoEspresso(tmp_path).samples())) == 9
    write_json(tmp_path / "bench_hard.json", rows[:3])
    assert len(list(VideoEspresso(tmp_path).samples())) == 3
    assert len(list(VideoEspresso(tmp_path / "train.json").samples())) == 20


def test_vitib_asks_the_same_and_never_shows_the_key_video(tmp_path: Path) -> None:
    MAKERS["videoespresso"](tmp_path / "espresso")
    MAKERS["vitib"](tmp_path / "vitib")
    ours, theirs = list(ViTIB(tmp_path / "vitib").samples()), list(VideoEspresso(tmp_path / "espresso").samples())
    assert [(one.question, one.choices, one.answer, one.kind) for one in ours] == [
        (one.question, one.choices, one.answer, one.kind) for one in theirs
    ]
    assert ours[0].id == "vitib-00001"
    assert {sample.video.parts[-3] for sample in ours} == {"all_video"}
    assert all(sample.video.is_file() for sample in ours)


@pytest.mark.parametrize("key", ["../x.mp4", "/x.mp4"])
def test_a_key_video_outside_is_a_fault_though_it_is_not_opened(tmp_path: Path, key: str) -> None:
    rows = [{**row, "key_video_path": "key/x.mp4"} for row in rows_of_espresso()]
    rows[4]["key_video_path"] = key
    write_jsonl(tmp_path / "vitcot_data.jsonl", rows)
    found = Findings()
    assert len(ViTIB(tmp_path).read(found)) == 19
    assert found.problems[0].startswith("vitcot_data.jsonl:5: key_video_path is ")


def test_faults_of_single_items(tmp_path: Path) -> None:
    rows = rows_of_espresso()
    rows[0]["correct_answer"] = "(F)"
    rows[1]["options"] = {"A": "red"}
    rows[2]["options"] = ["(A): red"]
    del rows[3]["video_path"]
    rows[4]["options"] = ["(A): red", "(B): Red", "(C): blue", "(D): green"]
    rows[4]["correct_answer"] = "(A)"
    write_json(tmp_path / "bench_hard.json", rows)
    found = Findings()
    samples = VideoEspresso(tmp_path).read(found)
    assert [problem.partition(": ")[2].partition(":")[0] for problem in found.problems] == ["item 1", "item 2", "item 3", "item 4"]
    assert 'the answer "(F)" is not one of the choices A to D' in found.problems[0]
    assert "expected a list of texts" in found.problems[1]
    assert "got 1 options, expected 2 or 3 or 4 or 5" in found.problems[2]
    assert "missing field 'video_path'" in found.problems[3]
    assert found.notes == ["bench_hard.json: item 5: two choices are identical: both count as right if one is"]
    assert samples[0].id == "videoespresso-00005"
    assert VideoEspresso(tmp_path).is_right(samples[0], answered("q", "A")) is True
