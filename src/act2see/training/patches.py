"""A cache of picture patches on disk, so that a frame of several traces or epochs is resized and cut into patches once."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

FOLDER = "patches"

Patches = Mapping[str, NDArray[Any]]
"""`pixel_values` (patches, values) float32 and `image_grid_thw` (pictures, 3)."""


class ImageProcessor(Protocol):
    """The part of a Qwen-VL image processor of transformers that the cache uses."""

    size: Mapping[str, int]
    image_mean: Sequence[float]
    image_std: Sequence[float]

    def __call__(self, *, images: list[Image.Image], return_tensors: str, **options: object) -> Patches:
        """The patches of the pictures."""
        ...


class CachedImageProcessor:
    """An image processor with a cache in a folder, keyed by the picture's pixels, up to `limit_bytes`. Everything else is the given processor's.

    The cache stores 8-bit pixel values, a quarter of the processor's output, and only those from which the exact output can be restored. Data loader
    workers may share the folder, and it may be deleted at any time.
    """

    def __init__(self, image_processor: ImageProcessor, folder: Path, limit_bytes: int) -> None:
        self._processor, self._folder, self._limit = image_processor, folder, limit_bytes
        self.hits = 0

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_processor":  # while another process unpickles it
            raise AttributeError(name)
        return getattr(self._processor, name)

    def __call__(self, images: list[Image.Image], return_tensors: str = "np", **options: object) -> Patches:
        """`pixel_values` (patches, values) float32 and `image_grid_thw` (1, 3) of one picture, exactly as the given processor returns them."""
        if len(images) != 1 or options or return_tensors != "np":
            return self._processor(images=images, return_tensors=return_tensors, **options)
        path = self._path(images[0])
        try:
            stored = load_file(path)
        except (OSError, SafetensorError):  # not stored yet, or truncated by a crash
            computed = self._processor(images=images, return_tensors="np")
            self._store(path, computed)
            return computed
        self.hits += 1
        return {"pixel_values": self._restored(stored["values"]), "image_grid_thw": stored["grid"]}

    def _path(self, image: Image.Image) -> Path:
        """Named after the pixels and the processor's size limits, which a recipe may change."""
        size = dict(self._processor.size)
        key = f"{image.mode} {image.size} {size['shortest_edge']} {size['longest_edge']}\n"
        return self._folder / f"{hashlib.sha256(key.encode() + image.tobytes()).hexdigest()}.safetensors"

    def _restored(self, values: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Rescaled and normalized like the processor does it if all channels share one mean; otherwise the result differs and is not stored."""
        mean, deviation = self._processor.image_mean[0], self._processor.image_std[0]
        pixels: NDArray[np.float32] = values.astype(np.float32) / np.float32(255 * deviation) - np.float32(mean / deviation)
        return pixels

    def _store(self, path: Path, computed: Patches) -> None:
        pixels = computed["pixel_values"]
        mean, deviation = self._processor.image_mean[0], self._processor.image_std[0]
        values = np.rint((pixels * deviation + mean) * 255).clip(0, 255).astype(np.uint8)
        if not np.array_equal(self._restored(values), pixels) or _bytes_in(self._folder) + values.nbytes > self._limit:
            return
        unfinished = path.with_name(f".{path.stem}.{os.getpid()}")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            save_file({"values": values, "grid": np.asarray(computed["image_grid_thw"])}, unfinished)
            unfinished.replace(path)
        except (OSError, SafetensorError):  # a full disk: training works without the cache
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)


def _bytes_in(folder: Path) -> int:
    try:
        return sum(entry.stat().st_size for entry in os.scandir(folder))
    except OSError:
        return 0
