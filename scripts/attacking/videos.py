"""Odd videos through `retrieve` and `ask`: the right frame with its time and colour, or one line that says what is wrong with the file."""

import json
import os
import random
import socket
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from attacking import clips
from attacking.clips import BLUE, FOUND, FPS, RED, Clip
from attacking.fakes import Colour, as_text, mean_colour
from attacking.harness import Ended, Item, act2see, act2see_process, faults

FLAGS = ("--retriever", "attacking.fakes:Colours", "--retrieve-fps", "10", "--select", "argmax", "--json")
MAKES = Callable[[Path], "Path | str"]


@dataclass(frozen=True, slots=True)
class Found:
    """Right is the red frame, at its time and in its colour."""

    frames: tuple[int, ...] = FOUND
    seconds: tuple[float, float] | None = (FOUND[0] / FPS, (FOUND[-1] + 1) / FPS)
    colour: Colour | None = RED
    tolerance: int = 24
    size: tuple[int, int] | None = None
    says: str | None = None
    """A pattern of what is noted."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Right is one line that says this (a pattern)."""

    says: str


@dataclass(frozen=True, slots=True)
class Either:
    """Damaged: right is a frame, or one line."""

    says: str = "."


Right = Found | Refused | Either
Case = tuple[str, MAKES, Right]


def items(seed: int) -> list[Item]:
    """All of them."""
    cases = [*_codecs(), *_shapes(), *_times(), *_colours(), *_no_videos(), *_places(), *_damaged(seed)]
    found = [Item(name, _attack(make, right)) for name, make, right in cases]
    sample = [case for number, case in enumerate(cases) if number % 25 == 7]
    found += [Item(f"{name}, in a process of its own", _attack(make, right, process=True)) for name, make, right in sample]
    return [*found, *(Item(f"{name}, by the embedded models", _embedded(make), limit_seconds=120) for name, make, _ in cases if name in _EMBEDDED)]


# What is right


def _attack(make: MAKES, right: Right, *, process: bool = False) -> Callable[[Path], list[str]]:
    def attack(folder: Path) -> list[str]:
        made = make(folder)
        if isinstance(made, Path) and not os.path.lexists(made):
            return [f"the attack itself failed: there is no {made}"]
        run = act2see_process if process else act2see
        query = as_text(right.colour if isinstance(right, Found) and right.colour else RED)
        found = run("retrieve", made, query, *FLAGS, "--out", folder / "frames")
        asked = run("ask", made, query, *FLAGS, "--backend", "attacking.fakes:Witness", "--generator", "none")
        codes = {Found: (0,), Refused: (1,), Either: (0, 1)}[type(right)]
        said = right.says if not isinstance(right, Either) else None
        wrong = [*faults(found, codes, said), *(f"ask: {one}" for one in faults(asked, codes, said, steps=True))]
        if found.code != asked.code and not isinstance(right, Either):
            wrong.append(f"retrieve ends with {found.code}, ask with {asked.code}")
        if isinstance(right, Found) and not wrong:
            wrong = [*_frame_is_right(found, right), *_answer_is_right(asked, right)]
        elif found.code == 1 and found.out:
            wrong.append("an error, and something on stdout")
        return wrong

    return attack


def _frame_is_right(ended: Ended, right: Found) -> list[str]:
    frame = json.loads(ended.out)["frames"][0]
    wrong = []
    with Image.open(frame["file"]) as picture:
        colour, size = mean_colour(picture.convert("RGB")), picture.size
    if frame["frame_index"] not in right.frames:
        wrong.append(f"frame {frame['frame_index']} where {right.frames} is right")
    if right.seconds is not None and not right.seconds[0] - 0.051 <= frame["seconds"] < right.seconds[1]:
        wrong.append(f"{frame['seconds']} s where {right.seconds} is right")
    if right.colour is not None and not _alike(colour, right.colour, right.tolerance):
        wrong.append(f"colour {colour} where {right.colour} is right")
    if right.size is not None and size != right.size:
        wrong.append(f"{size} pixels where {right.size} is right")
    return wrong


