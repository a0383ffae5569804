"""Trains the embedded vision-language model from random weights, part by part, as its curriculum recipe says. Resumable at any point."""

import json
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from act2see.config import MicroVlmConfig, refuse_unknown
from act2see.core.errors import ConfigError
from act2see.storage.codec import TOO_LARGE
from act2see.storage.typed_json import converted
from act2see.training.progress import PartStarted, ProgressCallback, no_progress

KEY = "curriculum"
"""The TOML table that marks a curriculum recipe."""


AtLeastOne: TypeAlias = Annotated[int, Meta(ge=1, extra={"words": "a whole number of at least 1"})]
PartName = Literal["look", "see", "ask", "imagine"]


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the curriculum. Each part starts from the weights of the previous one."""

    part: PartName
    steps: AtLeastOne
    learning_rate: Annotated[float, Meta(gt=0, lt=TOO_LARGE, extra={"words": "a number above 0"})]
    batches: AtLeastOne | None = None
    """Batches per optimizer step; see `MicroVlmConfig`."""
    seed: int = 0


def is_curriculum(recipe: Path) -> bool:
    """Whether a file is a curriculum recipe. False for an unreadable file: `read_recipe` then reports why."""
    try:
        return KEY in tomllib.loads(recipe.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


def read_curriculum(recipe: Path) -> tuple[Part, ...]:
    """The parts in order. Raises `ConfigError` for an unknown key or an invalid value."""
    content = tomllib.loads(recipe.read_text(encoding="utf-8"))
    refuse_unknown(recipe, "key", content, [KEY])
    tables = content[KEY]
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise ConfigError(f"{recipe}: write a table [[{KEY}]] for each part")
    return tuple(_part(recipe, number, table) for number, table in enumerate(tables, start=1))


def _part(recipe: Path, number: int, table: dict[str, object]) -> Part:
    refuse_unknown(recipe, f"key in part {number}", table, [field.name for field in fields(Part)])
    return converted(table, Part, f"{recipe}: part {number}", ConfigError)


def train(
    parts: Sequence[Part],
    out: Path,
    *,
    resume: bool,
    train_part: Callable[[MicroVlmConfig], Path],
    progress: ProgressCallback = no_progress,
    is_main: bool = True,
) -> Path:
    """Train the parts in order into `out`, skipping finished ones, and return the folder of the last part's model.

    `train_part` (`vlm.train`) resumes from the part's own last checkpoint and returns once the model is written. Only the main process checks what
    `out` holds. Raises `ConfigError` if `out` holds a training and `resume` is false, or a training with other parts. Parts that were appended to the
    recipe since then are trained.
    """
    if is_main:
        _check_folder(parts, out / "curriculum.json", resume=resume)
    model: Path | None = None
    for number, part in enumerate(parts, start=1):
        folder = out / f"{number}-{part.part}"
        if not (folder / "model" / "config.json").exists():
            progress(PartStarted(number, len(parts), part.part, part.steps))
            train_part(MicroVlmConfig(out=folder, start_from=model, **asdict(part)))
        model = folder / "model"
    assert model is not None  # there is at least one part
    return model


def _check_folder(parts: Sequence[Part], record: Path, *, resume: bool) -> None:
    wanted = [asdict(part) for part in parts]
    if record.exists():
        if not resume:
            raise ConfigError(f"{record.parent} holds a training already: continue it with --resume, or choose another folder")
        known = json.loads(record.read_text(encoding="utf-8"))
        if known != wanted[: len(known)]:
            raise ConfigError(f"{record.parent} holds a training by another recipe: choose another folder (parts may only be appended)")
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(wanted), encoding="utf-8")
