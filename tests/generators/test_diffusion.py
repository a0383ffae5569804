"""What a pipeline is called with, what of it is remembered, and which folders are refused; see `test_painting.py` for the pictures."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusion3Img2ImgPipeline
from PIL import Image

from act2see.core.errors import ConfigError, OutOfMemoryToolError
from act2see.tools.generators import diffusion
from act2see.tools.generators.diffusion import DiffusionPainter, DiffusionSettings, Preset, work_size


def picture(width: int = 256, height: int = 256) -> Image.Image:
    return Image.fromarray(np.linspace(0, 255, width * height * 3).reshape(height, width, 3).astype(np.uint8))


@pytest.fixture
def copied(pipeline_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pipeline_folder, tmp_path / "copied"))


def load(folder: Path, **settings: Any) -> DiffusionPainter:
    return DiffusionPainter.load(DiffusionSettings(str(folder), device="cpu", **settings))


# With a real pipeline


def test_what_is_remembered_changes_no_picture(pipeline_folder: Path) -> None:
    painter = load(pipeline_folder)
    ladder = [painter.paint("a red star", picture(), seed=3, strength=strength) for strength in (0.25, 0.375)]
    assert ladder[0].tobytes() != ladder[1].tobytes()
    assert ladder[1].tobytes() == load(pipeline_folder).paint("a red star", picture(), seed=3, strength=0.375).tobytes()
    assert ladder[0].tobytes() != painter.paint("a red star", picture(160, 96).resize((256, 256)), seed=3, strength=0.25).tobytes()


def test_encoders_run_once_for_a_ladder_of_strengths(pipeline_folder: Path) -> None:
    parts: Any = {"text_encoder_3": None, "tokenizer_3": None, "dtype": torch.float32}
    pipeline = StableDiffusion3Img2ImgPipeline.from_pretrained(pipeline_folder, **parts)
    calls: list[str] = []

    def counted(name: str, forward: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            return forward(*args, **kwargs)

        return call

    pipeline.text_encoder.forward = counted("text", pipeline.text_encoder.forward)
    pipeline.vae.encoder.forward = counted("picture", pipeline.vae.encoder.forward)
    painter = DiffusionPainter(pipeline, DiffusionSettings("mine"), Preset("mine", 8, 1.0), 64 * 64)
    for seed, strength in ((0, 0.25), (0, 0.5), (1, 0.25), (1, 0.5)):
        painter.paint("a red star", picture(), seed=seed, strength=strength)
    assert sorted(calls) == ["picture", "text"]
    painter.paint("a red star", picture(160, 96), seed=0, strength=0.25)
    assert sorted(calls) == ["picture", "picture", "text"]


def test_a_strength_below_one_step_is_one_step(pipeline_folder: Path) -> None:
    painter = load(pipeline_folder)
    pictures = [painter.paint("a red star", picture(), seed=0, strength=strength).tobytes() for strength in (0.001, 1 / 8)]
    assert pictures[0] == pictures[1]


def test_a_folder_says_how_its_model_is_used(copied: Path) -> None:
    (copied / "act2see.json").write_text(json.dumps({"steps": 3, "strengths": [0.4, 0.9], "max_pixels": 1024}), encoding="utf-8")
    shapes: list[tuple[int, ...]] = []

    def paint(**settings: Any) -> DiffusionPainter:
        painter = load(copied, **settings)
        autoencoder: Any = painter._pipeline.vae
        autoencoder.encoder.register_forward_hook(lambda module, given, made: shapes.append(tuple(given[0].shape)))
        painter.paint("a red star", picture(160, 160), seed=0, strength=0.4)
        return painter

    painter = paint()
    assert (painter.name, painter.model, painter.strengths) == ("copied(3 steps)", "copied", (0.4, 0.9))
    assert paint(steps=2, max_pixels=48 * 48).name == "copied(2 steps)"
    assert shapes == [(1, 3, 32, 32), (1, 3, 48, 48)]


def test_without_a_folders_word_the_defaults_hold(copied: Path) -> None:
    (copied / "act2see.json").unlink()
    painter = load(copied)
    assert (painter.name, painter.strengths) == ("copied(28 steps)", diffusion.DEFAULT_STRENGTHS)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("act2see.json", "not JSON"),
        ("act2see.json", "[]"),
        ("act2see.json", '{"strengths": 5}'),
        ("model_index.json", "{}"),
        ("transformer/config.json", "{"),
        ("vae/diffusion_pytorch_model.safetensors", "x"),
    ],
)
def test_a_folder_that_is_no_pipeline_is_refused_in_one_line(copied: Path, file: str, content: str) -> None:
    (copied / file).write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=f"^cannot load the generator {copied}: ") as error:
        load(copied)
    assert "\n" not in str(error.value)


def test_an_empty_folder_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"^cannot load the generator {tmp_path}: ") as error:
        load(tmp_path)
    assert "\n" not in str(error.value)


# With pipelines that only write down what they are asked


class Pipeline:
    """What every pipeline has; `asked` is what it was called with."""

    def __init__(self) -> None:
        self.vae = SimpleNamespace(encode=lambda pixels: pixels)
        self.asked: dict[str, Any] = {}

    def set_progress_bar_config(self, *, disable: bool) -> None:
        assert disable

    def encode_prompt(self, prompt: str) -> str:
        return prompt

    def made(self, image: Image.Image, generator: torch.Generator, asked: dict[str, Any]) -> SimpleNamespace:
        self.asked = asked | {"size": image.size, "seed": generator.initial_seed()}
        return SimpleNamespace(images=[image.convert("RGBA")])


class Editor(Pipeline):
    def __call__(self, image: Image.Image, generator: torch.Generator, guidance_scale: float = 9.0, **asked: Any) -> SimpleNamespace:
        return self.made(image, generator, asked | {"guidance_scale": guidance_scale})


class Redrawer(Pipeline):
    def __call__(self, image: Image.Image, generator: torch.Generator, strength: float = 0.6, **asked: Any) -> SimpleNamespace:
        return self.made(image, generator, asked | {"strength": strength})


class Full(Redrawer):
    def __call__(self, image: Image.Image, generator: torch.Generator, strength: float = 0.6, **asked: Any) -> SimpleNamespace:
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_an_editor_is_told_what_to_do_and_knows_no_strength() -> None:
    pipeline = Editor()
    preset = Preset("editor", 4, None, options={"true_cfg_scale": 4.0})
    painter = DiffusionPainter(pipeline, DiffusionSettings("editor", strengths=(0.5,)), preset, 64 * 64)
    assert painter.is_editor
    assert painter.strengths == (None,)
    made = painter.paint("a red star", picture(160, 96), seed=7, strength=None)
    assert (made.mode, made.size) == ("RGB", (160, 96))
    assert pipeline.asked == {
        "prompt": "Change the picture so that it shows this: a red star. Keep all else as it is.",
        "num_inference_steps": 4,
        "width": 80,
        "height": 48,
        "size": (80, 48),
        "seed": 7,
        "guidance_scale": 9.0,  # its own: the preset has none
        "true_cfg_scale": 4.0,
    }


def test_guidance_is_what_was_said_then_the_presets() -> None:
    pipeline = Editor()
    for said, expected in ((None, 3.5), (0.0, 0.0)):
        DiffusionPainter(pipeline, DiffusionSettings("x", guidance=said), Preset("x", 4, 3.5), 64 * 64).paint("x", picture(), seed=0, strength=None)
        assert pipeline.asked["guidance_scale"] == expected


def test_a_pipeline_with_strengths_is_told_what_shall_be_there() -> None:
    pipeline = Redrawer()
    painter = DiffusionPainter(pipeline, DiffusionSettings("x"), Preset("x", 4, 3.5, (0.3, 0.6)), 64 * 64)
    assert painter.strengths == (0.3, 0.6)
    for strength, expected in ((0.6, 0.6), (0.1, 0.25), (1.5, 1.0)):
        painter.paint("a red star", picture(), seed=0, strength=strength)
        assert (pipeline.asked["prompt"], pipeline.asked["strength"]) == ("a red star", expected)
        assert "guidance_scale" not in pipeline.asked  # it takes none


def test_too_little_memory_is_told_to_the_model_that_reasons() -> None:
    painter = DiffusionPainter(Full(), DiffusionSettings("x"), Preset("x", 4, None), 64 * 64)
    with pytest.raises(OutOfMemoryToolError, match="ran out of memory at 64 x 64 pixels"):
        painter.paint("a red star", picture(), seed=0, strength=0.5)


def test_what_is_remembered_is_known_by_its_content_and_forgotten_in_turn() -> None:
    calls: list[object] = []

    def number(*given: object, **named: object) -> int:
        calls.append(given)
        return len(calls)

    memoized = diffusion._memoized(number)
    ones = torch.ones(2, 3)
    assert [memoized(ones), memoized(ones.clone()), memoized(ones.half()), memoized(ones.T), memoized(2 * ones)] == [1, 1, 2, 3, 4]
    assert [memoized([picture(8, 8)], text="a"), memoized([picture(8, 8)], text="a"), memoized([picture(8, 8)], text="b")] == [5, 5, 6]
    assert memoized(ones) == 1  # used last: the others go first
    for other in range(diffusion._MEMO_SIZE - 1):
        memoized(other)
    assert memoized(ones) == 1
    assert memoized(2 * ones) > 6


# Sizes and memory


@pytest.mark.parametrize("size", [(1920, 1080), (160, 96), (96, 160), (640, 480), (854, 480), (256, 256)])
@pytest.mark.parametrize(("pixels", "longest"), [(1024 * 1024, None), (4096, 64), (4096, None)])
def test_a_frame_keeps_its_shape_within_the_budget(size: tuple[int, int], pixels: int, longest: int | None) -> None:
    width, height = work_size(size, pixels, longest)
    scale = min(1.0, (pixels / (size[0] * size[1])) ** 0.5, (longest or 10**6) / max(size))
    assert width % 16 == height % 16 == 0
    assert max(abs(width - scale * size[0]), abs(height - scale * size[1])) <= 8  # no further off than rounding takes it
    assert (width > height, width < height) == (size[0] > size[1], size[0] < size[1])
    assert max(width, height) <= (longest or max(size) + 8)


def test_no_side_is_nothing_and_no_frame_is_made_larger() -> None:
    assert work_size((3000, 4), 4096)[1] == 16
    assert work_size((160, 96), 10**9) == (160, 96)


def test_a_quarter_of_the_memory_is_left_for_computing() -> None:
    parts = {"transformer": 60, "text_encoder": 30, "vae": 6}
    chosen = [diffusion._memory_for(parts, free) for free in (None, 128, 127, 80, 79)]
    assert chosen == ["none", "none", "model-offload", "model-offload", "group-offload"]