def _answer_is_right(ended: Ended, right: Found) -> list[str]:
    answer = json.loads(ended.out)["answer"]
    colour = tuple(int(part) for part in answer.partition("then ")[2].split()) if "nothing" not in answer else None
    if right.colour is not None and (colour is None or not _alike(colour, right.colour, right.tolerance)):
        return [f"ask: {answer!r} where {right.colour} is right"]
    return []


def _alike(one: Sequence[int], other: Sequence[int], tolerance: int) -> bool:
    return len(one) == len(other) and all(abs(a - b) <= tolerance for a, b in zip(one, other, strict=True))


_EMBEDDED = ("1x1 pixels", "4096x16 pixels", "libx264 in .mp4", "one frame", "pictures that change their size")


def _embedded(make: MAKES) -> Callable[[Path], list[str]]:
    """The embedded models know no such video: an answer, one line, or no answer."""

    def attack(folder: Path) -> list[str]:
        made = make(folder)
        asked = act2see("ask", made, "What colour is the star?", "--choices", "red", "blue", "--json")
        found = act2see("retrieve", made, "the red star", "--json")
        return [*faults(asked, (0, 1, 3), steps=True), *faults(found, (0, 1, 3))]

    return attack


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


def _codecs() -> Iterator[Case]:
    for codec, endings in _ENDINGS.items():
        pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for ending in endings:
            yield f"{codec} in .{ending}", _written(Clip(f"clip.{ending}", codec, pixels)), Found()
    for codec, pixels, ending in _LOSSLESS:
        grey = pixels.startswith("gray")
        right = Found(colour=(90, 90, 90) if grey else RED)
        yield f"{codec} {pixels} in .{ending}", _written(Clip(f"clip.{ending}", codec, pixels)), right
    yield "animated GIF", lambda folder: clips.animation(folder / "clip.gif", "GIF"), Found()
    yield "animated PNG", lambda folder: clips.animation(folder / "clip.apng", "PNG"), Found()
    soon = Found(seconds=(0.24, 0.32))  # these know 25 frames a second alone, or no times
    yield "dvvideo", _written(Clip("clip.dv", "dvvideo", "yuv420p", (720, 576), rate=25)), soon
    yield "mpeg1video in .mpg", _written(Clip("clip.mpg", "mpeg1video", rate=25)), soon
    yield "libsvtav1 in .obu", _written(Clip("clip.obu", "libsvtav1")), soon


def _written(clip: Clip) -> MAKES:
    return clip.write


# Sizes, shapes and times


def _shapes() -> Iterator[Case]:
    for width, height in ((2, 2), (2, 16), (16, 2), (16, 4096), (4096, 16), (64, 50), (66, 48), (1280, 720), (8192, 32)):
        yield f"{width}x{height} pixels", _written(Clip("clip.mp4", size=(width, height))), Found(size=(width, height))
    for width, height in ((1, 1), (1, 64), (65, 1), (65, 49), (3, 5), (1, 4096)):
        clip = Clip("clip.mov", "png", "rgb24", size=(width, height))
        yield f"{width}x{height} pixels", _written(clip), Found(size=(width, height))
    for degrees in (-90, 90, 180):
        turned = Clip("clip.mp4", prepare=lambda stream, degrees=degrees: stream.set_display_rotation(degrees))  # type: ignore[misc]
        yield f"turned by {degrees} degrees", _written(turned), Found(size=(64, 48) if degrees == 180 else (48, 64))
    mirrored = Clip("clip.mp4", prepare=lambda stream: stream.set_display_matrix([-1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30]))
    yield "mirrored", _written(mirrored), Found(size=(64, 48))
    odd = Clip("clip.mp4", prepare=lambda stream: stream.set_display_matrix([46341, 46341, 0, -46341, 46341, 0, 0, 0, 1 << 30]))
    yield "turned by 45 degrees", _written(odd), Found()
    none = Clip("clip.mp4", prepare=lambda stream: stream.set_display_matrix([0] * 9))
    yield "a display matrix of zeros", _written(none), Found()
    sizes = [(64, 48)] * 2
    yield "two streams in one file", lambda folder: clips.resized(folder, "clip.ts", sizes, "mpegts"), Either()
    for name, changes in (("pictures that change their size", [(64, 48), (96, 64)]), ("pictures that shrink", [(640, 480), (16, 16)])):
        yield name, lambda folder, changes=changes: clips.resized(folder, "clip.h264", changes, "h264"), Either()  # type: ignore[misc]
    turns = [(64, 48), (48, 64), (64, 48)]
    yield "pictures that turn over", lambda folder: clips.resized(folder, "clip.ts", turns, "mpegts"), Either()


