"""The plug points. Anything that satisfies one of these can be named as `package.module:Class`."""

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
    from act2see.video import Video


@dataclass(frozen=True, slots=True)
class Continuation:
    """What a backend wrote before it stopped.

    `text` is everything it wrote in this call, up to and including the stop string. `stopped` says why: a stop string, the end of the model's
    turn, or the limit on tokens.
    """

    text: str
    stopped: Literal["tag", "end", "length"]
    cost: Cost


class Backend(Protocol):
    """A vision-language model, local or behind a server."""

    @property
    def made_with(self) -> Mapping[str, str]:
        """What a reader must know to compare two traces: model, rendering, frames_as, sampling, …, by name. Kept in `Trace.made_with`."""
        ...

    def decode(self, trace: Trace, tools: Sequence[Tool]) -> Yields[str, None, Continuation]:
        """Continue the trace's conversation until one of `protocol.STOPS`, the end of the turn or the token limit.

        Yields text as it is decoded; returns it whole, with what it cost. Does not change the trace. Raises `BackendError`.
        """
        ...


@runtime_checkable
class FrameEncoder(Protocol):
    """Puts frames and texts into one space, where near means alike: what a retriever searches with.

    A frame is one or several unit vectors (a BLIP-2 frame has 32, most others one), a text is one.
    """

    @property
    def name(self) -> str:
        """The model's name, for `Trace.made_with`."""
        ...

    @property
    def fingerprint(self) -> str:
        """A digest of weights and preprocessing. Equal fingerprints give equal vectors: an index on disk is kept under it."""
        ...

    @property
    def side(self) -> int:
        """The shorter side in pixels at which frames are wanted; larger ones are scaled down to it while they are decoded."""
        ...

    @property
    def threshold(self) -> float:
        """A score above this means that the frame shows something like the query. Calibrated for each encoder: see `docs/retrieval.md`."""
        ...

    def encode_frames(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Unit vectors of shape (images, vectors, width)."""
        ...

    def encode_text(self, text: str) -> NDArray[np.float32]:
        """A unit vector of shape (width,)."""
        ...

    def scores(self, frames: NDArray[np.floating], text: NDArray[np.float32]) -> NDArray[np.float32]:
        """How well each of the encoded frames (frames, vectors, width) fits the encoded text, in the encoder's own units, of shape (frames,).

        The frames may be an hour of 16-bit numbers mapped from a file: widen them piece by piece.
        """
        ...


class TextEmbedder(Protocol):
    """Puts texts into one space, where near means alike: what a trace's words are compared with a person's by."""

    @property
    def name(self) -> str:
        """What a reader must know to compare two similarities: they are kept under it."""
        ...

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors of shape (texts, width)."""
        ...


class Retriever(Protocol):
    """Finds frames of a video by a text."""

    @property
    def name(self) -> str:
        """What a reader must know to compare two traces; kept in `Trace.made_with`."""
        ...

    def find(self, video: "Video", query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
        """The `count` frames that fit the query best, best first, each with its time and score, none at a time in `shown` (seconds).

        Raises `ToolError` when there is no such frame.
        """
        ...


class Generator(Protocol):
    """Makes a picture of something that never happened, from a real frame of the same video."""

    @property
    def name(self) -> str:
        """What a reader must know to compare two traces; kept in `Trace.made_with`."""
        ...

    def generate(self, prompt: str, anchor: Frame, *, seed: int) -> Frame:
        """A frame without a time, with its provenance. Raises `ToolError` when no faithful picture could be made."""
        ...


class Painter(Protocol):
    """Makes one picture from another and a text: what a `VerifiedGenerator` paints with."""

    @property
    def name(self) -> str:
        """What a reader must know to compare two traces."""
        ...

    @property
    def model(self) -> str:
        """The model's name, for a picture's provenance."""
        ...

    @property
    def strengths(self) -> tuple[float | None, ...]:
        """The strengths to try, from the weakest, each above 0 and at most 1; (None,) for a model that knows no strength."""
        ...

    def paint(self, prompt: str, anchor: Image.Image, *, seed: int, strength: float | None) -> Image.Image:
        """An RGB picture of the anchor's size that shows what the prompt describes. Raises `ToolError`."""
        ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a picture may be shown, and the scores that say so, by name."""

    passes: bool
    scores: Mapping[str, float]


class PictureJudge(Protocol):
    """Says whether a picture that was made from an anchor shows what it should."""

    @property
    def name(self) -> str:
        """What a reader must know to compare two traces."""
        ...

    def judge(self, prompt: str, anchor: Image.Image, picture: Image.Image) -> Verdict:
        """The verdict on one picture."""
        ...


@dataclass(frozen=True, slots=True)
class Sample:
    """One question of a benchmark. `answer` is the right choice's text; `kind` what it is reported under; `groups` further ones that cut across.

    An open question has no choices. Where the right answer is kept by the data set's makers, `answer` is empty: such a question is never right.
    """

    id: str
    video: Path
    question: str
    choices: tuple[str, ...]
    answer: str
    kind: str
    groups: tuple[str, ...] = ()
    reasoning: str | None = None
    """A person's reasoning to the answer, where the data set has one. No model that is evaluated sees it."""
    licence: str | None = None
    """Under which it may be used, where the data set says so of each question."""
    evidence_seconds: tuple[float, float] | None = None
    """From when to when the video shows what answers it, where the data set says so. No model sees it."""


class Benchmark(Protocol):
    """A data set with a scoring rule. It knows no model."""

    @property
    def name(self) -> str:
        """The benchmark's name in reports."""
        ...

    def samples(self) -> Iterable[Sample]:
        """The questions, in an order that is always the same."""
        ...

    def is_right(self, sample: Sample, trace: Trace) -> bool | None:
        """Whether the trace answers the sample rightly; None when it gives no answer that can be scored. Raises `JudgeError`."""
        ...


@runtime_checkable
class ChainedBenchmark(Protocol):
    """A benchmark some of whose questions quote what was answered to an earlier one, which stands before them in the same video's questions."""

    def after(self, sample: Sample) -> str | None:
        """The id of the question whose answer this one quotes; None where it quotes none."""
        ...

    def given_answer(self, sample: Sample, trace: Trace | None) -> Sample:
        """The question with what was answered in that trace, None where there is none."""
        ...


# Optional abilities. An object has one if it has the member: implement it, and nothing needs to be registered.


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
class IndexingRetriever(Protocol):
    """A retriever that can index a video before the first query."""

    def index(self, video: "Video") -> object:
        """Build the video's index, unless it exists."""
        ...


def is_concurrent(backend: Backend) -> bool:
    """Whether several threads may call the backend at once: False unless it says so."""
    return isinstance(backend, ConcurrentBackend) and bool(backend.concurrent)


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
