"""How well each filter of `act2see filter` finds what it is there for, measured on a teacher whose faults are known.

    python benchmarks/filters.py [--questions 1000] [--json]

The scripted teacher (`act2see.synthetic.teacher`) answers questions of the synthetic world once each, with real videos, the embedded retriever and
the real loop; a known share of its attempts has each fault, and a known share of its looks brings a frame again that it had been given. Precision is
the share of what a filter rejects that has the fault, recall the share of the faulty that it rejects. The truth comes from the teacher and from
comparing its answer with the world's, never from the filters. It proves the filters, not the paper's findings about teachers.
"""

import argparse
import json
import platform
import random
import tempfile
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from act2see import registry
from act2see.benchmarks.synthetic import SyntheticBenchmark
from act2see.config import SearchConfig
from act2see.core.engine import LoopOptions
from act2see.core.interfaces import Retriever, Sample
from act2see.core.rejection_reasons import Reason
from act2see.core.trace import Frame, Observation, Retrieve, Trace
from act2see.curation.filters import Judged, Limits, judge, own_words
from act2see.curation.qa_records import reference
from act2see.evaluation.evaluator import Evaluator, Scored
from act2see.evaluation.setup import threads_for
from act2see.execution.pool import imap_unordered
from act2see.storage.runs import Run
from act2see.synthetic.dataset import Place, item
from act2see.synthetic.teacher import ScriptedTeacher
from act2see.tools.encoders.words import Words
from act2see.video import Video

AGAIN = 0.08
"""So many of the looks bring a frame that was given already."""
SIMILARITY = 0.3
"""For bags of words, in which the scripted teacher's prose and the data set's listing are 0.4 to 0.8 alike."""
MECHANICAL: tuple[Reason, ...] = ("wrong_answer", "format", "duplicate_frame", "leak")
TARGET = 0.95


@dataclass(frozen=True, slots=True)
class BringsAgain:
    """A retriever that brings the first frame it was told of, at a known share of its queries."""

    inner: Retriever

    @property
    def name(self) -> str:
        """The retriever's own."""
        return self.inner.name

    def find(self, video: Video, query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
        """See `Retriever.find`."""
        if shown and brings_again(str(video.path), query):
            return [video.frame_at(min(shown))]
        return self.inner.find(video, query, shown=shown, count=count)


def brings_again(video: str, query: str) -> bool:
    """Whether this query brings a frame again."""
    return random.Random(f"{Path(video).name} {query.strip()}").random() < AGAIN


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    teacher = ScriptedTeacher()
    with tempfile.TemporaryDirectory() as scratch:
        judged = list(_judged(teacher, given.questions, given.workers, Path(scratch)))
    rows = [_row(reason, judged, truth) for reason, truth in _truths(teacher).items()]
    passed = sum(not one.reasons for _, one in judged)
    about = {"traces": len(judged), "kept": passed, "machine": platform.processor() or platform.machine(), "python": platform.python_version()}
    if given.json:
        print(json.dumps({**about, "rows": rows}))
        return
    print("  ".join(f"{name} {value}" for name, value in about.items()))
    print("| filter | faulty | rejected | precision | recall |\n|---|---|---|---|---|")
    for row in rows:
        print(f"| {row['filter']} | {row['faulty']} | {row['rejected']} | {_share(row['precision'])} | {_share(row['recall'])} |")


def _judged(teacher: ScriptedTeacher, count: int, workers: int, folder: Path) -> list[tuple[Trace, Judged]]:
    source = SyntheticBenchmark(folder / "videos", count, kinds=("static", "transient"), split="train")
    retriever = registry.retriever("micro", SearchConfig(cache=False))
    assert retriever is not None
    evaluator = Evaluator(source, teacher, BringsAgain(retriever), turns=threading.Semaphore(workers), loop=LoopOptions(max_looks=2))
    run = Run.create(folder / "run", command="construct", config={}, seed=0)

    def work(sample: Sample) -> Sample:
        scored: Scored = evaluator.answer(sample)
        assert scored.trace is not None, scored.error
        run.append(scored.trace)
        return sample

    samples = {sample.id: sample for sample in imap_unordered(source.samples(), work, threads_for(workers))}
    found = []
    for place in run.places():
        trace = run.sketch_at(place)
        asked = reference(samples[trace.id], source.name, "Apache-2.0")
        pair = Words().embed([own_words(trace), asked.reasoning or ""])
        found.append((trace, judge(trace, asked, float(pair[0] @ pair[1]), Limits(reference_similarity=SIMILARITY))))
    return found


def _truths(teacher: ScriptedTeacher) -> dict[Reason, Callable[[Trace], bool]]:
    def has(*faults: str) -> Callable[[Trace], bool]:
        return lambda trace: teacher.fault_of(trace.id, ("retrieve",)) in faults

    return {
        "wrong_answer": lambda trace: trace.answer is not None and trace.answer.casefold() != _right_answer(trace).casefold(),
        "no_answer": lambda trace: trace.answer is None,
        "format": has("broken_format"),
        "duplicate_frame": _brought_again,
        "leak": has("leak"),
        "unlike_reference": has("off_topic"),
        "useless_call": has("useless_call"),
        "early_answer": has("early_answer"),
    }


def _right_answer(trace: Trace) -> str:
    """By the world, not by what the filters are given."""
    place = Place.of(trace.id)
    assert place is not None
    return item(place).question.answer


def _brought_again(trace: Trace) -> bool:
    calls = [step.query for step, after in zip(trace.steps, trace.steps[1:], strict=False) if isinstance(step, Retrieve) and _has_frames(after)]
    return any(brings_again(trace.video, query) for query in calls)


def _has_frames(step: object) -> bool:
    return isinstance(step, Observation) and bool(step.frames)


def _row(reason: Reason, judged: list[tuple[Trace, Judged]], truth: Callable[[Trace], bool]) -> dict[str, object]:
    # One of the ways in which the teacher breaks the format is to end without an answer.
    reasons = {"format", "no_answer"} if reason == "format" else {reason}
    rejected = {trace.id for trace, one in judged if not reasons.isdisjoint(one.reasons)}
    faulty = {trace.id for trace, _ in judged if truth(trace)}
    both = len(rejected & faulty)
    precision, recall = (both / len(rejected) if rejected else None), (both / len(faulty) if faulty else None)
    met = reason not in MECHANICAL or (precision is not None and recall is not None and min(precision, recall) >= TARGET)
    return {
        "filter": " or ".join(sorted(reasons)),
        "faulty": len(faulty),
        "rejected": len(rejected),
        "precision": precision,
        "recall": recall,
        "met": met,
        "missed": sorted(faulty - rejected)[:5],
        "wrongly": sorted(rejected - faulty)[:5],
    }


def _share(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else "–"


if __name__ == "__main__":
    main()
