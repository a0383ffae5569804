"""Options of `act2see reproduce`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from act2see.config.checks import Checked


@dataclass(frozen=True, slots=True)
class ReproduceConfig(Checked):
    """The paper's experiments in small."""

    only: Annotated[tuple[Literal["a", "b", "c", "d", "e", "f"], ...], Parameter(consume_multiple=True, negative_iterable=())] = ()
    """Experiments to run; all if not given: a tools, b training against insertion, c filters, d amount of data, e looks and frames, f costs and
    placebo frames."""
    seeds: Annotated[int, Parameter(validator=Number(gte=1, lte=100))] = 3
    """Number of seeds, from 0; each has its own questions to train on."""
    small: Annotated[bool, Parameter(negative="")] = False
    """Fewer questions and traces, for a laptop: at most 30 minutes with --seeds 1 on two idle cores."""
    scale: Literal["small", "full", "tiny"] | None = None
    """The sizes by name: small is --small, full the default, and tiny checks that everything runs; its numbers mean nothing."""
    out: Path = Path("runs/reproduce")
    """Output folder. A folder that an earlier call has begun is continued."""
    jobs: Annotated[int, Parameter(validator=Number(gte=1, lte=64))] = 2
    """Stages to run at the same time, each in a process."""
    device: str = "auto"
    """Device for the models: auto, cpu, cuda. Trainings take a GPU if torch finds one."""
    markdown: Path | None = None
    """Also write the results as Markdown to this file."""
    plan: Annotated[bool, Parameter(negative="")] = False
    """Only show the stages and an estimate of the time."""
    json: Annotated[bool, Parameter(negative="")] = False
    """Print one line of JSON: the plan with --plan, else the tables."""
