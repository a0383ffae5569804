"""Reads a data set's .srt subtitles as text with times."""

import html
import re
import stat
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import av
from av.error import FFmpegError

from act2see.core.errors import ConfigError

MAX_BYTES = 16 << 20
"""Larger files are rejected: a day of speech has less than a tenth of it."""

# Timestamps without hours, which players accept but FFmpeg's demuxer reads as text. A byte order mark may precede the first.
_NO_HOURS = re.compile(rb"(?:^|(?<=\r))((?:\xef\xbb\xbf)?[ \t]*)(\d{1,2}:\d{1,2}[,.]\d{1,3}[ \t]*-->[ \t]*)(\d+:\d{1,2}:)?", re.MULTILINE)
_MARKS = re.compile(r"</?[A-Za-z][^<>]*>|\{\\[^{}]*\}")


@dataclass(frozen=True, slots=True)
class Line:
    """A subtitle shown from `start_seconds` to `stop_seconds`."""

    start_seconds: float
    stop_seconds: float
    text: str


def read_srt(path: Path) -> list[Line]:
    """The subtitles of an .srt file in time order, without formatting tags. Raises `ConfigError` if the file is not SubRip.

    FFmpeg's demuxer splits the file, as in players: blank lines may be missing between subtitles or appear inside one, numbers are ignored, and any
    line ending is accepted.
    """
    content = _content(path)
    try:
        with av.open(BytesIO(_with_hours(content)), "r", format="srt") as container:
            packets = [(packet.pts, packet.duration or 0, packet.time_base, bytes(packet)) for packet in container.demux() if packet.size]
    except (FFmpegError, ValueError) as error:
        raise ConfigError(f"cannot read the subtitles {path}: {error}") from error
    lines: list[Line] = []
    for pts, duration, tick, packed in packets:
        text = " ".join(html.unescape(_MARKS.sub("", packed.decode("utf-8", errors="replace"))).split())
        if text and pts is not None and tick is not None:
            lines.append(Line(float(pts * tick), float((pts + duration) * tick), text))
    if not packets and content.strip():
        raise ConfigError(f"{path} contains no subtitles: no line has a timestamp such as 00:01:02,500 --> 00:01:04,000")
    return sorted(lines, key=lambda line: line.start_seconds)


def _with_hours(content: bytes) -> bytes:
    return _NO_HOURS.sub(lambda found: found[1] + b"00:" + found[2] + (found[3] or b"00:"), content)


def _content(path: Path) -> bytes:
    """The file's bytes. Only regular files are opened: reading a pipe could block."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise ConfigError(f"cannot read the subtitles {path}: not a regular file")
        if found.st_size > MAX_BYTES:
            raise ConfigError(f"cannot read the subtitles {path}: {found.st_size:,} bytes; the limit is {MAX_BYTES:,}")
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read the subtitles {path}: {error.strerror}") from error


def as_text(lines: list[Line]) -> str:
    """One row per subtitle with its start in minutes and seconds: `[1:02] Hello`. Consecutive repetitions are dropped."""
    rows: list[str] = []
    before = None
    for line in lines:
        if line.text != before:
            minutes, seconds = divmod(int(line.start_seconds), 60)
            rows.append(f"[{minutes}:{seconds:02d}] {line.text}")
        before = line.text
    return "\n".join(rows)
