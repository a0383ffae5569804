"""A generator that looks at what it made: the paper's (an anchor, then image-to-image), with a check of every picture that the paper lacks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from act2see.core.errors import NoFrameError
from act2see.core.interfaces import FrameEncoder, Painter, PictureJudge, Verdict
from act2see.core.trace import Frame, Provenance

UNFAITHFUL = "no faithful picture could be made"


class VerifiedGenerator:
    """Paints with growing strength, then with other seeds, until a picture passes; the `Generator` of the loop.

    `tries` seeds are tried, each with all of the painter's strengths. Without a judge the first picture is taken, and says that nobody looked at it;
    so is that of an anchor of which `cannot_judge` says why its judge knows nothing of it.
    """

    def __init__(
        self, painter: Painter, judge: PictureJudge | None, *, tries: int = 2, cannot_judge: Callable[[Image.Image], str | None] | None = None
    ) -> None:
        self.painter, self.judge, self.tries, self.cannot_judge = painter, judge, tries, cannot_judge

    @property
    def name(self) -> str:
        """The painter's and the judge's names."""
        return f"{self.painter.name}, {self.judge.name if self.judge else 'unverified'}"

    def generate(self, prompt: str, anchor: Frame, *, seed: int) -> Frame:
        """A frame without a time. Raises `ToolError` when no picture passes within the tries."""
        painted = 0
        unverified = self.cannot_judge(anchor.image) if self.judge and self.cannot_judge else None
        for number in range(self.tries):
            for strength in self.painter.strengths:
                image = self.painter.paint(prompt, anchor.image, seed=seed + number, strength=strength)
                painted += 1
                made = Provenance(prompt, anchor.seconds, self.painter.model, seed + number, strength)
                if self.judge is None or unverified is not None:
                    return Frame(image, None, provenance=replace(made, unverified=unverified))
                verdict = self.judge.judge(prompt, anchor.image, image)
                if verdict.passes:
                    return Frame(image, None, provenance=replace(made, scores={**verdict.scores, "painted": painted}))
        raise NoFrameError(UNFAITHFUL)


@dataclass(frozen=True, slots=True)
class EncoderJudge:
    """The retriever's encoder as the judge: the picture must fit the prompt better than its anchor does, and still look like the anchor.

    Both bounds are in the encoder's own units and calibrated for none yet; see docs/generators.md.
    """

    encoder: FrameEncoder
    margin: float
    """By how much the picture must fit the prompt better than the anchor."""
    floor: float
    """How alike picture and anchor must be at least."""

    @property
    def name(self) -> str:
        """For `Trace.made_with`."""
        return f"verified by {self.encoder.name}(margin={self.margin:g}, floor={self.floor:g})"

    def judge(self, prompt: str, anchor: Image.Image, picture: Image.Image) -> Verdict:
        """Scores by name: how well the picture and the anchor fit the prompt, the gain, and how alike the two are."""
        frames = self.encoder.encode_frames([anchor, picture])
        before, after = (float(score) for score in self.encoder.scores(frames, self.encoder.encode_text(prompt)))
        alike = _alike(frames[0], frames[1])
        scores: Mapping[str, float] = {
            "prompt_picture": round(after, 4),
            "prompt_anchor": round(before, 4),
            "gain": round(after - before, 4),
            "picture_anchor": round(alike, 4),
        }
        return Verdict(after - before >= self.margin and alike >= self.floor, scores)


def _alike(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """The cosine of two frames' mean vectors, each (vectors, width)."""
    first, second = one.mean(axis=0), other.mean(axis=0)
    return float(first @ second / (np.linalg.norm(first) * np.linalg.norm(second)))
