"""Subtitle files as they are found: fonts, wrong numbers, Windows line ends, and files that are none."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from act2see.benchmarks.subtitles import Line, as_text, read_srt
from act2see.errors import ConfigError

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
        Line(65.25, 67.0, "Two rows of one line, 3 < 4"),
        Line(3599.999, 3602.0, "The end"),
    ]
    assert as_text(lines) == "[0:01] We start & go\n[1:05] Two rows of one line, 3 < 4\n[59:59] The end"


def test_what_is_said_twice_in_a_row_is_written_once() -> None:
    lines = [Line(0, 1, "a"), Line(1, 2, "a"), Line(2, 3, "b"), Line(3, 4, "a")]
    assert as_text(lines) == "[0:00] a\n[0:02] b\n[0:03] a"


def test_what_is_no_subtitle_file(tmp_path: Path) -> None:
    assert read_srt(write(tmp_path, " \n")) == []
    with pytest.raises(ConfigError, match="holds no subtitles"):
        read_srt(write(tmp_path, "<html>not found</html>"))
    with pytest.raises(ConfigError, match="cannot read the subtitles"):
        read_srt(tmp_path / "nowhere.srt")
    assert read_srt(write(tmp_path, "1\n00:00:01,000 --> 00:00:02,000\ncaf\xe9", "latin-1"))[0].text == "caf\ufffd"


@given(st.lists(st.tuples(st.integers(0, 5 * 3600), st.integers(1, 9), st.text("abc d", min_size=1).filter(str.strip)), max_size=8))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, said: list[tuple[int, int, str]]) -> None:
    def clock(seconds: int) -> str:
        return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d},500"

    text = "".join(f"{number}\n{clock(at)} --> {clock(at + length)}\n{words}\n\n" for number, (at, length, words) in enumerate(said))
    expected = [Line(at + 0.5, at + length + 0.5, " ".join(words.split())) for at, length, words in sorted(said, key=lambda one: one[0])]
    assert read_srt(write(tmp_path_factory.mktemp("srt"), text)) == expected
