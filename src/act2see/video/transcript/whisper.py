"""Speech recognition by faster-whisper (Whisper in CTranslate2), from a local folder."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from faster_whisper import WhisperModel
from faster_whisper.vad import VadOptions, get_speech_timestamps
from numpy.typing import NDArray

from act2see.core.errors import ConfigError
from act2see.video.transcript.sound import RATE
from act2see.video.transcript.speech import PIECE_SECONDS, Word, check_model
from act2see.video.transcript.subtitles import clean

LIBRARY = f"faster-whisper {version('faster-whisper')}"
_SURE = 0.5
"""A detected language of a lower probability is not taken for the whole video."""


class Whisper:
    """Whisper on the CPU, loaded from a folder. Raises `ConfigError` for a model that cannot be loaded."""

    def __init__(self, folder: Path) -> None:
        check_model(folder)
        try:
            self._model = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=1, local_files_only=True)
        except (RuntimeError, ValueError, OSError) as error:
            raise ConfigError(f"--speech-model {folder} cannot be loaded: {clean(str(error))[:200]}") from error
        self._language: str | None = None

    def pieces(self, sound: NDArray[np.float32]) -> Sequence[tuple[float, float]]:
        """See `Recogniser`."""
        found = get_speech_timestamps(sound, VadOptions(min_silence_duration_ms=300, speech_pad_ms=200, max_speech_duration_s=PIECE_SECONDS))
        return [(piece["start"] / RATE, piece["end"] / RATE) for piece in found]

    def words(self, sound: NDArray[np.float32]) -> Sequence[Word]:
        """See `Recogniser`. Greedy at temperature 0: hotter tries cost minutes on what is no speech."""
        segments, about = self._model.transcribe(
            sound,
            language=self._language,
            temperature=0.0,
            beam_size=1,
            word_timestamps=True,
            condition_on_previous_text=False,
        )
        words = [Word(float(word.start), float(word.end), str(word.word)) for segment in segments for word in segment.words or ()]
        if self._language is None and words and about.language_probability >= _SURE:
            self._language = str(about.language)
        return words
