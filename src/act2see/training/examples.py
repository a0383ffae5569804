"""Traces to training examples: the ids that decoding would have produced, and labels on the model's own words only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from act2see import chat
from act2see.tokens import Encoder, Piece, joined, positions, shared_pieces
from act2see.trace import Trace

IGNORED = -100
"""The label of a token that is not trained on."""


@dataclass(frozen=True, slots=True)
class Example:
    """Traces over the same frames, packed: their common prompt once, then each trace's rest as a branch that sees the prompt and itself only.

    Exactly the losses of the traces one by one (there is a test), at a fraction of the cost. `positions` is (4, tokens): order, then rope's three
    rows. `branch` is 0 for the common prompt, 1, 2, … for the branches.
    """

    ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    positions: NDArray[np.int64]
    branch: NDArray[np.int64]
    pieces: tuple[Piece, ...]


def pieces_of(trace: Trace, tools: Sequence[chat.Tool], style: chat.Style, encoder: Encoder) -> list[Piece]:
    """The pieces of a finished trace, the end of its turn included."""
    return encoder.encode(chat.segments(chat.turns(trace, tools, style), ended=True))


def pack(sequences: Sequence[Sequence[Piece]], merge: int) -> Example:
    """Pack sequences of pieces that begin alike. One sequence alone is simply itself."""
    common = min(shared_pieces(sequences[0], other) for other in sequences)
    # A branch begins with a piece that is not trained on: its first token would be scored after the last one of the branch before.
    common = min([common, *[number - 1 for number, piece in enumerate(sequences[0]) if piece.own][:1]]) if len(sequences) > 1 else common
    prompt = list(sequences[0][:common])
    rows, after = positions(prompt, merge)
    parts, placed, branches = [prompt], [rows], [np.zeros(rows.shape[1], np.int64)]
    for number, sequence in enumerate(sequences, start=1):
        rest = list(sequence[common:])
        rows, _ = positions(rest, merge, after)
        parts.append(rest)
        placed.append(rows)
        branches.append(np.full(rows.shape[1], number, np.int64))
    pieces = tuple(piece for part in parts for piece in part)
    ids = np.array(joined(pieces), np.int64)
    own = np.concatenate([np.full(len(piece.ids), piece.own) for piece in pieces])
    order = np.arange(len(ids))
    return Example(ids, np.where(own, ids, IGNORED), np.concatenate([order[None], np.concatenate(placed, axis=1)]), np.concatenate(branches), pieces)


def collate(examples: Sequence[Example], pad: int) -> dict[str, Any]:
    """A batch for `Qwen3VLForConditionalGeneration`: right-padded, with the mask that keeps branches apart. Never truncates."""
    longest = max(len(example.ids) for example in examples)

    def padded(rows: Sequence[NDArray[np.int64]], value: int) -> torch.Tensor:
        width = [[(0, 0)] * (row.ndim - 1) + [(0, longest - row.shape[-1])] for row in rows]
        return torch.from_numpy(np.stack([np.pad(row, pads, constant_values=value) for row, pads in zip(rows, width, strict=True)]))

    branch = padded([example.branch for example in examples], -1)
    same = (branch[:, :, None] == branch[:, None, :]) | (branch[:, None, :] == 0)
    mask = same & torch.ones(longest, longest, dtype=torch.bool).tril()
    batch = {
        "input_ids": padded([example.ids for example in examples], pad),
        "labels": padded([example.labels for example in examples], IGNORED),
        "position_ids": padded([example.positions for example in examples], 0).transpose(0, 1).contiguous(),
        "attention_mask": mask[:, None],
    }
    seen = [piece for example in examples for piece in example.pieces if piece.pixels is not None]
    for is_video, pixels_name, grid_name in ((False, "pixel_values", "image_grid_thw"), (True, "pixel_values_videos", "video_grid_thw")):
        chosen = [piece for piece in seen if piece.is_video is is_video]
        if chosen:
            batch[pixels_name] = torch.from_numpy(np.concatenate([piece.pixels for piece in chosen if piece.pixels is not None]))
            batch[grid_name] = torch.tensor([piece.grid for piece in chosen])
    return batch
