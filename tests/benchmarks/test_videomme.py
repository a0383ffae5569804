"""Video-MME: three forms of the same rows, groups of the official breakdown, subtitles."""

from pathlib import Path
from typing import Any

import pytest

from act2see.benchmarks.reading import Findings
from act2see.benchmarks.videomme import VideoMME
from act2see.core.interfaces import Sample
from made_up_sets import clip, rows_of_video_mme, write_json, write_jsonl, write_parquet

SRT = "1\n00:00:01,000 --> 00:00:02,000\n<font>Red it is</font>\n"


def nested(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The official results' form: a list of videos, each with its questions and a place for the response."""
    own = ("question_id", "task_type", "question", "options", "answer")
    videos: dict[str, dict[str, Any]] = {}
    for row in rows:
        about = {name: value for name, value in row.items() if name not in own and name != "url"}
        video = videos.setdefault(row["video_id"], {**about, "questions": []})
        video["questions"].append({**{name: row[name] for name in own}, "response": ""})
    return list(videos.values())


def told(samples: list[Sample]) -> list[tuple[object, ...]]:
    return [(sample.id, sample.question, sample.choices, sample.answer, sample.kind) for sample in samples]


def test_the_table_and_its_rows_as_json_are_the_same(tmp_path: Path) -> None:
    rows = rows_of_video_mme()
    first = VideoMME(write_parquet(tmp_path / "hub" / "videomme" / "test-00000-of-00001.parquet", rows).parents[1])
    others = [
        VideoMME(write_json(tmp_path / "a" / "rows.json", rows)),
        VideoMME(write_jsonl(tmp_path / "b" / "rows.jsonl", rows)),
        VideoMME(write_json(tmp_path / "c" / "page.json", {"rows": [{"row": row} for row in rows]})),
        VideoMME(write_json(tmp_path / "d" / "nested.json", nested(rows))),
    ]
    expected = told(list(first.samples()))
    assert len(expected) == 20
    for other in others:
        assert told(list(other.samples())) == expected


def test_a_question_with_its_groups(tmp_path: Path) -> None:
    write_json(tmp_path / "rows.json", rows_of_video_mme())
    video = clip(tmp_path / "data" / "made-up-0.mp4")
    sample = list(VideoMME(tmp_path).samples())[1]
    assert sample == Sample(
        id="001-2",
        video=video,
        question="Which colour is meant by 1?",
        choices=("Green.", "Blue.", "Yellow.", "Red."),
        answer="Red.",
        kind="OCR Problems",
        groups=("duration: medium", "domain: Multilingual", "sub-category: Multilingual"),
    )


@pytest.mark.parametrize("place", ["data/made-up-0.MP4", "videos/made-up-0.mkv", "made-up-0.mp4"])
def test_videos_are_found_where_people_put_them(tmp_path: Path, place: str) -> None:
    write_parquet(tmp_path / "videomme" / "test-0.parquet", rows_of_video_mme())
    if place.endswith("mkv"):
        (tmp_path / place).parent.mkdir()
        (tmp_path / place).write_bytes(b"only looked for")
    else:
        (tmp_path / place).parent.mkdir(exist_ok=True)
        clip(tmp_path / "clip.mp4").replace(tmp_path / place)
    assert next(VideoMME(tmp_path).samples()).video == tmp_path / place
    assert next(VideoMME(tmp_path / "videomme" / "test-0.parquet").samples()).video == tmp_path / place


def test_what_is_said_stands_after_the_question_with_its_times(tmp_path: Path) -> None:
    write_parquet(tmp_path / "videomme" / "test-0.parquet", rows_of_video_mme())
    (tmp_path / "subtitle").mkdir()
    (tmp_path / "subtitle" / "made-up-0.srt").write_text(SRT)
    plain, spoken = list(VideoMME(tmp_path).samples()), list(VideoMME(tmp_path, subtitles=True).samples())
    assert spoken[3].question == f"{plain[3].question}\nWhat is said in the video, each line after its minute and second:\n[0:01] Red it is"
    assert [sample.question for sample in spoken[4:]] == [sample.question for sample in plain[4:]]
    assert [sample.id for sample in spoken] == [sample.id for sample in plain]
    found = Findings()
    VideoMME(tmp_path, subtitles=True).read(found)
    assert found.problems == []
    assert found.notes == ["test-0.parquet: row 5: no subtitles for this video: the question is asked without (and at 15 more places)"]


def test_a_video_without_a_name_of_its_own_is_named_by_its_number(tmp_path: Path) -> None:
    rows = [{name: value for name, value in row.items() if name != "videoID"} for row in rows_of_video_mme()]
    write_json(tmp_path / "rows.json", nested(rows))
    assert next(VideoMME(tmp_path).samples()).video == tmp_path / "data" / "001.mp4"


def test_questions_that_are_no_list(tmp_path: Path) -> None:
    write_json(tmp_path / "rows.json", [{"video_id": "001", "questions": {"a": 1}}, {"video_id": "002", "questions": []}])
    found = Findings()
    assert VideoMME(tmp_path).read(found) == []
    assert found.problems == ['rows.json: item 1: questions is {"a": 1}, expected a list of objects']
