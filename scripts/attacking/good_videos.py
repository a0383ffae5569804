"""Videos that are odd and fine: codecs, containers, shapes, times and colours."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from attacking import clips
from attacking.clips import BLUE, FPS, RED, Clip
from attacking.right import Case, Either, Found, Refused, written

# Codecs and containers

_ENDINGS: dict[str, tuple[str, ...]] = {
    "libx264": ("mp4", "mov", "mkv", "avi", "ts", "flv", "m4v", "3gp", "nut", "h264"),
    "libx265": ("mp4", "mkv", "ts", "hevc"),
    "libvpx": ("webm", "mkv", "avi"),
    "libvpx-vp9": ("webm", "mp4", "ivf"),
    "libsvtav1": ("mp4", "webm", "mkv"),
    "mpeg4": ("mp4", "avi", "mov", "mkv"),
    "mpeg2video": ("mpg", "ts", "vob", "mkv"),
    "mjpeg": ("avi", "mov", "mkv"),
    "msmpeg4": ("avi",),
    "wmv2": ("asf",),
    "flv": ("flv",),
    "snow": ("avi",),
}
_LOSSLESS = (
    ("ffv1", "yuv420p", "mkv"),
    ("ffv1", "bgr0", "mkv"),
    ("ffv1", "gray", "mkv"),
    ("ffv1", "yuv444p16le", "mkv"),
    ("ffv1", "yuva420p", "mkv"),
    ("ffvhuff", "yuv422p", "avi"),
    ("huffyuv", "rgb24", "avi"),
    ("utvideo", "gbrp", "avi"),
    ("magicyuv", "gbrap", "avi"),
    ("png", "rgb24", "mov"),
    ("png", "rgba", "mov"),
    ("png", "gray16be", "mov"),
    ("qtrle", "rgb24", "mov"),
    ("qtrle", "argb", "mov"),
    ("rawvideo", "yuv420p", "avi"),
    ("rawvideo", "rgb24", "mov"),
    ("rawvideo", "yuv420p", "nut"),
    ("rawvideo", "yuv420p", "y4m"),
    ("v210", "yuv422p10le", "mov"),
    ("r210", "gbrp10le", "mov"),
    ("prores_ks", "yuv422p10le", "mov"),
    ("prores_ks", "yuva444p10le", "mov"),
    ("zlib", "bgr24", "avi"),
    ("jpeg2000", "rgb24", "mov"),
    ("libx264rgb", "rgb24", "mkv"),
    ("libx264", "yuv420p10le", "mp4"),
    ("libx264", "yuv422p", "mp4"),
    ("libx264", "yuv444p", "mkv"),
    ("libx264", "gray", "mkv"),
    ("libx264", "yuvj420p", "mp4"),
    ("libx264", "nv12", "mp4"),
    ("libx265", "yuv444p12le", "mp4"),
    ("libx265", "gbrp", "mkv"),
    ("libvpx-vp9", "gbrp", "webm"),
    ("libvpx-vp9", "yuva420p", "webm"),
    ("libsvtav1", "yuv420p10le", "mkv"),
    ("cfhd", "yuv422p10le", "mov"),
)


def codecs() -> Iterator[Case]:
    """What PyAV can encode, in what can hold it."""
    for codec, endings in _ENDINGS.items():
        pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for ending in endings:
            yield f"{codec} in .{ending}", written(Clip(f"clip.{ending}", codec, pixels)), Found()
    for codec, pixels, ending in _LOSSLESS:
        grey = pixels.startswith("gray")
        right = Found(colour=(90, 90, 90) if grey else RED)
        yield f"{codec} {pixels} in .{ending}", written(Clip(f"clip.{ending}", codec, pixels)), right
    yield "animated GIF", lambda folder: clips.animation(folder / "clip.gif", "GIF"), Found()
    yield "animated PNG", lambda folder: clips.animation(folder / "clip.apng", "PNG"), Found()
    soon = Found(seconds=(0.24, 0.32))  # these know 25 frames a second alone, or no times
    yield "dvvideo", written(Clip("clip.dv", "dvvideo", "yuv420p", (720, 576), rate=25)), soon
    yield "mpeg1video in .mpg", written(Clip("clip.mpg", "mpeg1video", rate=25)), soon
    yield "libsvtav1 in .obu", written(Clip("clip.obu", "libsvtav1")), soon


# Sizes, shapes and times


def shapes() -> Iterator[Case]:
    """Sizes, display matrices, and sizes that change midway."""
    for width, height in ((2, 2), (2, 16), (16, 2), (16, 4096), (4096, 16), (64, 50), (66, 48), (1280, 720), (8192, 32)):
        yield f"{width}x{height} pixels", written(Clip("clip.mp4", size=(width, height))), Found(size=(width, height))
    for width, height in ((1, 1), (1, 64), (65, 1), (65, 49), (3, 5), (1, 4096)):
        clip = Clip("clip.mov", "png", "rgb24", size=(width, height))
        yield f"{width}x{height} pixels", written(clip), Found(size=(width, height))
    for degrees in (-90, 90, 180):
        turned = Clip("clip.mp4", prepare=partial(_turn, degrees))
        yield f"turned by {degrees} degrees", written(turned), Found(size=(64, 48) if degrees == 180 else (48, 64))
    mirrored = Clip("clip.mp4", prepare=lambda stream: stream.set_display_matrix([-1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30]))
    yield "mirrored", written(mirrored), Found(size=(64, 48))
    odd = Clip("clip.mp4", prepare=lambda stream: stream.set_display_matrix([46341, 46341, 0, -46341, 46341, 0, 0, 0, 1 << 30]))
    yield "turned by 45 degrees", written(odd), Found()
    none = Clip("clip.mp4", prepare=lambda stream: stream.set_display_matrix([0] * 9))
    yield "a display matrix of zeros", written(none), Found()
    sizes = [(64, 48)] * 2
    yield "two streams in one file", lambda folder: clips.resized(folder, "clip.ts", sizes, "mpegts"), Either()
    for name, changes in (("pictures that change their size", [(64, 48), (96, 64)]), ("pictures that shrink", [(640, 480), (16, 16)])):
        yield name, partial(clips.resized, name="clip.h264", sizes=changes, form="h264"), Either()
    turns = [(64, 48), (48, 64), (64, 48)]
    yield "pictures that turn over", lambda folder: clips.resized(folder, "clip.ts", turns, "mpegts"), Either()


def times() -> Iterator[Case]:
    """Few frames, none, and odd presentation times."""
    one = Found(frames=(0,), seconds=(0, 0.001), colour=BLUE)
    for ending, codec in (("mp4", "libx264"), ("mkv", "ffv1"), ("webm", "libvpx"), ("h264", "libx264"), ("y4m", "rawvideo")):
        name = "one frame" if ending == "mp4" else f"one frame, .{ending}"
        yield name, written(Clip(f"clip.{ending}", codec, frames=1)), one
    yield "two frames", written(Clip("clip.mp4", frames=2)), replace(one, frames=(0, 1), seconds=(0, 0.4))
    for ending in ("mp4", "mkv", "avi", "ts", "y4m"):
        codec = "rawvideo" if ending == "y4m" else "libx264"
        yield f"no frame, .{ending}", written(Clip(f"clip.{ending}", codec, frames=0)), Refused("")
    uneven = [0, 0.04, 0.08, 0.5, 0.51, 1.0, 2.0, 2.5, 7.0, 9.0]
    yield "uneven times", written(Clip("clip.mp4", times=uneven)), Found(seconds=(2.0, 7.0))
    yield "uneven times, .mkv", written(Clip("clip.mkv", times=uneven)), Found(seconds=(2.0, 7.0))
    late = [3.0 + number / FPS for number in range(clips.FRAMES)]
    yield "times that begin late", written(Clip("clip.mkv", times=late)), Found()
    early = [number / FPS - 1 for number in range(clips.FRAMES)]
    yield "times below zero", written(Clip("clip.mkv", times=early)), Either()
    gap = [number / FPS + (3600 if number > 7 else 0) for number in range(clips.FRAMES)]
    yield "a gap of an hour", written(Clip("clip.mp4", times=gap)), Found(seconds=(1.2, 3601.7))
    still = [number / 100_000 for number in range(clips.FRAMES)]
    yield "all within a tenth of a millisecond", written(Clip("clip.mkv", times=still)), Either()
    late_by_a_day = [86_400.0 + number / FPS for number in range(clips.FRAMES)]
    yield "times that begin after a day", written(Clip("clip.ts", times=late_by_a_day)), Found()
    fragments = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    yield "fragments", written(Clip("clip.mp4", file_options=fragments)), Found()
    yield "index at the front", written(Clip("clip.mp4", file_options={"movflags": "faststart"})), Found()
    yield "no duration in the header", written(Clip("clip.webm", "libvpx", file_options={"live": "1"})), Found()
    yield "no index", written(Clip("clip.avi", "mpeg4", change=lambda content: content.replace(b"idx1", b"JUNK"))), Found()
    yield "many pictures between", written(Clip("clip.mp4", options={"bf": "3", "preset": "medium", "g": "250"})), Found()
    yield "interlaced", written(Clip("clip.mp4", options={"x264-params": "tff=1"}, size=(64, 64))), Found()
    yield "each picture a keyframe", written(Clip("clip.mp4", options={"g": "1"})), Found()
    yield "open groups of pictures", written(Clip("clip.ts", options={"x264-params": "open-gop=1:keyint=3:bframes=2", "preset": "medium"})), Found()
    yield "with sound", written(Clip("clip.mp4", sound=True)), Found()
    yield "with sound, .mkv", written(Clip("clip.mkv", sound=True)), Found()


def colours() -> Iterator[Case]:
    """Colour matrices, ranges and transfer functions."""
    for matrix in clips.MATRICES:
        for full in (False, True):
            made = Clip(
                "clip.mkv", pixels="yuv444p", picture=clips.in_matrix(matrix, full_range=full), prepare=clips.labelled(matrix, full_range=full)
            )
            if matrix == 0:  # the planes of RGB are another pixel format to FFmpeg
                made = replace(made, codec="libx264rgb", pixels="rgb24", picture=None, prepare=lambda stream: None)
            yield f"matrix {matrix}, {'full' if full else 'limited'} range", written(made), Found(tolerance=8)
    for matrix in (2, 3, 10, 11, 13, 14, 15, 16, 17, 18, 255):
        odd = Clip("clip.mkv", prepare=clips.labelled(matrix))
        yield f"a picture labelled with matrix {matrix}", written(odd), Found(frames=tuple(range(10)), seconds=None, colour=None)
    for transfer in (4, 8, 14, 16, 18):
        odd = Clip("clip.mkv", prepare=partial(_label_transfer, transfer))
        yield f"transfer {transfer}", written(odd), Found(colour=None)


def _turn(degrees: int, stream: Any) -> None:
    stream.set_display_rotation(degrees)


def _label_transfer(transfer: int, stream: Any) -> None:
    stream.codec_context.color_trc = transfer
