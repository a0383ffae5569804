"""Exact frames by presentation time, from all kinds of files."""

import itertools
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from act2see.core.trace import Frame
from act2see.video import Video

Write = Callable[..., Path]
NumberOf = Callable[[Frame], int]

# name, and how to write it; every one has 60 frames at 24 a second
FILES: dict[str, dict[str, Any]] = {
    "plain.mp4": {},
    "no-b-frames.mp4": {"options": {"bf": "0"}},
    "fragmented.mp4": {"file_options": {"movflags": "frag_keyframe+empty_moov"}},
    "plain.mov": {},
    "milliseconds.mkv": {},
    "piped.mkv": {"file_options": {"live": "1"}},  # no duration in the header
    "vp9.webm": {"codec": "libvpx-vp9"},
    "hidden-frames.webm": {"codec": "libvpx", "options": {"auto-alt-ref": "1", "lag-in-frames": "16"}},
    "stream.ts": {},
    "sound.mkv": {"audio_seconds": 2.5},
    "program.mpg": {"codec": "mpeg2video", "clock": 24, "options": {"bf": "2"}},
    "no-b-frames.avi": {"codec": "mpeg4", "clock": 24},
    "b-frames.avi": {"clock": 24},  # AVI tells the order of decoding only
    "raw.h264": {"clock": 24, "file_format": "h264"},  # no times at all
}


def on_screen(times: list[Fraction], wanted: float | Fraction) -> int:
    """The oracle: the number of the frame that is on screen, by exact arithmetic."""
    return max(number for number, time in enumerate(times) if time <= wanted)


@pytest.mark.parametrize("name", FILES)
def test_every_frame_is_found_by_its_time(name: str, write_video: Write, number_of: NumberOf) -> None:
    times = [Fraction(number, 24) for number in range(60)]
    video = Video(write_video(name, times, **FILES[name]))
    assert video.damage is None
    assert video.size == (128, 64)
    assert video.duration_seconds == pytest.approx(2.5, abs=0.0011)
    every = list(video.sample(24))
    assert [number_of(frame) for frame in every] == list(range(60))
    assert [frame.seconds for frame in every] == pytest.approx([float(time) for time in times], abs=0.0011)
    for fps in (Fraction(1), Fraction(3), Fraction(10), Fraction(2, 5)):
        frames = list(video.sample(float(fps)))
        grid = itertools.takewhile(lambda second: second < 2.5, (number / fps for number in itertools.count()))
        assert [number_of(frame) for frame in frames] == [on_screen(times, second) for second in grid]
        assert [frame.seconds for frame in frames] == video.times(float(fps))
    asked = [2.49, 0.0, 1.0, 0.02, 1.0]
    assert [number_of(frame) for frame in video.frames_at(asked)] == [on_screen(times, second) for second in sorted(asked)]
    assert video.damage is None


@pytest.mark.parametrize("fps", [25, 30, 60, Fraction(30_000, 1001)])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_rates(name: str, fps: Fraction | int, write_video: Write, number_of: NumberOf) -> None:
    times = [number / Fraction(fps) for number in range(100)]
    video = Video(write_video(name, times, fps=fps))
    assert [number_of(frame) for frame in video.sample(float(fps))] == list(range(100))
    for number in (0, 1, 7, 49, 99):
        assert number_of(video.frame_at(float(times[number]))) == number


@pytest.mark.parametrize("name", ["holes.mp4", "holes.mkv"])
def test_varying_rate(name: str, write_video: Write, number_of: NumberOf) -> None:
    times = [Fraction(time) for time in ("0", "0.04", "0.08", "2", "2.04", "5", "5.5", "9.98")]
    video = Video(write_video(name, times, fps=25))
    assert [number_of(frame) for frame in video.sample(2)] == [0, 2, 3, 4, 5, 6, 7]  # each once, however long it stands
    assert video.times(2) == pytest.approx([0, 0.08, 2, 2.04, 5, 5.5, 9.98], abs=0.0011)
    assert [number_of(video.frame_at(second)) for second in (1.99, 2.0, 4.9, 9.97, 9.98)] == [2, 3, 4, 6, 7]
    assert video.frame_at(4.9).seconds == pytest.approx(2.04, abs=0.0011)


def test_low_rate_gives_each_frame_once(write_video: Write, number_of: NumberOf) -> None:
    video = Video(write_video("slow.mp4", range(5), fps=1))
    assert [number_of(frame) for frame in video.sample(4)] == [0, 1, 2, 3, 4]
    assert video.duration_seconds == 5


