"""Exact frames by presentation time, from all kinds of files, good and bad."""

import gc
import itertools
import os
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from act2see.errors import VideoError
from act2see.trace import Frame
from act2see.video import MAX_PIXELS, Video

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
    seconds = sorted(tick / 1000 for tick in asked if tick / 1000 <= video.duration_seconds)
    assert [number_of(frame) for frame in video.frames_at(seconds)] == [on_screen(times, Fraction(round(s * 1000), 1000)) for s in seconds]
    frames = list(video.sample(fps))
    assert [frame.seconds for frame in frames] == video.times(fps) == sorted({float(times[number_of(frame)]) for frame in frames})
    for frame in frames:
        assert frame.seconds is not None
        assert video.frame_at(frame.seconds).image == frame.image


def turned(picture: "np.ndarray[Any, Any]", matrix: tuple[int, int, int, int]) -> "np.ndarray[Any, Any]":
    """The oracle: move every pixel (p, q) to (a p + c q, b p + d q), q downwards, as the MP4 standard says, and shift it back into the picture."""
    a, b, c, d = matrix
    height, width = picture.shape[:2]
    q, p = np.mgrid[:height, :width]
    x, y = a * p + c * q, b * p + d * q
    x, y = x - x.min(), y - y.min()
    result = np.empty((y.max() + 1, x.max() + 1, 3), picture.dtype)
    result[y, x] = picture
    return result


@pytest.mark.parametrize(
    "matrix", [(1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0), (-1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0), (0, -1, -1, 0)]
)
@pytest.mark.parametrize("name", ["turned.mp4", "turned.mkv"])
def test_pictures_stand_upright(name: str, matrix: tuple[int, int, int, int], write_video: Write) -> None:
    stored = np.asarray(Video(write_video("stored.mp4", [0, 1], options={"crf": "1"})).frame_at(1).image)
    a, b, c, d = (number << 16 for number in matrix)

    def prepare(stream: Any) -> None:
        stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])

    video = Video(write_video(name, [0, 1], options={"crf": "1"}, prepare=prepare))
    image = video.frame_at(1).image
    expected = turned(stored, matrix)
    assert video.size == image.size == (expected.shape[1], expected.shape[0])
    assert np.array_equal(np.asarray(image), expected)


def test_a_phone_held_upright_turns_its_picture_clockwise(write_video: Write) -> None:
    # PyAV's own words: degrees counter-clockwise, so this is a quarter turn clockwise. The barcode's left side comes to the top.
    video = Video(write_video("phone.mp4", [0], prepare=lambda stream: stream.set_display_rotation(-90)))
    assert video.size == (64, 128)
    image = video.frame_at(0).image.convert("L")
    assert image.getpixel((32, 4)) == pytest.approx(0, abs=8)  # black: bit 0 of frame 0
    assert image.getpixel((32, 124)) == pytest.approx(96, abs=8)  # the grey margin


@pytest.mark.parametrize("standard", [1, 5])  # BT.709 as in most files, BT.601 as in old ones
def test_colours_follow_the_standard_that_the_file_names(standard: int, tmp_path: Path) -> None:
    path = tmp_path / "colour.mp4"
    red, green, blue = 200, 40, 90
    weight_red, weight_blue = {1: (0.2126, 0.0722), 5: (0.299, 0.114)}[standard]
    luma = weight_red * red + (1 - weight_red - weight_blue) * green + weight_blue * blue
    blue_difference, red_difference = (blue - luma) / (2 * (1 - weight_blue)), (red - luma) / (2 * (1 - weight_red))
    values = [round(16 + luma * 219 / 255), round(128 + blue_difference * 224 / 255), round(128 + red_difference * 224 / 255)]
    planes = [np.full((64, 64), values[0]), np.full((32, 32), values[1]), np.full((32, 32), values[2])]
    packed = np.concatenate([plane.reshape(-1, 64) for plane in planes]).astype(np.uint8)
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt, stream.codec_context.colorspace = 64, 64, "yuv420p", standard
        frame = av.VideoFrame.from_ndarray(packed, format="yuv420p")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert Video(path).frame_at(0).image.getpixel((30, 30)) == pytest.approx((red, green, blue), abs=4)


# What cannot be used


def cover_art() -> bytes:
    """An ID3 tag with a picture, as players expect it before an MP3's sound."""
    picture = BytesIO()
    Image.new("RGB", (64, 64), "red").save(picture, "JPEG")
    content = b"\0image/jpeg\0\x03\0" + picture.getvalue()
    frame = b"APIC" + struct.pack(">IH", len(content), 0) + content
    size = len(frame)
    return b"ID3\x03\0\0" + bytes([size >> 21 & 127, size >> 14 & 127, size >> 7 & 127, size & 127]) + frame


