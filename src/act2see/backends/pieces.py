"""The pieces of a prompt: token ids with the pictures that they stand for."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive tokens that are fed together: text, or the placeholders of one image or one video with its pixels.

    `pixels` is float32: (patches, patch values) with `grid` (time, height, width) in patches, or (tiles, channels, height, width) without one, as the
    model's family has it. `same` is a key: pieces with equal keys are equal, for comparing a KV cache with a prompt.
    """

    ids: tuple[int, ...]
    same: Hashable
    own: bool = False
    pixels: NDArray[np.float32] | None = None
    grid: tuple[int, int, int] | None = None
    is_video: bool = False

    @property
    def is_picture(self) -> bool:
        """Whether its tokens stand for an image or a video, and belong together."""
        return self.pixels is not None or self.grid is not None


def joined(pieces: Sequence[Piece]) -> list[int]:
    """The ids of all pieces."""
    return [token for piece in pieces for token in piece.ids]


def shared_pieces(one: Sequence[Piece], other: Sequence[Piece]) -> int:
    """The length of the common prefix, in pieces."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a.same != b.same), min(len(one), len(other)))


def borders(pieces: Sequence[Piece]) -> list[int]:
    """Where a conversation may have to return to, in pieces: the end of the initial frames, of the last look, and of all."""
    pictures = [number for number, piece in enumerate(pieces, start=1) if piece.is_picture]
    begun = next((number for number, piece in enumerate(pieces) if piece.own), len(pieces))
    initial = [number for number in pictures if number <= begun]
    return sorted({*initial[-1:], *pictures[-1:], len(pieces)})
