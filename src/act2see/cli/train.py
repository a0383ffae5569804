"""`act2see train`: fine-tunes on traces by a recipe, or trains the embedded models from random weights."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from act2see.cli import train_micro
from act2see.cli.exits import ANSWERED, INTERRUPTED
from act2see.cli.output import say, say_json
from act2see.cli.train_progress import progress_bar
from act2see.config import TrainConfig

if TYPE_CHECKING:
    from act2see.training.application import CurriculumResult, FineTuneResult

train = App(name="train", help="Fine-tune a model on traces by a recipe, or train the embedded models from random weights.")
train.command(train_micro.micro_vlm)
train.command(train_micro.micro_retriever)
train.command(train_micro.micro_generator)


@train.default
def by_recipe(
    recipe: Annotated[Path | None, Parameter(help="TOML file, such as recipes/act2see-8b.toml; may be left out with --preset.")] = None,
    /,
    *,
    options: Annotated[TrainConfig, Parameter(name="*")] = TrainConfig(),
    as_json: Annotated[bool, Parameter(name="--json", negative="", help="Print one line of JSON.")] = False,
) -> int:
    """Fine-tune on traces: act2see train RECIPE.toml --data RUN --out DIR.

    On several GPUs: torchrun --nproc-per-node N -m act2see train RECIPE.toml …. Ctrl-C saves a checkpoint; --resume continues from it.
    """
    from act2see.training import application

    is_main = application.is_main_process()
    try:
        with progress_bar(transient=options.dry_run) as progress:
            result = application.train(recipe, options, progress=progress)
    except KeyboardInterrupt:
        if is_main:
            raise
        return INTERRUPTED
    if result.folder is None:
        if is_main:
            _show_plan(result, as_json=as_json) if isinstance(result, application.FineTuneResult) else _show_parts(result, as_json=as_json)
        if isinstance(result, application.FineTuneResult):
            result.plan.check()
    elif is_main:
        say_json({"folder": str(result.folder)}) if as_json else say(result.folder)
        if isinstance(result, application.CurriculumResult) and not as_json:
            return train_micro.evaluate_on_synthetic(result.folder)
    return ANSWERED


def _show_parts(result: "CurriculumResult", *, as_json: bool) -> None:
    if as_json:
        say_json({"parts": [asdict(part) for part in result.parts]})
        return
    for part in result.parts:
        batches = "as many batches as processes" if part.batches is None else f"{part.batches} batches"
        say(f"{part.part}: {part.steps:,} steps of {batches} at a learning rate of {part.learning_rate:g}, seed {part.seed}")


def _show_plan(result: "FineTuneResult", *, as_json: bool) -> None:
    recipe, plan = result.recipe, result.plan
    if as_json:
        say_json({**asdict(plan), "needed": plan.needed, "skipped": dict(result.skipped)})
        return
    share = plan.trained / plan.parameters
    say(f"trained: {plan.trained:,} of {plan.parameters:,} parameters ({share:.2%}), {recipe.method} on {', '.join(recipe.parts)}")
    say(f"data: {plan.traces:,} traces, {plan.tokens:,} tokens ({plan.labelled:,} with a label), the longest {plan.longest:,}")
    say(f"steps: {plan.steps:,} ({recipe.epochs} epochs)")
    parts = ", ".join(f"{name} {value:.2f}" for name, value in plan.memory.items())
    say(f"memory, estimated: {plan.needed:.1f} GiB of {plan.available:.1f} ({parts})")
