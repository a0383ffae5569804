"""`benchmarks`: what there is to download, and one clear line for each thing that is wrong with what was downloaded."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli_fakes import Act2See
from made_up_sets import MAKERS, QUESTIONS, rows_of_jsonl, rows_of_video_mme, write_json, write_jsonl


@pytest.fixture
def made_up(tmp_path: Path) -> Callable[[str], Path]:
    """Write a made-up data set and give its folder."""

    def make(name: str) -> Path:
        folder = tmp_path / f"data-{name}"
        MAKERS[name](folder)
        return folder

    return make


def test_the_list_tells_what_to_download_and_what_may_be_trained_on(act2see: Act2See) -> None:
    done = act2see("benchmarks")
    assert done.code == 0
    assert done.err == ""
    for name in ("synthetic", *MAKERS):
        assert f"\n{name}: " in f"\n{done.out}"
    told = json.loads(act2see("benchmarks", "--json").out)["benchmarks"]
    assert [one["name"] for one in told] == [line.partition(":")[0] for line in done.out.splitlines() if not line.startswith(" ")]
    by_name = {one["name"]: one for one in told}
    assert by_name["minerva"]["training"] == "yes"
    assert by_name["causalvqa"]["training"] == "no"
    assert by_name["video-mme"]["source"].startswith("https://")
    assert set(by_name["jsonl"]) == {"name", "title", "about", "download", "source", "licence", "training", "why"}


@pytest.mark.parametrize("name", MAKERS)
def test_a_whole_data_set_passes(act2see: Act2See, made_up: Callable[[str], Path], name: str) -> None:
    folder = made_up(name)
    done = act2see("benchmarks", "check", name, "--data", folder)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"{name}: {QUESTIONS[name]} questions about ")
    assert done.out.endswith("no problems found\n")
    told = json.loads(act2see("benchmarks", "check", name, "--data", folder, "--json").out)
    assert (told["questions"], told["missing_videos"], told["empty_videos"], told["problems"]) == (QUESTIONS[name], [], [], [])
    assert sum(told["kinds"].values()) == QUESTIONS[name]


def test_videos_that_are_not_there_or_empty(act2see: Act2See, made_up: Callable[[str], Path]) -> None:
    folder = made_up("video-mme")
    (folder / "data" / "made-up-1.mp4").unlink()
    (folder / "data" / "made-up-2.mp4").write_bytes(b"")
    done = act2see("benchmarks", "check", "video-mme", "--data", folder)
    assert done.code == 1
    assert done.out.splitlines()[-2:] == [f"missing: {folder}/data/made-up-1.mp4", f"empty: {folder}/data/made-up-2.mp4"]
    for video in (folder / "data").iterdir():
        video.unlink()
    assert act2see("benchmarks", "check", "video-mme", "--data", folder).out.count("\nmissing: ") == 5


def test_many_missing_videos_are_counted_and_json_names_them_all(act2see: Act2See, tmp_path: Path) -> None:
    rows = [{**row, "video": f"{row['id']}.mp4"} for row in rows_of_jsonl()]
    path = write_jsonl(tmp_path / "own.jsonl", [*rows, *({**row, "id": f"{row['id']}b", "video": f"{row['id']}b.mp4"} for row in rows)])
    lines = act2see("benchmarks", "check", "jsonl", "--data", path).out.splitlines()
    assert sum(line.startswith("missing: ") for line in lines) == 21
    assert lines[-1] == "missing: 20 more (40 of 40 videos); --json lists all"
    assert len(json.loads(act2see("benchmarks", "check", "jsonl", "--data", path, "--json").out)["missing_videos"]) == 40


def _cut(rows: list[dict[str, Any]]) -> str:
    return json.dumps(rows, indent=1)[:-40]


def _changed(number: int, **values: Any) -> Callable[[list[dict[str, Any]]], str]:
    def change(rows: list[dict[str, Any]]) -> str:
        rows[number].update(values)
        return json.dumps([{name: value for name, value in row.items() if value is not ...} for row in rows])

    return change


BROKEN = {
    "cut off": (_cut, "invalid JSON: "),
    "a field of another name": (
        _changed(2, question_id=..., questionID="x"),
        "item 3: missing field 'question_id'; did you mean 'questionID'?",
    ),
    "an answer that is no choice": (_changed(3, answer="E"), 'item 4: the answer "E" is not one of the choices A to D'),
    "a choice too few": (_changed(4, options=["A. x", "B. y"]), "item 5: got 2 options, expected 4"),
    "an empty choice": (_changed(4, options=["A. x", "B. y", "C. z", "D."]), "item 5: empty option"),
    "an id twice": (_changed(5, question_id="001-1"), 'item 6: duplicate id "001-1", first used at a.json: item 1'),
    "a video outside": (
        _changed(6, videoID="../../etc/passwd"),
        'item 7: the video path is "../../etc/passwd": `..` leaves the data folder',
    ),
    "an absolute video": (
        _changed(7, videoID="/etc/passwd"),
        'item 8: the video path is "/etc/passwd", expected a path relative to the data folder',
    ),
    "another duration": (_changed(8, duration="tiny"), 'item 9: duration is "tiny", expected short or medium or long'),
    "no question": (_changed(9, question="  "), 'item 10: question is "  ", expected a text'),
}


@pytest.mark.parametrize("case", BROKEN)
def test_each_fault_is_one_line_with_its_place(act2see: Act2See, tmp_path: Path, case: str) -> None:
    change, expected = BROKEN[case]
    (tmp_path / "a.json").write_text(change(rows_of_video_mme()))
    done = act2see("benchmarks", "check", "video-mme", "--data", tmp_path)
    assert done.code == 1
    wrong = [line for line in done.out.splitlines() if line.startswith("problem: ")]
    assert len(wrong) == 1
    assert wrong[0].startswith("problem: a.json:")
    assert expected in wrong[0]
    # An evaluation refuses the same set, with the same words, before it loads a model.
    assert (
        " ".join(wrong[0].removeprefix("problem: ").split())
        in act2see("eval", "video-mme", "--data", tmp_path, "--backend", "cli_fakes:Direct").complaint
    )


def test_the_same_fault_in_all_rows_is_one_line(act2see: Act2See, tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", [{"id": row["question_id"], **row, "options": None} for row in rows_of_video_mme()])
    done = act2see("benchmarks", "check", "video-mme", "--data", tmp_path)
    assert "problem: a.json: item 1: options is null, expected a list of texts (and at 19 more places)" in done.out.splitlines()


def test_subtitles_are_read_where_they_are(act2see: Act2See, made_up: Callable[[str], Path]) -> None:
    folder = made_up("video-mme")
    done = act2see("benchmarks", "check", "video-mme", "--data", folder, "--subtitles")
    assert done.code == 0
    assert "no subtitles for this video: the question is asked without (and at 19 more places)" in done.out
    (folder / "subtitle").mkdir()
    (folder / "subtitle" / "made-up-0.srt").write_text("no subtitles at all")
    done = act2see("benchmarks", "check", "video-mme", "--data", folder, "--subtitles")
    assert done.code == 1
    assert "contains no subtitles" in done.out


def test_names_and_folders_that_are_none(act2see: Act2See, tmp_path: Path) -> None:
    assert "those that are: video-mme, " in act2see("benchmarks", "check", "nothing", "--data", tmp_path).complaint
    assert "no folder nowhere: pass the folder of the downloaded data" in act2see("benchmarks", "check", "minerva", "--data", "nowhere").complaint
    assert "has no question file (expected minerva.json" in act2see("benchmarks", "check", "minerva", "--data", tmp_path).complaint
    assert act2see("benchmarks", "check", "minerva").code == 2


def test_a_made_up_set_is_evaluated_from_the_command_line(act2see: Act2See, made_up: Callable[[str], Path]) -> None:
    """The scripted model always says `B. red`, which is the right choice and the right letter at every fourth question."""
    folder = made_up("video-mme")
    done = act2see("eval", "video-mme", "--data", folder, "--backend", "cli_fakes:Direct", "--retriever", "none", "--json")
    told = json.loads(done.out.splitlines()[-1])
    assert done.code == 0
    assert told["n"] == 20
    assert told["outcomes"] == {"correct": 5, "no_answer": 15}
    assert told["n_by_kind"]["duration: short"] == 7
    assert told["n_by_kind"]["Counting Problem"] == 10


def test_a_judge_is_named_as_a_backend_is(act2see: Act2See, made_up: Callable[[str], Path]) -> None:
    """The model says `B. red`, which no interval, box or open answer is; the judge, who says the same, leaves it undecided."""
    folder = made_up("vcr-bench")
    flags = ("--data", folder, "--backend", "cli_fakes:Direct", "--retriever", "none", "--json")
    done = act2see("eval", "vcr-bench", *flags, "--answer-judge", "cli_fakes:Direct")
    assert done.code == 0
    assert json.loads(done.out.splitlines()[-1])["outcomes"]["no_answer"] >= 15
    assert "no backend 'nobody'" in act2see("eval", "vcr-bench", *flags, "-o", "answer_judge=nobody").complaint
    assert "cannot read the judge prompts" in act2see("eval", "vcr-bench", *flags, "-o", "answer_judge=micro", "-o", "judge_prompts=x.py").complaint
