"""What is no video, for every command that opens one: one clear line, exit code 1, nothing on stdout, nothing of it in the cache."""

import struct
import wave
import zlib
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from act2see.storage.cache import Cache
from cli_fakes import Act2See, fakes

GREY = ("--retriever", "tiny_encoder:Grey")


def _empty(path: Path, clip: Path) -> None:
    path.touch()


def _text(path: Path, clip: Path) -> None:
    path.write_text("This is the diary of a video that never was.\n" * 50, encoding="utf-8")


def _noise(path: Path, clip: Path) -> None:
    path.write_bytes(np.random.default_rng(7).bytes(200_000))


def _cut(path: Path, clip: Path) -> None:
    whole = clip.read_bytes()
    assert b"moov" not in whole[: len(whole) // 2]  # what names the frames stands at the end
    path.write_bytes(whole[: len(whole) // 2])


def _sound(path: Path, clip: Path) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(16_000))


def _cover(path: Path, clip: Path) -> None:
    """An mp3 with its cover as ID3v2.3's APIC frame."""
    with av.open(str(path), "w", format="mp3") as container:
        stream = container.add_stream("mp3", rate=44_100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 44_100), np.float32), format="fltp", layout="mono")
        frame.rate = 44_100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    picture = _png(2, 2)
    body = b"\0image/png\0\x03\0" + picture
    tag = b"APIC" + struct.pack(">I", len(body)) + b"\0\0" + body
    size = bytes(len(tag) >> shift & 0x7F for shift in (21, 14, 7, 0))
    content = path.read_bytes()
    path.write_bytes(b"ID3\x03\0\0" + size + tag + content[content.index(b"\xff\xfb") :])


def _png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes(3 * width) for _ in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def _huge(path: Path, clip: Path) -> None:
    """A GIF of a few bytes that claims 65535x65535."""
    path.write_bytes(b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0" + b"\xff" * 4 + b"\0\x02\x02\x44\x01\0;")


def _folder(path: Path, clip: Path) -> None:
    path.mkdir()


BAD: dict[str, tuple[Callable[[Path, Path], None] | None, str]] = {
    "nowhere.mp4": (None, "no such file"),
    "folder.mp4": (_folder, "is a folder"),
    "empty.mp4": (_empty, "is empty"),
    "text.mp4": (_text, "cannot be read as a video"),
    "noise.mp4": (_noise, "cannot be read as a video"),
    "cut.mp4": (_cut, "cannot be read as a video"),
    "sound.wav": (_sound, "holds only sound"),
    "cover.mp3": (_cover, "holds only sound"),
    "huge.gif": (_huge, "35,389,440 pixels"),
}
COMMANDS: dict[str, Callable[[str], tuple[str, ...]]] = {
    "ask": lambda video: ("ask", video, "What is it?", *fakes("Looker")),
    "retrieve": lambda video: ("retrieve", video, "grey 120", *GREY, "--out", "found"),
    "index": lambda video: ("index", video, *GREY),
    "ask with the embedded retriever": lambda video: ("ask", video, "What is it?", "--backend", "cli_fakes:Looker"),
    "index as JSON": lambda video: ("index", video, *GREY, "--json"),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", BAD)
def test_bad_input(act2see: Act2See, clip: Path, name: str, command: str) -> None:
    make, said = BAD[name]
    if make:
        make(Path(name), clip)
    done = act2see(*COMMANDS[command](name))
    assert said in done.complaint
    assert name in done.complaint
    assert Cache().entries() == []
    assert not Path("found").exists()
    good = act2see("index", clip, *GREY, "--json")
    assert (good.code, good.out.count("\n")) == (0, 1)
