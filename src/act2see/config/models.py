"""What everything that finds frames, makes pictures and asks a model can be told."""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter
from cyclopts.validators import Number

# Every number has two bounds: what is infinite or no number is refused, and so is what no clock, counter or generator of random numbers takes.
MOST = 1_000_000_000
_LONGEST_SECONDS = 1e6
Rate = Annotated[float, Parameter(validator=Number(gte=1e-4, lte=1000))]
Seconds = Annotated[float, Parameter(validator=Number(gt=0, lte=_LONGEST_SECONDS))]
Count = Annotated[int, Parameter(validator=Number(gte=0, lte=MOST))]
Positive = Annotated[int, Parameter(validator=Number(gte=1, lte=MOST))]
Share = Annotated[float, Parameter(validator=Number(gt=0, lte=1))]
Cosine = Annotated[float, Parameter(validator=Number(gte=-1, lte=1))]
Finite = Annotated[float, Parameter(validator=Number(gte=-MOST, lte=MOST))]
NotNegative = Annotated[float, Parameter(validator=Number(gte=0, lte=MOST))]
Seed = Annotated[int, Parameter(validator=Number(gte=0, lt=2**63))]
LearningRate = Annotated[float, Parameter(validator=Number(gt=0, lte=1))]
Words = Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative_iterable=())]
Kinds = Annotated[tuple[Literal["static", "transient", "hypothetical"], ...], Parameter(consume_multiple=True, negative_iterable=())]


def _refuse_tiny(kind: object, temperature: object) -> None:
    """A number by which float32 cannot divide is no temperature."""
    if isinstance(temperature, float) and 0 < temperature < 1e-3:
        raise ValueError("Must be 0 (greedy), or at least 0.001.")


LOOKS, WRITES, LOCAL, SERVER = (
    Group(title, sort_key=number) for number, title in enumerate(("What it sees", "How it writes", "Local models", "Servers"), start=1)
)


@dataclass(frozen=True, slots=True)
class IndexedConfig:
    """What a video's frames are encoded with, and which of them. Equal settings share an index in the cache."""

    retriever: str = "micro"
    """What finds frames by a text: micro (embedded), siglip:DIR, clip:DIR, blip2:DIR, embedding:DIR, none, or package.module:Class."""
    retrieve_fps: Annotated[Rate, Parameter(group=LOOKS)] = 3.0
    """Frames a second that the retriever looks through (3 in the paper)."""
    skip_duplicates: Annotated[bool, Parameter(group=LOOKS)] = False
    """Do not encode a frame that looks like the one before it: faster on slides and screens, but small changes are missed."""
    keyframes_first: Annotated[bool, Parameter(group=LOOKS)] = False
    """Encode the video's keyframes only, and more at each query about the best of them: faster on long videos, but short events are missed."""
    device: Annotated[str, Parameter(group=LOCAL)] = "auto"
    """Where local models run: auto, cpu, cuda, cuda:1, mps."""
    dtype: Annotated[Literal["auto", "float32", "bfloat16", "float16"], Parameter(group=LOCAL)] = "auto"
    """Their number format."""


@dataclass(frozen=True, slots=True)
class SearchConfig(IndexedConfig):
    """How frames are found by a text. Retrievers and encoders of third parties are made from it, or from one of the configs that extend it."""

    select: Annotated[Literal["grounding", "argmax", "top_k", "uniform", "random"], Parameter(group=LOOKS)] = "grounding"
    """How frames are chosen by their scores: grounding (the paper's), argmax, top_k, or for comparison uniform and random."""
    cache: Annotated[bool, Parameter(group=LOOKS)] = True
    """Keep what is computed of a video in the cache, for the next time."""
    seed: Seed | None = None
    """Seed of everything that is drawn. If not given, 0 here, and none is sent to a server."""
    force: Annotated[bool, Parameter(negative="")] = False
    """Ask the embedded models what they do not know all the same (videos that are not synthetic, open questions); the trace warns of it."""


@dataclass(frozen=True, slots=True)
class ImagineConfig(SearchConfig):
    """How pictures of what never happened are made and checked. Generators of third parties are made from it, or from a config that extends it."""

    generator: str = "auto"
    """Image generator: micro (embedded), diffusers:MODEL, openai:MODEL, none, package.module:Class; auto is micro beside the embedded backend."""
    generator_url: Annotated[str | None, Parameter(group=SERVER)] = None
    """Address of the server that openai:MODEL paints on, as base-url is for the model that reasons."""
    answer_seconds: Annotated[Seconds, Parameter(group=SERVER)] = 3600.0
    """Time for one whole answer or picture of a server, all tries and pauses included."""
    strengths: Annotated[tuple[float, ...], Parameter(validator=Number(gt=0, lte=1), group=LOOKS, consume_multiple=True, negative_iterable=())] = ()
    """Strengths that an image-to-image model tries, from the weakest (0 to 1); the model's own if not given."""
    tries: Annotated[Positive, Parameter(group=LOOKS)] = 2
    """Seeds that are tried before the model is told that no faithful picture could be made."""
    judge: Annotated[str, Parameter(group=LOOKS)] = "auto"
    """What checks each picture: encoder (the retriever's), a model that is asked (micro, huggingface:DIR, openai:MODEL), none; auto: see docs."""
    margin: Annotated[Finite, Parameter(group=LOOKS)] = 0.0
    """By how much a picture must fit the prompt better than its anchor, in the encoder's units."""
    floor: Annotated[Cosine, Parameter(group=LOOKS)] = 0.0
    """How alike picture and anchor must be at least, as a cosine."""
    memory: Annotated[Literal["auto", "none", "model-offload", "group-offload", "nf4"], Parameter(group=LOCAL)] = "auto"
    """How a large generator fits: whole, a part at a time, a few layers at a time, or with 4-bit weights; auto looks at what is free."""


