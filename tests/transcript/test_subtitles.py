"""Subtitle files as they are found: fonts, wrong numbers, Windows line ends, and files that are none."""

import itertools
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from act2see.core.errors import ConfigError
from act2see.core.trace import Line
from act2see.video.transcript.subtitles import as_text, read_srt

SRT = """1
00:00:01,000 --> 00:00:02,500
<font color="white" size=".72c">We start &amp; go</font>

1
00:01:05,25 --> 00:01:07,000 X1:10 X2:20
{\\an8}<i>Two</i> rows
of one line, 3 < 4

3
01:00:00.000 --> 01:00:01.000


4
59:59.999 --> 01:00:02.000
The end
"""


def write(tmp_path: Path, text: str, encoding: str = "utf-8") -> Path:
    path = tmp_path / "a.srt"
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_lines_with_their_times_and_without_marks(tmp_path: Path, newline: str, encoding: str) -> None:
    lines = read_srt(write(tmp_path, SRT.replace("\n", newline), encoding))
    assert lines == [
        Line(1.0, 2.5, "We start & go"),
        Line(65.025, 67.0, "Two rows of one line, 3 < 4"),
        Line(3599.999, 3602.0, "The end"),
    ]
    assert as_text(lines) == "[0:01] We start & go\n[1:05] Two rows of one line, 3 < 4\n[59:59] The end"


def test_what_is_said_twice_in_a_row_is_written_once() -> None:
    lines = [Line(0, 1, "a"), Line(1, 2, "a"), Line(2, 3, "b"), Line(3, 4, "a")]
    assert as_text(lines) == "[0:00] a\n[0:02] b\n[0:03] a"


HELLO_BYE = [Line(1.0, 2.5, "Hello"), Line(3.0, 4.0, "Bye")]
AS_FFMPEG = {
    "no blank line between": ("1\n00:00:01,000 --> 00:00:02,500\nHello\n2\n00:00:03,000 --> 00:00:04,000\nBye\n", HELLO_BYE),
    "CR CR LF": ("1\r\r\n00:00:01,000 --> 00:00:02,500\r\r\nHello\r\r\n\r\r\n2\r\r\n00:00:03,000 --> 00:00:04,000\r\r\nBye\r\r\n", HELLO_BYE),
    "no numbers": ("00:00:01,000 --> 00:00:02,500\nHello\n\n00:00:03,000 --> 00:00:04,000\nBye", HELLO_BYE),
    "a blank line inside": (
        "1\n00:00:01,000 --> 00:00:02,500\nHello\n\nthere\n\n2\n00:00:03,000 --> 00:00:04,000\nBye\n",
        [Line(1.0, 2.5, "Hello there"), Line(3.0, 4.0, "Bye")],
    ),
    "a number that is said": (
        "1\n00:00:01,000 --> 00:00:02,500\nIt was\n1984\n\n2\n00:00:03,000 --> 00:00:04,000\nBye\n",
        [Line(1.0, 2.5, "It was 1984"), Line(3.0, 4.0, "Bye")],
    ),
    "a number alone": (
        "1\n00:00:01,000 --> 00:00:02,500\n1984\n2\n00:00:03,000 --> 00:00:04,000\nBye\n",
        [Line(1.0, 2.5, "1984"), Line(3.0, 4.0, "Bye")],
    ),
    "short fields": ("1\n0:0:1.500 --> 0:00:2,050\nHello\n", [Line(1.5, 2.05, "Hello")]),
    "out of order": (
        "1\n00:00:05,000 --> 00:00:06,000\nLater\n\n2\n00:00:01,000 --> 00:00:02,000\nEarlier\n",
        [Line(1.0, 2.0, "Earlier"), Line(5.0, 6.0, "Later")],
    ),
    "nothing said": ("1\n00:00:01,000 --> 00:00:02,000\n\n2\n00:00:03,000 --> 00:00:04,000\nBye\n", [Line(3.0, 4.0, "Bye")]),
    "a hundred hours": ("1\n123:00:01,000 --> 123:00:02,000\nHello\n", [Line(442_801.0, 442_802.0, "Hello")]),
    "cut off": ("1\n00:00:01,000 --> 00:00:02,500\nHello\n\n2\n00:00:03,0", [Line(1.0, 2.5, "Hello 2 00:00:03,0")]),
}


