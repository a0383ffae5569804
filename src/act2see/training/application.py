"""Training as one call: fine-tuning on traces by a recipe, or the embedded model's curriculum. Prints nothing."""

import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from act2see import registry
from act2see.config import EvalConfig, TrainConfig
from act2see.core.errors import ConfigError
from act2see.storage.atomic import writing
from act2see.storage.locks import at_work
from act2see.training.micro import curriculum
from act2see.training.progress import Preparing, ProgressCallback, no_progress
from act2see.training.recipe import Recipe, read_recipe

if TYPE_CHECKING:
    from act2see.training.evaluation_callback import HeldOutEvaluation
    from act2see.training.memory import Plan

_PACKAGES = ("torch", "transformers", "peft", "accelerate", "diffusers")
"""What the extra `train` installs."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FineTuneResult:
    """A fine-tuning run, or what a dry run found out about it."""

    recipe: Recipe
    plan: "Plan"
    skipped: Mapping[str, int]
    """Traces left out, by reason."""
    folder: Path | None = None
    """The adapter, or the model if all weights were trained; None after a dry run."""


@dataclass(frozen=True, slots=True)
class CurriculumResult:
    """The embedded model trained from random weights, or what a dry run found out about it."""

    parts: tuple[curriculum.Part, ...]
    folder: Path | None = None
    """The finished model; None after a dry run."""


TrainResult: TypeAlias = FineTuneResult | CurriculumResult


def is_main_process() -> bool:
    """Whether this process, of those that torchrun started, reports and writes."""
    return os.environ.get("RANK", "0") == "0"


def train(recipe: Path | None, options: TrainConfig, *, progress: ProgressCallback | None = None) -> TrainResult:
    """Train by a recipe into `options.out`. `progress` is called in the main process only. With `options.preset`, the recipe may be None.

    A dry run loads no weights and does not check the memory: call `result.plan.check()` for that. Traces that are left out are logged as warnings.
    Ctrl-C writes a checkpoint and raises `KeyboardInterrupt`; `options.resume` continues from it.

    Raises `ConfigError` for a recipe or options that cannot be used, a missing package or too little memory, `BackendError` for a model that cannot
    be read, and `StoreError` for run folders that cannot be read or written.
    """
    if options.out is None and not options.dry_run:
        raise ConfigError("missing --out (a folder), or use --dry-run")
    out = None if options.dry_run else options.out
    report = progress if progress is not None and is_main_process() else no_progress
    if recipe is None and options.preset is None:
        raise ConfigError("missing recipe: name a TOML file such as recipes/act2see-8b.toml, or use --preset paper")
    if recipe is not None and curriculum.is_curriculum(recipe):
        if options.data or options.model or options.preset:
            raise ConfigError(f"{recipe} trains the embedded model from random weights: remove --data, --model and --preset")
        return _curriculum(recipe, out, resume=options.resume, progress=report)
    given = {"model": options.model, "data": options.data, "preset": options.preset}
    changes = {name: value for name, value in given.items() if value}
    return _fine_tune(read_recipe(recipe, changes), out, resume=options.resume, progress=report)


@contextmanager
def training_folder(out: Path) -> Iterator[None]:
    """Create the output folder and hold it meanwhile, in the main process. Raises `StoreError` where another training is at work in it."""
    if not is_main_process():
        yield
        return
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    with at_work(out, hint=""):
        yield


@contextmanager
def needs_training_packages() -> Iterator[None]:
    """Turn the import error of a package that training needs into a `ConfigError` that names the extra."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _PACKAGES:
            raise
        raise ConfigError(f"training needs {missing}: pip install 'act2see[train]'") from error


def _fine_tune(recipe: Recipe, out: Path | None, *, resume: bool, progress: ProgressCallback) -> FineTuneResult:
    with needs_training_packages():
        from act2see.training import sft
    progress(Preparing())
    prepared = sft.prepare(recipe, [Path(os.path.expanduser(folder)) for folder in recipe.data])
    result = FineTuneResult(recipe, prepared.plan(), {reason: len(names) for reason, names in prepared.survey.skipped.items()})
    if is_main_process():
        for note in prepared.survey.notes():
            _log.warning("%s", note)
    if out is None:
        return result
    result.plan.check()
    with tempfile.TemporaryDirectory() as scratch:
        try:
            with training_folder(out):
                folder = sft.train(prepared, out, resume=resume, held_out=_held_out(recipe, Path(scratch)), progress=progress)
        except KeyboardInterrupt:
            if is_main_process():
                last = sft.last_checkpoint(out)
                _log.warning("%s", f"{last} is kept: continue with --resume" if last else "there is no checkpoint yet")
            raise
    return replace(result, folder=folder)


def _held_out(recipe: Recipe, scratch: Path) -> "HeldOutEvaluation | None":
    """The recipe's evaluation during training; None if it has none. Clips of the synthetic world are written into `scratch`."""
    if not recipe.probe_every:
        return None
    from act2see.training.evaluation_callback import HeldOutEvaluation

    settings = replace(EvalConfig(), n=recipe.probe_questions, retriever=recipe.probe_retriever, seed=recipe.seed)
    benchmark = registry.benchmark(recipe.probe_benchmark, settings, scratch)
    retriever = registry.retriever(recipe.probe_retriever, settings)
    return HeldOutEvaluation(benchmark, retriever, fps=recipe.probe_fps, max_looks=recipe.probe_max_looks, count=recipe.probe_questions)


def _curriculum(recipe: Path, out: Path | None, *, resume: bool, progress: ProgressCallback) -> CurriculumResult:
    result = CurriculumResult(curriculum.read_curriculum(recipe))
    if out is None:
        return result
    with needs_training_packages():
        from act2see.training.micro import vlm
    try:
        with training_folder(out):
            folder = curriculum.train(result.parts, out, resume=resume, train_part=vlm.train, progress=progress, is_main=is_main_process())
    except KeyboardInterrupt:
        if is_main_process():
            _log.warning("the parts and checkpoints in %s are kept: continue with --resume", out)
        raise
    return replace(result, folder=folder)
