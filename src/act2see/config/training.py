"""What the synthetic world and the embedded models' trainings can be told."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from act2see.config.models import Kinds, LearningRate, Positive, Seed


@dataclass(frozen=True, slots=True)
class SyntheticConfig:
    """The synthetic world as a data set on disk."""

    split: Literal["train", "held-out"] = "train"
    """No clip is in both, and six colour-shape pairs are held-out alone."""
    n: Positive = 1000
    """How many questions, each with a clip of its own."""
    kind: Kinds = ("static", "transient")
    """Which kinds of questions, in turn."""
    seed: Seed = 0
    """Another seed gives other clips."""


@dataclass(frozen=True, slots=True)
class MicroVlmConfig:
    """How the embedded vision-language model is trained. All numbers are our choice."""

    out: Path
    """Folder for checkpoints and the finished model; training goes on from the last checkpoint in it."""
    part: Literal["look", "see", "ask", "imagine"] = "see"
    """A part of the curriculum, which goes through them in this order; the first is about the vision part alone."""
    start_from: Path | None = None
    """Folder of a finished model whose weights to begin with, instead of random ones: the part's before."""
    steps: Positive = 1400
    """Steps of this part."""
    batches: Positive | None = None
    """Batches a step, of all processes together: the same training by one process as by two. One for each process if not given."""
    seed: Seed = 0
    """Seed of weights and data."""
    learning_rate: LearningRate = 1.5e-3
    """Of AdamW, at its peak."""
    save_every: Positive = 200
    """Steps between checkpoints."""


@dataclass(frozen=True, slots=True)
class MicroRetrieverConfig:
    """How the embedded retriever is trained. All numbers are our choice."""

    out: Path
    """Folder for checkpoints and the finished model; training goes on from the last checkpoint in it."""
    steps: Positive = 1500
    """Batches."""
    seed: Seed = 0
    """Seed of weights and data."""
    learning_rate: LearningRate = 1.5e-3
    """Of AdamW, at its peak."""
    start_from: Path | None = None
    """Folder of a finished retriever whose weights to begin with, instead of random ones."""
    images: Positive = 64
    """Pictures a batch; each is scored against every text of the batch, with the exact truth."""
    texts: Positive = 40
    """Texts a batch."""
    save_every: Positive = 250
    """Steps between checkpoints."""


@dataclass(frozen=True, slots=True)
class MicroGeneratorConfig:
    """How the embedded generator is trained. All numbers are our choice."""

    out: Path
    """Folder for checkpoints and the finished model; training goes on from the last checkpoint in it."""
    part: Literal["codec", "edits"] = "codec"
    """What is trained: the codec between pixels and cells, or, on top of one, the edits."""
    start_from: Path | None = None
    """Folder of a finished model whose weights to begin with: one with a codec, for the edits."""
    steps: Positive = 800
    """Batches of this part."""
    seed: Seed = 0
    """Seed of weights and data."""
    learning_rate: LearningRate = 2.0e-3
    """Of AdamW, at its peak."""
    save_every: Positive = 250
    """Steps between checkpoints."""
