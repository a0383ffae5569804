"""The transcript of a video: its sources read in order, each with progress, and cached as far as it was read."""

import hashlib
import importlib
import importlib.util
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Protocol

from act2see.config import WordsConfig
from act2see.core.errors import ConfigError
from act2see.core.naming import importing
from act2see.core.trace import Line
from act2see.execution.progress import ProgressCallback
from act2see.storage.cache import Cache
from act2see.video import Video
from act2see.video.transcript.screen import Screen
from act2see.video.transcript.speech import Speech, check_model
from act2see.video.transcript.subtitles import read_subtitles

_log = logging.getLogger(__name__)
_FORMAT = 1
_CHECKPOINT_SECONDS = 20.0
"""Work between two checkpoints in the cache. Our choice."""
_JOINED_SECONDS = 2.5
"""The same text that stops and starts again within this time is one line: where an interrupted reading went on."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """What is said and written in a video."""

    lines: tuple[Line, ...]
    """In time order; each names its source."""
    sources: tuple[str, ...]
    """The sources that gave lines, in the order in which they were read."""
    notes: tuple[str, ...] = ()
    """One line for each source that gave nothing or was not read, and why."""


class Source(Protocol):
    """Something that reads a video from start to end."""

    @property
    def name(self) -> str:
        """The source's name in each line, such as `screen:rapidocr`."""
        ...

    @property
    def key(self) -> str:
        """Everything that decides what it reads, for the cache: settings, weights and versions."""
        ...

    @property
    def lines(self) -> Sequence[Line]:
        """What was read so far."""
        ...

    @property
    def note(self) -> str | None:
        """Why there is nothing, in one line, once it has read the whole video."""
        ...

    def read(self, video: Video, after_seconds: float) -> Iterator[float]:
        """Read what comes after a time; yields the time in seconds up to which everything is read."""
        ...


def read_transcript(
    video: Video, options: WordsConfig | None = None, cache: Cache | None = None, progress: ProgressCallback | None = None
) -> Transcript:
    """Read what is said and written in a video, by `options.words_from`.

    By default: its subtitles; if it has none, its speech, if `options.speech_model` is given; and the text on the screen, if the extra `text` is
    installed. `progress` counts seconds of video. With a cache, what an interrupted call has read is not read again. Raises `ConfigError` for a
    source that is named and cannot be used, and `VideoError`.
    """
    options = options or WordsConfig()
    check_words(options)
    lines: list[Line] = []
    sources: list[str] = []
    notes: list[str] = []
    named = options.words_from
    if not named or "subtitles" in named:
        found = read_subtitles(video)
        lines += found.lines
        sources += [found.source] if found.source else []
        notes += found.notes or (() if found.source else (f"{video.path.name} has no subtitles, and there is no {video.path.stem}.srt beside it",))
    if "speech" in named or (not named and not sources and options.speech_model is not None):
        _add(_speech(options), video, cache, progress, lines, sources, notes)
    elif not named and not sources:
        notes.append("speech was not transcribed: give --speech-model DIR, a folder with a Whisper model for faster-whisper")
    if "screen" in named or (not named and _is_installed("rapidocr")):
        _add(_screen(options), video, cache, progress, lines, sources, notes)
    elif not named:
        notes.append("text on the screen was not read: pip install 'act2see[text]'")
    # What begins at once stays in its source's order: a screen's texts from top to bottom, whichever of them is gone first.
    return Transcript(tuple(sorted(lines, key=lambda line: line.start_seconds)), tuple(sources), tuple(notes))


def check_words(options: WordsConfig) -> None:
    """Refuse what cannot be read with, before a video is opened. Raises `ConfigError`."""
    model = options.speech_model
    if model is not None and options.words_from and "speech" not in options.words_from:
        raise ConfigError(f"--speech-model {model} is not used with --words-from {' '.join(options.words_from)}: add speech, or leave it out")
    if "speech" in options.words_from and model is None:
        raise ConfigError("--words-from speech needs a model: --speech-model DIR, a folder with a Whisper model for faster-whisper")
    if model is not None:
        check_model(model)
        with importing("--speech-model"):
            importlib.import_module("act2see.video.transcript.whisper")
    if "screen" in options.words_from:
        with importing("--words-from screen"):
            importlib.import_module("act2see.video.transcript.ocr")


def named_sources(options: WordsConfig) -> str:
    """What the options read, in one word for a trace's metadata, such as `subtitles,speech:tiny.en,screen@1fps`."""
    speech = "speech" if options.speech_model is None else f"speech:{options.speech_model.name}"
    screen = f"screen@{options.screen_fps:g}fps"
    if options.words_from:
        return ",".join({"subtitles": "subtitles", "speech": speech, "screen": screen}[one] for one in options.words_from)
    parts = ["subtitles", *([speech] if options.speech_model is not None else []), *([screen] if _is_installed("rapidocr") else [])]
    return ",".join(parts)


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None and (module != "rapidocr" or importlib.util.find_spec("onnxruntime") is not None)