def test_one_frame(write_video: Write, number_of: NumberOf) -> None:
    video = Video(write_video("one.mp4", [0]))
    assert [number_of(frame) for frame in video.sample(1)] == [0]
    assert 0 < video.duration_seconds < 1


@pytest.mark.parametrize("name", ["late.mp4", "late.mkv", "late.ts"])
def test_times_begin_with_the_first_frame(name: str, write_video: Write, number_of: NumberOf) -> None:
    video = Video(write_video(name, [Fraction(5) + Fraction(number, 24) for number in range(48)]))
    frames = list(video.sample(2))
    assert [number_of(frame) for frame in frames] == [0, 12, 24, 36]
    assert [frame.seconds for frame in frames] == pytest.approx([0, 0.5, 1, 1.5], abs=0.0011)
    assert video.duration_seconds == pytest.approx(2, abs=0.0011)


def test_gif(write_video: Write, number_of: NumberOf) -> None:
    video = Video(write_video("a.gif", [Fraction(number, 10) for number in range(12)], codec="gif", pixels="rgb8", clock=100, fps=10))
    assert [number_of(frame) for frame in video.sample(5)] == [0, 2, 4, 6, 8, 10]
    assert video.frame_at(0).image.mode == "RGB"


def test_frames_before_an_edit_are_not_shown(write_video: Write, number_of: NumberOf, tmp_path: Path) -> None:
    # An editing program cuts without encoding anew: the frames before the cut stay in the file, to be decoded and not shown.
    whole = write_video("whole.mp4", [Fraction(number, 24) for number in range(60)], options={"g": "60"})
    cut = tmp_path / "cut.mp4"
    with av.open(whole) as source, av.open(cut, "w", options={"avoid_negative_ts": "disabled"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is None or packet.pts is None or packet.time_base is None:
                continue
            shift = round(Fraction(20, 24) / packet.time_base)
            packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
            target.mux(packet)
    video = Video(cut)
    assert [number_of(frame) for frame in video.sample(24)] == list(range(20, 60))
    assert video.duration_seconds == pytest.approx(40 / 24, abs=0.001)
    assert video.damage is None


def test_a_thousand_frames_a_second(write_video: Write, number_of: NumberOf) -> None:
    video = Video(write_video("fast.mkv", [Fraction(number, 1000) for number in range(30)], fps=1000, clock=1000))
    assert [number_of(video.frame_at(number / 1000)) for number in range(30)] == list(range(30))


def test_frames_behind_an_edit_are_not_shown(write_video: Write, number_of: NumberOf) -> None:
    path = write_video("cut.mp4", [Fraction(number, 24) for number in range(60)])
    content = bytearray(path.read_bytes())
    for box, offset in ((b"elst", 12), (b"mvhd", 20)):  # how long the one edit, and with it the film, is: milliseconds
        place = content.index(box) + offset
        assert struct.unpack_from(">I", content, place) == (2500,)
        struct.pack_into(">I", content, place, 1250)
    path.write_bytes(content)
    video = Video(path)
    assert [number_of(frame) for frame in video.sample(24)] == list(range(30))
    assert len(video.times(24)) == 30
    assert video.duration_seconds == pytest.approx(1.25, abs=0.001)
    assert video.damage is None


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(st.integers(1, 900), max_size=12),
    asked=st.lists(st.integers(0, 12_000), max_size=6),
    fps=st.sampled_from([0.5, 1, 2, 7, 24]),
)
def test_any_times(steps: list[int], asked: list[int], fps: float, write_video: Write, number_of: NumberOf) -> None:
    times = [Fraction(tick, 1000) for tick in itertools.accumulate(steps, initial=0)]
    video = Video(write_video("any.mkv", times, codec="mpeg4", clock=1000))
    # A frame that begins a tick later counts as on screen already: that is the tolerance, and not what is asked here.
    seconds = sorted(tick / 1000 for tick in asked if tick / 1000 <= video.duration_seconds and Fraction(tick + 1, 1000) not in times)
    assert [number_of(frame) for frame in video.frames_at(seconds)] == [on_screen(times, Fraction(round(s * 1000), 1000)) for s in seconds]
    frames = list(video.sample(fps))
    assert [frame.seconds for frame in frames] == video.times(fps) == sorted({float(times[number_of(frame)]) for frame in frames})
    for frame in frames:
        assert frame.seconds is not None
        assert video.frame_at(frame.seconds).image == frame.image
