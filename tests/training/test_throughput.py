"""Tokens per second and MFU, against counts by hand."""

import time
from typing import Any, cast

import pytest
import torch
from torch import nn

from act2see.training.examples import Shrink
from act2see.training.sources import Item
from act2see.training.throughput import Flops, Throughput, cost_per_token, peak_flops


def item(tokens: int, patches: int) -> Item:
    nowhere: Any = None
    return Item(nowhere, nowhere, "t", Shrink(), tokens, 1, patches)


class Named(nn.Module):
    """Parameters under the names that Qwen3-VL gives them."""

    def __init__(self, **trained: bool) -> None:
        super().__init__()
        shapes = {
            "model.language_model.layers.0.mlp.weight": (10, 20),
            "model.language_model.embed_tokens.weight": (50, 20),
            "model.language_model.norm.weight": (20,),
            "model.visual.blocks.0.mlp.weight": (4, 6),
            "model.visual.merger.weight": (5, 2),
        }
        for name, shape in shapes.items():
            parameter = nn.Parameter(torch.zeros(shape), requires_grad=any(part in name and on for part, on in trained.items()))
            self.register_parameter(name.replace(".", "/"), parameter)

    def named_parameters(self, *given: Any, **options: Any) -> Any:
        return ((name.replace("/", "."), parameter) for name, parameter in super().named_parameters(*given, **options))


@pytest.mark.parametrize(
    ("trained", "token", "patch"),
    [
        ({"language_model": True}, 6 * 200, 2 * 34),
        ({}, 4 * 200, 2 * 34),
        ({"visual": True}, 4 * 200, 6 * 34),
        ({"merger": True}, 4 * 200, 4 * 34 + 2 * 10),
    ],
)
def test_operations_are_counted_by_parameters(trained: dict[str, bool], token: int, patch: int) -> None:
    assert cost_per_token(Named(**trained)) == Flops(token, patch)


def test_what_was_trained_on_since_the_last_reading_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    items = [item(100, 10), item(50, 0), item(30, 5), item(20, 0), item(7, 0)]
    throughput = Throughput(items, per_step=2, flops=Flops(10.0, 100.0), peak=1000.0, processes=2)
    throughput.reset()
    throughput.step(1)
    now[0] += 3
    assert throughput.read() == {"tokens_per_second": 50.0, "mfu": round((150 * 10 + 10 * 100) / 3 / 2000, 4)}
    throughput.step(2)
    throughput.step(3)  # the last, which is not full
    now[0] += 1
    assert throughput.read() == {"tokens_per_second": 57.0, "mfu": round((57 * 10 + 5 * 100) / 2000, 4)}
    now[0] += 1
    assert throughput.read() == {"tokens_per_second": 0.0, "mfu": 0.0}


def test_a_device_whose_peak_is_not_known_has_no_mfu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert peak_flops(torch.device("cpu")) is None
    assert "mfu" not in Throughput([item(1, 1)], 1, Flops(1, 1), None).read()
    for name, peak in {"NVIDIA H100 80GB HBM3": 989e12, "NVIDIA A100-SXM4-80GB": 312e12, "A card of tomorrow": None}.items():
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device, name=name: name)
        assert peak_flops(cast("Any", torch.device)("cuda", 0)) == peak
