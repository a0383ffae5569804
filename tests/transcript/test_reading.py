"""A transcript's sources in order, what is cached of them, and what an interruption keeps."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from act2see.config import WordsConfig
from act2see.core.errors import ConfigError
from act2see.core.trace import Line
from act2see.storage.cache import Cache
from act2see.video import Video
from act2see.video.transcript.formats import chosen_format, write_transcript, written
from act2see.video.transcript.reading import Transcript, check_words, joined, named_sources, read_source, read_transcript
from word_videos import write_talk


class Clock:
    """Reads a line each second, and stops like Ctrl-C where it is told to."""

    name, key, note = "screen:clock", "1", "nothing"

    def __init__(self, stops_at: float | None = None) -> None:
        self.stops_at = stops_at
        self.found: list[Line] = []
        self.begun_after: list[float] = []

    @property
    def lines(self) -> Sequence[Line]:
        return self.found

    def read(self, video: Video, after_seconds: float) -> Iterator[float]:
        self.begun_after.append(after_seconds)
        for second in range(4):
            if second > after_seconds or not after_seconds:
                if second == self.stops_at:
                    raise KeyboardInterrupt
                self.found.append(Line(second, second + 1, f"second {second}", self.name))
                yield float(second)


@pytest.fixture
def talk(tmp_path: Path) -> Video:
    return Video(write_talk(tmp_path / "talk.mp4"))


def test_what_was_read_before_an_interruption_is_not_read_again(talk: Video, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    with pytest.raises(KeyboardInterrupt):
        read_source(Clock(stops_at=2), talk, cache)
    again = Clock()
    lines, note = read_source(again, talk, cache)
    assert again.begun_after == [1.0]
    assert [line.text for line in lines] == [f"second {at}" for at in range(4)]
    assert note is None
    third = Clock()
    assert read_source(third, talk, cache) == (lines, None)
    assert third.begun_after == []


def test_other_settings_are_read_anew_and_damage_is_too(talk: Video, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    read_source(Clock(), talk, cache)
    other = Clock()
    other.key = "2"
    read_source(other, talk, cache)
    assert other.begun_after == [0.0]
    for entry in cache.entries():
        if entry.name.startswith("lines/"):
            cache.write(entry.name, b'{"lines": [')
    damaged = Clock()
    read_source(damaged, talk, cache)
    assert damaged.begun_after == [0.0]


def test_progress_counts_seconds_of_the_video(talk: Video) -> None:
    told: list[tuple[int, int | None, str]] = []
    read_source(Clock(), talk, None, lambda done, total, what: told.append((done, total, what)))
    assert told[0] == (0, 3, "screen of talk.mp4")
    assert told[-1] == (3, 3, "screen of talk.mp4")


def test_a_text_that_goes_on_after_an_interruption_is_one_line() -> None:
    before = [Line(0, 5, "title", "s"), Line(0, 2, "gone", "s")]
    after = [Line(5, 9, "title", "s"), Line(30, 31, "gone", "s")]
    assert joined(before, after) == (Line(0, 9, "title", "s"), Line(0, 2, "gone", "s"), Line(30, 31, "gone", "s"))


def test_sources_and_what_was_not_read_are_named(talk: Video) -> None:
    found = read_transcript(talk, WordsConfig(words_from=("subtitles",)))
    assert found.sources == ("subtitles:stream 1",)
    assert found.notes == ()
    assert named_sources(WordsConfig(words_from=("subtitles", "screen"), screen_fps=2.0)) == "subtitles,screen@2fps"


def test_a_video_without_words_is_no_error(tmp_path: Path) -> None:
    found = read_transcript(Video(write_talk(tmp_path / "a.mp4", [])), WordsConfig(words_from=("subtitles",)))
    assert found.lines == ()
    assert found.notes == ("a.mp4 has no subtitles, and there is no a.srt beside it",)


def test_options_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not used with --words-from subtitles: add speech, or leave it out"):
        check_words(WordsConfig(words_from=("subtitles",), speech_model=tmp_path))
    with pytest.raises(ConfigError, match="--words-from speech needs a model"):
        check_words(WordsConfig(words_from=("speech",)))


TRANSCRIPT = Transcript((Line(0.5, 3661.0015, "a --> b & <c>", "subtitles:x"),), ("subtitles:x",), ("note",))


def test_formats(tmp_path: Path) -> None:
    assert written(TRANSCRIPT, "v.mp4", "srt") == "1\n00:00:00,500 --> 01:01:01,002\na -> b & <c>\n"
    assert written(TRANSCRIPT, "v.mp4", "vtt") == "WEBVTT\n\n00:00:00.500 --> 01:01:01.002\na --&gt; b &amp; &lt;c&gt;\n"
    assert '"sources": ["subtitles:x"], "notes": ["note"], "lines": [{"start_seconds": 0.5' in written(TRANSCRIPT, "v.mp4", "json")
    write_transcript(TRANSCRIPT, tmp_path / "a.vtt", "v.mp4", chosen_format("auto", tmp_path / "a.vtt"))
    assert (tmp_path / "a.vtt").read_text(encoding="utf-8").startswith("WEBVTT")
    with pytest.raises(ConfigError, match=r"its name must end in \.srt, \.vtt, \.json, or give --format"):
        chosen_format("auto", tmp_path / "a.txt")
