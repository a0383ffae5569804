"""What each command can be told: one frozen dataclass a command, whose fields are its flags, its keys in a TOML file, and its help.

A file's top-level keys hold for every command that has them, those in a table (`[ask]`) for that command alone; a flag on the command line wins.
"""

import difflib
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter
from cyclopts.validators import Number

from act2see.errors import ConfigError

Rate = Annotated[float, Parameter(validator=Number(gt=0, lte=1000))]
Seconds = Annotated[float, Parameter(validator=Number(gt=0))]
Count = Annotated[int, Parameter(validator=Number(gte=0))]
Positive = Annotated[int, Parameter(validator=Number(gte=1))]
Share = Annotated[float, Parameter(validator=Number(gt=0, lte=1))]
NotNegative = Annotated[float, Parameter(validator=Number(gte=0))]
Words = Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative_iterable=())]
Kinds = Annotated[tuple[Literal["static", "transient", "hypothetical"], ...], Parameter(consume_multiple=True, negative_iterable=())]
SettingsFile = Annotated[
    Path | None, Parameter(help="TOML file with flags' names as keys; if not given, act2see/config.toml in your configuration folder.")
]


_LOOKS, _WRITES, _LOCAL, _SERVER = (
    Group(title, sort_key=number) for number, title in enumerate(("What it sees", "How it writes", "Local models", "Servers"), start=1)
)


@dataclass(frozen=True, slots=True)
class IndexedConfig:
    """What a video's frames are encoded with, and which of them. Equal settings share an index in the cache."""

    retriever: str = "micro"
    """What finds frames by a text: micro (embedded), siglip:DIR, clip:DIR, blip2:DIR, embedding:DIR, none, or package.module:Class."""
    retrieve_fps: Annotated[Rate, Parameter(group=_LOOKS)] = 3.0
    """Frames a second that the retriever looks through (3 in the paper)."""
    skip_duplicates: Annotated[bool, Parameter(group=_LOOKS)] = False
    """Do not encode a frame that looks like the one before it: faster on slides and screens, but small changes are missed."""
    keyframes_first: Annotated[bool, Parameter(group=_LOOKS)] = False
    """Encode the video's keyframes only, and more at each query about the best of them: faster on long videos, but short events are missed."""
    device: Annotated[str, Parameter(group=_LOCAL)] = "auto"
    """Where local models run: auto, cpu, cuda, cuda:1, mps."""
    dtype: Annotated[Literal["auto", "float32", "bfloat16", "float16"], Parameter(group=_LOCAL)] = "auto"
    """Their number format."""


@dataclass(frozen=True, slots=True)
class SearchConfig(IndexedConfig):
    """How frames are found by a text. Retrievers and encoders of third parties are made from it, or from one of the configs that extend it."""

    select: Annotated[Literal["grounding", "argmax", "top_k", "uniform", "random"], Parameter(group=_LOOKS)] = "grounding"
    """How frames are chosen by their scores: grounding (the paper's), argmax, top_k, or for comparison uniform and random."""
    cache: Annotated[bool, Parameter(group=_LOOKS)] = True
    """Keep what is computed of a video in the cache, for the next time."""
    seed: int | None = None
    """Seed of everything that is drawn. If not given, 0 here, and none is sent to a server."""


@dataclass(frozen=True, slots=True)
class ImagineConfig(SearchConfig):
    """How pictures of what never happened are made and checked. Generators of third parties are made from it, or from a config that extends it."""

    generator: str = "auto"
    """What makes them: micro (embedded), diffusers:MODEL, openai:MODEL, none, package.module:Class; auto is micro beside the embedded backend."""
    generator_url: Annotated[str | None, Parameter(group=_SERVER)] = None
    """Address of the server that openai:MODEL paints on, as base-url is for the model that reasons."""
    strengths: Annotated[tuple[float, ...], Parameter(group=_LOOKS, consume_multiple=True, negative_iterable=())] = ()
    """Strengths that an image-to-image model tries, from the weakest (0 to 1); the model's own if not given."""
    tries: Annotated[Positive, Parameter(group=_LOOKS)] = 2
    """Seeds that are tried before the model is told that no faithful picture could be made."""
    judge: Annotated[str, Parameter(group=_LOOKS)] = "auto"
    """What checks each picture: encoder (the retriever's), a model that is asked (micro, huggingface:DIR, openai:MODEL), none; auto: see docs."""
    margin: Annotated[float, Parameter(group=_LOOKS)] = 0.0
    """By how much a picture must fit the prompt better than its anchor, in the encoder's units."""
    floor: Annotated[float, Parameter(group=_LOOKS)] = 0.0
    """How alike picture and anchor must be at least, as a cosine."""
    memory: Annotated[Literal["auto", "none", "model-offload", "group-offload", "nf4"], Parameter(group=_LOCAL)] = "auto"
    """How a large generator fits: whole, a part at a time, a few layers at a time, or with 4-bit weights; auto looks at what is free."""


