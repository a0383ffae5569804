"""What is said: pieces of speech are found in the sound first, each is transcribed, and its words become lines with times."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from act2see.core.errors import ConfigError
from act2see.core.trace import Line
from act2see.video import Video
from act2see.video.transcript.sound import RATE, Sound, decode_sound
from act2see.video.transcript.subtitles import clean
from act2see.video.transcript.weights import weights_key

_FILES = ("model.bin", "config.json")
PIECE_SECONDS = 28.0
"""Pieces of speech are put together up to this length: Whisper hears 30 s at once."""
_TOGETHER_SECONDS = 4.0
"""Pieces that are further apart are heard on their own: in long silence Whisper invents words. Our choice."""
_PAUSE_SECONDS, _LINE_SECONDS, _LINE_CHARACTERS = 0.7, 7.0, 90
"""A line ends at a pause, at a sentence's end, or at this length, as subtitles do. Our choice."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word and when it is said, in seconds of the sound that was given."""

    start_seconds: float
    stop_seconds: float
    text: str
    """With the space before it, as Whisper writes words."""


class Recogniser(Protocol):
    """A speech recogniser, for a `Speech`."""

    def pieces(self, sound: NDArray[np.float32]) -> Sequence[tuple[float, float]]:
        """Start and end in seconds of each piece of speech, in time order; the sound has 16,000 values a second."""
        ...

    def words(self, sound: NDArray[np.float32]) -> Sequence[Word]:
        """The words of a piece of at most 30 s."""
        ...


def check_model(folder: Path) -> None:
    """Refuse a folder that is no model of faster-whisper, before it is loaded. Raises `ConfigError`."""
    if not folder.is_dir():
        raise ConfigError(f"--speech-model {folder}: no such folder; give one with a Whisper model for faster-whisper ({' and '.join(_FILES)})")
    missing = [name for name in _FILES if not (folder / name).is_file()]
    if missing:
        raise ConfigError(
            f"--speech-model {folder}: no {' and no '.join(missing)} in it; give a Whisper model in the format of faster-whisper "
            "(ct2-transformers-converter makes one from transformers' format)"
        )


class Speech:
    """The source of what is said: a `Source` of `reading`. `load` makes the recogniser of a folder, once there is sound; `library` is its version."""

    def __init__(self, folder: Path, load: Callable[[Path], Recogniser], library: str) -> None:
        self.folder = folder
        self._load, self._library = load, library
        self._lines: list[Line] = []
        self._note: str | None = None

    @property
    def name(self) -> str:
        """The source's name in each line."""
        return f"speech:{clean(self.folder.name)}"

    @property
    def key(self) -> str:
        """The model's files, and the library."""
        return json.dumps([weights_key(self.folder), self._library])

    @property
    def lines(self) -> Sequence[Line]:
        """What was heard so far."""
        return tuple(self._lines)

    @property
    def note(self) -> str | None:
        """Why nothing was heard."""
        return self._note

    def read(self, video: Video, after_seconds: float) -> Iterator[float]:
        """Transcribe what is said after a time. See `reading.Source`."""
        sound = decode_sound(video)
        if isinstance(sound, str):
            self._note = sound
            return
        recogniser = self._load(self.folder)
        pieces = together(recogniser.pieces(sound.values))
        if not pieces:
            self._note = _why_silent(video, sound)
        for start, stop in pieces:
            if stop <= after_seconds:
                continue
            heard = recogniser.words(sound.values[int(start * RATE) : int(stop * RATE)])
            self._lines.extend(lines_of([_moved(word, start, stop) for word in heard], self.name))
            yield stop
        if not self._lines and not after_seconds and self._note is None:
            self._note = f"no words are heard in the sound of {video.path.name}"


def _why_silent(video: Video, sound: Sound) -> str:
    if np.abs(sound.values).max(initial=0.0) < 1e-3:
        return f"the sound of {video.path.name} is silent"
    return f"no speech is heard in the sound of {video.path.name}, such as in music or noise"


def _moved(word: Word, start: float, stop: float) -> Word:
    """A piece's word on the video's clock; Whisper's times may pass the piece's end."""
    return Word(min(start + word.start_seconds, stop), min(start + word.stop_seconds, stop), word.text)


def together(pieces: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Neighbouring pieces as one, up to what Whisper hears at once: each piece alone would cost as much as 30 s."""
    found: list[tuple[float, float]] = []
    for start, stop in pieces:
        if found and stop - found[-1][0] <= PIECE_SECONDS and start - found[-1][1] <= _TOGETHER_SECONDS:
            found[-1] = (found[-1][0], stop)
        else:
            found.append((start, stop))
    return found


def lines_of(words: Sequence[Word], source: str) -> list[Line]:
    """Words as lines, each as long as a subtitle."""
    lines: list[Line] = []
    current: list[Word] = []
    for at, word in enumerate(words):
        current.append(word)
        following = words[at + 1] if at + 1 < len(words) else None
        text = "".join(one.text for one in current)
        if (
            following is None
            or following.start_seconds - word.stop_seconds > _PAUSE_SECONDS
            or (text.rstrip().endswith((".", "?", "!", "。", "？", "！")) and len(text) > 10)
            or following.stop_seconds - current[0].start_seconds > _LINE_SECONDS
            or len(text) + len(following.text) > _LINE_CHARACTERS
        ):
            if said := clean(text):
                lines.append(Line(round(current[0].start_seconds, 3), round(word.stop_seconds, 3), said, source))
            current = []
    return lines
