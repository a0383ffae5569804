"""What `act2see contamination` finds of copies, what it takes for one in error, and how long ten thousand questions against ten thousand take.

    python benchmarks/contamination.py [--clips 100] [--questions 10000] [--videos FILE ...] [--json]

The clips are of the synthetic world, held-out split; each copy has half the size and is encoded anew at low quality (H.264, CRF 35). With --videos
the same is measured on files of your own, which must show different things. The words are drawn as they are in English: the n-th one 1/n as often as
the first.
"""

import argparse
import itertools
import json
import platform
import random
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from act2see.core.interfaces import Sample
from act2see.core.trace import Trace
from act2see.curation.overlaps import LEAST_FRAMES, NEAR_BITS, VIDEO_FRAMES, HashedFrames, HashedVideo, HeldOut, find_overlaps, hash_video
from act2see.synthetic import dataset
from act2see.video import Video

TEMPLATES = 300
CLOCK = Fraction(1, 90_000)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=100, help="synthetic clips")
    parser.add_argument("--questions", type=int, default=10_000, help="number of questions on each side")
    parser.add_argument("--videos", type=Path, nargs="*", default=[], help="additional videos")
    parser.add_argument("--json", action="store_true", help="print only one line of JSON")
    options = parser.parse_args()
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        clips = [item.clip for item in dataset.items("held-out", options.clips)]
        paths = [Path(folder) / f"{number}.mp4" for number in range(len(clips))]
        for clip, path in zip(clips, paths, strict=True):
            clip.write(path)
        result["synthetic"] = measured(paths, Path(folder))
        if options.videos:
            result["your videos"] = measured(options.videos, Path(folder))
    result["words"] = words(options.questions)
    result["templates"] = templates()
    result["machine"] = platform.processor() or platform.machine()
    if options.json:
        print(json.dumps(result))
        return
    for name, values in result.items():
        if isinstance(values, Mapping):
            print(name, *(f"    {what:44} {value}" for what, value in values.items()), sep="\n")


# Frames


def measured(paths: Sequence[Path], folder: Path) -> dict[str, Any]:
    """Copies of videos against all the videos: how many are found, and how many other pairs are, by hash alone and with the cells."""
    videos = [hash_video(path) for path in paths]
    held_out = HeldOut([("", Sample(str(video.path), video.path, "", (), "", "")) for video in videos], videos)
    copies = [copied(path, folder / f"copy-{number}.mp4") for number, path in enumerate(paths)]
    plain = [video.frames.different < LEAST_FRAMES for video in videos]
    found: dict[str, Any] = {"videos": len(paths), "of these too plain to be compared": sum(plain), **bits(paths, copies)}
    for name, sampled in (("the same moments", same_moments), ("1 frame a second", lambda video: every(video, 1.0)), ("3 frames a second", thrice)):
        frames = [HashedFrames.of(sampled(Video(copy))) for copy in copies]
        hits = [held_out.look_alikes(one) for one in frames]
        own = [number in hit for number, hit in enumerate(hits)]
        pairs = len(paths) * (len(paths) - 1)
        found |= {
            f"found, of all copies ({name})": f"{sum(own) / len(own):.1%}",
            f"found, of those not too plain ({name})": f"{sum(own) / max(1, len(own) - sum(plain)):.1%}",
            f"false, of all other pairs ({name})": f"{sum(len({*hit} - {at}) for at, hit in enumerate(hits)) / max(1, pairs):.4%}",
            f"false by hash alone ({name})": f"{sum(by_hash(one, other) for one, other in others(frames, videos)) / max(1, pairs):.4%}",
        }
    return found