@pytest.mark.parametrize("name", AS_FFMPEG)
def test_lines_are_those_of_ffmpeg(tmp_path: Path, name: str) -> None:
    # What `ffmpeg -f srt -i a.srt -f srt -` (9.0.2) writes.
    text, lines = AS_FFMPEG[name]
    assert read_srt(write(tmp_path, text)) == lines
    assert read_srt(write(tmp_path, text, "utf-8-sig")) == lines
    assert read_srt(write(tmp_path, text, "utf-16")) == lines


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r", "\r\r\n"])
def test_times_without_hours(tmp_path: Path, newline: str) -> None:
    text = "00:01.000 --> 00:02.500\nHello\n\n2\n59:59,999 --> 01:00:04,000\nBye\n".replace("\n", newline)
    for encoding in ("utf-8", "utf-8-sig"):
        assert read_srt(write(tmp_path, text, encoding)) == [Line(1.0, 2.5, "Hello"), Line(3599.999, 3604.0, "Bye")]


def test_ten_thousand_lines(tmp_path: Path) -> None:
    text = "".join(f"{n}\n{n // 3600:02d}:{n // 60 % 60:02d}:{n % 60:02d},000 --> 09:00:00,000\nline {n}\n\n" for n in range(10_000))
    lines = read_srt(write(tmp_path, text))
    assert [(line.start_seconds, line.text) for line in lines] == [(n, f"line {n}") for n in range(10_000)]


@given(st.binary(max_size=200), st.booleans())
def test_no_bytes_stop_the_reader(tmp_path_factory: pytest.TempPathFactory, content: bytes, begins_well: bool) -> None:
    path = tmp_path_factory.mktemp("srt") / "a.srt"
    path.write_bytes((b"1\n00:00:01,000 --> 00:00:02,500\nHello\n\n" if begins_well else b"") + content)
    try:
        assert all(line.text for line in read_srt(path))
    except ConfigError as error:
        assert "\n" not in str(error)  # noqa: PT017


def test_what_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.srt")
    for path in (tmp_path / "pipe.srt", tmp_path, Path("/dev/zero")):
        with pytest.raises(ConfigError, match="not a regular file"):
            read_srt(path)
    monkeypatch.setattr("act2see.video.transcript.subtitles.MAX_BYTES", 10)
    with pytest.raises(ConfigError, match="the limit is 10"):
        read_srt(write(tmp_path, "1\n00:00:01,000 --> 00:00:02,000\nHello"))


def test_what_is_no_subtitle_file(tmp_path: Path) -> None:
    assert read_srt(write(tmp_path, " \n")) == []
    with pytest.raises(ConfigError, match="contains no subtitles"):
        read_srt(write(tmp_path, "<html>not found</html>"))
    with pytest.raises(ConfigError, match="cannot read the subtitles"):
        read_srt(tmp_path / "nowhere.srt")
    assert read_srt(write(tmp_path, "1\n00:00:01,000 --> 00:00:02,000\ncaf\xe9", "latin-1"))[0].text == "caf\ufffd"


@given(st.lists(st.tuples(st.integers(0, 5 * 3600), st.integers(1, 9), st.text("abc d", min_size=1).filter(str.strip)), max_size=8))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, said: list[tuple[int, int, str]]) -> None:
    def clock(seconds: int) -> str:
        return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d},500"

    text = "".join(f"{number}\n{clock(at)} --> {clock(at + length)}\n{words}\n\n" for number, (at, length, words) in enumerate(said))
    in_order = sorted(said, key=lambda one: one[0])
    expected = [Line(at + 0.5, at + length + 0.5, " ".join(words.split())) for (at, length, words), _ in itertools.groupby(in_order)]
    assert read_srt(write(tmp_path_factory.mktemp("srt"), text)) == expected
