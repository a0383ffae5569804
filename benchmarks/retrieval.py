"""How often the right moment is found, and how fast.

    python benchmarks/retrieval.py [--n 200] [--seed 0] [--encoder micro] [--json]
    python benchmarks/retrieval.py --options [--n 24]
    python benchmarks/retrieval.py --calibrate [--encoder siglip:DIR --labels FILE]
    python benchmarks/retrieval.py --cases FILE

Without more, recall@1 of every selection: whether the first frame lies within 0.2 s of the event that was asked for. The events are the transients of
synthetic held-out clips (not visible at 1 fps), in real mp4 files, asked for in the scripted teacher's words; then the times. `--labels FILE` takes
real videos instead: lines of JSON with video (relative to the file), query and visible_seconds [from, to]. `--calibrate` gives the threshold that
tells best which frames show what is asked for, on clips of the training split or on the labels. `--options` compares what skipping near-duplicates
and keyframes first cost in recall, on clips of 60 to 90 seconds. `--cases` compares the localiser with known results.
"""

import argparse
import json
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from PIL import Image

from act2see import registry
from act2see.core.interfaces import FrameEncoder
from act2see.core.trace import Frame
from act2see.storage.cache import Cache
from act2see.synthetic import dataset
from act2see.synthetic.questions import Question, ask, query_for
from act2see.synthetic.world import FRAME_RATE, SIZE, Clip, make_clip
from act2see.tools.retrievers import grounding
from act2see.tools.retrievers.search import SearchRetriever
from act2see.tools.retrievers.selection import SELECTIONS, Oracle, Random, Select
from act2see.video import Video

NEAR_SECONDS = 0.2
LONG_SECONDS = (60.0, 90.0)
HOUR_FRAMES = 10_800
OPTIONS = ("+skip_duplicates", "+keyframes_only")


def main() -> None:
    """Run what the options name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=Path, metavar="FILE", help="only compare the localiser with the results in this file")
    parser.add_argument("--n", type=int, default=200, help="synthetic events")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--encoder", default="micro", help="micro, siglip:DIR, clip:DIR, blip2:DIR, embedding:DIR or package.module:Class")
    parser.add_argument("--fps", type=float, default=3.0)
    parser.add_argument("--threshold", type=float, help="threshold for `grounding`; default: the encoder's own")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="labels as JSON lines, instead of synthetic clips")
    parser.add_argument("--calibrate", action="store_true", help="find the encoder's threshold")
    parser.add_argument("--options", action="store_true", help="measure --skip-duplicates and --keyframes-first on longer clips")
    parser.add_argument("--json", action="store_true", help="print only one line of JSON")
    given = parser.parse_args()
    if given.cases:
        print(json.dumps(compare(given.cases)))
        return
    with tempfile.TemporaryDirectory() as folder:
        result = calibrate(given, Path(folder)) if given.calibrate else {"recall": recall(given, Path(folder))}
        if not given.calibrate and not given.options:
            result["times"] = times(Path(folder), given.seed)
    about = {"encoder": given.encoder, "fps": given.fps, "seed": given.seed, "machine": platform.processor() or platform.machine()}
    result = {**result, **about, "numpy": np.__version__}
    print(json.dumps(result) if given.json else "\n".join(lines(result)))


# The localiser's cases


def compare(path: Path) -> dict[str, int]:
    """How many cases there are, and on how many every proposal is the same: frames exactly, scores to 2e-9."""
    cases = json.loads(path.read_text(encoding="utf-8"))["cases"]
    return {"cases": len(cases), "agree": sum(agrees(case) for case in cases)}


def agrees(case: dict[str, Any]) -> bool:
    """Whether the localiser gives a case's proposals, in their order."""
    found = grounding.localise(case["scores"], case["threshold"], stride=case["stride"], max_window=case["max_window"], keep_unopposed=False)
    wanted = case["proposals"]
    return len(found) == len(wanted) and all(
        (one.start, one.stop, one.dynamic_start) == (other["start"], other["stop"], other["dynamic_start"])
        and abs(one.score - other["score"]) <= 2e-9
        for one, other in zip(found, wanted, strict=True)
    )


# Recall


@dataclass(frozen=True, slots=True)
class Event:
    """Something to find in a video, and when it is to be seen."""

    video: Path
    query: str
    start_seconds: float
    stop_seconds: float

    def is_near(self, seconds: float | None) -> bool:
        """Whether a frame at this time counts as found."""
        return seconds is not None and self.start_seconds - NEAR_SECONDS <= seconds <= self.stop_seconds + NEAR_SECONDS


