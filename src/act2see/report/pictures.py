"""The pictures of a page: each distinct one is scaled and encoded once, however often it is shown."""

import base64
import hashlib
import re
from dataclasses import dataclass
from io import BytesIO

from markupsafe import Markup, escape
from PIL import Image

from act2see.storage.image_metadata import Kind, imagined_metadata

_JPEG_QUALITY = 82
_DRAWN_COLOURS = 256  # more colours mean a photograph, which as a lossless PNG would be larger than as a JPEG


# HTML allows no control characters and UTF-8 no lone surrogates; bidirectional overrides could make a text look like another one.
_NOT_FOR_A_PAGE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def clean(text: str) -> str:
    """The text without characters that a page must not hold: control characters, lone surrogates and bidirectional overrides."""
    return _NOT_FOR_A_PAGE.sub("", text)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bounds on the pictures of a page: longest sides in pixels, and how many initial frames are shown (evenly chosen)."""

    inserted_pixels: int = 640
    initial_pixels: int = 320
    max_initial: int = 64


PAGE = Sizes()
"""A report with 64 initial frames stays below about 2 MB. Our choice."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A place where a picture is shown. `name` is its id in the page; `width` and `height` are the original's, in pixels."""

    name: str
    width: int
    height: int

    @property
    def ratio(self) -> str:
        """Width by height, as CSS takes it."""
        return f"{self.width / self.height:.4f}"

    @property
    def box(self) -> str:
        """The picture's own coordinates, as an SVG's viewBox."""
        return f"0 0 {self.width} {self.height}"

    def svg(self, alt: str) -> Markup:
        """The element that shows it, for a reader's eyes and, by `alt`, ears."""
        said = escape(clean(alt))
        start = f'<svg class="image" style="--ratio:{self.ratio}" viewBox="{self.box}" role="img" aria-label="'
        return Markup(f'{start}{said}"><title>{said}</title><use href="#{self.name}"/></svg>')


@dataclass(frozen=True, slots=True)
class Embedded:
    """A picture as the page carries it: a data URL, and its size in pixels after scaling."""

    name: str
    width: int
    height: int
    url: str

    @property
    def symbol(self) -> Markup:
        """The element that a page uses wherever it shows the picture. All its parts are made here: digests, numbers, base64."""
        size = f"{self.width} {self.height}"
        inner = f'<image width="{self.width}" height="{self.height}" href="{self.url}"/>'
        return Markup(f'<symbol id="{self.name}" viewBox="0 0 {size}">{inner}</symbol>')


class Album:
    """Collects the pictures of one page. A picture's name is a digest of its content, so pages that share a document never mix theirs up."""

    def __init__(self, sizes: Sizes = PAGE) -> None:
        self.sizes = sizes
        self._images: dict[str, tuple[Image.Image, int, bool]] = {}

    def add(self, image: Image.Image, longest_side: int, *, imagined: bool = False) -> Picture:
        """Show a picture with at most `longest_side` pixels; one that is already there is kept once, at the larger of its sizes.

        A generated picture is never the same as a real one, and its file's metadata says what it is.
        """
        image = image if image.mode == "RGB" else image.convert("RGB")
        name = f"picture-{hashlib.sha256(f'{image.size} {imagined}'.encode() + image.tobytes()).hexdigest()[:20]}"
        before = self._images[name][1] if name in self._images else 0
        self._images[name] = (image, max(before, longest_side), imagined)
        return Picture(name, *image.size)

    def embedded(self) -> tuple[Embedded, ...]:
        """All pictures, scaled and encoded, in the order in which they were first shown."""
        return tuple(_embed(name, *kept) for name, kept in self._images.items())


def _embed(name: str, image: Image.Image, longest_side: int, imagined: bool) -> Embedded:
    small = image.copy()
    small.thumbnail((longest_side, longest_side))
    kind, data = "jpeg", _encoded(small, "JPEG", imagined)
    if small.getcolors(_DRAWN_COLOURS) is not None and len(png := _encoded(small, "PNG", imagined)) <= len(data):
        kind, data = "png", png
    return Embedded(name, *small.size, url=f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}")


def _encoded(image: Image.Image, kind: Kind, imagined: bool) -> bytes:
    file = BytesIO()
    # Without its provenance, which the page shows: a long prompt would not fit into a JPEG's metadata.
    image.save(file, kind, quality=_JPEG_QUALITY, **(imagined_metadata(kind) if imagined else {}))
    return file.getvalue()