def _times() -> Iterator[Case]:
    one = Found(frames=(0,), seconds=(0, 0.001), colour=BLUE)
    for ending, codec in (("mp4", "libx264"), ("mkv", "ffv1"), ("webm", "libvpx"), ("h264", "libx264"), ("y4m", "rawvideo")):
        name = "one frame" if ending == "mp4" else f"one frame, .{ending}"
        yield name, _written(Clip(f"clip.{ending}", codec, frames=1)), one
    yield "two frames", _written(Clip("clip.mp4", frames=2)), replace(one, frames=(0, 1), seconds=(0, 0.4))
    for ending in ("mp4", "mkv", "avi", "ts", "y4m"):
        codec = "rawvideo" if ending == "y4m" else "libx264"
        yield f"no frame, .{ending}", _written(Clip(f"clip.{ending}", codec, frames=0)), Refused("")
    uneven = [0, 0.04, 0.08, 0.5, 0.51, 1.0, 2.0, 2.5, 7.0, 9.0]
    yield "uneven times", _written(Clip("clip.mp4", times=uneven)), Found(seconds=(2.0, 7.0))
    yield "uneven times, .mkv", _written(Clip("clip.mkv", times=uneven)), Found(seconds=(2.0, 7.0))
    late = [3.0 + number / FPS for number in range(clips.FRAMES)]
    yield "times that begin late", _written(Clip("clip.mkv", times=late)), Found()
    early = [number / FPS - 1 for number in range(clips.FRAMES)]
    yield "times below zero", _written(Clip("clip.mkv", times=early)), Either()
    gap = [number / FPS + (3600 if number > 7 else 0) for number in range(clips.FRAMES)]
    yield "a gap of an hour", _written(Clip("clip.mp4", times=gap)), Found(seconds=(1.2, 3601.7))
    still = [number / 100_000 for number in range(clips.FRAMES)]
    yield "all within a tenth of a millisecond", _written(Clip("clip.mkv", times=still)), Either()
    late_by_a_day = [86_400.0 + number / FPS for number in range(clips.FRAMES)]
    yield "times that begin after a day", _written(Clip("clip.ts", times=late_by_a_day)), Found()
    fragments = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    yield "fragments", _written(Clip("clip.mp4", file_options=fragments)), Found()
    yield "index at the front", _written(Clip("clip.mp4", file_options={"movflags": "faststart"})), Found()
    yield "no duration in the header", _written(Clip("clip.webm", "libvpx", file_options={"live": "1"})), Found()
    yield "no index", _written(Clip("clip.avi", "mpeg4", change=lambda content: content.replace(b"idx1", b"JUNK"))), Found()
    yield "many pictures between", _written(Clip("clip.mp4", options={"bf": "3", "preset": "medium", "g": "250"})), Found()
    yield "interlaced", _written(Clip("clip.mp4", options={"x264-params": "tff=1"}, size=(64, 64))), Found()
    yield "each picture a keyframe", _written(Clip("clip.mp4", options={"g": "1"})), Found()
    yield "open groups of pictures", _written(Clip("clip.ts", options={"x264-params": "open-gop=1:keyint=3:bframes=2", "preset": "medium"})), Found()
    yield "with sound", _written(Clip("clip.mp4", sound=True)), Found()
    yield "with sound, .mkv", _written(Clip("clip.mkv", sound=True)), Found()


