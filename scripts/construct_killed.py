"""Constructs the same training data twice, once uninterrupted and once killed (SIGKILL) twice and resumed, and compares the results.

    python scripts/construct_killed.py [--n 500] [--workers 8]

The teacher is the scripted one of the synthetic world, the retriever the embedded one. Prints a line of JSON; exits with 1 unless every question
ended exactly once and both runs hold the same summary, scores, questions and tries.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

FILES = ("summary.json", "scores.jsonl", "samples.jsonl")


def main() -> int:
    """Run both and compare them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--workers", type=int, default=8)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        # The runs share their clips' paths, because these stand in the questions: each is moved aside once it has ended.
        out, whole = Path(scratch) / "run", Path(scratch) / "whole"
        started = time.monotonic()
        subprocess.run(_command(given, out), check=True, capture_output=True)
        seconds = time.monotonic() - started
        out.rename(whole)
        kills = [_killed(given, out, at, resume=number > 0) for number, at in enumerate((given.n // 3, 2 * given.n // 3))]
        subprocess.run([*_command(given, out), "--resume"], check=True, capture_output=True)
        same = {name: (out / name).read_bytes() == (whole / name).read_bytes() for name in FILES}
        tries = [_ids(folder) for folder in (whole, out)]
        ended = [row["id"] for row in map(json.loads, (out / "scores.jsonl").read_text(encoding="utf-8").splitlines())]
    told: dict[str, Any] = {
        "questions": given.n,
        "ended": len(ended),
        "ended_once": len(set(ended)) == len(ended) == given.n,
        "traces_at_each_kill": kills,
        "traces": sum(tries[0].values()),
        "same_tries_once_each": tries[0] == tries[1] and max(tries[1].values()) == 1,
        "same": same,
        "seconds_of_the_whole_run": round(seconds, 1),
    }
    print(json.dumps(told))
    return 0 if told["ended_once"] and told["same_tries_once_each"] and all(same.values()) else 1


def _command(given: argparse.Namespace, out: Path) -> list[str]:
    teacher = ["--teacher", "act2see.synthetic.teacher:ScriptedTeacher", "--n", str(given.n), "--workers", str(given.workers)]
    return [sys.executable, "-m", "act2see", "construct", "synthetic", *teacher, "--out", str(out)]


def _killed(given: argparse.Namespace, out: Path, at: int, *, resume: bool) -> int:
    """Start it, kill it once it has written this many traces, and return their number."""
    process = subprocess.Popen(
        [*_command(given, out), *(["--resume"] if resume else [])], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ
    )
    while process.poll() is None and sum(_ids(out).values()) < at:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return sum(_ids(out).values())


def _ids(run: Path) -> Counter[str]:
    """Number of traces per id in the run."""
    path = run / "traces.jsonl"
    whole = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return Counter(json.loads(line)["id"] for line in whole)


if __name__ == "__main__":
    sys.exit(main())
