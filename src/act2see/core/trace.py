"""The values that everything else passes around: frames, steps, and the trace that holds them."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from PIL import Image


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a generated frame came from. `anchor_seconds` is the time of the real frame that it was made from."""

    prompt: str
    anchor_seconds: float | None
    model: str
    seed: int
    strength: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    unverified: str | None = None
    """Why the judge that there was could not check the picture; None where it did, and where there was none."""


@dataclass(frozen=True, slots=True)
class Match:
    """How a retriever came to choose a frame."""

    frame_index: int
    """Which frame of the video it is, in order of presentation, from 0."""
    span_seconds: tuple[float, float] | None = None
    """The stretch of the video that fits the query best, where the retriever looks for one."""
    runners_up: tuple[tuple[float, float], ...] = ()
    """Seconds and score of the next best frames, best first."""
    is_fallback: bool = False
    """Its score does not pass the retriever's threshold: this is merely the best of what was left to show."""
    curve: tuple[tuple[float, float], ...] = ()
    """Seconds and score over the whole video, in order of time: of a long one, the best of each of a few hundred stretches."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One RGB picture. `seconds` is its presentation time since the first frame of the video; None means that it was never in the video."""

    image: Image.Image
    seconds: float | None
    score: float | None = None
    """The retriever's score, in the retriever's own units; None for a frame that nobody searched for."""
    provenance: Provenance | None = None
    """Set for generated frames only."""
    match: Match | None = None
    """What else the retriever tells about its choice; None where it tells nothing."""

    def __post_init__(self) -> None:
        if self.provenance is not None and self.seconds is not None:
            raise ValueError("a generated frame has no time in the video: give seconds=None")


@dataclass(frozen=True, slots=True)
class Thought:
    """The model's own words outside calls and answer, exactly as written (`<think>` marks included)."""

    text: str


@dataclass(frozen=True, slots=True)
class Retrieve:
    """A wish to see a real frame. `query` is the text between the tags exactly as written; tools read it stripped."""

    query: str


@dataclass(frozen=True, slots=True)
class Generate:
    """A wish to see something that never happened. `prompt` is the text between the tags exactly as written."""

    prompt: str


@dataclass(frozen=True, slots=True)
class Observation:
    """What a call brought: frames, or an error that the model reads. Exactly one of the two is there."""

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
"""Why a trace ended: an answer; the model ended its turn without one; it used up its length; too many calls in a row failed."""


WITHIN_ANOTHER = ("first_token",)
"""Stages of a cost that are a part of another stage."""


@dataclass(slots=True)
class Cost:
    """What a trace cost so far. Tokens are the backend's own count; `seconds` is wall time by stage."""

    tokens_in: int = 0
    """Prompt tokens, those reused from a cache included."""
    tokens_out: int = 0
    tokens_reused: int = 0
    """Prompt tokens that came from a cache instead of being computed again."""
    seconds: dict[str, float] = field(default_factory=dict)
    """`first_token`, where a server streams, is a part of `decode`; all others follow each other."""
    dollars: float | None = None
    """None where the price is not known."""

    @property
    def total_seconds(self) -> float:
        """Wall time of all stages, none counted twice."""
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


@dataclass(slots=True)
class Trace:
    """One question about one video and everything that was thought, seen and answered: the only state of a rollout.

    `steps` only ever grows, so a trace cut off at any step is valid and can be continued.
    """

    id: str
    video: str
    question: str
    frames: tuple[Frame, ...]
    """The initial frames, in order of time."""
    choices: tuple[str, ...] = ()
    duration_seconds: float | None = None
    steps: list[Step] = field(default_factory=list)
    finish: Finish | None = None
    """None while the trace can still be continued."""
    cost: Cost = field(default_factory=Cost)
    made_with: dict[str, str] = field(default_factory=dict)
    """How it was made, by name: backend, rendering, frames_as, retriever, … Enough to know whether two traces can be compared."""

    @property
    def answer(self) -> str | None:
        """The answer's text without surrounding space, or None. Never a guess."""
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
