"""`retrieve` over folders and several videos and texts: one ranking over all, and what is written of it."""

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from act2see import RetrieveConfig, Video
from act2see.core.errors import ConfigError, VideoError
from act2see.evaluation.frames import find_frames
from act2see.evaluation.searching import search_videos
from cli_fakes import Act2See

GREY = ("--retriever", "tiny_encoder:Grey", "--retrieve-fps", "10", "--select", "argmax")


def _write(path: Path, greys: Sequence[int]) -> Path:
    """A plain picture each tenth of a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for grey in greys:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), grey, np.uint8), format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Dark, middle and light videos, and a text."""
    _write(tmp_path / "videos" / "dark.mp4", range(0, 60, 3))
    _write(tmp_path / "videos" / "sub" / "middle.mp4", range(90, 150, 3))
    _write(tmp_path / "videos" / "light.mp4", range(180, 240, 3))
    (tmp_path / "videos" / "notes.txt").write_text("no video", encoding="utf-8")
    return tmp_path / "videos"


def test_the_best_frames_of_a_folder_are_ranked_over_all_its_videos(act2see: Act2See, folder: Path) -> None:
    done = act2see("retrieve", folder, "grey 120", *GREY, "--top", "3")
    assert done.code == 0
    lines = [line.split("  ") for line in done.out.splitlines()]
    assert {line[0] for line in lines} == {f"{folder}/sub/middle.mp4"}
    assert sorted(line[1] for line in lines) == ["0.900 s", "1.000 s", "1.100 s"]
    assert lines[0][1] == "1.000 s"
    assert done.err == f"act2see: note: skipped: {folder}/notes.txt cannot be read as a video (Invalid data found when processing input): " + (
        "give a video file, such as an mp4\n"
    )
    other = act2see("retrieve", folder / "dark.mp4", folder / "light.mp4", "grey 200", *GREY, "--top", "2")
    assert [line.split("  ")[0] for line in other.out.splitlines()] == [f"{folder}/light.mp4"] * 2
    mixed = act2see("retrieve", folder, "grey 75", *GREY, "--top", "12").out.splitlines()
    assert {line.split("  ")[0] for line in mixed} == {f"{folder}/dark.mp4", f"{folder}/sub/middle.mp4"}
    scores = [float(line.split("score ")[1].split()[0]) for line in mixed]
    assert scores == sorted(scores, reverse=True)


def test_several_texts_are_looked_for_at_once(act2see: Act2See, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACT2SEE_TEST_LOG", str(tmp_path / "log"))
    done = act2see("retrieve", folder, "grey 120", "--also", "grey 30", "--also", "grey 210", *GREY, "--json")
    told = json.loads(done.out)
    assert [one["query"] for one in told["queries"]] == ["grey 120", "grey 30", "grey 210"]
    assert [Path(one["frames"][0]["video"]).name for one in told["queries"]] == ["middle.mp4", "dark.mp4", "light.mp4"]
    assert [one["frames"][0]["seconds"] for one in told["queries"]] == pytest.approx([1.0, 1.0, 1.0])
    assert sorted(told["videos"]) == sorted(str(path) for path in folder.rglob("*.mp4"))
    assert [one["video"] for one in told["skipped"]] == [f"{folder}/notes.txt"]
    assert len((tmp_path / "log").read_text(encoding="utf-8").splitlines()) == 3  # each video is encoded once
    lines = act2see("retrieve", folder / "dark.mp4", "grey 30", "--also", "grey 0", *GREY).out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["grey 30:", f"{folder}/dark.mp4", "grey 0:", f"{folder}/dark.mp4"]


def test_one_that_was_named_and_fails_does_not_stop_the_others(act2see: Act2See, folder: Path) -> None:
    done = act2see("retrieve", "nowhere.mp4", folder / "dark.mp4", folder / "notes.txt", "grey 30", *GREY)
    assert done.code == 1
    assert done.out.startswith(f"{folder}/dark.mp4  1.000 s")
    assert done.err.splitlines()[0] == "act2see: no such file: nowhere.mp4"
    assert done.err.splitlines()[1].startswith(f"act2see: {folder}/notes.txt cannot be read as a video")
    (folder / "empty").mkdir()
    assert "is a folder without files" in act2see("retrieve", folder / "empty", "grey 30", *GREY).complaint


def test_a_damaged_file_is_told_also_where_nothing_is_found_in_it(act2see: Act2See, folder: Path) -> None:
    damaged = _write(folder / "damaged.mkv", range(0, 120, 3))
    damaged.write_bytes(damaged.read_bytes()[:-400])
    done = act2see("retrieve", folder, "grey 255", *GREY, "--top", "1")
    assert Video(damaged).damage is not None
    assert done.err.count("damaged.mkv is damaged") == 1
    assert done.out.startswith(f"{folder}/light.mp4")


def test_a_weak_best_match_is_named_with_its_text(act2see: Act2See, folder: Path) -> None:
    done = act2see("retrieve", folder / "dark.mp4", folder / "light.mp4", "number 5", *GREY, "--also", "grey 30")
    notes = [line for line in done.err.splitlines() if "threshold" in line]
    assert notes == ["act2see: note: no frame found for 'number 5' passes the retriever's threshold of 0.98: take what follows as a guess"]


def test_pictures_clips_and_a_contact_sheet(act2see: Act2See, folder: Path, tmp_path: Path) -> None:
    done = act2see("retrieve", folder, "grey 120", *GREY, "--top", "2", "--out", "found", "--clip", "0.6s", "--sheet", "sheet.png")
    assert done.code == 0
    names = sorted(os.listdir("found"))
    first, second = (name for name in names if name.endswith(".mp4"))
    assert [name.replace(".mp4", ".png") for name in (first, second)] == [name for name in names if name.endswith(".png")]
    assert first == "01-middle-00001.000.mp4"
    assert done.out.splitlines()[0].endswith(f"found/{first[:-4]}.png  found/{first}")
    clip = Video(Path("found") / first)
    assert clip.duration_seconds == pytest.approx(0.6, abs=0.05)
    assert np.asarray(clip.frame_at(0.31).image.convert("L")).mean() == pytest.approx(120, abs=4)
    with Image.open("sheet.png") as sheet:
        assert sheet.width > 2 * 320
        grey = np.asarray(sheet.convert("L"))
    assert (abs(grey.astype(int) - 120) <= 3).sum() > 64 * 48  # the first picture is on it


def test_a_single_video_has_clips_and_a_sheet_too(act2see: Act2See, clip: Path) -> None:
    done = act2see("retrieve", clip, "grey 120", *GREY, "--clip", "1", "--sheet", "sheet.jpg", "--json")
    told = json.loads(done.out)
    assert (told["sheet"], told["frames"][0]["clip"], told["frames"][0]["file"]) == ("sheet.jpg", "00001.000.mp4", None)
    assert Video("00001.000.mp4").duration_seconds == pytest.approx(1, abs=0.05)
    with Image.open("sheet.jpg") as sheet:
        assert sheet.format == "JPEG"


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (("--plot", "scores.png"), 1, "--plot draws the scores of one video for one text"),
        (("--sheet", "sheet.gif"), 1, "must end in one of .png, .jpg, .jpeg"),
        (("--sheet", "nowhere/sheet.png"), 1, "folder nowhere does not exist"),
        (("--also", " "), 1, "the query is empty"),
        (("--clip", "long"), 2, "write a number of seconds such as 3s"),
        (("--clip", "0"), 2, "--clip"),
        (("--clip", "500s"), 2, "--clip"),
        (("--retriever", "none"), 1, "cannot search"),
    ],
)
def test_what_cannot_be_done_is_one_line(act2see: Act2See, folder: Path, arguments: tuple[str, ...], code: int, part: str) -> None:
    given = arguments if "--retriever" in arguments else (*arguments, *GREY)
    done = act2see("retrieve", folder / "dark.mp4", folder / "light.mp4", "grey 30", *given)
    assert (done.code, done.out) == (code, "")
    assert part in " ".join(done.err.split())


