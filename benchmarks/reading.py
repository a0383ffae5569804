"""What it costs to read, score and filter a run of many traces: CPU seconds, against another checkout in the same call.

    python benchmarks/reading.py [--traces 10000] [--against DIR] [--repeats 3] [--json]

The run is made by this checkout in a temporary folder: one question a trace, a few dozen videos, twelve initial frames each (8 x 8 pixels, so that
files are shared as in a real run), one or two looks with the curve of their search, thoughts of about a hundred words, and the faults that the
filters are there for. Each command is a process of its own, start included, with one thread; the checkouts take turns, and the least of their
times counts. What score and filter write must be the same bytes in both.
"""

import argparse
import hashlib
import json
import os
import platform
import random
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image

from act2see.core.trace import Answer, Cost, Frame, Match, Observation, Retrieve, Step, Thought, Trace
from act2see.curation.qa_records import Reference, reference_row
from act2see.storage.frames import file_of, name_of, sketched
from act2see.storage.records import encode_trace
from act2see.storage.runs import Run

HERE = Path(__file__).parents[1]
VIDEOS = 50
FRAMES = 12
WORDS = ("the", "red", "cup", "falls", "behind", "a", "wooden", "table", "while", "she", "turns", "left", "and", "opens", "door", "frame", "shows")
READ = "import sys, pathlib, act2see.storage.runs as runs; print(sum(1 for _ in runs.Run.open(pathlib.Path(sys.argv[1])).sketches()))"
SAME = ("scores.jsonl", "summary.json", "rejected.jsonl", "traces.jsonl", "samples.jsonl")
COMMANDS: Mapping[str, Sequence[str]] = {
    "read": (sys.executable, "-c", READ),
    "score": (sys.executable, "-m", "act2see", "score"),
    "filter": (sys.executable, "-m", "act2see", "filter"),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=int, default=10_000)
    parser.add_argument("--against", type=Path, help="another checkout to compare with")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    checkouts = {"here": HERE} | ({} if given.against is None else {"there": given.against.absolute()})
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make_runs(folder, given.traces)
        size = (folder / "eval" / "traces.jsonl").stat().st_size
        rows = [_measured(name, folder, checkouts, given.repeats) for name in COMMANDS]
    about = {"traces": given.traces, "MB": round(size / 1e6, 1), "python": platform.python_version(), "machine": platform.machine()}
    if given.json:
        print(json.dumps({**about, "rows": [asdict(row) for row in rows]}))
        return
    print("  ".join(f"{name} {value}" for name, value in about.items()))
    print("| command | CPU s | CPU s there | ratio | same bytes |\n|---|---|---|---|---|")
    for row in rows:
        there, ratio = ("–", "–") if row.there is None else (f"{row.there:.2f}", f"{row.here / row.there:.2f}")
        print(f"| {row.command} | {row.here:.2f} | {there} | {ratio} | {row.compared} |")


# Measuring


@dataclass(frozen=True, slots=True)
class Row:
    """One command's CPU seconds (user and system), and how many files were found the same in both checkouts."""

    command: str
    here: float
    there: float | None
    compared: int


def _measured(name: str, folder: Path, checkouts: Mapping[str, Path], repeats: int) -> Row:
    times: dict[str, list[float]] = {which: [] for which in checkouts}
    written: dict[str, dict[str, str]] = {}
    for _ in range(repeats):
        for which, checkout in checkouts.items():
            times[which].append(_run(name, folder, checkout))
            written[which] = _digests(name, folder)
    if len({tuple(sorted(found.items())) for found in written.values()}) > 1:
        differ = [file for file in written["here"] if written["here"][file] != written["there"].get(file)]
        raise SystemExit(f"{name} writes something else there: {', '.join(differ)}")
    return Row(name, min(times["here"]), min(times["there"]) if "there" in times else None, len(written["here"]))


