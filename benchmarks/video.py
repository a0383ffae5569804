"""What it costs to get frames out of a video, in CPU and wall seconds and in memory, and whether they are the right ones.

    python benchmarks/video.py [--quick] [--repeats 3] [--only TEXT] [--peer NAME] [--json FILE] [--folder DIR]

Every case runs in a fresh process, imports are not counted, and the figures are medians over the repeats, which take turns. `ratio` is CPU seconds
over those of `ffmpeg -threads 2 -i FILE -an -f null -`, which decodes everything and keeps nothing. Frames carry their number as a barcode, so that
wrong ones are counted. The files are made once and kept in a folder under the user's cache. A peer that is not installed is reported as absent; for
all: `pip install torchcodec==0.13.0 decord==0.6.0 opencv-python-headless` and FFmpeg from the system (or `pip install imageio-ffmpeg`).
"""

import argparse
import bisect
import datetime
import itertools
import json
import os
import platform
import random
import signal
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path
from video_files import VERSION, Clip, clips, path_of
from video_peers import PEERS, version_of

LIMIT, OURS = "ffmpeg -f null", "act2see"
OTHERS = ("PyAV plain", "torchcodec", "decord", "OpenCV")


@dataclass(frozen=True)
class Case:
    """One row group of the table. `sets`: frames a second and shorter side of every sampling; `target`: the ratio to reach."""

    title: str
    clip: str
    task: str = "sample"
    sets: tuple[tuple[float, int], ...] = ((1.0, 448),)
    peers: tuple[str, ...] = (OURS, *OTHERS)
    target: float | None = None
    target_to: str = LIMIT
    most_mebibytes: float | None = None
    is_timed: bool = True


_3 = ((3.0, 448),)
_BOTH = ((1.0, 448), (3.0, 224))
_LEAN: dict[str, Any] = {"is_timed": False, "sets": ((5.0, 224),)}
QUICK = [
    Case("1080p H.264, B-frames, GOP 250: 1 fps", "gop250.mp4", target=0.60),
    Case("… 3 fps", "gop250.mp4", sets=_3, peers=(OURS,), target=0.65),
    Case("… 1 fps at 448 and 3 fps at 224 in one pass", "gop250.mp4", sets=_BOTH, peers=(OURS,), target=0.70),
    Case("… key frames only", "gop250.mp4", "keyframes", peers=(OURS,), target=0.12),
    Case("1080p H.264, GOP 30: 1 fps", "gop30.mp4", peers=(OURS, "torchcodec"), target=0.30),
    *(Case(f"right frames: {name}", name, **_LEAN) for name in ("uneven.mp4", "uneven.mkv", "late.ts", "open.mkv")),
]
FULL = [
    Case("1080p H.264, B-frames, GOP 250: 1 fps", "gop250.mp4", target=0.60),
    Case("… 3 fps", "gop250.mp4", sets=_3, target=0.65),
    *QUICK[2:4],
    Case("1080p H.264, 11 Mbit/s, much grain: 1 fps", "grain.mp4", peers=(OURS, "PyAV plain", "torchcodec"), target=0.60),
    Case("1080p H.264, GOP 30: 1 fps", "gop30.mp4", target=0.30),
    Case("1080p H.264, no B-frames: 1 fps", "no-b.mp4", target=1.0),
    Case("720p HEVC: 1 fps", "hevc.mp4"),
    Case("720p VP9: 1 fps", "vp9.webm", target=1.0),
    Case("720p AV1: 1 fps", "av1.mp4", target=1.0),
    Case("1080p, 2 minutes: 20 frames at random", "2min.mp4", "random", target=0.60, target_to="torchcodec"),
    Case("360p, 60 minutes, camera: 1 fps", "hour.mp4", peers=(OURS, "torchcodec", "decord"), target=0.60, most_mebibytes=150),
    Case("… key frames only", "hour.mp4", "keyframes", peers=(OURS,), target=0.12),
    Case("360p, 60 minutes, slides: 1 fps", "hour-still.mp4", peers=(OURS,), target=0.60, most_mebibytes=150),
    *QUICK[5:],
    Case("right frames: mpeg4.mp4", "mpeg4.mp4", **_LEAN),
    Case("right frames: mpeg2.ts", "mpeg2.ts", **_LEAN),
]


