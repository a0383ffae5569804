"""Found frames side by side in one picture, each with a caption."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from act2see.core.plaintext import one_line
from act2see.core.trace import Frame
from act2see.storage.frames import save_picture

_COLUMNS, _WIDTH, _HEIGHT, _GAP, _LINE = 4, 320, 240, 12, 22  # pixels
_TEXT_SIZE = 15
_PAPER, _INK, _GREY = "#ffffff", "#111111", "#666666"


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and the pictures below it, each with its caption."""

    title: str
    pictures: Sequence[tuple[Image.Image, str]]


def draw_sheet(sections: Sequence[Section], path: Path) -> None:
    """Write a PNG or JPEG by the name's ending, four pictures in a row; whole or not at all. Raises `StoreError`.

    The text is set in Pillow's own font, which has unaccented Latin letters only; others are shown as boxes.
    """
    font = ImageFont.load_default(_TEXT_SIZE)
    parts = [[(_small(picture), caption) for picture, caption in one.pictures] for one in sections]
    rows = [max((picture.height for picture, _ in part), default=0) + _LINE + _GAP for part in parts]
    heights = [_LINE + _GAP + -(-len(part) // _COLUMNS) * row for part, row in zip(parts, rows, strict=True)]
    columns = min(_COLUMNS, max((len(part) for part in parts), default=1) or 1)
    sheet = Image.new("RGB", (_GAP + columns * (_WIDTH + _GAP), _GAP + sum(heights)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    top = _GAP
    for section, part, row, height in zip(sections, parts, rows, heights, strict=True):
        draw.text((_GAP, top), _fitting(section.title, font, sheet.width - 2 * _GAP), _INK, font)
        for number, (picture, caption) in enumerate(part):
            left = _GAP + number % _COLUMNS * (_WIDTH + _GAP)
            below = top + _LINE + (1 + number // _COLUMNS) * row - _LINE
            sheet.paste(picture, (left + (_WIDTH - picture.width) // 2, below - picture.height))
            draw.text((left, below + 2), _fitting(caption, font, _WIDTH), _GREY, font)
        top += height
    save_picture(path, Frame(sheet, None))


def _small(picture: Image.Image) -> Image.Image:
    small = picture.convert("RGB")
    small.thumbnail((_WIDTH, _HEIGHT))
    return small


def _fitting(text: str, font: "ImageFont.ImageFont | ImageFont.FreeTypeFont", width: int) -> str:
    """The text in one line; a long one keeps its end, where a file's name and the time are."""
    text = one_line(text)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength("…" + text) > width:
        text = text[1:]
    return "…" + text
