"""Load LoRA adapters, merge them into their base model, and verify the merged model's logits."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import set_peft_model_state_dict
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from act2see.backends import pretrained
from act2see.backends.encoder import Encoder
from act2see.backends.kv_cache import inputs_of
from act2see.backends.pieces import Piece
from act2see.core import chat
from act2see.core.errors import BackendError
from act2see.core.trace import Answer, Frame, Observation, Retrieve, Step, Thought, Trace

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_TOLERANCE = {torch.float32: 0.001, torch.bfloat16: 0.05, torch.float16: 0.01}
"""Tolerance of merging: RMS difference of the logits divided by their standard deviation. Our choice: rounding alone gives 0.000001, 0.008 and 0.001
on a model of five layers; an update applied to the wrong tensor gives more than 1."""
_MOST_TOKENS = 256
"""How many of an adapter's individually trained tokens are used in the comparison."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """A loaded adapter: its folder, peft config and weights."""

    folder: Path
    config: peft.LoraConfig
    weights: dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Merged:
    """A merged model. `layers` is the number of adapted layers, `apart` the logits of base and adapter before merging."""

    model: Any
    layers: int
    apart: torch.Tensor
    sequence: list[Piece]
    """The input of those logits."""


def read_adapter(adapter: str) -> Adapter:
    """Load the adapter in a folder. Raises `BackendError` for other folders, for pickles, and for adapters other than LoRA."""
    what = f"the adapter {adapter}"
    folder = Path(adapter)
    if not os.path.isfile(folder / _CONFIG):  # Path.is_file raises without read permission
        there = f"it holds no {_CONFIG}" if os.path.isdir(folder) else "no such folder"
        whole = "; it is a complete model" if os.path.isfile(folder / "config.json") else ""
        raise BackendError(f"no adapter in {adapter}: {there}{whole}; name the folder that training wrote")
    content = pretrained.read_json(folder / _CONFIG, what, BackendError)
    files = pretrained.weight_files(folder, what, BackendError, single=_WEIGHTS)
    with pretrained.reading(what, BackendError):
        config = peft.PeftConfig.from_peft_type(**peft.PeftConfig.check_kwargs(**content))
        weights = load_file(files[0])
    if not isinstance(config, peft.LoraConfig):
        raise BackendError(f"the adapter in {adapter} is of type {config.peft_type}; only LORA can be merged")
    config.inference_mode = True
    config.base_model_name_or_path = None  # the base may have moved: the weights show whether it is the right one
    return Adapter(folder, config, weights)


def merge_into(model: Any, adapter: Adapter, base: str, encoder: Encoder) -> Merged:
    """Merge the adapter into the model, in place, on the model's device and in its dtype.

    Adapted input and output embeddings that share a tensor are untied, because an update of one must not change the other. Raises `BackendError` for
    an adapter of another base, and if the merged model's logits differ from those of base and adapter.
    """
    adapted = _together(model, adapter, base)
    sequence = _sequence(encoder, adapter.config)
    apart = logits_of(adapted, sequence, encoder.merge)
    layers = sum(isinstance(module, peft.tuners.lora.LoraLayer) for module in adapted.modules())
    _untie(model)
    with pretrained.reading(f"the adapter {adapter.folder} merged", BackendError), torch.inference_mode(False), torch.no_grad():
        merged = adapted.merge_and_unload(safe_merge=True)
    _settle_tie(merged)
    check_same(apart, logits_of(merged, sequence, encoder.merge), merged.dtype, str(adapter.folder))
    return Merged(merged.eval(), layers, apart, sequence)


def check_same(apart: torch.Tensor, merged: torch.Tensor, dtype: torch.dtype, adapter: str) -> None:
    """Raise `BackendError` if the merged model's logits differ from those of base and adapter by more than rounding error."""
    difference, allowed = merged - apart, _TOLERANCE.get(dtype, _TOLERANCE[torch.bfloat16])
    share = float(difference.square().mean().sqrt() / apart.std())
    if not share <= allowed:  # also rejects NaN
        raise BackendError(
            f"merging the adapter {adapter} changes what it computes: logits differ by up to {float(difference.abs().max()):.3g}, {share:.1%} of "
            f"their size, of which rounding explains {allowed:.1%}; serve base and adapter apart, with vLLM's --enable-lora"
        )


