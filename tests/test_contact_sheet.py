"""A contact sheet: every picture is on it once, whole, and nothing overlaps."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from act2see.core.errors import StoreError
from act2see.report.contact_sheet import Section, draw_sheet

COLOURS = ("#c80000", "#00c800", "#0000c8", "#c8c800", "#00c8c8")


def _pixels(path: Path, colour: str) -> list[tuple[int, int]]:
    """Left, upper, right and lower end of an area of one colour, and that it has no holes."""
    with Image.open(path) as sheet:
        found = (np.asarray(sheet.convert("RGB")) == Image.new("RGB", (1, 1), colour).getpixel((0, 0))).all(axis=2)
    rows, columns = np.flatnonzero(found.any(axis=1)), np.flatnonzero(found.any(axis=0))
    assert found.sum() == len(rows) * len(columns)
    return [(int(columns[0]), int(rows[0])), (len(columns), len(rows))]


def test_every_picture_is_on_the_sheet_in_order(tmp_path: Path) -> None:
    path = tmp_path / "sheet.png"
    pictures = [(Image.new("RGB", (640, 360), colour), f"{colour}.mp4  0:01.000") for colour in COLOURS]
    draw_sheet([Section("five", pictures), Section("tall", [(Image.new("RGB", (300, 900), "#800080"), "x" * 500)])], path)
    areas = [_pixels(path, colour) for colour in COLOURS]
    assert [size for _, size in areas] == [(320, 180)] * 5
    lefts, tops = [left for (left, _), _ in areas], [top for (_, top), _ in areas]
    assert lefts[:4] == sorted(lefts[:4])
    assert lefts[4] == lefts[0]
    assert tops[:4] == [tops[0]] * 4
    assert tops[4] >= tops[0] + 180
    (_, top), size = _pixels(path, "#800080")
    assert size == (80, 240)
    assert top >= tops[4] + 180


def test_captions_are_drawn_below_the_pictures(tmp_path: Path) -> None:
    def dark(caption: str) -> int:
        draw_sheet([Section("", [(Image.new("RGB", (320, 180), "#c80000"), caption)])], tmp_path / "sheet.png")
        with Image.open(tmp_path / "sheet.png") as sheet:
            return int((np.asarray(sheet.convert("L")) < 160)[200:].sum())

    assert dark("clip.mp4") > dark("c") > 0


def test_a_sheet_without_pictures_and_one_that_cannot_be_written(tmp_path: Path) -> None:
    draw_sheet([Section("nothing", [])], tmp_path / "empty.jpg")
    with Image.open(tmp_path / "empty.jpg") as sheet:
        assert sheet.format == "JPEG"
    with pytest.raises(StoreError):
        draw_sheet([Section("nothing", [])], tmp_path / "nowhere" / "sheet.png")
