"""Image generation with verification: the paper's generator (an anchor, then image-to-image), plus a check of every picture (ours)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from act2see.core.errors import NoFrameError
from act2see.core.flops import counted_as
from act2see.core.interfaces import FrameEncoder, Painter, PictureCheck, PictureJudge
from act2see.core.trace import Frame, Provenance

UNFAITHFUL = "no faithful picture could be made"


class VerifiedGenerator:
    """Generates with increasing strength, then with further seeds, until a picture passes verification; the `Generator` of the loop.

    Tries `tries` seeds, each with all of the painter's strengths. Without a judge, returns the first picture, marked as unverified. The same
    applies to anchors for which `cannot_judge` returns a reason why the judge does not apply.
    """

    def __init__(
        self, painter: Painter, judge: PictureJudge | None, *, tries: int = 2, cannot_judge: Callable[[Image.Image], str | None] | None = None
    ) -> None:
        self.painter, self.judge, self.tries, self.cannot_judge = painter, judge, tries, cannot_judge

    @property
    def name(self) -> str:
        """The names of the painter and the judge."""
        return f"{self.painter.name}, {self.judge.name if self.judge else 'unverified'}"

    def generate(self, prompt: str, anchor: Frame, *, seed: int) -> Frame:
        """A generated frame, without a timestamp. Raises `ToolError` if no picture passes verification."""
        painted = 0
        unverified = self.cannot_judge(anchor.image) if self.judge and self.cannot_judge else None
        for number in range(self.tries):
            for strength in self.painter.strengths:
                image = self.painter.paint(prompt, anchor.image, seed=seed + number, strength=strength)
                painted += 1
                provenance = Provenance(prompt, anchor.seconds, self.painter.model, seed + number, strength)
                if self.judge is None or unverified is not None:
                    return Frame(image, None, provenance=replace(provenance, unverified=unverified))
                with counted_as("judge"):
                    verdict = self.judge.judge(prompt, anchor.image, image)
                if verdict.passes:
                    return Frame(image, None, provenance=replace(provenance, scores={**verdict.scores, "painted": painted}))
        raise NoFrameError(UNFAITHFUL)


@dataclass(frozen=True, slots=True)
class EncoderJudge:
    """The retriever's encoder as judge: the picture must match the prompt better than its anchor, and remain similar to the anchor.

    Both bounds are in the encoder's units and not calibrated for any encoder yet; see docs/generators.md.
    """

    encoder: FrameEncoder
    margin: float
    """Minimum gain in prompt similarity over the anchor."""
    floor: float
    """Minimum cosine similarity between picture and anchor."""

    @property
    def name(self) -> str:
        """For `Trace.made_with`."""
        return f"verified by {self.encoder.name}(margin={self.margin:g}, floor={self.floor:g})"

    def judge(self, prompt: str, anchor: Image.Image, picture: Image.Image) -> PictureCheck:
        """A verdict with these scores: prompt similarity of the picture and of the anchor, the gain, and the similarity of the two pictures."""
        frames = self.encoder.encode_frames([anchor, picture])
        before, after = (float(score) for score in self.encoder.scores(frames, self.encoder.encode_text(prompt)))
        similarity = _similarity(frames[0], frames[1])
        scores: Mapping[str, float] = {
            "prompt_picture": round(after, 4),
            "prompt_anchor": round(before, 4),
            "gain": round(after - before, 4),
            "picture_anchor": round(similarity, 4),
        }
        return PictureCheck(after - before >= self.margin and similarity >= self.floor, scores)


def _similarity(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Cosine similarity of two frames' mean vectors, each (vectors, width)."""
    first, second = one.mean(axis=0), other.mean(axis=0)
    return float(first @ second / (np.linalg.norm(first) * np.linalg.norm(second)))
