"""Frames as files of a run's folder: named by a digest of what they show, and checked against it when they are read.

A frame's name is the sha256 of its size and RGB pixels; a generated frame's covers its provenance too. Real frames of up to 512x512 and all generated
ones are PNG and come back pixel for pixel; larger real ones are JPEG (quality 95, 4:4:4) and come back almost the same. Our choice: a benchmark's
run holds tens of thousands of real frames. A JPEG's name is the digest of the pixels before they were compressed, which its file cannot prove.
"""

import hashlib
import io
import os
import shutil
import stat
import struct
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from act2see.core.errors import StoreError, disk_reason
from act2see.core.trace import Frame, Trace
from act2see.storage.atomic import opened, own_folder, placed, refuse_special, replace_file, writing
from act2see.storage.codec import canonical_json, encode_provenance
from act2see.storage.image_metadata import Kind, imagined_metadata

FRAMES = "frames"
MAX_PNG_PIXELS = 512 * 512
"""Larger real frames are stored as JPEG."""
MAX_PIXELS = 2**26
"""Of one picture. Our choice: twice 8K."""
MAX_TRACE_PIXELS = 2**30
"""Of all pictures of a trace together, which take 3 GB then. Our choice: 500 frames of 1080p."""

_PIXEL = Image.new("RGB", (1, 1))
_KINDS: Mapping[str, Kind] = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
_PNG_MARK, _PNG_HEAD = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", struct.Struct(">16sIIBB")
"""How a PNG begins, and that with its size, depth and kind of colours: 8 and 2 for RGB."""
_REST_BYTES = 2**22  # what a file holds beside its pixels: a provenance with a long prompt
_KEPT_PIXELS = 2**23
_UNREADABLE = (OSError, SyntaxError, ValueError, TypeError, IndexError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
"""What Pillow raises for files that are no pictures, or damaged ones."""


@dataclass(frozen=True, slots=True)
class _Picture:
    """A decoded file, and of a PNG the sha256 that its name begins with: of its size and pixels."""

    image: Image.Image
    digest: "hashlib._Hash | None"


class FrameFiles:
    """The frames of a run's folder. The last few pictures are kept: consecutive traces are often about one video."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self._kept: OrderedDict[str, _Picture] = OrderedDict()
        self._kept_pixels = 0
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type["FrameFiles"], tuple[Path]]:
        return FrameFiles, (self.run,)  # another process reads the files itself

    def path(self, name: str) -> Path:
        """Where a frame's file is."""
        return self.run / FRAMES / name

    def picture(self, name: str) -> _Picture:
        """The file, decoded. Raises `StoreError`."""
        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
                return self._kept[name]
        found = self._read(name, blank=False)
        with self._lock:
            if name not in self._kept:
                self._kept[name] = found
                self._kept_pixels += _pixels(found.image)
            while self._kept_pixels > _KEPT_PIXELS:
                _, dropped = self._kept.popitem(last=False)
                self._kept_pixels -= _pixels(dropped.image)
        return found

    def blank(self, name: str) -> _Picture:
        """A black picture of the file's size. Raises `StoreError`; a picture that is damaged behind its header is not noticed."""
        return self._read(name, blank=True)

    def size(self, name: str) -> tuple[int, int]:
        """The picture's width and height in pixels, by its header alone. Raises `StoreError`."""
        if (found := self._size_of_png(name)) is not None:
            return found
        with self._header(name) as image:
            return image.size

    def _size_of_png(self, name: str) -> tuple[int, int] | None:
        """The size in a PNG's first bytes, which is quicker than Pillow; None for what is not surely one as we write them."""
        if not name.endswith(".png"):
            return None
        try:
            with self._opened(name) as file:
                head, size_bytes = file.read(_PNG_HEAD.size), os.fstat(file.fileno()).st_size
        except OSError:
            return None  # said when it is opened again
        if len(head) < _PNG_HEAD.size:
            return None
        mark, width, height, depth, colours = _PNG_HEAD.unpack(head)
        limit = min(MAX_PIXELS, width * height)
        is_ours = mark == _PNG_MARK and (depth, colours) == (8, 2) and 0 < width * height == limit and size_bytes <= 4 * limit + _REST_BYTES
        return (width, height) if is_ours else None

    def add(self, frames: Mapping[str, Frame]) -> None:
        """Write those that are not there yet. Raises `StoreError` and `OSError`."""
        own_folder(self.run / FRAMES)
        for name, frame in frames.items():
            if not os.path.lexists(self.path(name)):
                replace_file(self.path(name), encoded(frame, _KINDS[Path(name).suffix]))

    def give(self, names: Iterable[str], folder: Path) -> None:
        """Put files into another folder: under a second name where the file system has such a thing, as a copy elsewhere. Frames never change.

        Raises `StoreError` and `OSError`.
        """
        for name in names:
            target = folder / name
            if target.exists():
                continue
            with self._opened(name) as source, suppress(OSError):
                os.link(self.path(name), target, follow_symlinks=False)
                if os.path.samestat(os.fstat(source.fileno()), os.lstat(target)):
                    continue
                target.unlink()  # another file took its place in between
            self.copy((name,), folder)

    def sketched(self, name: str) -> Image.Image:
        """One black pixel that stands for a file, once it is known to be there; nothing is opened. Raises `StoreError`."""
        path = self.path(name)
        try:
            mode = os.lstat(path).st_mode
        except OSError as error:
            raise StoreError(f"{path} is missing: the trace cannot be kept without it") from error
        refuse_special(path, mode)
        if not stat.S_ISREG(mode):
            raise StoreError(f"{path} is no file")
        return sketched(name)

    def sketching(self) -> Callable[[str], Image.Image]:
        """`sketched`, which looks for each file once, as long as it is used."""
        there: set[str] = set()

        def load(name: str) -> Image.Image:
            if name in there:
                return sketched(name)
            found = self.sketched(name)
            there.add(name)
            return found

        return load

    def content(self, name: str) -> bytes:
        """A file as it is. Raises `StoreError` and `OSError`."""
        with self._opened(name) as file:
            return file.read()

    def copy(self, names: Iterable[str], folder: Path) -> None:
        """Copy files into another folder. Raises `StoreError` and `OSError`."""
        for name in names:
            with self._opened(name) as source, (folder / name).open("xb") as copy:
                shutil.copyfileobj(source, copy)

    def _opened(self, name: str) -> AbstractContextManager[BinaryIO]:
        return opened(self.run, f"{FRAMES}/{name}", max_bytes=4 * MAX_PIXELS + _REST_BYTES)

    def _read(self, name: str, *, blank: bool) -> _Picture:
        with self._header(name) as image:
            picture = Image.new("RGB", image.size) if blank else image.convert("RGB")
        picture.info = {}  # the texts inside the file are for other programs; two pictures are equal when their pixels are
        return _Picture(picture, None if blank or not name.endswith(".png") else _digest_of(picture))

    @contextmanager
    def _header(self, name: str) -> Iterator[Image.Image]:
        """The picture, not decoded yet. What goes wrong until the block ends is a `StoreError` about the file."""
        path = self.path(name)
        try:
            with self._opened(name) as file, Image.open(file, formats=(_KINDS[path.suffix],)) as image:
                _check_header(image, os.fstat(file.fileno()).st_size)
                yield image
        except FileNotFoundError as error:
            raise StoreError(f"{path} is missing: the trace cannot be read without it") from error
        except UnidentifiedImageError as error:
            raise StoreError(f"{path} cannot be read as a picture: it is no {_KINDS[path.suffix]}") from error
        except _UNREADABLE as error:
            said = disk_reason(error) if isinstance(error, OSError) else str(error)
            raise StoreError(f"{path} cannot be read as a picture: {said}") from error


class FramesOfTrace:
    """Gives the pictures of one trace, each file once, and refuses a trace whose pictures are too many to hold."""

    def __init__(self, files: FrameFiles, *, blank: bool = False) -> None:
        self._files, self._blank = files, blank
        self._found: dict[str, _Picture] = {}
        self._pixels = 0

    def load(self, name: str) -> Image.Image:
        """The picture. Raises `StoreError`."""
        if name not in self._found:
            found = self._files.blank(name) if self._blank else self._files.picture(name)
            self._pixels += _pixels(found.image)
            if self._pixels > MAX_TRACE_PIXELS:
                raise StoreError(f"its pictures have more than {MAX_TRACE_PIXELS:,} pixels together, more than is held in memory")
            self._found[name] = found
        return self._found[name].image

    def check(self, name: str, frame: Frame) -> None:
        """Hold a frame against its file's name, as far as that can be done: a JPEG's pixels are not those that it was named by."""
        is_png = name.endswith(".png")
        if frame.provenance is not None and not is_png:
            raise StoreError(f"{self._files.path(name)}: a generated picture is kept as .png")
        digest = self._found[name].digest
        if digest is not None and _finished(digest.copy(), frame) != name.removesuffix(".png"):
            raise StoreError(f"{self._files.path(name)} is not the picture that it is named by: it was changed, or put in another's place")


def name_of(frame: Frame) -> str:
    """The name of a frame's file."""
    image = frame.image.convert("RGB")
    is_png = frame.provenance is not None or _pixels(image) <= MAX_PNG_PIXELS
    return f"{_finished(_digest_of(image), frame)}.{'png' if is_png else 'jpg'}"


def encoded(frame: Frame, kind: Kind) -> bytes:
    """A frame as the content of a file. A generated one says inside that it is one and where it came from."""
    content = io.BytesIO()
    # Level 3 of zlib takes 0.4 of the default level's time on the synthetic frames, and no more bytes. Our choice.
    quality = {"compress_level": 3} if kind == "PNG" else {"quality": 95, "subsampling": "4:4:4"}
    metadata = {} if frame.provenance is None else imagined_metadata(kind, frame.provenance)
    image = frame.image.convert("RGB")
    image.info = {}  # a JPEG's comment would be taken over from wherever the picture was read
    image.save(content, kind, **quality, **metadata)
    return content.getvalue()


@lru_cache(maxsize=4096)  # the traces about one video show the same frames
def sketched(name: str) -> Image.Image:
    """One black pixel that stands for a file."""
    pixel = _PIXEL.copy()
    pixel.info["file"] = name
    return pixel


def file_of(frame: Frame) -> str:
    """The name of the file that a sketched frame (`Run.sketch_at`) stands for: equal names are equal pictures."""
    return str(frame.image.info["file"])


def files_of(trace: Trace) -> tuple[str, ...]:
    """The names of the files that a sketched trace's frames stand for, each once, in their order."""
    return tuple(dict.fromkeys(file_of(frame) for frame in trace.all_frames))


def save_picture(path: Path, frame: Frame) -> None:
    """Write a frame as a PNG or JPEG, by the name's ending. A generated one says inside that it is one and where it came from.

    Raises `StoreError`; what was at `path` then stays.
    """
    kind = _KINDS.get(path.suffix.lower())
    if kind is None:
        raise StoreError(f"cannot save a picture as {path}: give a name that ends in {', '.join(_KINDS)}")
    with placed(f"{path} cannot be written"):
        content = encoded(frame, kind)
    with writing(path.parent):
        replace_file(path, content)


def _check_header(image: Image.Image, size_bytes: int) -> None:
    """Before anything is decoded: the header says how much memory that would take."""
    if image.mode != "RGB":
        raise ValueError(f"its pixels are {image.mode}, not RGB")
    if _pixels(image) > MAX_PIXELS:
        raise ValueError(f"it has {image.width} x {image.height} pixels; at most {MAX_PIXELS:,} are read")
    if size_bytes > 4 * _pixels(image) + _REST_BYTES:
        raise ValueError(f"it holds {size_bytes:,} bytes for {image.width} x {image.height} pixels")


def _pixels(image: Image.Image) -> int:
    return image.width * image.height


def _digest_of(image: Image.Image) -> "hashlib._Hash":
    return hashlib.sha256(f"{image.width}x{image.height}\n".encode() + image.tobytes())


def _finished(digest: "hashlib._Hash", frame: Frame) -> str:
    if frame.provenance is not None:
        digest.update(canonical_json(encode_provenance(frame.provenance)).encode())
    return digest.hexdigest()
