"""A generator that imagines nothing: with it, an evaluation shows whether the picture itself makes the difference."""

from dataclasses import dataclass

from act2see.trace import Frame, Provenance


@dataclass(frozen=True, slots=True)
class UneditedAnchor:
    """The frame that a picture would be made from, as it is, in the picture's place."""

    name: str = "unedited"

    def generate(self, prompt: str, anchor: Frame, *, seed: int) -> Frame:
        """The anchor's picture, without its time."""
        return Frame(anchor.image, None, provenance=Provenance(prompt, anchor.seconds, self.name, seed))
