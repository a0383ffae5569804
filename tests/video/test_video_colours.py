"""Colour matrices that FFmpeg's scaler refuses: computed where they are linear and labelled, else read as FFmpeg's programs read them, and told."""

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from act2see.core.errors import VideoError
from act2see.video import Video
from act2see.video.colours import approximation
from act2see.video.pictures import FrameConverter

COLOUR = (200, 40, 90)
WRITTEN = {"BT.601": (0.299, 0.114), "BT.709": (0.2126, 0.0722), "SMPTE 240M": (0.212, 0.087), "BT.2020": (0.2627, 0.0593)}
"""The weights of red and blue."""
Triple = tuple[float, float, float]


def weighted(weight_red: float, weight_blue: float) -> Triple:
    """The colour's luma from 0 to 255 and its two differences from -127.5 to 127.5."""
    red, green, blue = COLOUR
    luma = weight_red * red + (1 - weight_red - weight_blue) * green + weight_blue * blue
    return luma, (blue - luma) / (2 * (1 - weight_blue)), (red - luma) / (2 * (1 - weight_red))


def ycgco() -> Triple:
    """The same in YCgCo (H.273, equations 50 to 52)."""
    red, green, blue = COLOUR
    return green / 2 + (red + blue) / 4, green / 2 - (red + blue) / 4, (red - blue) / 2


def write(path: Path, coded: Triple, matrix: int, labels: tuple[int, int] = (2, 2), *, is_full: bool = False) -> Path:
    """One flat picture with this luma and these differences, its matrix and its (primaries, transfer function) labelled."""
    luma, first, second = coded
    values = (luma, 128 + first, 128 + second) if is_full else (16 + luma * 219 / 255, 128 + first * 224 / 255, 128 + second * 224 / 255)
    packed = np.stack([np.full((64, 64), round(value), np.uint8) for value in values])
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv444p"
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = matrix, *labels, 2 if is_full else 1
        container.mux(stream.encode(VideoFrame.from_ndarray(packed, format="yuv444p")))
        container.mux(stream.encode(None))
    return path


def shown(video: Video) -> Sequence[float]:
    assert video.size == (64, 64)
    (frame,) = video.sample(1)
    assert frame.image.getcolors() is not None
    return frame.image.getpixel((30, 30))  # type: ignore[return-value]


@pytest.mark.parametrize("is_full", [False, True])
def test_ycgco_that_is_labelled_as_a_whole(is_full: bool, tmp_path: Path) -> None:
    video = Video(write(tmp_path / "a.mp4", ycgco(), 8, (1, 1), is_full=is_full))
    assert shown(video) == pytest.approx(COLOUR, abs=3)
    assert video.colours is None
    assert video.frame_at(0, short_side=16).image.size == (16, 16)
    assert video.frame_at(0, short_side=16).image.getpixel((8, 8)) == pytest.approx(COLOUR, abs=3)


@pytest.mark.parametrize(("primaries", "like"), [(1, "BT.709"), (5, "BT.709"), (6, "SMPTE 240M"), (4, "BT.601"), (9, "BT.2020")])
@pytest.mark.parametrize("matrix", [12, 13])
def test_matrices_by_primaries(matrix: int, primaries: int, like: str, tmp_path: Path) -> None:
    video = Video(write(tmp_path / "a.mp4", weighted(*WRITTEN[like]), matrix, (primaries, 1)))
    assert shown(video) == pytest.approx(COLOUR, abs=3)
    assert (video.colours is None) == (matrix == 12)  # constant luminance is not computed


@pytest.mark.parametrize("matrix", [8, *range(10, 15)])
def test_a_matrix_without_other_labels_is_read_as_ffmpegs_programs_read_it(matrix: int, tmp_path: Path) -> None:
    # ffmpeg 5.1.9, of a file that was written so: `-pix_fmt rgb24` gives the colour of BT.601, for 10 that of BT.2020.
    like = "BT.2020" if matrix == 10 else "BT.601"
    video = Video(write(tmp_path / "a.mp4", weighted(*WRITTEN[like]), matrix))
    assert shown(video) == pytest.approx(COLOUR, abs=3)
    assert video.colours is not None
    assert video.colours.startswith("a.mp4: its colour matrix (")
    assert f"is read as {like}'s" in video.colours


@pytest.mark.parametrize("matrix", [15, 16, 17])
def test_those_that_no_encoder_here_writes(matrix: int) -> None:
    luma, first, second = weighted(*WRITTEN["BT.601"])
    values = (16 + luma * 219 / 255, 128 + first * 224 / 255, 128 + second * 224 / 255)
    frame = VideoFrame.from_ndarray(np.stack([np.full((64, 64), round(value), np.uint8) for value in values]), format="yuv444p")
    frame.colorspace = matrix
    assert FrameConverter((16, 16)).image(frame).getpixel((8, 8)) == pytest.approx(COLOUR, abs=3)
    assert "is read as BT.601's" in (approximation(frame) or "")


@pytest.mark.parametrize(("matrix", "like"), [(1, "BT.709"), (5, "BT.601"), (6, "BT.601"), (7, "SMPTE 240M"), (9, "BT.2020")])
def test_the_others_are_the_scalers(matrix: int, like: str, tmp_path: Path) -> None:
    video = Video(write(tmp_path / "a.mp4", weighted(*WRITTEN[like]), matrix, (1, 1)))
    assert shown(video) == pytest.approx(COLOUR, abs=3)
    assert video.colours is None


def test_a_format_that_cannot_be_converted_is_one_line() -> None:
    frame = VideoFrame(64, 64, "gray32le")
    with pytest.raises(VideoError, match="pictures of the format gray32le cannot be converted to RGB"):
        FrameConverter((64, 64)).image(frame)
