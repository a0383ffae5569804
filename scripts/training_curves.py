"""Draws the loss of trainings over their steps, from what transformers' Trainer and `act2see train` leave behind.

    python scripts/training_curves.py --out curves.svg "imagining=runs/micro/vlm/3-imagine" "edits=runs/micro/generator"

Each argument is NAME=FOLDER, of a training of the embedded models (its last checkpoint's trainer_state.json is read) or of one by a recipe (its
metrics.jsonl). A curve a panel; thin are the single readings, thick their running mean. Needs the `plot` extra.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

INK, LINE, REAL = "#1f1e1b", "#d8d4ca", "#0b6178"


def main() -> None:
    """Read, draw and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trainings", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--out", type=Path, required=True, help="output file, .svg or .png")
    given = parser.parse_args()
    named = [text.partition("=") for text in given.trainings]
    figure, panels = plt.subplots(1, len(named), figsize=(4.2 * len(named), 2.8), squeeze=False, layout="constrained")
    for panel, (name, _, folder) in zip(panels[0], named, strict=True):
        draw(panel, name, losses(Path(folder)))
    figure.savefig(given.out, metadata={"Date": None})
    print(given.out)


def losses(folder: Path) -> list[tuple[int, float]]:
    """Steps and losses. Ends the program in one line where there are none."""
    metrics = folder / "metrics.jsonl"
    states = sorted(folder.glob("checkpoints/checkpoint-*/trainer_state.json"), key=lambda path: int(path.parent.name.rpartition("-")[2]))
    if metrics.exists():
        lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    elif states:
        lines = json.loads(states[-1].read_text(encoding="utf-8"))["log_history"]
    else:
        raise SystemExit(f"{folder} holds no training: neither metrics.jsonl nor checkpoints/checkpoint-*/trainer_state.json")
    return [(int(line["step"]), float(line["loss"])) for line in lines if "loss" in line]


def draw(panel: Axes, name: str, found: Sequence[tuple[int, float]]) -> None:
    """One training's panel, its losses on a logarithmic scale."""
    steps, values = np.array([step for step, _ in found]), np.array([loss for _, loss in found])
    width = max(1, len(values) // 25)
    mean = np.convolve(np.pad(values, (width // 2, width - 1 - width // 2), mode="edge"), np.ones(width) / width, mode="valid")
    panel.plot(steps, values, color=LINE, linewidth=1)
    panel.plot(steps, mean, color=REAL, linewidth=2)
    panel.set_yscale("log")
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    panel.yaxis.set_minor_formatter(NullFormatter())
    panel.set_title(name, loc="left", fontsize=10, color=INK)
    panel.set_xlabel("step", fontsize=9)
    panel.set_ylabel("loss", fontsize=9)
    panel.tick_params(labelsize=8)
    panel.grid(which="major", color=LINE, linewidth=0.5)
    panel.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main()