@dataclass(frozen=True, slots=True)
class ModelConfig(ImagineConfig):
    """Which models look and think, and how. Everything that asks a model shares it, and backends of third parties are made from it."""

    backend: str = "micro"
    """The model that reasons: micro (embedded; knows only the synthetic world), huggingface:DIR, openai:MODEL, or package.module:Class."""

    fps: Annotated[Rate, Parameter(group=_LOOKS)] = 1.0
    """Initial frames a second (1 in the paper)."""
    max_looks: Annotated[Count, Parameter(group=_LOOKS)] = 3
    """How many frames the model may ask for (1 in the paper; 3 is our choice)."""
    tools: Annotated[Literal["both", "retrieve", "generate", "none"], Parameter(group=_LOOKS)] = "both"
    """Which of the two ways to see more the model is told of, where there is a retriever and a generator."""
    insert: Annotated[Count, Parameter(group=_LOOKS)] = 0
    """So many frames that fit the question are put among the initial ones unasked (ViTCoT's way; with --tools none, nothing else)."""
    budget_seconds: Annotated[NotNegative | None, Parameter(group=_LOOKS)] = None
    """After so many seconds for one answer nothing more is brought, and the model answers from what it has seen."""
    budget_frames: Annotated[Positive | None, Parameter(group=_LOOKS)] = None
    """The same, after so many frames, the initial ones included."""
    rendering: Annotated[Literal["auto", "same_turn", "user_turn", "tool_turn"], Parameter(group=_LOOKS)] = "auto"
    """Where an inserted frame stands: in the assistant's own turn (the paper's), the user's or the tool's; auto is the backend's choice."""
    frames_as: Annotated[Literal["auto", "images", "video"], Parameter(group=_LOOKS)] = "auto"
    """How the initial frames go in: as images, or as the model's native video; auto is the backend's choice."""

    max_tokens: Annotated[Positive | None, Parameter(group=_WRITES)] = None
    """How many tokens it may write between two looks; the backend's own limit if not given."""
    temperature: Annotated[NotNegative | None, Parameter(group=_WRITES)] = None
    """Sampling temperature, 0 for greedy; the backend's own if not given (the embedded model decodes greedily)."""
    top_p: Annotated[Share | None, Parameter(group=_WRITES)] = None
    """Sample from the likeliest tokens that together have this probability."""
    top_k: Annotated[Positive | None, Parameter(group=_WRITES)] = None
    """Sample from this many of the likeliest tokens."""
    greedy: Annotated[bool, Parameter(group=_WRITES)] = False
    """Always take the likeliest token; temperature, top-p and top-k are then not read."""

    adapter: Annotated[Path | None, Parameter(group=_LOCAL)] = None
    """Folder of a LoRA adapter for the model that reasons."""

    base_url: Annotated[str | None, Parameter(group=_SERVER)] = None
    """Address, such as http://127.0.0.1:8000/v1. The key is read from the environment's OPENAI_API_KEY only."""
    opening: Annotated[str, Parameter(group=_SERVER)] = ""
    """What the chat template puts at the start of the assistant's turn; for same_turn only."""
    timeout_seconds: Annotated[Seconds, Parameter(group=_SERVER)] = 300.0
    """The longest wait for the next piece of an answer."""
    retries: Annotated[Count, Parameter(group=_SERVER)] = 3
    """How often a request is sent again after a broken connection, a 429 or a 5xx."""
    image_format: Annotated[Literal["auto", "png", "jpeg"], Parameter(group=_SERVER)] = "auto"
    """How frames are sent; auto is without loss for small ones."""
    send_stop: Annotated[bool, Parameter(group=_SERVER)] = True
    """Off for servers that refuse stop strings."""
    max_tokens_field: Annotated[Literal["max_completion_tokens", "max_tokens"], Parameter(group=_SERVER)] = "max_completion_tokens"
    """The name by which the server knows the limit on tokens."""


