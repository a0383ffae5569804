"""A LoRA adapter and its base as one model folder, which transformers, this package and servers load without peft."""

import json
import re
import shutil
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import peft
import torch
from peft.utils import load_peft_weights, set_peft_model_state_dict
from safetensors import SafetensorError
from transformers import AutoModelForImageTextToText, AutoTokenizer
from transformers.utils import cached_file

from act2see.backends.huggingface import MODEL_TYPES, SETTINGS_FILE, read_opening
from act2see.errors import BackendError, ConfigError
from act2see.folders import check_new, whole_folder
from act2see.training.card import model_card

COPIED = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "processor_config.json",
    "generation_config.json",
    SETTINGS_FILE,
)
"""What a model's folder holds beside its config and its weights. Copied as it is: what was read with is what will be read with."""

_START = "'<|im_start|>assistant\\n'"


@dataclass(frozen=True, slots=True)
class Merged:
    """What was merged: `layers` counts the base's layers that the adapter changed."""

    folder: Path
    dtype: str
    layers: int


def merge(base: str, adapter: Path, out: Path) -> Merged:
    """Write the base with the adapter merged in, in the base's own number format, into the new folder `out`, whole or not at all.

    Files of the adapter's folder go before the base's: how it was trained to see is said there. Raises `BackendError` for what cannot be loaded
    or does not belong together and `ConfigError` for a folder that cannot be written, each in one line.
    """
    check_new(out)
    config = _adapter_config(adapter)
    model = _base(base)
    merged = _merged(model, config, base, adapter)
    with whole_folder(out) as folder:
        try:
            merged.model.save_pretrained(folder)
        except SafetensorError as error:  # a full disk is no OSError to it
            raise ConfigError(f"cannot write {out}: {_line(error)}; nothing was left there") from error
        _copy_parts(base, adapter, folder)
        _write_template(base, folder, merged.model)
        (folder / "README.md").write_text(model_card(base, adapter, merged.layers, config), encoding="utf-8")
    return Merged(out, str(model.dtype).removeprefix("torch."), merged.layers)


@dataclass(frozen=True, slots=True)
class _Result:
    model: Any
    layers: int


def _adapter_config(adapter: Path) -> Any:
    if not (adapter / "adapter_config.json").is_file():
        there = "it holds no adapter_config.json" if adapter.is_dir() else "there is no such folder"
        raise BackendError(f"no adapter in {adapter}: {there}; name the folder that training wrote")
    try:
        config = peft.PeftConfig.from_pretrained(str(adapter))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BackendError(f"cannot read the adapter in {adapter}: {_line(error)}") from error
    if config.peft_type != peft.PeftType.LORA:
        raise BackendError(f"the adapter in {adapter} is of type {config.peft_type}; only LORA can be merged")
    config.inference_mode = True
    config.base_model_name_or_path = None  # a base may have moved since: whether it is the one is seen by its weights
    return config


def _base(base: str) -> Any:
    try:
        model: Any = AutoModelForImageTextToText.from_pretrained(base, dtype="auto")
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise BackendError(f"cannot load {base}: {_line(error)}") from error
    if model.config.model_type not in MODEL_TYPES:
        raise BackendError(f"{base} is of type {model.config.model_type!r}; merged are {' and '.join(MODEL_TYPES)}")
    return model


def _merged(model: Any, config: Any, base: str, adapter: Path) -> _Result:
    foreign = f"the adapter in {adapter} is not of {base}"
    try:
        weights = load_peft_weights(str(adapter), device="cpu")
        adapted = peft.get_peft_model(model, config)
        loaded: Any = set_peft_model_state_dict(adapted, weights)
    except (OSError, SafetensorError) as error:
        raise BackendError(f"cannot read the adapter in {adapter}: {_line(error)}") from error
    except (ValueError, RuntimeError) as error:
        raise BackendError(f"{foreign}: {_shape_or_line(error)}; name the base that it was trained on") from error
    missing = [name for name in loaded.missing_keys if "lora_" in name or "modules_to_save" in name]
    if lost := [*loaded.unexpected_keys, *missing]:
        what = "has no place for" if loaded.unexpected_keys else "finds no weights for"
        raise BackendError(f"{foreign}: the base {what} {lost[0]} ({len(lost)} such); name the base that it was trained on")
    layers = sum(isinstance(module, peft.tuners.lora.LoraLayer) for module in adapted.modules())
    try:
        with torch.inference_mode():
            return _Result(adapted.merge_and_unload(safe_merge=True), layers)
    except ValueError as error:
        raise BackendError(f"cannot merge the adapter in {adapter}: {_line(error)}") from error


def _shape_or_line(error: Exception) -> str:
    """The first mismatch of torch's many lines, or the error's first line."""
    found = re.search(r"size mismatch for (\S+): .*?torch\.Size\((\[[^]]*\])\).*?torch\.Size\((\[[^]]*\])\)", str(error), re.DOTALL)
    return f"{found[1]} is {found[2]} there and {found[3]} in the base" if found else _line(error)


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _copy_parts(base: str, adapter: Path, folder: Path) -> None:
    quiet = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
    for name in COPIED:
        own = adapter / name
        found = own if own.is_file() else cached_file(base, name, **quiet)
        if found is not None:
            shutil.copyfile(found, folder / name)
    said = folder / "tokenizer_config.json"
    if said.exists():
        content = json.loads(said.read_text(encoding="utf-8"))
        if content.pop("chat_template", None) is not None:  # ours comes into a file of its own
            said.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_template(base: str, folder: Path, model: Any) -> None:
    """Ours, which keeps pictures in the assistant's turn, and begins that turn as the base's own template does."""
    opening = read_opening(AutoTokenizer.from_pretrained(base), base)
    ours = files("act2see").joinpath("chat_template.jinja").read_text(encoding="utf-8")
    begins = _START.replace("\\n'", "\\n" + opening.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'")
    assert ours.count(_START) == 1
    (folder / "chat_template.jinja").write_text(ours.replace(_START, begins), encoding="utf-8")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise BackendError(
            f"the tokenizer has {len(tokenizer):,} tokens and the model {rows:,}: the adapter's folder holds another model's tokenizer"
        )
