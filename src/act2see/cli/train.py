"""`act2see train`: the embedded models, from nothing."""

import os
from typing import Annotated

from cyclopts import App, Parameter

from act2see.cli.evaluate import evaluate
from act2see.cli.exits import ANSWERED
from act2see.config import EvalConfig, MicroRetrieverConfig, MicroVlmConfig, SettingsFile

train = App(name="train", help="Train the embedded models from nothing; an interrupted training goes on from its last checkpoint.")


@train.command
def micro_vlm(*, settings: Annotated[MicroVlmConfig, Parameter(name="*")], config: SettingsFile = None) -> int:
    """Train the embedded vision-language model, then see by decoding how well it answers held-out questions.

    In several processes: torchrun --nproc-per-node 2 -m act2see train micro-vlm --out DIR.
    """
    del config
    from act2see.training import micro_vlm as training

    model = training.train(settings)
    if os.environ.get("RANK", "0") != "0":
        return ANSWERED
    print(model)
    return evaluate("synthetic", settings=EvalConfig(backend=f"huggingface:{model}", greedy=True, n=100))


@train.command
def micro_retriever(*, settings: Annotated[MicroRetrieverConfig, Parameter(name="*")], config: SettingsFile = None) -> int:
    """Train the embedded retriever."""
    del config
    from act2see.training import micro_retriever as training

    print(training.train(settings))
    return ANSWERED
