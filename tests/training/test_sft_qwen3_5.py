"""Fine-tuning a tiny Qwen3.5: three of four layers are linear attention, in which a batch's padding must leave no trace."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional

from act2see.backends.adapters import read_adapter
from act2see.backends.huggingface import HuggingFaceBackend, HuggingFaceSettings
from act2see.backends.loading import load_vlm, reader
from act2see.backends.pieces import Piece, joined
from act2see.core.trace import Answer, Frame, Observation, Retrieve, Step, Thought, Trace
from act2see.storage.runs import Run
from act2see.training import merge, sft
from act2see.training.examples import IGNORED, collate_single, pack, pieces_of, token_loss
from act2see.training.models import part_of, targets
from act2see.training.recipe import Recipe
from tiny_families import TINY, make

RANDOM = np.random.default_rng(0)


def frame(seconds: float, width: int = 32) -> Frame:
    return Frame(Image.fromarray(RANDOM.integers(0, 256, (32, width, 3), np.uint8)), seconds)


def trace(number: int) -> Trace:
    """Of its own length."""
    steps: list[Step] = [Thought("I look."), Retrieve(" the star "), Observation((frame(1.3, 48),)), Thought(" Red." * (number + 1)), Answer("A")]
    return Trace(f"t{number}", "v.mp4", "What colour?", (frame(0.0), frame(1.0)), ("red", "blue"), steps=steps, finish="answer")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(TINY["qwen3_5"], tmp_path_factory.mktemp("base"))


def own_loss(model: Any, pieces: list[Piece], image_id: int) -> torch.Tensor:
    """The sum over one trace's labels as transformers counts it, from ids and pictures alone: the oracle."""
    ids = torch.tensor([joined(pieces)])
    labels = torch.tensor([token if piece.own else IGNORED for piece in pieces for token in piece.ids])
    shown = [piece for piece in pieces if piece.pixels is not None]
    model.model.rope_deltas = None
    logits = model(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        mm_token_type_ids=(ids == image_id).int(),
        pixel_values=torch.cat([torch.from_numpy(piece.pixels) for piece in shown if piece.pixels is not None]),
        image_grid_thw=torch.tensor([piece.grid for piece in shown]),
    ).logits
    return functional.cross_entropy(logits[0, :-1], labels[1:], reduction="sum", ignore_index=IGNORED)


def test_loss_and_gradient_of_a_padded_batch_are_those_of_its_traces(base: Path) -> None:
    encoder, style, _ = reader(str(base))
    model = load_vlm(str(base))
    sequences = [pieces_of(trace(number), ("retrieve",), style, encoder) for number in (0, 3)]
    assert len({len(joined(pieces)) for pieces in sequences}) == 2
    for number, pieces in enumerate(sequences):
        own = encoder.tokenizer.decode([token for piece in pieces if piece.own for token in piece.ids])
        # The opening is the prompt's, the end of the turn is the model's.
        assert own == "I look.<retrieve> the star </retrieve>" + " Red." * (3 * number + 1) + "<answer>A</answer><|im_end|>"
    expected = sum(own_loss(model, pieces, encoder.image_id) for pieces in sequences)
    assert isinstance(expected, torch.Tensor)
    expected.backward()
    gradients = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad()
    batch = collate_single([pack([pieces], encoder.merge) for pieces in sequences], pad=0)
    labels = batch.pop("labels")
    found = token_loss(model(**batch), labels, 1)
    found.backward()
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    for name, weight in model.named_parameters():
        if name in gradients:
            assert torch.allclose(weight.grad, gradients[name], atol=1e-4 * float(gradients[name].abs().max() + 1)), name


def test_adapters_are_put_on_linear_attention_too(base: Path) -> None:
    model = load_vlm(str(base))
    language = ["down_proj", "gate_proj", "in_proj_a", "in_proj_b", "in_proj_qkv", "in_proj_z"]
    language += ["k_proj", "o_proj", "out_proj", "q_proj", "up_proj", "v_proj"]
    assert targets(model, ("language",)) == language
    assert {part_of(name) for name, _ in model.named_parameters()} == {"language", "projector", "vision"}


def test_mixtures_of_experts_are_planned_too(tmp_path: Path) -> None:
    folder = make(TINY["qwen3_5_moe"], tmp_path / "base")
    run = Run.create(tmp_path / "run", command="test", config={}, seed=0)
    run.append(trace(0))
    assert sft.prepare(Recipe(str(folder), precision="float32"), [run.folder]).plan().memory["activations"] > 0


@pytest.mark.slow
def test_an_adapter_is_trained_and_merged(base: Path, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", command="test", config={}, seed=0)
    for number in range(4):
        run.append(trace(number))
    recipe = Recipe(
        str(base),
        precision="float32",
        workers=0,
        learning_rate=1e-3,
        log_every=1,
        warmup=0.0,
        tensorboard=False,
        batch_size=2,
        epochs=3,
    )
    folder = sft.train(sft.prepare(recipe, [run.folder]), tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert np.mean(losses[-2:]) < np.mean(losses[:2])
    weights = load_file(folder / "adapter_model.safetensors")
    assert any("linear_attn.in_proj_qkv" in name for name in weights)
    assert all(tensor.abs().max() > 0 for name, tensor in weights.items() if "lora_B" in name)
    assert read_adapter(str(folder)).weights.keys() == weights.keys()
    merged = merge.merge(str(base), folder, tmp_path / "merged")
    assert merged.difference < 0.05  # rounding: this random model's logits differ by 0.001 between float32 and float64
    assert HuggingFaceBackend.load(HuggingFaceSettings(str(tmp_path / "merged"))).style.opening == "<think>\n"
