"""What is no video, what has an odd name or place, and what is damaged."""

import os
import random
import socket
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from attacking import clips
from attacking.clips import Clip
from attacking.right import Case, Either, Found, Makes, Refused, written

# What is no video


def no_videos() -> Iterator[Case]:
    """Files that hold no video, whatever they are called."""
    for ending, codec in (
        ("m4a", "aac"),
        ("mp4", "aac"),
        ("mkv", "aac"),
        ("wav", "pcm_s16le"),
        ("flac", "flac"),
        ("ogg", "flac"),
        ("mp3", "libmp3lame"),
    ):
        yield f"sound alone, .{ending}", partial(_sound, f"a.{ending}", codec), Refused("only sound")
    yield "cover art", _cover_art, Refused("only sound")
    for form, ending in (("PNG", "png"), ("JPEG", "jpg"), ("WEBP", "webp"), ("BMP", "bmp"), ("TIFF", "tiff"), ("PPM", "ppm")):
        yield f"a picture named .{ending}", partial(_picture, f"a.{ending}", form), Refused("cannot be read")
        yield f"a picture, .{ending}, named .mp4", partial(_picture, "a.mp4", form), Refused("cannot be read")
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


def _sound(name: str, codec: str, folder: Path) -> Path:
    return clips.sound_alone(folder / name, codec)


def _picture(name: str, form: str, folder: Path) -> Path:
    return clips.picture_file(folder / name, form)


def _as_given(named: Path | str, folder: Path) -> Path | str:
    return named


def _of_bytes(name: str, content: bytes) -> Makes:
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


def places() -> Iterator[Case]:
    """What is no ordinary file."""

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

    def link_to(target: str) -> Makes:
        def make(folder: Path) -> Path:
            (folder / "a.mp4").symlink_to(target)
            return folder / "a.mp4"

        return make

    def locked(folder: Path) -> Path:
        (path := Clip("a.mp4").write(folder)).chmod(0)
        return path

    yield "a folder", folder_, Refused("is a folder")
    yield "a FIFO", fifo, Refused("not a regular file")
    yield "a socket", unix_socket, Refused("not a regular file")
    for device in ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/stdin"):
        yield device, partial(_as_given, Path(device)), Refused("not a regular file|is empty|cannot read|no such file")
    for target in ("nothing.mp4", "a.mp4", "/dev/zero", "."):
        yield f"a link to {target}", link_to(target), Refused("no such file|cannot read|not a regular file|is a folder")
    yield "a link to a video", _linked, Found()
    yield "may not be read", locked, Found() if os.geteuid() == 0 else Refused("cannot read")


def odd_names() -> Iterator[Case]:
    """Names of no file that a library might open all the same, and of videos."""
    names: tuple[str, ...] = (
        "a" * 300 + ".mp4",
        "x/" * 3000 + "a.mp4",
        "a\0b.mp4",
        "a\ud800.mp4",
        "none.mp4",
        "a.mp4/b.mp4",
        "~nobody-at-all/a.mp4",
        "./-",
        "pipe:0",
        "http:x",
    )
    names += (
        "concat:a.mp4|b.mp4",
        "file:a.mp4",
        "data:video/mp4;base64,AAAA",
        "subfile,,start,0,end,0,,:a.mp4",
        "lavfi:testsrc",
        "ftp://127.0.0.1:9/a.mp4",
    )
    for name in names:
        yield f"no file named {name[:20]!r}", partial(_as_given, name), Refused("no such file|cannot read|address|option|no file")
    for name in (
        "a b.mp4",
        "ü.mp4",
        "日本語 の.mp4",
        "-a.mp4",
        "%d.mp4",
        "a%03d.mp4",
        "a\nb.mp4",
        "a\x1b[31m.mp4",
        "a\u202e.mp4",
        "[a]*.mp4",
        "a.mp4.",
        os.fsdecode(b"\xff.mp4"),
    ):
        yield f"a video named {name!r}", partial(_renamed, name), Found()
    yield "a video named without an ending", partial(_renamed, "clip"), Found()
    yield "a video named .txt", partial(_renamed, "clip.txt"), Found()


def _linked(folder: Path) -> Path:
    (folder / "link.mp4").symlink_to(Clip("a.mp4").write(folder))
    return folder / "link.mp4"


def _renamed(name: str, folder: Path) -> Path:
    return Clip("clip.mp4").write(folder).rename(folder / name)


# Damage


def damaged(seed: int) -> Iterator[Case]:
    """Cut, flipped and overwritten files; which bytes, the seed says."""
    bases = (
        Clip("a.mp4"),
        Clip("a.mkv"),
        Clip("a.ts"),
        Clip("a.avi", "mpeg4"),
        Clip("a.webm", "libvpx"),
        Clip("a.mp4", file_options={"movflags": "faststart"}),
    )
    for number, base in enumerate(bases):
        front = ", index at the front" if number == 5 else ""
        for percent in (1, 10, 50, 90, 99):
            yield f"{base.name}{front} cut at {percent} %", written(replace(base, change=_cut(percent))), Either()
        for turn in range(3):
            yield f"{base.name}{front} with bytes of its head flipped, {turn}", written(replace(base, change=_flipped(seed, number, turn))), Either()
        yield (
            f"{base.name}{front} with noise behind it",
            written(replace(base, change=lambda content: content + random.Random(1).randbytes(5000))),
            Found(),
        )
        yield f"{base.name}{front} with zeros in the middle", written(replace(base, change=_zeroed)), Either()


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
