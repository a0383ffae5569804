"""What the packets say: kept in a cache when one is given, made anew when what is kept is of no use; frames by number; files that change."""

import os
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from act2see.core.errors import VideoError
from act2see.core.trace import Frame
from act2see.storage.cache import Cache
from act2see.video import Video
from act2see.video.bitstream import Scanner
from act2see.video.packets import FORMAT, packets_of

Write = Callable[..., Path]
NumberOf = Callable[[Frame], int]
TIMES = [Fraction(number, 24) for number in range(48)]


class Notes(Cache):
    """A cache that notes what is asked of it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.asked: list[str] = []

    def read(self, name: str) -> bytes | None:
        self.asked.append(f"read {name}")
        return super().read(name)

    def write(self, name: str, data: bytes | bytearray | memoryview) -> bool:
        self.asked.append(f"write {name}")
        return super().write(name, data)


def test_what_the_packets_say_is_kept(write_video: Write, tmp_path: Path) -> None:
    path = write_video("clip.mp4", TIMES)
    cache = Notes(tmp_path / "cache")
    first = Video(path, cache)
    assert cache.asked == []  # not before it is needed
    name = f"packets/{first.digest}-{FORMAT}.npz"
    times = first.times(24)
    assert cache.asked == [f"read {name}", f"write videos/{first.digest[:32]}", f"write {name}"]  # and whose packets they are
    second = Video(path, cache)
    assert second.times(24) == times
    assert [frame.seconds for frame in second.sample(24)] == times
    assert second.duration_seconds == first.duration_seconds
    assert cache.asked[3:] == [f"read {name}"]


def test_without_a_cache_nothing_is_written(write_video: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACT2SEE_CACHE", str(tmp_path / "cache"))
    assert Video(write_video("clip.mp4", TIMES)).times(1) == [0, 1]
    assert not (tmp_path / "cache").exists()


def test_damage_is_kept_too(write_video: Write, tmp_path: Path) -> None:
    path = write_video("cut.mp4", [Fraction(number, 24) for number in range(240)], file_options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    cache = Cache(tmp_path / "cache")
    assert Video(path, cache).damage == Video(path, cache).damage is not None


def _npz(**arrays: object) -> bytes:
    buffer = BytesIO()
    given: Any = {name: np.asarray(value) for name, value in arrays.items()}
    np.savez(buffer, **given)
    return buffer.getvalue()


USELESS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda kept: b"",
    "cut": lambda kept: kept[: len(kept) // 2],
    "noise": lambda kept: os.urandom(500),
    "a byte turned": lambda kept: kept[: len(kept) // 2] + bytes([kept[len(kept) // 2] ^ 255]) + kept[len(kept) // 2 + 1 :],
    "something else": lambda kept: _npz(other=[1]),
    "another version": lambda kept: _npz(header='{"made_by": "0"}', pts=[0], dts=[0], lengths=[1], marks=[5]),
    "no JSON": lambda kept: _npz(header="{", pts=[0], dts=[0], lengths=[1], marks=[5]),
    "a list": lambda kept: _npz(header="[]", pts=[0], dts=[0], lengths=[1], marks=[5]),
    "a pickle": lambda kept: _npz(header=np.array([print], dtype=object)),
}


@pytest.mark.parametrize("kind", USELESS)
def test_a_useless_entry_is_made_anew(kind: str, write_video: Write, number_of: NumberOf, tmp_path: Path) -> None:
    path = write_video("clip.mkv", TIMES)
    cache = Notes(tmp_path / "cache")
    video = Video(path, cache)
    times, name = video.times(24), f"packets/{video.digest}-{FORMAT}.npz"
    cache.write(name, USELESS[kind](cache.read(name) or b""))
    del cache.asked[:]
    again = Video(path, cache)
    assert again.times(24) == times
    assert [number_of(frame) for frame in again.sample(24)] == list(range(48))
    assert cache.asked == [f"read {name}", f"write {name}"]
    assert Video(path, cache).times(24) == times


def test_arrays_of_another_shape_are_made_anew(write_video: Write, tmp_path: Path) -> None:
    path = write_video("clip.mp4", TIMES)
    cache = Cache(tmp_path / "cache")
    video = Video(path, cache)
    times, name = video.times(24), f"packets/{video.digest}-{FORMAT}.npz"
    with np.load(BytesIO(cache.read(name) or b"")) as kept:
        arrays = dict(kept)
    for broken in ({"pts": arrays["pts"][:-1]}, {"marks": arrays["marks"].astype(np.int64)}, {"dts": arrays["dts"].reshape(2, -1)}):
        cache.write(name, _npz(**(arrays | broken)))
        assert Video(path, cache).times(24) == times


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.h264"])
def test_frames_have_numbers(name: str, write_video: Write, number_of: NumberOf) -> None:
    kind = {"file_format": "h264"} if name == "a.h264" else {}
    video = Video(write_video(name, TIMES, clock=24 if name in ("a.avi", "a.h264") else 90_000, **kind))
    for frame in video.sample(7):
        assert video.frame_index(frame.seconds or 0) == number_of(frame)
    assert video.frame_index(video.duration_seconds) == 47
    with pytest.raises(VideoError, match=re.escape("no frame at 2.50 s; a.")):
        video.frame_index(2.5)


def test_key_frames(write_video: Write, number_of: NumberOf) -> None:
    options = {"x264-params": "keyint=12:scenecut=0:bframes=2"}
    for name, extra in (("a.mp4", {}), ("a.ts", {}), ("a.h264", {"clock": 24, "file_format": "h264"})):
        frames = list(Video(write_video(name, TIMES, options=options, **extra)).keyframes())
        assert [number_of(frame) for frame in frames] == [0, 12, 24, 36]
        assert [frame.seconds for frame in frames] == pytest.approx([0, 0.5, 1, 1.5])


# Files that change


def test_a_file_that_changed_is_not_read_on(write_video: Write) -> None:
    path = write_video("clip.mp4", TIMES)
    asks: list[Callable[[Video], object]] = [lambda video: video.duration_seconds, lambda video: video.digest, lambda video: video.frame_at(0)]
    for ask in asks:
        video = Video(path)
        path.write_bytes(path.read_bytes() + b"\0" * 8)
        with pytest.raises(
            VideoError, match=r"clip\.mp4 was changed after it was opened \(it had [\d,]+ bytes and has [\d,]+\): open it again"
        ) as caught:
            ask(video)
        assert "\n" not in str(caught.value)
    video = Video(path)
    assert video.times(1) == [0, 1]
    os.utime(path, (1, 1))
    with pytest.raises(VideoError, match="it was written anew"):
        video.sample(1).__next__()


@pytest.mark.parametrize("name", ["clip.mp4", "clip.h264"])  # by the plan, and plainly
def test_a_file_that_changes_while_it_is_read(name: str, write_video: Write) -> None:
    path = write_video(name, TIMES, **({"clock": 24, "file_format": "h264"} if name == "clip.h264" else {}))
    frames = Video(path).sample(24)
    next(frames)
    with path.open("ab") as file:
        file.write(b"\0" * 8)
    with pytest.raises(VideoError, match="was changed after it was opened"):
        list(frames)


def test_a_file_that_is_replaced_while_it_is_read(write_video: Write, number_of: NumberOf) -> None:
    path = write_video("clip.mp4", TIMES)
    other = write_video("other.mp4", TIMES[:5])
    video = Video(path)
    frames = video.sample(24)
    next(frames)
    other.replace(path)  # what is open is still the first file
    assert [number_of(frame) for frame in frames] == list(range(1, 48))
    with pytest.raises(VideoError, match="was changed after it was opened"):
        video.frame_at(0)


# Bitstreams that no encoder here writes


def test_units_whose_lengths_are_wrong_are_damage() -> None:
    header = bytes([1, 66, 0, 30, 255, 225, 0, 0])  # avcC with lengths of four bytes and no parameter set
    good = Scanner("h264", header)
    assert good.read(b"\0\0\0\2\x65\x88", is_key=True) == 1
    assert good.read(b"\0\0\0\2\x65\x88", is_key=False) == 0
    assert good.doubt is None
    for broken in (b"\0\0\0\3\x65\x88", b"\0\0\0\0\0\0", b"\xff\xff\xff\xff\x65", b"\0\0"):
        scanner = Scanner("h264", header)
        assert scanner.read(broken, is_key=True) == 0
        assert scanner.doubt == "a packet is damaged"


def test_a_recovery_point_counts_only_when_it_is_exact_and_at_once() -> None:
    def marks(payload: bytes) -> int:
        return Scanner("h264", b"").read(b"\0\0\0\1\x06" + payload + b"\x80\0\0\1\x41\x9a", is_key=True)

    assert marks(b"\x06\x01\xc4") == 1  # recovery_frame_cnt 0, exact_match_flag 1
    assert marks(b"\x06\x01\x84") == 0  # not exact
    assert marks(b"\x06\x02\x50\x40") == 0  # exact, but later
    assert marks(b"\x05\x03abc\x06\x01\xc4") == 1  # behind another message
    assert marks(b"\x05\xff\x01" + b"a" * 256 + b"\x06\x01\xc4") == 1
    assert marks(b"\x05\xff\x01ab") == 0


def test_vp8_and_vp9_hidden_frames() -> None:
    vp8 = Scanner("vp8", b"")
    assert [vp8.read(bytes([first]), is_key=not first & 1) for first in (0x10, 0x11, 0x01)] == [1, 0, 2]
    vp9 = Scanner("vp9", b"")
    assert vp9.read(b"\x82\x00", is_key=True) == 1
    assert vp9.read(b"\x86\x00", is_key=False) == 0
    assert vp9.read(b"\x84\x00", is_key=False) == 2
    assert vp9.read(b"\x84\xc0", is_key=False) == 0  # a superframe shows one of its frames
    assert vp9.read(b"\x88\x00", is_key=False) == 0  # shows a frame that is there


@pytest.mark.parametrize("error", [av.error.InvalidDataError(1, ""), IndexError("list index out of range")])
def test_packets_end_where_reading_fails(error: Exception) -> None:
    # IndexError: PyAV's own, at the end of a file in whose middle a stream began; whether it comes hangs on what lies in memory.
    def source() -> Iterator["av.Packet[Any]"]:
        yield from (av.Packet(b"a"), av.Packet(0), av.Packet(b"b"))
        raise error

    assert [bytes(packet) for packet in packets_of(source())] == [b"a", b"b"]


def test_an_unknown_codec_gets_no_decode_plan() -> None:
    assert Scanner("theora", b"").doubt == "the frame dependencies of theora are not known"


@settings(max_examples=40, deadline=None)
@given(
    extradata=st.binary(max_size=60), packets=st.lists(st.binary(min_size=1, max_size=60), max_size=3), is_key=st.booleans(), is_avcc=st.booleans()
)
@pytest.mark.parametrize("codec", ["h264", "hevc", "vp8", "vp9", "av1", "mpeg2video", "theora"])
def test_no_bytes_stop_the_reader(codec: str, extradata: bytes, packets: list[bytes], is_key: bool, is_avcc: bool) -> None:
    scanner = Scanner(codec, b"\1" + extradata if is_avcc else extradata)
    for packet in packets:
        assert 0 <= scanner.read(packet, is_key) <= 3
