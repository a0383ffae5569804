"""Merges a LoRA adapter into its base model: one folder that transformers, act2see and servers load without peft."""

import json
import shutil
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

from safetensors import SafetensorError

from act2see.backends import adapters, pretrained
from act2see.backends.adapters import check_same, logits_of, merge_into, read_adapter
from act2see.backends.loading import SETTINGS_FILE, check_trainable, load_tokenizer, load_vlm, model_folder, reader
from act2see.core.errors import BackendError, ConfigError
from act2see.storage.folders import check_new, whole_folder
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
"""Files of a model folder beside config and weights. They are copied unchanged, so that inputs are processed as in training."""

_START = "'<|im_start|>assistant\\n'"


@dataclass(frozen=True, slots=True)
class Merged:
    """A merged model. `layers` is the number of base layers that the adapter changed."""

    folder: Path
    dtype: str
    layers: int
    difference: float
    """Largest logit difference between the merged and the unmerged model, on a short conversation with a picture."""


def merge(base: str, adapter: Path, out: Path) -> Merged:
    """Merge the adapter into the base and write the model, in the base's dtype, atomically into the new folder `out`.

    Processor and settings files come from the adapter's folder if it has them, else from the base. Raises `BackendError` for models that cannot be
    loaded or do not match, and `ConfigError` for a folder that cannot be written, each with one line.
    """
    check_new(out)
    read = read_adapter(str(adapter))
    check_trainable(base)
    encoder, style, _ = reader(base)
    merged = merge_into(load_vlm(base, dtype="auto"), read, base, encoder)
    dtype, layers = merged.model.dtype, merged.layers
    rows = merged.model.get_input_embeddings().weight.shape[0]
    with whole_folder(out) as folder:
        try:
            with pretrained.quiet():
                merged.model.save_pretrained(folder)
        except SafetensorError as error:  # also raised for a full disk
            raise ConfigError(f"cannot write {out}: {pretrained.first_line(error)}; nothing was written") from error
        merged = replace(merged, model=None)  # free the memory for the written model
        _copy_parts(model_folder(base), adapter, folder)
        _write_template(style.opening, folder, rows)
        difference = _read_back(merged, folder, adapter, encoder.merge)
        (folder / "README.md").write_text(model_card(base, adapter, layers, read.config, difference), encoding="utf-8")
    return Merged(out, str(dtype).removeprefix("torch."), layers, difference)


def _read_back(merged: adapters.Merged, folder: Path, adapter: Path, merge: int) -> float:
    """Largest logit difference between the unmerged and the written model. Raises `BackendError` if it is too large."""
    written = load_vlm(str(folder), dtype="auto")
    found = logits_of(written, merged.sequence, merge)
    check_same(merged.apart, found, written.dtype, str(adapter))
    return float((found - merged.apart).abs().max())


def _copy_parts(base: Path, adapter: Path, folder: Path) -> None:
    for name in COPIED:
        found = next((place / name for place in (adapter, base) if (place / name).is_file()), None)
        if found is not None:
            shutil.copyfile(found, folder / name)
    said = folder / "tokenizer_config.json"
    if said.exists():
        content = json.loads(said.read_text(encoding="utf-8"))
        if content.pop("chat_template", None) is not None:  # replaced by chat_template.jinja
            said.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_template(opening: str, folder: Path, rows: int) -> None:
    """Write our chat template, which keeps pictures in the assistant's turn, with the assistant prefix of the base's template."""
    ours = files("act2see.core").joinpath("templates", "chat_template.jinja").read_text(encoding="utf-8")
    begins = _START.replace("\\n'", "\\n" + opening.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'")
    assert ours.count(_START) == 1
    (folder / "chat_template.jinja").write_text(ours.replace(_START, begins), encoding="utf-8")
    tokenizer = load_tokenizer(folder, str(folder))
    if len(tokenizer) > rows:
        raise BackendError(
            f"the tokenizer has {len(tokenizer):,} tokens and the model {rows:,}: the tokenizer in the adapter's folder belongs to another model"
        )
