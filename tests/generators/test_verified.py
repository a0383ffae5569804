"""Which picture is kept, who is asked about it, and how the encoder decides; see `test_painting.py` for the ladder itself."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from act2see import registry
from act2see.config import EvalConfig, ImagineConfig
from act2see.core.errors import NoFrameError
from act2see.core.interfaces import FrameEncoder, Painter, PictureCheck, PictureJudge
from act2see.core.trace import Frame, Provenance
from act2see.evaluation import setup
from act2see.evaluation.picture_controls import UneditedAnchor
from act2see.tools.generators.verified import UNFAITHFUL, EncoderJudge, VerifiedGenerator
from cli_fakes import Finder
from tiny_encoder import Grey

ANCHOR = Frame(Image.new("RGB", (8, 8), "blue"), 2.5)


@dataclass
class Brush:
    """Paints its seed and its strength."""

    strengths: tuple[float | None, ...] = (0.25, 0.5)
    name: str = "brush(4 steps)"
    model: str = "brush"
    painted: list[tuple[int, float | None]] = field(default_factory=list)

    def paint(self, prompt: str, anchor: Image.Image, *, seed: int, strength: float | None) -> Image.Image:
        self.painted.append((seed, strength))
        return Image.new("RGB", anchor.size, (seed, round(100 * (strength or 0)), 0))


@dataclass
class Third:
    """Passes the picture at that place and remembers what it was asked."""

    place: int
    name: str = "third"
    asked: list[tuple[str, object, object]] = field(default_factory=list)

    def judge(self, prompt: str, anchor: Image.Image, picture: Image.Image) -> PictureCheck:
        self.asked.append((prompt, anchor.getpixel((0, 0)), picture.getpixel((0, 0))))
        return PictureCheck(len(self.asked) == self.place, {"number": float(len(self.asked))})


@pytest.mark.parametrize(("place", "seed", "strength"), [(1, 5, 0.25), (2, 5, 0.5), (3, 6, 0.25), (6, 7, 0.5)])
def test_nothing_is_painted_after_a_picture_that_passes(place: int, seed: int, strength: float) -> None:
    brush, third = Brush(), Third(place)
    painter: Painter = brush
    judge: PictureJudge = third
    made = VerifiedGenerator(painter, judge, tries=3).generate("a red star", ANCHOR, seed=5)
    assert made.seconds is None
    assert made.image.getpixel((0, 0)) == (seed, 100 * strength, 0)
    assert made.provenance == Provenance("a red star", 2.5, "brush", seed, strength, {"number": place, "painted": place})
    assert len(brush.painted) == place
    assert third.asked[0] == ("a red star", (0, 0, 255), (5, 25, 0))


def test_when_none_passes_the_model_is_told_to_go_on_without() -> None:
    brush = Brush(strengths=(None,))
    with pytest.raises(NoFrameError) as error:
        VerifiedGenerator(brush, Third(0), tries=3).generate("a red star", ANCHOR, seed=5)
    assert str(error.value) == UNFAITHFUL
    assert brush.painted == [(5, None), (6, None), (7, None)]


def test_without_a_judge_nobody_says_that_somebody_looked() -> None:
    brush = Brush()
    generator = VerifiedGenerator(brush, None, tries=3)
    assert generator.name == "brush(4 steps), unverified"
    assert generator.generate("a red star", ANCHOR, seed=5).provenance == Provenance("a red star", 2.5, "brush", 5, 0.25, {})
    assert brush.painted == [(5, 0.25)]
    assert VerifiedGenerator(brush, Third(1)).name == "brush(4 steps), third"


class Pixels:
    """A frame is two vectors, the colours of its left and its right half; a text is pure red, and the better half counts."""

    name, fingerprint, side, threshold = "pixels", "", 8, 0.0

    def encode_frames(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        halves = np.array([[image.getpixel((0, 0)), image.getpixel((image.width - 1, 0))] for image in images], np.float32)
        unit: NDArray[np.float32] = (halves / np.linalg.norm(halves, axis=2, keepdims=True)).astype(np.float32)
        return unit

    def encode_text(self, text: str) -> NDArray[np.float32]:
        return np.array([1, 0, 0], np.float32)

    def scores(self, frames: NDArray[np.floating], text: NDArray[np.float32]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = (frames @ text).max(axis=1).astype(np.float32)
        return found


def halves(left: tuple[int, int, int], right: tuple[int, int, int]) -> Image.Image:
    made = Image.new("RGB", (2, 1))
    made.putpixel((0, 0), left)
    made.putpixel((1, 0), right)
    return made


# Left halves' cosines with red are 0.6 and 0.8, the right ones' 0. The means are (0.3, 0.4, 0.5) and (0.4, 0.3, 0.5): their cosine is
# 0.49 / 0.5. The last picture is its anchor.
BEFORE, AFTER = halves((3, 4, 0), (0, 0, 9)), halves((4, 3, 0), (0, 0, 9))


@pytest.mark.parametrize(
    ("margin", "floor", "passes"),
    [(0.19, 0.97, True), (0.0, 0.0, True), (0.21, 0.97, False), (0.19, 0.99, False), (0.21, 0.99, False), (-1.0, 0.99, False), (0.21, -1.0, False)],
)
def test_gain_and_likeness_each_decide(margin: float, floor: float, passes: bool) -> None:
    encoder: FrameEncoder = Pixels()
    judge = EncoderJudge(encoder, margin, floor)
    verdict = judge.judge("red", BEFORE, AFTER)
    assert verdict.passes == passes
    assert verdict.scores == pytest.approx({"prompt_picture": 0.8, "prompt_anchor": 0.6, "gain": 0.2, "picture_anchor": 0.98}, abs=2e-4)
    assert judge.name == f"verified by pixels(margin={margin:g}, floor={floor:g})"


def test_a_picture_that_is_its_anchor_gains_nothing() -> None:
    verdict = EncoderJudge(Pixels(), margin=0.01, floor=0.0).judge("red", BEFORE, BEFORE)
    assert not verdict.passes
    assert (verdict.scores["gain"], verdict.scores["picture_anchor"]) == pytest.approx((0, 1), abs=2e-4)


# By name


def test_a_named_model_is_checked_with_the_retrievers_encoder(pipeline_folder: Path) -> None:
    found_by: Any = SimpleNamespace(encoder=Grey())
    config = ImagineConfig(device="cpu", margin=0.5, floor=0.25, tries=3, strengths=(0.125,))
    made = registry.generator(f"diffusers:{pipeline_folder}", config, found_by)
    assert isinstance(made, VerifiedGenerator)
    assert made.name == "model(8 steps), verified by grey(margin=0.5, floor=0.25)"
    assert (made.tries, made.painter.strengths) == (3, (0.125,))
    unverified = registry.generator(f"diffusers:{pipeline_folder}", ImagineConfig(device="cpu", judge="none"), found_by)
    assert unverified is not None
    assert unverified.name == "model(8 steps), unverified"


def test_without_a_retriever_or_by_that_name_nothing_is_imagined() -> None:
    config = EvalConfig(backend="openai:some-model")
    finder: Any = Finder(config)
    assert registry.generator("none", config, finder) is None
    assert registry.generator("micro", config, None) is None
    assert registry.generator("auto", config, finder) is None  # beside another backend than the embedded one


def test_an_evaluation_can_show_the_anchor_instead() -> None:
    made = setup.imaginer(EvalConfig(frames="unedited"), None)
    assert isinstance(made, UneditedAnchor)
    shown = made.generate("a red star", ANCHOR, seed=5)
    assert shown.image is ANCHOR.image
    assert shown.provenance == Provenance("a red star", 2.5, "unedited", 5)
