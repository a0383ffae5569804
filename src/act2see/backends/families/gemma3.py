"""Gemma 3."""

from collections.abc import Mapping, Sequence
from typing import Protocol, cast

import numpy as np
import torch
from PIL import Image

from act2see.backends.families.description import Config, ImageProcessor, Inputs, Model, Pads, Seen
from act2see.backends.families.tiles import TileFamily
from act2see.backends.pieces import Piece, joined
from act2see.core import chat
from act2see.core.chat import Text

GEMMA3 = chat.Format(
    begin=(Text("<bos>", marks=True),),
    heads={
        "user": (Text("<start_of_turn>", marks=True), Text("user\n")),
        "assistant": (Text("<start_of_turn>", marks=True), Text("model\n")),
    },
    end=(Text("<end_of_turn>", marks=True), Text("\n")),
    joins_system="\n\n",
)


class _TextConfig(Protocol):
    sliding_window: int


class GemmaConfig(Config, Protocol):
    """What is read of a Gemma's config."""

    image_token_id: int
    mm_tokens_per_image: int
    text_config: _TextConfig


class Gemma3(TileFamily):
    """A picture's tokens see each other; five of six layers see a window only, so the cache goes back to borders: see `states`.

    A frame is one tile, without pan and scan, which is the processor's default.
    """

    types = ("gemma3",)
    written = GEMMA3
    picture = "<start_of_image>"
    tokens = ("<start_of_image>", "<image_soft_token>", "<end_of_image>")
    pad = "<image_soft_token>"

    def see(self, processor: ImageProcessor, config: Config | None, image: Image.Image) -> Seen:
        """One tile, scaled to the vision model's square."""
        made = processor(images=[image], do_pan_and_scan=False, return_tensors="np")
        start, pad, end = self.tokens
        pads = Pads(pad, cast("GemmaConfig", config).mm_tokens_per_image)
        tokens = (Text("\n\n"), Text(start, marks=True), pads, Text(end, marks=True), Text("\n\n"))
        return Seen(tokens, np.ascontiguousarray(made["pixel_values"], np.float32))

    def tokens_a_frame(self, processor: ImageProcessor, config: Config | None) -> int:
        """The placeholders, two marks and up to four line ends."""
        return cast("GemmaConfig", config).mm_tokens_per_image + 6

    def attention(self, pieces: Sequence[Piece], held: int, model: Model) -> Inputs:
        """Masks of both kinds of layers. transformers makes its own from the whole conversation's token types, which are not kept here."""
        config = cast("GemmaConfig", model.config)
        pads = torch.tensor(joined(pieces)) == config.image_token_id
        masks = masks_of(pads, held, config.text_config.sliding_window, model)
        return {"attention_mask": dict(masks)}


def masks_of(
    pads: torch.Tensor, held: int, window: int, model: Model, *, seen_whole: tuple[str, ...] = ("full_attention", "sliding_attention")
) -> Mapping[str, torch.Tensor | None]:
    """The additive masks (1, 1, tokens, keys) of tokens that follow `held` others, by kind of layer; None where all keys are seen.

    `pads` (tokens,) tells a picture's placeholders, which see each other in the layers named by `seen_whole`. A layer with a window holds the last
    `window - 1` tokens.
    """
    count = len(pads)
    if count == 1:
        return {"full_attention": None, "sliding_attention": None}
    query = torch.arange(held, held + count)[:, None]
    starts = pads & ~torch.cat([torch.tensor([False]), pads[:-1]])
    picture = torch.where(pads, starts.cumsum(0), 0)  # 0: none
    masks = {}
    for kind, first in (("full_attention", 0), ("sliding_attention", max(0, held - window + 1))):
        key = torch.arange(first, held + count)
        seen = key <= query
        if kind in seen_whole:
            of_key = torch.cat([torch.zeros(held - first, dtype=picture.dtype), picture])
            seen |= (picture[:, None] == of_key) & pads[:, None]
        if kind == "sliding_attention":
            seen &= key > query - window
        mask = torch.zeros(seen.shape, dtype=model.dtype).masked_fill_(~seen, torch.finfo(model.dtype).min)
        masks[kind] = mask[None, None].to(model.device)
    return masks
