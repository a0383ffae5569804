"""Families whose pictures are grids of patches with three rope positions each: Qwen-VL and GLM-V."""

from collections.abc import Iterable, Sequence
from typing import ClassVar, Protocol, SupportsInt, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from act2see.backends.families.description import Config, Family, ImageProcessor, Inputs, Model, Pads, Seen
from act2see.backends.pieces import Piece
from act2see.core import chat
from act2see.core.framing import FrameLimit, Processor, most_that_fit


class GridProcessor(ImageProcessor, Protocol):
    """An image processor that cuts pictures of any shape into patches."""

    patch_size: int
    merge_size: int
    temporal_patch_size: int


class GridFamily(Family):
    """Pictures of any shape as (patches, patch values) with a grid; `tokens` are the picture's start, its placeholder and its end."""

    rows = 3
    frames_in_limits: ClassVar[bool] = False
    """Whether the processor counts each frame of a temporal patch towards its limits of pixels."""

    def see(self, processor: ImageProcessor, config: Config | None, image: Image.Image) -> Seen:
        """One frame, as an image: its patches, and a placeholder for each merged patch."""
        made = processor(images=[image], return_tensors="np")
        grid = grid_of(made["image_grid_thw"][0].tolist())
        pads = grid[0] * grid[1] * grid[2] // cast("GridProcessor", processor).merge_size ** 2
        start, pad, end = self.tokens
        tokens = (chat.Text(start, marks=True), Pads(pad, pads), chat.Text(end, marks=True))
        return Seen(tokens, np.ascontiguousarray(made["pixel_values"], np.float32), grid)

    def limit(self, processor: ImageProcessor, config: Config | None, size: tuple[int, int], frames: int, room: int, around: int) -> FrameLimit:
        """As many frames as fit, at the processor's input size."""
        images = sizes_of(cast("GridProcessor", processor))
        counted = cast("GridProcessor", processor).temporal_patch_size if self.frames_in_limits else 1
        width, height = images.seen(size, counted)
        shown = most_that_fit(frames, lambda count: count * (width * height // images.factor**2 + 2 + around), room)
        return FrameLimit(shown, images.kept(size, counted), images.kept(size, counted))

    def positions(self, pieces: Sequence[Piece], merge: int, start: int = 0) -> tuple[NDArray[np.int64], int]:
        """Three rows: time, height and width. See `positions`."""
        return positions(pieces, merge, start)

    def position_ids(self, order: torch.Tensor, rope: torch.Tensor) -> torch.Tensor:
        """(4, conversations, tokens): the order, then time, height and width."""
        return torch.cat([order[None], rope])

    def pixels(self, pieces: Sequence[Piece], model: Model) -> Inputs:
        """Patches and grids, of images and of videos."""
        inputs: Inputs = {}
        for is_video, pixels_name, grid_name in ((False, "pixel_values", "image_grid_thw"), (True, "pixel_values_videos", "video_grid_thw")):
            shown = [piece for piece in pieces if piece.pixels is not None and piece.is_video is is_video]
            if shown:
                inputs[pixels_name] = torch.cat([torch.from_numpy(piece.pixels) for piece in shown]).to(model.device, model.dtype)
                inputs[grid_name] = torch.tensor([piece.grid for piece in shown], device=model.device)
        return inputs


def positions(pieces: Sequence[Piece], merge: int, start: int = 0) -> tuple[NDArray[np.int64], int]:
    """Rope positions (3, tokens) of pieces that start at position `start`, and the next position.

    The scheme of Qwen-VL and GLM-V: text advances all three rows by one; an image has one time, spans its height and width, and advances by the
    larger of the two. It is shift-equivariant, so a chunk can be computed on its own.
    """
    rows: list[NDArray[np.int64]] = []
    at = start
    for piece in pieces:
        if piece.grid is None:
            rows.append(np.tile(np.arange(at, at + len(piece.ids)), (3, 1)))
            at += len(piece.ids)
            continue
        height, width = piece.grid[1] // merge, piece.grid[2] // merge
        pads = np.indices((1, height, width)).reshape(3, -1) + at + 1
        after = at + 1 + max(height, width)
        rows += [np.full((3, 1), at), pads, np.full((3, 1), after)]
        at = after + 1
    return (np.concatenate(rows, axis=1).astype(np.int64) if rows else np.zeros((3, 0), np.int64)), at


def sizes_of(processor: GridProcessor) -> Processor:
    """The processor's resizing rule."""
    return Processor(processor.patch_size * processor.merge_size, int(processor.size["shortest_edge"]), int(processor.size["longest_edge"]))


def grid_of(row: Iterable[SupportsInt]) -> tuple[int, int, int]:
    """A row of a processor's grids: time, height and width in patches."""
    time, height, width = (int(value) for value in row)
    return time, height, width
