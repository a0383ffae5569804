"""Generators that are no models, named as a third party's: `tiny_generator:Tint`."""

import os

from PIL import Image

from act2see.config import ImagineConfig
from act2see.core.errors import NoFrameError, OutOfMemoryToolError, ToolError, UnsupportedSizeError
from act2see.core.trace import Frame, Provenance
from act2see.tools.generators.verified import UNFAITHFUL

KINDS = {kind.__name__: kind for kind in (ToolError, NoFrameError, OutOfMemoryToolError, UnsupportedSizeError)}


class Tint:
    """Paints everything red."""

    name = "tint"

    def __init__(self, config: ImagineConfig) -> None:
        self._strength = config.strengths[0] if config.strengths else None

    def generate(self, prompt: str, anchor: Frame, *, seed: int) -> Frame:
        made = Provenance(prompt, anchor.seconds, "tint-1", seed, self._strength, {"gain": 0.25, "picture_anchor": 0.5})
        return Frame(Image.new("RGB", anchor.image.size, "red"), None, provenance=made)


class Unlooked(Tint):
    """Has no scores, for nobody looked."""

    def generate(self, prompt: str, anchor: Frame, *, seed: int) -> Frame:
        return Frame(anchor.image, None, provenance=Provenance(prompt, anchor.seconds, "tint-1", seed))


class Unfaithful(Tint):
    """Makes no picture that may be shown."""

    def generate(self, prompt: str, anchor: Frame, *, seed: int) -> Frame:
        raise NoFrameError(UNFAITHFUL)


class Fails(Tint):
    """Fails with the kind of error that the environment names."""

    def generate(self, prompt: str, anchor: Frame, *, seed: int) -> Frame:
        raise KINDS[os.environ["TINY_GENERATOR_ERROR"]]("it failed")
