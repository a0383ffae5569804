"""Evaluates with Ray on this machine and kills a worker halfway; fails unless the files equal those of a run without Ray, byte for byte.

    python scripts/ray_eval.py [--n 40] [--workers 4] [--backend scripted|embedded] [flags of act2see eval]

`act2see eval synthetic` twice, as on the command line: with two teacher processes, of which one is killed (SIGKILL) once half of the questions were
begun, and without Ray. Prints a line of JSON; exit code 1 when a check fails. Needs an environment with act2see[local,ray], as `make` makes it.
"""

import argparse
import contextlib
import io
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from act2see import registry
from act2see.cli import main as act2see
from act2see.config import ModelConfig
from act2see.core.chat import Tool
from act2see.core.interfaces import Backend, Continuation
from act2see.core.trace import Frame, Observation, Step, Trace
from act2see.storage.runs import Run
from act2see.synthetic.teacher import ScriptedTeacher

SECONDS_A_DECODING = 0.5
"""What a server would take, so that a kill meets questions that are under way."""
BEGUN = "RAY_EVAL_BEGUN"
"""The environment's name for the folder in which each process writes down what it was asked."""
FATAL = "RAY_EVAL_FATAL"
"""The environment's name for the number of questions begun, in all processes, at which one of these is killed."""
FILES = ("scores.jsonl", "summary.json")


class Watched:
    """A backend that writes down each question which it is asked to begin; the process that begins the fatal one dies."""

    def __init__(self, inner: Backend, seconds: float) -> None:
        self._inner, self._seconds = inner, seconds
        self.concurrent = bool(getattr(inner, "concurrent", False))

    @property
    def made_with(self) -> Mapping[str, str]:
        """See `Backend.made_with`."""
        return self._inner.made_with

    def decode(self, trace: Trace, tools: Sequence[Tool]) -> Generator[str, None, Continuation]:
        """See `Backend.decode`."""
        if not trace.steps and BEGUN in os.environ:
            _begin(Path(os.environ[BEGUN]), trace.id, int(os.environ[FATAL]))
        time.sleep(self._seconds)
        return (yield from self._inner.decode(trace, tools))


def scripted(config: ModelConfig) -> Watched:
    """The scripted teacher, as slow as a server; it takes many questions at once."""
    return Watched(ScriptedTeacher(config), SECONDS_A_DECODING)


def embedded(config: ModelConfig) -> Watched:
    """The embedded model, which takes one question at a time."""
    return Watched(registry.backend("micro", config), 0.0)


def _begin(folder: Path, name: str, fatal: int) -> None:
    with (folder / str(os.getpid())).open("a", encoding="utf-8") as file:
        file.write(name + "\n")
    if sum(len(file.read_text(encoding="utf-8").split()) for file in folder.iterdir()) >= fatal:
        with contextlib.suppress(FileExistsError):  # one has died already
            folder.with_name("dead").open("x").close()
            folder.with_name("killed").write_text(str(os.getpid()), encoding="utf-8")
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Print what both ways came to as a line of JSON; exit code 1 when they differ or a check fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=40)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--backend", choices=("scripted", "embedded"), default="scripted")
    given, flags = parser.parse_known_args()
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])  # where the workers find `Watched`
    command = ["eval", "synthetic", "--n", str(given.n), "--backend", f"ray_eval:{given.backend}", "--seed", "0", "--out", "run", *flags]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found: dict[str, Any] = {"n": given.n, "workers": given.workers, "backend": given.backend, "flags": flags}
        begun = folder / "begun"
        begun.mkdir()
        os.environ |= {BEGUN: str(begun), FATAL: str(given.n // 2)}
        on_ray = [*command, "--workers", str(given.workers), "--ray", "local", "--ray-teachers", "2"]
        with_ray, found["seconds_with_ray"] = _run(folder / "ray", on_ray)
        del os.environ[BEGUN]
        at_once = given.workers if given.backend == "scripted" else 1
        without, found["seconds_without_ray"] = _run(folder / "here", [*command, "--workers", str(at_once)])
        problems = list(_problems(with_ray, without, folder, found))
        os.chdir(Path(__file__).resolve().parent)  # out of what is deleted now
    print(json.dumps({**found, "problems": problems}))
    sys.exit(bool(problems))


def _run(folder: Path, command: Sequence[str]) -> tuple[Path, float]:
    """The run's folder, and the seconds that it took. Each is started in a folder of its own, so that both know their videos by the same names."""
    folder.mkdir()
    os.chdir(folder)
    os.environ["ACT2SEE_CACHE"] = str(folder / "cache")  # the same work, indexing included
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        code = act2see(command)
    if code != 0:
        sys.exit(code)
    return folder / "run", round(time.perf_counter() - started, 1)


def _problems(with_ray: Path, without: Path, folder: Path, found: dict[str, Any]) -> Iterable[str]:
    for name in FILES:
        if (with_ray / name).read_bytes() != (without / name).read_bytes():
            yield f"{name} differs from the one without Ray"
    runs = {path: list(Run.open(path).traces()) for path in (with_ray, without)}
    if max(Counter(trace.id for trace in runs[with_ray]).values()) > 1:
        yield "a question has two traces"
    if _told(runs[with_ray]) != _told(runs[without]):
        yield "the traces say something else than those without Ray"
    begun = {file.name: file.read_text(encoding="utf-8").split() for file in (folder / "begun").iterdir()}
    killed = (folder / "killed").read_text(encoding="utf-8")
    times = Counter(one for names in begun.values() for one in names)
    again = {name for name, count in times.items() if count > 1}
    if not again or not again <= set(begun[killed]) or max(times.values()) > 2:
        yield "not the killed worker's questions alone were begun twice"
    outcomes = json.loads((without / "summary.json").read_text(encoding="utf-8"))["outcomes"]
    looks = sum(isinstance(step, Observation) and not step.error for trace in runs[with_ray] for step in trace.steps)
    found |= {"outcomes": outcomes, "looks": looks, "processes": len(begun), "begun_twice": len(again)}


def _told(traces: Iterable[Trace]) -> list[str]:
    """Everything of the traces but what they cost, which differs each time: steps, pixels, how they ended."""
    return sorted(
        str([one.id, one.video, one.question, one.choices, one.finish, one.made_with, _seen(one.frames), *map(_step, one.steps)]) for one in traces
    )


def _step(step: Step) -> Any:
    return [_seen(step.frames), step.error] if isinstance(step, Observation) else step


def _seen(frames: Iterable[Frame]) -> list[Any]:
    return [(frame.seconds, hash(frame.image.tobytes())) for frame in frames]


if __name__ == "__main__":
    main()
