"""Picture controls: generators that return other pictures than requested, to measure the effect of the generated picture itself."""

from dataclasses import dataclass, replace

from act2see.core.interfaces import Generator
from act2see.core.trace import Frame, Provenance
from act2see.video import Video
from act2see.video.pictures import blurred


@dataclass(frozen=True, slots=True)
class UneditedAnchor:
    """Returns the unedited anchor frame instead of a picture."""

    name: str = "unedited"

    def generate(self, prompt: str, anchor: Frame, *, seed: int) -> Frame:
        """The anchor's picture, without its time."""
        return Frame(anchor.image, None, provenance=Provenance(prompt, anchor.seconds, self.name, seed))


@dataclass(frozen=True, slots=True)
class BlurredPictures:
    """The real generator's picture, blurred beyond recognition. It edits the unblurred anchor."""

    real: Generator
    video: Video
    """Source of the unblurred anchor, since retrieved frames may be blurred too."""

    @property
    def name(self) -> str:
        """For `Trace.made_with`."""
        return f"blurred of {self.real.name}"

    def generate(self, prompt: str, anchor: Frame, *, seed: int) -> Frame:
        """The real picture, blurred. Raises `ToolError` where the real generator does."""
        sharp = anchor if anchor.seconds is None else self.video.frame_at(anchor.seconds)
        made = self.real.generate(prompt, sharp, seed=seed)
        return replace(made, image=blurred(made.image))