@dataclass(frozen=True, slots=True)
class ModelConfig(ImagineConfig):
    """Which models look and think, and how. Everything that asks a model shares it, and backends of third parties are made from it."""

    backend: str = "micro"
    """The model that reasons: micro (embedded; knows only the synthetic world), huggingface:DIR, openai:MODEL, or package.module:Class."""

    fps: Annotated[Rate, Parameter(group=LOOKS)] = 1.0
    """Initial frames a second (1 in the paper)."""
    max_frames: Annotated[Positive | None, Parameter(group=LOOKS)] = None
    """Initial frames at most, evenly spread over the video; if not given, what a local model's context holds, 128 less the looks for a server."""
    max_looks: Annotated[Count, Parameter(group=LOOKS)] = 3
    """How many frames the model may ask for (1 in the paper; 3 is our choice)."""
    tools: Annotated[Literal["both", "retrieve", "generate", "none"], Parameter(group=LOOKS)] = "both"
    """Which of the two ways to see more the model is told of, where there is a retriever and a generator."""
    insert: Annotated[Count, Parameter(group=LOOKS)] = 0
    """So many frames that fit the question are put among the initial ones unasked (ViTCoT's way; with --tools none, nothing else)."""
    budget_seconds: Annotated[NotNegative | None, Parameter(group=LOOKS)] = None
    """After so many seconds for one answer nothing more is brought, and the model answers from what it has seen."""
    budget_frames: Annotated[Positive | None, Parameter(group=LOOKS)] = None
    """The same, after so many frames, the initial ones included."""
    rendering: Annotated[Literal["auto", "same_turn", "user_turn", "tool_turn"], Parameter(group=LOOKS)] = "auto"
    """Where an inserted frame stands: in the assistant's own turn (the paper's), the user's or the tool's; auto is the backend's choice."""
    frames_as: Annotated[Literal["auto", "images", "video"], Parameter(group=LOOKS)] = "auto"
    """How the initial frames go in: as images, or as the model's native video; auto is the backend's choice."""

    max_tokens: Annotated[Positive | None, Parameter(group=WRITES)] = None
    """How many tokens it may write between two looks; the backend's own limit if not given."""
    temperature: Annotated[float | None, Parameter(validator=(Number(gte=0, lte=100), _refuse_tiny), group=WRITES)] = None
    """Sampling temperature, 0 for greedy; the backend's own if not given (the embedded model decodes greedily)."""
    top_p: Annotated[Share | None, Parameter(group=WRITES)] = None
    """Sample from the likeliest tokens that together have this probability."""
    top_k: Annotated[Positive | None, Parameter(group=WRITES)] = None
    """Sample from this many of the likeliest tokens."""
    greedy: Annotated[bool, Parameter(group=WRITES)] = False
    """Always take the likeliest token; temperature, top-p and top-k are then not read."""

    adapter: Annotated[Path | None, Parameter(group=LOCAL)] = None
    """Folder of a LoRA adapter for the model that reasons."""

    base_url: Annotated[str | None, Parameter(group=SERVER)] = None
    """Address, such as http://127.0.0.1:8000/v1. The key is read from the environment's OPENAI_API_KEY only."""
    opening: Annotated[str, Parameter(group=SERVER)] = ""
    """What the chat template puts at the start of the assistant's turn; for same_turn only."""
    timeout_seconds: Annotated[Seconds, Parameter(group=SERVER)] = 300.0
    """The longest wait for the next bytes of an answer."""
    answer_characters: Annotated[Positive | None, Parameter(group=SERVER)] = None
    """The longest text of one answer, for servers that do not keep max-tokens; 40 for each of them if not given."""
    retries: Annotated[Count, Parameter(group=SERVER)] = 3
    """How often a request is sent again after a broken connection, a 429 or a 5xx."""
    image_format: Annotated[Literal["auto", "png", "jpeg"], Parameter(group=SERVER)] = "auto"
    """How frames are sent; auto is without loss for small ones."""
    send_stop: Annotated[bool, Parameter(group=SERVER)] = True
    """Off for servers that refuse stop strings."""
    max_tokens_field: Annotated[Literal["max_completion_tokens", "max_tokens"], Parameter(group=SERVER)] = "max_completion_tokens"
    """The name by which the server knows the limit on tokens."""


def recorded(settings: ModelConfig, leave_out: Collection[str]) -> dict[str, Any]:
    """The settings as a run keeps them, without those that only say where results go.

    `force` and `max_frames` stand in it only where they are given, so that runs which were begun before there were any can go on.
    """
    left_out = {*leave_out, *(() if settings.force else ("force",)), *(() if settings.max_frames is not None else ("max_frames",))}
    return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(settings).items() if name not in left_out}