def _speech(options: WordsConfig) -> Source:
    assert options.speech_model is not None
    with importing("--speech-model"):
        from act2see.video.transcript.whisper import LIBRARY, Whisper
    return Speech(options.speech_model, Whisper, LIBRARY)


def _screen(options: WordsConfig) -> Source:
    with importing("text on the screen"):
        from act2see.video.transcript.ocr import RapidReader
    return Screen(RapidReader, options.screen_fps)


def _add(
    source: Source,
    video: Video,
    cache: Cache | None,
    progress: ProgressCallback | None,
    lines: list[Line],
    sources: list[str],
    notes: list[str],
) -> None:
    found, note = read_source(source, video, cache, progress)
    lines += found
    if found:
        sources.append(source.name)
    elif note:
        notes.append(note)


# One source


@dataclass(frozen=True, slots=True)
class _Kept:
    """What is read of a source so far; `done_seconds` is None once it is read whole."""

    done_seconds: float | None
    lines: tuple[Line, ...]
    note: str | None

    def to_bytes(self) -> bytes:
        rows = [[line.start_seconds, line.stop_seconds, line.text, line.source] for line in self.lines]
        return json.dumps({"done_seconds": self.done_seconds, "lines": rows, "note": self.note}).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> "_Kept | None":
        """None for damaged content."""
        try:
            record = json.loads(content)
            lines = tuple(Line(float(start), float(stop), str(text), str(source)) for start, stop, text, source in record["lines"])
            return cls(None if record["done_seconds"] is None else float(record["done_seconds"]), lines, record["note"])
        except (ValueError, TypeError, KeyError, RecursionError):
            return None


def read_source(
    source: Source, video: Video, cache: Cache | None = None, progress: ProgressCallback | None = None
) -> tuple[tuple[Line, ...], str | None]:
    """The lines of one source, from the cache as far as they are there, and a note where there are none.

    What is read is cached every 20 seconds of work and when the call is interrupted. Waits for another process that reads the same.
    """
    key = hashlib.sha256(json.dumps([_FORMAT, video.digest, source.name, source.key]).encode()).hexdigest()[:32]
    name = f"lines/{video.digest[:32]}-{key}.json"
    waiting = f"another process is reading {video.path.name}; waiting for it"
    kept = _load(cache, name)
    if kept is None or kept.done_seconds is not None:
        with cache.lock(name, lambda: _log.warning("%s", waiting)) if cache else nullcontext():
            kept = _load(cache, name)
            if kept is None or kept.done_seconds is not None:
                kept = _read(source, video, kept or _Kept(0.0, (), None), lambda now: _store(cache, name, video, now), progress)
    return kept.lines, kept.note


def _read(source: Source, video: Video, kept: _Kept, store: Callable[[_Kept], Any], progress: ProgressCallback | None) -> _Kept:
    what, total = f"{source.name.partition(':')[0]} of {video.path.name}", int(video.duration_seconds)
    done = after = kept.done_seconds or 0.0
    if progress is not None:
        progress(int(done), total, what)
    stored = time.monotonic()
    is_whole = False
    try:
        for done in source.read(video, after):
            if progress is not None:
                progress(min(total, int(done)), total, what)
            if time.monotonic() - stored > _CHECKPOINT_SECONDS:
                store(_Kept(done, joined(kept.lines, source.lines), None))
                stored = time.monotonic()
        is_whole = True
    finally:  # Ctrl-C, too
        found = joined(kept.lines, source.lines)
        result = _Kept(None, found, None if found else source.note) if is_whole else _Kept(done, found, None)
        if is_whole or done > after:
            store(result)
    return result


def joined(before: Sequence[Line], after: Sequence[Line]) -> tuple[Line, ...]:
    """The lines of two parts of a video; a text that stood when the first part ended, and stands when the second begins, is one line."""
    lines = list(before)
    ends = {line.text: at for at, line in enumerate(lines)}
    for line in after:
        at = ends.get(line.text)
        if at is not None and lines[at].source == line.source and 0 <= line.start_seconds - lines[at].stop_seconds <= _JOINED_SECONDS:
            lines[at] = replace(lines[at], stop_seconds=line.stop_seconds)
        else:
            lines.append(line)
    return tuple(lines)


def _load(cache: Cache | None, name: str) -> _Kept | None:
    content = cache.read(name) if cache else None
    return None if content is None else _Kept.from_bytes(content)


def _store(cache: Cache | None, name: str, video: Video, kept: _Kept) -> None:
    if cache is not None:
        cache.label(video.digest, video.path.name)
        cache.write(name, kept.to_bytes())