def gif_that_claims(width: int, height: int) -> bytes:
    content = BytesIO()
    Image.new("P", (4, 4)).save(content, "GIF")
    return content.getvalue()[:6] + struct.pack("<HH", width, height) + content.getvalue()[10:]


def refusal(path: Path | str) -> str:
    with pytest.raises(VideoError) as caught:
        Video(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_what_is_no_file(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.mp4").startswith("no such file")
    assert "is a folder" in refusal(tmp_path)
    assert "no ordinary file" in refusal("/dev/null")
    for name in ("a\0b.mp4", "http://127.0.0.1:9/a.mp4"):
        with pytest.raises(VideoError, match="no such file"):
            Video(name)
    assert "cannot read" in refusal(tmp_path / ("a" * 300))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("text.mp4", b"This is no video, only words.\n" * 200),
        ("text.txt", b"FFmpeg would draw these words as a video.\n" * 200),
        ("noise.mp4", np.random.default_rng(0).bytes(40_000)),
        ("header-alone.mp4", struct.pack(">I4s4sI4s", 20, b"ftyp", b"isom", 512, b"isom")),
        ("picture.mp4", b"\x89PNG\r\n\x1a\n" + bytes(100)),
    ],
)
def test_what_is_no_video(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert re.search("cannot be read as a video|can be decoded", refusal(path))


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    assert "is empty (0 bytes)" in refusal(tmp_path / "empty.mp4")


@pytest.mark.parametrize(("name", "codec"), [("a.wav", "pcm_s16le"), ("a.m4a", "aac"), ("a.mp4", "aac"), ("a.mp3", "libmp3lame")])
def test_sound_alone(name: str, codec: str, write_sound: Write) -> None:
    assert "holds only sound" in refusal(write_sound(name, codec))


def test_cover_art_is_no_video(write_sound: Write) -> None:
    path = write_sound("song.mp3", "libmp3lame")
    path.write_bytes(cover_art() + path.read_bytes())
    with av.open(path) as container:
        assert len(container.streams.video) == 1  # or the test would show nothing
    assert "holds only sound" in refusal(path)


@pytest.mark.parametrize("size", [(65_535, 65_535), (20_000, 20_000), (8192, 8192)])
def test_pictures_that_are_too_large(size: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "large.gif"
    path.write_bytes(gif_that_claims(*size))
    assert f"more than {MAX_PIXELS:,} pixels" in refusal(path)


def test_pictures_that_the_header_says_are_too_large(write_video: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video("clip.mp4", [0])
    monkeypatch.setattr("act2see.video.MAX_PIXELS", 128 * 64)
    assert Video(path).size == (128, 64)
    monkeypatch.setattr("act2see.video.MAX_PIXELS", 128 * 64 - 1)
    assert "has pictures of 128x64 pixels; at most 8,191 pixels are read" in refusal(path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:2.5,\nsecret.ts\n#EXT-X-ENDLIST\n"),
        ("list.ffconcat", "ffconcat version 1.0\nfile secret.ts\n"),
        ("list.mp4", "ffconcat version 1.0\nfile secret.ts\n"),
    ],
)
def test_a_list_of_other_files_is_not_followed(name: str, text: str, write_video: Write) -> None:
    secret = write_video("secret.ts", [Fraction(number, 24) for number in range(60)])
    path = secret.with_name(name)
    path.write_text(text)
    assert "cannot be read as a video" in refusal(path)


def test_a_name_that_looks_like_an_address(write_video: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video("plain.mp4", [0, 1])
    path.rename(path.with_name("concat:a|pipe:0"))
    monkeypatch.chdir(path.parent)
    assert Video("concat:a|pipe:0").size == (128, 64)


def test_times_outside(write_video: Write) -> None:
    video = Video(write_video("clip.mp4", [Fraction(number, 24) for number in range(48)]))
    for seconds in (-0.5, 2.01, 12, float("nan"), float("inf")):
        with pytest.raises(VideoError, match=re.escape(f"no frame at {seconds:.2f} s; clip.mp4 runs from 0 to 2.00 s")):
            video.frame_at(seconds)
    with pytest.raises(VideoError, match=re.escape("no frame at 12.00 s")):
        video.frames_at([1, 12])  # before anything is decoded
    assert video.frame_at(video.duration_seconds).seconds == pytest.approx(47 / 24)


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), 1e9])
def test_impossible_rates(fps: float, write_video: Write) -> None:
    video = Video(write_video("clip.mp4", [0, 1]))
    with pytest.raises(VideoError, match="give a number above 0"):
        video.sample(fps)
    with pytest.raises(VideoError, match="give a number above 0"):
        video.times(fps)


# What is damaged


