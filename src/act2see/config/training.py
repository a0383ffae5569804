"""Options of the synthetic data set and of the trainings."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from act2see.config.checks import Checked
from act2see.config.models import Kinds, LearningRate, Positive, Seed, Words
from act2see.config.presets import Preset


@dataclass(frozen=True, slots=True)
class TrainConfig(Checked):
    """Training by a recipe: fine-tuning on traces, or the embedded model's curriculum."""

    out: Path | None = None
    """Output folder for checkpoints, metrics and the trained weights; not needed with --dry-run."""
    data: Words = ()
    """Run folders with traces; replaces the recipe's data."""
    model: str | None = None
    """Base model, a folder or a name on the Hub; replaces the recipe's model."""
    preset: Preset | None = None
    """Settings of a publication, where the recipe and --model say nothing: paper (arXiv 2605.01657: LoRA on Qwen3-VL-8B-Thinking, learning rate
    2.5e-6, batch size 1, one epoch). docs/paper.md lists each value with its source. With it, the recipe may be left out."""
    resume: Annotated[bool, Parameter(negative="")] = False
    """Continue from the last checkpoint in --out; rejected if recipe or data differ."""
    dry_run: Annotated[bool, Parameter(negative="")] = False
    """Only report what would be trained, for how many steps, and whether it fits into memory."""


@dataclass(frozen=True, slots=True)
class SyntheticConfig(Checked):
    """The synthetic data set on disk."""

    split: Literal["train", "held-out"] = "train"
    """Split to write. The splits share no clips, and six colour-shape pairs occur only in held-out."""
    n: Positive = 1000
    """Number of questions, each with its own clip."""
    kind: Kinds = ("static", "transient")
    """Kinds of questions, asked in turn."""
    seed: Seed = 0
    """Random seed of the clips and questions."""


@dataclass(frozen=True, slots=True)
class MicroVlmConfig(Checked):
    """Training of the embedded vision-language model. All numbers are our choice."""

    out: Path
    """Output folder for checkpoints and the trained model; training resumes from the last checkpoint in it."""
    part: Literal["look", "see", "ask", "imagine"] = "see"
    """Part of the curriculum, whose parts are trained in this order; `look` pretrains the vision encoder alone."""
    start_from: Path | None = None
    """Folder of the model to initialize from, usually that of the part before; random weights if not given."""
    steps: Positive = 1400
    """Optimizer steps of this part."""
    batches: Positive | None = None
    """Batches per optimizer step over all processes, so that one process trains like two; one per process if not given."""
    seed: Seed = 0
    """Random seed of the weights and the data."""
    learning_rate: LearningRate = 1.5e-3
    """Peak learning rate of AdamW."""
    save_every: Positive = 200
    """Optimizer steps between checkpoints."""


@dataclass(frozen=True, slots=True)
class MicroRetrieverConfig(Checked):
    """Training of the embedded retriever. All numbers are our choice."""

    out: Path
    """Output folder for checkpoints and the trained model; training resumes from the last checkpoint in it."""
    steps: Positive = 1500
    """Optimizer steps."""
    seed: Seed = 0
    """Random seed of the weights and the data."""
    learning_rate: LearningRate = 1.5e-3
    """Peak learning rate of AdamW."""
    start_from: Path | None = None
    """Folder of the retriever to initialize from; random weights if not given."""
    images: Positive = 64
    """Images per batch; each is scored against every text of the batch, with exact labels."""
    texts: Positive = 40
    """Texts per batch."""
    save_every: Positive = 250
    """Optimizer steps between checkpoints."""


@dataclass(frozen=True, slots=True)
class MicroGeneratorConfig(Checked):
    """Training of the embedded generator. All numbers are our choice."""

    out: Path
    """Output folder for checkpoints and the trained model; training resumes from the last checkpoint in it."""
    part: Literal["codec", "edits"] = "codec"
    """Part to train: the codec (pixels to latents and back), or the edits on top of a trained codec."""
    start_from: Path | None = None
    """Folder of the model to initialize from; the edits need one with a codec."""
    steps: Positive = 800
    """Optimizer steps of this part."""
    seed: Seed = 0
    """Random seed of the weights and the data."""
    learning_rate: LearningRate = 2.0e-3
    """Peak learning rate of AdamW."""
    save_every: Positive = 250
    """Optimizer steps between checkpoints."""
