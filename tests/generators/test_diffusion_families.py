"""FLUX.2-klein's real pipeline with random weights: an editor, loaded from a folder as the full-size one is."""

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from act2see.core.errors import UnsupportedSizeError
from act2see.tools.generators.diffusion import DiffusionPainter, DiffusionSettings

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "generate.py"


@pytest.fixture(scope="module")
def klein(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = runpy.run_path(str(BENCHMARK))["random_klein"](tmp_path_factory.mktemp("klein"))
    return folder


@pytest.fixture(scope="module")
def painter(klein: Path) -> DiffusionPainter:
    return DiffusionPainter.load(DiffusionSettings(model=str(klein), device="cpu", steps=2))


def anchor(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize("size", [(100, 60), (64, 64), (48, 130)])
def test_the_picture_has_the_frames_size_whatever_it_is(painter: DiffusionPainter, size: tuple[int, int]) -> None:
    made = painter.paint("the star is red", anchor(*size), seed=0, strength=None)
    assert (made.size, made.mode) == (size, "RGB")


def test_a_shape_that_the_pipeline_refuses_is_a_tools_error(painter: DiffusionPainter) -> None:
    with pytest.raises(UnsupportedSizeError, match=r"cannot work at 640 x 64 pixels \(Aspect ratio"):
        painter.paint("the star is red", anchor(640, 64), seed=0, strength=None)


def test_the_same_seed_gives_the_same_picture_and_another_another(painter: DiffusionPainter) -> None:
    first, again, other = (painter.paint("the star is red", anchor(64, 64), seed=seed, strength=None).tobytes() for seed in (3, 3, 4))
    assert first == again != other


def test_an_editor_knows_no_strength_and_gets_an_instruction(painter: DiffusionPainter, monkeypatch: pytest.MonkeyPatch) -> None:
    assert painter.is_editor
    assert painter.strengths == (None,)
    told: list[dict[str, Any]] = []
    pipeline: Any = painter._pipeline
    real = pipeline.__class__.__call__

    def heard(self: Any, **given: Any) -> Any:
        told.append(given)
        return real(self, **given)

    monkeypatch.setattr(pipeline.__class__, "__call__", heard)
    painter.paint("the star is red", anchor(100, 60), seed=0, strength=None)
    assert told[0]["prompt"].startswith("Change the picture so that it shows this: the star is red.")
    assert "strength" not in told[0]
    assert (told[0]["width"] % 16, told[0]["height"] % 16) == (0, 0)
    assert told[0]["image"].size == (told[0]["width"], told[0]["height"])


@pytest.mark.parametrize("memory", ["none", "auto"])
def test_what_fits_is_painted_the_same(klein: Path, painter: DiffusionPainter, memory: Any) -> None:
    other = DiffusionPainter.load(DiffusionSettings(model=str(klein), device="cpu", steps=2, memory=memory))
    pictures = [one.paint("a ring", anchor(64, 64), seed=1, strength=None).tobytes() for one in (painter, other)]
    assert pictures[0] == pictures[1]
