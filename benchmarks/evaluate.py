"""What an evaluation costs besides the model: how near several workers come to the ideal, CPU time a question, and memory over ten thousand of them.

    python benchmarks/evaluate.py [--workers 16] [--latency 0.5] [--questions 320] [--many 10000] [--json]

The model is a stub that waits, as one does for a server, and answers. Wall time is held against questions x latency / workers. CPU time is that of
the whole process for a question, less what opening and decoding its video takes alone (measured before, in the same process). Memory is how much the
peak of the resident set grew between the first tenth of many questions and their end. With a folder traces are kept, as `act2see eval --out` does;
without one the loop stands alone. Every figure is one run.
"""

import argparse
import json
import platform
import resource
import tempfile
import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from act2see.config import EvalExecutionConfig
from act2see.core.chat import Tool, chosen
from act2see.core.engine import LoopOptions, new_trace
from act2see.core.interfaces import Continuation, Sample
from act2see.core.trace import Cost, Trace
from act2see.evaluation.evaluate import Work
from act2see.evaluation.evaluator import Evaluator
from act2see.evaluation.runner import Runner
from act2see.evaluation.scores import Score, summarise_costs, summarise_scores
from act2see.evaluation.setup import threads_for
from act2see.execution.pool import imap_unordered
from act2see.storage.runs import Run
from act2see.synthetic.world import Clip
from act2see.video import Video

WALL_TARGET, CPU_TARGET_MS = 1.15, 20.0


@dataclass(frozen=True, slots=True)
class Waits:
    """Answers after so many seconds."""

    seconds: float
    made_with: Mapping[str, str] = field(default_factory=lambda: {"backend": "waits"})

    def decode(self, trace: Trace, tools: Sequence[Tool]) -> Generator[str, None, Continuation]:
        """One answer."""
        time.sleep(self.seconds)
        text = "<think>It is plain to see.</think><answer>B</answer>"
        yield text
        return Continuation(text, "tag", Cost(1000, 12, 0, {"decode": self.seconds}))


@dataclass(frozen=True, slots=True)
class Same:
    """So many questions about one clip."""

    clip: Path
    count: int
    name: str = "same"

    def samples(self) -> Iterator[Sample]:
        """The questions."""
        for number in range(self.count):
            yield Sample(f"q{number:06}", self.clip, "What colour is the star?", ("blue", "red", "green", "grey"), "red", f"kind {number % 7}")

    def is_right(self, sample: Sample, trace: Trace) -> bool | None:
        """By letter."""
        index = chosen(trace.answer, sample.choices)
        return None if index is None else sample.choices[index] == sample.answer


def arguments(description: str | None, questions: int) -> argparse.Namespace:
    """The command line of this benchmark, and of others like it."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--latency", type=float, default=0.5, help="simulated latency of the model, in seconds")
    parser.add_argument("--questions", type=int, default=questions)
    parser.add_argument("--many", type=int, default=10_000, help="questions of the memory measurement; 0 to skip it")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    given = arguments(__doc__, questions=320)
    with tempfile.TemporaryDirectory() as scratch:
        clip = Path(scratch) / "clip.mp4"
        Clip(3.0, ()).write(clip)
        decoding = decoding_ms(clip)
        rows = [
            {"case": "no folder", **_timed(Same(clip, given.questions), given.workers, given.latency, decoding, None)},
            {"case": "--out", **_timed(Same(clip, given.questions), given.workers, given.latency, decoding, Path(scratch) / "timed")},
        ]
        if given.many:
            rows.append({"case": f"{given.many:,} questions, --out", **_memory(Same(clip, given.many), given.workers, Path(scratch) / "many")})
    about: dict[str, Any] = {"machine": platform.processor() or platform.machine(), "python": platform.python_version()}
    about |= {"workers": given.workers, "latency_seconds": given.latency, "decoding_ms": round(decoding, 2)}
    if given.json:
        print(json.dumps({**about, "targets": {"wall_over_ideal": WALL_TARGET, "overhead_ms": CPU_TARGET_MS}, "rows": rows}))
        return
    for row in [about, *rows]:
        print("  ".join(f"{name} {value}" for name, value in row.items()))


def decoding_ms(clip: Path, times: int = 40) -> float:
    """CPU milliseconds of opening the clip and decoding its initial frames."""
    new_trace(Video(clip), "What?", (), fps=1.0, id="warm")
    started = time.process_time()
    for _ in range(times):
        new_trace(Video(clip), "What?", (), fps=1.0, id="x")
    return 1000 * (time.process_time() - started) / times


def _asked(benchmark: Same, workers: int, latency: float, folder: Path | None) -> Iterator[tuple[Score, Cost | None]]:
    """As `act2see eval` goes through them."""
    run = None if folder is None else Run.create(folder, command="eval", config={}, seed=None)
    evaluator = Evaluator(benchmark, Waits(latency), None, turns=threading.Semaphore(workers), loop=LoopOptions(max_looks=0))
    work = Work(evaluator, Runner.of(EvalExecutionConfig(), run))
    chains = ([question] for question in enumerate(benchmark.samples()))
    return (one for chain in imap_unordered(chains, work, threads_for(workers)) for one in chain)


def _timed(benchmark: Same, workers: int, latency: float, decoding: float, folder: Path | None) -> dict[str, Any]:
    wall, cpu = time.perf_counter(), time.process_time()
    scores = [score for score, _ in _asked(benchmark, workers, latency, folder)]
    summarise_scores(scores)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    ideal = -(-benchmark.count // workers) * latency
    overhead = 1000 * cpu / benchmark.count - decoding
    return {
        "questions": benchmark.count,
        "wall_seconds": round(wall, 2),
        "wall_over_ideal": round(wall / ideal, 3),
        "overhead_ms": round(overhead, 2),
        "met": bool(wall / ideal <= WALL_TARGET and overhead <= CPU_TARGET_MS),
    }


def _memory(benchmark: Same, workers: int, folder: Path) -> dict[str, Any]:
    scores: list[Score] = []
    costs: list[Cost] = []
    early = 0
    for score, cost in _asked(benchmark, workers, 0.0, folder):
        scores.append(score)
        costs += [] if cost is None else [cost]
        if len(scores) == benchmark.count // 10:
            early = peak_bytes()
    summarise_scores(scores)
    summarise_costs(costs)
    grew = peak_bytes() - early
    return {"peak_MiB": round(peak_bytes() / 2**20, 1), "grew_MiB": round(grew / 2**20, 1), "grew_bytes_a_question": round(grew / benchmark.count)}


def peak_bytes() -> int:
    """The process's largest resident set so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
