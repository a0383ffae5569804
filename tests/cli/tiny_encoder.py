"""An encoder small enough to see through: a frame's vectors are its grey values, a text names the picture it means.

Named as a third party's: `tiny_encoder:Grey`. ACT2SEE_TEST_LOG names a file that gets a line of every frame's mean for each call, and after
ACT2SEE_TEST_HOLD calls it says so in that file and never returns.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from act2see.config import ModelConfig

SIZE = (16, 8)


def _unit(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    vector = np.append(grey.reshape(-1).astype(np.float32) / 127.5 - 1, np.float32(1))  # the last keeps grey values apart
    unit: NDArray[np.float32] = vector / np.linalg.norm(vector)
    return unit


class Grey:
    """Two equal vectors a frame, so that their number is seen to be kept."""

    name = "grey"
    side = 64
    threshold = 0.98

    def __init__(self, config: ModelConfig | None = None, fingerprint: str = "grey/1 äöü") -> None:
        self.fingerprint = fingerprint
        self.calls = 0
        self.images = 0

    def encode_frames(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        self.calls += 1
        self.images += len(images)
        greys = [np.asarray(image.convert("L").resize(SIZE, Image.Resampling.BOX), np.float32) for image in images]
        self._report([float(grey.mean()) for grey in greys])
        return np.stack([np.stack([_unit(grey)] * 2) for grey in greys])

    def encode_text(self, text: str) -> NDArray[np.float32]:
        """`number 5`: the frame with that barcode (see `tests/conftest.py`); `grey 96`: a plain one."""
        kind, _, value = text.partition(" ")
        grey = np.full(SIZE[::-1], 96, np.float32)
        if kind == "number":
            for bit in range(12):
                grey[:, bit] = 255 if int(value) >> bit & 1 else 0
        else:
            grey[:] = int(value)
        return _unit(grey)

    def scores(self, frames: NDArray[np.floating], text: NDArray[np.float32]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = (frames.astype(np.float32) @ text).max(axis=1)
        return found

    def _report(self, means: Sequence[float]) -> None:
        if not (log := os.environ.get("ACT2SEE_TEST_LOG")):
            return
        with Path(log).open("a", encoding="utf-8") as file:
            file.write(" ".join(f"{mean:.1f}" for mean in means) + "\n")
            if str(self.calls) == os.environ.get("ACT2SEE_TEST_HOLD"):
                file.write("held\n")
                file.flush()
                time.sleep(600)
