"""A transcript as a file: SubRip, WebVTT or JSON."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Literal, assert_never

from act2see.core.errors import ConfigError
from act2see.storage.atomic import replace_file, writing
from act2see.video.transcript.reading import Transcript

Format = Literal["srt", "vtt", "json"]
_ENDINGS: dict[str, Format] = {".srt": "srt", ".vtt": "vtt", ".json": "json"}


def chosen_format(named: Literal["auto", "srt", "vtt", "json"], path: Path | None) -> Format:
    """The format to write; `auto` follows the file's name, and is srt without one. Raises `ConfigError` for a name that says nothing."""
    if named != "auto":
        return named
    if path is None:
        return "srt"
    if path.suffix.lower() not in _ENDINGS:
        raise ConfigError(f"cannot tell the format of {path}: its name must end in {', '.join(_ENDINGS)}, or give --format")
    return _ENDINGS[path.suffix.lower()]


def write_transcript(transcript: Transcript, path: Path, video: str, as_format: Format) -> None:
    """Write a file, whole or not at all. Raises `StoreError`."""
    with writing(path):
        replace_file(path, written(transcript, video, as_format).encode())


def written(transcript: Transcript, video: str, as_format: Format) -> str:
    """The whole file. `video` is named in JSON, where sources and notes are as well."""
    match as_format:
        case "srt":
            return _srt(transcript)
        case "vtt":
            return _vtt(transcript)
        case "json":
            lines = [asdict(line) for line in transcript.lines]
            return json.dumps({"video": video, "sources": transcript.sources, "notes": transcript.notes, "lines": lines}) + "\n"
        case _:
            assert_never(as_format)


def _srt(transcript: Transcript) -> str:
    cues = [
        f"{number}\n{_time(line.start_seconds, ',')} --> {_time(line.stop_seconds, ',')}\n{_unbroken(line.text)}\n"
        for number, line in enumerate(transcript.lines, 1)
    ]
    return "\n".join(cues)


def _vtt(transcript: Transcript) -> str:
    cues = ["WEBVTT\n"]
    for line in transcript.lines:
        text = line.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        cues.append(f"{_time(line.start_seconds, '.')} --> {_time(line.stop_seconds, '.')}\n{text}\n")
    return "\n".join(cues)


def _unbroken(text: str) -> str:
    """A line that a reader cannot take for a time: `-->` would begin another cue."""
    return text.replace("-->", "->")


def _time(seconds: float, point: str) -> str:
    whole = max(0, round(seconds * 1000))
    minutes, milliseconds = divmod(whole, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{milliseconds // 1000:02d}{point}{milliseconds % 1000:03d}"
