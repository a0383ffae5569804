"""Conversion of decoded frames to RGB, for all colour matrices.

FFmpeg's scaler converts most matrices. Since version 8 it rejects the others of ITU-T H.273 (table 4). Of those, the linear ones are converted
here; the rest is treated as FFmpeg did before: as BT.601, and BT.2020 constant luminance as non-constant luminance. Unlabelled pictures are read as
players read them: HD as BT.709, HDR as BT.2020, the rest as BT.601.
"""

from typing import cast

import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter
from PIL import Image

from act2see.core.errors import VideoError
from act2see.video import hdr

_YCGCO, _BT2020_CL, _BY_PRIMARIES = 8, 10, (12, 13)
_REFUSED = {_YCGCO: "YCgCo", _BT2020_CL: "BT.2020 constant luminance", 11: "ST 2085", 12: "by primaries", 13: "by primaries, constant luminance"}
_REFUSED |= {14: "ICtCp", 15: "IPT-C2", 16: "YCgCo-Re", 17: "YCgCo-Ro"}
_UNSPECIFIED = 2  # of the matrix, the primaries and the transfer function
_SD_WIDTH, _SD_HEIGHT = 1279, 576  # at most; unlabelled pictures that are larger are HD, as for mpv and libplacebo
# H.273 derives the matrix from the primaries. The scaler supports the matrices of these; BT.709's is within 1 % of those of the others.
_OF_PRIMARIES = {4: Colorspace.ITU601, 6: Colorspace.SMPTE240M, 7: Colorspace.SMPTE240M, 9: Colorspace.BT2020}


def image(reformatter: VideoReformatter, frame: VideoFrame, width: int, height: int, interpolation: Interpolation) -> Image.Image:
    """Convert a frame to an RGB image of the given size, without rotation. Raises `VideoError` for an unsupported pixel format."""
    if frame.colorspace == _YCGCO and _is_deliberate(frame):
        return _from_ycgco(reformatted(reformatter, frame, width, height, interpolation, "yuv444p"))
    if hdr.transfer(frame):
        planes = reformatted(reformatter, frame, width, height, interpolation, hdr.PIXEL_FORMAT)
        return hdr.tone_mapped(planes, frame.color_trc, frame.color_primaries)
    plane = reformatted(reformatter, frame, width, height, interpolation).planes[0]
    pixels = cast("bytes", plane)  # any buffer works; the image is a copy of it
    return Image.frombuffer("RGB", (width, height), pixels, "raw", "RGB", plane.line_size, 1)


def reformatted(
    reformatter: VideoReformatter,
    frame: VideoFrame,
    width: int,
    height: int,
    interpolation: Interpolation = Interpolation.AREA,
    pixel_format: str = "rgb24",
) -> VideoFrame:
    """Scale and convert a frame to full range. Raises `VideoError` for an unsupported pixel format."""
    coded = _read_as(frame) if frame.colorspace in _REFUSED else _guessed(frame)
    # YUV output keeps the input's matrix.
    is_rgb = not pixel_format.startswith("yuv")
    target, target_range = (None, None) if is_rgb else (coded, "JPEG")
    try:
        # One thread: for such small images, starting more takes longer than the work.
        return reformatter.reformat(
            frame, width, height, pixel_format, coded, target, dst_color_range=target_range, interpolation=interpolation, threads=1
        )
    except FFmpegError as error:
        raise VideoError(
            f"pictures of the format {frame.format.name} cannot be converted to RGB ({error.strerror}): convert the video first"
        ) from error


def approximation(frame: VideoFrame) -> str | None:
    """A one-line warning about approximate colours; None if the conversion is exact."""
    coded = frame.colorspace
    if coded not in _REFUSED or (coded in (_YCGCO, _BY_PRIMARIES[0]) and _is_deliberate(frame)):
        return None
    read_as = {Colorspace.BT2020: "BT.2020", Colorspace.ITU709: "BT.709", Colorspace.SMPTE240M: "SMPTE 240M"}.get(_read_as(frame), "BT.601")
    return f"its colour matrix ({_REFUSED[coded]}) is read as {read_as}'s: colours may be off"


def _guessed(frame: VideoFrame) -> Colorspace | None:
    """The matrix of an unlabelled YUV frame; None leaves it to the scaler: as labelled, or BT.601."""
    if frame.colorspace != _UNSPECIFIED or frame.format.is_rgb:
        return None
    if hdr.transfer(frame):
        return Colorspace.BT2020
    return Colorspace.ITU709 if frame.width > _SD_WIDTH or frame.height > _SD_HEIGHT else None


def _is_deliberate(frame: VideoFrame) -> bool:
    """Whether primaries and transfer function are specified, too. A matrix alone is often damage or a wrong flag. Our choice."""
    return _UNSPECIFIED not in (frame.color_primaries, frame.color_trc)


def _read_as(frame: VideoFrame) -> Colorspace:
    if frame.colorspace == _BT2020_CL:
        return Colorspace.BT2020
    if frame.colorspace in _BY_PRIMARIES and _is_deliberate(frame):
        return _OF_PRIMARIES.get(frame.color_primaries, Colorspace.ITU709)
    return Colorspace.ITU601


def _from_ycgco(frame: VideoFrame) -> Image.Image:
    """H.273, equations 53 to 56, from full-range planes."""
    luma, green, orange = (
        np.frombuffer(cast("bytes", plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width].astype(np.int16)
        for plane in frame.planes
    )
    green, orange = green - 128, orange - 128
    rest = luma - green
    return Image.fromarray(np.stack([rest + orange, luma + green, rest - orange], axis=-1).clip(0, 255).astype(np.uint8))
