"""Clips: exactly the stretch that was asked for, with its pictures and its sound on one clock."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from act2see.core.errors import StoreError, VideoError
from act2see.core.trace import Frame
from act2see.video import Video
from act2see.video.clips import write_clip

Write = Callable[..., Path]
NumberOf = Callable[[Frame], int]
TENTHS = [Fraction(number, 10) for number in range(80)]


def _with_tone(pictures: Path, target: Path, from_seconds: float, seconds: float, rate: int = 44_100) -> Path:
    """The same pictures beside sound that is silent before `from_seconds` and a tone after it."""
    with av.open(pictures) as source, av.open(target, "w") as container:
        video = container.add_stream_from_template(source.streams.video[0])
        audio: Any = container.add_stream("aac", rate=rate)
        audio.layout = "stereo"
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = video
                container.mux(packet)
        at = np.arange(round(rate * seconds)) / rate
        tone = np.where(at >= from_seconds, 0.5 * np.sin(2 * np.pi * 440 * at), 0).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(np.stack([tone, tone]), format="fltp", layout="stereo")
        frame.rate, frame.pts = rate, 0
        container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    return target


def _heard(path: Path) -> tuple[NDArray[np.float32], int]:
    with av.open(path) as container:
        frames = list(container.decode(audio=0))
        rate, first = frames[0].sample_rate, frames[0]
        assert first.pts is not None
        assert first.time_base is not None
        sound: NDArray[np.float32] = np.concatenate([frame.to_ndarray() for frame in frames], axis=1).astype(np.float32)
        return sound[:, max(0, round(-first.pts * first.time_base * rate)) :], rate


def test_a_clip_is_the_stretch_that_was_asked_for(write_video: Write, number_of: NumberOf, tmp_path: Path) -> None:
    video = Video(write_video("whole.mp4", TENTHS, fps=10, options={"g": "40"}))
    assert write_clip(video, 2.05, 5.05, tmp_path / "clip.mp4") == (2.05, 5.05)
    clip = Video(tmp_path / "clip.mp4")
    assert clip.damage is None
    assert clip.duration_seconds == pytest.approx(3, abs=0.05)
    frames = list(clip.sample(30))
    assert [number_of(frame) for frame in frames] == list(range(20, 51))
    assert [frame.seconds for frame in frames][:4] == pytest.approx([0, 0.05, 0.15, 0.25], abs=0.001)
    assert number_of(clip.frame_at(2.99)) == 50
    with av.open(tmp_path / "clip.mp4") as container:
        assert not container.streams.audio


def test_a_clip_ends_where_the_video_does(write_video: Write, number_of: NumberOf, tmp_path: Path) -> None:
    video = Video(write_video("whole.mp4", TENTHS[:20], fps=10))
    assert write_clip(video, -1, 0.5, tmp_path / "first.mp4") == (0, 0.5)
    assert write_clip(video, 1.55, 9, tmp_path / "last.mp4") == (1.55, 2)
    assert [number_of(Video(tmp_path / name).frame_at(0)) for name in ("first.mp4", "last.mp4")] == [0, 15]
    with pytest.raises(VideoError, match=r"no frame at 3\.00 s"):
        write_clip(video, 3, 4, tmp_path / "none.mp4")
    assert not (tmp_path / "none.mp4").exists()
    with pytest.raises(StoreError):
        write_clip(video, 0, 1, tmp_path / "nowhere" / "clip.mp4")


def test_a_slide_stands_for_the_whole_clip(write_video: Write, number_of: NumberOf, tmp_path: Path) -> None:
    video = Video(write_video("slides.mp4", [0, 2, 5], audio_seconds=25))
    write_clip(video, 20, 23, tmp_path / "clip.mp4")
    clip = Video(tmp_path / "clip.mp4")
    assert clip.duration_seconds == pytest.approx(3, abs=0.05)
    assert [number_of(clip.frame_at(second)) for second in (0, 1.5, 2.9)] == [2, 2, 2]


@pytest.mark.parametrize("late_seconds", [0, 2])
def test_a_clips_sound_begins_with_its_pictures(late_seconds: int, write_video: Write, number_of: NumberOf, tmp_path: Path) -> None:
    pictures = write_video("pictures.mp4", [late_seconds + time for time in TENTHS], fps=10)
    whole = _with_tone(pictures, tmp_path / "whole.mp4", 4.5, 8)
    video = Video(whole)
    assert video.times(1)[0] == pytest.approx(late_seconds, abs=0.03)
    write_clip(video, 4, 6, tmp_path / "clip.mp4")
    assert number_of(Video(tmp_path / "clip.mp4").frame_at(0.05)) == 40 - 10 * late_seconds
    sound, rate = _heard(tmp_path / "clip.mp4")
    loud = np.abs(sound).max(axis=0) > 0.1
    assert len(sound) == 2
    assert np.argmax(loud) / rate == pytest.approx(0.5, abs=0.03)  # the tone begins half a second after the clip
    assert loud[round(0.6 * rate) : round(1.9 * rate)].mean() > 0.8  # without holes


def test_frames_between_begins_with_the_one_on_screen(write_video: Write, number_of: NumberOf) -> None:
    video = Video(write_video("whole.mp4", TENTHS[:20], fps=10))
    assert [number_of(frame) for frame in video.frames_between(0.55, 0.8)] == [5, 6, 7]
    assert [number_of(frame) for frame in video.frames_between(0.5, 0.5)] == [5]
    assert [number_of(frame) for frame in video.frames_between(1.75, 90)] == [17, 18, 19]
    with pytest.raises(VideoError, match=r"no frame at 2\.50 s"):
        video.frames_between(2.5, 3)
