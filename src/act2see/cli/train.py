"""`act2see train`: fine-tuning on traces by a recipe, and the embedded models from nothing."""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from act2see.cli.evaluate import evaluate
from act2see.cli.exits import ANSWERED, INTERRUPTED
from act2see.cli.output import complain, say, say_json, working
from act2see.config import EvalConfig, MicroGeneratorConfig, MicroRetrieverConfig, MicroVlmConfig, SettingsFile, Words
from act2see.core.errors import ConfigError

if TYPE_CHECKING:
    from act2see.training.evaluation_callback import Probe
    from act2see.training.memory import Plan
    from act2see.training.micro.curriculum import Part
    from act2see.training.recipe import Recipe
    from act2see.training.sft import Event, Prepared

train = App(name="train", help="Fine-tune a model on traces by a recipe, or train the embedded models from nothing.")


@train.default
def sft(
    recipe: Annotated[Path, Parameter(help="TOML file, such as recipes/act2see-8b.toml.")],
    /,
    *,
    out: Annotated[Path | None, Parameter(help="Folder for checkpoints, metrics and what was trained; not needed with --dry-run.")] = None,
    data: Annotated[Words, Parameter(help="Run folders with traces, in place of the recipe's data.")] = (),
    model: Annotated[str | None, Parameter(help="The base, in place of the recipe's: a folder, or a name on the hub.")] = None,
    resume: Annotated[bool, Parameter(negative="", help="Go on from the last checkpoint in --out; refused if recipe or data differ.")] = False,
    dry_run: Annotated[bool, Parameter(negative="", help="Only say what would be trained, how long, and whether it fits.")] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative="", help="Print one line of JSON.")] = False,
) -> int:
    """Fine-tune on traces: act2see train RECIPE.toml --data RUN --out DIR.

    On several GPUs: torchrun --nproc-per-node N -m act2see train RECIPE.toml …. Ctrl-C saves a checkpoint; --resume goes on from it.
    """
    from act2see.training.micro.curriculum import is_curriculum
    from act2see.training.recipe import read_recipe

    if out is None and not dry_run:
        raise ConfigError("where shall it go? Name a folder with --out, or only look with --dry-run")
    if is_curriculum(recipe):
        if data or model:
            raise ConfigError(f"{recipe} makes the embedded model from nothing: it takes no --data and no --model")
        return _from_nothing(recipe, None if dry_run else out, resume=resume, as_json=as_json)
    wanted = read_recipe(recipe, {**({"model": model} if model else {}), **({"data": data} if data else {})})
    with _needs_training():
        from act2see.training import sft as training
    is_first = os.environ.get("RANK", "0") == "0"
    with working("reading the traces") if is_first else _quiet():
        ready = training.prepare(wanted, [Path(os.path.expanduser(folder)) for folder in wanted.data])
        plan = ready.plan()
    if is_first:
        for note in ready.found.notes():
            complain(f"note: {note}")
    if dry_run and is_first:
        say_json(training.as_json(ready, plan)) if as_json else _tell_plan(ready, plan)
    plan.check()
    if dry_run or out is None:
        return ANSWERED
    with tempfile.TemporaryDirectory() as scratch, _telling(is_first) as tell:
        try:
            made = training.train(ready, out, resume=resume, probe=_probe(wanted, Path(scratch)), tell=tell)
        except KeyboardInterrupt:
            if is_first:
                last = training.last_checkpoint(out)
                complain(f"interrupted; {last} is kept: go on with --resume" if last else "interrupted before the first checkpoint")
            return INTERRUPTED
    if is_first:
        say_json({"folder": str(made)}) if as_json else say(made)
    return ANSWERED


def _from_nothing(recipe: Path, out: Path | None, *, resume: bool, as_json: bool) -> int:
    """The embedded model by its curriculum, and unless `as_json` how well it answers held-out questions; without a folder only what would be done."""
    from act2see.training.micro import curriculum

    parts = curriculum.read_curriculum(recipe)
    if out is None:
        _tell_parts(parts, as_json=as_json)
        return ANSWERED
    with _needs_training():
        from act2see.training.micro import vlm as training
    is_first = os.environ.get("RANK", "0") == "0"
    try:
        tell = complain if is_first else lambda line: None
        made = curriculum.train(parts, out, resume=resume, fit=training.train, tell=tell, is_first=is_first)
    except KeyboardInterrupt:
        if is_first:
            complain(f"interrupted; what was trained is kept in {out}: go on with --resume")
        return INTERRUPTED
    if not is_first:
        return ANSWERED
    say_json({"folder": str(made)}) if as_json else say(made)
    if as_json:  # one line, as of any training
        return ANSWERED
    return evaluate("synthetic", settings=EvalConfig(backend=f"huggingface:{made}", greedy=True, n=100))


