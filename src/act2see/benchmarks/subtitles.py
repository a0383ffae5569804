"""Subtitles as text with times, from the .srt files that come with a data set."""

import html
import re
from dataclasses import dataclass
from pathlib import Path

from act2see.errors import ConfigError

_TIMES = re.compile(r"\s*(?:(\d+):)?(\d{1,2}):(\d{1,2})[,.](\d{1,3})\s*-->\s*(?:(\d+):)?(\d{1,2}):(\d{1,2})[,.](\d{1,3})")
_MARKS = re.compile(r"</?[A-Za-z][^<>]*>|\{\\[^{}]*\}")


@dataclass(frozen=True, slots=True)
class Line:
    """What is said from `start_seconds` to `stop_seconds`."""

    start_seconds: float
    stop_seconds: float
    text: str


def read_srt(path: Path) -> list[Line]:
    """The lines of an .srt file in order of time, without marks of fonts and colours. Raises `ConfigError` for what is none.

    Numbers above the times are not read: many files count wrongly. Blank lines inside a line's text end it, as players do.
    """
    try:
        content = path.read_bytes().decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise ConfigError(f"cannot read the subtitles {path}: {error.strerror}") from error
    lines: list[Line] = []
    for block in re.split(r"\n[ \t]*\n", content.replace("\r\n", "\n").replace("\r", "\n")):
        rows = block.strip("\n").split("\n")
        at = next((number for number, row in enumerate(rows[:2]) if _TIMES.match(row)), None)
        if at is None:
            continue
        times = _TIMES.match(rows[at])
        assert times is not None
        text = " ".join(html.unescape(_MARKS.sub("", " ".join(rows[at + 1 :]))).split())
        if text:
            lines.append(Line(_seconds(times.groups()[:4]), _seconds(times.groups()[4:]), text))
    if not lines and content.strip():
        raise ConfigError(f"{path} holds no subtitles: no line has a time such as 00:01:02,500 --> 00:01:04,000")
    return sorted(lines, key=lambda line: line.start_seconds)


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


def _seconds(parts: tuple[str | None, ...]) -> float:
    hours, minutes, seconds, fraction = (part or "0" for part in parts)
    return int(hours) * 3600 + int(minutes) * 60 + int(seconds) + int(fraction.ljust(3, "0")) / 1000
