"""Text on the screen: what is searched and read again, what is one line, and what is no text. The reader is a fake that knows the pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from act2see.core.trace import Line
from act2see.video import Video
from act2see.video.transcript.screen import Box, Read, Screen, is_same_text, is_text, reading_order
from word_videos import write_talk

SIZE = (320, 160)
Shown = Sequence[tuple[str, int]]
"""Texts and the rows at which they stand. Each is drawn as bars that only it has."""


class FakeReader:
    """Finds dark rows on white, and reads a text by its pixels."""

    name = "fake"
    texts: ClassVar[dict[str, Read]] = {}
    reads: ClassVar[list[str]] = []
    searches: ClassVar[int] = 0

    @staticmethod
    def key() -> str:
        return "1"

    def find(self, picture: NDArray[np.uint8]) -> Sequence[Box]:
        FakeReader.searches += 1
        dark = (picture.min(axis=2) < 100).any(axis=1)
        edges = np.flatnonzero(np.diff(np.concatenate(([False], dark, [False])).astype(int)))
        return [Box(0, int(top), picture.shape[1], int(stop)) for top, stop in zip(edges[::2], edges[1::2], strict=True)]

    def read(self, picture: NDArray[np.uint8]) -> Read:
        row = picture[picture.shape[0] // 2, :, 0] < 100
        bars = "".join("x" if row[at * 16 + 8] else "." for at in range(SIZE[0] // 16))
        read = FakeReader.texts[bars]
        FakeReader.reads.append(read.text)
        return read


def bars_of(text: str) -> str:
    rng = np.random.default_rng(sum(ord(letter) * 31**at for at, letter in enumerate(text)))
    return "x" + "".join("x" if one else "." for one in rng.integers(0, 2, SIZE[0] // 16 - 1))


def picture(shown: Shown, level: int = 255, confidence: float = 0.9) -> NDArray[np.uint8]:
    image = Image.new("RGB", SIZE, (level, level, level))
    draw = ImageDraw.Draw(image)
    for text, top in shown:
        bars = bars_of(text)
        FakeReader.texts[bars] = Read(text, confidence)
        for at, bar in enumerate(bars):
            if bar == "x":
                draw.rectangle((16 * at, top, 16 * at + 15, top + 15), (0, 0, 0))
    return np.asarray(image)


@pytest.fixture(autouse=True)
def _forget() -> None:
    FakeReader.texts.clear()
    FakeReader.reads.clear()
    FakeReader.searches = 0


def lines(tmp_path: Path, frames: Sequence[NDArray[np.uint8]], after: float = 0.0) -> tuple[list[tuple[float, float, str]], Screen]:
    screen = Screen(FakeReader)
    video = Video(write_talk(tmp_path / "screen.mp4", [], pictures=frames, fps=1))
    assert list(screen.read(video, after)) == [float(at) for at in range(len(frames)) if not after or at > after]
    return [(line.start_seconds, line.stop_seconds, line.text) for line in screen.lines], screen


def test_a_text_that_stands_is_one_line_and_is_read_once(tmp_path: Path) -> None:
    title, other = picture([("Sediment budget", 20)]), picture([("Cliff retreat", 60)])
    found, screen = lines(tmp_path, [title, title, title, other, other])
    assert found == [(0.0, 3.0, "Sediment budget"), (3.0, 5.0, "Cliff retreat")]
    assert FakeReader.reads == ["Sediment budget", "Cliff retreat"]
    assert (screen.frames_searched, FakeReader.searches) == (2, 2)


def test_only_what_is_new_is_read_where_a_part_changes_or_scrolls(tmp_path: Path) -> None:
    first = picture([("one line", 20), ("two lines", 60)])
    added = picture([("one line", 20), ("two lines", 60), ("three lines", 100)])
    scrolled = picture([("two lines", 20), ("three lines", 60)])
    found, _ = lines(tmp_path, [first, added, scrolled])
    assert FakeReader.reads == ["one line", "two lines", "three lines"]
    assert found == [(0.0, 2.0, "one line"), (0.0, 3.0, "two lines"), (1.0, 3.0, "three lines")]


def test_a_command_that_is_typed_on_is_one_line(tmp_path: Path) -> None:
    found, _ = lines(tmp_path, [picture([("git com", 20)]), picture([("git commit", 20)]), picture([("git commit --amend", 20)])])
    assert found == [(0.0, 3.0, "git commit --amend")]


def test_a_command_that_is_typed_on_while_the_window_scrolls_is_one_line(tmp_path: Path) -> None:
    found, _ = lines(tmp_path, [picture([("tar czf results", 100)]), picture([("tar czf results.tar.gz plots", 20), ("$ ls", 60)])])
    assert found == [(0.0, 2.0, "tar czf results.tar.gz plots"), (1.0, 2.0, "$ ls")]


def test_a_text_that_comes_back_is_another_line_without_being_read_again(tmp_path: Path) -> None:
    title, blank = picture([("Sediment budget", 20)]), picture([])
    found, _ = lines(tmp_path, [title, blank, blank, title])
    assert found == [(0.0, 1.0, "Sediment budget"), (3.0, 4.0, "Sediment budget")]
    assert FakeReader.reads == ["Sediment budget"]


def test_words_side_by_side_are_in_reading_order_at_any_size_even_if_slanted() -> None:
    slanted = [Box(20, 48, 80, 64), Box(120, 44, 180, 60), Box(220, 40, 300, 56)]
    below = Box(20, 66, 300, 82)
    for scale in (1, 4):
        boxes = [Box(*(scale * side for side in (box.left, box.top, box.right, box.bottom))) for box in (below, *slanted)]
        assert reading_order(boxes) == [1, 2, 3, 0]
    title, beside = Box(0, 0, 100, 60), [Box(110, 2, 200, 22), Box(105, 30, 200, 50)]
    assert reading_order([beside[1], title, beside[0]]) == [2, 1, 0]
    assert reading_order([]) == []


def test_lines_whose_boxes_overlap_stay_in_order_in_one_column_and_in_two() -> None:
    lefts = (10, 13, 11, 12)
    for height in (24, 34):
        one = [Box(left, 20 * number, 190, 20 * number + height) for number, left in enumerate(lefts)]
        assert reading_order(one) == [0, 1, 2, 3]
        other = [Box(200 + box.left, box.top + 10, 400, box.bottom + 10) for box in one]
        found = reading_order([*one, *other])
        assert [number for number in found if number < 4] == [0, 1, 2, 3]
        assert [number for number in found if number >= 4] == [4, 5, 6, 7]
    table = [Box(100 * column, 30 * row, 100 * column + 80, 30 * row + 20) for row in range(30) for column in range(10)]
    assert reading_order(table[::-1]) == [*range(300)][::-1]


def test_words_that_appear_at_once_are_lines_from_left_to_right(tmp_path: Path) -> None:
    class Words(FakeReader):
        """Two words on one row; the right one's letters are taller."""

        def find(self, picture: NDArray[np.uint8]) -> Sequence[Box]:
            return [Box(160, 18, 320, 38), Box(0, 20, 160, 38)]

        def read(self, picture: NDArray[np.uint8]) -> Read:
            return Read({20: "Friday", 18: "noon"}[picture.shape[0]], 0.9)

    screen = Screen(Words)
    list(screen.read(Video(write_talk(tmp_path / "screen.mp4", [], pictures=[picture([("any", 20)])], fps=1)), 0.0))
    assert [line.text for line in screen.lines] == ["noon", "Friday"]