def _colours() -> Iterator[Case]:
    for matrix in clips.MATRICES:
        for full in (False, True):
            made = Clip("clip.mkv", pixels="yuv444p", picture=clips.in_matrix(matrix, full_range=full), prepare=clips.labelled(matrix, full_range=full))
            if matrix == 0:  # the planes of RGB are another pixel format to FFmpeg
                made = replace(made, codec="libx264rgb", pixels="rgb24", picture=None, prepare=lambda stream: None)
            yield f"matrix {matrix}, {'full' if full else 'limited'} range", _written(made), Found(tolerance=8)
    for matrix in (2, 3, 10, 11, 13, 14, 15, 16, 17, 18, 255):
        odd = Clip("clip.mkv", prepare=clips.labelled(matrix))
        yield f"a picture labelled with matrix {matrix}", _written(odd), Found(frames=tuple(range(10)), seconds=None, colour=None)
    for transfer in (4, 8, 14, 16, 18):
        odd = Clip("clip.mkv", prepare=lambda stream, transfer=transfer: setattr(stream.codec_context, "color_trc", transfer))  # type: ignore[misc]
        yield f"transfer {transfer}", _written(odd), Found(colour=None)


# What is no video


def _no_videos() -> Iterator[Case]:
    for ending, codec in (("m4a", "aac"), ("mp4", "aac"), ("mkv", "aac"), ("wav", "pcm_s16le"), ("flac", "flac"), ("ogg", "flac"), ("mp3", "libmp3lame")):
        yield f"sound alone, .{ending}", lambda folder, ending=ending, codec=codec: clips.sound_alone(folder / f"a.{ending}", codec), Refused("only sound")  # type: ignore[misc]
    yield "cover art", _cover_art, Refused("only sound")
    for form, ending in (("PNG", "png"), ("JPEG", "jpg"), ("WEBP", "webp"), ("BMP", "bmp"), ("TIFF", "tiff"), ("PPM", "ppm")):
        yield f"a picture named .{ending}", lambda folder, form=form, ending=ending: clips.picture_file(folder / f"a.{ending}", form), Refused("cannot be read")  # type: ignore[misc]
        yield f"a picture, .{ending}, named .mp4", lambda folder, form=form: clips.picture_file(folder / "a.mp4", form), Refused("cannot be read")  # type: ignore[misc]
    contents = {
        "empty": b"",
        "one byte": b"\0",
        "text": b"This is no video.\n" * 50,
        "zeros": bytes(100_000),
        "ones": b"\xff" * 100_000,
        "HTML": b"<!doctype html><title>404</title>",
        "JSON": b'{"video": "http://127.0.0.1:9/a.mp4"}',
        "a playlist": b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
        "a list of files": b"ffconcat version 1.0\nfile clip.mp4\n",
        "a DASH manifest": b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"></MPD>',
        "SDP": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        "subtitles": b"1\n00:00:01,000 --> 00:00:02,000\nHello\n",
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
        "a shell script": b"#!/bin/sh\necho hello\n",
        "the head of an MP4": b"\0\0\0\x18ftypisom\0\0\2\0isomiso2",
        "the head of a Matroska": b"\x1aE\xdf\xa3\x9fB\x86\x81\x01",
        "the head of an AVI": b"RIFF\x24\0\0\0AVI LIST",
        "an MP4 of boxes that claim too much": b"\0\0\0\x18ftypisom\0\0\2\0isomiso2\xff\xff\xff\xf0moov",
    }
    for name, content in contents.items():
        for ending in ("mp4", "bin"):
            yield f"{name}, .{ending}", _of_bytes(f"a.{ending}", content), Refused("cannot be read|is empty|holds|can be decoded")
    for seed in range(6):
        yield f"noise {seed}", _of_bytes("a.mp4", random.Random(seed).randbytes(5000)), Refused("cannot be read|holds|can be decoded")
    yield "a ZIP", _zip, Refused("cannot be read")


def _of_bytes(name: str, content: bytes) -> MAKES:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def _cover_art(folder: Path) -> Path:
    path = clips.sound_alone(folder / "a.mp3", "libmp3lame")
    path.write_bytes(clips.cover_art(path.read_bytes()))
    return path


def _zip(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "a.mp4", "w") as file:
        file.writestr("clip.mp4", "no video")
    return folder / "a.mp4"


# Names and places


