"""One clock, the player's: its zero, and how long the last picture stands. Each file is one that people have, with what a player shows of it."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from act2see.core.errors import VideoError
from act2see.core.trace import Frame
from act2see.storage.cache import Cache
from act2see.video import Video, clock
from act2see.video.transcript.subtitles import read_srt

Write = Callable[..., Path]
NumberOf = Callable[[Frame], int]
TENTHS = [Fraction(number, 10) for number in range(200)]
EVERY_40 = {"x264-params": "keyint=40:min-keyint=40:scenecut=0:bframes=2"}


def _remuxed(source: Path, target: Path, keeps: Callable[[Any], bool], shift: int = 0, **options: Any) -> Path:
    """The packets that are kept, without encoding anew and with `shift` seconds taken off their times."""
    with av.open(source) as whole, av.open(target, "w", **options) as cut:
        streams = {stream.index: cut.add_stream_from_template(stream) for stream in whole.streams}
        for packet in whole.demux():
            if packet.pts is None or packet.dts is None or packet.time_base is None or not keeps(packet):
                continue
            ticks = round(shift / packet.time_base)
            packet.pts, packet.dts, packet.stream = packet.pts - ticks, packet.dts - ticks, streams[packet.stream_index]
            cut.mux(packet)
    return target


def _seconds(packet: Any) -> float:
    return float(packet.pts * packet.time_base)


@pytest.fixture
def cut(write_video: Write, tmp_path: Path) -> Path:
    """The usual cut with `-ss 5 -c copy`: sound from 5.0 s, pictures from the next key frame, which is number 80."""
    whole = write_video("whole.mp4", TENTHS, fps=10, options=EVERY_40, audio_seconds=20)
    return _remuxed(whole, tmp_path / "cut.mp4", lambda one: _seconds(one) >= (5 if one.stream.type == "audio" else 8), shift=5)


def test_a_cut_that_begins_with_sound_keeps_the_sounds_times(cut: Path, number_of: NumberOf) -> None:
    with av.open(cut) as container:
        start = clock.start_of(container)
        assert start is not None
        assert 0 <= start < 0.03  # where the first packet of sound begins
    video = Video(cut)
    assert [number_of(video.frame_at(second)) for second in (3.05, 3.95, 7.55)] == [80, 89, 125]
    assert [number_of(frame) for frame in video.sample(1)] == [80, *range(90, 200, 10)]
    assert video.times(1) == pytest.approx([3, *range(4, 15)], abs=0.03)
    assert video.duration_seconds == pytest.approx(15, abs=0.05)
    assert video.damage is None
    assert video.frame_at(1).seconds == pytest.approx(3, abs=0.03)  # nothing is shown yet; the picture says when it comes


@pytest.mark.parametrize("name", ["late.mp4", "late.mkv", "late.ts"])
def test_pictures_that_begin_later_than_the_sound(name: str, write_video: Write, number_of: NumberOf) -> None:
    times = [2 + time for time in TENTHS[:102]]
    video = Video(write_video(name, times, fps=10, audio_seconds=12, clock=90_000))
    # In MPEG-TS nothing says how much of the first sound packet is encoder delay: zero is 21 ms earlier.
    assert [number_of(frame) for frame in video.frames_at([3.05, 4.05, 12.15])] == [10, 20, 101]
    assert [frame.seconds for frame in video.frames_at([2.05, 3.05, 12.15])] == pytest.approx([2, 3, 12.1], abs=0.03)
    assert video.times(10) == [frame.seconds for frame in video.sample(10)]
    assert [number_of(frame) for frame in video.sample(10)][1:] == list(range(1, 102))
    assert video.duration_seconds == pytest.approx(12.2, abs=0.03)
    assert video.frame_index(0) == video.frame_index(2) == 0


def test_pictures_later_than_the_sound_without_a_decode_plan(write_video: Write, number_of: NumberOf) -> None:
    path = write_video("late.mkv", [2 + time for time in TENTHS[:30]], fps=10, codec="mpeg4", clock=1000, audio_seconds=6)
    planned, plain = Video(path), Video(path)
    plain._is_planned = False
    assert list(map(number_of, plain.sample(10))) == list(map(number_of, planned.sample(10))) == list(range(30))
    assert [frame.seconds for frame in plain.sample(10)] == [frame.seconds for frame in planned.sample(10)] == planned.times(10)


@pytest.mark.parametrize("name", ["slides.mp4", "slides.mkv", "slides.ts"])
def test_the_last_picture_stands_until_the_sound_ends(name: str, write_video: Write, number_of: NumberOf) -> None:
    video = Video(write_video(name, [0, 2, 5], audio_seconds=25))
    assert video.duration_seconds == pytest.approx(25, abs=0.1)
    assert [number_of(video.frame_at(second)) for second in (1.9, 2.1, 4.9, 5.1, 24)] == [0, 1, 1, 2, 2]
    assert [number_of(frame) for frame in video.sample(1)] == [0, 1, 2]  # each once, however long it stands
    assert [number_of(frame) for frame in video.frames_at([24, 6, 3])] == [1, 2, 2]
    assert video.frame_at(24).seconds == pytest.approx(5, abs=0.03)
    assert video.damage is None
    with pytest.raises(VideoError, match=r"no frame at 26\.00 s; .* runs from 0 to 25\.\d\d s"):
        video.frame_at(26)


def test_a_still_with_sound(write_video: Write, number_of: NumberOf) -> None:
    video = Video(write_video("podcast.mp4", [0], audio_seconds=30))
    assert video.duration_seconds == pytest.approx(30, abs=0.1)
    assert number_of(video.frame_at(29)) == 0
    assert video.times(1) == [0]


def test_a_last_picture_stands_in_a_file_without_presentation_times(write_video: Write, number_of: NumberOf) -> None:
    video = Video(write_video("a.avi", TENTHS[:20], fps=10, clock=10, audio_seconds=5))
    assert video.duration_seconds == pytest.approx(5, abs=0.1)
    assert number_of(video.frame_at(4.9)) == 19


def test_only_pictures_and_sound_prolong_a_video(write_video: Write) -> None:
    with av.open(write_video("sound.mkv", TENTHS[:20], fps=10, audio_seconds=3)) as container:
        pictures, sound = container.streams.video[0].index, container.streams.audio[0].index
        spans = {pictures: (Fraction(0), Fraction(2)), sound: (Fraction(0), Fraction(3)), 7: (Fraction(0), Fraction(90))}
        assert clock.end_of_others(container, spans, pictures) == 3
        del spans[sound]
        assert clock.end_of_others(container, spans, pictures) is None


def _matroska_segment(whole: Path, folder: Path) -> Path:
    return _remuxed(whole, folder / "piece.mkv", lambda one: 4 <= _seconds(one) < 8)


def _dash_segment(whole: Path, folder: Path) -> Path:
    _remuxed(whole, folder / "all.mpd", lambda one: True, format="dash", options={"seg_duration": "4"})
    piece = folder / "piece.mp4"
    piece.write_bytes((folder / "init-stream0.m4s").read_bytes() + (folder / "chunk-stream0-00002.m4s").read_bytes())
    return piece


@pytest.mark.parametrize("piece_of", [_matroska_segment, _dash_segment])
def test_a_piece_that_does_not_begin_at_zero_is_whole(
    piece_of: Callable[[Path, Path], Path], write_video: Write, number_of: NumberOf, tmp_path: Path
) -> None:
    piece = piece_of(write_video("whole.mp4", TENTHS[:120], fps=10, options=EVERY_40), tmp_path)
    with av.open(piece) as container:
        assert container.start_time == pytest.approx(4e6, abs=1e3)
    video = Video(piece)
    assert video.damage is None
    assert [number_of(frame) for frame in video.sample(10)] == list(range(40, 80))
    assert video.times(1) == pytest.approx([0, 1, 2, 3], abs=0.0011)
    assert video.duration_seconds == pytest.approx(4, abs=0.011)


def test_a_piece_whose_end_is_cut_off_is_damaged(write_video: Write, tmp_path: Path) -> None:
    whole = write_video("whole.mp4", TENTHS, fps=10, options=EVERY_40)
    piece = _remuxed(whole, tmp_path / "piece.mkv", lambda one: _seconds(one) >= 4)
    piece.write_bytes(piece.read_bytes()[: piece.stat().st_size * 6 // 10])
    damage = Video(piece).damage
    assert damage is not None
    assert "although its header says 20.00 s" in damage


def test_a_subtitle_is_said_over_the_picture_that_a_player_shows(cut: Path, number_of: NumberOf, tmp_path: Path) -> None:
    subtitles = tmp_path / "cut.srt"
    subtitles.write_text("1\n00:00:04,050 --> 00:00:05,000\nninety\n")
    (line,) = read_srt(subtitles)
    assert number_of(Video(cut).frame_at(line.start_seconds)) == 90


def test_packets_that_an_older_version_kept_are_read_anew(cut: Path, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    video = Video(cut)
    for name in (f"packets/{video.digest}.npz", f"packets/{video.digest}-1.npz"):
        cache.write(name, b"of another clock")
    assert Video(cut, cache).times(1) == video.times(1) == Video(cut, cache).times(1)
    assert cache.read(f"packets/{video.digest}.npz") == b"of another clock"  # two versions can share a cache