def _run(name: str, folder: Path, checkout: Path) -> float:
    """CPU seconds of one command by a checkout. What an earlier one left goes first."""
    shutil.rmtree(folder / "kept", ignore_errors=True)
    (folder / "construct" / "similarities.jsonl").unlink(missing_ok=True)
    arguments = {
        "read": [folder / "eval"],
        "score": [folder / "eval", "--data", folder / "questions.jsonl", "--json"],
        "filter": [folder / "construct", "--out", folder / "kept", "--embedder", "words", "--reference-similarity", "0.3", "--json"],
    }[name]
    environment = os.environ | {"PYTHONPATH": str(checkout / "src"), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    before = _children_seconds()
    subprocess.run([*COMMANDS[name], *map(str, arguments)], check=True, env=environment, stdout=subprocess.DEVNULL)
    return _children_seconds() - before


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _digests(name: str, folder: Path) -> dict[str, str]:
    """What a command wrote, by the files' names."""
    where = {"read": None, "score": folder / "eval", "filter": folder / "kept"}[name]
    if where is None:
        return {}
    return {file: hashlib.sha256((where / file).read_bytes()).hexdigest() for file in SAME if (where / file).exists()}


# The runs


def make_runs(folder: Path, traces: int) -> None:
    """A run of eval and one of construct with the same traces, and the questions that they answer."""
    chance = random.Random(7)
    pictures = [Frame(Image.new("RGB", (8, 8), (number % 256, number // 256, 99)), None) for number in range(VIDEOS * FRAMES * 2)]
    names = [name_of(picture) for picture in pictures]
    config = {"benchmark": "jsonl", "data": "questions.jsonl", "max_looks": 2}
    runs = [Run.create(folder / command, command=command, config=config, seed=None) for command in ("eval", "construct")]
    for run in runs:
        run.frames.add(dict(zip(names, pictures, strict=True)))
    shown = [[sketched(name) for name in names[at : at + 2 * FRAMES]] for at in range(0, len(names), 2 * FRAMES)]
    lines, questions, samples = [], [], []
    for number in range(traces):
        sample = _question(number, chance)
        lines.append(json.dumps(encode_trace(_trace(sample, shown[number % VIDEOS], chance), file_of)) + "\n")
        row = reference_row(sample)
        questions.append({name: row[name] for name in ("id", "video", "question", "choices", "answer")})
        samples.append(row)
    for run in runs:
        (run.folder / "traces.jsonl").write_text("".join(lines))  # `Run.append` brings every line to the disk at once, which takes minutes
    runs[1].write_rows("samples.jsonl", samples)
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions))


def _question(number: int, chance: random.Random) -> Reference:
    choices = tuple(chance.sample(("red", "blue", "green", "yellow", "white"), 4))
    video = f"clips/{number % VIDEOS:03d}.mp4"
    question, reasoning = f"What colour is the cup number {number}?", _words(chance, 60)
    return Reference(f"q{number:05d}", "made-up", "MIT", video, question, choices, chance.choice(choices), "colour", reasoning)


def _trace(sample: Reference, images: Sequence[Image.Image], chance: random.Random) -> Trace:
    """Of ten traces about eight are right; one in twenty has no marks around its thinking, brings a frame again, or ends in an error of its call."""
    frames = tuple(Frame(image, at / 2) for at, image in enumerate(images[:FRAMES]))
    steps: list[Step] = [Thought(f"<think>{_words(chance, 50)}.")]
    for _ in range(chance.choice((1, 1, 2))):
        at = chance.randrange(FRAMES if chance.random() > 0.05 else 1)
        curve = tuple((second / 2, round(chance.random(), 6)) for second in range(24))
        match = Match(at, (at / 2, at / 2 + 1), curve[:3], False, curve)
        found = Frame(images[FRAMES + at], at / 2 + 0.25, round(chance.random(), 6), match=match)
        brought = Observation((found,)) if chance.random() > 0.05 else Observation(error="no frame fits the query")
        steps += [Retrieve(f" {_words(chance, 4)} "), brought, Thought(f"This frame shows {_words(chance, 30)}.")]
    said = sample.answer if chance.random() > 0.2 else chance.choice(sample.choices)
    steps += [Thought("</think>" if chance.random() > 0.05 else ""), Answer(f" {said} ")]
    cost = Cost(3000 + chance.randrange(500), 200, 1500, {"decode": chance.random(), "retrieve": chance.random()})
    made_with = {"backend": "openai", "model": "some/model", "rendering": "same_turn", "frames_as": "images", "retriever": "micro", "seed": "0"}
    return Trace(sample.id, sample.video, sample.question, frames, sample.choices, 12.0, steps, "answer", cost, made_with)


def _words(chance: random.Random, count: int) -> str:
    return " ".join(chance.choices(WORDS, k=count))


if __name__ == "__main__":
    main()
