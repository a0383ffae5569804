"""Converts traces to training examples: the token ids that decoding produces, with labels on the model's own text only."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from act2see.backends.encoder import Encoder
from act2see.backends.families.grids import positions
from act2see.backends.pieces import Piece, joined, shared_pieces
from act2see.core import chat
from act2see.core.trace import Frame, Observation, Trace

Batch: TypeAlias = dict[str, torch.Tensor]
"""Keyword arguments of the model's forward pass."""
IGNORED = -100
"""Label of tokens that the loss ignores."""


@dataclass(frozen=True, slots=True)
class Example:
    """Traces over the same frames, packed: their common prompt once, then the rest of each trace as a branch that attends to the prompt and itself.

    The losses equal those of the separate traces (tested), at a fraction of the cost. `positions` is (4, tokens): the order, then the three RoPE
    rows. `branch` is 0 for the common prompt and 1, 2, … for the branches.
    """

    ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    positions: NDArray[np.int64]
    branch: NDArray[np.int64]
    pieces: tuple[Piece, ...]


def pieces_of(trace: Trace, tools: Sequence[chat.Tool], style: chat.Style, encoder: Encoder) -> list[Piece]:
    """The pieces of a finished trace, including the end of its turn."""
    return encoder.prompt(chat.turns(trace, tools, style), ended=True)


def pack(sequences: Sequence[Sequence[Piece]], merge: int) -> Example:
    """Pack sequences with a common prefix. A single sequence is returned unchanged."""
    common = min(shared_pieces(sequences[0], other) for other in sequences)
    # A branch starts with an unlabelled piece: its first token would be predicted from the last token of the previous branch.
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


class HasLogits(Protocol):
    """The output of a language model of transformers."""

    logits: torch.Tensor


@dataclass(frozen=True, slots=True)
class Shrink:
    """How a long trace is shortened: keep every `every`-th initial frame, and scale the sides of all pictures by `scale`."""

    every: int = 1
    scale: float = 1.0

    def apply(self, trace: Trace) -> Trace:
        """The trace with fewer or smaller pictures and unchanged text."""
        if self == Shrink():
            return trace
        steps = [
            replace(step, frames=tuple(self._smaller(frame) for frame in step.frames)) if isinstance(step, Observation) else step
            for step in trace.steps
        ]
        return replace(trace, frames=tuple(self._smaller(frame) for frame in trace.frames[:: self.every]), steps=steps)

    def _smaller(self, frame: Frame) -> Frame:
        if self.scale == 1.0:
            return frame
        size = [max(1, round(side * self.scale)) for side in frame.image.size]
        return replace(frame, image=frame.image.resize((size[0], size[1])))


def counts(trace: Trace, tools: Sequence[chat.Tool], style: chat.Style, encoder: Encoder) -> tuple[int, int, int]:
    """The number of tokens that `pieces_of` gives, of labelled tokens, and of picture patches. Needs the pictures' sizes only, not their pixels."""
    tokens = labelled = patches = 0
    for segment in chat.segments(chat.turns(trace, tools, style), ended=True):
        match segment:
            case chat.Picture(frame):
                seen = int(encoder.image_processor.get_number_of_image_patches(frame.image.height, frame.image.width))
                patches += seen
                tokens += 2 + seen // encoder.merge**2
            case _:
                for piece in encoder.encode([segment]):
                    tokens += len(piece.ids)
                    labelled += len(piece.ids) if piece.own else 0
                    patches += len(piece.pixels) if piece.pixels is not None else 0
    return tokens, labelled, patches


def collate(examples: Sequence[Example], pad: int) -> Batch:
    """A right-padded batch for `Qwen3VLForConditionalGeneration`, with an attention mask that separates the branches. Never truncates."""
    batch, longest = batch_of(examples, pad)
    branch = _padded([example.branch for example in examples], -1, longest)
    same = (branch[:, :, None] == branch[:, None, :]) | (branch[:, None, :] == 0)
    mask = same & torch.ones(longest, longest, dtype=torch.bool).tril()
    return {**batch, "attention_mask": mask[:, None]}


def collate_single(examples: Sequence[Example], pad: int) -> Batch:
    """A batch of examples with one trace each: without a (tokens, tokens) mask, and with logits only where a label needs them.

    A trace of thousands of picture tokens has a few hundred labels: logits of all its tokens over Qwen's 151,936 words would take more memory than
    everything else. `logits_to_keep` is (examples, tokens) bool; `token_loss` takes the logits that it selects.
    """
    if any(example.branch.max(initial=0) > 1 for example in examples):
        raise ValueError("packed traces need the mask that `collate` makes")
    batch, longest = batch_of(examples, pad)
    labels = batch["labels"]
    keep = torch.zeros(labels.shape, dtype=torch.bool)
    keep[:, :-1] = labels[:, 1:] != IGNORED
    batch["logits_to_keep"] = keep
    if len({len(example.ids) for example in examples}) > 1:
        batch["attention_mask"] = _padded([np.ones(len(example.ids), np.int64) for example in examples], 0, longest)
    return batch


def token_loss(outputs: HasLogits, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None) -> torch.Tensor:
    """Negative log-likelihood of the labels of a `collate_single` batch, divided by the number of labels in all batches of the step."""
    wanted = labels[:, 1:][labels[:, 1:] != IGNORED]
    total = functional.cross_entropy(outputs.logits.float().view(len(wanted), -1), wanted, reduction="sum")
    return total / (len(wanted) if num_items_in_batch is None else num_items_in_batch)


def batch_of(examples: Sequence[Example], pad: int) -> tuple[Batch, int]:
    """The right-padded tensors that every collator returns, without the mask, and the padded length in tokens."""
    longest = max(len(example.ids) for example in examples)
    batch = {
        "input_ids": _padded([example.ids for example in examples], pad, longest),
        "labels": _padded([example.labels for example in examples], IGNORED, longest),
        "position_ids": _padded([example.positions for example in examples], 0, longest).transpose(0, 1).contiguous(),
    }
    return batch | dict(_pictures(piece for example in examples for piece in example.pieces)), longest


def _padded(rows: Sequence[NDArray[np.int64]], value: int, longest: int) -> torch.Tensor:
    width = [[(0, 0)] * (row.ndim - 1) + [(0, longest - row.shape[-1])] for row in rows]
    return torch.from_numpy(np.stack([np.pad(row, pads, constant_values=value) for row, pads in zip(rows, width, strict=True)]))


def _pictures(pieces: Iterable[Piece]) -> Iterator[tuple[str, torch.Tensor]]:
    seen = [piece for piece in pieces if piece.pixels is not None]
    for is_video, pixels_name, grid_name in ((False, "pixel_values", "image_grid_thw"), (True, "pixel_values_videos", "video_grid_thw")):
        chosen = [piece for piece in seen if piece.is_video is is_video]
        if chosen:
            yield pixels_name, torch.from_numpy(np.concatenate([piece.pixels for piece in chosen if piece.pixels is not None]))
            yield grid_name, torch.tensor([piece.grid for piece in chosen])
