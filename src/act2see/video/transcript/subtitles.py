"""Reads subtitles as lines with times: from the video's container, and from .srt, .vtt and .ass files. No model is involved."""

import html
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import av
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition

from act2see.core.errors import ConfigError
from act2see.core.plaintext import one_line
from act2see.core.trace import Line
from act2see.video import Video
from act2see.video.files import FORMATS, MAX_PIXELS
from act2see.video.packets import packets_of

MAX_BYTES = 16 << 20
"""Larger files are rejected: a day of speech has less than a tenth of it."""
MAX_CHARACTERS = 2000
"""Of one line; the rest is cut off. Our choice: a screen full of text."""
SUFFIXES = (".srt", ".vtt", ".ass", ".ssa")

# Timestamps without hours, which players accept but FFmpeg's demuxer reads as text. A byte order mark may precede the first.
_NO_HOURS = re.compile(rb"(?:^|(?<=\r))((?:\xef\xbb\xbf)?[ \t]*)(\d{1,2}:\d{1,2}[,.]\d{1,3}[ \t]*-->[ \t]*)(\d+:\d{1,2}:)?", re.MULTILINE)
_MARKS = re.compile(r"</?[A-Za-z][^<>]*>|<\d[\d:.]*>|\{\\[^{}]*\}")
_DRAWING = re.compile(r"\{[^{}]*\\p[1-9][^{}]*\}.*?(?:\{[^{}]*\\p0[^{}]*\}|$)", re.DOTALL)
_BREAKS = re.compile(r"\\[Nnh]")
_FORMATS = {".srt": "srt", ".vtt": "webvtt", ".ass": "ass", ".ssa": "ass"}
_OF_PICTURES = frozenset({"hdmv_pgs_subtitle", "pgssub", "dvd_subtitle", "dvdsub", "dvb_subtitle", "dvbsub", "xsub"})
_OF_TEXT = frozenset({"subrip", "srt", "webvtt", "mov_text", "ass", "ssa", "text"})
_SHORTEST_SECONDS = 0.01  # two cues of mov_text with one start: the first is stored with no duration


@dataclass(frozen=True, slots=True)
class Subtitles:
    """The lines of the first source that has any, in time order; `source` is empty where there is none."""

    lines: tuple[Line, ...]
    source: str
    notes: tuple[str, ...] = ()
    """Subtitles that could not be read, or were not needed, one line each."""


def read_subtitles(video: Video) -> Subtitles:
    """The subtitles of a video: of its own streams, else of a file beside it that is named like it (`talk.srt`, `talk.en.vtt`).

    Times are in seconds on the player's clock. Of several streams the default one is read, then the others until one has lines.
    """
    found, notes = _of_container(video)
    if found is not None:
        return Subtitles(tuple(found), found[0].source, notes)
    for path in beside(video.path):
        try:
            lines = read_file(path)
        except ConfigError as error:
            notes = (*notes, str(error))
            continue
        if lines:
            named = f"subtitles:{one_line(path.name)}"
            return Subtitles(tuple(replace(line, source=named) for line in lines), named, notes)
        notes = (*notes, f"{path.name} has no subtitles")
    return Subtitles((), "", notes)


def beside(video: Path) -> list[Path]:
    """The subtitle files that are named like the video, sorted: `talk.srt` before `talk.en.srt`, .srt before .vtt before .ass."""
    try:
        names = [path for path in video.parent.iterdir() if path.name.startswith(f"{video.stem}.") and path.suffix.lower() in SUFFIXES]
    except OSError:  # the folder may not be listed; the video itself may be opened all the same
        return []
    short = [path for path in names if len(path.name) - len(video.stem) <= 20]  # talk.srt and talk.zh-Hans.srt, but not talk.part2.of.three.srt
    return sorted(short, key=lambda path: (path.name.count("."), SUFFIXES.index(path.suffix.lower()), path.name))


def read_file(path: Path) -> list[Line]:
    """The lines of an .srt, .vtt or .ass file, without formatting. Raises `ConfigError` for a file that is none of these."""
    named = _FORMATS.get(path.suffix.lower())
    if named is None:
        raise ConfigError(f"cannot read the subtitles {path}: known are {', '.join(SUFFIXES)}")
    return read_srt(path) if named == "srt" else _demuxed(path, _content(path), named)


def read_srt(path: Path) -> list[Line]:
    """The subtitles of an .srt file in time order, without formatting tags. Raises `ConfigError` if the file is not SubRip.

    FFmpeg's demuxer splits the file, as in players: blank lines may be missing between subtitles or appear inside one, numbers are ignored, and any
    line ending is accepted.
    """
    return _demuxed(path, _with_hours(_content(path)), "srt")


def _demuxed(path: Path, content: bytes, named: str) -> list[Line]:
    try:
        with av.open(BytesIO(content), "r", format=named, metadata_errors="ignore") as container:
            codec = container.streams[0].codec_context.name if container.streams else named
            packets = [_cue(packet) for packet in container.demux() if packet.size]
    except (FFmpegError, ValueError, IndexError) as error:
        raise ConfigError(f"cannot read the subtitles {path}: {error}") from error
    if not packets and content.strip():
        raise ConfigError(f"{path} contains no subtitles: no line has a timestamp such as 00:01:02,500 --> 00:01:04,000")
    return _lines(packets, codec, "subtitles", 0.0)


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


