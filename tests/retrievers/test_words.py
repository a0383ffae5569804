"""Frames by what is said and written, alone and beside a retriever for what is seen."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from act2see.config import SearchConfig, WordsConfig
from act2see.core.errors import ConfigError, NoFrameError, NoMatchError
from act2see.core.interfaces import Retriever
from act2see.core.trace import Frame, Match
from act2see.registry import check_retriever, encoder, retriever
from act2see.tools.retrievers.fused import FusedRetriever, sureness
from act2see.tools.retrievers.words import WordsRetriever
from act2see.video import Video
from word_videos import write_talk

SUBTITLES = WordsConfig(words_from=("subtitles",))


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Video:
    return Video(write_talk(tmp_path_factory.mktemp("talk") / "talk.mp4"))


class Seer:
    """Finds the frame at one second, with the score that it was given."""

    name = "seer"

    def __init__(self, *, is_fallback: bool = False) -> None:
        self.is_fallback = is_fallback

    def find(self, video: Video, query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
        if query == "nothing":
            raise NoFrameError("no frame")
        return [Frame(Image.new("RGB", (4, 4)), 1.0, 0.3, match=Match(10, is_fallback=self.is_fallback))]


def test_the_frame_is_in_the_lines_time_and_the_line_is_the_evidence(talk: Video) -> None:
    (frame,) = WordsRetriever(SUBTITLES).find(talk, "where she mentions the budget", shown=())
    assert frame.seconds is not None
    assert 1.5 <= frame.seconds <= 2.4
    assert frame.score is not None
    assert 0.5 < frame.score <= 1
    assert frame.match is not None
    assert frame.match.line is not None
    assert (frame.match.line.text, frame.match.line.source) == ("Now to the budget of next year", "subtitles:stream 1")
    assert frame.match.span_seconds == (1.5, 2.4)
    assert frame.match.frame_index == round(10 * frame.seconds)
    assert np.array_equal(np.asarray(frame.image), np.asarray(talk.frame_at(frame.seconds).image))


def test_what_was_shown_is_not_returned_again(talk: Video) -> None:
    words = WordsRetriever(SUBTITLES)
    shown: list[float] = []
    for _ in range(4):
        (frame,) = words.find(talk, "budget", shown=shown)
        assert frame.seconds not in shown
        shown.append(frame.seconds or 0.0)
    with pytest.raises(NoFrameError, match="every frame with words that match has been shown"):
        words.find(talk, "budget", shown=talk.times(10))


def test_nothing_is_returned_where_nothing_matches(talk: Video) -> None:
    with pytest.raises(NoMatchError, match=r"nothing said or written matches \(searched: subtitles:stream 1\)"):
        WordsRetriever(SUBTITLES).find(talk, "a dog", shown=())


def test_a_video_without_words_says_so(tmp_path: Path) -> None:
    silent = Video(write_talk(tmp_path / "silent.mp4", []))
    with pytest.raises(NoMatchError, match=r"there are no words in it; silent\.mp4 has no subtitles, and there is no silent\.srt beside it"):
        WordsRetriever(SUBTITLES).find(silent, "a dog", shown=())


def test_the_surer_of_two_wins(talk: Video) -> None:
    fused = FusedRetriever(WordsRetriever(SUBTITLES), Seer())
    assert fused.find(talk, "the budget of next year", shown=())[0].match.line is not None  # type: ignore[union-attr]
    assert fused.find(talk, "a dog", shown=())[0].seconds == 1.0


def test_where_neither_finds_anything_that_is_raised(talk: Video) -> None:
    with pytest.raises(NoFrameError, match="no frame"):
        FusedRetriever(WordsRetriever(SUBTITLES), Seer()).find(talk, "nothing", shown=())


def test_sureness_is_a_half_at_the_threshold() -> None:
    picture = Image.new("RGB", (1, 1))
    assert sureness(Frame(picture, 0.0, 0.2), 0.2) == 0.5
    assert sureness(Frame(picture, 0.0, 1.0), 0.2) == 1.0
    assert sureness(Frame(picture, 0.0, 0.1), 0.2) == 0.25
    assert sureness(Frame(picture, 0.0, -0.1), -0.2) > 0.5
    assert sureness(Frame(picture, 0.0, 0.3, match=Match(0, is_fallback=True)), None) < 0.5 < sureness(Frame(picture, 0.0), None)


def test_names_of_the_registry() -> None:
    made: Retriever | None = retriever("words+micro", SearchConfig(words_from=("subtitles",)))
    assert isinstance(made, FusedRetriever)
    assert made.name.startswith("words(subtitles)+")
    assert made.encoder is not None
    assert isinstance(retriever("words", SearchConfig(words_from=("subtitles",))), WordsRetriever)
    for wrong in ("words+words", "words+none"):
        with pytest.raises(ConfigError, match=r"words\+ is followed by a retriever for what is seen"):
            check_retriever(wrong)
    with pytest.raises(ConfigError, match="encodes nothing"):
        encoder("words")
    with pytest.raises(ConfigError, match="--words-from speech needs a model"):
        retriever("words", SearchConfig(words_from=("speech",)))
