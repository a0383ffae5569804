"""A run with traces of every kind, and what lies in its export."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import act2see
from act2see.config import ExportConfig
from act2see.core.trace import Answer, Cost, Frame, Generate, Match, Observation, Provenance, Retrieve, Step, Thought, Trace
from act2see.curation.export import ExportResult, Format, export_run
from act2see.storage.runs import Run

PACKAGE = Path(act2see.__file__).parent


def picture(seed: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


MADE = Frame(picture(9, (48, 48)), None, provenance=Provenance("a red — “star”", 1.5, "some/model", 7, 0.6, {"same place": 0.9}))
FOUND = Frame(picture(8, (32, 64)), 1.25, 0.5, match=Match(30, (1.0, 1.5), ((0.5, 0.4),)))
LOOKS: tuple[Step, ...] = (
    Thought("<think>Not there."),
    Retrieve(" the cup "),
    Observation((FOUND,)),
    Thought(" What if?"),
    Generate("a star"),
    Observation((MADE,)),
    Retrieve("x"),
    Observation(error="no <look> is left"),
    Thought(" So be it.</think>\n"),
    Answer(" A "),
)
KNOWS: tuple[Step, ...] = (Thought("<think>It falls at 1.0 seconds.</think>"), Answer("B"))


def trace_of(name: str, steps: Iterable[Step] = LOOKS, question: str = "What falls?", seed: int = 0, **others: Any) -> Trace:
    frames = (Frame(picture(seed), 0.0), Frame(picture(seed + 1), 1.0))
    made_with = {"backend": "micro", "tools": "retrieve,generate"}
    settled: dict[str, Any] = {
        "duration_seconds": 2.5,
        "finish": "answer",
        "made_with": made_with,
        "cost": Cost(10, 20, 5, {"decode": 1.5}, 0.25),
        **others,
    }
    return Trace(name, f"{name}.mp4", question, frames, ("a cup", "a pen"), steps=list(steps), **settled)


def frame_names(run: Run, name: str) -> list[str]:
    lines = (json.loads(line) for line in (run.folder / "traces.jsonl").read_text().splitlines())
    return next([frame["file"] for frame in line["frames"]] for line in lines if line["id"] == name)


def exported(run: Run, out: Path, form: Format, **options: Any) -> ExportResult:
    return export_run(run, ExportConfig(form, out, **options))


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


FORMATS: tuple[Format, ...] = ("trl", "llamafactory", "swift", "parquet")


def make_run(folder: Path) -> Run:
    """Two answered traces, and one of each kind that is left out."""
    run = Run.create(folder, command="ask", config={}, seed=3)
    run.append(trace_of("looks"))
    run.append(trace_of("cut off", (Thought("<think>Hm"),), finish="length"))
    run.append(trace_of("knows", KNOWS, seed=4))
    run.append(trace_of("blind", KNOWS, seed=20))
    run.append(trace_of("lost", KNOWS, seed=40))
    (run.folder / "frames" / frame_names(run, "lost")[0]).unlink()
    (run.folder / "frames" / frame_names(run, "blind")[1]).write_bytes(b"no picture")
    return run