def copied(path: Path, target: Path) -> Path:
    """The video at half the size and a low quality."""
    video = Video(path)
    width, height = (max(32, side // 4 * 2) for side in video.size)
    with av.open(target, "w") as container:
        stream = container.add_stream("libx264", rate=60, options={"crf": "35", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = CLOCK
        for frame in video.sample(60):  # every frame of most videos, at its own time
            assert frame.seconds is not None
            picture = av.VideoFrame.from_image(frame.image.resize((width, height)))
            picture.pts, picture.time_base = round(frame.seconds / CLOCK), CLOCK
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return target


def same_moments(video: Video) -> Iterator[Image.Image]:
    """The frames at the moments that are compared of the original."""
    step = video.duration_seconds / VIDEO_FRAMES
    return (frame.image for frame in video.frames_at([(number + 0.5) * step for number in range(VIDEO_FRAMES)]))


def every(video: Video, fps: float) -> Iterator[Image.Image]:
    """Frames as a trace has them."""
    return (frame.image for frame in video.sample(fps))


def thrice(video: Video) -> Iterator[Image.Image]:
    """As a retriever looks through them."""
    return every(video, 3.0)


def bits(paths: Sequence[Path], copies: Sequence[Path]) -> dict[str, Any]:
    """By how many bits, and how far from a correlation of 1, a frame and its copy differ, where neither is flat."""
    distances, correlations = [], []
    for path, copy in zip(paths, copies, strict=True):
        for one, other in zip(same_moments(Video(path)), same_moments(Video(copy)), strict=True):
            ours, theirs = HashedFrames.of([one]), HashedFrames.of([other])
            if len(ours.hashes) and len(theirs.hashes):
                distances.append(int(np.bitwise_count(ours.hashes ^ theirs.hashes)[0]))
                correlations.append(float((ours.cells * theirs.cells).sum()))
    if not distances:
        return {}
    return {
        "bits that differ, median, p90, p95, most": np.quantile(distances, [0.5, 0.9, 0.95, 1]).round(1).tolist(),
        "correlation of cells, least, p1, median": np.quantile(correlations, [0, 0.01, 0.5]).round(4).tolist(),
    }


def others(frames: Sequence[HashedFrames], videos: Sequence[HashedVideo]) -> Iterator[tuple[HashedFrames, HashedFrames]]:
    """Each copy's frames with those of each other video."""
    numbers = range(len(frames))
    return ((frames[one], videos[other].frames) for one, other in itertools.product(numbers, numbers) if one != other)


def by_hash(one: HashedFrames, other: HashedFrames) -> bool:
    """Whether they would overlap if near hashes were enough."""
    near = np.bitwise_count(one.hashes[:, None] ^ other.hashes) <= NEAR_BITS
    ours, theirs = np.unique(one.hashes[near.any(axis=1)]), np.unique(other.hashes[near.any(axis=0)])
    return min(len(ours), len(theirs)) >= LEAST_FRAMES


# Words


def words(count: int) -> dict[str, Any]:
    """Made-up questions with four choices each against as many others; every hundredth is the same with its choices turned round."""
    rng = random.Random(0)
    vocabulary = [f"word{number}" for number in range(20_000)]
    weights = [1 / (number + 1) for number in range(len(vocabulary))]

    def drawn() -> tuple[str, tuple[str, ...]]:
        said = [" ".join(rng.choices(vocabulary, weights, k=length)) for length in (14, 5, 5, 5, 5)]
        return f"{said[0]}?", tuple(said[1:])

    samples = [("made up", Sample(str(number), Path(f"{number}.mp4"), *drawn(), "", "")) for number in range(count)]
    traces = [Trace(str(number), "", question, (), choices) for number, (question, choices) in enumerate(drawn() for _ in range(count))]
    for number in range(0, count, 100):
        theirs = samples[number][1]
        traces[number] = Trace(str(number), "", theirs.question, (), theirs.choices[::-1])
    started = time.perf_counter()
    held_out = HeldOut(samples)
    indexed = time.perf_counter()
    found = list(find_overlaps(traces, held_out))
    return {
        "questions": f"{count:,} against {count:,}",
        "planted": len(range(0, count, 100)),
        "found": len(found),
        "seconds to index": round(indexed - started, 2),
        "seconds to find": round(time.perf_counter() - indexed, 2),
    }


def templates() -> dict[str, Any]:
    """Questions of the synthetic world's two splits, which share templates and no clip: all that is found is false."""
    theirs = [("", Sample(one.name, Path(one.name), one.question.text, one.question.choices, "", "")) for one in dataset.items("held-out", TEMPLATES)]
    ours = [Trace(one.name, "", one.question.text, (), one.question.choices) for one in dataset.items("train", TEMPLATES)]
    found = {one.trace_id for one in find_overlaps(ours, HeldOut(theirs))}
    return {"training questions found among held-out ones": f"{len(found)} of {TEMPLATES}"}


if __name__ == "__main__":
    main()