def logits_of(model: Any, pieces: Sequence[Piece], merge: int) -> torch.Tensor:
    """Logits (tokens, vocabulary) float32 of the whole sequence."""
    inputs = inputs_of(pieces, merge, model)
    with torch.inference_mode():
        found: torch.Tensor = model(**inputs, use_cache=False).logits[0].float()
    return found


def _together(model: Any, adapter: Adapter, base: str) -> Any:
    """Base and adapter as a peft model, after checking that every adapter weight was loaded."""
    foreign = f"the adapter {adapter.folder} is not of {base}"
    try:
        with pretrained.quiet():
            adapted: Any = peft.get_peft_model(model, adapter.config).eval()
            loaded: Any = set_peft_model_state_dict(adapted, adapter.weights)
    except (ValueError, TypeError, RuntimeError, LookupError, AttributeError, ImportError) as error:
        raise BackendError(f"{foreign}: {_shape_or_line(error)}; name the base that it was trained on") from error
    owners: dict[int, set[str]] = {}  # tied weights have several names, only one of which is stored
    for name, weight in adapted.named_parameters(remove_duplicate=False):
        owners.setdefault(weight.data_ptr(), set()).add(name)
    alone = {name for names in owners.values() if names <= set(loaded.missing_keys) for name in names}
    missing = [name for name in loaded.missing_keys if name in alone and re.search("lora_|modules_to_save|trainable_tokens", name)]
    if lost := [*loaded.unexpected_keys, *missing]:
        what = "has no place for" if loaded.unexpected_keys else "finds no weights for"
        raise BackendError(f"{foreign}: the base {what} {lost[0]} ({len(lost)} such); name the base that it was trained on")
    return adapted


def _shape_or_line(error: Exception) -> str:
    """The first shape mismatch in torch's message, else its first line."""
    found = re.search(r"size mismatch for (\S+): .*?torch\.Size\((\[[^]]*\])\).*?torch\.Size\((\[[^]]*\])\)", str(error), re.DOTALL)
    return f"{found[1]} is {found[2]} there and {found[3]} in the base" if found else pretrained.first_line(error)


def _untie(model: Any) -> None:
    """Untie adapted embeddings: peft only warns, and would merge the update into the shared tensor."""
    both = model.get_input_embeddings(), model.get_output_embeddings()
    if any(isinstance(layer, BaseTunerLayer) for layer in both):
        inner, outer = (layer.get_base_layer() if hasattr(layer, "get_base_layer") else layer for layer in both)
        if inner.weight.data_ptr() == outer.weight.data_ptr():
            outer.weight = nn.Parameter(outer.weight.detach().clone(), requires_grad=False)


def _settle_tie(model: Any) -> None:
    """Set the config's `tie_word_embeddings` to match the tensors, because saving and loading depend on it."""
    tied = model.get_input_embeddings().weight.data_ptr() == model.get_output_embeddings().weight.data_ptr()
    for config in (model.config, model.config.get_text_config()):
        if getattr(config, "tie_word_embeddings", False) and not tied:
            config.tie_word_embeddings = False


def _sequence(encoder: Encoder, config: peft.LoraConfig) -> list[Piece]:
    """Test input: a short conversation with a picture and every tag of the protocol, then the individually trained tokens."""
    picture = Image.linear_gradient("L").resize((64, 64)).convert("RGB")
    steps: list[Step] = [
        Thought("<think>I look."),
        Retrieve("the red star"),
        Observation((Frame(picture, 1.0),)),
        Thought("It is red.</think>"),
        Answer("A"),
    ]
    trace = Trace("merging", "", "What colour is the star?", (Frame(picture, 0.0),), ("red", "blue"), steps=steps, finish="answer")
    conversation = encoder.prompt(chat.turns(trace, ("retrieve", "generate"), chat.Style()), ended=True)
    trained = config.trainable_token_indices or []
    tokens = sorted({token for some in (trained.values() if isinstance(trained, dict) else [trained]) for token in some})[:_MOST_TOKENS]
    return [*conversation, *(Piece((token,), token) for token in tokens if token not in (encoder.image_id, encoder.video_id))]
