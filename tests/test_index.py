"""Indexes: what is found in them, what is kept of them, and what interruption, company and damage do to them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from safetensors import safe_open

from act2see.core.errors import ConfigError, VideoError
from act2see.storage.cache import Cache
from act2see.tools.index import PART_FRAMES, Index, Progress
from act2see.video import Video
from tiny_encoder import Grey

Write = Callable[..., Path]
FRAMES = 120  # 40 s at 3 fps: three whole parts and a bit


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def clip(write_video: Write) -> Path:
    return write_video("clip.mp4", [Fraction(n, 3) for n in range(FRAMES)], fps=3)


def _names(cache: Cache) -> list[str]:
    return [entry.name for entry in cache.entries()]


def _same(one: Index, other: Index) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("seconds", "frame_indices", "vectors"))


# What is in it


def test_every_frame_is_found_by_what_it_shows(clip: Path) -> None:
    index = Index.build(Video(clip), Grey())
    assert index.seconds == pytest.approx([n / 3 for n in range(FRAMES)])
    assert index.frame_indices.tolist() == list(range(FRAMES))
    assert index.vectors.shape == (FRAMES, 2, 129)
    assert index.vectors.dtype == np.float16
    for number in (0, 1, 31, 32, 77, FRAMES - 1):
        scores = index.scores(f"number {number}")
        assert scores.shape == (FRAMES,)
        assert scores.argmax() == number
        assert scores[number] > 0.98


def test_frames_and_times_are_those_of_the_video_where_the_rate_varies(write_video: Write) -> None:
    seconds = [0, 0.1, 0.2, 2.0, 2.05, 2.1, 4.0, 4.5]
    video = Video(write_video("clip.mkv", seconds))
    index = Index.build(video, Grey(), fps=1.0)
    assert index.seconds.tolist() == [frame.seconds for frame in video.sample(1.0)]
    assert index.frame_indices.tolist() == [0, 2, 3, 5, 6]


def test_blocks_change_no_score(clip: Path) -> None:
    encoder = Grey()
    index = Index.build(Video(clip), encoder)
    query = encoder.encode_text("number 9")
    assert index.scores("number 9") == pytest.approx(encoder.scores(index.vectors.astype(np.float32), query))


# What is kept


def test_a_kept_index_is_mapped_and_nothing_is_encoded_again(clip: Path, cache: Cache, tmp_path: Path) -> None:
    made = Index.build(Video(clip), Grey(), cache=cache)
    copy = tmp_path / "copy.mp4"
    shutil.copy(clip, copy)  # the content counts, not the name
    encoder = Grey()
    kept = Index.build(Video(copy), encoder, cache=cache)
    assert encoder.calls == 0
    assert _same(made, kept)
    assert isinstance(kept.vectors, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        kept.vectors[0] = 0
    (name,) = _names(cache)
    assert name.startswith("frames/")
    with safe_open(cache.path(name), framework="np") as file:  # the library's own reader agrees
        assert np.array_equal(file.get_tensor("vectors"), kept.vectors)
        assert file.get_tensor("seconds") == pytest.approx(kept.seconds)


def test_frames_that_were_converted_otherwise_are_encoded_again(clip: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    Index.build(Video(clip), Grey(), cache=cache)
    monkeypatch.setattr("act2see.tools.index.CONVERSION", 0)
    encoder = Grey()
    Index.build(Video(clip), encoder, cache=cache)
    assert encoder.calls > 0


def test_another_encoder_size_rate_or_option_is_another_index(clip: Path, cache: Cache) -> None:
    class Larger(Grey):
        side = 128

    builds: list[Callable[[Grey], Index]] = [
        lambda encoder: Index.build(Video(clip), encoder, cache=cache),
        lambda encoder: Index.build(Video(clip), encoder, 1.0, cache),
        lambda encoder: Index.build(Video(clip), encoder, cache=cache, skip_duplicates=True),
        lambda encoder: Index.build(Video(clip), encoder, cache=cache, keyframes_only=True),
    ]
    for number, build in enumerate(builds):
        for encoder in (Grey(), Grey(fingerprint="grey/2"), Larger()):
            build(encoder)
            assert encoder.calls > 0, number
            again = type(encoder)(fingerprint=encoder.fingerprint)
            build(again)
            assert again.calls == 0, number
    assert len(_names(cache)) == 3 * len(builds)


def test_without_a_cache_nothing_is_kept(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACT2SEE_CACHE", str(tmp_path / "default"))
    Index.build(Video(clip), Grey())
    assert not (tmp_path / "default").exists()


def test_a_cache_that_cannot_be_written_changes_nothing_else(clip: Path) -> None:
    assert _same(Index.build(Video(clip), Grey(), cache=Cache(Path("/proc/nowhere"))), Index.build(Video(clip), Grey()))


def test_a_full_cache_keeps_no_index_and_makes_it_all_the_same(clip: Path, tmp_path: Path) -> None:
    small = Cache(tmp_path / "small", max_bytes=1000)
    assert _same(Index.build(Video(clip), Grey(), cache=small), Index.build(Video(clip), Grey()))
    assert _names(small) == []


# Progress


def test_progress_counts_frames_with_rate_and_time_left(clip: Path) -> None:
    told: list[Progress] = []
    Index.build(Video(clip), Grey(), progress=told.append)
    assert [(one.done, one.total) for one in told] == [(0, 120), (32, 120), (64, 120), (96, 120), (120, 120)]
    assert (told[0].frames_per_second, told[0].seconds_left) == (None, None)
    assert all(one.frames_per_second and one.seconds_left is not None for one in told[1:])
    assert told[-1].seconds_left == 0


# Interruption


class Interrupted(Grey):
    def encode_frames(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        if self.calls == 2:
            raise KeyboardInterrupt
        return super().encode_frames(images)


@pytest.mark.parametrize("skip_duplicates", [False, True])
def test_an_interrupted_index_goes_on_where_it_stopped(clip: Path, cache: Cache, skip_duplicates: bool) -> None:
    with pytest.raises(KeyboardInterrupt):
        Index.build(Video(clip), Interrupted(), cache=cache, skip_duplicates=skip_duplicates)
    assert len(_names(cache)) == 2
    told: list[Progress] = []
    encoder = Grey()
    index = Index.build(Video(clip), encoder, cache=cache, progress=told.append, skip_duplicates=skip_duplicates)
    peace = Grey()
    assert _same(index, Index.build(Video(clip), peace, skip_duplicates=skip_duplicates))
    assert (told[0].done, told[-1].done) == (2 * PART_FRAMES, FRAMES)
    assert encoder.calls == peace.calls - 2
    assert [name.partition("/")[0] for name in _names(cache)] == ["frames"]


def test_parts_of_a_file_that_has_changed_are_not_used(clip: Path, cache: Cache) -> None:
    with pytest.raises(KeyboardInterrupt):
        Index.build(Video(clip), Interrupted(), cache=cache)
    os.utime(clip, (1000, 1000))
    encoder = Grey()
    Index.build(Video(clip), encoder, cache=cache)
    assert encoder.images == FRAMES


def test_a_file_that_changes_while_it_is_indexed_is_not_kept(clip: Path, cache: Cache) -> None:
    class Meddler(Grey):
        def encode_frames(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
            os.utime(clip, (1000 + self.calls, 1000))
            return super().encode_frames(images)

    with pytest.raises(VideoError, match="was changed after it was opened"):
        Index.build(Video(clip), Meddler(), cache=cache)
    assert _names(cache) == []


# In processes of their own

_BUILD = """
import logging, pathlib, sys
from act2see.storage.cache import Cache
from act2see.tools.index import Index
from act2see.video import Video
from tiny_encoder import Grey
logging.basicConfig(level=logging.WARNING, format="%(message)s")
index = Index.build(Video(sys.argv[1]), Grey(), cache=Cache(pathlib.Path(sys.argv[2])))
print(len(index.seconds))
"""


def _start(clip: Path, cache: Cache, log: Path, hold: str = "") -> "subprocess.Popen[str]":
    import tiny_encoder

    path = os.pathsep.join([str(Path(tiny_encoder.__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "ACT2SEE_TEST_LOG": str(log), "ACT2SEE_TEST_HOLD": hold}
    arguments = [sys.executable, "-c", _BUILD, str(clip), str(cache.folder)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def _wait_for(process: "subprocess.Popen[str]", log: Path, line: str) -> None:
    while not (log.exists() and line in log.read_text(encoding="utf-8").splitlines()):
        assert process.poll() is None, process.communicate()


def test_two_at_once_and_the_first_killed_in_the_middle(clip: Path, cache: Cache, tmp_path: Path) -> None:
    first_log, second_log = tmp_path / "first", tmp_path / "second"
    with _start(clip, cache, first_log, hold="2") as first:
        _wait_for(first, first_log, "held")
        with _start(clip, cache, second_log) as second:
            assert second.stderr is not None
            assert second.stderr.readline() == "another process is indexing clip.mp4; waiting for it\n"
            assert not second_log.exists()
            first.kill()
            out, err = second.communicate(timeout=60)
    assert (second.returncode, out, err) == (0, f"{FRAMES}\n", "")
    frames = [mean for line in second_log.read_text(encoding="utf-8").splitlines() for mean in line.split()]
    assert len(frames) == FRAMES - PART_FRAMES  # the first had one part kept when it was killed within the second
    encoder = Grey()
    assert _same(Index.build(Video(clip), encoder, cache=cache), Index.build(Video(clip), Grey()))
    assert encoder.calls == 0
    assert [name.partition("/")[0] for name in _names(cache)] == ["frames"]


def test_several_at_once_encode_every_frame_once(clip: Path, cache: Cache, tmp_path: Path) -> None:
    log = tmp_path / "log"
    processes = [_start(clip, cache, log) for _ in range(3)]
    results = [process.communicate(timeout=60) for process in processes]
    assert [out for out, _ in results] == [f"{FRAMES}\n"] * 3, results
    assert len(log.read_text(encoding="utf-8").split()) == FRAMES
    assert _same(Index.build(Video(clip), Grey(), cache=cache), Index.build(Video(clip), Grey()))


# Damage


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_cache_file_is_made_again(clip: Path, cache: Cache, data: st.DataObject) -> None:
    peace = Index.build(Video(clip), Grey(), 0.2, cache=cache)
    (name,) = _names(cache)
    whole = cache.path(name).read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        broken = whole[:at]
    else:
        broken = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
    assert cache.write(name, broken)
    assert _same(Index.build(Video(clip), Grey(), 0.2, cache=cache), peace)
    del peace


def test_a_damaged_part_is_made_again(clip: Path, cache: Cache) -> None:
    with pytest.raises(KeyboardInterrupt):
        Index.build(Video(clip), Interrupted(), cache=cache)
    second = max(_names(cache))
    part = cache.read(second)
    assert part is not None
    cache.write(second, part[: len(part) // 2])
    encoder = Grey()
    assert _same(Index.build(Video(clip), encoder, cache=cache), Index.build(Video(clip), Grey()))
    assert encoder.images == FRAMES - PART_FRAMES


def test_a_damaged_video_is_indexed_for_what_decodes(write_video: Write, cache: Cache) -> None:
    path = write_video("clip.mp4", [Fraction(n, 3) for n in range(90)], fps=3, file_options={"movflags": "faststart"}, options={"g": "10"})
    whole = path.read_bytes()
    at = len(whole) * 6 // 10
    path.write_bytes(whole[:at] + bytes(3000) + whole[at + 3000 :])  # same size and ends: the same digest
    damaged = Index.build(Video(path), Grey(), cache=cache)
    assert 10 < len(damaged.seconds) <= 90
    again = Grey()
    assert _same(Index.build(Video(path), again, cache=cache), damaged)
    assert again.calls == 0
    path.write_bytes(whole)
    mended = Index.build(Video(path), Grey(), cache=cache)
    assert len(mended.seconds) == 90
    assert _same(mended, Index.build(Video(path), Grey()))


def test_a_cut_video_is_indexed_for_what_is_there(write_video: Write, cache: Cache) -> None:
    path = write_video("clip.mp4", [Fraction(n, 3) for n in range(90)], fps=3, file_options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    index = Index.build(Video(path), Grey(), cache=cache)
    assert 10 < len(index.seconds) < 90
    assert index.scores("number 7").argmax() == 7


@pytest.mark.parametrize("shape", [(2, 1, 4), (3, 4)])
def test_vectors_that_cannot_be_used_are_refused(clip: Path, cache: Cache, shape: tuple[int, ...]) -> None:
    class Wrong(Grey):
        def encode_frames(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
            return np.zeros(shape, np.float32)

    with pytest.raises(ConfigError, match="encoder grey returned shape"):
        Index.build(Video(clip), Wrong(), cache=cache)
    assert _names(cache) == []


def test_numbers_that_are_none_are_refused(clip: Path, cache: Cache) -> None:
    class Broken(Grey):
        def encode_frames(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
            return super().encode_frames(images) * np.float32("nan")

    with pytest.raises(ConfigError, match="finite"):
        Index.build(Video(clip), Broken(), cache=cache)
    assert _names(cache) == []


def test_an_impossible_rate_is_refused(clip: Path, cache: Cache) -> None:
    with pytest.raises(VideoError, match="cannot sample 0"):
        Index.build(Video(clip), Grey(), 0, cache)


# The options that trade recall for time


def test_keyframes_alone_and_then_all_about_the_best(write_video: Write, cache: Cache) -> None:
    options = {"g": "12", "sc_threshold": "0", "bf": "0"}
    video = Video(write_video("clip.mp4", [Fraction(n, 3) for n in range(100)], fps=3, options=options))
    encoder = Grey()
    told: list[Progress] = []
    index = Index.build(video, encoder, cache=cache, keyframes_only=True, progress=told.append)
    assert index.frame_indices.tolist() == list(range(0, 100, 12))
    assert (told[0].total, told[-1].done, told[-1].total) == (None, 9, 9)
    assert encoder.images == 9
    closest = int(index.frame_indices[index.scores("number 37").argmax()])
    refined = index.refined(video, "number 37", around=1)
    around = [closest + step for step in range(-11, 12)]
    assert refined.frame_indices.tolist() == sorted({*range(0, 100, 12), *around})
    assert refined.seconds == pytest.approx(refined.frame_indices / 3)
    assert encoder.images == 9 + 22
    for number in (closest - 5, closest + 7):
        assert refined.frame_indices[refined.scores(f"number {number}").argmax()] == number
    assert len(Index.build(video, Grey(), cache=cache, keyframes_only=True).seconds) == 9  # what was refined is not kept


def test_refining_everything_gives_the_whole_index(write_video: Write) -> None:
    video = Video(write_video("clip.mp4", [Fraction(n, 3) for n in range(40)], fps=3, options={"g": "7", "sc_threshold": "0"}))
    index = Index.build(video, Grey(), keyframes_only=True)
    assert _same(index.refined(video, "number 3", around=100), Index.build(video, Grey()))


def test_near_duplicates_share_their_vectors(tmp_path: Path, write_video: Write) -> None:
    slides = write_video("slides.mp4", [Fraction(n, 3) for n in range(100)], fps=3, prepare=lambda stream: None)
    everything, distinct = Grey(), Grey()
    whole = Index.build(Video(slides), everything)
    index = Index.build(Video(slides), distinct, skip_duplicates=True)
    assert (everything.images, distinct.images) == (100, 100)  # a bit of the barcode is more than a near-duplicate
    assert _same(whole, index)


def test_a_still_video_is_encoded_once(cache: Cache, still: Path) -> None:
    encoder = Grey()
    index = Index.build(Video(still), encoder, cache=cache, skip_duplicates=True)
    assert encoder.images == 2
    assert index.vectors.shape == (100, 2, 129)
    assert np.array_equal(index.vectors[0], index.vectors[49])
    assert index.scores("grey 200").argmax() == 50
    assert len(set(index.scores("grey 200").tolist())) == 2
    assert _same(Index.build(Video(still), Grey(), cache=cache, skip_duplicates=True), index)


@pytest.fixture
def still(tmp_path: Path) -> Path:
    """A hundred frames at 3 a second: half of them grey 100, the rest grey 200."""
    import av

    path = tmp_path / "still.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=3, options={"g": "10"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(100):
            picture = np.full((48, 64, 3), 100 if number < 50 else 200, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path
