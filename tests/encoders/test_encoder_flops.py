"""FLOPs of the frame encoders by formula, against torch's counter: a tiny model of each class, and the embedded retriever."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from act2see import registry
from act2see.config import IndexedConfig
from act2see.core.flops import counting
from act2see.core.interfaces import FrameEncoder

KINDS = {"siglip": "siglip", "siglip2": "siglip", "clip": "clip", "metaclip_2": "clip", "blip2": "blip2"}


def _check(encoder: FrameEncoder, images: list[Image.Image]) -> None:
    with counting() as frames, sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as mode:
        encoder.encode_frames(images)
    assert frames["retriever"] == pytest.approx(mode.get_total_flops(), rel=0.02)
    with counting() as text, sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as mode:
        encoder.encode_text("the red star and a circle")
    assert text["retriever"] == pytest.approx(mode.get_total_flops(), rel=0.02)


def test_the_embedded_retriever_is_counted_as_torch_counts_it(images: list[Image.Image]) -> None:
    _check(registry.encoder("micro"), images)


@pytest.mark.parametrize("model_class", KINDS)
def test_every_known_architecture_is_counted_as_torch_counts_it(model_class: str, tiny: Callable[[str], Path], images: list[Image.Image]) -> None:
    _check(registry.encoder(f"{KINDS[model_class]}:{tiny(model_class)}", IndexedConfig(device="cpu")), images)


def test_an_architecture_without_a_formula_is_unknown(tiny: Callable[[str], Path], images: list[Image.Image]) -> None:
    encoder = registry.encoder(f"clip:{tiny('altclip')}", IndexedConfig(device="cpu"))
    with counting() as found:
        encoder.encode_frames(images)
    assert found == {"retriever": None}