def synthetic_events(folder: Path, split: str, n: int, seed: int) -> Iterator[Event]:
    """The transients of `n` clips, written into the folder as mp4."""
    for index, item in enumerate(dataset.items(cast(dataset.Split, split), 2 * n, seed)):
        if item.question.kind == "transient":
            path = folder / f"{split}-{seed}-{index:05d}.mp4"
            item.clip.write(path)
            yield asked(path, item.clip, item.question, f"query {seed} {index}")


def long_events(folder: Path, n: int, seed: int) -> Iterator[Event]:
    """Transients of clips of a minute and more with a keyframe every two seconds: the data set's own are too short for a choice of keyframes."""
    for index in range(n):
        rng = random.Random(f"long {seed} {index}")
        wanted: list[Question] = []
        while not wanted:
            clip = make_clip(rng, unseen=True, seconds=LONG_SECONDS)
            wanted = [question for question in ask(rng, clip) if question.kind == "transient"]
        path = folder / f"long-{seed}-{index:05d}.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=FRAME_RATE, options={"crf": "18", "preset": "veryfast", "threads": "1", "g": "48"})
            stream.width, stream.height, stream.pix_fmt = SIZE, SIZE, "yuv420p"
            for number in range(round(clip.duration_seconds * FRAME_RATE)):
                container.mux(stream.encode(av.VideoFrame.from_image(clip.draw(number / FRAME_RATE))))
            container.mux(stream.encode())
        yield asked(path, clip, wanted[0], f"query {seed} {index}")
        path.unlink()


def asked(path: Path, clip: Clip, question: Question, seed: str) -> Event:
    """A question's event, in the scripted teacher's words."""
    return Event(path, query_for(random.Random(seed), question), question.actor.start, min(question.actor.stop, clip.duration_seconds))


def labelled_events(path: Path) -> Iterator[Event]:
    """The events of a file of labels."""
    for line in path.read_text(encoding="utf-8").splitlines():
        read = json.loads(line)
        yield Event(path.parent / read["video"], read["query"], *map(float, read["visible_seconds"]))


class Counted:
    """An encoder that counts the frames it is given, with another threshold where one is named."""

    def __init__(self, encoder: FrameEncoder, threshold: float | None) -> None:
        self.encoder, self.images = encoder, 0
        self.threshold = encoder.threshold if threshold is None else threshold

    def __getattr__(self, name: str) -> Any:
        return getattr(self.encoder, name)

    def encode_frames(self, images: Sequence[Any]) -> Any:
        """The encoder's own vectors."""
        self.images += len(images)
        return self.encoder.encode_frames(images)


