"""Speech: when what is heard was said, and what is said of sound without speech. The recogniser is a fake that hears tones."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from act2see.config import WordsConfig
from act2see.core.errors import ConfigError
from act2see.video import Video
from act2see.video.transcript.reading import read_transcript
from act2see.video.transcript.sound import RATE, Sound, decode_sound
from act2see.video.transcript.speech import Speech, Word, check_model, lines_of, together
from word_videos import write_talk


def tone(*spans: tuple[float, float], seconds: float = 3.0) -> NDArray[np.float32]:
    """Silence with a loud tone in each span."""
    values = np.zeros(round(seconds * RATE), np.float32)
    for start, stop in spans:
        at = np.arange(round(start * RATE), round(stop * RATE))
        values[at] = 0.5 * np.sin(2 * np.pi * 440 * at / RATE)
    return values


class Hearing:
    """Takes each tone for a word."""

    def __init__(self, folder: Path) -> None:
        self.heard: list[float] = []

    def pieces(self, sound: NDArray[np.float32]) -> Sequence[tuple[float, float]]:
        loud = np.abs(sound[: len(sound) // 160 * 160]).reshape(-1, 160).max(axis=1) > 0.2
        edges = np.flatnonzero(np.diff(np.concatenate(([False], loud, [False])).astype(int)))
        return [(start / 100, stop / 100) for start, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)]

    def words(self, sound: NDArray[np.float32]) -> Sequence[Word]:
        return [Word(start, stop + 5.0, f" word{number}") for number, (start, stop) in enumerate(self.pieces(sound))]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny.en"
    folder.mkdir()
    for name in ("model.bin", "config.json"):
        (folder / name).write_bytes(b"{}")
    return folder


def heard(video: Path, model: Path, after: float = 0.0) -> tuple[list[tuple[float, float, str]], str | None]:
    speech = Speech(model, Hearing, "fake 1")
    done = list(speech.read(Video(video), after))
    assert done == sorted(done)
    return [(line.start_seconds, line.stop_seconds, line.text) for line in speech.lines], speech.note


@pytest.mark.parametrize(("begins", "clock"), [(0.0, 0.0), (1.0, 0.0), (0.0, 5.0)])
def test_words_have_the_pictures_times_where_the_sound_or_the_clock_begins_late(tmp_path: Path, model: Path, begins: float, clock: float) -> None:
    sound = tone((0.5, 0.9), seconds=1.5)
    found, note = heard(write_talk(tmp_path / "a.mkv", [], sound=sound, sound_from=begins, starts_at=clock), model)
    ((start, stop, text),) = found
    assert (text, note) == ("word0", None)
    assert start == pytest.approx(begins + 0.5, abs=0.07)
    assert stop == pytest.approx(begins + 0.9, abs=0.07)


def test_opposite_channels_do_not_cancel_out() -> None:
    from act2see.video.transcript.sound import _mono

    values = tone((0.0, 0.1), seconds=0.1)
    assert np.array_equal(_mono(np.stack([values, -values])), values)
    assert np.array_equal(_mono(np.stack([values, values])), values)


@pytest.mark.parametrize(
    ("sound", "said"),
    [
        (None, "a.mkv has no sound"),
        (tone(), "the sound of a.mkv is silent"),
        (0.1 * tone((0.0, 3.0)), "no speech is heard in the sound of a.mkv, such as in music or noise"),
    ],
)
def test_why_nothing_is_heard_is_one_line(tmp_path: Path, model: Path, sound: NDArray[np.float32] | None, said: str) -> None:
    assert heard(write_talk(tmp_path / "a.mkv", [], sound=sound), model) == ([], said)


def test_an_interrupted_transcription_goes_on_after_the_last_piece(tmp_path: Path, model: Path) -> None:
    video = write_talk(tmp_path / "a.mkv", [], sound=tone((0.2, 0.4), (5.6, 5.9), seconds=6.0), seconds=6.0)
    whole, _ = heard(video, model)
    rest, _ = heard(video, model, after=1.0)
    assert [round(start, 1) for start, _, _ in whole] == [0.2, 5.6]
    assert rest == whole[1:]


def test_pieces_are_put_together_up_to_what_is_heard_at_once() -> None:
    assert together([(0, 5), (5.5, 12), (20, 25), (25.2, 40), (40.1, 66)]) == [(0, 12), (20, 40), (40.1, 66)]


def test_lines_end_at_pauses_sentences_and_length() -> None:
    words = [Word(0.1 * at, 0.1 * at + 0.1, f" w{at}") for at in range(10)]
    assert [line.text for line in lines_of([*words, Word(3.0, 3.2, " later")], "speech:a")] == [" ".join(f"w{at}" for at in range(10)), "later"]
    (first, second) = lines_of([Word(0, 1, " This is it."), Word(1, 2, " Now that")], "speech:a")
    assert (first.text, second.text) == ("This is it.", "Now that")
    long = lines_of([Word(at, at + 1, " word") for at in range(20)], "speech:a")
    assert max(line.stop_seconds - line.start_seconds for line in long) <= 7.0


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path, model: Path) -> None:
    check_model(model)
    with pytest.raises(ConfigError, match="no such folder; give one with a Whisper model"):
        check_model(tmp_path / "nowhere")
    (model / "model.bin").unlink()
    with pytest.raises(ConfigError, match=r"no model\.bin in it; give a Whisper model in the format of faster-whisper"):
        check_model(model)


def test_the_missing_extra_is_named(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    monkeypatch.delitem(sys.modules, "act2see.video.transcript.whisper", raising=False)
    video = Video(write_talk(tmp_path / "a.mkv", []))
    with pytest.raises(ConfigError, match=r"--speech-model needs faster_whisper: pip install 'act2see\[speech\]'"):
        read_transcript(video, WordsConfig(speech_model=model))


def test_a_file_without_sound_says_so_and_sound_is_placed(tmp_path: Path) -> None:
    assert decode_sound(Video(write_talk(tmp_path / "a.mkv", []))) == "a.mkv has no sound"
    found = decode_sound(Video(write_talk(tmp_path / "b.mkv", [], sound=tone((0.0, 1.0), seconds=1.0), sound_from=2.0)))
    assert isinstance(found, Sound)
    assert np.abs(found.values[: round(1.9 * RATE)]).max() == 0.0
    assert np.abs(found.values[round(2.1 * RATE) :]).max() > 0.3
