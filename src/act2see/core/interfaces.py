"""The plug-in interfaces. Any class that implements one can be named as `package.module:Class`."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Generator as Yields
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from act2see.core.chat import Tool
from act2see.core.framing import FrameLimit
from act2see.core.trace import Cost, Frame, Trace

if TYPE_CHECKING:
    from act2see.core.spots import Spot
    from act2see.video import Video


@dataclass(frozen=True, slots=True)
class Continuation:
    """The result of one `Backend.decode` call.

    `text` is all text of this call, up to and including the stop string. `stopped` is the stop reason: a stop string ("tag"), the end of the
    model's turn ("end"), or the token limit ("length").
    """

    text: str
    stopped: Literal["tag", "end", "length"]
    cost: Cost


class Backend(Protocol):
    """A vision-language model, local or behind a server."""

    @property
    def made_with(self) -> Mapping[str, str]:
        """Identifiers recorded for reproducibility: model, rendering, frames_as, sampling, … Copied to `Trace.made_with`."""
        ...

    def decode(self, trace: Trace, tools: Sequence[Tool]) -> Yields[str, None, Continuation]:
        """Continue the trace's conversation up to one of `protocol.STOPS`, the end of the turn, or the token limit.

        Yields text as it is decoded, and returns the whole text with its cost. Must not change the trace. Raises `BackendError`.
        """
        ...


@runtime_checkable
class FrameEncoder(Protocol):
    """Embeds frames and texts in one space, for retrieval by similarity.

    A frame has one or several unit vectors (32 with BLIP-2, one with most others), a text has one.
    """

    @property
    def name(self) -> str:
        """The model's name, recorded in `Trace.made_with`."""
        ...

    @property
    def fingerprint(self) -> str:
        """A digest of weights and preprocessing. Equal fingerprints mean equal vectors: it is the cache key of an index."""
        ...

    @property
    def side(self) -> int:
        """Input size: larger frames are scaled to this shorter side, in pixels, while they are decoded."""
        ...

    @property
    def threshold(self) -> float:
        """The score above which a frame counts as a match. Calibrated per encoder: see `docs/retrieval.md`."""
        ...

    def encode_frames(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Unit vectors of shape (images, vectors, width)."""
        ...

    def encode_text(self, text: str) -> NDArray[np.float32]:
        """A unit vector of shape (width,)."""
        ...

    def scores(self, frames: NDArray[np.floating], text: NDArray[np.float32]) -> NDArray[np.float32]:
        """Similarity of each encoded frame (frames, vectors, width) to the encoded text, of shape (frames,), in the encoder's own units.

        `frames` may be a memory-mapped float16 array of an hour of video: convert it to float32 in batches.
        """
        ...


class TextEmbedder(Protocol):
    """Embeds texts, to compare a trace's reasoning with a person's."""

    @property
    def name(self) -> str:
        """Identifier recorded for reproducibility; similarities are stored under it."""
        ...

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors of shape (texts, width)."""
        ...


class Retriever(Protocol):
    """Finds frames of a video that match a text."""

    @property
    def name(self) -> str:
        """Identifier recorded for reproducibility, in `Trace.made_with`."""
        ...

    def find(self, video: "Video", query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
        """The `count` best matches, best first, each with its time and score, none at a time in `shown` (seconds).

        Raises `ToolError` if no frame is left.
        """
        ...


class Generator(Protocol):
    """Generates a picture of something that never happened, from a real frame of the same video (the anchor)."""

    @property
    def name(self) -> str:
        """Identifier recorded for reproducibility, in `Trace.made_with`."""
        ...

    def generate(self, prompt: str, anchor: Frame, *, seed: int) -> Frame:
        """A frame with provenance and without a time. Raises `ToolError` if no faithful picture could be generated."""
        ...


class Painter(Protocol):
    """Image-to-image model of a `VerifiedGenerator`."""

    @property
    def name(self) -> str:
        """Identifier recorded for reproducibility."""
        ...

    @property
    def model(self) -> str:
        """The model's name, recorded in the picture's provenance."""
        ...

    @property
    def strengths(self) -> tuple[float | None, ...]:
        """The strengths to try, weakest first, in (0, 1]; (None,) for a model without a strength parameter."""
        ...

    def paint(self, prompt: str, anchor: Image.Image, *, seed: int, strength: float | None) -> Image.Image:
        """An RGB picture of the anchor's size that shows the prompt. Raises `ToolError`."""
        ...


@dataclass(frozen=True, slots=True)
class PictureCheck:
    """The result of checking a generated picture: whether it may be shown, and the scores behind that, by name."""

    passes: bool
    scores: Mapping[str, float]


class PictureJudge(Protocol):
    """Checks whether a generated picture shows its prompt and remains faithful to its anchor."""

    @property
    def name(self) -> str:
        """Identifier recorded for reproducibility."""
        ...

    def judge(self, prompt: str, anchor: Image.Image, picture: Image.Image) -> PictureCheck:
        """Check one picture."""
        ...


@dataclass(frozen=True, slots=True)
class Sample:
    """One question of a benchmark. `answer` is the text of the correct choice, `kind` its category in reports, `groups` further categories.

    An open question has no choices. `answer` is empty if the data set's authors withhold it: such a question never counts as correct.
    """

    id: str
    video: Path
    question: str
    choices: tuple[str, ...]
    answer: str
    kind: str
    groups: tuple[str, ...] = ()
    reasoning: str | None = None
    """A human rationale, if the data set has one. Never shown to an evaluated model."""
    licence: str | None = None
    """The licence, if the data set states one per question."""
    evidence_seconds: tuple[float, float] | None = None
    """Start and end of the evidence in the video, in seconds, if the data set states them. Never shown to a model."""


class Benchmark(Protocol):
    """A data set with a scoring rule, independent of any model."""

    @property
    def name(self) -> str:
        """The benchmark's name in reports."""
        ...

    def samples(self) -> Iterable[Sample]:
        """The questions, in a fixed order."""
        ...

    def is_right(self, sample: Sample, trace: Trace) -> bool | None:
        """Whether the trace's answer is correct; None if it has no answer that can be scored. Raises `JudgeError`."""
        ...


@runtime_checkable
class ChainedBenchmark(Protocol):
    """A benchmark in which a question may quote the model's answer to an earlier question about the same video."""

    def after(self, sample: Sample) -> str | None:
        """The id of the question whose answer this one quotes; None if it quotes none."""
        ...

    def given_answer(self, sample: Sample, trace: Trace | None) -> Sample:
        """The question with the answer of that trace filled in; `trace` is None if there is no such answer."""
        ...


# Optional abilities: a plug-in that has the member has the ability. Nothing needs to be registered.


@runtime_checkable
class LimitsFrames(Protocol):
    """A backend that knows how much of a video its model takes in. Any other is treated as a server: see `framing.server_limit`."""

    def frame_limit(self, size: tuple[int, int], frames: int) -> FrameLimit:
        """How many of `frames` initial frames of this size (width, height in pixels) are shown, and the size at which they are kept.

        Raises `VideoError` for pictures that the model cannot take.
        """
        ...


@runtime_checkable
class ConcurrentBackend(Protocol):
    """A backend that declares whether several threads may call `decode` at once. Any other is called by one thread at a time."""

    @property
    def concurrent(self) -> bool:
        """Whether `decode` is thread-safe."""
        ...


@runtime_checkable
class BatchingBackend(Protocol):
    """A backend that computes in this process, and can decode several conversations together."""

    def batched(self, conversations: int) -> Backend:
        """The same model as a concurrent backend that decodes up to so many conversations at once. Texts are the same."""
        ...


@runtime_checkable
class MortalBackend(Protocol):
    """A backend whose engine can end for good, after which it answers nothing more. A process that is there for it alone should end then."""

    @property
    def is_dead(self) -> bool:
        """Whether it has ended."""
        ...


@runtime_checkable
class ReseedableBackend(Protocol):
    """A backend whose seed is fixed when it is created, as a server's client is, and which can be copied with another one.

    Any other must derive its seed from the trace's id, which differs for each try of a question. The local backend does.
    """

    def reseeded(self, number: int) -> Backend:
        """The same model with its seed raised by `number`."""
        ...


@runtime_checkable
class BackendWithNotice(Protocol):
    """A backend with a warning for its users, such as that its model knows one kind of video only."""

    @property
    def notice(self) -> str | None:
        """The warning, one line; None for none."""
        ...


@runtime_checkable
class BackendWrapper(Protocol):
    """A backend around another one, whose optional abilities it does not hide."""

    @property
    def inner(self) -> Backend:
        """The wrapped backend."""
        ...


@runtime_checkable
class EncodingRetriever(Protocol):
    """A retriever that searches with an encoder, which a `PictureJudge` can share."""

    @property
    def encoder(self) -> FrameEncoder | None:
        """The encoder; None if there is none."""
        ...


@runtime_checkable
class ShowsSpots(Protocol):
    """A retriever that also decides what a look with a time or a place returns. With any other, that is what the video shows there."""

    def show(self, video: "Video", spot: "Spot", *, shown: Collection[float], count: int) -> Sequence[Frame]:
        """At most `count` frames for the spot, in time order; `shown` are the times of all frames so far. Raises `ToolError`."""
        ...


@runtime_checkable
class IndexingRetriever(Protocol):
    """A retriever that can index a video before the first query."""

    def index(self, video: "Video") -> object:
        """Build the video's index, unless it exists."""
        ...


def is_concurrent(backend: Backend) -> bool:
    """Whether several threads may call the backend at once: False unless it says so."""
    return isinstance(backend, ConcurrentBackend) and bool(backend.concurrent)


def batched(backend: Backend, conversations: int) -> Backend:
    """The backend for so many conversations at once: see `BatchingBackend`. Any other is returned as it is."""
    return backend.batched(conversations) if conversations > 1 and isinstance(backend, BatchingBackend) else backend


def is_dead(backend: Backend) -> bool:
    """Whether the backend, or the one that it wraps, has ended for good: see `MortalBackend`."""
    return any(isinstance(one, MortalBackend) and one.is_dead for one in unwrapped(backend))


def reseeded(backend: Backend, number: int) -> Backend:
    """The backend for the `number`-th try of a question, counted from 0: see `ReseedableBackend`."""
    return backend.reseeded(number) if number and isinstance(backend, ReseedableBackend) else backend


def unwrapped(backend: Backend) -> Iterator[Backend]:
    """The backend, then the one that it wraps, and so on inwards."""
    yield backend
    while isinstance(backend, BackendWrapper):
        backend = backend.inner
        yield backend


def notice_of(backend: Backend) -> str | None:
    """The backend's warning for its users; None if it has none."""
    return next((one.notice for one in unwrapped(backend) if isinstance(one, BackendWithNotice)), None)


def encoder_of(retriever: Retriever | None) -> FrameEncoder | None:
    """The encoder that a retriever searches with; None if it has none."""
    return retriever.encoder if isinstance(retriever, EncodingRetriever) else None
