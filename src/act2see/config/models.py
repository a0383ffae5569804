"""Options of retrieval, image generation and models, shared by the commands."""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from cyclopts import Group, Parameter
from cyclopts.validators import Number

from act2see.config.checks import Checked, check_preset
from act2see.config.presets import Preset

# Every number has two bounds. This rejects NaN, infinity and values that overflow a timer, a counter or a random number generator.
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
Kinds = Annotated[
    tuple[Literal["static", "transient", "hypothetical", "order", "flashes", "digit"], ...], Parameter(consume_multiple=True, negative_iterable=())
]


def _refuse_tiny(kind: object, temperature: object) -> None:
    """Reject temperatures so small that logits divided by them overflow float32."""
    if isinstance(temperature, float) and 0 < temperature < 1e-3:
        raise ValueError("Must be 0 (greedy), or at least 0.001.")


ToolName = Literal["retrieve", "generate", "clip", "zoom"]
"""As `chat.Tool`, which would make the help wait for Pillow."""


def named_tools(names: str) -> tuple[ToolName, ...]:
    """The tools that a text such as `both,clip` names, in their order in the prompt; `+` joins as a comma does, for lists that end at commas.

    Raises `ValueError`.
    """
    known: tuple[ToolName, ...] = get_args(ToolName)
    given = [name.strip() for name in names.replace("+", ",").split(",")]
    if given == ["none"]:
        return ()
    if not set(given) <= {*known, "both"} or len(set(given)) < len(given):
        raise ValueError(f"Must be none, or some of both, {', '.join(known)}, each once, joined by commas, as in both,clip.")
    return tuple(tool for tool in known if tool in given or ("both" in given and tool in ("retrieve", "generate")))


def _refuse_other_tools(kind: object, names: object) -> None:
    if isinstance(names, str):
        named_tools(names)


QUESTIONS, MODELS, LOOKS, WORDS, WRITES, LOCAL, SERVER, RUNS, RAY, OPTIONS = (
    Group(title, sort_key=number)
    for number, title in enumerate(
        (
            "Questions",
            "Models and tools",
            "Frames and looks",
            "What is said and written",
            "Decoding",
            "Local models",
            "Servers",
            "Run",
            "On a Ray cluster",
            "Options of a benchmark or a generator",
        ),
        start=1,
    )
)
"""`OPTIONS` are given as `-o key=value`."""


@dataclass(frozen=True, slots=True)
class WordsConfig(Checked):
    """Where the words of a video come from: what is said, and what is written on the screen."""

    words_from: Annotated[
        tuple[Literal["subtitles", "speech", "screen"], ...], Parameter(group=WORDS, consume_multiple=True, negative_iterable=())
    ] = ()
    """Sources: subtitles, speech, screen. Default: subtitles, or speech if there are none and a model is given; and screen with act2see[text]."""
    speech_model: Annotated[Path | None, Parameter(group=WORDS)] = None
    """Folder of a Whisper model in the format of faster-whisper (needs act2see[speech])."""
    screen_fps: Annotated[Rate, Parameter(group=WORDS)] = 1.0
    """Frames per second that are searched for text on the screen (1 is our choice); unchanged ones are not read again."""


@dataclass(frozen=True, slots=True)
class IndexedConfig(WordsConfig):
    """How a video's frames are indexed. Equal settings share an index in the cache."""

    retriever: Annotated[str, Parameter(group=MODELS)] = "micro"
    """Frame retriever: micro (embedded), siglip:DIR, clip:DIR, blip2:DIR (BLIP-2 is the paper's), embedding:DIR, words, words+RETRIEVER, none, or
    package.module:Class."""
    retrieve_fps: Annotated[Rate, Parameter(group=LOOKS)] = 3.0
    """Frames per second that the retriever indexes (3 in the paper)."""
    skip_duplicates: Annotated[bool, Parameter(group=LOOKS)] = False
    """Skip frames that look like the previous one: faster on slides and screen recordings, but misses small changes."""
    keyframes_first: Annotated[bool, Parameter(group=LOOKS)] = False
    """Index keyframes only, then refine around the best ones at each query: faster on long videos, but misses short events."""
    device: Annotated[str, Parameter(group=LOCAL)] = "auto"
    """Device for local models: auto, cpu, cuda, cuda:1, mps."""
    dtype: Annotated[Literal["auto", "float32", "bfloat16", "float16"], Parameter(group=LOCAL)] = "auto"
    """Data type of local models; auto is float32 on a CPU."""