@dataclass(frozen=True, slots=True)
class AskConfig(ModelConfig):
    """One question about one video."""

    choices: Words = ()
    """Answers to choose from: --choices red green blue, or the flag repeated."""
    save: Path | None = None
    """Append the trace and its frames to this run folder; made if it is not there."""
    report: Path | None = None
    """Write a self-contained HTML report to this file."""
    json: bool = False
    """Print one line of JSON instead of the answer."""


@dataclass(frozen=True, slots=True)
class RetrieveConfig(SearchConfig):
    """Frames of one video by a text, without a model that reasons."""

    top: Positive = 1
    """How many frames, best first."""
    out: Path | None = None
    """Write the frames into this folder, as files named by their time."""
    plot: Path | None = None
    """Draw the scores over time, with the picks marked, into this file (.png, .svg or .pdf)."""
    json: bool = False
    """Print one line of JSON instead of a line a frame."""


@dataclass(frozen=True, slots=True)
class GenerateConfig(ImagineConfig):
    """One picture of what never happened in a video, without a model that reasons."""

    generator: str = "micro"
    """What makes it: micro (embedded), diffusers:MODEL (a preset, a folder or a hub name), openai:MODEL, package.module:Class."""
    at: Annotated[NotNegative | None, Parameter()] = None
    """Seconds of the frame to change; if not given, the frame that the retriever finds for the prompt."""
    out: Path = Path("imagined.png")
    """Where the picture goes; the frame it was made from and both side by side go beside it, as NAME-anchor and NAME-pair."""
    json: bool = False
    """Print one line of JSON."""


@dataclass(frozen=True, slots=True)
class IndexConfig(IndexedConfig):
    """The indexes of videos, made ahead of the first query."""

    json: bool = False
    """Print one line of JSON instead of a line a video."""


@dataclass(frozen=True, slots=True)
class DemoConfig:
    """The bundled clips, answered by the embedded models."""

    report: Path = Path("report.html")
    """Where the HTML report of the most interesting answer goes."""


@dataclass(frozen=True, slots=True)
class EvalConfig(ModelConfig):
    """Many questions, scored."""

    n: Positive | None = None
    """How many questions; all that there are if not given (300 for synthetic)."""
    kind: Kinds = ("static", "transient")
    """Which kinds of questions the synthetic benchmark asks, in turn."""
    data: Path | None = None
    """Folder of a benchmark's downloaded questions and videos, or the file of questions in it: act2see benchmarks tells what to download."""
    subtitles: Annotated[bool, Parameter(negative="")] = False
    """Video-MME: put what is said in the video into the question."""
    answer_judge: str | None = None
    """VCR-Bench: the model that compares open answers, named as a backend is; if not given, only the same words are right."""
    judge_prompts: Path | None = None
    """VCR-Bench: its own eval_code/prompt.py, to ask the judge in its words instead of ours."""
    frames: Literal["real", "random", "withheld", "unedited"] = "real"
    """What a look brings: the frame that was asked for, a random one, nothing, or for an imagined picture the frame that it would be made from."""
    out: Path | None = None
    """Run folder for the videos that are made, the traces and the summary."""
    resume: bool = False
    """Go on with the run in --out; refused if its settings differ."""
    json: bool = False
    """End with one line of JSON."""


@dataclass(frozen=True, slots=True)
class AskingConfig:
    """How `act2see eval` goes through the questions. All but the order of the options changes nothing of what is answered."""

    limit: Positive | None = None
    """Only the first so many questions; --resume without it goes on with the others."""
    shard: str | None = None
    """i/n: only every n-th question from the i-th on. Several processes with one --out share a run; the last to end writes its summary."""
    workers: Positive = 1
    """How many questions are asked at once, where the backend waits for a server."""
    shuffle_options: int | None = None
    """Seed of an order of the choices that is drawn for each question, instead of the benchmark's own."""
    patience_seconds: NotNegative = 120.0
    """After so long without a single answer from the backend the evaluation stops (our choice)."""


