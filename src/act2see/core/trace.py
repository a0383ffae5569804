"""The data model: frames, steps, and the trace that contains them."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from PIL import Image

from act2see.core import flops
from act2see.core.flops import Flops


@dataclass(frozen=True, slots=True)
class Provenance:
    """Origin of a generated frame. `anchor_seconds` is the time of the real frame that it was generated from."""

    prompt: str
    anchor_seconds: float | None
    model: str
    seed: int
    strength: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    unverified: str | None = None
    """Why the judge could not check the picture; None if it did, or if there was no judge."""


@dataclass(frozen=True, slots=True)
class Line:
    """What is said or written in a video from `start_seconds` to `stop_seconds`: a subtitle, or words that a machine heard or read."""

    start_seconds: float
    stop_seconds: float
    text: str
    """One line of plain text, untrusted: it may say anything."""
    source: str = "subtitles"
    """Where it was found, such as `subtitles:talk.srt`, `speech:tiny.en` or `screen:rapidocr`."""


@dataclass(frozen=True, slots=True)
class Match:
    """Why a retriever chose a frame."""

    frame_index: int
    """Index of the frame in the video, in presentation order, from 0."""
    span_seconds: tuple[float, float] | None = None
    """Start and end of the best matching span, in seconds, if the retriever searches for spans."""
    runners_up: tuple[tuple[float, float], ...] = ()
    """Seconds and score of the next best frames, best first."""
    is_fallback: bool = False
    """Whether the score is below the retriever's threshold: the best remaining frame, but no match."""
    curve: tuple[tuple[float, float], ...] = ()
    """Seconds and score over the whole video, in time order; for a long one, the maxima of a few hundred intervals."""
    line: Line | None = None
    """What is said or written there, if the choice rests on that."""


Box = tuple[float, float, float, float]
"""A part of a picture: left, top, right and bottom as fractions of its width and height, from 0 to 1."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One RGB picture. `seconds` is its presentation time on the player's clock; None for a generated picture."""

    image: Image.Image
    seconds: float | None
    score: float | None = None
    """The retriever's score, in its own units; None for a frame that was not retrieved."""
    provenance: Provenance | None = None
    """Set for generated frames only."""
    match: Match | None = None
    """Details of the retriever's choice, if it reports any."""
    box: Box | None = None
    """The part of the video's picture that it shows; None for all of it."""
    lines: tuple[Line, ...] = ()
    """What is said or written around its time, where the model is shown that."""

    def __post_init__(self) -> None:
        if self.provenance is not None and self.seconds is not None:
            raise ValueError("a generated frame has no time in the video: give seconds=None")
        if self.box is not None and not (0 <= self.box[0] < self.box[2] <= 1 and 0 <= self.box[1] < self.box[3] <= 1):
            raise ValueError(f"the box {self.box} is no part of a picture: give left < right and top < bottom, from 0 to 1")


@dataclass(frozen=True, slots=True)
class Thought:
    """The model's own words outside calls and answer, exactly as written (`<think>` marks included)."""

    text: str


@dataclass(frozen=True, slots=True)
class Retrieve:
    """A call for a real frame. `query` is the text between the tags exactly as written; tools strip it."""

    query: str


@dataclass(frozen=True, slots=True)
class Generate:
    """A call for a generated picture. `prompt` is the text between the tags exactly as written; tools strip it."""

    prompt: str


@dataclass(frozen=True, slots=True)
class Observation:
    """The result of a call: either frames, or an error that the model reads."""

    frames: tuple[Frame, ...] = ()
    error: str | None = None

    def __post_init__(self) -> None:
        if bool(self.frames) == (self.error is not None):
            raise ValueError("an observation holds frames or an error, not both and not neither")


@dataclass(frozen=True, slots=True)
class Answer:
    """The text between `<answer>` and `</answer>`, exactly as written."""

    text: str


Call = Retrieve | Generate
Step = Thought | Retrieve | Generate | Observation | Answer