def recall(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """For every selection, the share of events that its first frame shows: with nothing shown before, and after the frames at 1 fps were shown."""
    encoder = registry.encoder(given.encoder)
    counted = {name: Counted(encoder, given.threshold) for name in ("", *(OPTIONS if given.options else ()))}
    retrievers = {
        name: SearchRetriever(
            cast(FrameEncoder, counter),
            fps=given.fps,
            skip_duplicates=name == "+skip_duplicates",
            keyframes_only=name == "+keyframes_only",
        )
        for name, counter in counted.items()
    }
    rows: dict[str, list[tuple[bool, bool]]] = {}
    for number, event in enumerate(events(given, folder, "held-out")):
        video = Video(event.video)
        at_1_fps = video.times(1.0)
        for name, retriever in retrievers.items():
            curve = retriever.curve(video, event.query)
            ways: dict[str, Select] = {way: make() for way, make in SELECTIONS.items()}
            ways |= {"random": Random(given.seed + number), "oracle": Oracle([(event.start_seconds, event.stop_seconds)])}
            for way, select in ways.items():
                first, after = (any(event.is_near(pick.seconds) for pick in select(curve, shown, 1)) for shown in ((), at_1_fps))
                rows.setdefault(way + name, []).append((first, after))
    shares = {name: {"first": mean(first for first, _ in of), "after_1_fps": mean(after for _, after in of)} for name, of in rows.items()}
    frames = {f"frames encoded{name}": counter.images for name, counter in counted.items()}
    return {"events": len(rows["argmax"]), "within_seconds": NEAR_SECONDS, "threshold": counted[""].threshold, **frames, **shares}


def mean(values: Iterable[bool]) -> float:
    """The share of those that are true."""
    return round(statistics.fmean(values), 4)


def events(given: argparse.Namespace, folder: Path, split: str) -> Iterator[Event]:
    """What is to be found."""
    if given.labels:
        return labelled_events(given.labels)
    return long_events(folder, given.n, given.seed) if given.options else synthetic_events(folder, split, given.n, given.seed)


# Thresholds


def calibrate(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The threshold with the highest F1 for "this frame shows what is asked for", over all frames and events."""
    encoder = registry.encoder(given.encoder)
    retriever = SearchRetriever(encoder, fps=given.fps)
    scores, truths = [], []
    for event in events(given, folder, "train"):
        curve = retriever.curve(Video(event.video), event.query)
        scores.append(curve.scores)
        truths.append((event.start_seconds <= curve.seconds) & (curve.seconds < event.stop_seconds))
    score, truth = np.concatenate(scores), np.concatenate(truths)
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(truth[order])
    precision, share = hits / np.arange(1, len(order) + 1), hits / truth.sum()
    at = int((2 * precision * share / np.maximum(precision + share, 1e-12)).argmax())
    between = (score[order[at]] + score[order[min(at + 1, len(order) - 1)]]) / 2
    at_present = score > encoder.threshold
    return {
        "frames": len(score),
        "events": len(scores),
        "threshold": round(float(between), 4),
        "precision": round(float(precision[at]), 4),
        "recall": round(float(share[at]), 4),
        "present_threshold": encoder.threshold,
        "present_precision": round(float(truth[at_present].mean()), 4) if at_present.any() else None,
        "present_recall": round(float(at_present[truth].mean()), 4),
    }


# Times


def times(folder: Path, seed: int) -> dict[str, dict[str, float]]:
    """Medians in milliseconds, wall and CPU, for an hour at 3 frames a second."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0.2, 0.05, HOUR_FRAMES)
    slow = 0.2 + np.convolve(rng.normal(0, 1, HOUR_FRAMES + 200), np.full(201, 1 / 201), "valid") / 4
    curves = {"noise": noise, "slow waves": slow, "all above": slow + 1, "one frame": np.eye(1, HOUR_FRAMES, 5000)[0]}
    result = {f"localiser, {name}": milliseconds(partial(grounding.localise, curve, 0.2)) for name, curve in curves.items()}
    for width in (128, 768, 1152):
        for select in ("argmax", "grounding"):
            result[f"query, {select}, width {width}"] = hot_query(folder, width, select, rng)
    return result


def milliseconds(call: Callable[[], object], repeats: int = 15) -> dict[str, float]:
    """The median times of a call."""
    walls, cpus = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        call()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return {"wall_ms": round(1000 * statistics.median(walls), 2), "cpu_ms": round(1000 * statistics.median(cpus), 2)}


class Hour:
    """Stands for a video of an hour at 3 frames a second, all black: decoding is not what is measured here."""

    def __init__(self, path: Path) -> None:
        self.path, self.digest, self.damage = path, path.name, None
        path.touch()

    def times(self, fps: float) -> list[float]:
        """Every frame's, whatever the rate."""
        return [number / 3 for number in range(HOUR_FRAMES)]

    def frame_index(self, seconds: float) -> int:
        """Its number."""
        return round(seconds * 3)

    def frames_at(self, seconds: Sequence[float], short_side: int | None = None) -> Iterator[Any]:
        """Small frames."""
        return (Frame(Image.new("RGB", (2, 2)), second) for second in seconds)


class Noise:
    """An encoder that gives random unit vectors and takes no time for a text."""

    name, side, threshold = "noise", 2, 0.1

    def __init__(self, width: int, rng: np.random.Generator) -> None:
        self.rng, self.width, self.fingerprint = rng, width, f"noise-{width}"
        self.text = self.encode_frames([None])[0, 0]

    def encode_frames(self, images: Sequence[Any]) -> Any:
        """A random unit vector each."""
        vectors = self.rng.normal(size=(len(images), 1, self.width)).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)

    def encode_text(self, text: str) -> Any:
        """Always the same one."""
        return self.text

    def scores(self, frames: Any, text: Any) -> Any:
        """Cosines, as all encoders compute them."""
        from act2see.tools.encoders.loading import cosines

        return cosines(frames, text)


def hot_query(folder: Path, width: int, select: str, rng: np.random.Generator) -> dict[str, float]:
    """Milliseconds of a query on an index that is open: scores, choice, and the chosen frame from a video that costs nothing to decode."""
    video = cast(Video, Hour(folder / f"hour-{width}"))
    retriever = SearchRetriever(cast(FrameEncoder, Noise(width, rng)), select=select, cache=Cache(folder / "cache"))
    retriever.find(video, "warm up", shown=())
    return milliseconds(lambda: retriever.find(video, "anything", shown=[n / 3 for n in range(0, 300, 3)]))


def lines(result: dict[str, Any], indent: str = "") -> Iterator[str]:
    """The result for people."""
    for name, value in result.items():
        if not isinstance(value, dict):
            yield f"{indent}{name:<32} {value}"
        elif any(isinstance(inner, dict) for inner in value.values()):
            yield f"{indent}{name}"
            yield from lines(value, indent + "  ")
        else:
            yield f"{indent}{name:<32} " + "  ".join(f"{inner} {number}" for inner, number in value.items())


if __name__ == "__main__":
    main()
