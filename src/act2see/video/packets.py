"""One walk over a file's packets, without decoding: when each picture is shown, and where decoding can begin."""

import json
import zipfile
import zlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

from act2see.video.bitstream import Scanner

FALLBACK_FPS = 25
"""The rate of a raw stream that states none; FFmpeg's own default."""
KEY, DISCARD, CORRUPT = 4, 8, 16  # marks of a packet, beside those of `bitstream`
NO_TIME = -(1 << 63)  # AV_NOPTS_VALUE

_FORMAT = 1
# What reads the packets: another version may read them otherwise, and so makes its own.
_VERSIONS = f"{_FORMAT} av {av.__version__} libavformat {'.'.join(map(str, av.library_versions['libavformat']))}"
# AVI knows the order of decoding only; what the packets carry as presentation times is wrong where frames are reordered.
_FORMATS_WITHOUT_TIMES = {"avi"}
# The header of these says how long the file is; others' durations are guesses from the bit rate.
_FORMATS_WITH_DURATION = {"mov", "matroska", "flv"}
_MISSING_SECONDS = 0.5  # a header's last rounded-up frame or a subtitle's tail is no damage


@dataclass(frozen=True, slots=True)
class Walk:
    """What the packets of the video stream say, in order of decoding: a file's own words, kept in the cache as they are."""

    pts: NDArray[np.int64]  # presentation times in ticks, or NO_TIME
    dts: NDArray[np.int64]
    lengths: NDArray[np.int64]  # durations in ticks, 0 where not told
    marks: NDArray[np.uint8]  # of `bitstream`, and KEY, DISCARD, CORRUPT
    tick: Fraction  # seconds
    rate: Fraction  # frames a second, for a stream without times
    clocked: bool  # the format tells presentation times
    skips: bool
    doubt: str | None  # why no decode plan may be made
    missing: str | None  # what the header promises and the packets do not hold

    def to_bytes(self) -> bytes:
        """An npz file without pickles."""
        told = [self.clocked, self.skips, self.doubt, self.missing]
        header = json.dumps({"made_by": _VERSIONS, "tick": str(self.tick), "rate": str(self.rate), "told": told})
        buffer = BytesIO()
        np.savez_compressed(buffer, header=np.array(header), pts=self.pts, dts=self.dts, lengths=self.lengths, marks=self.marks)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Walk | None":
        """What `to_bytes` wrote; None for what is damaged or was made by another version, and so has to be made anew."""
        try:
            with np.load(BytesIO(content), allow_pickle=False) as file:
                header = json.loads(str(file["header"]))
                if header["made_by"] != _VERSIONS:
                    return None
                arrays = file["pts"], file["dts"], file["lengths"], file["marks"]
            tick, rate = Fraction(header["tick"]), Fraction(header["rate"])
            clocked, skips, doubt, missing = header["told"]
        except (ValueError, ZeroDivisionError, KeyError, TypeError, OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError):
            return None
        if any(one.shape != (len(arrays[0]),) or one.dtype != kind for one, kind in zip(arrays, (np.int64,) * 3 + (np.uint8,), strict=True)):
            return None
        return cls(*arrays, tick, rate, clocked, skips, doubt, missing)


def packets_of(packets: Iterator["Packet[Any]"]) -> Iterator["Packet[Any]"]:
    """The packets that hold something; a read error ends them, as the end of the file would."""
    try:
        yield from (packet for packet in packets if packet.size)
    except (FFmpegError, IndexError):  # at the end of the file PyAV stumbles over a stream that began in its middle
        return


def tick_of(stream: VideoStream) -> Fraction:
    """The unit of a stream's times, in seconds."""
    return stream.time_base or Fraction(1, av.time_base)


def walk(container: InputContainer, stream: VideoStream) -> Walk:
    """Read every packet once."""
    context = stream.codec_context
    scanner = Scanner(context.codec.canonical_name, context.extradata or b"")
    pts, dts, lengths, marks = array("q"), array("q"), array("q"), array("B")
    spans: dict[int, tuple[int, int]] = {}
    bases: dict[int, Fraction | None] = {}
    doubt = None
    for packet in packets_of(container.demux()):
        at = packet.stream_index
        if packet.pts is not None:
            first, last = spans.get(at, (packet.pts, packet.pts))
            spans[at] = min(first, packet.pts), max(last, packet.pts + (packet.duration or 0))
            if at not in bases:
                bases[at] = packet.stream.time_base
        if at == stream.index:
            if packet.has_sidedata("new_extradata"):
                doubt = "how it is to be decoded changes on the way"
            pts.append(NO_TIME if packet.pts is None else packet.pts)
            dts.append(NO_TIME if packet.dts is None else packet.dts)
            lengths.append(packet.duration or 0)
            told = KEY * packet.is_keyframe | DISCARD * packet.is_discard | CORRUPT * packet.is_corrupt
            marks.append(told | scanner.read(bytes(packet), packet.is_keyframe))
    rate = stream.guessed_rate or stream.average_rate or Fraction(FALLBACK_FPS)
    return Walk(
        pts=np.array(pts, np.int64),
        dts=np.array(dts, np.int64),
        lengths=np.array(lengths, np.int64),
        marks=np.array(marks, np.uint8),
        tick=tick_of(stream),
        rate=rate,
        clocked=container.format.name not in _FORMATS_WITHOUT_TIMES,
        skips=scanner.skips,
        doubt=scanner.doubt or doubt,
        missing=_missing(container, [(first * base, last * base) for at, (first, last) in spans.items() if (base := bases[at]) is not None]),
    )


def _missing(container: InputContainer, spans: Sequence[tuple[Fraction, Fraction]]) -> str | None:
    """What the header promises and the packets do not hold."""
    if not spans or container.duration is None or not _FORMATS_WITH_DURATION & set(container.format.name.split(",")):
        return None
    span = float(max(last for _, last in spans) - min(first for first, _ in spans))
    promised = container.duration / av.time_base
    return f"it ends after {span:.2f} s although its header says {promised:.2f} s" if promised - span > _MISSING_SECONDS else None
