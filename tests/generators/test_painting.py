"""Painting by a diffusion pipeline of the real classes with random weights, and the check of what was painted."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from act2see.core.errors import ConfigError, ToolError
from act2see.core.interfaces import Painter, PictureCheck, PictureJudge
from act2see.core.trace import Frame
from act2see.evaluation.picture_controls import UneditedAnchor
from act2see.tools.generators import diffusion
from act2see.tools.generators.diffusion import DiffusionPainter, DiffusionSettings, work_size
from act2see.tools.generators.verified import UNFAITHFUL, EncoderJudge, VerifiedGenerator


def anchor(width: int = 256, height: int = 256) -> Image.Image:
    pixels = np.linspace(0, 255, width * height * 3).reshape(height, width, 3)
    return Image.fromarray(pixels.astype(np.uint8))


def test_the_same_seed_gives_the_same_picture_bit_for_bit(pipeline_folder: Path) -> None:
    one, other = (DiffusionPainter.load(DiffusionSettings(str(pipeline_folder), device="cpu")) for _ in range(2))
    first = one.paint("a red star", anchor(), seed=3, strength=0.25)
    assert first.tobytes() == other.paint("a red star", anchor(), seed=3, strength=0.25).tobytes()
    assert first.tobytes() == one.paint("a red star", anchor(), seed=3, strength=0.25).tobytes()
    assert first.tobytes() != one.paint("a red star", anchor(), seed=4, strength=0.25).tobytes()


@pytest.mark.parametrize("size", [(256, 256), (160, 96), (50, 70)])
def test_a_picture_has_its_anchors_size(pipeline_folder: Path, size: tuple[int, int]) -> None:
    painter = DiffusionPainter.load(DiffusionSettings(str(pipeline_folder), device="cpu"))
    made = painter.paint("a red star", anchor(*size), seed=0, strength=0.001)  # less than one step
    assert (made.mode, made.size) == ("RGB", size)


def test_what_a_ladder_asks_for_again_is_computed_once(pipeline_folder: Path) -> None:
    painter = DiffusionPainter.load(DiffusionSettings(str(pipeline_folder), device="cpu"))
    calls = {"text": 0, "picture": 0}

    def count(name: str) -> None:
        calls[name] += 1

    pipeline: Any = painter._pipeline
    pipeline.text_encoder.register_forward_hook(lambda *_: count("text"))
    pipeline.vae.encoder.register_forward_hook(lambda *_: count("picture"))
    for strength in (0.25, 0.375, 0.5):
        painter.paint("a red star", anchor(), seed=0, strength=strength)
    assert calls == {"text": 1, "picture": 1}
    painter.paint("a blue star", anchor(), seed=0, strength=0.5)
    assert calls == {"text": 2, "picture": 1}


def test_a_folders_own_settings_are_read_and_can_be_overruled(pipeline_folder: Path) -> None:
    painter = DiffusionPainter.load(DiffusionSettings(str(pipeline_folder), device="cpu"))
    assert painter.strengths == (0.25, 0.375)
    assert painter.name == "model(8 steps)"
    assert not painter.is_editor
    assert DiffusionPainter.load(DiffusionSettings(str(pipeline_folder), device="cpu", strengths=(0.5,))).strengths == (0.5,)


@pytest.mark.parametrize(("size", "pixels"), [((1920, 1080), 1024 * 1024), ((256, 256), 4096), ((640, 480), 10**9), ((3000, 40), 4096)])
def test_the_size_that_is_worked_at_follows_the_frame(size: tuple[int, int], pixels: int) -> None:
    width, height = work_size(size, pixels)
    assert width % 16 == height % 16 == 0
    assert (width - 16) * (height - 16) <= pixels
    assert (width > height) == (size[0] > size[1])


def test_memory_is_chosen_by_what_has_room() -> None:
    parts = {"transformer": 16, "text": 10}
    assert [diffusion._memory_for(parts, free) for free in (None, 40, 24, 20)] == ["none", "none", "model-offload", "group-offload"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (DiffusionSettings("no/such/folder/here"), "cannot load the generator"),
        (DiffusionSettings("x", device="tpu9"), "device 'tpu9' cannot be used"),
        (DiffusionSettings("x", dtype="int3"), "dtype is 'int3'"),
    ],
)
def test_what_cannot_be_loaded_is_said_in_one_line(settings: DiffusionSettings, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        DiffusionPainter.load(settings)
    assert "\n" not in str(error.value)


# The check


@dataclass
class Brush:
    """Paints one flat colour, brighter with the strength, and remembers what it was asked."""

    name: str = "brush"
    model: str = "brush-1"
    strengths: tuple[float | None, ...] = (0.5, 0.8)
    asked: list[tuple[int, float | None]] = field(default_factory=list)

    def paint(self, prompt: str, anchor: Image.Image, *, seed: int, strength: float | None) -> Image.Image:
        self.asked.append((seed, strength))
        return Image.new("RGB", anchor.size, (seed, round(100 * (strength or 0)), 0))


@dataclass
class Wants:
    """Passes pictures with that seed and strength in their pixels."""

    pixel: tuple[int, int, int]
    name: str = "wants"

    def judge(self, prompt: str, anchor: Image.Image, picture: Image.Image) -> PictureCheck:
        return PictureCheck(picture.getpixel((0, 0)) == self.pixel, {"gain": 0.25})


def test_the_weakest_strength_that_passes_is_kept_then_another_seed_is_tried() -> None:
    brush: Brush = Brush()
    painter: Painter = brush
    judge: PictureJudge = Wants((8, 50, 0))
    made = VerifiedGenerator(painter, judge, tries=2).generate("a red star", Frame(anchor(), 2.5), seed=7)
    assert brush.asked == [(7, 0.5), (7, 0.8), (8, 0.5)]
    assert made.seconds is None
    assert made.provenance is not None
    assert (made.provenance.prompt, made.provenance.anchor_seconds, made.provenance.model) == ("a red star", 2.5, "brush-1")
    assert (made.provenance.seed, made.provenance.strength, made.provenance.scores) == (8, 0.5, {"gain": 0.25, "painted": 3})


def test_no_picture_is_better_than_a_false_one() -> None:
    brush = Brush()
    with pytest.raises(ToolError, match=UNFAITHFUL):
        VerifiedGenerator(brush, Wants((0, 0, 99)), tries=2).generate("a red star", Frame(anchor(), 0.0), seed=0)
    assert len(brush.asked) == 4


def test_without_a_judge_the_first_picture_is_taken_and_has_no_scores() -> None:
    made = VerifiedGenerator(Brush(), None).generate("a red star", Frame(anchor(), 0.0), seed=0)
    assert made.provenance is not None
    assert (made.provenance.strength, made.provenance.scores) == (0.5, {})


class Corners:
    """Encodes a picture as the colour of its corner, and a text as pure red."""

    name = "corners"
    fingerprint = ""
    side = 8
    threshold = 0.0

    def encode_frames(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        rows = np.array([image.getpixel((0, 0)) for image in images], np.float32)
        unit: NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=1, keepdims=True))[:, None].astype(np.float32)
        return unit

    def encode_text(self, text: str) -> NDArray[np.float32]:
        return np.array([1, 0, 0], np.float32)

    def scores(self, frames: NDArray[np.floating], text: NDArray[np.float32]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = (frames @ text).max(axis=1).astype(np.float32)
        return found


def test_a_picture_must_fit_better_than_its_anchor_and_still_be_like_it() -> None:
    before, after = Image.new("RGB", (8, 8), (3, 4, 0)), Image.new("RGB", (8, 8), (4, 3, 0))  # cosines with red: 0.6, 0.8; with each other: 0.96
    verdict = EncoderJudge(Corners(), margin=0.15, floor=0.9).judge("red", before, after)
    assert verdict.passes
    assert verdict.scores == pytest.approx({"prompt_picture": 0.8, "prompt_anchor": 0.6, "gain": 0.2, "picture_anchor": 0.96}, abs=1e-3)
    assert not EncoderJudge(Corners(), margin=0.25, floor=0.9).judge("red", before, after).passes
    assert not EncoderJudge(Corners(), margin=0.15, floor=0.97).judge("red", before, after).passes


def test_the_control_shows_the_anchor_as_it_is() -> None:
    made = UneditedAnchor().generate("a red star", Frame(anchor(), 1.5), seed=0)
    assert made.image.tobytes() == anchor().tobytes()
    assert made.seconds is None
    assert made.provenance is not None
    assert made.provenance.anchor_seconds == 1.5


@pytest.mark.parametrize("own", ['{"steps": 0}', '{"strengths": ["a"]}', '{"strengths": [2]}', '{"guidance": "x"}', '{"max_pixels": "many"}'])
def test_a_folders_settings_that_cannot_be_used_are_said_in_one_line(tmp_path: Path, own: str) -> None:
    (tmp_path / "act2see.json").write_text(own, encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot load the generator") as error:
        DiffusionPainter.load(DiffusionSettings(str(tmp_path), device="cpu"))
    assert "model_index" not in str(error.value)
    assert "\n" not in str(error.value)
