"""Generators that bring what was not asked for: with them, an evaluation shows whether the picture itself makes the difference."""

from dataclasses import dataclass, replace

from act2see.core.interfaces import Generator
from act2see.core.trace import Frame, Provenance
from act2see.video import Video
from act2see.video.pictures import blurred


@dataclass(frozen=True, slots=True)
class UneditedAnchor:
    """The frame that a picture would be made from, as it is, in the picture's place."""

    name: str = "unedited"

    def generate(self, prompt: str, anchor: Frame, *, seed: int) -> Frame:
        """The anchor's picture, without its time."""
        return Frame(anchor.image, None, provenance=Provenance(prompt, anchor.seconds, self.name, seed))


@dataclass(frozen=True, slots=True)
class BlurredPictures:
    """What the real generator makes of the anchor as it is in the video, too blurred to read."""

    real: Generator
    video: Video
    """Where the anchor, which may come blurred too, is taken from again."""

    @property
    def name(self) -> str:
        """For `Trace.made_with`."""
        return f"blurred of {self.real.name}"

    def generate(self, prompt: str, anchor: Frame, *, seed: int) -> Frame:
        """The real picture, blurred. Raises `ToolError` where the real generator does."""
        sharp = anchor if anchor.seconds is None else self.video.frame_at(anchor.seconds)
        made = self.real.generate(prompt, sharp, seed=seed)
        return replace(made, image=blurred(made.image))
