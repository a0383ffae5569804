"""Runs the synthetic benchmark through lmms-eval and through `act2see eval`; fails unless the counts are equal.

    python scripts/lmms_eval.py [--n 12] [--max-looks 1]

Needs an environment of its own with act2see[local] and lmms-eval 0.7.3, which asks for an older PyAV and for torchvision, and needs neither here:

    pip install torch==2.13.0
    pip install 'act2see[local]'
    pip install --no-deps lmms-eval==0.7.3
    pip install loguru sacrebleu evaluate pytablewriter pytz tenacity 'filelock<4'
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from act2see.storage.runs import Run

TASK = "act2see_synthetic"


def main() -> None:
    """Print both counts as a line of JSON; exit code 1 when they differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=12)
    parser.add_argument("--max-looks", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        theirs = through_lmms_eval(folder, given.n, given.max_looks)
        ours = through_eval(folder, given.n, given.max_looks)
        told, again = ([trace.steps for trace in Run.open(folder / name).traces()] for name in ("lmms", "eval"))
    same = sum(one == other for one, other in zip(told, again, strict=True))
    print(json.dumps({"n": given.n, "accuracy_by_lmms_eval": theirs, "accuracy_by_eval": ours, "same_traces": same}))
    sys.exit(abs(theirs - ours) > 1e-9 or same != given.n)


def through_lmms_eval(folder: Path, count: int, looks: int) -> float:
    """The accuracy that lmms-eval reports."""
    act2see("synthetic", str(folder / "world"), "--split", "held-out", "--n", str(count))
    command = ["lmms_eval", "--model", "act2see", "--model_args", f"backend=micro,max_looks={looks},out={folder / 'lmms'}", "--tasks", TASK]
    command += ["--include_path", str(Path(__file__).parent / "lmms_eval_task"), "--output_path", str(folder / "results"), "--log_samples"]
    alone = {"HF_HOME": str(folder / "hub"), "HF_HUB_OFFLINE": "1"}  # nothing is downloaded, and nothing left behind
    # In that folder: the task's paths are relative to it, and this file has the package's name.
    subprocess.run([sys.executable, "-m", *command], cwd=folder / "world", env={**os.environ, **alone}, check=True, stdout=sys.stderr)
    results: list[Any] = [json.loads(path.read_text(encoding="utf-8"))["results"][TASK] for path in (folder / "results").rglob("*_results.json")]
    if not results:  # it ends with 0 all the same
        sys.exit("lmms-eval has written no results: its error stands above")
    return float(results[0]["accuracy,none"])


def through_eval(folder: Path, count: int, looks: int) -> float:
    """The share of questions that `act2see eval` counts as right."""
    (folder / "none.toml").touch()  # the user's own settings are left out of it
    settings = ["--n", str(count), "--max-looks", str(looks), "--out", str(folder / "eval"), "--config", str(folder / "none.toml"), "--json"]
    summary = json.loads(act2see("eval", "synthetic", *settings).splitlines()[-1])
    return float(summary["outcomes"].get("correct", 0) / count)


def act2see(*arguments: str) -> str:
    """What a command of act2see prints."""
    return subprocess.run([sys.executable, "-m", "act2see", *arguments], stdout=subprocess.PIPE, text=True, check=True).stdout


if __name__ == "__main__":
    main()
