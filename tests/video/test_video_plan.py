"""The decode plan leaves out what no wanted frame needs, and every picture is the same, bit by bit, as in a plain decode of the whole file."""

import itertools
import logging
import random
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.reformatter import Interpolation

from act2see.core.errors import VideoError
from act2see.core.trace import Frame
from act2see.video import Sampling, Video

Write = Callable[..., Path]
NumberOf = Callable[[Frame], int]
Array = np.ndarray[Any, np.dtype[np.uint8]]

WIDTH, HEIGHT, COUNT, FPS = 96, 64, 50, 24
QUIET = "log-level=none"
# name of the file, encoder, its options
CODED: dict[str, tuple[str, str, dict[str, str]]] = {
    "long GOP, B-frames": ("a.mp4", "libx264", {"x264-params": "keyint=250:scenecut=0:bframes=3"}),
    "open GOP, mkv": ("a.mkv", "libx264", {"x264-params": "open-gop=1:keyint=16:scenecut=0:bframes=5:b-pyramid=normal:ref=4"}),
    "open GOP, mp4": ("a.mp4", "libx264", {"x264-params": "open-gop=1:keyint=16:scenecut=0:bframes=3"}),
    "open GOP, ts": ("a.ts", "libx264", {"x264-params": "open-gop=1:keyint=16:scenecut=0:bframes=3"}),
    "no B-frames": ("a.mp4", "libx264", {"g": "12", "bf": "0"}),
    "intra refresh": ("a.ts", "libx264", {"x264-params": "intra-refresh=1:keyint=16"}),
    "slices, temporal direct": ("a.mp4", "libx264", {"x264-params": "slices=4:keyint=16:weightp=2:direct=temporal"}),
    "all key frames": ("a.mp4", "libx264", {"g": "1"}),
    "interlaced": ("a.ts", "libx264", {"x264-params": "tff=1:keyint=16"}),
    "HEVC, open GOP": ("a.mp4", "libx265", {"preset": "ultrafast", "x265-params": f"keyint=16:open-gop=1:bframes=4:b-adapt=0:{QUIET}"}),
    "HEVC, closed, ts": ("a.ts", "libx265", {"preset": "ultrafast", "x265-params": f"keyint=16:open-gop=0:bframes=4:b-adapt=0:{QUIET}"}),
    "HEVC, layers": ("a.mkv", "libx265", {"preset": "ultrafast", "x265-params": f"keyint=16:temporal-layers=3:bframes=4:b-adapt=0:{QUIET}"}),
    "VP8": ("a.webm", "libvpx", {"g": "16", "auto-alt-ref": "1", "lag-in-frames": "8", "deadline": "realtime"}),
    "VP9": ("a.webm", "libvpx-vp9", {"g": "16", "auto-alt-ref": "1", "lag-in-frames": "8", "cpu-used": "8"}),
    "AV1": ("a.mp4", "libsvtav1", {"g": "16", "preset": "12"}),
    "MPEG-4": ("a.mp4", "mpeg4", {"bf": "2", "g": "12"}),
    "MPEG-2": ("a.ts", "mpeg2video", {"bf": "2", "g": "12"}),
    "MPEG-2, interlaced": ("a.mpg", "mpeg2video", {"bf": "2", "g": "12", "flags": "+ilme+ildct"}),
    "MPEG-1": ("a.mpg", "mpeg1video", {"bf": "2", "g": "12"}),
    "Motion JPEG": ("a.mkv", "mjpeg", {}),
}
# There the rate gives the times, and a clock of its own is refused.
RATE_IS_CLOCK = {"mpeg4", "mpeg2video", "mpeg1video"}
_NOISE = np.random.default_rng(0).integers(0, 256, (160, 240, 3), np.uint8)


