"""The stages of the reproduction, each a folder that is complete or is continued, and how each is run by the Python API."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, assert_never

from act2see import api
from act2see.config import ConstructConfig, EvalConfig, EvalExecutionConfig, FilterConfig, TrainConfig
from act2see.config.commands import ExecutionConfig
from act2see.core.rejection_reasons import MEANINGS, Reason
from act2see.registry import MICRO
from act2see.storage.atomic import writing
from act2see.storage.runs import Run
from act2see.synthetic import dataset

Kinds: TypeAlias = tuple[dataset.Kind, ...]
Tools: TypeAlias = Literal["both", "retrieve", "generate", "none"]
KINDS: Kinds = ("static", "transient", "hypothetical")
FACTUAL: Kinds = ("static", "transient")
BENCHMARK = "synthetic"
MAX_TOKENS = 400
"""Of a turn; the right ones take at most 300. A model that repeats itself ends as truncated."""
WORKERS = 16
"""Questions that are decoded at once."""
_TEACHERS = "act2see.reproduce.teachers"
SIMILARITY = 0.3
"""Of the filter by bag-of-words vectors, as docs/construct.md uses it; the paper's 0.80 is for BGE-M3, which is not in the package."""


@dataclass(frozen=True, slots=True)
class Clips:
    """Clips of questions, written once and linked into the runs that ask them."""

    split: dataset.Split
    n: int
    seed: int
    kinds: Kinds = KINDS


@dataclass(frozen=True, slots=True)
class Construct:
    """A teacher's traces. `clips` is the stage that has their clips."""

    clips: str
    teacher: str
    tools: Tools
    n: int
    seed: int
    retries: int = 2


@dataclass(frozen=True, slots=True)
class Select:
    """The traces of `source` that pass; `ignore` has the rules that are off. The first `first` of them, if given."""

    source: str
    ignore: tuple[Reason, ...] = ("leak",)
    first: int | None = None


@dataclass(frozen=True, slots=True)
class Tune:
    """Supervised fine-tuning of a model on runs: `start` is a `Tune` stage, or None for the embedded model."""

    data: tuple[str, ...]
    start: str | None
    seed: int
    epochs: int = 2
    learning_rate: float = 3e-4
    probe_every: int = 0
    probe_questions: int = 0


@dataclass(frozen=True, slots=True)
class Looking:
    """Options of `act2see eval` that the experiments differ in, under its names."""

    tools: Tools = "both"
    max_looks: int = 1
    fps: float = 1.0
    insert: int = 0
    select: Literal["grounding", "middle", "argmax", "uniform", "random"] = "grounding"
    frames: Literal["real", "oracle"] = "real"

    def flags(self) -> str:
        """The flags on the command line, without those that `act2see eval` sets by itself."""
        flags = {
            "tools": self.tools,
            "max-looks": self.max_looks,
            "fps": self.fps,
            "insert": self.insert,
            "select": self.select,
            "frames": self.frames,
        }
        own = {"tools": "both", "fps": 1.0, "insert": 0, "select": "grounding", "frames": "real"}
        return " ".join(f"--{name} {value}" for name, value in flags.items() if own.get(name) != value)


@dataclass(frozen=True, slots=True)
class Evaluate:
    """Held-out questions."""

    clips: str
    model: str | None
    n: int
    seed: int
    kinds: Kinds = KINDS
    looking: Looking = Looking()


@dataclass(frozen=True, slots=True)
class Audit:
    """Each question again with something else in place of the frame that a look brought."""

    clips: str
    model: str | None
    n: int
    seed: int
    kinds: Kinds = KINDS


Work: TypeAlias = Clips | Construct | Select | Tune | Evaluate | Audit


@dataclass(frozen=True, slots=True)
class Stage:
    """A folder below the output folder, what fills it, and the CPU seconds that this is expected to take."""

    name: str
    work: Work
    seconds: float

    @property
    def needs(self) -> tuple[str, ...]:
        """The stages that must be complete before."""
        match self.work:
            case Clips():
                return ()
            case Construct(clips=clips):
                return (clips,)
            case Select(source=source):
                return (source,)
            case Tune(data=data, start=start):
                return (*data, *(() if start is None else (start,)))
            case Evaluate(clips=clips, model=model) | Audit(clips=clips, model=model):
                return (clips, *(() if model is None else (model,)))
            case _:
                assert_never(self.work)

    def is_complete(self, out: Path) -> bool:
        """Whether its folder holds all that later stages and the tables read."""
        return (out / self.name / _MARK[type(self.work)]).exists()


_MARK: dict[type, str] = {
    Clips: dataset.QUESTIONS,
    Construct: "summary.json",
    Select: "summary.json",
    Tune: "model/model.safetensors",
    Evaluate: "summary.json",
    Audit: "summary.json",
}
"""The file that is written last."""

Report: TypeAlias = Callable[[int, int | None, str], None]