@dataclass(frozen=True, slots=True)
class SyntheticConfig:
    """The synthetic world as a data set on disk."""

    split: Literal["train", "held-out"] = "train"
    """No clip is in both, and six colour-shape pairs are held-out alone."""
    n: Positive = 1000
    """How many questions, each with a clip of its own."""
    kind: Kinds = ("static", "transient")
    """Which kinds of questions, in turn."""
    seed: int = 0
    """Another seed gives other clips."""


@dataclass(frozen=True, slots=True)
class MicroVlmConfig:
    """How the embedded vision-language model is trained. All numbers are our choice."""

    out: Path
    """Folder for checkpoints and the finished model; training goes on from the last checkpoint in it."""
    part: Literal["see", "ask", "imagine"] = "see"
    """The curriculum's first, second or third part."""
    start_from: Path | None = None
    """Folder of a finished model whose weights to begin with, instead of random ones: the part's before."""
    steps: Positive = 1400
    """Batches of this part."""
    seed: int = 0
    """Seed of weights and data."""
    learning_rate: float = 1.5e-3
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
    seed: int = 0
    """Seed of weights and data."""
    learning_rate: float = 1.5e-3
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
    seed: int = 0
    """Seed of weights and data."""
    learning_rate: float = 2.0e-3
    """Of AdamW, at its peak."""
    save_every: Positive = 250
    """Steps between checkpoints."""


@dataclass(frozen=True, slots=True)
class ExportConfig:
    """A run's traces for other trainers."""

    format: Literal["trl", "llamafactory", "swift", "parquet"]
    """What reads them: TRL, LLaMA-Factory, ms-swift, or anything that reads tables (parquet; needs act2see[export])."""
    out: Path
    """Folder to write; it is there whole or not at all."""
    rendering: Literal["auto", "same_turn", "user_turn", "tool_turn"] = "auto"
    """Where an inserted frame stands: in the assistant's own turn (the paper's), the user's or the tool's; auto is the format's first choice."""
    opening: str = ""
    """What the model's chat template puts at the start of its turn, where it does: for Qwen3-VL-Thinking its mark of thinking and a line end."""
    overwrite: bool = False
    """Replace an earlier export in --out; any other folder with something in it is refused all the same."""
    json: bool = False
    """Print one line of JSON, with every trace that was left out and why."""


@dataclass(frozen=True, slots=True)
class MergeConfig:
    """A LoRA adapter and its base, as one model."""

    out: Path
    """Folder of the merged model; new or empty, and there whole or not at all."""
    json: bool = False
    """Print one line of JSON instead of the folder."""


def recorded(settings: ModelConfig, leave_out: Collection[str]) -> dict[str, Any]:
    """The settings as a run keeps them, without those that only say where results go."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(settings).items() if name not in leave_out}


def read_settings(path: Path, keys_of: Mapping[str, Collection[str]]) -> dict[str, dict[str, Any]]:
    """Each command's settings from a TOML file, its table over the top level. `keys_of` holds each command's keys, spelled as its flags.

    Raises `ConfigError` for a file that cannot be read and for a key that no command, or not this command, has.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the settings file {path}: {getattr(error, 'strerror', None) or error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is no TOML: {error}") from error
    everywhere = {key: value for key, value in content.items() if not isinstance(value, dict)}
    tables = {key: value for key, value in content.items() if isinstance(value, dict)}
    refuse_unknown(path, "table", tables, keys_of)
    refuse_unknown(path, "key", everywhere, {key for keys in keys_of.values() for key in keys})
    for command, table in tables.items():
        refuse_unknown(path, f"key in [{command}]", table, keys_of[command])
    return {command: {key: value for key, value in everywhere.items() if key in keys} | tables.get(command, {}) for command, keys in keys_of.items()}


def refuse_unknown(path: Path, what: str, given: Collection[str], known: Collection[str]) -> None:
    """Raise `ConfigError` for the first key of a file that is not known, naming the nearest that is."""
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key.replace("_", "-"), known, n=1) or difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "allowed are " + ", ".join(sorted(known))
            raise ConfigError(f"{path}: unknown {what} {key!r}; {hint}")
