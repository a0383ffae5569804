"""One pass over a file's packets, without decoding: timestamps and entry points."""

import json
import zipfile
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from typing import TypeVar

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream
from numpy.typing import NDArray

from act2see.video import clock
from act2see.video.bitstream import Scanner

FALLBACK_FPS = 25
"""Frame rate of raw streams without one; FFmpeg's default."""
KEY, DISCARD, CORRUPT = 4, 8, 16  # packet flags, in addition to those of `bitstream`
NO_TIME = -(1 << 63)  # AV_NOPTS_VALUE

FORMAT = 2
"""Version of a cached scan, part of its key: 2 since a scan states the file's start and end."""
# Cached scans are valid for these versions only: others may demux differently.
_VERSIONS = f"{FORMAT} av {av.__version__} libavformat {'.'.join(map(str, av.library_versions['libavformat']))}"
# AVI stores the decoding order only; with reordered frames, its packets' presentation times are wrong.
_FORMATS_WITHOUT_TIMES = {"avi"}
_S = TypeVar("_S", bound=Stream)


@dataclass(frozen=True, slots=True)
class PacketScan:
    """The packets of the video stream, in decoding order, as the file states them. Cached on disk."""

    pts: NDArray[np.int64]  # presentation times in ticks, or NO_TIME
    dts: NDArray[np.int64]
    lengths: NDArray[np.int64]  # durations in ticks, 0 if unknown
    marks: NDArray[np.uint8]  # flags: those of `bitstream`, and KEY, DISCARD, CORRUPT
    tick: Fraction  # seconds
    rate: Fraction  # frames per second, for streams without timestamps
    start: Fraction | None  # time zero in seconds, as the file counts: see `clock`
    others_end: Fraction | None  # end of the longest other stream of pictures or sound, likewise
    has_pts: bool  # whether the format stores presentation times
    skips: bool  # whether non-reference pictures can be skipped
    doubt: str | None  # why the packets do not allow a decode plan
    missing: str | None  # difference between the header and the packets

    def to_bytes(self) -> bytes:
        """An npz file without pickles."""
        told = [self.has_pts, self.skips, self.doubt, self.missing]
        times = {name: None if value is None else str(value) for name, value in (("start", self.start), ("others_end", self.others_end))}
        header = json.dumps({"made_by": _VERSIONS, "tick": str(self.tick), "rate": str(self.rate), **times, "told": told})
        buffer = BytesIO()
        np.savez_compressed(buffer, header=np.array(header), pts=self.pts, dts=self.dts, lengths=self.lengths, marks=self.marks)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> "PacketScan | None":
        """Inverse of `to_bytes`; None for damaged content and for that of other versions."""
        try:
            with np.load(BytesIO(content), allow_pickle=False) as file:
                header = json.loads(str(file["header"]))
                if header["made_by"] != _VERSIONS:
                    return None
                arrays = file["pts"], file["dts"], file["lengths"], file["marks"]
            tick, rate = Fraction(header["tick"]), Fraction(header["rate"])
            start, others_end = (None if header[name] is None else Fraction(header[name]) for name in ("start", "others_end"))
            has_pts, skips, doubt, missing = header["told"]
        except (ValueError, ZeroDivisionError, KeyError, TypeError, OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError):
            return None
        if any(one.shape != (len(arrays[0]),) or one.dtype != kind for one, kind in zip(arrays, (np.int64,) * 3 + (np.uint8,), strict=True)):
            return None
        return cls(*arrays, tick, rate, start, others_end, has_pts, skips, doubt, missing)


def packets_of(packets: Iterator["Packet[_S]"]) -> Iterator["Packet[_S]"]:
    """The non-empty packets; a read error counts as the end of the file."""
    try:
        yield from (packet for packet in packets if packet.size)
    except (FFmpegError, IndexError):  # IndexError: PyAV, at the end of a file with a stream that starts mid-file
        return


def tick_of(stream: VideoStream) -> Fraction:
    """A stream's time base in seconds."""
    return stream.time_base or Fraction(1, av.time_base)


def scan(container: InputContainer, stream: VideoStream) -> PacketScan:
    """Read all packets once."""
    context = stream.codec_context
    scanner = Scanner(context.codec.canonical_name, context.extradata or b"")
    pts, dts, lengths, marks = array("q"), array("q"), array("q"), array("B")
    spans: dict[int, tuple[int, int]] = {}
    bases: dict[int, Fraction | None] = {}
    doubt = None
    for packet in packets_of(container.demux()):
        at = packet.stream_index
        if packet.pts is not None and not packet.is_discard:  # an edit list hides the others
            first, last = spans.get(at, (packet.pts, packet.pts))
            spans[at] = min(first, packet.pts), max(last, packet.pts + (packet.duration or 0))
            if at not in bases:
                bases[at] = packet.stream.time_base
        if at == stream.index:
            if packet.has_sidedata("new_extradata"):
                doubt = "the decoder parameters change mid-stream"
            pts.append(NO_TIME if packet.pts is None else packet.pts)
            dts.append(NO_TIME if packet.dts is None else packet.dts)
            lengths.append(packet.duration or 0)
            flags = KEY * packet.is_keyframe | DISCARD * packet.is_discard | CORRUPT * packet.is_corrupt
            marks.append(flags | scanner.read(bytes(packet), packet.is_keyframe))
    seconds = {at: (first * base, last * base) for at, (first, last) in spans.items() if (base := bases[at]) is not None}
    rate = stream.guessed_rate or stream.average_rate or Fraction(FALLBACK_FPS)
    return PacketScan(
        pts=np.array(pts, np.int64),
        dts=np.array(dts, np.int64),
        lengths=np.array(lengths, np.int64),
        marks=np.array(marks, np.uint8),
        tick=tick_of(stream),
        rate=rate,
        start=clock.start_of(container),
        others_end=clock.end_of_others(container, seconds, stream.index),
        has_pts=container.format.name not in _FORMATS_WITHOUT_TIMES,
        skips=scanner.skips,
        doubt=scanner.doubt or doubt,
        missing=clock.missing(container, seconds),
    )