Finish = Literal["answer", "end", "length", "errors"]
"""Why a trace ended: an answer, the end of the turn without one, the token limit, or too many failed calls in a row."""


WITHIN_ANOTHER = ("first_token",)
"""Stages that are contained in another stage."""


@dataclass(slots=True)
class Cost:
    """The cost of a trace so far. Tokens are counted by the backend; `seconds` is wall time by stage."""

    tokens_in: int = 0
    """Prompt tokens, including those reused from a cache."""
    tokens_out: int = 0
    tokens_reused: int = 0
    """Prompt tokens reused from a cache."""
    seconds: dict[str, float] = field(default_factory=dict)
    """`first_token`, reported by streaming servers, is part of `decode`; all other stages are disjoint."""
    dollars: float | None = None
    """None if the price is unknown."""
    flops: Flops = field(default_factory=dict)
    """FLOPs by part: vision, prefill and decode of the backend, retriever, generator and its judge; None for a part whose FLOPs are unknown. A
    backend whose FLOPs are unknown, such as a server, reports none. See `act2see.core.flops`."""

    @property
    def total_flops(self) -> float | None:
        """FLOPs of all parts; None unless all of them are known."""
        return flops.total(self.flops)

    @property
    def total_seconds(self) -> float:
        """Wall time of all stages, without `WITHIN_ANOTHER`."""
        return sum(seconds for stage, seconds in self.seconds.items() if stage not in WITHIN_ANOTHER)

    def add(self, other: "Cost") -> None:
        """Add another cost to this one."""
        self.tokens_in += other.tokens_in
        self.tokens_out += other.tokens_out
        self.tokens_reused += other.tokens_reused
        for stage, seconds in other.seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
        if other.dollars is not None:
            self.dollars = (self.dollars or 0.0) + other.dollars
        flops.add(self.flops, other.flops)


@dataclass(slots=True)
class Trace:
    """One question about one video, with all steps up to the answer: the whole state of a rollout.

    `steps` is append-only: a trace interrupted after any step is valid and can be resumed.
    """

    id: str
    video: str
    question: str
    frames: tuple[Frame, ...]
    """The initial frames, in time order."""
    choices: tuple[str, ...] = ()
    duration_seconds: float | None = None
    steps: list[Step] = field(default_factory=list)
    finish: Finish | None = None
    """Why the trace ended; None while it can be continued."""
    cost: Cost = field(default_factory=Cost)
    made_with: dict[str, str] = field(default_factory=dict)
    """Run metadata: backend, rendering, frames_as, retriever, … Two traces are comparable if it is equal."""
    lines: tuple[Line, ...] = ()
    """What is said or written around the initial frames, where the model is shown that; in time order."""

    @property
    def answer(self) -> str | None:
        """The answer's text, stripped; None if the trace has no answer."""
        last = self.steps[-1] if self.steps else None
        return last.text.strip() if isinstance(last, Answer) else None

    @property
    def calls(self) -> tuple[Retrieve | Generate, ...]:
        """All tool calls, in order."""
        return tuple(step for step in self.steps if isinstance(step, Retrieve | Generate))

    @property
    def observations(self) -> tuple[Observation, ...]:
        """All observations, those with an error included, in order."""
        return tuple(step for step in self.steps if isinstance(step, Observation))

    @property
    def brought_frames(self) -> tuple[Frame, ...]:
        """The frames that looks returned, retrieved and generated, in order."""
        return tuple(frame for observation in self.observations for frame in observation.frames)

    @property
    def all_frames(self) -> tuple[Frame, ...]:
        """The initial frames, then the ones that looks returned."""
        return self.frames + self.brought_frames

    @property
    def looks(self) -> int:
        """Calls that returned a frame."""
        return sum(bool(observation.frames) for observation in self.observations)

    def _repr_html_(self) -> str:
        """The report's component, for notebooks. Loaded by name: the pages stand above this package."""
        html: str = importlib.import_module("act2see.report").trace_html(self)
        return html
