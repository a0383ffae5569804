"""The vision part's own training: what lies over each patch, in the order of the processor's patches, and that nothing else is trained."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from act2see.config import MicroVlmConfig
from act2see.synthetic.world import COLOURS, PLACES, SHAPES, SIZE, Actor, Clip
from act2see.training.micro import vision_pretraining
from act2see.training.micro import vlm as micro_vlm
from act2see.training.micro.model import PICTURE, make_image_processor, make_tokenizer, make_vlm
from act2see.training.micro.vision_pretraining import PatchBatches, PatchClassifier, in_merge_order, shape_grid

COUNT = PICTURE // 8


def test_a_shape_lies_over_the_middles_that_its_radius_reaches() -> None:
    star = Actor("star", "red", "left", 28, 0.0, 1.0)
    over = shape_grid(Clip(2.0, (star,)), 0.5, COUNT)
    x, y = star.centre(0.5)
    side = SIZE / COUNT
    for number, actor in enumerate(over):
        row, column = divmod(number, COUNT)
        is_near = np.hypot((column + 0.5) * side - x, (row + 0.5) * side - y) <= 28
        assert (actor is star) == bool(is_near)
    assert any(over)
    assert x == pytest.approx(PLACES["left"][0], abs=20)
    assert not any(shape_grid(Clip(2.0, (star,)), 1.5, COUNT))  # it has gone


def test_patches_stand_in_the_processors_order() -> None:
    """A picture whose every patch has a grey of its own tells the order."""
    processor = make_image_processor()
    greys = np.arange(COUNT**2, dtype=np.uint8).reshape(COUNT, COUNT) * 3
    picture = Image.fromarray(greys.repeat(8, 0).repeat(8, 1)).convert("RGB")
    pixels: Any = processor(images=[picture], return_tensors="np")["pixel_values"]
    seen = np.rint((pixels.mean(1) * 0.5 + 0.5) * 255 / 3).astype(int)
    rows: list[Any] = list(range(COUNT**2))
    assert in_merge_order(rows, processor.merge_size) == seen.tolist()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> PatchBatches:
    monkeypatch.setattr(vision_pretraining, "CLIPS", 3)
    return PatchBatches(make_image_processor(), seed=0, batches=4)


def test_a_batch_names_the_shape_and_the_colour_over_each_patch_and_is_the_same_every_time(small: PatchBatches) -> None:
    batch, again = small[1], small[1]
    assert all(torch.equal(batch[name], again[name]) for name in batch)
    assert not torch.equal(batch["pixel_values"], small[2]["pixel_values"])
    assert len(batch["pixel_values"]) == len(batch["shapes"]) == len(batch["colours"]) == 3 * vision_pretraining.MOMENTS * COUNT**2
    is_none = batch["shapes"] == len(SHAPES)
    assert torch.equal(is_none, batch["colours"] == len(COLOURS))
    assert 0.5 < is_none.float().mean() < 1
    # What is said to be red is red there, and what is said to be nothing is dark.
    red = (batch["pixel_values"].reshape(-1, 3, 2, 8, 8).mean((2, 3, 4)) * 0.5 + 0.5) * 255
    for patch in (batch["colours"] == list(COLOURS).index("red")).nonzero().flatten().tolist():
        assert red[patch, 0] > red[patch, 2]
    assert red[is_none].mean() < 90


@pytest.mark.slow
def test_only_the_vision_part_learns_and_its_loss_falls(small: PatchBatches) -> None:
    torch.manual_seed(0)
    model = make_vlm(make_tokenizer(count=100))
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    classifier = PatchClassifier(model)
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=3e-3)
    losses = []
    for step in range(12):
        made = classifier(**small[step % 2])
        made["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(made["loss"].item())
    assert losses[-1] < 0.7 * losses[0]
    changed = {name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])}
    assert changed
    assert all(name.startswith("model.visual.") and "merger" not in name for name in changed)


@pytest.mark.slow
def test_the_part_ends_in_a_model_that_the_next_one_begins_with_and_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vision_pretraining, "CLIPS", 2)
    monkeypatch.setattr(micro_vlm, "FRAMES", 8)
    whole = micro_vlm.train(MicroVlmConfig(tmp_path / "whole", part="look", steps=2, save_every=1))
    shutil.copytree(tmp_path / "whole" / "checkpoints" / "checkpoint-1", tmp_path / "cut" / "checkpoints" / "checkpoint-1")
    resumed = micro_vlm.train(MicroVlmConfig(tmp_path / "cut", part="look", steps=2, save_every=1))
    left, right = (load_file(folder / "model.safetensors") for folder in (whole, resumed))
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)
    follows = micro_vlm.train(MicroVlmConfig(tmp_path / "next", part="see", start_from=whole, steps=1, learning_rate=1e-12))
    assert all(torch.equal(left[name], tensor) for name, tensor in load_file(follows / "model.safetensors").items())
