"""What the making of training data can be told."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from act2see.config.commands import RayConfig, SourceConfig
from act2see.config.models import LOOKS, MODELS, MOST, QUESTIONS, RUNS, SERVER, Cosine, Count, Positive, Seed, Words
from act2see.core.rejection_reasons import Reason

Missing = Literal["licence", "reasoning", "answers"]


@dataclass(frozen=True, slots=True)
class ConstructConfig(SourceConfig):
    """Traces of a teacher on questions that people have answered and reasoned about."""

    backend: Annotated[str, Parameter(group=MODELS, name=("--teacher", "--backend"))] = "micro"
    """The model that teaches: micro (embedded; knows only the synthetic world), huggingface:DIR, openai:MODEL, or package.module:Class."""
    max_looks: Annotated[Count, Parameter(group=LOOKS)] = 1
    """How many frames it may ask for (1 in the paper)."""
    again: Annotated[Count, Parameter(group=QUESTIONS, name="--retries")] = 2
    """How often a question that was not answered rightly is asked again, with another seed (2 in the paper)."""
    retries: Annotated[Count, Parameter(name="--request-retries", group=SERVER)] = 3
    """How often a request is sent again after a broken connection, a 429 or a 5xx."""
    show_reference: Annotated[bool, Parameter(group=QUESTIONS, negative="")] = False
    """Put the person's reasoning into the teacher's prompt, for the paper's ablation: it then hardly ever looks. The run says so."""
    allow: Annotated[tuple[Missing, ...], Parameter(group=QUESTIONS, consume_multiple=True, negative_iterable=())] = ()
    """Go on although the source's licence forbids training or nobody granted it, or it lacks people's reasoning, or right answers."""


@dataclass(frozen=True, slots=True)
class ConstructExecutionConfig(RayConfig):
    """How `act2see construct` goes through the questions."""

    budget_usd: Annotated[float | None, Parameter(group=RUNS, validator=Number(gt=0, lte=MOST))] = None
    """Ask nothing new once so many dollars are spent (needs --prices); what is under way ends, and --resume goes on."""


@dataclass(frozen=True, slots=True)
class FilterConfig:
    """Which of a run's traces are good enough to train on."""

    out: Path
    """Folder of the run that holds the kept traces; an earlier one of this command is replaced."""
    reference_similarity: Cosine = 0.8
    """How alike a trace's text and the person's reasoning must be at least, by the embedder (more than 0.80 in the paper)."""
    embedder: str = "bge-m3"
    """What compares them: bge-m3 (the paper's), sentence-transformers:NAME, words (no model; for tests), or package.module:Class."""
    ignore: Annotated[tuple[Reason, ...], Parameter(consume_multiple=True, negative_iterable=())] = ()
    """Reasons that keep no trace out."""
    leak_words: Positive = 8
    """So many words in a row that stand in the person's reasoning too were copied (our choice)."""
    verdicts: Path | None = None
    """File of verdicts by hand, as the page that --page makes saves it; they are kept in the run, and applied whenever it is filtered."""
    sample: Positive | None = None
    """Draw so many of the kept traces for a look by hand (100 in the paper)."""
    page: Path | None = None
    """Where the page goes on which they are looked through, kept or rejected."""
    seed: Seed = 0
    """Seed of what is drawn for the page."""
    device: str = "auto"
    """Where the embedder runs: auto, cpu, cuda."""
    json: bool = False
    """Print one line of JSON."""


@dataclass(frozen=True, slots=True)
class ContaminationConfig:
    """What a run's traces are held against, and what becomes of those that overlap."""

    against: Words
    """The evaluation sets: minerva=DIR, video-mme=DIR or another that act2see benchmarks lists, package.module:Class=DIR, or synthetic."""
    by: Annotated[
        tuple[Literal["question", "near_question", "frames", "video_name"], ...], Parameter(consume_multiple=True, negative_iterable=())
    ] = ("question", "near_question", "frames", "video_name")
    """What counts as an overlap. Where the questions of many videos are made from a few templates, their words tell nothing: frames video_name."""
    frames: bool = True
    """Compare frames too; without, no video is opened and no picture is read, only words and names are compared."""
    out: Path | None = None
    """Folder of a new run, without the traces that overlap."""
    report: Path | None = None
    """File to write every overlap into, a JSON object a line."""
    json: bool = False
    """Print the summary as one line of JSON."""
