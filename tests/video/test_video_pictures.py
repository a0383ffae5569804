"""Pictures stand upright and have the colours that the file means."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from act2see.core.trace import Frame
from act2see.video import Video

Write = Callable[..., Path]
NumberOf = Callable[[Frame], int]


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