def _tell_parts(parts: "Sequence[Part]", *, as_json: bool) -> None:
    if as_json:
        say_json({"parts": [asdict(part) for part in parts]})
        return
    for part in parts:
        batches = "as many batches as processes" if part.batches is None else f"{part.batches} batches"
        say(f"{part.part}: {part.steps:,} steps of {batches} at a learning rate of {part.learning_rate:g}, seed {part.seed}")


@contextmanager
def _needs_training() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in ("torch", "transformers", "peft", "accelerate", "diffusers"):
            raise
        raise ConfigError(f"training needs {missing}: pip install 'act2see[train]'") from error


@contextmanager
def _quiet() -> Iterator[None]:
    yield


def _probe(recipe: "Recipe", scratch: Path) -> "Probe | None":
    if not recipe.probe_every:
        return None
    from act2see import registry
    from act2see.training.evaluation_callback import Probe

    settings = replace(EvalConfig(), n=recipe.probe_questions, retriever=recipe.probe_retriever, seed=recipe.seed)
    benchmark = registry.benchmark(recipe.probe_benchmark, settings, scratch)
    retriever = registry.retriever(recipe.probe_retriever, settings)
    return Probe(benchmark, retriever, fps=recipe.probe_fps, max_looks=recipe.probe_max_looks, count=recipe.probe_questions)


def _tell_plan(ready: "Prepared", plan: "Plan") -> None:
    recipe = ready.recipe
    share = plan.trained / plan.parameters
    say(f"trained: {plan.trained:,} of {plan.parameters:,} parameters ({share:.2%}), {recipe.method} on {', '.join(recipe.parts)}")
    say(f"data: {plan.traces:,} traces, {plan.tokens:,} tokens ({plan.labelled:,} with a label), the longest {plan.longest:,}")
    say(f"steps: {plan.steps:,} ({recipe.epochs} epochs)")
    parts = ", ".join(f"{name} {value:.2f}" for name, value in plan.memory.items())
    say(f"memory, estimated: {plan.needed:.1f} GiB of {plan.available:.1f} ({parts})")


@contextmanager
def _telling(is_first: bool) -> "Iterator[Callable[[Event], None]]":
    """A progress bar with rate and time left on a terminal; a line for each line of metrics elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[said]}", markup=False))
    shown = Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, disable=not (is_first and console.is_terminal))
    task = shown.add_task("steps", total=None, said="")

    def tell(event: "Event") -> None:
        if event.kind == "step":
            speed = shown.tasks[0].speed
            shown.update(task, completed=event.step, total=event.steps, said=_said(event, speed) if speed else "")
        elif event.kind == "warning":
            complain(f"warning: {event.values['warning']}")
        elif not console.is_terminal or "probe" in event.values:
            complain(f"step {event.step}/{event.steps}: {_short(event.values)}")

    with shown:
        yield tell


def _said(event: "Event", speed: float) -> str:
    loss = event.values.get("loss")
    return f"{speed:.2f}/s" + (f", loss {loss:.4f}" if loss is not None else "")


def _short(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items())


@train.command
def micro_vlm(*, settings: Annotated[MicroVlmConfig, Parameter(name="*")], config: SettingsFile = None) -> int:
    """Train the embedded vision-language model, then see by decoding how well it answers held-out questions.

    In several processes: torchrun --nproc-per-node 2 -m act2see train micro-vlm --out DIR.
    """
    del config
    from act2see.training.micro import vlm as training

    model = training.train(settings)
    if os.environ.get("RANK", "0") != "0":
        return ANSWERED
    say(model)
    if settings.part == "look":  # it cannot write yet
        return ANSWERED
    return evaluate("synthetic", settings=EvalConfig(backend=f"huggingface:{model}", greedy=True, n=100))


@train.command
def micro_retriever(*, settings: Annotated[MicroRetrieverConfig, Parameter(name="*")], config: SettingsFile = None) -> int:
    """Train the embedded retriever."""
    del config
    from act2see.training.micro import retriever as training

    say(training.train(settings))
    return ANSWERED


@train.command
def micro_generator(*, settings: Annotated[MicroGeneratorConfig, Parameter(name="*")], config: SettingsFile = None) -> int:
    """Train the embedded generator: first its codec, then, with --part edits --start-from the codec's folder, what it does."""
    del config
    with _needs_training():
        from act2see.training.micro import generator as training

    say(training.train(settings))
    return ANSWERED
