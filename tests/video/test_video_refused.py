"""What cannot be used as a video, and times and rates that a video cannot have."""

import os
import re
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from act2see.core.errors import VideoError
from act2see.core.trace import Frame
from act2see.video import MAX_PIXELS, Video

Write = Callable[..., Path]
NumberOf = Callable[[Frame], int]


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
    assert "not a regular file" in refusal("/dev/null")
    with pytest.raises(VideoError, match="no such file"):
        Video("http://127.0.0.1:9/a.mp4")
    assert "cannot read" in refusal(tmp_path / ("a" * 300))


@pytest.mark.parametrize("name", ["a\0b.mp4", "\ud800.mp4", "a\nb\x1b[31m.mp4", "\u202eclip.mp4"])
def test_names_that_cannot_be_printed_are_escaped(name: str) -> None:
    with pytest.raises(VideoError, match="no such file") as caught:
        Video(name)
    assert str(caught.value).isprintable()
    assert str(caught.value).encode("utf-8")


def test_endless_names_are_cut(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"cannot read .*aaa…aaa.*: File name too long") as caught:
        Video(tmp_path / ("a" * 100_000))
    assert len(str(caught.value)) < 2000


def test_places_that_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a")
    assert refusal(tmp_path / "file" / "a.mp4").startswith("no such file")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    assert "cannot read" in refusal(tmp_path / "circle")
    (tmp_path / "dangling").symlink_to(tmp_path / "none")
    assert refusal(tmp_path / "dangling").startswith("no such file")


def test_pipes_sockets_and_devices_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket.mp4"))
        began = time.monotonic()
        for path in (tmp_path / "pipe.mp4", tmp_path / "socket.mp4", Path("/dev/zero")):
            assert "not a regular file" in refusal(path)
        (tmp_path / "link.mp4").symlink_to(tmp_path / "pipe.mp4")
        assert "not a regular file" in refusal(tmp_path / "link.mp4")
        assert time.monotonic() - began < 5


@contextmanager
def nobody() -> Iterator[None]:
    """As somebody who may not read everything, where the tests run as root."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65_534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


def test_what_may_not_be_read(write_video: Write, tmp_path: Path) -> None:
    path = write_video("clip.mp4", [0, 1])
    video = Video(path)
    tmp_path.chmod(0)  # not even the names in it
    try:
        with nobody():
            assert refusal(path) == f"cannot read {path}: Permission denied"
            with pytest.raises(VideoError, match=r"cannot read .*: Permission denied"):
                list(video.sample(1))
    finally:
        tmp_path.chmod(0o755)
    path.chmod(0)
    try:
        with nobody():
            assert "Permission denied" in refusal(path)
    finally:
        path.chmod(0o644)
    assert len(list(video.sample(1))) == 2


def test_a_codec_that_nobody_knows(write_video: Write) -> None:
    path = write_video("clip.mp4", [0, 1])
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz").replace(b"avcC", b"zzzC"))
    assert "holds a video that cannot be decoded" in refusal(path)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_a_parameter_set_that_is_cut_off(size: int, write_video: Write, number_of: NumberOf) -> None:
    # The header's set is cut to a few bytes; the one in the stream, before the first picture, is whole.
    path = write_video(
        "clip.mp4", [0, 1, 2], prepare=lambda stream: setattr(stream, "codec_tag", "avc3"), options={"x264-params": "repeat-headers=1"}
    )
    content = path.read_bytes()
    at = content.index(b"avcC") + 4
    length = int.from_bytes(content[at + 6 : at + 8], "big")
    kept = content[at + 8 : at + 8 + size] + bytes(length - size)
    path.write_bytes(content[: at + 6] + size.to_bytes(2, "big") + kept + content[at + 8 + length :])
    assert [number_of(frame) for frame in Video(path).sample(1)] == [0, 1, 2]


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
    monkeypatch.setattr("act2see.video.files.MAX_PIXELS", 128 * 64)
    assert Video(path).size == (128, 64)
    monkeypatch.setattr("act2see.video.files.MAX_PIXELS", 128 * 64 - 1)
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
