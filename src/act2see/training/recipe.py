"""A fine-tuning recipe: one frozen dataclass, read strictly from a TOML file with the same names."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

from act2see.config import preset_values, refuse_unknown
from act2see.config.presets import Preset
from act2see.config.toml import read_toml
from act2see.core.errors import ConfigError
from act2see.storage.runs import JSON
from act2see.storage.typed_json import converted

Part = Literal["language", "projector", "vision"]
"""The language model with its head; the projector from vision to language (Qwen3-VL's mergers); the rest of the vision tower."""

_MOST = 1e12
"""Upper bound of all numbers; excludes infinity and integers that a float cannot represent."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One supervised fine-tuning. Unless noted otherwise, a default is our choice: the paper does not state it."""

    model: str
    """Base model: a folder, or a name on the Hub."""
    data: tuple[str, ...] = ()
    """Run folders with traces; replaced by those given on the command line."""

    method: Literal["lora", "qlora", "full"] = "lora"
    """LoRA adapters on frozen weights (the paper's), adapters on a 4-bit base, or all weights of the chosen parts."""
    parts: tuple[Part, ...] = ("language",)
    """Parts of the model to train."""
    lora_rank: int = 32
    lora_alpha: int = 64
    lora_dropout: float = 0.0

    epochs: int = 1
    """1 in the paper."""
    learning_rate: float = 2.5e-6
    """Peak learning rate of AdamW; 2.5e-6 in the paper."""
    batch_size: int = 1
    """Traces per batch and process; 1 in the paper."""
    accumulation: int = 1
    """Gradient accumulation: batches per process and optimizer step."""
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    warmup: float = 0.03
    """Share of all steps used for learning rate warmup."""
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    optimizer: Literal["adamw_torch", "adamw_torch_fused", "paged_adamw_8bit"] = "adamw_torch"
    seed: int = 0

    rendering: Literal["auto", "same_turn", "user_turn", "tool_turn"] = "auto"
    """Turn that an inserted frame belongs to; auto uses the setting in the model's folder, else same_turn (the paper's)."""
    frames_as: Literal["auto", "images", "video"] = "auto"
    """Format of the initial frames; auto is video if the model's processor supports it."""
    max_pixels: int = 0
    """Maximum pixels per frame; larger frames are scaled down. 0 uses the limit of the model's processor."""
    max_tokens: int = 32768
    """Maximum tokens per trace; `too_long` handles longer traces. Traces are never truncated."""
    too_long: Literal["skip", "fewer_frames", "lower_resolution"] = "skip"
    """Handling of longer traces: skip them, drop every second initial frame, or scale the pictures down, repeatedly if needed."""

    precision: Literal["bf16", "float32"] = "bf16"
    gradient_checkpointing: bool = True
    """Recompute activations in the backward pass instead of storing them."""
    attention: Literal["sdpa", "flash_attention_2", "eager"] = "sdpa"
    sharded: bool = False
    """Shard weights, gradients and optimizer state over all processes (FSDP); for several GPUs, with torchrun."""
    memory_gib: float = 0.0
    """Memory limit per device in GiB; 0 is the device's memory."""
    workers: int = 2
    """Data loader worker processes."""
    keep_patches_gib: float = 2.0
    """Maximum size in GiB of the on-disk cache of picture patches; the cache is deleted at the end."""

    log_every: int = 10
    save_every: int = 200
    keep_checkpoints: int = 2
    tensorboard: bool = True
    """Also log to TensorBoard, if it is installed."""
    wandb: bool = False
    """Also log to Weights & Biases, which must be installed."""

    probe_every: int = 0
    """Steps between held-out evaluations; 0 disables them."""
    probe_benchmark: str = "synthetic"
    """Benchmark of the held-out evaluation: synthetic, or package.module:Class."""
    probe_questions: int = 20
    probe_retriever: str = "micro"
    """Retriever of the held-out evaluation: micro, siglip:DIR, …, none."""
    probe_fps: float = 1.0
    probe_max_looks: int = 1
    """1 in the paper."""
    probe_max_tokens: int = 1024

    preset: Preset | None = None
    """Publication whose settings apply where the recipe has none: `paper`, see docs/paper.md."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if isinstance(value, int | float) and not abs(value) < _MOST:  # also rejects NaN
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
            raise ConfigError(f"warmup is {self.warmup:g}; it must be below 1 (a share of all steps)")
        if not self.parts:
            raise ConfigError("parts is empty; name at least one of language, projector, vision")
        if self.sharded and self.method == "qlora":
            raise ConfigError("sharded cannot be combined with method qlora: use method lora, or remove sharded")


def read_recipe(path: Path | None, changes: Mapping[str, object] | None = None) -> Recipe:
    """Read a recipe from a TOML file; `changes` override its values, and these those of its preset. Without a file, `changes` are all there is.

    Raises `ConfigError` for unknown keys and invalid values.
    """
    content = {} if path is None else read_toml(path, "recipe")
    where = path or Path("the preset")
    refuse_unknown(where, "key", content, [field.name for field in fields(Recipe)])
    given = content | dict(changes or {})
    values = preset_values(str(given.get("preset")), "train") | given
    if "model" not in values:
        raise ConfigError(f'{where} has no model: write model = "FOLDER or NAME ON THE HUB", or pass --model')
    try:
        return converted(values, Recipe, str(where), ConfigError)
    except ConfigError as error:
        raise error if str(error).startswith(str(where)) else ConfigError(f"{where}: {error}") from error


def recorded(recipe: Recipe) -> dict[str, JSON]:
    """The recipe as run.json stores it: without settings that do not affect the result."""
    leave_out = {"data", "workers", "log_every", "save_every", "keep_checkpoints", "tensorboard", "wandb", "memory_gib", "keep_patches_gib"}
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in asdict(recipe).items()
        if name not in leave_out and (name, value) != ("preset", None)
    }