def picture(number: int) -> Array:
    """A piece of a rough texture that wanders, so that pictures are predicted from others."""
    x, y = round(70 + 60 * np.sin(number / 11)), round(45 + 40 * np.cos(number / 13))
    soft = _NOISE.astype(np.uint16)
    soft = (soft + np.roll(soft, 1, 0) + np.roll(soft, 1, 1) + np.roll(soft, (1, 1), (0, 1))) // 4
    return soft[y : y + HEIGHT, x : x + WIDTH].astype(np.uint8)


def write_texture(path: Path, codec: str, options: dict[str, str], numbers: range = range(COUNT)) -> Path:
    pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    clock = FPS if codec in RATE_IS_CLOCK else 90_000
    with av.open(path, "w") as container:
        stream: Any = container.add_stream(codec, rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixels
        stream.codec_context.time_base = Fraction(1, clock)
        stream.codec_context.thread_count = 1  # the same file on every machine
        for place, number in enumerate(numbers):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24").reformat(format=pixels)
            frame.pts, frame.time_base = place * clock // FPS, Fraction(1, clock)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def decoded(path: Path, width: int = WIDTH, height: int = HEIGHT) -> list[Array]:
    """The oracle: every frame, decoded one after the other."""
    with av.open(path) as container:
        options: dict[str, Any] = {"format": "rgb24", "interpolation": Interpolation.AREA, "threads": 1}
        return [np.asarray(frame.reformat(width, height, **options).to_ndarray(), np.uint8) for frame in container.decode(video=0)]


def pixels(frame: Frame) -> Array:
    return np.asarray(frame.image)


@pytest.fixture
def plan_fails() -> None:
    """The test's file lies so well that only the decoder notices."""


@pytest.fixture(autouse=True)
def plan_holds(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Where a plan turns out wrong, the frames still come, but slowly: no good file may need that."""
    caplog.set_level(logging.INFO, "act2see.video")
    yield
    said = [record.getMessage() for record in caplog.get_records("call") if "slower decoding" in record.getMessage()]
    assert bool(said) == ("plan_fails" in request.fixturenames), said


@pytest.mark.parametrize("name", CODED)
def test_pictures_are_those_of_a_plain_decode(name: str, tmp_path: Path) -> None:
    file, codec, options = CODED[name]
    path = write_texture(tmp_path / file, codec, options)
    whole = decoded(path)
    video = Video(path)
    times = video.times(1000)
    assert len(times) == len(whole) == COUNT
    assert [video.frame_index(seconds) for seconds in times] == list(range(COUNT))
    draw = random.Random(name)
    wishes = [[number] for number in draw.sample(range(COUNT), 12)] + [draw.sample(range(COUNT), count) for count in (2, 3, 5, 9, 20)]
    for wish in (*wishes, range(COUNT)):
        frames = video.frames_at([times[number] for number in wish])
        for number, frame in zip(sorted(wish), frames, strict=True):
            assert frame.seconds == times[number]
            assert np.array_equal(pixels(frame), whole[number])
    keys = list(video.keyframes())
    assert keys[0].seconds == 0
    for frame in keys:
        assert np.array_equal(pixels(frame), whole[video.frame_index(frame.seconds or 0)])
    assert video.damage is None


def test_several_samplings_in_one_pass(tmp_path: Path) -> None:
    path = write_texture(tmp_path / "a.mkv", "libx264", {"x264-params": "open-gop=1:keyint=16:bframes=3"})
    video = Video(path)
    samplings = [Sampling(fps=2, short_side=48), Sampling(fps=7), Sampling(fps=2, short_side=32), Sampling(fps=24, short_side=1000)]
    together = list(video.sample_sets(samplings))
    assert [frame.seconds for _, frame in together] == sorted(frame.seconds or 0 for _, frame in together)
    for place, sampling in enumerate(samplings):
        alone = list(video.sample(sampling.fps, sampling.short_side))
        ours = [frame for number, frame in together if number == place]
        assert [frame.seconds for frame in ours] == [frame.seconds for frame in alone] == video.times(sampling.fps)
        assert all(one.image == other.image for one, other in zip(ours, alone, strict=True))
    for (width, height), place in (((72, 48), 0), ((WIDTH, HEIGHT), 1), ((48, 32), 2), ((WIDTH, HEIGHT), 3)):
        whole = decoded(path, width, height)
        for frame in (frame for number, frame in together if number == place):
            assert np.array_equal(pixels(frame), whole[video.frame_index(frame.seconds or 0)])
    assert list(video.sample_sets([])) == []


def test_scaling_is_down_only_and_upright(write_video: Write) -> None:
    video = Video(write_video("turned.mp4", [0, 1], prepare=lambda stream: stream.set_display_rotation(-90)))
    assert video.frame_at(0, short_side=32).image.size == (32, 64)
    assert video.frame_at(0, short_side=64).image.size == (64, 128)
    assert video.frame_at(0, short_side=65).image.size == (64, 128)
    assert next(video.keyframes(short_side=16)).image.size == (16, 32)
    for side in (0, -1):
        with pytest.raises(VideoError, match="give a shorter side of 1 or more"):
            video.sample(1, short_side=side)


def packets(path: Path) -> list[tuple[int, int, int, bool]]:
    """Of every packet, in order of decoding: its frame's number, where it lies, and whether a decoder needs it for others."""
    with av.open(path) as container:
        found = [packet for packet in container.demux(video=0) if packet.size]
        order = sorted(packet.pts or 0 for packet in found)
        return [(order.index(packet.pts or 0), packet.pos or 0, packet.size, bool(bytes(packet)[4] >> 5 & 3)) for packet in found]


def spoil(path: Path, numbers: set[int]) -> None:
    """Make nonsense of these frames' pictures; what tells their kind stays."""
    content = bytearray(path.read_bytes())
    for number, place, size, _ in packets(path):
        if number in numbers:
            content[place + 6 : place + size] = b"\xaa" * (size - 6)
    path.write_bytes(content)


def test_what_is_not_needed_is_not_decoded(tmp_path: Path) -> None:
    path = write_texture(tmp_path / "a.mp4", "libx264", {"x264-params": "keyint=12:scenecut=0:bframes=3:b-pyramid=none:open-gop=0"})
    whole = decoded(path)
    wanted = [0, 13, 14, 49]
    listed = packets(path)
    places = {number: place for place, (number, *_) in enumerate(listed)}
    keys = [0, 12, 24, 36, 48]
    needed = {*wanted, *keys}
    for number in wanted:
        start = places[max(key for key in keys if key <= number)]
        needed |= {other for other, _, _, is_needed in listed[start : places[number]] if is_needed}
    unneeded = set(range(COUNT)) - needed
    assert len(unneeded) > 40
    spoil(path, unneeded)
    video = Video(path)
    times = video.times(24)
    for number, frame in zip(wanted, video.frames_at([times[number] for number in wanted]), strict=True):
        assert np.array_equal(pixels(frame), whole[number])
    assert [frame.seconds for frame in video.keyframes()] == [times[key] for key in keys]
    assert video.damage is None  # nothing of what is spoilt was looked at


@pytest.mark.parametrize("name", ["far.mp4", "far.mkv", "far.ts"])
@pytest.mark.parametrize("file_options", [{}, {"live": "1"}, {"movflags": "frag_keyframe+empty_moov"}])
def test_far_jumps(name: str, file_options: dict[str, str], write_video: Write, number_of: NumberOf) -> None:
    muxer_knows = {"live": "mkv", "movflags": "mp4"}
    if any(not name.endswith(muxer_knows[option]) for option in file_options):
        file_options = {}
    path = write_video(name, [Fraction(number, 24) for number in range(1200)], file_options=file_options, options={"g": "24"})
    video = Video(path)
    wanted = [3, 400, 401, 900, 1199]
    assert [number_of(frame) for frame in video.frames_at([number / 24 + 0.01 for number in wanted])] == wanted


def remuxed(source: Path, target: Path, change: Callable[[int, Any], None]) -> Path:
    with av.open(source) as old, av.open(target, "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(packet for packet in old.demux(video=0) if packet.size):
            change(number, packet)
            packet.stream = stream
            new.mux(packet)
    return target


def mark_as_key(number: int, packet: Any) -> None:
    if number == 7:
        packet.is_keyframe = True


def test_a_false_key_frame_costs_time_only(plan_fails: None, tmp_path: Path) -> None:
    path = remuxed(write_texture(tmp_path / "a.mp4", "mpeg4", {"g": "300"}), tmp_path / "b.mp4", mark_as_key)
    whole = decoded(path)
    video = Video(path)
    times = video.times(24)
    for number, frame in zip((9, 40), video.frames_at([times[9], times[40]]), strict=True):
        assert np.array_equal(pixels(frame), whole[number])
    frames = list(video.sample(24))
    assert all(np.array_equal(pixels(frame), truth) for frame, truth in zip(frames, whole, strict=True))


def test_a_false_key_frame_of_h264_is_no_place_to_begin(tmp_path: Path) -> None:
    path = remuxed(write_texture(tmp_path / "a.mkv", "libx264", {"g": "300", "bf": "0"}), tmp_path / "b.mkv", mark_as_key)
    whole = decoded(path)
    video = Video(path)
    assert np.array_equal(pixels(video.frame_at(video.times(24)[9])), whole[9])
    assert [frame.seconds for frame in video.keyframes()] == [0]


def test_other_parameters_on_the_way(tmp_path: Path) -> None:
    # Two broadcasts joined: what the second says about decoding is not in the header.
    first = write_texture(tmp_path / "1.ts", "libx264", {"x264-params": "keyint=12:scenecut=0"}, range(24))
    second = write_texture(tmp_path / "2.ts", "libx264", {"x264-params": "keyint=12:scenecut=0:cabac=0:ref=1:chroma-qp-offset=6"}, range(24, 48))
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    with av.open(joined) as container:
        clock = [frame.pts or 0 for frame in container.decode(video=0)]
    assert clock != sorted(clock)  # and its clock begins again
    whole = decoded(joined)
    video = Video(joined)
    for frame in video.sample(24):
        number = round((frame.seconds or 0) * 24)
        assert any(np.array_equal(pixels(frame), whole[place]) for place in (number, number + 24) if place < len(whole))


def test_a_stream_that_begins_in_the_middle(write_video: Write, number_of: NumberOf) -> None:
    path = write_video("tuned-in.ts", [Fraction(number, 24) for number in range(120)], options={"x264-params": "keyint=24:scenecut=0:bframes=3"})
    content = path.read_bytes()
    path.write_bytes(content[: 188 * 3] + content[188 * (len(content) // 188 // 8) :])
    video = Video(path)
    assert [number_of(video.frame_at(seconds)) for seconds in video.times(24)] == [number_of(frame) for frame in video.sample(24)]
    first = number_of(video.frame_at(0))
    assert 0 < first < 48
    assert number_of(video.frame_at(video.duration_seconds)) == 119


def test_damage_that_only_the_decoder_sees(plan_fails: None, tmp_path: Path) -> None:
    path = write_texture(tmp_path / "a.mkv", "mpeg4", {"g": "10", "bf": "0"})
    content = bytearray(path.read_bytes())
    number, place, size, _ = packets(path)[20]
    start = content.index(bytes(content[place : place + size])[8:40], place)
    content[start : start + 24] = b"\0\0\1\xb6" + b"\xff" * 20
    path.write_bytes(content)
    assert number == 20
    video = Video(path)
    seconds = [frame.seconds for frame in video.sample(24)]
    assert seconds == sorted(set(seconds), key=lambda second: second or 0)
    assert len(seconds) >= COUNT - 10
    assert list(itertools.islice(seconds, 20)) == video.times(24)[:20]
