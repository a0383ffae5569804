"""What the local backend must know of a family of models: its chat format, its pictures' tokens, its positions and its forward pass."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from act2see.backends.pieces import Piece
from act2see.core import chat
from act2see.core.framing import FrameLimit

Inputs: TypeAlias = dict[str, "torch.Tensor | dict[str, torch.Tensor | None]"]
"""Keyword arguments of a model's forward pass."""


class ImageProcessor(Protocol):
    """An image processor of transformers."""

    size: Mapping[str, int]

    def __call__(self, images: Sequence[Image.Image], **options: object) -> Mapping[str, NDArray[np.float32]]:
        """Pixels and what goes with them, by name."""
        ...


class TextConfig(Protocol):
    """The part of a config that describes the language model."""

    max_position_embeddings: int


class Config(Protocol):
    """A model's config, as transformers reads it."""

    model_type: str

    def get_text_config(self) -> TextConfig:
        """The part that describes the language model."""
        ...


class Model(Protocol):
    """A model of transformers, as far as its inputs depend on it."""

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """The type of its weights."""
        ...

    @property
    def config(self) -> Config:
        """Its config."""
        ...


@dataclass(frozen=True, slots=True)
class Pads:
    """Placeholder tokens, which the model replaces by what it sees."""

    token: str
    count: int


@dataclass(frozen=True, slots=True)
class Seen:
    """A picture as the model's processor gives it: the tokens that stand in its place, and its pixels as `Piece` has them."""

    tokens: tuple[chat.Text | Pads, ...]
    pixels: NDArray[np.float32]
    grid: tuple[int, int, int] | None = None


class Family(ABC):
    """One family of models that the local backend can run. Stateless. A new one is a subclass in a file of its own: see docs/extending/family.md."""

    types: ClassVar[tuple[str, ...]]
    """Values of `model_type` in config.json."""
    written: ClassVar[chat.Format] = chat.CHATML
    """How its chat template writes turns."""
    picture: ClassVar[str]
    """What its chat template writes for a picture."""
    tokens: ClassVar[tuple[str, ...]]
    """Control tokens in a picture's place. All must be in the tokenizer."""
    renderings: ClassVar[tuple[chat.Rendering, ...]] = ("same_turn", "user_turn")
    """Where its chat format has a place for a look's frame."""
    pad: ClassVar[str]
    """The placeholder among them, which the model replaces by what it sees."""
    trains: ClassVar[bool] = False
    """Whether `act2see train` and `merge` take its models."""
    rows: ClassVar[int] = 1
    """Rope positions a token."""
    video_pad: ClassVar[str | None] = None
    """The placeholder of a native video in the format of Qwen3-VL; None if initial frames are passed as images only."""

    @property
    def name(self) -> str:
        """The first of its types."""
        return self.types[0]

    @property
    def variants(self) -> "Sequence[Family]":
        """The family once for each version of its chat template."""
        return (self,)

    @abstractmethod
    def see(self, processor: ImageProcessor, config: Config | None, image: Image.Image) -> Seen:
        """One frame, as an image. Raises `ValueError` for pictures that the processor rejects."""

    @abstractmethod
    def limit(self, processor: ImageProcessor, config: Config | None, size: tuple[int, int], frames: int, room: int, around: int) -> FrameLimit:
        """How many of `frames` initial frames of one size fit into `room` tokens, if each has `around` tokens of text, and their stored size.

        Raises `VideoError` for pictures that the processor rejects.
        """

    @abstractmethod
    def positions(self, pieces: Sequence[Piece], merge: int, start: int = 0) -> tuple[NDArray[np.int64], int]:
        """Rope positions (rows, tokens) of pieces that start at position `start`, and the next position. `merge` is the side of merged patches.

        Shift-equivariant: a chunk of a prompt is computed on its own.
        """

    @abstractmethod
    def position_ids(self, order: torch.Tensor, rope: torch.Tensor) -> torch.Tensor:
        """The model's `position_ids` from the tokens' order (conversations, tokens) and their rope positions (rows, conversations, tokens)."""

    @abstractmethod
    def pixels(self, pieces: Sequence[Piece], model: Model) -> Inputs:
        """The arguments that carry the pictures' pixels; empty without pictures."""

    def attention(self, pieces: Sequence[Piece], held: int, model: Model) -> Inputs:
        """Further arguments for pieces that follow `held` tokens: none where a token attends to all before it, which is every model's default."""
        return {}
