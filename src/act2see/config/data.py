"""Options of the commands that build training data."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from act2see.config.checks import Checked, check_preset
from act2see.config.commands import RayConfig, SourceConfig
from act2see.config.models import LOOKS, MODELS, MOST, QUESTIONS, RUNS, SERVER, Cosine, Count, Positive, Seed, Words
from act2see.config.presets import Preset
from act2see.core.rejection_reasons import Reason

Missing = Literal["licence", "reasoning", "answers"]


@dataclass(frozen=True, slots=True)
class ConstructConfig(SourceConfig):
    """A teacher's traces on questions with human answers and reasoning."""

    backend: Annotated[str, Parameter(group=MODELS, name=("--teacher", "--backend"))] = "micro"
    """Teacher model: micro (embedded; knows only the synthetic world), huggingface:DIR, vllm:DIR, openai:MODEL (gemini-2.5-pro is the paper's), or
    package.module:Class."""
    max_looks: Annotated[Count, Parameter(group=LOOKS)] = 1
    """Maximum number of looks, i.e. tool calls that return a frame (1 in the paper)."""
    again: Annotated[Count, Parameter(group=QUESTIONS, name="--retries")] = 2
    """Retries of a question after a wrong answer, each with another seed (2 in the paper)."""
    retries: Annotated[Count, Parameter(name="--request-retries", group=SERVER)] = 3
    """Retries of a request after a broken connection, a 429 or a 5xx."""
    show_reference: Annotated[bool, Parameter(group=QUESTIONS, negative="")] = False
    """Include the human reasoning in the teacher's prompt, for the paper's ablation; the teacher then rarely looks. Recorded in the run."""
    allow: Annotated[tuple[Missing, ...], Parameter(group=QUESTIONS, consume_multiple=True, negative_iterable=())] = ()
    """Proceed although the source's licence does not permit training, or it lacks human reasoning or right answers."""


@dataclass(frozen=True, slots=True)
class ConstructExecutionConfig(RayConfig):
    """Execution settings of `act2see construct`."""

    budget_usd: Annotated[float | None, Parameter(group=RUNS, validator=Number(gt=0, lte=MOST))] = None
    """Start no more questions once this many dollars are spent (needs --prices); running ones finish, and --resume continues."""


@dataclass(frozen=True, slots=True)
class FilterConfig(Checked):
    """Selection of a run's traces for training."""

    out: Path
    """Run folder for the kept traces; replaces an earlier output of this command."""
    reference_similarity: Cosine = 0.8
    """Minimum cosine similarity between a trace's text and the human reasoning (more than 0.80 in the paper)."""
    embedder: str = "bge-m3"
    """Text embedder for the similarity: bge-m3 (the paper's), sentence-transformers:NAME, words (no model; for tests), or package.module:Class."""
    ignore: Annotated[tuple[Reason, ...], Parameter(consume_multiple=True, negative_iterable=())] = ()
    """Rejection reasons to ignore."""
    leak_words: Positive = 8
    """Number of consecutive words shared with the human reasoning that counts as copying (our choice)."""
    verdicts: Path | None = None
    """File of manual review decisions, saved from the --page page; stored in the run and applied at every filtering."""
    sample: Positive | None = None
    """Number of kept traces to sample for manual review (100 in the paper)."""
    page: Path | None = None
    """Write an HTML page for reviewing the sample to this file."""
    seed: Seed = 0
    """Random seed of the review sample."""
    device: str = "auto"
    """Device for the embedder: auto, cpu, cuda."""
    json: bool = False
    """Print one line of JSON."""
    preset: Preset | None = None
    """Settings of a publication, where no flag or settings file says otherwise: paper (arXiv 2605.01657: its three filters without ours, and a sample
    of 100). docs/paper.md lists each value with its source. In Python, see `with_preset`."""

    def __post_init__(self) -> None:
        Checked.__post_init__(self)
        check_preset(self.preset, self)


@dataclass(frozen=True, slots=True)
class ContaminationConfig(Checked):
    """Evaluation sets to compare a run's traces with, and the outputs."""

    against: Words
    """Evaluation sets: minerva=DIR, video-mme=DIR or another that act2see benchmarks lists, package.module:Class=DIR, or synthetic."""
    by: Annotated[
        tuple[Literal["question", "near_question", "frames", "video_name"], ...], Parameter(consume_multiple=True, negative_iterable=())
    ] = ("question", "near_question", "frames", "video_name")
    """Kinds of overlap to detect. For questions from a few templates, whose wording is not informative, use: frames video_name."""
    frames: bool = True
    """Compare frames; without it, only words and names are compared, and no video or image is opened."""
    out: Path | None = None
    """New run folder for the traces without overlap."""
    report: Path | None = None
    """Write every overlap to this file, one JSON object per line."""
    json: bool = False
    """Print the summary as one line of JSON."""
