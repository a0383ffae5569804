"""How fast a training goes: tokens a second, and the share of the device's arithmetic that it makes use of (MFU)."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from act2see.training.models import part_of
from act2see.training.sources import Item

PEAKS = {"A100": 312e12, "H100": 989e12, "H200": 989e12, "L40S": 362e12, "RTX 4090": 165e12}
"""Dense bf16 operations a second, by a part of the device's name, as the makers' data sheets give them (the SXM cards' where there are several)."""


@dataclass(frozen=True, slots=True)
class Work:
    """Operations of one training step's matrices: for a token of text or picture, and for a patch of a picture in the vision tower."""

    token: float
    patch: float


def work_of(model: nn.Module) -> Work:
    """Counted by parameters: 2 forward; 2 more where the gradient passes through, 2 more where weights train. Attention's own is left out.

    The gradient passes through the language model whenever anything trains; through the vision tower only when it trains itself. Embeddings are
    looked up, not multiplied. Checkpointing's second forward is no use made of the device and does not count.
    """
    held = {"language": [0, 0], "projector": [0, 0], "vision": [0, 0]}
    for name, parameter in model.named_parameters():
        if "embed_tokens" in name or parameter.ndim < 2:
            continue
        held[part_of(name)][0] += parameter.numel()
        held[part_of(name)][1] += parameter.numel() * parameter.requires_grad
    language, language_trained = held["language"]
    vision, vision_trained = (held["vision"][place] + held["projector"][place] for place in (0, 1))
    return Work(4 * language + 2 * language_trained, 2 * vision + (2 * vision if vision_trained else 0) + 2 * vision_trained)


def peak_of(device: torch.device) -> float | None:
    """Operations a second that the device could do; None where its data sheet is not known here."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAKS.items() if part in name), None)


@dataclass(slots=True)
class Speed:
    """Counts what is trained on between two readings. `items` are the traces of all steps in order, `per_step` how many of them a step takes."""

    items: Sequence[Item]
    per_step: int
    work: Work
    peak: float | None
    processes: int = 1
    _tokens: int = 0
    _operations: float = 0.0
    _since: float = field(default_factory=time.perf_counter)

    def begin(self) -> None:
        """Forget what was counted: the clock starts now."""
        self._tokens, self._operations, self._since = 0, 0.0, time.perf_counter()

    def step(self, number: int) -> None:
        """Step `number`, from 1, is done."""
        for item in self.items[(number - 1) * self.per_step : number * self.per_step]:
            self._tokens += item.tokens
            self._operations += item.tokens * self.work.token + item.patches * self.work.patch

    def read(self) -> dict[str, Any]:
        """Tokens a second of all processes together, padding not counted, and `mfu` where the device's peak is known; then counts anew."""
        seconds = max(1e-9, time.perf_counter() - self._since)
        found: dict[str, Any] = {"tokens_per_second": round(self._tokens / seconds, 1)}
        if self.peak is not None:
            found["mfu"] = round(self._operations / seconds / (self.peak * self.processes), 4)
        self.begin()
        return found