@dataclass(frozen=True, slots=True)
class SearchConfig(IndexedConfig):
    """Frame retrieval. Third-party retrievers and encoders are constructed from this config or from one that extends it."""

    select: Annotated[Literal["grounding", "middle", "argmax", "top_k", "uniform", "random"], Parameter(group=LOOKS)] = "grounding"
    """How to select frames by score: grounding (the best frame of a segment), middle (the segment's middle frame; the paper's), argmax or top_k;
    uniform and random are baselines."""
    cache: Annotated[bool, Parameter(group=LOOKS)] = True
    """Cache frame indexes on disk for later calls."""
    seed: Annotated[Seed | None, Parameter(group=WRITES)] = None
    """Random seed; if not given, local models use 0 and servers receive none."""
    force: Annotated[bool, Parameter(group=MODELS, negative="")] = False
    """Run the embedded models outside their domain (real videos, open questions); the trace carries a warning."""


@dataclass(frozen=True, slots=True)
class ImagineConfig(SearchConfig):
    """Image generation and verification. Third-party generators are constructed from this config or from one that extends it."""

    generator: Annotated[str, Parameter(group=MODELS)] = "auto"
    """Image generator: micro (embedded), diffusers:MODEL (sd3.5-large is the paper's), openai:MODEL, none, package.module:Class; auto is micro beside
    the embedded backend."""
    generator_url: Annotated[str | None, Parameter(group=SERVER)] = None
    """Address of the image server for --generator openai:MODEL; --base-url is for the reasoning model."""
    answer_seconds: Annotated[Seconds, Parameter(group=SERVER)] = 3600.0
    """Time limit for one response or picture from a server, retries and backoff included."""
    strengths: Annotated[tuple[float, ...], Parameter(validator=Number(gt=0, lte=1), group=OPTIONS, consume_multiple=True, negative_iterable=())] = ()
    """Image-to-image strengths to try, weakest first (0 to 1); the model's defaults if not given. The paper states none."""
    tries: Annotated[Positive, Parameter(group=OPTIONS)] = 2
    """Seeds to try before generation fails with an error to the model."""
    judge: Annotated[str, Parameter(group=OPTIONS)] = "auto"
    """Image verifier: encoder (the retriever's), a VLM (micro, huggingface:DIR, vllm:DIR, openai:MODEL), or none (the paper reports no check); for
    auto see docs/generators.md."""
    margin: Annotated[Finite, Parameter(group=OPTIONS)] = 0.0
    """Minimum gain in prompt similarity of a picture over its anchor, in the encoder's units."""
    floor: Annotated[Cosine, Parameter(group=OPTIONS)] = 0.0
    """Minimum cosine similarity between a picture and its anchor."""
    memory: Annotated[Literal["auto", "none", "model-offload", "group-offload", "nf4"], Parameter(group=OPTIONS)] = "auto"
    """Memory mode of a large generator: none (all on the device), CPU offload by model or by group, or 4-bit weights; auto decides by free memory."""


