"""The reproduction as one call: `reproduce(options)` runs what is missing of its plan and writes the tables and the pages."""

import json
import os
import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

from act2see.config import ReproduceConfig
from act2see.core.errors import Act2SeeError, ConfigError, InternalError, StoreError
from act2see.execution.processes import Report, imap_processes
from act2see.report.page import write_page
from act2see.reproduce import plan as plans
from act2see.reproduce import stages
from act2see.reproduce.page import markdown, page
from act2see.reproduce.plan import Plan
from act2see.reproduce.stages import Stage
from act2see.reproduce.tables import Result, results
from act2see.reproduce.times import read_times, write_time
from act2see.storage.atomic import replace_file, writing
from act2see.storage.locks import at_work
from act2see.storage.run_metadata import library_versions
from act2see.storage.runs import JSON

ABOUT, TABLES, PAGE = "reproduce.json", "tables.json", "results.html"
"""Files in the output folder: its scale; the tables, free of times; the page."""

StageCallback: TypeAlias = Callable[[int, int, str, str], None]
"""Called with the number of finished stages, of all stages, a stage's name and what it is doing."""


@dataclass(frozen=True, slots=True)
class ReproduceResult:
    """The tables of the experiments, and where they were written."""

    plan: Plan
    results: tuple[Result, ...]
    folder: Path
    page: Path


@dataclass(frozen=True, slots=True)
class Outline:
    """What would be run: all stages, those that are missing, and an estimate of their CPU seconds."""

    plan: Plan
    missing: tuple[Stage, ...]

    @property
    def seconds(self) -> float:
        """The CPU seconds that the missing stages are expected to take."""
        return sum(stage.seconds for stage in self.missing)

    def row(self) -> dict[str, JSON]:
        """As JSON."""
        names = {stage.name for stage in self.missing}
        rows: list[JSON] = [
            {"stage": stage.name, "needs": list(stage.needs), "cpu_seconds": stage.seconds, "is_complete": stage.name not in names}
            for stage in self.plan.stages
        ]
        return {
            "scale": self.plan.scale.name,
            "seeds": self.plan.seeds,
            "experiments": list(self.plan.only),
            "missing": len(self.missing),
            "cpu_seconds": round(self.seconds),
            "stages": rows,
        }


def outline(options: ReproduceConfig) -> Outline:
    """The plan, and what of it the output folder lacks; nothing is written. Raises `ConfigError` for a folder of another scale."""
    found = plans.plan(plans.SCALES[options.scale or ("small" if options.small else "full")], options.seeds, options.only)
    _check_folder(options.out, found)
    return Outline(found, tuple(stage for stage in found.stages if not stage.is_complete(options.out)))


def reproduce(options: ReproduceConfig, *, progress: StageCallback | None = None) -> ReproduceResult:
    """Run the stages that are missing in `options.out`, then write the tables and the pages.

    Each stage is a folder that is complete or is continued, so an interrupt loses at most the questions and training steps that were under way.
    Raises `ConfigError`, `StoreError`, and what a stage raises, with the stage's name.
    """
    todo = outline(options)
    with writing(options.out):
        options.out.mkdir(parents=True, exist_ok=True)
    with at_work(options.out, hint=""):
        replace_file(options.out / ABOUT, (json.dumps({"scale": todo.plan.scale.name}) + "\n").encode())
        _run_all(todo, options, progress or (lambda done, count, name, what: None))
        found = results(options.out, todo.plan)
        text = json.dumps([result.row() for result in found], indent=1, ensure_ascii=False) + "\n"
        replace_file(options.out / TABLES, text.encode())
        times = read_times(options.out)
        about = _about(options, todo.plan)
        write_page(options.out / PAGE, page(found, todo.plan, times, about))
        if options.markdown is not None:
            replace_file(options.markdown, markdown(found, todo.plan, times, about).encode())
    return ReproduceResult(todo.plan, tuple(found), options.out, options.out / PAGE)


def _about(options: ReproduceConfig, plan: Plan) -> Mapping[str, str]:
    only = f" --only {' '.join(options.only)}" if options.only else ""
    scale = {"small": " --small", "full": ""}.get(plan.scale.name, f" --scale {plan.scale.name}")
    versions = library_versions()
    return {
        "command": f"act2see reproduce{only} --seeds {plan.seeds}{scale} --out OUT",
        "versions": ", ".join(f"{name} {versions[name]}" for name in ("act2see", "torch", "transformers") if name in versions),
        "processor": _processor(),
    }


def _processor() -> str:
    """The processor's name and the number of its cores, as Linux tells them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "an unnamed processor")
    return f"{cores} cores of {name}"


def _check_folder(out: Path, plan: Plan) -> None:
    about = out / ABOUT
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is no folder: give a new one with --out")
    if not about.exists():
        if out.is_dir() and any(out.iterdir()):
            raise ConfigError(f"{out} is not empty and holds no reproduction: give a new folder with --out")
        return
    try:
        scale = json.loads(about.read_text(encoding="utf-8"))["scale"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{about} cannot be read: {error}; give a new folder with --out") from error
    if scale != plan.scale.name:
        raise ConfigError(f"{out} holds a reproduction of scale {scale!r}, not {plan.scale.name!r}: give another folder with --out")


# Running


@dataclass(frozen=True, slots=True)
class _Runner:
    """Runs one stage, in this process or in another."""

    out: Path
    device: str

    def __call__(self, stage: Stage, report: Report) -> tuple[float, float]:
        """The CPU and the wall seconds that it took."""
        cpu, wall = _cpu_seconds(), time.monotonic()
        stages.run(stage, self.out, self.device, lambda done, count, what: report((done, count, what)))
        return _cpu_seconds() - cpu, time.monotonic() - wall


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _run_all(todo: Outline, options: ReproduceConfig, progress: StageCallback) -> None:
    count, missing = len(todo.plan.stages), {stage.name for stage in todo.missing}
    done = count - len(missing)
    for wave in todo.plan.waves():
        left = [stage for stage in wave if stage.name in missing]
        told = partial(_tell, progress, done, count)
        for stage, seconds, wall in _run_wave(left, options, told):
            done += 1
            progress(done, count, stage.name, "complete")
            write_time(options.out, stage, seconds, wall)


def _tell(progress: StageCallback, done: int, count: int, stage: Stage, what: str) -> None:
    progress(done, count, stage.name, what)


def _run_wave(wave: Sequence[Stage], options: ReproduceConfig, told: Callable[[Stage, str], None]) -> Iterator[tuple[Stage, float, float]]:
    """Run stages that do not need each other; yields each with its CPU and its wall seconds."""
    runner = _Runner(options.out, options.device)

    def on_message(stage: Stage, message: tuple[int, int | None, str]) -> None:
        done, count, what = message
        told(stage, f"{what} {done:,}" + ("" if count is None else f" of {count:,}"))

    if options.jobs == 1 or len(wave) <= 1:
        for stage in wave:
            told(stage, "begins")
            try:
                yield stage, *runner(stage, partial(on_message, stage))
            except Act2SeeError as error:
                raise _named(error, stage) from error
        return
    for stage, outcome in imap_processes(wave, runner, min(options.jobs, len(wave)), on_message):
        if isinstance(outcome, Act2SeeError):
            raise _named(outcome, stage) from outcome
        yield stage, *outcome


def _named(error: Act2SeeError, stage: Stage) -> Act2SeeError:
    return error if isinstance(error, InternalError) else StoreError(f"{stage.name}: {error}")
