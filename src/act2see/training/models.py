"""Loads the model to train as the recipe says, with adapters or with the chosen parts unfrozen."""

import re
import warnings
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText, BitsAndBytesConfig, PreTrainedModel
from transformers.utils import is_bitsandbytes_available

from act2see.backends import pretrained
from act2see.backends.loading import load_vlm, model_folder
from act2see.core.errors import BackendError, ConfigError
from act2see.training.recipe import Part, Recipe

_PARTS: tuple[tuple[re.Pattern[str], Part], ...] = (
    (re.compile(r"\bvisual\.(merger|deepstack_merger_list)\b"), "projector"),
    (re.compile(r"\bvisual\b"), "vision"),
    (re.compile(r"\b(language_model|lm_head)\b"), "language"),
)


def part_of(name: str) -> Part:
    """The part of Qwen3-VL that a parameter or module belongs to, by its name. Raises `ConfigError` for an unknown name."""
    for pattern, part in _PARTS:
        if pattern.search(name):
            return part
    raise ConfigError(f"{name} belongs to none of language, projector, vision: the model must be of the Qwen3-VL class")


def load(recipe: Recipe) -> PreTrainedModel:
    """The base model with its weights. Raises `BackendError` for a model that cannot be loaded, `ConfigError` for a missing package or GPU."""
    options: dict[str, object] = {"attn_implementation": recipe.attention, "dtype": base_dtype(recipe)}
    if recipe.method == "qlora":
        if not is_bitsandbytes_available():
            raise ConfigError("method 'qlora' needs bitsandbytes: pip install bitsandbytes, or use method 'lora'")
        if not torch.cuda.is_available():
            raise ConfigError("method 'qlora' needs a GPU: use method 'lora'")
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.bfloat16
        )
        options["device_map"] = {"": torch.cuda.current_device()}
    model: PreTrainedModel = load_vlm(recipe.model, **options)
    return model


def outline(recipe: Recipe) -> PreTrainedModel:
    """The base model without weights, on the meta device, from its config alone. Raises `BackendError`."""
    config = pretrained.load_part(AutoConfig, model_folder(recipe.model), f"the config of {recipe.model}", BackendError)
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForImageTextToText.from_config(config)
    return model


def base_dtype(recipe: Recipe) -> torch.dtype:
    """Dtype of the base weights: frozen weights are kept in half precision, trained ones in float32."""
    return torch.bfloat16 if recipe.precision == "bf16" and recipe.method != "full" else torch.float32


def prepare(model: PreTrainedModel, recipe: Recipe, seed: int | None = None) -> nn.Module:
    """The model with adapters on the chosen parts, or with only these parts unfrozen. Adapters are initialized from the seed."""
    if recipe.method == "full":
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(part_of(name) in recipe.parts)
        return model
    if recipe.method == "qlora" and model.device.type != "meta":
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    torch.manual_seed(recipe.seed if seed is None else seed)
    lora = LoraConfig(
        r=recipe.lora_rank,
        lora_alpha=recipe.lora_alpha,
        lora_dropout=recipe.lora_dropout,
        target_modules=targets(model, recipe.parts),
        task_type="CAUSAL_LM",
        base_model_name_or_path=recipe.model if not Path(recipe.model).is_dir() else str(Path(recipe.model).resolve()),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft uses a deprecated name of transformers
        # All parameters of an FSDP unit must have one dtype.
        adapted: nn.Module = get_peft_model(model, lora, autocast_adapter_dtype=not recipe.sharded)
    return adapted


def targets(model: nn.Module, parts: tuple[Part, ...]) -> list[str]:
    """Linear layers that get adapters: by last name, as servers expect, if last names distinguish the parts, else by full name."""
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and not name.endswith("lm_head")]
    chosen = [name for name in linear if part_of(name) in parts]
    if not chosen:
        raise ConfigError(f"parts {', '.join(parts)}: no linear layer to adapt")
    last = {name.rpartition(".")[2] for name in chosen}
    return sorted(last if all(name in set(chosen) for name in linear if name.rpartition(".")[2] in last) else chosen)


def parameter_counts(model: nn.Module) -> tuple[int, int]:
    """Number of parameters, and of trainable ones."""
    counted = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(count for count, _ in counted), sum(count for count, trains in counted if trains)