@dataclass(frozen=True, slots=True)
class ModelConfig(ImagineConfig):
    """Models and sampling, shared by every command that runs a model. Third-party backends are constructed from it."""

    backend: Annotated[str, Parameter(group=MODELS)] = "micro"
    """Reasoning model: micro (embedded; knows only the synthetic world), huggingface:DIR, vllm:DIR, openai:MODEL, or package.module:Class. The
    paper's base is huggingface:Qwen/Qwen3-VL-8B-Thinking."""

    fps: Annotated[Rate, Parameter(group=LOOKS)] = 1.0
    """Initial frames per second (1 in the paper)."""
    max_frames: Annotated[Positive | None, Parameter(group=LOOKS)] = None
    """Maximum number of initial frames, evenly spaced; default: what a local model's context holds, or 128 minus the looks for a server.
    The paper states 3 for VideoEspresso."""
    max_looks: Annotated[Count, Parameter(group=LOOKS)] = 3
    """Maximum number of looks, i.e. tool calls that return a frame (1 in the paper; 3 is our choice)."""
    tools: Annotated[str, Parameter(group=LOOKS, validator=_refuse_other_tools)] = "both"
    """Tools to offer, joined by commas: retrieve, generate, both (the paper's), clip (frames by time), zoom (into a frame); or none."""
    insert: Annotated[Count, Parameter(group=LOOKS)] = 0
    """Retrieved frames to add to the initial ones before reasoning (as ViTCoT does; with --tools none the model sees no others)."""
    budget_seconds: Annotated[NotNegative | None, Parameter(group=LOOKS)] = None
    """Seconds per answer after which no more frames are returned; the model answers from what it has seen."""
    budget_frames: Annotated[Positive | None, Parameter(group=LOOKS)] = None
    """Frames per answer, initial ones included, after which no more frames are returned."""
    rendering: Annotated[Literal["auto", "same_turn", "user_turn", "tool_turn"], Parameter(group=LOOKS)] = "auto"
    """Where to insert frames: the assistant's own turn (the paper's), a user turn or a tool turn; auto is the backend's choice."""
    frames_as: Annotated[Literal["auto", "images", "video"], Parameter(group=LOOKS)] = "auto"
    """How to pass the initial frames: as images or as the model's native video; auto is the backend's choice."""
    transcript: Annotated[Literal["off", "question", "tool"], Parameter(group=WORDS)] = "off"
    """Show the model what is said and written: off (the paper's), question (around the initial frames), or tool (around each retrieved frame)."""

    max_tokens: Annotated[Positive | None, Parameter(group=WRITES)] = None
    """Maximum number of tokens between two looks; the backend's limit if not given."""
    temperature: Annotated[float | None, Parameter(validator=(Number(gte=0, lte=100), _refuse_tiny), group=WRITES)] = None
    """Sampling temperature, 0 for greedy; the backend's default if not given (the embedded model decodes greedily)."""
    top_p: Annotated[Share | None, Parameter(group=WRITES)] = None
    """Nucleus sampling: sample from the most likely tokens whose probabilities sum to this value."""
    top_k: Annotated[Positive | None, Parameter(group=WRITES)] = None
    """Sample from this many of the most likely tokens."""
    greedy: Annotated[bool, Parameter(group=WRITES)] = False
    """Greedy decoding; ignores temperature, top-p and top-k."""

    adapter: Annotated[Path | None, Parameter(group=LOCAL)] = None
    """Folder of a LoRA adapter for the reasoning model."""
    tensor_parallel: Annotated[Positive, Parameter(group=LOCAL)] = 1
    """GPUs that the engine of vllm:DIR is spread over."""
    context_length: Annotated[Positive | None, Parameter(group=LOCAL)] = None
    """Context length of vllm:DIR in tokens; as long as model and memory allow if not given."""
    memory_share: Annotated[Share | None, Parameter(group=LOCAL)] = None
    """Share of each GPU's memory for vllm:DIR; vLLM's default (0.9 or so) if not given."""

    base_url: Annotated[str | None, Parameter(group=SERVER)] = None
    """Server address, such as http://127.0.0.1:8000/v1. The API key is read from OPENAI_API_KEY only."""
    opening: Annotated[str, Parameter(group=SERVER)] = ""
    """Prefix that the chat template adds to the assistant's turn; for same_turn only."""
    timeout_seconds: Annotated[Seconds, Parameter(group=SERVER)] = 300.0
    """Read timeout: the longest wait for the next bytes of a response."""
    answer_characters: Annotated[Positive | None, Parameter(group=SERVER)] = None
    """Maximum length of one response, for servers that ignore max-tokens; 40 characters per token if not given."""
    retries: Annotated[Count, Parameter(group=SERVER)] = 3
    """Retries of a request after a broken connection, a 429 or a 5xx."""
    image_format: Annotated[Literal["auto", "png", "jpeg"], Parameter(group=SERVER)] = "auto"
    """Image format for frames sent to a server; auto is lossless for small frames."""
    send_stop: Annotated[bool, Parameter(group=SERVER)] = True
    """Send stop strings; turn off for servers that reject them."""
    max_tokens_field: Annotated[Literal["max_completion_tokens", "max_tokens"], Parameter(group=SERVER)] = "max_completion_tokens"
    """Name of the request field that limits tokens."""

    preset: Annotated[Preset | None, Parameter(group=MODELS)] = None
    """Settings of a publication, where no flag or settings file says otherwise: paper (arXiv 2605.01657: TFVTG over BLIP-2 at 3 fps, the middle frame
    of a segment, one look, SD 3.5 Large without a check). docs/paper.md lists each value with its source. In Python, see `with_preset`."""

    def __post_init__(self) -> None:
        Checked.__post_init__(self)
        check_preset(self.preset, self)


_RECORDED_IF_GIVEN = {
    "force": False,
    "max_frames": None,
    "words_from": (),
    "speech_model": None,
    "screen_fps": 1.0,
    "transcript": "off",
    "preset": None,
    "tensor_parallel": 1,
    "context_length": None,
    "memory_share": None,
}


def recorded(settings: ModelConfig, leave_out: Collection[str]) -> dict[str, Any]:
    """The settings recorded with a run, without `leave_out`: those that only name output locations.

    Options that are younger than the format are recorded only if given, so that runs started before they existed can be resumed.
    """
    left_out = {*leave_out, *(name for name, default in _RECORDED_IF_GIVEN.items() if getattr(settings, name) == default)}
    return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(settings).items() if name not in left_out}
