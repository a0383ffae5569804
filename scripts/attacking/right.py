"""What is right for a video, and how it is made."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from attacking.clips import FOUND, FPS, RED, Clip
from attacking.fakes import Colour

Makes = Callable[[Path], Path | str]
"""Makes the file in a folder, and gives what is named on the command line."""


@dataclass(frozen=True, slots=True)
class Found:
    """Right is the red frame, at its time and in its colour."""

    frames: tuple[int, ...] = FOUND
    seconds: tuple[float, float] | None = (FOUND[0] / FPS, (FOUND[-1] + 1) / FPS)
    colour: Colour | None = RED
    tolerance: int = 24
    size: tuple[int, int] | None = None
    says: str | None = None
    """A pattern of what is noted."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Right is one line that says this (a pattern)."""

    says: str


@dataclass(frozen=True, slots=True)
class Either:
    """Damaged: right is a frame, or one line."""

    says: str = "."


Right = Found | Refused | Either
Case = tuple[str, Makes, Right]
"""Its name, how it is made, and what is right."""


def written(clip: Clip) -> Makes:
    """A clip as it is."""
    return clip.write
