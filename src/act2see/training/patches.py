"""Pictures as patches, made once: a frame that several traces show, or that comes again in the next epoch, is not scaled and cut again."""

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

FOLDER = "patches"


class KeptPatches:
    """An image processor that keeps what it made in a folder, by the picture's pixels, up to `limit_bytes`; in everything else it is the given one.

    Kept is the 8-bit value of each pixel, a quarter of what the processor gives, and only where that gives back the very same numbers. The folder
    may be shared by the processes that prepare pictures, and may be deleted at any time.
    """

    def __init__(self, image_processor: Any, folder: Path, limit_bytes: int) -> None:
        self._made_by, self._folder, self._limit = image_processor, folder, limit_bytes
        self.hits = 0

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_made_by":  # while it is unpickled in another process
            raise AttributeError(name)
        return getattr(self._made_by, name)

    def __call__(self, images: list[Image.Image], return_tensors: str = "np", **options: Any) -> Any:
        """`pixel_values` (patches, values) float32 and `image_grid_thw` (1, 3) of one picture, as the given processor returns them."""
        if len(images) != 1 or options or return_tensors != "np":
            return self._made_by(images=images, return_tensors=return_tensors, **options)
        path = self._path(images[0])
        try:
            kept = load_file(path)
        except (OSError, SafetensorError):  # not there yet, or cut off by a crash
            made = self._made_by(images=images, return_tensors="np")
            self._keep(path, made)
        else:
            made = {"pixel_values": self._pixels(kept["values"]), "image_grid_thw": kept["grid"]}
            self.hits += 1
        return made

    def _path(self, image: Image.Image) -> Path:
        """Named after the pixels and after the sizes that pictures are scaled to, which a recipe may change."""
        size = dict(self._made_by.size)
        said = f"{image.mode} {image.size} {size['shortest_edge']} {size['longest_edge']}\n"
        return self._folder / f"{hashlib.sha256(said.encode() + image.tobytes()).hexdigest()}.safetensors"

    def _pixels(self, values: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Rescaled and normalised as the processor does it. With a mean of its own for each colour it gives other numbers, and nothing is kept."""
        mean, deviation = self._made_by.image_mean[0], self._made_by.image_std[0]
        pixels: NDArray[np.float32] = values.astype(np.float32) / np.float32(255 * deviation) - np.float32(mean / deviation)
        return pixels

    def _keep(self, path: Path, made: Any) -> None:
        pixels = made["pixel_values"]
        mean, deviation = self._made_by.image_mean[0], self._made_by.image_std[0]
        values = np.rint((pixels * deviation + mean) * 255).clip(0, 255).astype(np.uint8)
        if not np.array_equal(self._pixels(values), pixels) or _bytes_in(self._folder) + values.nbytes > self._limit:
            return
        unfinished = path.with_name(f".{path.stem}.{os.getpid()}")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            save_file({"values": values, "grid": np.asarray(made["image_grid_thw"])}, unfinished)
            unfinished.replace(path)
        except (OSError, SafetensorError):  # a full disk: training needs none of this
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)


def _bytes_in(folder: Path) -> int:
    try:
        return sum(entry.stat().st_size for entry in os.scandir(folder))
    except OSError:
        return 0
