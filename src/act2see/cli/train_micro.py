"""`act2see train micro-…`: trains single parts of the embedded models."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from act2see.cli.evaluate import evaluate
from act2see.cli.exits import ANSWERED
from act2see.cli.output import say
from act2see.config import EvalConfig, MicroGeneratorConfig, MicroRetrieverConfig, MicroVlmConfig, SettingsFile

_QUESTIONS = 100


def micro_vlm(*, settings: Annotated[MicroVlmConfig, Parameter(name="*")], config: SettingsFile = None) -> int:
    """Train one part of the embedded vision-language model, then evaluate it on held-out questions.

    In several processes: torchrun --nproc-per-node 2 -m act2see train micro-vlm --out DIR.
    """
    del config
    from act2see.training.application import is_main_process, needs_training_packages, training_folder

    with needs_training_packages():
        from act2see.training.micro import vlm

    with training_folder(settings.out):
        model = vlm.train(settings)
    if not is_main_process():
        return ANSWERED
    say(model)
    return ANSWERED if settings.part == "look" else evaluate_on_synthetic(model)  # after `look` it cannot generate text yet


def micro_retriever(*, settings: Annotated[MicroRetrieverConfig, Parameter(name="*")], config: SettingsFile = None) -> int:
    """Train the embedded retriever."""
    del config
    from act2see.training.application import needs_training_packages, training_folder

    with needs_training_packages():
        from act2see.training.micro import retriever

    with training_folder(settings.out):
        model = retriever.train(settings)
    say(model)
    return ANSWERED


def micro_generator(*, settings: Annotated[MicroGeneratorConfig, Parameter(name="*")], config: SettingsFile = None) -> int:
    """Train the embedded generator: first its codec, then its edits with --part edits and --start-from the codec's folder."""
    del config
    from act2see.training.application import needs_training_packages, training_folder

    with needs_training_packages():
        from act2see.training.micro import generator

    with training_folder(settings.out):
        model = generator.train(settings)
    say(model)
    return ANSWERED


def evaluate_on_synthetic(model: Path) -> int:
    """Run the synthetic benchmark with a model that has just been trained."""
    return evaluate("synthetic", settings=EvalConfig(backend=f"huggingface:{model}", greedy=True, n=_QUESTIONS))
