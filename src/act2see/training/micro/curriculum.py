"""The embedded vision-language model from nothing by one recipe: the parts of its curriculum one after the other, resumable anywhere."""

import json
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from act2see.config import MicroVlmConfig, refuse_unknown
from act2see.core.errors import ConfigError

KEY = "curriculum"
"""The table by which a recipe of the embedded model is known from one of fine-tuning."""


PartName = Literal["look", "see", "ask", "imagine"]


@dataclass(frozen=True, slots=True)
class Part:
    """One part: what is learnt, for how many steps, and how fast. Each begins with the weights of the one before."""

    part: PartName
    steps: int
    learning_rate: float
    batches: int | None = None
    """Batches a step; see `MicroVlmConfig`."""
    seed: int = 0


def is_curriculum(recipe: Path) -> bool:
    """Whether a recipe trains the embedded model from nothing. A file that cannot be read is none: whoever reads it as another one says why."""
    try:
        return KEY in tomllib.loads(recipe.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


def read_curriculum(recipe: Path) -> tuple[Part, ...]:
    """The parts in order. Raises `ConfigError` for a key or a value that cannot be."""
    content = tomllib.loads(recipe.read_text(encoding="utf-8"))
    refuse_unknown(recipe, "key", content, [KEY])
    tables = content[KEY]
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise ConfigError(f"{recipe}: write a table [[{KEY}]] for each part")
    return tuple(_part(recipe, number, table) for number, table in enumerate(tables, start=1))


def _part(recipe: Path, number: int, table: dict[str, Any]) -> Part:
    where = f"{recipe}: part {number}"
    kinds = {"part": str, "steps": int, "learning_rate": float, "batches": int, "seed": int}
    refuse_unknown(recipe, f"key in part {number}", table, list(kinds))
    for name in ("part", "steps", "learning_rate"):
        if name not in table:
            raise ConfigError(f"{where} has no {name}")
    for name, value in table.items():
        if type(value) is not kinds[name]:
            raise ConfigError(f"{where}: {name} is {value!r}; it must be a {kinds[name].__name__}")
    allowed = get_args(PartName)
    if table["part"] not in allowed:
        raise ConfigError(f"{where}: part is {table['part']!r}; allowed are {', '.join(allowed)}")
    if table["steps"] < 1 or table.get("batches", 1) < 1 or table["learning_rate"] <= 0:
        raise ConfigError(f"{where}: steps and batches must be at least 1 and learning_rate above 0")
    return Part(**table)


def train(
    parts: Sequence[Part], out: Path, *, resume: bool, fit: Callable[[MicroVlmConfig], Path], tell: Callable[[str], None], is_first: bool = True
) -> Path:
    """Train part after part into `out`, passing over what is finished; returns the last one's model.

    `fit` trains one part (`micro_vlm.train`), going on from its own last checkpoint, and returns when its model is there; `tell` hears which one
    begins. Of several processes only the first looks at what `out` holds. Raises `ConfigError` when that is a training and `resume` does not say to
    go on, or one of other parts. Parts that the recipe has gained at its end since then are trained.
    """
    if is_first:
        _begin(parts, out / "curriculum.json", resume=resume)
    model: Path | None = None
    for number, one in enumerate(parts, start=1):
        folder = out / f"{number}-{one.part}"
        if not (folder / "model" / "config.json").exists():
            tell(f"part {number} of {len(parts)}: {one.part}, {one.steps:,} steps")
            fit(MicroVlmConfig(out=folder, start_from=model, **asdict(one)))
        model = folder / "model"
    assert model is not None  # there is at least one part
    return model


def _begin(parts: Sequence[Part], said: Path, *, resume: bool) -> None:
    wanted = [asdict(one) for one in parts]
    if said.exists():
        if not resume:
            raise ConfigError(f"{said.parent} holds a training already: go on with --resume, or name another folder")
        known = json.loads(said.read_text(encoding="utf-8"))
        if known != wanted[: len(known)]:
            raise ConfigError(f"{said.parent} holds a training by another recipe: name another folder (parts may only be added at the end)")
    said.parent.mkdir(parents=True, exist_ok=True)
    said.write_text(json.dumps(wanted), encoding="utf-8")
