"""Gemma 4."""

from collections.abc import Sequence
from typing import ClassVar, Protocol, cast

import numpy as np
import torch
from PIL import Image

from act2see.backends.families.description import Config, ImageProcessor, Inputs, Model, Pads, Seen
from act2see.backends.families.gemma3 import masks_of
from act2see.backends.families.tiles import TileFamily
from act2see.backends.pieces import Piece, joined
from act2see.core import chat
from act2see.core.chat import Text

GEMMA4 = chat.Format(
    begin=(Text("<bos>", marks=True),),
    heads={
        "system": (Text("<|turn>", marks=True), Text("system\n")),
        "user": (Text("<|turn>", marks=True), Text("user\n")),
        "assistant": (Text("<|turn>", marks=True), Text("model\n")),
    },
    end=(Text("<turn|>", marks=True), Text("\n")),
)


class _Processor(ImageProcessor, Protocol):
    max_soft_tokens: int


class _TextConfig(Protocol):
    sliding_window: int
    use_bidirectional_attention: str | None


class _GemmaConfig(Config, Protocol):
    image_token_id: int
    text_config: _TextConfig


class Gemma4(TileFamily):
    """Pictures of any shape as (padded patches, patch values) with a grid, but one position a token.

    Most layers see a window only, so the cache goes back to borders: see `states`.
    """

    types = ("gemma4",)
    written = GEMMA4
    picture = "<|image|>"
    tokens = ("<|image>", "<|image|>", "<image|>")
    pad = "<|image|>"
    around: ClassVar[str] = ""
    """Text on both sides of a picture."""

    @property
    def variants(self) -> "Sequence[Gemma4]":
        """The chat template has had two versions."""
        return (self, Gemma4Apart())

    def see(self, processor: ImageProcessor, config: Config | None, image: Image.Image) -> Seen:
        """The patches that fit into the processor's number of tokens."""
        made = processor(images=[image], return_tensors="np")
        start, pad, end = self.tokens
        pads = Pads(pad, int(made["num_soft_tokens_per_image"][0]))
        between = (Text(self.around),) if self.around else ()
        width, height = (int(last) + 1 for last in made["image_position_ids"][0].max(axis=0))
        tokens = (*between, Text(start, marks=True), pads, Text(end, marks=True), *between)
        return Seen(tokens, np.ascontiguousarray(made["pixel_values"][0], np.float32), (1, height, width))

    def tokens_a_frame(self, processor: ImageProcessor, config: Config | None) -> int:
        """The processor's most placeholders, two marks and up to four line ends."""
        return cast("_Processor", processor).max_soft_tokens + 6

    def pixels(self, pieces: Sequence[Piece], model: Model) -> Inputs:
        """Patches (pictures, patches, patch values) and their places (pictures, patches, 2), which are -1 for padding."""
        shown = [piece for piece in pieces if piece.pixels is not None]
        if not shown:
            return {}
        patches = torch.stack([torch.from_numpy(piece.pixels) for piece in shown if piece.pixels is not None])
        places = torch.stack([_places(piece, patches.shape[1]) for piece in shown])
        return {"pixel_values": patches.to(model.device, model.dtype), "image_position_ids": places.to(model.device)}

    def attention(self, pieces: Sequence[Piece], held: int, model: Model) -> Inputs:
        """Masks of both kinds of layers. In the larger models a picture's tokens see each other, in the layers with a window."""
        config = cast("_GemmaConfig", model.config)
        pads = torch.tensor(joined(pieces)) == config.image_token_id
        seen_whole = ("sliding_attention",) if config.text_config.use_bidirectional_attention == "vision" else ()
        return {"attention_mask": dict(masks_of(pads, held, config.text_config.sliding_window, model, seen_whole=seen_whole))}


class Gemma4Apart(Gemma4):
    """As its first chat template writes pictures: with empty lines around them."""

    picture = "\n\n<|image|>\n\n"
    around = "\n\n"


def _places(piece: Piece, patches: int) -> torch.Tensor:
    assert piece.grid is not None
    _, height, width = piece.grid
    places = torch.full((patches, 2), -1, dtype=torch.long)
    places[: height * width, 0] = torch.arange(width).repeat(height)
    places[: height * width, 1] = torch.arange(height).repeat_interleave(width)
    return places