# Streams of a container


def _of_container(video: Video) -> tuple[list[Line] | None, tuple[str, ...]]:
    """The lines of the first text stream that has some, and what is to be said of the others."""
    # With edit lists applied, FFmpeg reads the text of a cut MP4 seconds too early, though not its pictures.
    options = {"protocol_whitelist": "file", "format_whitelist": FORMATS, "max_pixels": str(MAX_PIXELS)}
    notes: list[str] = []
    try:
        with av.open(
            f"file:{video.path.absolute()}", options=options, container_options={"advanced_editlist": "0"}, metadata_errors="ignore"
        ) as file:
            streams: dict[int, tuple[str, str]] = {}
            for stream in sorted(file.streams, key=_rank):
                if stream.type != "subtitle":
                    continue
                codec = getattr(getattr(stream, "codec_context", None), "name", "unknown")
                language = one_line(str(stream.language or "und"))[:20]
                named = f"stream {stream.index}" + (f" ({language})" if language != "und" else "")
                if codec in _OF_TEXT:
                    streams[stream.index] = (codec, named)
                else:
                    what = "pictures, not text" if codec in _OF_PICTURES else f"of an unknown kind ({codec})"
                    notes.append(f"the subtitles of {named} in {video.path.name} are {what}: they are not read")
            if not streams:
                return None, tuple(notes)
            cues: dict[int, list[_Cue]] = {index: [] for index in streams}
            for packet in packets_of(file.demux([file.streams[index] for index in streams])):
                cues[packet.stream_index].append(_cue(packet))
    except (FFmpegError, ValueError) as error:
        return None, (*notes, f"the subtitles in {video.path.name} cannot be read ({error})")
    for index, (codec, named) in streams.items():
        lines = _lines(cues[index], codec, f"subtitles:{named}", float(video.zero_seconds))
        if lines:
            others = [other for at, (_, other) in streams.items() if at != index and cues[at]]
            notes += [f"{video.path.name} has more subtitles, which are not read: {', '.join(others)}"] if others else []
            return lines, tuple(notes)
        notes.append(f"the subtitles of {named} in {video.path.name} have no text")
    return None, tuple(notes)


def _rank(stream: Any) -> tuple[bool, bool, int]:
    """The default stream comes first, one for the foreign parts alone last."""
    return bool(stream.disposition & Disposition.forced), not stream.disposition & Disposition.default, stream.index


@dataclass(frozen=True, slots=True)
class _Cue:
    start_seconds: float | None
    duration_seconds: float
    content: bytes


def _cue(packet: "Packet[Any]") -> _Cue:
    tick = packet.time_base
    if packet.pts is None or tick is None:
        return _Cue(None, 0.0, b"")
    return _Cue(float(packet.pts * tick), float((packet.duration or 0) * tick), bytes(packet))


def _lines(cues: Sequence[_Cue], codec: str, source: str, start_seconds: float) -> list[Line]:
    """Cues as lines in time order; `start_seconds` is time zero of the player on their clock. What ended before it is left out."""
    lines: list[Line] = []
    for cue in cues:
        text = _text(cue.content, codec)
        if not text or cue.start_seconds is None:
            continue
        start = cue.start_seconds - start_seconds
        if start + cue.duration_seconds >= 0:
            lines.append(Line(round(max(0.0, start), 6), round(start + cue.duration_seconds, 6), text, source))
    lines.sort(key=lambda line: line.start_seconds)
    for at in range(len(lines) - 2, -1, -1):
        line, following = lines[at], lines[at + 1]
        if line.stop_seconds - line.start_seconds < _SHORTEST_SECONDS and following.start_seconds == line.start_seconds:
            lines[at] = replace(line, stop_seconds=following.stop_seconds)
    return lines


def _text(content: bytes, codec: str) -> str:
    if codec == "mov_text":
        length = int.from_bytes(content[:2], "big")
        content = content[2 : 2 + length]
        text = content.decode("utf-16" if content[:2] in (b"\xfe\xff", b"\xff\xfe") else "utf-8", errors="replace")
    else:
        text = content.decode("utf-8", errors="replace")
    if codec in ("ass", "ssa"):
        text = _BREAKS.sub(" ", _DRAWING.sub("", text.split(",", 8)[-1]))
        return clean(_MARKS.sub("", text))
    return clean(html.unescape(_MARKS.sub("", text)))


def clean(text: str) -> str:
    """One line of text that is safe to print, bounded in length."""
    return " ".join(one_line(text).split())[:MAX_CHARACTERS]


def as_text(lines: Sequence[Line]) -> str:
    """One row per line with its start in minutes and seconds: `[1:02] Hello`. Consecutive repetitions are dropped."""
    rows: list[str] = []
    before = None
    for line in lines:
        if line.text != before:
            minutes, seconds = divmod(int(line.start_seconds), 60)
            rows.append(f"[{minutes}:{seconds:02d}] {line.text}")
        before = line.text
    return "\n".join(rows)
