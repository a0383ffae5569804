"""Subtitles as text with times, from the .srt files that come with a data set."""

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
"""Larger files are refused: a day of talk has less than a tenth of it."""

# Times without hours, which players take and FFmpeg's reader would take for text. The mark of a byte order may stand before the first.
_NO_HOURS = re.compile(rb"(?:^|(?<=\r))((?:\xef\xbb\xbf)?[ \t]*)(\d{1,2}:\d{1,2}[,.]\d{1,3}[ \t]*-->[ \t]*)(\d+:\d{1,2}:)?", re.MULTILINE)
_MARKS = re.compile(r"</?[A-Za-z][^<>]*>|\{\\[^{}]*\}")


@dataclass(frozen=True, slots=True)
class Line:
    """What is said from `start_seconds` to `stop_seconds`."""

    start_seconds: float
    stop_seconds: float
    text: str


def read_srt(path: Path) -> list[Line]:
    """The lines of an .srt file in order of time, without marks of fonts and colours. Raises `ConfigError` for what is none.

    FFmpeg's reader decides where a line begins and ends, as it does for players: blank lines may be missing between two of them or stand inside one,
    numbers are not read, and line ends may be of any kind.
    """
    content = _content(path)
    try:
        with av.open(BytesIO(_with_hours(content)), "r", format="srt") as container:
            packets = [(packet.pts, packet.duration or 0, packet.time_base, bytes(packet)) for packet in container.demux() if packet.size]
    except (FFmpegError, ValueError) as error:
        raise ConfigError(f"the subtitles {path} cannot be read: {error}") from error
    lines: list[Line] = []
    for pts, duration, tick, packed in packets:
        text = " ".join(html.unescape(_MARKS.sub("", packed.decode("utf-8", errors="replace"))).split())
        if text and pts is not None and tick is not None:
            lines.append(Line(float(pts * tick), float((pts + duration) * tick), text))
    if not packets and content.strip():
        raise ConfigError(f"{path} holds no subtitles: no line has a time such as 00:01:02,500 --> 00:01:04,000")
    return sorted(lines, key=lambda line: line.start_seconds)


def _with_hours(content: bytes) -> bytes:
    return _NO_HOURS.sub(lambda found: found[1] + b"00:" + found[2] + (found[3] or b"00:"), content)


def _content(path: Path) -> bytes:
    """The file's bytes. Nothing but an ordinary file is opened: a pipe would wait for its other end."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise ConfigError(f"cannot read the subtitles {path}: this is no ordinary file")
        if found.st_size > MAX_BYTES:
            raise ConfigError(f"cannot read the subtitles {path}: {found.st_size:,} bytes; at most {MAX_BYTES:,} are read")
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read the subtitles {path}: {error.strerror}") from error


def as_text(lines: list[Line]) -> str:
    """One row a line with the minute and second at which it begins: `[1:02] Hello`. What is said twice in a row is written once."""
    rows: list[str] = []
    before = None
    for line in lines:
        if line.text != before:
            minutes, seconds = divmod(int(line.start_seconds), 60)
            rows.append(f"[{minutes}:{seconds:02d}] {line.text}")
        before = line.text
    return "\n".join(rows)