def test_a_hit_is_what_the_search_of_its_video_alone_finds(folder: Path) -> None:
    options = RetrieveConfig(retriever="tiny_encoder:Grey", retrieve_fps=10.0, top=2, cache=False)
    alone = find_frames(folder / "sub" / "middle.mp4", "grey 120", options)
    (found,) = search_videos([folder / "dark.mp4", folder / "sub" / "middle.mp4"], ["grey 120"], options).queries
    by_score = sorted(alone.frames, key=lambda frame: -(frame.score or 0))
    assert [(hit.frame.seconds, hit.frame.score, hit.frame.match) for hit in found.hits] == [(one.seconds, one.score, one.match) for one in by_score]
    assert [hit.frame.image for hit in found.hits] == [frame.image for frame in by_score]
    third_party = search_videos([folder / "dark.mp4", folder / "light.mp4"], ["x"], replace(options, retriever="cli_fakes:Finder", top=1))
    assert [(Path(hit.video).name, hit.frame.seconds) for hit in third_party.queries[0].hits] == [("dark.mp4", 0.5)]


def test_several_videos_are_searched_in_python(folder: Path, tmp_path: Path) -> None:
    options = RetrieveConfig(retriever="tiny_encoder:Grey", retrieve_fps=10.0, select="argmax", top=2, cache=False)
    counts: list[tuple[int, int | None, str]] = []
    paths = [folder / "light.mp4", folder / "dark.mp4", folder / "notes.txt"]
    found = search_videos(paths, ["grey 30", " grey 210 "], options, lambda *count: counts.append(count))
    assert [(one.query, {Path(hit.video).name for hit in one.hits}) for one in found.queries] == [
        ("grey 30", {"dark.mp4"}),
        ("grey 210", {"light.mp4"}),
    ]
    assert all(len(one.hits) == 2 for one in found.queries)
    assert found.searched == (str(folder / "light.mp4"), str(folder / "dark.mp4"))
    (failed,) = found.failed
    assert failed.video == str(folder / "notes.txt")
    assert isinstance(failed.error, VideoError)
    assert {what for _, _, what in counts} == {"indexing light.mp4", "indexing dark.mp4"}
    with pytest.raises(ConfigError, match="nothing to look for"):
        search_videos(paths, [], options)
    with pytest.raises(ConfigError, match="the query is empty"):
        search_videos(paths, ["grey 30", ""], options)
