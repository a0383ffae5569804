"""The seconds that the stages took, beside the tables: they differ from run to run."""

import json
from dataclasses import dataclass
from pathlib import Path

from act2see.reproduce.stages import Stage
from act2see.storage.atomic import writing

TIMES = "times.jsonl"
"""A line for each stage, in the output folder."""


def write_time(out: Path, stage: Stage, seconds: float, wall: float) -> None:
    """Add a line."""
    row = {"stage": stage.name, "kind": type(stage.work).__name__, "cpu_seconds": round(seconds, 1), "wall_seconds": round(wall, 1)}
    with writing(out), (out / TIMES).open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


@dataclass(frozen=True, slots=True)
class Times:
    """How long the stages of one kind took, together."""

    kind: str
    stages: int
    cpu_seconds: float
    wall_seconds: float


def read_times(out: Path) -> list[Times]:
    """What the stages took, by kind; an interrupted one counts with its last call only."""
    try:
        rows = [json.loads(line) for line in (out / TIMES).read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        return []
    kinds = dict.fromkeys(str(row["kind"]) for row in rows)
    chosen = {kind: [row for row in rows if row["kind"] == kind] for kind in kinds}
    return [
        Times(kind, len(of), round(sum(row["cpu_seconds"] for row in of)), round(sum(row["wall_seconds"] for row in of)))
        for kind, of in chosen.items()
    ]
