"""What a construction costs besides the teacher: how near several workers come to the ideal, CPU time a question, and memory over 10,000 of them.

    python benchmarks/construct.py [--workers 16] [--latency 0.5] [--questions 200] [--many 10000] [--json]

The teacher is a stub that waits, as one does for a server; every other question takes two of its answers, because it looks once. Wall time is held
against calls x latency / workers. CPU time is that of the whole process for a question, less what opening and decoding its video and its look take
alone (both measured before, in the same process). Memory is how much the peak of the resident set grew between the first tenth of many questions and
their end. Every trace is kept, as `act2see construct` does. `index` counts how often frames of one video are encoded for all its questions. Every
figure is one run.
"""

import json
import platform
import tempfile
import threading
import time
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evaluate import CPU_TARGET_MS, WALL_TARGET, Same, arguments, decoding_ms, peak_bytes

from act2see import registry
from act2see.config import ConstructExecutionConfig, SearchConfig
from act2see.core.chat import Tool
from act2see.core.engine import LoopOptions
from act2see.core.interfaces import Continuation, Sample
from act2see.core.trace import Cost, Frame, Trace
from act2see.curation.construct import Work
from act2see.curation.constructor import Constructed, Constructor, Spending
from act2see.evaluation.evaluator import Evaluator
from act2see.evaluation.runner import Runner, StoredTraces
from act2see.evaluation.setup import threads_for
from act2see.execution.pool import imap_unordered
from act2see.storage.runs import Run
from act2see.synthetic.world import Clip
from act2see.tools.retrievers.search import SearchRetriever
from act2see.video import Video


@dataclass(frozen=True, slots=True)
class Teaches:
    """Looks in every other question, and answers rightly; each of its answers takes so many seconds."""

    seconds: float
    made_with: Mapping[str, str] = field(default_factory=lambda: {"backend": "waits"})

    def decode(self, trace: Trace, tools: Sequence[Tool]) -> Generator[str, None, Continuation]:
        """One piece."""
        time.sleep(self.seconds)
        looks = not trace.steps and looks_in(trace.id)
        text = "<think>Not here.<retrieve> the star </retrieve>" if looks else "<think>It is plain to see.</think><answer>B</answer>"
        yield text
        return Continuation(text, "tag", Cost(1000, 12, 0, {"decode": self.seconds}))


def looks_in(trace_id: str) -> bool:
    """Whether the stub asks for a frame."""
    return int(trace_id.partition("#")[0].removeprefix("q")) % 2 == 1


@dataclass(frozen=True, slots=True)
class At:
    """Brings the frame at one time."""

    name: str = "at"

    def find(self, video: Video, query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
        """See `Retriever.find`."""
        return [video.frame_at(1.5)]


@dataclass(frozen=True, slots=True)
class Told(Same):
    """The questions with a person's reasoning."""

    def samples(self) -> Iterator[Sample]:
        """See `Same`."""
        for sample in Same.samples(self):
            yield replace(sample, reasoning="It is red.")


def main() -> None:
    """Measure and print."""
    given = arguments(__doc__, questions=200)
    with tempfile.TemporaryDirectory() as scratch:
        clip = Path(scratch) / "clip.mp4"
        Clip(3.0, ()).write(clip)
        decoding, looking = decoding_ms(clip), _looking_ms(clip)
        rows = [_timed(Told(clip, given.questions), given.workers, given.latency, decoding + looking / 2, Path(scratch) / "timed")]
        if given.many:
            rows.append({"case": f"{given.many:,} questions", **_memory(Told(clip, given.many), given.workers, Path(scratch) / "many")})
        rows.append({"case": "index", **_indexed(clip, Path(scratch) / "cache")})
    about: dict[str, Any] = {"machine": platform.processor() or platform.machine(), "python": platform.python_version()}
    about |= {"workers": given.workers, "latency_seconds": given.latency, "decoding_ms": round(decoding, 2), "look_ms": round(looking, 2)}
    if given.json:
        print(json.dumps({**about, "targets": {"wall_over_ideal": WALL_TARGET, "overhead_ms": CPU_TARGET_MS}, "rows": rows}))
        return
    for row in [about, *rows]:
        print("  ".join(f"{name} {value}" for name, value in row.items()))


def _looking_ms(clip: Path, times: int = 40) -> float:
    """CPU milliseconds of one look."""
    video = Video(clip)
    started = time.process_time()
    for _ in range(times):
        At().find(video, "", shown=())
    return 1000 * (time.process_time() - started) / times


def _constructed(source: Told, workers: int, latency: float, folder: Path) -> Iterator[Constructed | None]:
    """As `act2see construct` goes through them."""
    run = Run.create(folder, command="construct", config={}, seed=None)
    evaluator = Evaluator(source, Teaches(latency), At(), turns=threading.Semaphore(workers), loop=LoopOptions(max_looks=1))
    work = Work(Constructor(evaluator), Runner.of(ConstructExecutionConfig(), run), StoredTraces(run, {}), Spending())
    return (one for some in imap_unordered(enumerate(source.samples()), work, threads_for(workers)) for one in some)


def _timed(source: Told, workers: int, latency: float, decoding: float, folder: Path) -> dict[str, Any]:
    wall, cpu = time.perf_counter(), time.process_time()
    done = list(_constructed(source, workers, latency, folder))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    calls = sum(1 + looks_in(f"q{number}") for number in range(source.count))
    assert len(done) == source.count
    ideal = calls * latency / workers
    overhead = 1000 * cpu / source.count - decoding
    return {
        "case": "timed",
        "questions": source.count,
        "calls": calls,
        "wall_seconds": round(wall, 2),
        "wall_over_ideal": round(wall / ideal, 3),
        "overhead_ms": round(overhead, 2),
        "met": bool(wall / ideal <= WALL_TARGET and overhead <= CPU_TARGET_MS),
    }


def _memory(source: Told, workers: int, folder: Path) -> dict[str, Any]:
    early = 0
    for done, _ in enumerate(_constructed(source, workers, 0.0, folder), start=1):
        if done == source.count // 10:
            early = peak_bytes()
    grew = peak_bytes() - early
    return {"peak_MiB": round(peak_bytes() / 2**20, 1), "grew_MiB": round(grew / 2**20, 1), "grew_bytes_a_question": round(grew / source.count)}


def _indexed(clip: Path, cache: Path, questions: int = 20) -> dict[str, Any]:
    """How often the embedded retriever encodes the frames of one video for so many questions on it."""
    import os

    os.environ["ACT2SEE_CACHE"] = str(cache)
    retriever = registry.retriever("micro", SearchConfig())
    assert isinstance(retriever, SearchRetriever)
    built: list[int] = []
    whole = retriever.encoder.encode_frames
    retriever.encoder.encode_frames = lambda images: built.append(len(images)) or whole(images)
    frames = 0
    for number in range(questions):
        retriever.find(Video(clip), f"the star {number}", shown=())
        frames = frames or sum(built)
    return {"questions": questions, "frames_encoded": sum(built), "frames_of_the_video": frames}


if __name__ == "__main__":
    main()
