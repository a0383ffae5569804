"""Generators that bring what was not asked for: the anchor as it is, and the right picture too blurred to read."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from act2see.core.errors import ToolError
from act2see.core.trace import Frame, Provenance
from act2see.evaluation.picture_controls import BlurredPictures
from act2see.video import Video


@dataclass
class Mirrors:
    """Mirrors its anchor; the prompt `impossible` cannot be made."""

    name: str = "mirrors"
    anchors: list[Frame] = field(default_factory=list)

    def generate(self, prompt: str, anchor: Frame, *, seed: int) -> Frame:
        if prompt == "impossible":
            raise ToolError("no faithful picture could be made")
        self.anchors.append(anchor)
        made = anchor.image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return Frame(made, None, provenance=Provenance(prompt, anchor.seconds, "mirrors", seed))


@pytest.fixture
def video(write_video: Callable[..., Path]) -> Video:
    return Video(write_video("clip.mp4", [n / 24 for n in range(25)]))


def test_the_picture_is_made_from_the_sharp_anchor_and_then_blurred(video: Video) -> None:
    real = Mirrors()
    sharp = video.frame_at(0.5)
    smudge = Frame(Image.new("RGB", sharp.image.size, "grey"), sharp.seconds)
    made = BlurredPictures(real, video).generate("a red star", smudge, seed=3)
    assert real.anchors[0].image.tobytes() == sharp.image.tobytes()
    assert made.seconds is None
    assert made.provenance == Provenance("a red star", sharp.seconds, "mirrors", 3)
    right, soft = np.asarray(sharp.image, np.float32)[:, ::-1], np.asarray(made.image, np.float32)
    assert abs(soft.mean() - right.mean()) < 3
    assert np.abs(np.diff(soft, axis=1)).max() < 0.2 * np.abs(np.diff(right, axis=1)).max()


def test_what_the_real_generator_cannot_make_is_not_made(video: Video) -> None:
    with pytest.raises(ToolError, match="no faithful picture"):
        BlurredPictures(Mirrors(), video).generate("impossible", video.frame_at(0.0), seed=0)


def test_an_anchor_that_was_never_in_the_video_is_taken_as_it_is(video: Video) -> None:
    real = Mirrors()
    BlurredPictures(real, video).generate("a star", Frame(Image.new("RGB", (32, 32), "red"), None), seed=0)
    assert real.anchors[0].image.getpixel((0, 0)) == (255, 0, 0)
    assert BlurredPictures(real, video).name == "blurred of mirrors"
