"""Families whose pictures are tiles of one size, with one position a token: SmolVLM, InternVL and Gemma."""

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from act2see.backends.families.description import Config, Family, ImageProcessor, Inputs, Model
from act2see.backends.pieces import Piece
from act2see.core.framing import FrameLimit, most_that_fit


class TileFamily(Family):
    """Pictures as (tiles, channels, height, width). A frame is one tile, however large it is, as these models' own formats for videos have it."""

    @abstractmethod
    def tokens_a_frame(self, processor: ImageProcessor, config: Config | None) -> int:
        """The most tokens in a frame's place, marks and line ends included."""

    def limit(self, processor: ImageProcessor, config: Config | None, size: tuple[int, int], frames: int, room: int, around: int) -> FrameLimit:
        """As many frames as fit, at their own size."""
        tokens = self.tokens_a_frame(processor, config) + around
        return FrameLimit(most_that_fit(frames, lambda count: count * tokens, room))

    def positions(self, pieces: Sequence[Piece], merge: int, start: int = 0) -> tuple[NDArray[np.int64], int]:
        """One row: the order."""
        after = start + sum(len(piece.ids) for piece in pieces)
        return np.arange(start, after, dtype=np.int64)[None], after

    def position_ids(self, order: torch.Tensor, rope: torch.Tensor) -> torch.Tensor:
        """(conversations, tokens): the order."""
        return rope[0]

    def pixels(self, pieces: Sequence[Piece], model: Model) -> Inputs:
        """All tiles, one after the other."""
        shown = tiles_of(pieces)
        return {} if shown is None else {"pixel_values": shown.to(model.device, model.dtype)}


def tiles_of(pieces: Sequence[Piece]) -> torch.Tensor | None:
    """The tiles of all pictures; None without pictures."""
    shown = [torch.from_numpy(piece.pixels) for piece in pieces if piece.pixels is not None]
    return torch.cat(shown) if shown else None
