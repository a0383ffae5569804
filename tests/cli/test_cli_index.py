"""`index`: several videos, progress, Ctrl-C, and what is said of those that fail; `cache`: what is kept, and how to be rid of it."""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from act2see.config import IndexConfig
from act2see.core.errors import ConfigError
from act2see.evaluation.indexing import index_videos
from act2see.storage.cache import Cache
from act2see.tools.index import Index
from act2see.video import Video
from cli_fakes import Act2See, start
from tiny_encoder import Grey

GREY = ("--retriever", "tiny_encoder:Grey", "--retrieve-fps", "10")


@pytest.fixture
def other(clip: Path, tmp_path: Path) -> Path:
    """The same frames in a file of other content."""
    path = tmp_path / "other.mp4"
    path.write_bytes(clip.read_bytes() + b"\0\0\0\x08free")
    return path


def test_several_videos_with_progress_and_a_summary(act2see: Act2See, clip: Path, other: Path) -> None:
    done = act2see("index", clip, other, clip, *GREY)
    assert done.code == 0
    first, second, last = done.out.splitlines()
    assert first.startswith(f"{clip}: 20 frames of 2.0 s in ")
    assert second.startswith(f"{other}: 20 frames of 2.0 s in ")
    assert last.startswith("2 videos, 40 frames in ")
    assert done.err == ""  # so short a job tells no progress where there is no terminal
    again = act2see("index", clip, other, *GREY, "--json")
    assert (again.code, again.err) == (0, "")
    assert [one["frames"] for one in json.loads(again.out)["videos"]] == [20, 20]


def test_one_that_fails_does_not_stop_the_others(act2see: Act2See, clip: Path) -> None:
    done = act2see("index", "nowhere.mp4", clip, *GREY, "--json")
    told = json.loads(done.out)
    assert done.code == 1
    assert [one["video"] for one in told["videos"]] == [str(clip)]
    assert told["failed"] == [{"video": "nowhere.mp4", "error": "no such file: nowhere.mp4"}]
    assert "act2see: no such file: nowhere.mp4\n" in done.err


