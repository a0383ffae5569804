"""Plans a training before it starts: trained parameters, steps, and whether it fits into memory."""

import math
import os
from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

import torch
from torch import nn

from act2see.core.errors import ConfigError
from act2see.training.models import base_dtype, parameter_counts, part_of
from act2see.training.recipe import Recipe
from act2see.training.sources import Survey, order

GIB = 2**30
_OVERHEAD = 1.0
"""GiB for the CUDA context, library workspaces and allocator fragmentation. Our choice."""


class _LayerSizes(Protocol):
    hidden_size: int
    intermediate_size: int


class _TextConfig(Protocol):
    hidden_size: int
    num_hidden_layers: int
    vocab_size: int


@runtime_checkable
class _Dense(Protocol):
    intermediate_size: int


@runtime_checkable
class _Mixture(Protocol):
    """What Qwen3.5's mixtures have in place of one size: each token passes some experts and a shared one."""

    num_experts_per_tok: int
    moe_intermediate_size: int
    shared_expert_intermediate_size: int


class _VisionConfig(_LayerSizes, Protocol):
    depth: int


class _ModelConfig(Protocol):
    """The part of a Qwen3-VL-class config that the estimate needs."""

    text_config: _TextConfig
    vision_config: _VisionConfig


@dataclass(frozen=True, slots=True)
class Plan:
    """Size and length of a training. `memory` is an estimate in GiB per process and device, by use."""

    parameters: int
    trained: int
    traces: int
    tokens: int
    """Per epoch."""
    labelled: int
    longest: int
    steps: int
    memory: dict[str, float]
    available: float

    @property
    def needed(self) -> float:
        """Total memory in GiB."""
        return round(sum(self.memory.values()), 2)

    def check(self) -> None:
        """Raise `ConfigError` if the training needs more memory than there is."""
        if self.needed > self.available:
            largest = max(self.memory, key=lambda name: self.memory[name])
            raise ConfigError(
                f"training needs about {self.needed:.1f} GiB and {self.available:.1f} are available; the largest part is {largest} "
                f"({self.memory[largest]:.1f}): lower max_tokens, max_pixels or batch_size, use method lora or qlora, or sharded on more GPUs"
            )


def steps_of(traces: int, recipe: Recipe, world: int) -> int:
    """Number of optimizer steps."""
    return math.ceil(traces * recipe.epochs / (recipe.batch_size * recipe.accumulation * world))


def plan(model: nn.Module, found: Survey, recipe: Recipe, world: int = 1) -> Plan:
    """The plan for a model that is prepared for training; it may be on the meta device."""
    everything, trained = parameter_counts(model)
    items = found.items
    return Plan(
        everything,
        trained,
        len(items),
        sum(item.tokens for item in items),
        sum(item.labelled for item in items),
        max(item.tokens for item in items),
        steps_of(len(items), recipe, world),
        estimate(model, found, recipe, world),
        recipe.memory_gib or device_gib(),
    )


def estimate(model: nn.Module, found: Survey, recipe: Recipe, world: int = 1) -> dict[str, float]:
    """The peak memory of one process in GiB, by use. The estimate has not been compared with a GPU yet.

    With P parameters, T of them trained, L tokens and K labels in the longest batch, hidden size H, intermediate size I, N layers, V words and b
    bytes per activation (2 in bf16, 4 in float32):

        weights        P × 2 (frozen, bf16) or 4 (frozen in float32, or trained); 0.53 in the linear layers of a 4-bit base
        training       T × 12 (gradient 4, two moments of AdamW 8; 2 instead of 8 for 8-bit AdamW)
        activations    L × b × (N × H + 8 H + 4 I) with gradient checkpointing, L × b × N × (8 H + 4 I) without; vision likewise, with four patches
                       per picture token, as one layer unless vision trains
        logits         K × V × (b + 8): the logits, their float32 copy and its gradient
        overhead       1

    If sharded, weights and training are divided by the number of processes, and one layer's weights are gathered.
    """
    config = cast("_ModelConfig", model.config)
    text, vision = config.text_config, config.vision_config
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
    # Training the mergers alone needs no activations of the vision layers; training vision needs those of all layers.
    deep_vision = "vision" in recipe.parts
    activations = _activations(length, text.hidden_size, _intermediate(text), text.num_hidden_layers, number, recipe.gradient_checkpointing)
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
        return 0.53  # 4 bits, and a doubly quantized scale per 64 weights
    return base_dtype(recipe).itemsize


def _intermediate(text: _TextConfig) -> int:
    if isinstance(text, _Dense):
        return text.intermediate_size
    assert isinstance(text, _Mixture)
    return text.num_experts_per_tok * text.moe_intermediate_size + text.shared_expert_intermediate_size


def _activations(tokens: int, hidden: int, intermediate: int, layers: int, number: int, checkpointed: bool) -> float:
    one = 8 * hidden + 4 * intermediate
    return tokens * number * (layers * hidden + one if checkpointed else layers * one)


def device_gib() -> float:
    """Memory of this process's GPU in GiB; without a GPU, of the machine."""
    if torch.cuda.is_available():
        return float(torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory) / GIB
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB


def schedule(found: Survey, recipe: Recipe, world: int) -> list[int]:
    """Trace indices in training order, over all epochs."""
    per_step = recipe.batch_size * recipe.accumulation * world
    return order([item.tokens for item in found.items], epochs=recipe.epochs, per_step=per_step, seed=recipe.seed)
