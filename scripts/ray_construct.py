"""Constructs with Ray on this machine and kills a worker halfway; fails unless the results equal a run without Ray and no work is repeated.

    python scripts/ray_construct.py [--n 200] [--workers 8]

Two worker processes run a scripted teacher on the synthetic world, with the embedded retriever in a third. One of the two is killed (SIGKILL) in
the middle. Prints a line of JSON; exit code 1 when a check fails. Needs an environment with act2see[local,ray], as `make` makes it.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import Any

from act2see import registry
from act2see.config import ConstructConfig, ConstructExecutionConfig
from act2see.core.chat import Tool
from act2see.core.interfaces import Continuation, Sample
from act2see.core.trace import Trace
from act2see.curation.construct import Work
from act2see.curation.constructor import Constructed, Constructor, Spending
from act2see.evaluation.evaluator import Evaluator
from act2see.evaluation.runner import Runner, StoredTraces
from act2see.execution.pool import imap_unordered
from act2see.storage.runs import Run
from act2see.synthetic.teacher import ScriptedTeacher

SECONDS_A_DECODING = 0.5
"""So that a kill meets questions that are under way."""
BEGUN = "RAY_CONSTRUCT_BEGUN"
"""The environment's name for the folder in which each process writes down what it was asked."""

FATAL = "RAY_CONSTRUCT_FATAL"
"""The environment's name for the try at whose beginning a process is killed, the first time."""


class SlowTeacher(ScriptedTeacher):
    """The scripted teacher as slow as a server. It writes down each try that it is asked to begin, and the process that begins a fatal one dies."""

    def decode(self, trace: Trace, tools: Sequence[Tool]) -> Generator[str, None, Continuation]:
        """See `Backend.decode`."""
        if not trace.steps and BEGUN in os.environ:
            with (Path(os.environ[BEGUN]) / str(os.getpid())).open("a", encoding="utf-8") as file:
                file.write(trace.id + "\n")
            if trace.id == os.environ[FATAL] and not (dead := Path(os.environ[BEGUN]).with_name("dead")).exists():
                dead.write_text(str(os.getpid()))
                os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(SECONDS_A_DECODING)
        return (yield from super().decode(trace, tools))


def main() -> None:
    """Print what both ways came to as a line of JSON; exit code 1 when they differ or a check fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--workers", type=int, default=8)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["ACT2SEE_CACHE"] = str(folder / "cache")
        settings = ConstructConfig(backend="ray_construct:SlowTeacher", retriever="micro", generator="none", n=given.n, out=folder, seed=0)
        source = registry.source("synthetic", settings, folder / "videos")
        started = time.perf_counter()
        samples = list(source.samples())
        found: dict[str, Any] = {"n": given.n, "workers": given.workers, "seconds_making_clips": round(time.perf_counter() - started, 1)}
        with_ray, begun, killed = _on_ray(folder, source, settings, samples, given.workers, found)
        without = _here(folder, source, settings, samples, given.workers, found)
        problems = list(_problems(samples, with_ray, without, begun, killed, found))
    print(json.dumps({**found, "problems": problems}))
    sys.exit(bool(problems))


Outcome = tuple[list[Constructed], list[Trace]]


def _here(folder: Path, source: Any, settings: ConstructConfig, samples: Sequence[Sample], workers: int, found: dict[str, Any]) -> Outcome:
    os.environ.pop(BEGUN, None)
    os.environ["ACT2SEE_CACHE"] = str(folder / "another-cache")  # the same work, indexing included
    started = time.perf_counter()
    retriever = registry.retriever(settings.retriever, settings)
    backend = registry.backend(settings.backend, settings)
    evaluator = Evaluator(source, backend, retriever, fps=settings.fps, loop=registry.loop_options(settings), turns=threading.Semaphore(workers))
    run = Run.create(folder / "here", command="construct", config={}, seed=0)
    ended = _ended(Constructor(evaluator, settings.again), run, enumerate(samples), workers)
    found["seconds_without_ray"] = round(time.perf_counter() - started, 1)
    return ended, list(run.traces())


def _on_ray(
    folder: Path, source: Any, settings: ConstructConfig, samples: Sequence[Sample], workers: int, found: dict[str, Any]
) -> tuple[Outcome, dict[int, list[str]], int]:
    begun = folder / "begun"
    begun.mkdir()
    os.environ |= {BEGUN: str(begun), FATAL: f"{samples[len(samples) // 2].id}#0"}
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])  # where the workers find SlowTeacher
    started = time.perf_counter()
    from act2see.integrations.ray.cluster import Layout, on_ray  # noqa: PLC0415 - its import is part of the time

    run = Run.create(folder / "ray", command="construct", config={}, seed=0)
    with on_ray(source, "synthetic", settings, ConstructExecutionConfig(ray="local", workers=workers), Layout(teachers=2)) as spread:
        found["seconds_to_start_ray"] = round(time.perf_counter() - started, 1)
        spread.prefetch(samples, ())
        ended = _ended(spread.constructor, run, enumerate(samples), spread.slots)
    found["seconds_with_ray"] = round(time.perf_counter() - started, 1)
    return (ended, list(run.traces())), {int(file.name): file.read_text().split() for file in begun.iterdir()}, int((folder / "dead").read_text())


def _ended(constructor: Constructor, run: Run, questions: Iterable[tuple[int, Sample]], workers: int) -> list[Constructed]:
    work = Work(constructor, Runner.of(ConstructExecutionConfig(), run), StoredTraces(run, {}), Spending())
    ended = (one for some in imap_unordered(questions, work, workers) for one in some)
    return sorted((one for one in ended if one is not None), key=lambda one: one.score.number)


def _problems(
    samples: Sequence[Sample], with_ray: Outcome, without: Outcome, begun: dict[int, list[str]], killed: int, found: dict[str, Any]
) -> Iterable[str]:
    ended, traces = with_ray
    if [one.score.id for one in ended] != [one.id for one in samples]:
        yield "not every question ended once"
    if [one.score.row() for one in ended] != [one.score.row() for one in without[0]]:
        yield "the scores differ from those without Ray"
    kept = Counter(trace.id for trace in traces)
    if set(kept) != {trace.id for trace in without[1]} or set(kept.values()) != {1}:
        yield "the tries that were kept are not those without Ray, each once"
    if _told(traces) != _told(without[1]):
        yield "the traces say something else than those without Ray"
    times = Counter(name for names in begun.values() for name in names)
    again = {name for name, count in times.items() if count > 1}
    if not again or not again <= set(begun[killed]) or max(times.values()) > 2:
        yield "not the killed worker's tries alone were begun twice"
    found |= {"outcomes": Counter(one.score.outcome for one in ended), "tries": len(kept), "processes": len(begun), "tries_begun_twice": len(again)}


def _told(traces: Iterable[Trace]) -> list[tuple[Any, ...]]:
    pixels = {trace.id: [frame.image.tobytes() for frame in trace.frames] for trace in traces}
    return sorted((one.id, one.video, str([_step(step) for step in one.steps]), one.finish, hash(tuple(pixels[one.id]))) for one in traces)


def _step(step: Any) -> Any:
    return [(frame.seconds, hash(frame.image.tobytes())) for frame in step.frames] + [step.error] if hasattr(step, "frames") else step


if __name__ == "__main__":
    main()