def test_what_cannot_be_indexed_with_is_one_line(act2see: Act2See, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no video" in act2see("index").complaint
    assert "encodes nothing" in act2see("index", clip, "--retriever", "none").complaint
    assert "has no 'encode_frames'" in act2see("index", clip, "--retriever", "cli_fakes:Finder").complaint
    monkeypatch.setenv("ACT2SEE_CACHE", "/proc/not-there")
    done = act2see("index", clip, *GREY)
    assert (done.code, done.out) == (1, "")
    assert "act2see: cannot write the index to /proc/not-there: set ACT2SEE_CACHE to a writable folder" in done.err


def test_control_c_keeps_what_is_done(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    monkeypatch.setenv("ACT2SEE_CACHE", str(tmp_path / "kept"))
    monkeypatch.setenv("ACT2SEE_TEST_LOG", str(log))
    monkeypatch.setenv("ACT2SEE_TEST_HOLD", "2")
    shutil.copy(clip, tmp_path / "first.mp4")
    (tmp_path / "second.mp4").write_bytes(clip.read_bytes() + b"\0\0\0\x08free")
    with start(tmp_path, "index", tmp_path / "first.mp4", tmp_path / "second.mp4", *GREY) as process:
        while not (log.exists() and "held" in log.read_text(encoding="utf-8")):
            assert process.poll() is None, process.communicate()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out.startswith(f"{tmp_path / 'first.mp4'}: 20 frames")
    assert err.endswith("act2see: interrupted; encoded frames are in the cache, and the same command continues from there\n")
    encoder = Grey()
    Index.build(Video(tmp_path / "first.mp4"), encoder, 10.0, Cache(tmp_path / "kept"))
    assert encoder.calls == 0


# Folders, and several processes


@pytest.fixture
def folder(clip: Path, other: Path, tmp_path: Path) -> Path:
    """A folder with two videos, one of them further down, and what else folders hold."""
    videos = tmp_path / "videos"
    (videos / "2024").mkdir(parents=True)
    (videos / ".hidden").mkdir()
    shutil.copy(clip, videos / "b.mp4")
    shutil.copy(other, videos / "2024" / "a.mp4")
    shutil.copy(clip, videos / ".hidden" / "c.mp4")
    (videos / "subtitles.SRT").write_text("read with their videos", encoding="utf-8")
    (videos / "notes.txt").write_text("no video", encoding="utf-8")
    return videos


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_folder_is_indexed_and_what_is_no_video_is_skipped(act2see: Act2See, folder: Path, workers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    done = act2see("index", folder, *GREY, "--workers", workers)
    assert done.code == 0
    *videos, last = done.out.splitlines()
    assert sorted(line.split(" in ")[0] for line in videos) == [
        f"{folder}/2024/a.mp4: 20 frames of 2.0 s",
        f"{folder}/b.mp4: 20 frames of 2.0 s",
    ]
    assert last.startswith("2 videos, 40 frames in ")
    assert done.err.startswith(f"act2see: note: skipped: {folder}/notes.txt cannot be read as a video")
    encoder = Grey()
    for name in ("b.mp4", "2024/a.mp4"):
        Index.build(Video(folder / name), encoder, 10.0, Cache())
    assert encoder.calls == 0
    told = json.loads(act2see("index", folder, *GREY, "--workers", workers, "--json").out)
    assert len(told["videos"]) == 2
    assert [one["video"] for one in told["skipped"]] == [f"{folder}/notes.txt"]
    assert told["failed"] == []


def test_a_folder_without_videos_is_an_error(act2see: Act2See, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "empty is a folder without files: give a folder with videos" in act2see("index", "empty", *GREY).complaint
    (tmp_path / "empty" / "notes.txt").write_text("x", encoding="utf-8")
    done = act2see("index", "empty", *GREY)
    assert (done.code, done.out) == (1, "")
    assert done.err.endswith("act2see: no video among these files: name one, or a folder with videos\n")


def test_what_another_process_has_begun_is_finished_by_the_next(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act2see: Act2See
) -> None:
    log = tmp_path / "log"
    monkeypatch.setenv("ACT2SEE_TEST_LOG", str(log))
    monkeypatch.setenv("ACT2SEE_TEST_HOLD", "1")  # each process halts in its first video
    with start(tmp_path, "index", folder, *GREY, "--workers", "2") as process:
        while not (log.exists() and log.read_text(encoding="utf-8").count("held") == 2):
            assert process.poll() is None, process.communicate()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.endswith("act2see: interrupted; encoded frames are in the cache, and the same command continues from there\n")
    assert "Traceback" not in err
    monkeypatch.delenv("ACT2SEE_TEST_HOLD")
    assert act2see("index", folder, *GREY).out.splitlines()[-1].startswith("2 videos, 40 frames")


def test_videos_are_indexed_in_python_too(clip: Path, tmp_path: Path) -> None:
    outcomes: list[object] = []
    options = IndexConfig(retriever="tiny_encoder:Grey", retrieve_fps=10.0)
    found = index_videos([clip, tmp_path / "nowhere.mp4"], options, Cache(tmp_path / "kept"), on_video=lambda one, seconds: outcomes.append(one))
    assert [(one.video, one.frames) for one in found.videos] == [(str(clip), 20)]
    assert [one.video for one in found.failed] == [str(tmp_path / "nowhere.mp4")]
    assert outcomes == [*found.videos, *found.failed]
    with pytest.raises(ConfigError, match="encodes nothing"):
        index_videos([clip], IndexConfig(retriever="none"), Cache(tmp_path / "kept"))


# The cache


def test_the_cache_is_listed_pruned_and_cleared(act2see: Act2See, clip: Path, other: Path, tmp_path: Path) -> None:
    assert act2see("cache", "ls").out == f"0 entries, 0 B of at most 10.7 GB, in {tmp_path / 'cache'}\n"
    for number, video in enumerate((clip, other)):
        act2see("index", video, *GREY)
        for entry in Cache().entries():
            if number == 0:
                os.utime(Cache().path(entry.name), (1000, 1000))
    told = json.loads(act2see("cache", "ls", "--json").out)
    frames = [entry for entry in told["entries"] if entry["name"].startswith("frames/")]
    assert len(frames) == 2
    assert told["total_bytes"] == sum(entry["size_bytes"] for entry in told["entries"])
    assert (tmp_path / "cache" / frames[0]["name"]).stat().st_size == frames[0]["size_bytes"]
    listed = act2see("cache", "ls").out.splitlines()
    assert [line.split()[-1] for line in listed[:-1]] == [clip.name, other.name]  # a line a video
    assert {entry["video"] for entry in told["entries"]} == {clip.name, other.name}
    assert "1970-01-01" in listed[0]
    for year_beyond_all in (10.0**12, -(10.0**12)):
        os.utime(Cache().path(frames[0]["name"]), (year_beyond_all, year_beyond_all))
        assert act2see("cache", "ls").code == 0
    os.utime(Cache().path(frames[0]["name"]), (1000, 1000))
    newest = frames[1]["size_bytes"]
    removed = json.loads(act2see("cache", "prune", "--max-size", f"{newest + 1000}B", "--json").out)
    assert frames[0]["name"] in [entry["name"] for entry in removed["removed"]]
    assert removed["total_bytes"] <= newest + 1000
    assert act2see("cache", "clear").out.endswith(f"0 B left in {tmp_path / 'cache'}\n")
    assert (Cache().entries(), Cache().labels()) == ([], {})


@pytest.mark.parametrize(
    ("size", "left"), [("2kB", 2), ("2.5KB", 2), ("0", 0), ("1 KiB", 1), ("999", 0), ("1000 b", 1), ("5GB", 3), ("0.002mb", 2), ("3kib", 3)]
)
def test_sizes(act2see: Act2See, tmp_path: Path, size: str, left: int) -> None:
    for name in "abc":
        Cache(tmp_path / "cache").write(name, bytes(1000))
    assert act2see("cache", "prune", "--max-size", size).code == 0
    assert len(Cache().entries()) == left


@pytest.mark.parametrize("size", ["", "much", "5XB", "-1GB", "1e9", "nan", "5GB5"])
def test_sizes_that_are_none(act2see: Act2See, size: str) -> None:
    done = act2see("cache", "prune", "--max-size", size)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert act2see("cache", "prune").code == 2


class _Faiss:
    """The part of FAISS that an export of few frames uses; `write_index` writes the vectors as numpy does."""

    METRIC_INNER_PRODUCT = 0

    class ScalarQuantizer:
        QT_fp16 = 5

    class IndexScalarQuantizer:
        is_trained = True

        def __init__(self, width: int, kind: int, metric: int) -> None:
            assert (kind, metric) == (5, 0)
            self.vectors = np.zeros((0, width), np.float32)

        def add(self, vectors: NDArray[np.float32]) -> None:
            assert vectors.dtype == np.float32
            self.vectors = np.concatenate([self.vectors, vectors])

    @staticmethod
    def write_index(index: "_Faiss.IndexScalarQuantizer", name: str) -> None:
        with open(name, "wb") as file:
            np.save(file, index.vectors)


def test_the_vectors_of_all_videos_are_exported_with_what_each_is(
    act2see: Act2See, clip: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", _Faiss)
    monkeypatch.delitem(sys.modules, "act2see.evaluation.vector_export", raising=False)
    done = act2see("index", clip, other, *GREY, "--export", tmp_path / "all.faiss", "--json")
    assert json.loads(done.out)["export"]["count"] == 80  # two vectors a frame
    vectors = np.load(tmp_path / "all.faiss")
    rows = [json.loads(line) for line in (tmp_path / "all.faiss.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(vectors) == len(rows) == 80
    best = int((vectors @ Grey().encode_text("grey 84")).argmax())
    assert rows[best] == {"video": str(clip), "seconds": 0.7, "frame_index": 7}
    assert {row["video"] for row in rows} == {str(clip), str(other)}
    sys.modules.pop("act2see.evaluation.vector_export", None)


def test_an_export_takes_names_that_are_no_utf8_and_never_a_videos_place(
    act2see: Act2See, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", _Faiss)
    monkeypatch.delitem(sys.modules, "act2see.evaluation.vector_export", raising=False)
    strange = tmp_path / os.fsdecode(b"\xff.mp4")
    strange.write_bytes(clip.read_bytes())
    assert act2see("index", strange, *GREY, "--export", tmp_path / "one.faiss").code == 0
    assert json.loads((tmp_path / "one.faiss.jsonl").read_text(encoding="utf-8").splitlines()[0])["video"] == str(strange)
    beside = tmp_path / "two.jsonl"
    beside.write_bytes(clip.read_bytes())
    for export, video in ((strange, strange), (strange, tmp_path), (tmp_path / "two", beside)):
        assert "it is an input of the command" in act2see("index", video, *GREY, "--export", export).complaint
    assert strange.read_bytes() == beside.read_bytes() == clip.read_bytes()
    sys.modules.pop("act2see.evaluation.vector_export", None)


def test_an_export_that_cannot_be_made_is_refused_before_anything_is_encoded(act2see: Act2See, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "--retriever words is not" in act2see("index", clip, "--retriever", "words", "--export", "a.faiss").complaint
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.delitem(sys.modules, "act2see.evaluation.vector_export", raising=False)
    done = act2see("index", clip, *GREY, "--export", "a.faiss")
    assert (done.code, done.out) == (1, "")
    assert "pip install 'act2see[faiss]'" in done.complaint