def _places() -> Iterator[Case]:
    def folder_(folder: Path) -> Path:
        (folder / "a.mp4").mkdir()
        return folder / "a.mp4"

    def fifo(folder: Path) -> Path:
        os.mkfifo(folder / "a.mp4")
        return folder / "a.mp4"

    def unix_socket(folder: Path) -> Path:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("a.mp4")
        return folder / "a.mp4"

    def link_to(target: str) -> MAKES:
        def make(folder: Path) -> Path:
            (folder / "a.mp4").symlink_to(target)
            return folder / "a.mp4"

        return make

    def locked(folder: Path) -> Path:
        (path := Clip("a.mp4").write(folder)).chmod(0)
        return path

    yield "a folder", folder_, Refused("is a folder")
    yield "a FIFO", fifo, Refused("no ordinary file")
    yield "a socket", unix_socket, Refused("no ordinary file")
    for device in ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/stdin"):
        yield device, lambda folder, device=device: Path(device), Refused("no ordinary file|is empty|cannot read|no such file")  # type: ignore[misc]
    for target in ("nothing.mp4", "a.mp4", "/dev/zero", "."):
        yield f"a link to {target}", link_to(target), Refused("no such file|cannot read|no ordinary file|is a folder")
    yield "a link to a video", lambda folder: _linked(folder), Found()
    yield "may not be read", locked, Found() if os.geteuid() == 0 else Refused("cannot read")
    names = ("a" * 300 + ".mp4", "x/" * 3000 + "a.mp4", "a\0b.mp4", "a\ud800.mp4", "none.mp4", "a.mp4/b.mp4", "~nobody-at-all/a.mp4", "./-", "pipe:0", "http:x")
    names += ("concat:a.mp4|b.mp4", "file:a.mp4", "data:video/mp4;base64,AAAA", "subfile,,start,0,end,0,,:a.mp4", "lavfi:testsrc", "ftp://127.0.0.1:9/a.mp4")
    for name in names:
        yield f"no file named {name[:20]!r}", lambda folder, name=name: name, Refused("no such file|cannot read|address|option|no file")  # type: ignore[misc]
    for name in ("a b.mp4", "ü.mp4", "日本語 の.mp4", "-a.mp4", "%d.mp4", "a%03d.mp4", "a\nb.mp4", "a\x1b[31m.mp4", "a\u202e.mp4", "[a]*.mp4", "a.mp4.", os.fsdecode(b"\xff.mp4")):
        yield f"a video named {name!r}", lambda folder, name=name: _renamed(folder, name), Found()  # type: ignore[misc]
    yield "a video named without an ending", lambda folder: _renamed(folder, "clip"), Found()
    yield "a video named .txt", lambda folder: _renamed(folder, "clip.txt"), Found()


def _linked(folder: Path) -> Path:
    (folder / "link.mp4").symlink_to(Clip("a.mp4").write(folder))
    return folder / "link.mp4"


def _renamed(folder: Path, name: str) -> Path:
    return Clip("clip.mp4").write(folder).rename(folder / name)


# Damage


def _damaged(seed: int) -> Iterator[Case]:
    bases = (Clip("a.mp4"), Clip("a.mkv"), Clip("a.ts"), Clip("a.avi", "mpeg4"), Clip("a.webm", "libvpx"), Clip("a.mp4", file_options={"movflags": "faststart"}))
    for number, base in enumerate(bases):
        front = ", index at the front" if number == 5 else ""
        for percent in (1, 10, 50, 90, 99):
            yield f"{base.name}{front} cut at {percent} %", _written(replace(base, change=_cut(percent))), Either()
        for turn in range(3):
            yield f"{base.name}{front} with bytes of its head flipped, {turn}", _written(replace(base, change=_flipped(seed, number, turn))), Either()
        yield f"{base.name}{front} with noise behind it", _written(replace(base, change=lambda content: content + random.Random(1).randbytes(5000))), Found()
        yield f"{base.name}{front} with zeros in the middle", _written(replace(base, change=_zeroed)), Either()


def _cut(percent: int) -> Callable[[bytes], bytes]:
    return lambda content: content[: max(1, len(content) * percent // 100)]


def _flipped(seed: int, number: int, turn: int) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        chance, changed = random.Random(f"{seed} {number} {turn}"), bytearray(content)
        for _ in range(4):
            changed[chance.randrange(min(600, len(changed)))] ^= 1 << chance.randrange(8)
        return bytes(changed)

    return change


def _zeroed(content: bytes) -> bytes:
    third = len(content) // 3
    return content[:third] + bytes(third) + content[2 * third :]