def main() -> None:
    """Make the files, run everything, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter files")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", action="append", help="run only cases with this text in their title or file name; repeatable")
    parser.add_argument("--peer", action="append", help="compare only with this peer besides act2see and ffmpeg; repeatable")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    parser.add_argument("--folder", type=Path, default=user_cache_path("act2see-benchmark"), help="where the videos are kept")
    options = parser.parse_args()
    folder = options.folder / f"video-{VERSION}"
    known = clips(options.quick)
    cases = [case for case in (QUICK if options.quick else FULL) if any(text in case.title + " " + case.clip for text in options.only or [""])]
    paths = {name: _made(name, known[name], folder, "quick" if options.quick else "full") for name in {case.clip: None for case in cases}}
    versions = {peer: version_of(peer) for peer in PEERS if peer in (LIMIT, OURS) or not options.peer or peer in options.peer}
    measured: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for turn in range(options.repeats):
        for case in cases:
            for peer in (LIMIT, *case.peers):
                job = _job(case, peer, known[case.clip], paths[case.clip])
                key = (case.clip, peer, "" if peer == LIMIT else case.title)
                is_enough = turn > 0 and not case.is_timed
                is_hopeless = "error" in measured.get(key, [{}])[-1]
                if (
                    versions.get(peer) is None
                    or is_enough
                    or is_hopeless
                    or (peer == LIMIT and (not case.is_timed or len(measured.get(key, [])) > turn))
                ):
                    continue
                print(f"\r{turn + 1}/{options.repeats} {peer}: {case.title}\x1b[K", end="", file=sys.stderr, flush=True)
                measured.setdefault(key, []).append(_run(job))
    print("\r\x1b[K", end="", file=sys.stderr)
    rows = [row for case in cases for row in _rows(case, known[case.clip], measured, versions)]
    print(_machine(versions))
    print(_table(rows))
    if options.json:
        options.json.write_text(json.dumps({"machine": _machine(versions), "versions": versions, "rows": rows}, indent=1))


def _made(name: str, clip: Clip, folder: Path, kind: str) -> Path:
    """The clip's file, made in a process of its own, so that its memory is not counted with what is measured."""
    path = path_of(clip, folder)
    if not path.exists():
        print(f"making {path}", file=sys.stderr)
        subprocess.run([sys.executable, str(Path(__file__).with_name("video_files.py")), kind, name, str(folder)], check=True)
    return path


def _job(case: Case, peer: str, clip: Clip, path: Path) -> dict[str, Any]:
    """What a process has to do. A peer without several sets in one pass, or key frames, is given the first set's times."""
    fps, side = case.sets[0]
    job = {"peer": peer, "path": str(path), "task": case.task, "sets": case.sets, "side": side, "size": clip.size}
    return {**job, "seconds": _asked(case, clip, fps), "limit_cpu_seconds": 600 if case.is_timed else 15}


def _asked(case: Case, clip: Clip, fps: float) -> list[float]:
    times = clip.times()
    if case.task == "random":
        # Between two frames, so that no rounding of theirs matters.
        drawn = random.Random(0).sample(range(len(times)), 20)
        return [float(times[number]) + 0.4 / clip.fps for number in sorted(drawn)]
    count = int(float(times[-1]) * fps) + 1
    return [number / fps for number in range(count)]


def _run(job: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, str(Path(__file__).with_name("video_peers.py")), json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        return {"error": f"no end within {job['limit_cpu_seconds']} CPU s"}
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["?"])[-1]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _truth(case: Case, clip: Clip) -> list[list[int]]:
    """The numbers of the right frames, for every set."""
    times = [float(time) for time in clip.times()]
    truth = []
    for fps, _ in case.sets:
        numbers = [bisect.bisect_right(times, second + 1e-6) - 1 for second in _asked(case, clip, fps)]
        truth.append([number % clip.frames for number in numbers])
    return truth


