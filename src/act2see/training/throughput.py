"""Training throughput: tokens per second, and model FLOPs utilization (MFU)."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from act2see.training.models import part_of
from act2see.training.sources import Item

PEAK_FLOPS = {"A100": 312e12, "H100": 989e12, "H200": 989e12, "L40S": 362e12, "RTX 4090": 165e12}
"""Dense bf16 FLOPS by a part of the device's name, from the vendors' data sheets (of the SXM card if there are several)."""


@dataclass(frozen=True, slots=True)
class Flops:
    """FLOPs of a training step's matrix products: per text or picture token, and per picture patch in the vision tower."""

    token: float
    patch: float


def cost_per_token(model: nn.Module) -> Flops:
    """FLOPs counted by parameters: 2 forward; 2 more if the gradient passes through, 2 more if the weights train. Attention scores are left out.

    The gradient passes through the language model whenever anything trains; through the vision tower only if the tower itself trains. Embeddings are
    lookups, not products. The second forward pass of checkpointing is not counted, as is usual for MFU.
    """
    counts = {"language": [0, 0], "projector": [0, 0], "vision": [0, 0]}
    for name, parameter in model.named_parameters():
        if "embed_tokens" in name or parameter.ndim < 2:
            continue
        counts[part_of(name)][0] += parameter.numel()
        counts[part_of(name)][1] += parameter.numel() * parameter.requires_grad
    language, language_trained = counts["language"]
    vision, vision_trained = (counts["vision"][place] + counts["projector"][place] for place in (0, 1))
    return Flops(4 * language + 2 * language_trained, 2 * vision + (2 * vision if vision_trained else 0) + 2 * vision_trained)


def peak_flops(device: torch.device) -> float | None:
    """The device's peak FLOPS; None for a device that is not in `PEAK_FLOPS`."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAK_FLOPS.items() if part in name), None)


@dataclass(slots=True)
class Throughput:
    """Counts tokens between two readings. `items` are the traces of all steps in order; a step takes `per_step` of them."""

    items: Sequence[Item]
    per_step: int
    flops: Flops
    peak: float | None
    processes: int = 1
    _tokens: int = 0
    _operations: float = 0.0
    _since: float = field(default_factory=time.perf_counter)

    def reset(self) -> None:
        """Set the counts to zero and restart the clock."""
        self._tokens, self._operations, self._since = 0, 0.0, time.perf_counter()

    def step(self, number: int) -> None:
        """Count step `number`, from 1."""
        for item in self.items[(number - 1) * self.per_step : number * self.per_step]:
            self._tokens += item.tokens
            self._operations += item.tokens * self.flops.token + item.patches * self.flops.patch

    def read(self) -> dict[str, float]:
        """`tokens_per_second` of all processes, without padding, and `mfu` if the device's peak is known; then resets."""
        seconds = max(1e-9, time.perf_counter() - self._since)
        rates = {"tokens_per_second": round(self._tokens / seconds, 1)}
        if self.peak is not None:
            rates["mfu"] = round(self._operations / seconds / (self.peak * self.processes), 4)
        self.reset()
        return rates
