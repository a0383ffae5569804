"""FLOPs of vision-language models by formula, against torch's counter on a tiny model of every known architecture, and of full-size configs."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import Qwen2_5_VLConfig, Qwen3VLConfig

from act2see.backends.flops import LanguageModel, VisionLanguageModel, VisionTower, continuation_flops
from act2see.backends.huggingface import HuggingFaceBackend, HuggingFaceSettings
from act2see.backends.kv_cache import CachedConversation
from act2see.core import chat
from act2see.core.trace import Frame, Trace
from tiny_families import TINY, make

CLOSE = 0.02


def picture(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize("kind", ["qwen3_vl", "qwen3_vl_moe", "qwen2_5_vl", "qwen3_5", "qwen3_5_moe"])
def test_prefill_decoding_and_the_vision_tower_are_counted_as_torch_counts_them(kind: str, tmp_path: Path) -> None:
    backend = HuggingFaceBackend.load(HuggingFaceSettings(str(make(TINY[kind], tmp_path)), device="cpu", temperature=0))
    frames = tuple(Frame(picture(*size), float(at)) for at, size in enumerate([(64, 64), (160, 96), (224, 160)]))
    trace = Trace("t", "clip.mp4", "What colour is the star?" * 20, frames)
    pieces = backend.encoder.prompt(chat.turns(trace, ("retrieve",), backend.style))
    if kind.endswith("_moe"):
        backend.model.set_experts_implementation("eager")  # torch's counter knows no grouped products
    conversation = CachedConversation(backend.model, backend.encoder.merge)
    assert backend.flops is not None
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as mode:
        _, tokens, reused = conversation.feed(pieces)
    counts = mode.get_flop_counts()
    vision = next(sum(of.values()) for name, of in counts.items() if name.endswith(".visual"))
    found = backend.flops.continuation(pieces, tokens, reused, 1)
    assert found["vision"] == pytest.approx(vision, rel=CLOSE)
    assert found["prefill"] == pytest.approx(mode.get_total_flops() - vision, rel=CLOSE)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as mode:
        for token in range(5, 12):
            conversation.append(token)
    assert backend.flops.continuation(pieces, tokens, tokens, 8)["decode"] == pytest.approx(mode.get_total_flops(), rel=CLOSE)


def test_a_model_without_a_formula_has_unknown_parts() -> None:
    assert VisionLanguageModel.of({"model_type": "gemma3"}) is None
    assert continuation_flops(None, (), 10, 0, 5) == {"vision": None, "prefill": None, "decode": None}


def test_decoding_is_the_sum_of_single_passes() -> None:
    model = LanguageModel(layers=3, token=7.0, width=4.0, head=11.0)
    assert model.decode(5, 100) == sum(model.forward(1, 100 + number) for number in range(1, 6))


def test_windows_are_cut_at_the_edges_of_a_frame() -> None:
    tower = VisionTower(patch=0.0, merged=0.0, merge=2, width=1.0, full_layers=0, window_layers=1, window=8)
    assert tower.picture((1, 8, 12)) == 4 * (64**2 + 32**2)


def test_full_size_configs_have_about_two_flops_per_parameter_and_token() -> None:
    """The 8B model has 7.57 billion parameters in its layers and its head, as its own config gives them."""
    text = {"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8}
    settings = Qwen3VLConfig(text_config={**text, "head_dim": 128, "vocab_size": 151936}).to_dict()
    found = VisionLanguageModel.of(settings)
    assert found is not None
    assert (found.language.token + found.language.head) / 2 == pytest.approx(7.57e9, rel=0.01)
    assert VisionLanguageModel.of(Qwen2_5_VLConfig().to_dict()) is not None


def test_a_mixture_without_experts_counts_as_the_dense_model_that_it_is() -> None:
    dense = Qwen3VLConfig().to_dict()
    text = {**dense["text_config"], "num_experts": 0, "num_experts_per_tok": 8, "moe_intermediate_size": 768}
    assert VisionLanguageModel.of({**dense, "text_config": text}) == VisionLanguageModel.of(dense)
