"""SmolVLM and SmolVLM2."""

from collections.abc import Sequence
from typing import Protocol, cast

import numpy as np
from PIL import Image

from act2see.backends.families.description import Config, ImageProcessor, Inputs, Model, Pads, Seen
from act2see.backends.families.tiles import TileFamily, tiles_of
from act2see.backends.pieces import Piece
from act2see.core import chat
from act2see.core.chat import Text

SMOLVLM = chat.Format(
    begin=(Text("<|im_start|>", marks=True),),
    heads={"system": (Text("System:"),), "user": (Text("User:"),), "assistant": (Text("Assistant:"),)},
    end=(Text("<end_of_utterance>", marks=True), Text("\n")),
    lead=" ",
)


class _Vision(Protocol):
    image_size: int
    patch_size: int


class _SmolConfig(Config, Protocol):
    scale_factor: int
    vision_config: _Vision


class SmolVLM(TileFamily):
    """A frame is not split into tiles, as its processor does with images and does not with videos."""

    types = ("smolvlm",)
    written = SMOLVLM
    picture = "<image>"
    tokens = ("<fake_token_around_image>", "<global-img>", "<image>")
    pad = "<image>"

    def see(self, processor: ImageProcessor, config: Config | None, image: Image.Image) -> Seen:
        """One tile, scaled to the vision model's square."""
        made = processor(images=[image], do_image_splitting=False, return_tensors="np")
        around, whole = Text("<fake_token_around_image>", marks=True), Text("<global-img>", marks=True)
        return Seen((around, whole, Pads(self.pad, _placeholders(config)), around), np.ascontiguousarray(made["pixel_values"][0], np.float32))

    def tokens_a_frame(self, processor: ImageProcessor, config: Config | None) -> int:
        """The placeholders and three marks."""
        return _placeholders(config) + 3

    def pixels(self, pieces: Sequence[Piece], model: Model) -> Inputs:
        """All tiles as those of one conversation."""
        shown = tiles_of(pieces)
        return {} if shown is None else {"pixel_values": shown[None].to(model.device, model.dtype)}


def _placeholders(config: Config | None) -> int:
    own = cast("_SmolConfig", config)
    return int((own.vision_config.image_size // own.vision_config.patch_size) ** 2 / own.scale_factor**2)
