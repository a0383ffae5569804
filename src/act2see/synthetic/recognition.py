"""Detection of synthetic pictures by their pixels: separates the domain of the embedded models from everything else.

The background is dark and lit from one side: each channel is a base level plus the same linear gradient, which rises by exactly 24 levels across
the picture (`world.Clip`). On it are flat shapes in eight colours. Photographs, screens, slides and other drawings fail the background test.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from act2see.synthetic.world import COLOURS

SAMPLED = 5
"""Maximum number of frames to test per video, evenly spaced."""
AGREEING = 0.75
"""Minimum share of them that must pass: lossy compression may spoil one."""

_SIDE = 48
_DARK = 118
"""Pixels with all channels below this are background (at most 70 + 17, plus noise); every shape colour has a channel of at least 175."""
_LEAST_GROUND = 0.68
"""Five shapes of the largest size cover a fifth of a picture, their soft edges another tenth."""
_BASE = (20 - 8, 70 + 8)
_RISE = (24 - 7.5, 24 + 5)
"""Strong compression reduces the rise by up to a quarter, and never increases it."""
_TINT = 8.0
"""Maximum difference between one channel's gradient and the mean of the three, in levels across the picture."""
_ROUGHNESS = 6.0
"""Maximum RMS deviation from the plane, in levels: noise of 2 nearly vanishes at 48 x 48 pixels."""
_COLOUR_DISTANCE = 48.0
_COLOURED = 0.65
_PALETTE = np.array(list(COLOURS.values()), np.float32)


@dataclass(frozen=True, slots=True)
class Reading:
    """Measurements of a picture. Levels are 0-255; NaN if not measurable."""

    ground: float
    """Share of dark pixels."""
    base: tuple[float, float]
    """The darkest and the brightest channel of the background at the centre of the picture."""
    rise: float
    """The rise of the background gradient across the picture."""
    tint: float
    """The largest difference between one channel's gradient and the mean gradient."""
    roughness: float
    """RMS deviation from the plane."""
    coloured: float
    """Share of pixels inside shapes that have one of the world's colours; 1 without shapes."""

    @property
    def is_of_the_world(self) -> bool:
        """Whether all measurements match the synthetic world."""
        return (
            self.ground >= _LEAST_GROUND
            and self.base[0] >= _BASE[0]
            and self.base[1] <= _BASE[1]
            and _RISE[0] <= self.rise <= _RISE[1]
            and self.tint <= _TINT
            and self.roughness <= _ROUGHNESS
            and self.coloured >= _COLOURED
        )


def is_of_the_world(pictures: Sequence[Image.Image]) -> bool:
    """Whether a video's pictures are synthetic; False for no pictures. Takes about a millisecond for each of `SAMPLED` small pictures."""
    if not pictures:
        return False
    count = min(SAMPLED, len(pictures))
    chosen = [pictures[round(place * (len(pictures) - 1) / max(1, count - 1))] for place in range(count)]
    return sum(read(picture).is_of_the_world for picture in chosen) >= AGREEING * count


def read(picture: Image.Image) -> Reading:
    """Measure a picture of any size and mode."""
    small = picture.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    pixels = np.asarray(small, np.float32)
    is_dark = pixels.max(axis=2) < _DARK
    share = float(is_dark.mean())
    if share < _LEAST_GROUND:
        return Reading(share, (np.nan, np.nan), np.nan, np.nan, np.nan, np.nan)
    sure = _shrunk(is_dark).ravel()
    if sure.sum() < _SIDE:
        return Reading(share, (np.nan, np.nan), np.nan, np.nan, np.nan, np.nan)
    planes, off = _fitted(_places()[sure], pixels.reshape(-1, 3)[sure])
    mean = planes[1:].mean(axis=1)
    return Reading(
        ground=share,
        base=(float(planes[0].min()), float(planes[0].max())),
        rise=float(np.hypot(*mean)),
        tint=float(np.hypot(*(planes[1:] - mean[:, None])).max()),
        roughness=off,
        coloured=_coloured(pixels[_shrunk(~is_dark)]),
    )


@lru_cache(maxsize=1)
def _places() -> NDArray[np.float32]:
    """Design matrix of the plane fit: 1, x and y of each pixel, with x and y in [-0.5, 0.5]; (pixels, 3)."""
    line = np.linspace(-0.5, 0.5, _SIDE, dtype=np.float32)
    y, x = np.meshgrid(line, line, indexing="ij")
    return np.stack([np.ones_like(x), x, y], axis=-1).reshape(-1, 3)


def _fitted(places: NDArray[np.float32], levels: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
    """Fit a plane to each channel: (3 coefficients, 3 channels), and the RMS deviation."""
    planes = np.linalg.solve(places.T @ places, places.T @ levels)
    return planes, float(np.sqrt(np.square(levels - places @ planes).mean()))


def _shrunk(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Erode a mask by one pixel: edge pixels mix two colours."""
    inner = mask.copy()
    inner[1:] &= mask[:-1]
    inner[:-1] &= mask[1:]
    inner[:, 1:] &= mask[:, :-1]
    inner[:, :-1] &= mask[:, 1:]
    return inner


def _coloured(inside: NDArray[np.float32]) -> float:
    if not len(inside):
        return 1.0
    distances = np.linalg.norm(inside[:, None] - _PALETTE, axis=2).min(axis=1)
    return float((distances <= _COLOUR_DISTANCE).mean())