def test_stray_marks_and_what_is_uncertain_are_no_text() -> None:
    for text in ("口", "0", "- -", "", "...|..", "aaa"):
        assert not is_text(Read(text, 0.99)), text
    assert not is_text(Read("Sediment", 0.4))
    for text in ("84%", "ok", "東京", "$ ls"):
        assert is_text(Read(text, 0.9)), text


def test_two_readings_of_one_text() -> None:
    assert is_same_text("Quarterly Results", "QuarterIy  Results")
    assert is_same_text("git com", "git commit")
    assert not is_same_text("Cliff retreat", "Sea level")
    assert not is_same_text("", "Sea level")


def test_a_screen_without_text_says_so(tmp_path: Path) -> None:
    found, screen = lines(tmp_path, [picture([]), picture([], level=200)])
    assert found == []
    assert screen.note == "no text is seen on the screen of screen.mp4"


def test_a_reading_goes_on_after_a_time(tmp_path: Path) -> None:
    title = picture([("Sediment budget", 20)])
    found, screen = lines(tmp_path, [title, title, title], after=1.0)
    assert found == [(2.0, 3.0, "Sediment budget")]
    assert list(screen.lines) == [Line(2.0, 3.0, "Sediment budget", "screen:fake")]


def test_real_text_is_read_where_the_extra_is_installed(tmp_path: Path) -> None:
    pytest.importorskip("rapidocr")
    ocr = pytest.importorskip("act2see.video.transcript.ocr")
    from PIL import ImageFont

    image = Image.new("RGB", (640, 360), "white")
    ImageDraw.Draw(image).text((40, 120), "Sediment budget 2024", "black", ImageFont.load_default(40))
    screen = Screen(ocr.RapidReader)
    video = Video(write_talk(tmp_path / "a.mp4", [], pictures=[np.asarray(image)] * 3, fps=1))
    assert list(screen.read(video, 0.0)) == [0.0, 1.0, 2.0]
    (line,) = screen.lines
    assert "".join(line.text.split()) == "Sedimentbudget2024"
    assert (line.start_seconds, line.stop_seconds, line.source) == (0.0, 3.0, "screen:rapidocr")
