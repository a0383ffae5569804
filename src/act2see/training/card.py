"""The model card (README.md) of a merged model, built only from the files that training wrote."""

import json
import re
from pathlib import Path
from typing import Protocol

from act2see.core.errors import StoreError
from act2see.storage.atomic import content_of
from act2see.storage.codec import parse_json
from act2see.storage.runs import JSON, Run

_LONGEST_SCORES = 4000


class LoraShape(Protocol):
    """The part of peft's `LoraConfig` that the card names."""

    @property
    def r(self) -> int:
        """The rank."""

    @property
    def lora_alpha(self) -> float:
        """The scale, before it is divided by the rank."""


def model_card(base: str, adapter: Path, layers: int, config: LoraShape, difference: float) -> str:
    """The card in Markdown. `config` is the adapter's; `difference` is the largest logit difference between the merged and the unmerged model."""
    trained = _training_run(adapter)
    hub = [f"base_model: {base}"] if _is_hub_name(base) else []
    lines = ["---", "library_name: transformers", "pipeline_tag: image-text-to-text", *hub, "tags:", "- act2see", "---", ""]
    lines += [f"# {_name(base)} with the adapter {_adapter_name(adapter)}", ""]
    lines += [
        f"A LoRA adapter (rank {config.r}, alpha {config.lora_alpha:g}, {layers} layers) merged into its base, {_name(base)}, by `act2see merge`.",
        f"Logits differ from those of base and adapter apart by at most {difference:.2g}, on a short conversation with a picture.",
        "It is a vision-language model that reasons about a video and may ask for frames that it has not seen.",
        "",
        "```bash",
        'act2see ask clip.mp4 "What does she drop?" --backend huggingface:FOLDER',
        "vllm serve FOLDER --chat-template FOLDER/chat_template.jinja",
        "```",
        "",
        "## Training",
        "",
    ]
    lines += (
        _training(trained) if trained else ["The adapter's folder does not lie in a training run of act2see: how it was trained is not recorded."]
    )
    lines += ["", "## Scores", "", *(_scores(trained.folder / "metrics.jsonl") if trained else ["None recorded."])]
    return "\n".join(lines) + "\n"


def _training_run(adapter: Path) -> Run | None:
    """The run that the adapter belongs to, as its result (`RUN/adapter`) or a checkpoint (`RUN/checkpoints/checkpoint-N`)."""
    folder = adapter.resolve()
    for one in (folder.parent, folder.parent.parent if folder.parent.name == "checkpoints" else folder.parent):
        if (one / "run.json").is_file():
            try:
                run = Run.open(one)
            except StoreError:
                return None
            return run if run.command == "train" else None
    return None


def _training(run: Run) -> list[str]:
    lines = []
    config = dict(run.config)
    if isinstance(digest := config.get("data"), str):
        lines.append(f"- data: {config.get('traces', 'an unknown number of')} traces, digest `{_plain(digest)}`")
    if "processes" in config:
        lines.append(f"- processes: {_plain(str(config['processes']))}")
    lines.append(f"- run: digest `{_plain(run.digest)}`, seed {run.seed}")
    lines.append("- versions: " + ", ".join(f"{_plain(name)} {_plain(version)}" for name, version in run.versions.items()))
    if isinstance(recipe := config.get("recipe"), dict):
        shown = {**recipe, **({"model": _name(recipe["model"])} if isinstance(recipe.get("model"), str) else {})}
        lines += ["", "The recipe:", "", "```json", json.dumps(shown, indent=2).replace("```", "'''"), "```"]
    return lines


def _scores(metrics: Path) -> list[str]:
    """The last loss and the last held-out scores in the metrics."""
    last: dict[str, tuple[JSON, JSON]] = {}
    if metrics.is_file():
        for line in content_of(metrics.parent, metrics.name).splitlines():
            try:
                record = parse_json(line)
            except StoreError:  # the last line of a killed process
                continue
            if isinstance(record, dict):
                last |= {name: (record.get("step"), record[name]) for name in ("loss", "probe") if name in record}
    lines = []
    if "loss" in last:
        lines.append(f"- training loss {_plain(json.dumps(last['loss'][1]))} at step {_plain(json.dumps(last['loss'][0]))}")
    if "probe" in last:
        scores = json.dumps(last["probe"][1], indent=2)[:_LONGEST_SCORES].replace("```", "'''")
        lines += [f"- held-out questions, answered by decoding at step {_plain(json.dumps(last['probe'][0]))}:", "", "```json", scores, "```"]
    return lines or ["None recorded."]


def _name(model: str) -> str:
    """A Hub name as it is; of a folder, only its last component."""
    return _plain(model if _is_hub_name(model) else Path(model).name)


def _adapter_name(adapter: Path) -> str:
    folder = adapter.resolve()
    return _plain(f"{folder.parent.name}/{folder.name}")


def _is_hub_name(model: str) -> bool:
    return re.fullmatch(r"[\w.-]+/[\w.-]+", model) is not None and not Path(model).exists()


def _plain(text: str) -> str:
    """On one line, without Markdown or HTML."""
    return re.sub(r"[`<>\[\]\n\r|*#]", " ", text)