def run(stage: Stage, out: Path, device: str, report: Report) -> None:
    """Fill the stage's folder, going on from what an interrupted call has left in it. Raises `Act2SeeError`."""
    folder, work = out / stage.name, stage.work
    match work:
        case Clips(split, n, seed, kinds):
            for done, _ in enumerate(dataset.write(folder, split, n, seed, kinds), start=1):
                report(done, n, "clips")
        case Construct():
            _link_clips(out / work.clips, folder)
            api.construct(BENCHMARK, _construct_config(work, folder, device), progress=report)
        case Select():
            _select(work, out, folder, report)
        case Tune():
            _tune(work, out, folder)
        case Evaluate():
            _link_clips(out / work.clips, folder)
            api.evaluate(BENCHMARK, eval_config(work, out, folder, device), EvalExecutionConfig(workers=WORKERS), progress=report)
        case Audit():
            _link_clips(out / work.clips, folder)
            api.audit(BENCHMARK, eval_config(work, out, folder, device), ExecutionConfig(workers=WORKERS), progress=report)
        case _:
            assert_never(work)


def _resumes(folder: Path) -> bool:
    return (folder / "run.json").exists()


def _link_clips(clips: Path, folder: Path) -> None:
    """Give a run the clips that it would otherwise write itself. Their names hold digests of what they show."""
    target = folder / "videos" / dataset.CLIPS
    with writing(folder):
        target.mkdir(parents=True, exist_ok=True)
        for clip in sorted((clips / dataset.CLIPS).glob("*.mp4")):
            place = target / clip.name
            if not place.exists():
                os.link(clip, place)


def _construct_config(work: Construct, folder: Path, device: str) -> ConstructConfig:
    return ConstructConfig(
        backend=f"{_TEACHERS}:{work.teacher}",
        tools=work.tools,
        generator="micro" if work.tools in ("both", "generate") else "none",
        judge="micro" if work.tools in ("both", "generate") else "auto",
        n=work.n,
        kind=KINDS,
        seed=work.seed,
        again=work.retries,
        out=folder,
        resume=_resumes(folder),
        device=device,
    )


def eval_config(work: Evaluate | Audit, out: Path, folder: Path, device: str) -> EvalConfig:
    """The options of an evaluation, as the API takes them."""
    looking = work.looking if isinstance(work, Evaluate) else Looking()
    paints = "hypothetical" in work.kinds
    return EvalConfig(
        backend="micro" if work.model is None else f"huggingface:{out / work.model / 'model'}",
        generator="micro" if paints else "none",
        judge="micro" if paints else "auto",
        tools=looking.tools,
        max_looks=looking.max_looks,
        fps=looking.fps,
        insert=looking.insert,
        select=looking.select,
        frames=looking.frames,
        max_tokens=MAX_TOKENS,
        greedy=True,
        n=work.n,
        kind=work.kinds,
        seed=work.seed,
        out=folder,
        resume=_resumes(folder),
        device=device,
    )


def _select(work: Select, out: Path, folder: Path, report: Report) -> None:
    source = out / work.source
    if work.first is None:
        config = FilterConfig(out=folder, embedder="words", reference_similarity=SIMILARITY, ignore=work.ignore)
        api.filter_run(source, config, progress=report)
        return
    run, taken = Run.open(source), 0

    def keep(place: object, trace: object) -> bool:
        nonlocal taken
        taken += 1
        assert work.first is not None
        return taken <= work.first

    if _resumes(folder):  # a selection is written whole; only its summary can be missing
        made = Run.open(folder)
    else:
        made = run.subset(folder, keep, command="filter", config={"source": run.folder.name, "first": work.first}, seed=None)
    made.write_summary({"kept": sum(1 for _ in made.places())})


def _tune(work: Tune, out: Path, folder: Path) -> None:
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        recipe = folder.with_name(f"{folder.name}.toml")
        recipe.write_text(recipe_of(work, out), encoding="utf-8")
    data = tuple(str(out / name) for name in work.data)
    start = MICRO / "vlm" if work.start is None else out / work.start / "model"
    api.train(recipe, TrainConfig(out=folder, data=data, model=str(start), resume=_resumes(folder)))


def recipe_of(work: Tune, out: Path) -> str:
    """The recipe as TOML. All numbers are our choice: the paper's learning rate is for a model two thousand times the size."""
    start = str(MICRO / "vlm") if work.start is None else str(out / work.start / "model")
    lines = {
        "model": start,
        "method": "full",
        "parts": ["language"],
        "epochs": work.epochs,
        "learning_rate": work.learning_rate,
        "batch_size": 8,
        "precision": "float32",
        "gradient_checkpointing": False,
        "workers": 0,
        "tensorboard": False,
        "log_every": 1,
        "save_every": 10,
        "keep_checkpoints": 1,
        "seed": work.seed,
    }
    if work.probe_every:
        lines |= {"probe_every": work.probe_every, "probe_questions": work.probe_questions, "probe_max_tokens": MAX_TOKENS}
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in lines.items())


def ignoring(*kept: Reason) -> tuple[Reason, ...]:
    """All filter rules but these: what `Select` ignores."""
    return tuple(reason for reason in MEANINGS if reason not in kept)
