"""Pictures that change their size on the way have the first one's, as with the ffmpeg program."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.codeccontext import VideoCodecContext

from act2see.video import Video

COLOURS = [(200, 40, 90), (30, 160, 60)]
Size = tuple[int, int]


def flat(size: Size, colour: tuple[int, int, int]) -> av.VideoFrame:
    picture = np.empty((size[1], size[0], 3), np.uint8)
    picture[:] = colour
    picture[: size[1] // 2] = 16  # the upper half is dark: the picture must fill its place
    return av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")


def write_two_sizes(path: Path, first: Size, second: Size) -> Path:
    """Two seconds of each, at 4 frames a second."""
    with av.open(path, "w") as container:
        stream: Any = container.add_stream("libx264", rate=4, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = *first, "yuv420p"
        packets = []
        for number, size in enumerate((first, second)):
            if number == 0:
                coder = stream.codec_context
            else:
                coder = VideoCodecContext.create("libx264", "w")
                coder.width, coder.height, coder.pix_fmt, coder.time_base, coder.framerate = *size, "yuv420p", Fraction(1, 4), Fraction(4)
                coder.options = {"preset": "veryfast"}
            for at in range(8):
                frame = flat(size, COLOURS[number])
                frame.pts, frame.time_base = number * 8 + at, Fraction(1, 4)
                packets += coder.encode(frame)
            packets += coder.encode(None)
        for packet in packets:
            packet.stream = stream
            container.mux(packet)
    return path


@pytest.mark.parametrize("second", [(96, 72), (256, 192), (96, 128)])
def test_all_frames_have_the_first_ones_size(second: Size, tmp_path: Path) -> None:
    video = Video(write_two_sizes(tmp_path / "a.ts", (192, 144), second))
    assert video.size == (192, 144)
    frames = list(video.sample(1))
    assert [frame.seconds for frame in frames] == pytest.approx([0, 1, 2, 3])
    assert {frame.image.size for frame in frames} == {(192, 144)}
    for frame, colour in zip(frames, (COLOURS[0], COLOURS[0], COLOURS[1], COLOURS[1]), strict=True):
        for x, y in ((8, 130), (184, 84)):
            assert frame.image.getpixel((x, y)) == pytest.approx(colour, abs=6)
        assert frame.image.getpixel((8, 8)) == pytest.approx((16, 16, 16), abs=6)


def test_they_are_scaled_down_from_the_first_ones_size(tmp_path: Path) -> None:
    video = Video(write_two_sizes(tmp_path / "a.ts", (192, 144), (96, 72)))
    assert {frame.image.size for frame in video.sample(1, short_side=36)} == {(48, 36)}
    assert video.frame_at(3, short_side=100).image.size == (133, 100)
    assert {frame.image.size for frame in video.keyframes()} == {(192, 144)}


def test_they_are_one_native_video(tmp_path: Path) -> None:
    video = Video(write_two_sizes(tmp_path / "a.ts", (192, 144), (96, 72)))
    assert np.stack([np.asarray(frame.image) for frame in video.sample(2)]).shape == (8, 144, 192, 3)


@pytest.mark.parametrize("frames", [2, 7])
def test_upright_ones_keep_the_upright_size(frames: int, write_video: Any) -> None:
    path = write_video("phone.mp4", [Fraction(number, 24) for number in range(frames)], prepare=lambda stream: stream.set_display_rotation(-90))
    assert {frame.image.size for frame in Video(path).sample(24)} == {(64, 128)}