@pytest.mark.parametrize(("name", "options"), [("cut.mp4", {"movflags": "faststart"}), ("cut.mkv", {}), ("cut.ts", {})])
def test_a_cut_file_gives_what_is_left(name: str, options: dict[str, str], write_video: Write, number_of: NumberOf) -> None:
    times = [Fraction(number, 24) for number in range(240)]
    path = write_video(name, times, file_options=options, options={"g": "24", "bf": "0"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    video = Video(path)
    assert 3 < video.duration_seconds < 8
    numbers = [number_of(frame) for frame in video.sample(24)]
    assert numbers == list(range(len(numbers)))
    assert len(video.times(24)) - len(numbers) <= 1
    assert video.duration_seconds == pytest.approx(len(numbers) / 24, abs=1.5 / 24)
    assert number_of(video.frame_at(2)) == 48
    with pytest.raises(VideoError, match=r"no frame at 9\.50 s"):
        video.frame_at(9.5)
    if name != "cut.ts":  # its format does not say how long it should be
        assert video.damage is not None
        assert re.fullmatch(rf"{name} is damaged: it ends after \d\.\d\d s although its header says 10\.00 s.*", video.damage)


def test_damage_in_the_middle_loses_no_frame_number(write_video: Write, number_of: NumberOf) -> None:
    times = [Fraction(number, 24) for number in range(240)]
    path = write_video("hurt.mp4", times, options={"g": "24", "bf": "0"})
    with av.open(path) as container:
        places = [packet.pos for packet in container.demux(video=0) if packet.pos is not None]
    content = bytearray(path.read_bytes())
    for number in (60, 61, 62, 100):
        content[places[number] : places[number + 1]] = b"\xff" * (places[number + 1] - places[number])
    path.write_bytes(content)
    video = Video(path)
    found = {round((frame.seconds or 0) * 24): number_of(frame) for frame in video.sample(24)}
    for place in (*range(60), *range(72, 96), *range(120, 240)):  # between two key frames of which none is hurt
        assert found[place] == place
    assert video.damage == "hurt.mp4 is damaged: 4 packets cannot be decoded"
    assert number_of(video.frame_at(61 / 24)) == 59  # what a player would still show
    assert video.duration_seconds == pytest.approx(10)


def test_a_cut_at_any_byte_is_an_error_or_a_shorter_video(write_video: Write, number_of: NumberOf) -> None:
    path = write_video("cut.mkv", [Fraction(number, 24) for number in range(48)], options={"bf": "0"})
    content = path.read_bytes()
    for length in range(0, len(content), max(1, len(content) // 30)):
        path.write_bytes(content[:length])
        try:
            numbers = [number_of(frame) for frame in Video(path).sample(24)]
        except VideoError:
            continue
        assert numbers == list(range(len(numbers)))


def test_damage_prints_nothing(write_video: Write) -> None:
    path = write_video("cut.mkv", [Fraction(number, 24) for number in range(240)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    code = f"from act2see.video import Video; video = Video({str(path)!r}); list(video.sample(5)); assert video.damage"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")


# How it works


def open_files() -> list[str]:
    links = (f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd"))
    return sorted(os.readlink(link) for link in links if os.path.exists(link))


def test_nothing_stays_open(write_video: Write) -> None:
    path = write_video("clip.mp4", [Fraction(number, 24) for number in range(48)])
    video = Video(path)
    frames = video.sample(1)
    assert next(frames).seconds == 0
    assert str(path) in open_files()  # streaming
    del frames
    video.frame_at(1)
    list(video.sample(1))
    with pytest.raises(VideoError):
        Video(path.with_name("none.mp4"))
    gc.collect()
    assert str(path) not in open_files()


def test_a_file_that_went_away(write_video: Write) -> None:
    path = write_video("clip.mp4", [0, 1])
    video = Video(path)
    path.unlink()
    with pytest.raises(VideoError, match="No such file"):
        video.frame_at(0)


def test_digest_is_about_the_content(write_video: Write) -> None:
    path = write_video("clip.mp4", [0, 1])
    digest = Video(path).digest
    assert re.fullmatch("[0-9a-f]{64}", digest)
    copy = path.with_name("copy.mp4")
    copy.write_bytes(path.read_bytes())
    assert Video(copy).digest == digest
    for changed in (path.read_bytes() + b"\0", path.read_bytes()[:-1] + b"\1"):
        copy.write_bytes(changed)
        assert Video(copy).digest != digest
    padding = bytearray(3 << 20)  # what lies in the middle of a large file is not read
    copy.write_bytes(path.read_bytes() + padding)
    large = Video(copy).digest
    padding[3 << 19] = 1
    copy.write_bytes(path.read_bytes() + padding)
    assert Video(copy).digest == large
