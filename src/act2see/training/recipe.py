"""What a fine-tuning is told: one frozen dataclass, read strictly from a TOML file with the same names."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from act2see.config import refuse_unknown
from act2see.config.toml import read_toml
from act2see.core.errors import ConfigError
from act2see.storage.typed_json import converted

Part = Literal["language", "projector", "vision"]
"""The language model with its head; what maps pictures into it (Qwen3-VL's mergers); the rest of the vision tower."""

_MOST = 1e12
"""No number in a recipe needs to be larger; infinity and integers beyond a float stay out."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One supervised fine-tuning. Where nothing else is said, a default is our choice: the paper does not tell."""

    model: str
    """The base: a folder, or a name on the hub."""
    data: tuple[str, ...] = ()
    """Run folders with traces; those named on the command line come instead."""

    method: Literal["lora", "qlora", "full"] = "lora"
    """Adapters beside frozen weights (the paper's), the same on a base in 4 bits, or all weights of the chosen parts."""
    parts: tuple[Part, ...] = ("language",)
    """Which parts of the model train."""
    lora_rank: int = 32
    lora_alpha: int = 64
    lora_dropout: float = 0.0

    epochs: int = 1
    """1 in the paper."""
    learning_rate: float = 2.5e-6
    """Of AdamW, at its peak; 2.5e-6 in the paper."""
    batch_size: int = 1
    """Traces that one process takes at once; 1 in the paper."""
    accumulation: int = 1
    """Batches of every process before the weights change."""
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    warmup: float = 0.03
    """The share of all steps over which the learning rate rises."""
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    optimizer: Literal["adamw_torch", "adamw_torch_fused", "paged_adamw_8bit"] = "adamw_torch"
    seed: int = 0

    rendering: Literal["auto", "same_turn", "user_turn", "tool_turn"] = "auto"
    """Where an inserted frame stands; auto is what the model's folder says, else same_turn (the paper's)."""
    frames_as: Literal["auto", "images", "video"] = "auto"
    """How the initial frames go in; auto is video where the model's processor can."""
    max_pixels: int = 0
    """The most pixels that a frame is seen with; larger ones are scaled down. 0 leaves it to the model's processor."""
    max_tokens: int = 32768
    """A longer trace is not trained on as it is: nothing is ever cut off."""
    too_long: Literal["skip", "fewer_frames", "lower_resolution"] = "skip"
    """What becomes of a longer trace: it is left out, or every second initial frame is, or its pictures shrink, as often as it takes."""

    precision: Literal["bf16", "float32"] = "bf16"
    gradient_checkpointing: bool = True
    """Compute activations again in the backward pass instead of keeping them."""
    attention: Literal["sdpa", "flash_attention_2", "eager"] = "sdpa"
    sharded: bool = False
    """Spread weights, gradients and optimizer over all processes (FSDP); for several GPUs, under torchrun."""
    memory_gib: float = 0.0
    """Memory of each device that the run has to fit into; 0 is what the device has."""
    workers: int = 2
    """Processes that prepare pictures while the model computes."""
    keep_patches_gib: float = 2.0
    """At most so much of the disk for pictures as the model takes them, so that one that comes again is not made again; deleted at the end."""

    log_every: int = 10
    save_every: int = 200
    keep_checkpoints: int = 2
    tensorboard: bool = True
    """Also log to TensorBoard, where it is installed."""
    wandb: bool = False
    """Also log to Weights & Biases, which must be installed."""

    probe_every: int = 0
    """Answer held-out questions by decoding every so many steps; 0 is never."""
    probe_benchmark: str = "synthetic"
    """What is asked: synthetic, or package.module:Class."""
    probe_questions: int = 20
    probe_retriever: str = "micro"
    """What brings the frames: micro, siglip:DIR, …, none."""
    probe_fps: float = 1.0
    probe_max_looks: int = 1
    """1 in the paper."""
    probe_max_tokens: int = 1024

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if isinstance(value, int | float) and not abs(value) < _MOST:  # which also keeps out what is no number
                raise ConfigError(f"{name} is {str(value)[:40]}; it must be a number below {_MOST:g}")
        for name in ("lora_rank", "lora_alpha", "epochs", "batch_size", "accumulation", "max_tokens", "log_every", "save_every", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in (
            "workers",
            "probe_every",
            "probe_max_looks",
            "max_pixels",
            "memory_gib",
            "keep_patches_gib",
            "warmup",
            "weight_decay",
            "lora_dropout",
            "seed",
        ):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must not be negative")
        for name in ("learning_rate", "max_grad_norm", "probe_fps"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} is {getattr(self, name):g}; it must be above 0")
        if self.lora_dropout >= 1:
            raise ConfigError(f"lora_dropout is {self.lora_dropout:g}; it must be below 1")
        if self.warmup >= 1:
            raise ConfigError(f"warmup is {self.warmup:g}; it is a share of all steps, below 1")
        if not self.parts:
            raise ConfigError("parts is empty; name at least one of language, projector, vision")
        if self.sharded and self.method == "qlora":
            raise ConfigError("sharded does not go with qlora: take method lora, or leave sharded out")


def read_recipe(path: Path, changes: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe in a TOML file, with `changes` in place of what it says. Raises `ConfigError`: an unknown key, a value of another type, …"""
    content = read_toml(path, "recipe")
    refuse_unknown(path, "key", content, [field.name for field in fields(Recipe)])
    values = content | dict(changes or {})
    if "model" not in values:
        raise ConfigError(f'{path} names no model: write model = "FOLDER or NAME ON THE HUB", or give --model')
    try:
        return converted(values, Recipe, str(path), ConfigError)
    except ConfigError as error:
        raise error if str(error).startswith(str(path)) else ConfigError(f"{path}: {error}") from error


def recorded(recipe: Recipe) -> dict[str, Any]:
    """The recipe as a run keeps it: without what changes nothing of the result."""
    leave_out = {"data", "workers", "log_every", "save_every", "keep_checkpoints", "tensorboard", "wandb", "memory_gib", "keep_patches_gib"}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(recipe).items() if name not in leave_out}
