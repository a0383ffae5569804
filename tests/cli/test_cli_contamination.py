"""`contamination`: what is told, written and refused, on the bundled clips as an evaluation set."""

import json
import shutil
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from act2see.cli.video_source import DEMO
from act2see.config import ContaminationConfig
from act2see.core.trace import Answer, Frame, Trace
from act2see.curation.overlaps import KINDS
from act2see.storage.runs import Run
from act2see.video import Video
from cli_fakes import Act2See
from made_up_sets import write_jsonl
from stored_traces import picture

CLIPS = sorted(DEMO.glob("*.mp4"))
ASKED = sorted(json.loads((DEMO / "questions.json").read_text(encoding="utf-8")), key=lambda row: str(row["video"]))


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    """The bundled clips and their questions in our own format, and one clip that is no video."""
    folder = tmp_path / "evaluation"
    rows = [{**row, "id": f"e{number}"} for number, row in enumerate(ASKED)]
    write_jsonl(folder / "questions.jsonl", [*rows, {"id": "broken", "video": "broken.mp4", "question": "Who?", "answer": "Ann"}])
    for clip in CLIPS:
        shutil.copy(clip, folder / clip.name)
    (folder / "broken.mp4").write_text("no video")
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Four traces: of a clip's frames under another name, of an evaluation question, of a clip's name, and of nothing that is evaluated."""
    run = Run.create(tmp_path / "run", command="ask", config={}, seed=7)
    frames = tuple(Video(CLIPS[0]).sample(2, short_side=128))
    other = (Frame(picture(1, (64, 48)), 0.0),)
    traces = [
        Trace("frames", "mine-1.mp4", "Who walks?", frames),
        Trace("words", "mine-2.mp4", ASKED[1]["question"].upper(), other, choices=tuple(reversed(ASKED[1]["choices"]))),
        Trace("name", "elsewhere/clip-3.mp4", "Who runs?", other),
        Trace("clean", "mine-4.mp4", "Who sits?", other),
    ]
    for trace in traces:
        trace.steps.append(Answer("A"))
        trace.finish = "answer"
        run.append(trace)
    return run.folder


def test_overlaps_are_counted_and_named(act2see: Act2See, run: Path, evaluation: Path) -> None:
    done = act2see("contamination", run, "--against", f"jsonl={evaluation}")
    assert done.code == 1
    assert done.out.splitlines() == [
        "3 of 4 traces overlap with 5 questions of jsonl",
        "         1  question",
        "         1  frames",
        "         1  video_name",
        *(line for line in done.out.splitlines() if line.startswith("overlap: trace frames and jsonl e0: frames, ")),
        "overlap: trace words and jsonl e1: question, 100% of the words",
        "overlap: trace name and jsonl e2: video_name",
    ]
    assert f"not opened, so not compared by frames: {evaluation / 'broken.mp4'}: " in done.err


def test_the_clean_run_and_the_report(act2see: Act2See, run: Path, evaluation: Path, tmp_path: Path) -> None:
    done = act2see("contamination", run, "--against", f"jsonl={evaluation}", "--out", "clean", "--report", "overlaps.jsonl", "--json")
    assert done.code == 1
    told = json.loads(done.out)
    assert (told["traces"], told["overlapping_traces"], told["kept"], told["out"]) == (4, 3, 1, "clean")
    assert [Path(one["video"]).name for one in told["videos_not_opened"]] == ["broken.mp4"]
    rows: list[dict[str, Any]] = [json.loads(line) for line in (tmp_path / "overlaps.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(row["trace_id"], row["benchmark"], row["sample_id"], row["kinds"]) for row in rows] == [
        ("frames", "jsonl", "e0", ["frames"]),
        ("words", "jsonl", "e1", ["question"]),
        ("name", "jsonl", "e2", ["video_name"]),
    ]
    assert (rows[0]["question_similarity"], rows[1]["question_similarity"]) == (None, 1.0)
    clean = Run.open(tmp_path / "clean")
    assert (clean.command, clean.seed, clean.config["run_digest"]) == ("contamination", 7, Run.open(run).digest)
    (kept,) = clean.traces()
    assert (kept.id, kept.frames[0].image.size) == ("clean", (64, 48))
    again = act2see("contamination", "clean", "--against", f"jsonl={evaluation}")
    assert (again.code, again.out) == (0, "0 of 1 traces overlap with 5 questions of jsonl\n")


def test_without_frames_no_video_is_opened_and_no_picture_read(act2see: Act2See, run: Path, evaluation: Path) -> None:
    shutil.rmtree(run / "frames")
    for clip in evaluation.glob("*.mp4"):
        clip.unlink()
    done = act2see("contamination", run, "--against", f"jsonl={evaluation}", "--no-frames", "--json")
    told = json.loads(done.out)
    assert (done.code, told["videos"], told["frames"]) == (1, 0, False)
    assert told["traces_by_kind"] == {"question": 1, "near_question": 0, "frames": 0, "video_name": 1}


def test_only_what_is_named_counts(act2see: Act2See, run: Path, evaluation: Path) -> None:
    done = act2see("contamination", run, "--against", f"jsonl={evaluation}", "--by", "frames", "near_question", "--json", "--out", "clean")
    told = json.loads(done.out)
    assert (told["overlapping_traces"], told["kept"]) == (1, 3)
    assert {name for name, count in told["traces_by_kind"].items() if count} == {"frames"}


def test_each_kind_can_be_named() -> None:
    hint = get_type_hints(ContaminationConfig)["by"]
    assert get_args(get_args(hint)[0]) == ContaminationConfig(()).by == KINDS


def test_several_sets_are_told_apart(act2see: Act2See, run: Path, evaluation: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACT2SEE_TEST_CLIP", str(tmp_path / "elsewhere" / "clip-3.mp4"))
    done = act2see("contamination", run, "--against", f"jsonl={evaluation}", "cli_fakes:Bench", "--no-frames", "--json")
    told = json.loads(done.out)
    assert told["benchmarks"] == {
        "jsonl": {"questions": 5, "overlapping_questions": 2},
        "cli_fakes:Bench": {"questions": 3, "overlapping_questions": 3},
    }


@pytest.mark.parametrize(
    ("against", "complaint"),
    [
        (("minervas=x",), "no benchmark 'minervas': did you mean minerva?"),
        (("minerva",), "--against minerva: missing data folder; write minerva=DIR"),
        (("minerva=",), "--against minerva=: missing folder after the =; write minerva=DIR"),
        (("minerva=nowhere",), "--against minerva=nowhere: nowhere does not exist"),
        (("synthetic=x",), "--against synthetic=x: synthetic generates its own videos"),
        (("cli_fakes:Bench", "cli_fakes:Bench"), "--against has a duplicate evaluation set"),
    ],
)
def test_what_cannot_be_held_against_is_one_line(act2see: Act2See, run: Path, against: tuple[str, ...], complaint: str) -> None:
    assert complaint in act2see("contamination", run, "--against", *against).complaint


def test_what_cannot_be_done_is_one_line(act2see: Act2See, run: Path, evaluation: Path, tmp_path: Path) -> None:
    against = ("--against", f"jsonl={evaluation}")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert "full is not empty: give --out a new folder" in act2see("contamination", run, *against, "--out", "full").complaint
    assert "folder no does not exist" in act2see("contamination", run, *against, "--report", "no/overlaps.jsonl").complaint
    assert "--no-frames and --by frames are mutually exclusive" in act2see("contamination", run, *against, "--no-frames", "--by", "frames").complaint
    assert "no run in nowhere" in act2see("contamination", "nowhere", *against).complaint
    assert act2see("contamination", run).code == 2
