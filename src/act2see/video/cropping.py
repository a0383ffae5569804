"""Cropping that the container states, which FFmpeg reads and leaves to the player: MP4's `clap` box and Matroska's `PixelCrop` elements.

Sources: ISO/IEC 14496-12 (4.2, 12.1.4), RFC 8794 (EBML), RFC 9559 (5.1.4.1.28).
"""

import math
import os
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, NamedTuple

from av.container import InputContainer
from av.video.stream import VideoStream

_SAMPLE_ENTRY_BYTES = 78  # a visual sample entry's fields, before its boxes
_SEGMENT, _CLUSTER, _TRACKS, _TRACK, _VIDEO = 0x18538067, 0x1F43B675, 0x1654AE6B, 0xAE, 0xE0
_CROP_BOTTOM, _CROP_TOP, _CROP_LEFT, _CROP_RIGHT = 0x54AA, 0x54BB, 0x54CC, 0x54DD


class Crop(NamedTuple):
    """Pixels to leave out at each side of the decoded picture."""

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0


class _Part(NamedTuple):
    kind: bytes | int
    start: int
    stop: int


def container_crop(path: Path, container: InputContainer, stream: VideoStream, size: tuple[int, int]) -> Crop:
    """The container's cropping of pictures with this width and height; none if it states none, or one that leaves nothing."""
    formats = container.format.name.split(",")
    try:
        with path.open("rb") as file:
            end = os.fstat(file.fileno()).st_size
            if "mov" in formats:
                found = _of_mp4(file, end, stream.id, *size)
            elif "matroska" in formats:
                number = container.streams.video.index(stream)
                found = _of_matroska(file, end, number)
            else:
                return Crop()
    except (struct.error, IndexError, ZeroDivisionError):  # cut off or damaged
        return Crop()
    is_possible = min(found) >= 0 and found.left + found.right < size[0] and found.top + found.bottom < size[1]
    return found if is_possible else Crop()


def _of_mp4(file: BinaryIO, end: int, track_id: int, width: int, height: int) -> Crop:
    for track in _boxes(file, 0, end, b"moov", b"trak"):
        (header,) = _boxes(file, track.start, track.stop, b"tkhd")
        file.seek(header.start)
        fields = file.read(24)
        if struct.unpack_from(">I", fields, 20 if fields[0] == 1 else 12)[0] != track_id:
            continue
        for table in _boxes(file, track.start, track.stop, b"mdia", b"minf", b"stbl", b"stsd"):
            for entry in _parts(file, table.start + 8, table.stop):
                for box in _boxes(file, entry.start + _SAMPLE_ENTRY_BYTES, entry.stop, b"clap"):
                    file.seek(box.start)
                    numbers = struct.unpack(">IIIIiIiI", file.read(32))
                    wide, high, right, down = (Fraction(numbers[at], numbers[at + 1]) for at in (0, 2, 4, 6))
                    left, top = math.floor((width - wide) / 2 + right), math.floor((height - high) / 2 + down)
                    return Crop(left, top, width - left - math.floor(wide), height - top - math.floor(high))
    return Crop()


def _boxes(file: BinaryIO, start: int, stop: int, *kinds: bytes) -> Iterator[_Part]:
    """The boxes at the end of this path of kinds."""
    for part in _parts(file, start, stop):
        if part.kind == kinds[0]:
            if len(kinds) == 1:
                yield part
            else:
                yield from _boxes(file, part.start, part.stop, *kinds[1:])


def _parts(file: BinaryIO, start: int, stop: int) -> Iterator[_Part]:
    """The MP4 boxes between two places, each with its content's place."""
    while start + 8 <= stop:
        file.seek(start)
        header = file.read(16)
        size, kind = struct.unpack_from(">I4s", header)
        length = 8
        if size == 1:
            size, length = struct.unpack_from(">Q", header, 8)[0], 16
        size = size or stop - start  # 0: up to the end
        if size < length:
            return
        yield _Part(kind, start + length, min(stop, start + size))
        start += size


def _of_matroska(file: BinaryIO, end: int, number: int) -> Crop:
    """Of the video track with this number, counted from 0."""
    segment = next(part for part in _elements(file, 0, end) if part.kind == _SEGMENT)
    tracks = next((part for part in _elements(file, segment.start, segment.stop, last=_CLUSTER) if part.kind == _TRACKS), None)
    if tracks is None:
        return Crop()
    videos = [
        video
        for track in _elements(file, tracks.start, tracks.stop)
        if track.kind == _TRACK
        for video in _elements(file, track.start, track.stop)
        if video.kind == _VIDEO
    ]
    found = {}
    for element in _elements(file, videos[number].start, videos[number].stop):
        file.seek(element.start)
        found[element.kind] = int.from_bytes(file.read(min(8, element.stop - element.start)), "big")
    return Crop(*(found.get(kind, 0) for kind in (_CROP_LEFT, _CROP_TOP, _CROP_RIGHT, _CROP_BOTTOM)))


def _elements(file: BinaryIO, start: int, stop: int, last: int | None = None) -> Iterator[_Part]:
    """The EBML elements between two places, before the first one of the kind `last`."""
    while start < stop:
        file.seek(start)
        header = file.read(12)
        kind_length, size_length = 9 - header[0].bit_length(), 0
        kind = int.from_bytes(header[:kind_length], "big")
        if kind == last:
            return
        size_length = 9 - header[kind_length].bit_length()
        size = int.from_bytes(header[kind_length : kind_length + size_length], "big") & ((1 << 7 * size_length) - 1)
        content = start + kind_length + size_length
        is_unknown = size == (1 << 7 * size_length) - 1
        start = stop if is_unknown else content + size
        yield _Part(kind, content, min(stop, start))
