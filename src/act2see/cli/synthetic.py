"""`act2see synthetic`: writes the synthetic world as a data set."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from act2see.cli.exits import ANSWERED
from act2see.cli.output import progressing, say
from act2see.config import SettingsFile, SyntheticConfig


def synthetic(
    folder: Annotated[Path, Parameter(help="Folder for clips/*.mp4 and questions.jsonl.")],
    /,
    *,
    settings: Annotated[SyntheticConfig, Parameter(name="*")] = SyntheticConfig(),
    config: SettingsFile = None,
) -> int:
    """Write the synthetic world as a data set: real mp4 files, questions, answers and reasoning.

    Existing clips are kept, so rerun an interrupted command to continue.
    """
    del config
    from act2see.synthetic import dataset

    for _ in progressing(dataset.write(folder, settings.split, settings.n, settings.seed, settings.kind), "clips", settings.n):
        pass
    say(f"{settings.n} questions in {folder / dataset.QUESTIONS}")
    return ANSWERED
