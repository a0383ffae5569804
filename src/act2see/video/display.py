"""What a player does to decoded pictures before it shows them: orientation, pixels that are not square, fields, and transparency."""

import struct
from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import cast

import numpy as np
from av.filter import Graph
from av.sidedata.sidedata import SideData
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image

from act2see.core.errors import VideoError
from act2see.video import colours
from act2see.video.cropping import Crop
from act2see.video.files import printable

# A display matrix maps the stored point (p, q), q downwards, to (a p + c q, b p + d q); keys are the signs of (a, b, c, d).
_UPRIGHT = {
    (0, 1, -1, 0): Image.Transpose.ROTATE_270,
    (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
    (0, -1, 1, 0): Image.Transpose.ROTATE_90,
    (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM,
    (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
    (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
}
_ROTATIONS = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, -180: Image.Transpose.ROTATE_180, -90: Image.Transpose.ROTATE_270}
SIDEWAYS = {Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270, Image.Transpose.TRANSPOSE, Image.Transpose.TRANSVERSE}
_TINY = 16
_MOST_STRETCHED = 8  # a pixel's sides; more is a damaged header. Our choice; anamorphic video stays below 3
# A pixel combs if it and the rows above and below stand out from their neighbours by turns. The figures are our choice: noise stays below.
_COMB_LEVELS, _COMB_PIXELS, _COMB_COLUMNS = 12, 24, 4
# FFmpeg's AVDOVIMetadata begins with the place of its AVDOVIRpuDataHeader, in which this byte is `vdr_rpu_profile`.
_RPU_PROFILE = 4
_DOLBY_TAGS = {"dvh1", "dvhe", "dva1", "dvav", "dav1"}
_UNSPECIFIED = 2  # transfer function; other profiles label their base layer
_LUMA_FIRST = ("yuv", "nv", "p0", "gray")


def side_data(frame: VideoFrame) -> dict[SideDataType, bytes]:
    """A frame's side data by kind."""
    # Accessing a frame's side data creates a reference cycle, which frees the frame late: thousands of videos would add up. Use a tiny copy.
    tiny = colours.reformatted(VideoReformatter(), frame, _TINY, _TINY)
    try:
        return {found.type: bytes(found) for found in cast("Iterable[SideData]", tiny.side_data)}
    except ValueError:  # PyAV, on a frame with a kind that it does not know
        return {}


def turn_of(frame: VideoFrame, found: Mapping[SideDataType, bytes]) -> Image.Transpose | None:
    """The transposition that makes a stored picture upright; None if there is none, or for rotations other than multiples of 90°."""
    if SideDataType.DISPLAYMATRIX not in found:
        return _ROTATIONS.get(frame.rotation)
    matrix = struct.unpack("=9i", found[SideDataType.DISPLAYMATRIX][:36])
    a, b, c, d = (matrix[at] / max(abs(number) for number in (*matrix[0:2], *matrix[3:5], 1)) for at in (0, 1, 3, 4))
    return _UPRIGHT.get((round(a), round(b), round(c), round(d)))


def shown_size(frame: VideoFrame, stream: VideoStream, turn: Image.Transpose | None, most_pixels: int) -> tuple[int, int]:
    """Width and height in square pixels of the upright first frame.

    As players do, the side that grows is the one that the pixels' shape stretches. The container's shape counts before the codec's. A shape that no
    format has, or a result of more than `most_pixels`, counts as damage: then pixels are square.
    """
    width, height = frame.width, frame.height
    shape = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or Fraction(1)
    if Fraction(1, _MOST_STRETCHED) <= shape <= _MOST_STRETCHED:
        wide, high = (round(width * shape), height) if shape > 1 else (width, round(height / shape))
        width, height = (wide, high) if wide * high <= most_pixels else (width, height)
    return (height, width) if turn in SIDEWAYS else (width, height)


def check_base_layer(path: Path, stream: VideoStream, frame: VideoFrame, found: Mapping[SideDataType, bytes]) -> None:
    """Raise `VideoError` for Dolby Vision without a picture for other displays (profile 5), whose colours only its own metadata restore."""
    data = found.get(SideDataType.DOVI_METADATA)
    if data is not None:
        header = struct.unpack_from("@N", data)[0]
        is_alone = data[header + _RPU_PROFILE] == 0
    else:
        is_alone = stream.codec_tag in _DOLBY_TAGS and frame.color_trc == _UNSPECIFIED
    if is_alone:
        raise VideoError(
            f"{printable(path)} is Dolby Vision without a base layer (profile 5), which only its own decoders can show: convert it to HDR10 or SDR"
        )


def cropped(frame: VideoFrame, crop: Crop) -> VideoFrame:
    """The frame without what the container crops; the frame itself if that is nothing, or would leave nothing."""
    width, height = frame.width - crop.left - crop.right, frame.height - crop.top - crop.bottom
    if not any(crop) or min(width, height) < 1:
        return frame
    return _filtered(frame, "crop", f"{width}:{height}:{crop.left}:{crop.top}:exact=1")


def _filtered(frame: VideoFrame, name: str, options: str | None = None) -> VideoFrame:
    """The first frame that one of FFmpeg's filters makes of a frame."""
    graph = Graph()
    about = (
        f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base=1/1:colorspace={frame.colorspace}:range={frame.color_range}"
    )
    source = graph.add("buffer", about)
    sink = graph.add("buffersink")
    graph.link_nodes(source, graph.add(name, options), sink).configure()
    source.push(frame)
    return cast("VideoFrame", sink.pull())


def progressive(frame: VideoFrame, height: int) -> VideoFrame:
    """The first field, in time, of an interlaced frame that would comb if it were shown `height` pixels high; else the frame.

    At up to half of the frame's height, scaling averages the rows of both fields. A frame whose fields are from one moment (film on video) does
    not comb, and keeps its rows.
    """
    if not frame.interlaced_frame or 2 * height <= frame.height or not _combs(frame):
        return frame
    return _filtered(frame, "separatefields")


def _combs(frame: VideoFrame) -> bool:
    if not frame.format.name.startswith(_LUMA_FIRST) or not frame.format.is_planar:
        return True  # packed formats, of few videos: not looked at
    plane, bits = frame.planes[0], frame.format.components[0].bits
    codes = np.frombuffer(cast("bytes", plane), np.uint8 if bits <= 8 else np.uint16).reshape(plane.height, -1)[:, : plane.width : _COMB_COLUMNS]
    rows = codes.astype(np.int16 if bits <= 8 else np.int32)
    least = _COMB_LEVELS << max(0, bits - 8)
    down = np.diff(rows, axis=0)
    rises, falls = down > least, down < -least
    alike = 2 * np.abs(down[:-1] + down[1:]) < np.abs(down[:-1])  # the rows of one field, compared to the step from field to field
    # From row to row: up, down, up, down.
    zigzag = rises[:-3] & falls[1:-2] & rises[2:-1] & falls[3:] | falls[:-3] & rises[1:-2] & falls[2:-1] & rises[3:]
    zigzag &= alike[:-2] & alike[1:-1] & alike[2:]
    return int(np.count_nonzero(zigzag)) >= _COMB_PIXELS


def opaque(frame: VideoFrame) -> VideoFrame:
    """A frame with transparent pixels, on a white background; else the frame."""
    if not any(part.is_alpha for part in frame.format.components):
        return frame
    plane = colours.reformatted(VideoReformatter(), frame, frame.width, frame.height, pixel_format="rgba").planes[0]
    pixels = np.frombuffer(cast("bytes", plane), np.uint8).reshape(plane.height, -1)[:, : plane.width * 4].reshape(plane.height, -1, 4)
    alpha = pixels[:, :, 3:]
    return frame if alpha.min() == 255 else VideoFrame.from_ndarray(_on_white(pixels[:, :, :3], alpha), format="rgb24")


def _on_white(colour: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    shares = alpha.astype(np.uint16)
    return ((colour * shares + 255 * (255 - shares) + 127) // 255).astype(np.uint8)
