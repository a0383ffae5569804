"""InternVL 2.5, 3 and 3.5, as converted for transformers (the folders named -HF)."""

from typing import Protocol, cast

import numpy as np
from PIL import Image

from act2see.backends.families.description import Config, ImageProcessor, Pads, Seen
from act2see.backends.families.tiles import TileFamily
from act2see.core.chat import Text


class _InternConfig(Config, Protocol):
    image_seq_length: int


class InternVL(TileFamily):
    """A frame is one tile, as its processor has it for videos; a line end follows."""

    types = ("internvl",)
    picture = "<IMG_CONTEXT>\n"
    tokens = ("<img>", "<IMG_CONTEXT>", "</img>")
    pad = "<IMG_CONTEXT>"

    def see(self, processor: ImageProcessor, config: Config | None, image: Image.Image) -> Seen:
        """One tile, scaled to the vision model's square."""
        made = processor(images=[image], crop_to_patches=False, return_tensors="np")
        pads = Pads(self.pad, cast("_InternConfig", config).image_seq_length)
        tokens = (Text("<img>", marks=True), pads, Text("</img>", marks=True), Text("\n"))
        return Seen(tokens, np.ascontiguousarray(made["pixel_values"], np.float32))

    def tokens_a_frame(self, processor: ImageProcessor, config: Config | None) -> int:
        """The placeholders, two marks and a line end."""
        return cast("_InternConfig", config).image_seq_length + 3