def _wrong(case: Case, clip: Clip, peer: str, found: list[list[int]]) -> tuple[int, int]:
    """How many frames are wrong, and of how many."""
    if case.task == "keyframes":
        return sum(later <= earlier for (_, earlier), (_, later) in itertools.pairwise(found) if later), len(found)
    truth = _truth(case, clip)
    if peer == OURS:  # gives each frame once, however long it stands
        truth = [[number for place, number in enumerate(one) if place == 0 or number != one[place - 1]] for one in truth]
    wrong = 0
    for place, one in enumerate(truth):
        ours = [number for at, number in found if at == place]
        wrong += sum(a != b for a, b in zip(ours, one, strict=False)) + abs(len(ours) - len(one))
    return wrong, sum(map(len, truth))


def _rows(
    case: Case, clip: Clip, measured: dict[tuple[str, str, str], list[dict[str, Any]]], versions: dict[str, str | None]
) -> list[dict[str, Any]]:
    median = {}
    rows = []
    for peer in (LIMIT, *case.peers):
        runs = measured.get((case.clip, peer, "" if peer == LIMIT else case.title), [])
        row: dict[str, Any] = {"case": case.title, "peer": peer}
        if not runs:
            if peer in versions and versions[peer] is None:
                rows.append({**row, "note": "absent"})
            continue
        if any("error" in run for run in runs):
            rows.append({**row, "note": next(run["error"] for run in runs if "error" in run)})
            continue
        for name in ("cpu_seconds", "wall_seconds", "peak_mebibytes"):
            row[name] = statistics.median(run[name] for run in runs)
        median[peer] = row["cpu_seconds"]
        row["runs"] = [run["cpu_seconds"] for run in runs]
        if peer != LIMIT:
            row["wrong"], row["frames"] = max(_wrong(case, clip, peer, run["found"]) for run in runs)
        if LIMIT in median:
            row["ratio"] = median[peer] / median[LIMIT]
        rows.append(row)
    for row in rows:
        if row["peer"] == OURS and case.target is not None and case.target_to in median and OURS in median:
            reached = median[OURS] / median[case.target_to]
            beyond = "" if case.target_to == LIMIT else f" × {case.target_to} ({reached:.2f})"
            fits = case.most_mebibytes is None or row["peak_mebibytes"] <= case.most_mebibytes
            row["target"] = f"≤ {case.target:.2f}{beyond}{'' if case.most_mebibytes is None else f', ≤ {case.most_mebibytes:g} MiB'}"
            row["is_met"] = reached <= case.target and fits and row["wrong"] == 0
    return rows


def _table(rows: list[dict[str, Any]]) -> str:
    lines = ["| case | method | CPU s | ratio | wall s | peak MiB | wrong frames | target |", "|---|---|---:|---:|---:|---:|---:|---|"]
    for row in rows:
        if "note" in row:
            cells = [row["case"], row["peer"], row["note"], "", "", "", "", ""]
        else:
            ratio = f"{row['ratio']:.2f}" if "ratio" in row else ""
            wrong = f"{row['wrong']} of {row['frames']}" if "wrong" in row else ""
            target = f"{row['target']} {'met' if row['is_met'] else 'MISSED'}" if "target" in row else ""
            figures = [f"{row['cpu_seconds']:.2f}", ratio, f"{row['wall_seconds']:.2f}", f"{row['peak_mebibytes']:.0f}"]
            cells = [row["case"], row["peer"], *figures, wrong, target]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _machine(versions: dict[str, str | None]) -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    named = ", ".join(f"{peer} {version}".strip() for peer, version in versions.items() if version is not None)
    return f"{datetime.date.today()}, {platform.platform()}, {cores} of {os.cpu_count()} cores, Python {platform.python_version()}; {named}"


if __name__ == "__main__":
    main()
