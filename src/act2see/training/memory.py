"""Before a training: what it trains, how long it is, and whether it fits."""

import math
import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from act2see.core.errors import ConfigError
from act2see.training.models import base_dtype, parameter_counts, part_of
from act2see.training.recipe import Recipe
from act2see.training.sources import Survey, order, total

GIB = 2**30
_OVERHEAD = 1.0
"""GiB for the CUDA context, libraries' workspaces and the allocator's gaps. Our choice."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a training is going to be. Memory is an estimate, in GiB for each process's device."""

    parameters: int
    trained: int
    traces: int
    tokens: int
    """Of one epoch."""
    labelled: int
    longest: int
    steps: int
    memory: dict[str, float]
    available: float

    @property
    def needed(self) -> float:
        """GiB in all."""
        return round(sum(self.memory.values()), 2)

    def check(self) -> None:
        """Raise `ConfigError` if it cannot fit."""
        if self.needed > self.available:
            largest = max(self.memory, key=lambda name: self.memory[name])
            raise ConfigError(
                f"about {self.needed:.1f} GiB are needed and {self.available:.1f} are there; most is for {largest} ({self.memory[largest]:.1f}): "
                "lower max_tokens, max_pixels or batch_size, take method lora or qlora, or sharded with more GPUs"
            )


def steps_of(traces: int, recipe: Recipe, world: int) -> int:
    """How often the weights change."""
    return math.ceil(traces * recipe.epochs / (recipe.batch_size * recipe.accumulation * world))


def plan(model: nn.Module, found: Survey, recipe: Recipe, world: int = 1) -> Plan:
    """The plan for a model that may be on the meta device, already prepared for training."""
    everything, trained = parameter_counts(model)
    items = found.items
    return Plan(
        everything,
        trained,
        len(items),
        total(items, "tokens"),
        total(items, "labelled"),
        max(item.tokens for item in items),
        steps_of(len(items), recipe, world),
        estimate(model, found, recipe, world),
        recipe.memory_gib or device_gib(),
    )


def estimate(model: Any, found: Survey, recipe: Recipe, world: int = 1) -> dict[str, float]:
    """The peak memory of one process, in GiB, by what takes it. It has been compared with no GPU yet.

    With P parameters in all, T trained, L tokens and K labels of the longest batch, H hidden, I intermediate size, N layers, V words, and b bytes a
    number of activations (2 in bf16, 4 in float32):

        weights        P × 2 (frozen, bf16) or 4 (frozen in float32, or trained); on a 4-bit base 0.53 for what stands in linear layers
        training       T × 12 (gradient 4, two moments of AdamW 8; of the 8-bit AdamW 2 in place of 8)
        activations    L × b × (N × H + 8 H + 4 I) with gradient checkpointing, L × b × N × (8 H + 4 I) without; vision likewise, with four patches
                       a picture token, as one layer unless vision trains
        logits         K × V × (b + 8): the logits, their float32 copy and its gradient
        overhead       1

    Sharded, weights and training are divided by the number of processes, and one layer's weights are whole.
    """
    text, vision = model.config.text_config, model.config.vision_config
    length = max(item.tokens for item in found.items) * recipe.batch_size
    labels = max(item.labelled for item in found.items) * recipe.batch_size
    patches = max(item.patches for item in found.items) * recipe.batch_size
    number = 2 if recipe.precision == "bf16" else 4
    weights = sum(parameter.numel() * _bytes(name, parameter, recipe) for name, parameter in model.named_parameters())
    _, trained = parameter_counts(model)
    training: float = trained * (4 + (2 if recipe.optimizer == "paged_adamw_8bit" else 8))
    if recipe.sharded and world > 1:
        weights = weights / world + weights / text.num_hidden_layers
        training /= world
    # The mergers between vision's layers need the gradients of none of them; where one of these trains, all are kept.
    deep_vision = "vision" in recipe.parts
    activations = _activations(length, text.hidden_size, text.intermediate_size, text.num_hidden_layers, number, recipe.gradient_checkpointing)
    activations += _activations(
        patches, vision.hidden_size, vision.intermediate_size, vision.depth if deep_vision else 1, number, recipe.gradient_checkpointing
    )
    logits = labels * text.vocab_size * (number + 8)
    parts = {"weights": weights, "training": training, "activations": activations, "logits": logits}
    return {name: round(value / GIB, 3) for name, value in parts.items()} | {"overhead": _OVERHEAD}


def _bytes(name: str, parameter: nn.Parameter, recipe: Recipe) -> float:
    if parameter.requires_grad:
        return 4
    if recipe.method == "qlora" and parameter.dim() == 2 and "embed" not in name and "lm_head" not in name and part_of(name) == "language":
        return 0.53  # 4 bits, and a doubly quantised scale for every 64 of them
    return base_dtype(recipe).itemsize


def _activations(tokens: int, hidden: int, intermediate: int, layers: int, number: int, checkpointed: bool) -> float:
    one = 8 * hidden + 4 * intermediate
    return tokens * number * (layers * hidden + one if checkpointed else layers * one)


def device_gib() -> float:
    """The memory of this process's device; without one, of the machine."""
    if torch.cuda.is_available():
        return float(torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory) / GIB
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB


def schedule(found: Survey, recipe: Recipe, world: int) -> list[int]:
    """The indices of the traces in the order of training."""
    per_step = recipe.batch_size * recipe.accumulation * world
    return order([item.tokens for item in found.items], epochs=recipe.epochs, per_step=per_step, seed=recipe.seed)
