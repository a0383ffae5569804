"""One frozen dataclass per command: ask, retrieve, generate, index, demo, eval, export and merge."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter, Token
from cyclopts.validators import Number

from act2see.config.checks import Checked
from act2see.config.models import (
    LOOKS,
    MODELS,
    MOST,
    OPTIONS,
    QUESTIONS,
    RAY,
    RUNS,
    ImagineConfig,
    IndexedConfig,
    Kinds,
    ModelConfig,
    NotNegative,
    Positive,
    SearchConfig,
    Seed,
    Words,
    WordsConfig,
)


def _seconds(_kind: object, tokens: Sequence[Token]) -> float:
    """A duration as typed: 3, 3s or 0.5s."""
    try:
        return float(tokens[0].value.strip().removesuffix("s"))
    except ValueError:
        raise ValueError("write a number of seconds such as 3s or 0.5s") from None


@dataclass(frozen=True, slots=True)
class AskConfig(ModelConfig):
    """Answer a question about a video."""

    choices: Annotated[Words, Parameter(group=QUESTIONS)] = ()
    """Answer choices: --choices red green blue, or repeat the flag."""
    save: Annotated[Path | None, Parameter(group=RUNS)] = None
    """Append the trace and its frames to this run folder; created if missing."""
    report: Annotated[Path | None, Parameter(group=RUNS)] = None
    """Write a self-contained HTML report to this file."""
    json: Annotated[bool, Parameter(group=RUNS)] = False
    """Print one line of JSON instead of the answer."""


@dataclass(frozen=True, slots=True)
class RetrieveConfig(SearchConfig):
    """Find the frames of a video that match a text, without a reasoning model."""

    retriever: Annotated[str, Parameter(group=MODELS)] = "auto"
    """Frame retriever: micro (embedded), siglip:DIR, clip:DIR, blip2:DIR, embedding:DIR, words, words+RETRIEVER, or package.module:Class; auto is
    micro for a video of the synthetic world, and words for any other."""
    top: Positive = 1
    """Number of frames to return, best first; of several videos, over all of them."""
    also: Annotated[tuple[str, ...], Parameter(negative_iterable=())] = ()
    """Another text to look for; may be repeated."""
    out: Path | None = None
    """Write the frames to this folder, named by timestamp."""
    clip: Annotated[float | None, Parameter(converter=_seconds, validator=Number(gt=0, lte=120))] = None
    """Write the stretch around each frame, of this length (3s), as a video with sound, to --out or the current folder."""
    sheet: Path | None = None
    """Write all frames that were found to this picture (.png or .jpg), each with its video, time and score."""
    plot: Path | None = None
    """Plot the scores over time, with the selected frames marked, to this file (.png, .svg or .pdf)."""
    json: bool = False
    """Print one line of JSON instead of one line per frame."""


@dataclass(frozen=True, slots=True)
class GenerateConfig(ImagineConfig):
    """Generate a picture of something that the video does not show, without a reasoning model."""

    generator: Annotated[str, Parameter(group=MODELS)] = "micro"
    """Image generator: micro (embedded), diffusers:MODEL (a preset, a folder or a hub name), openai:MODEL, package.module:Class."""
    at: Annotated[NotNegative | None, Parameter(group=LOOKS)] = None
    """Timestamp of the anchor frame in seconds; if not given, the retriever's best match for the prompt."""
    out: Annotated[Path, Parameter(group=RUNS)] = Path("imagined.png")
    """Output file; the anchor frame and a side-by-side view are written next to it, as NAME-anchor and NAME-pair."""
    json: Annotated[bool, Parameter(group=RUNS)] = False
    """Print one line of JSON."""


@dataclass(frozen=True, slots=True)
class IndexConfig(IndexedConfig):
    """Index videos ahead of the first query."""

    workers: Annotated[int, Parameter(validator=Number(gte=1, lte=1000))] = 1
    """Videos to index at the same time, each in a process that loads the encoder."""
    export: Path | None = None
    """Write the vectors of all videos to this file as one FAISS index, and what each row is to FILE.jsonl."""

    json: bool = False
    """Print one line of JSON instead of one line per video."""


@dataclass(frozen=True, slots=True)
class TranscriptConfig(WordsConfig):
    """Read what is said and written in a video."""

    format: Literal["auto", "srt", "vtt", "json"] = "auto"
    """Format: srt (the default), vtt or json; auto follows the name of --out."""
    out: Path | None = None
    """Write to this file instead of stdout, whole or not at all."""
    cache: bool = True
    """Cache what is read for later calls, which go on from there."""


@dataclass(frozen=True, slots=True)
class DemoConfig(Checked):
    """Answer questions about the bundled clips with the embedded models."""

    report: Path = Path("report.html")
    """Write the HTML report of all answers to this file."""


@dataclass(frozen=True, slots=True)
class SourceConfig(ModelConfig):
    """Questions from a data set, and the run folder that stores their results."""

    n: Annotated[Positive | None, Parameter(group=QUESTIONS)] = None
    """Number of questions; all of them if not given (300 for synthetic)."""
    kind: Annotated[Kinds, Parameter(group=OPTIONS)] = ("static", "transient")
    """Kinds of synthetic questions, asked in turn."""
    data: Annotated[Path | None, Parameter(group=QUESTIONS)] = None
    """Folder of a data set's downloaded questions and videos, or its question file; act2see benchmarks lists what to download."""
    out: Annotated[Path | None, Parameter(group=RUNS)] = None
    """Run folder for synthetic videos, traces and the summary."""
    resume: Annotated[bool, Parameter(group=RUNS)] = False
    """Resume the run in --out; rejected if its settings differ."""
    json: Annotated[bool, Parameter(group=RUNS)] = False
    """Print the summary as one line of JSON."""


@dataclass(frozen=True, slots=True)
class EvalConfig(SourceConfig):
    """Run a benchmark and report accuracy."""

    subtitles: Annotated[bool, Parameter(group=OPTIONS, negative="")] = False
    """Video-MME: include the video's subtitles in the question."""
    answer_judge: Annotated[str | None, Parameter(group=OPTIONS)] = None
    """VCR-Bench: judge model for open answers, named like a backend; if not given, open answers need an exact match."""
    judge_prompts: Annotated[Path | None, Parameter(group=OPTIONS)] = None
    """VCR-Bench: path of its eval_code/prompt.py, to use its judge prompts instead of ours."""
    given: Annotated[Literal["own", "right"], Parameter(group=OPTIONS)] = "own"
    """EgoNormia: behaviour that the model has to justify: its own choice (as in the official scripts) or the right one."""
    official_judge: Annotated[bool, Parameter(group=OPTIONS, negative="")] = False
    """VCR-Bench, with a judge: also run the official script's four judge prompts per answer, for its accuracy and reasoning scores."""
    frames: Annotated[Literal["real", "random", "oracle", "withheld", "unedited"], Parameter(group=LOOKS)] = "real"
    """What a look returns: the requested frame, or a control: a random frame, the ground-truth frame, nothing, or the unedited anchor frame."""


@dataclass(frozen=True, slots=True)
class ExecutionConfig(Checked):
    """Execution settings. None of them changes the answers."""

    limit: Annotated[Positive | None, Parameter(group=QUESTIONS)] = None
    """Stop after this many questions; resume the rest with --resume and without --limit."""
    workers: Annotated[int, Parameter(group=RUNS, validator=Number(gte=1, lte=1000))] = 1
    """Number of questions to run in parallel: requests to a server, or rows of a local model's forward pass."""
    requests_per_minute: Annotated[float | None, Parameter(group=RUNS, validator=Number(gte=0.01, lte=MOST))] = None
    """Rate limit of requests to the backend, over all workers."""
    prices: Annotated[Path | None, Parameter(group=RUNS)] = None
    """TOML file with each model's price in dollars per million tokens (see examples/prices.toml), to record the cost of each trace."""
    patience_seconds: Annotated[NotNegative, Parameter(group=RUNS)] = 120.0
    """Abort after this many seconds without a response from the backend (120 is our choice)."""
    fail_fast: Annotated[bool, Parameter(group=RUNS, negative="")] = False
    """For developers: stop at the first internal error and print its traceback, instead of counting it and continuing."""


@dataclass(frozen=True, slots=True)
class RayConfig(ExecutionConfig):
    """Execution settings with an optional Ray cluster."""

    ray: Annotated[str | None, Parameter(group=RAY)] = None
    """Run on Ray: `local`, or the address of a cluster (needs act2see[ray])."""
    ray_teachers: Annotated[Positive | None, Parameter(alias="--replicas", group=RAY)] = None
    """Ray processes that run the loop; with vllm:DIR each has an engine of its own. Default: one with vllm:DIR, else one per eight workers, or one
    per worker if the backend handles one question at a time."""
    ray_tools: Annotated[Positive, Parameter(group=RAY)] = 1
    """Ray processes that run the retriever and the generator."""
    ray_indexers: Annotated[Positive, Parameter(group=RAY)] = 1
    """Ray processes that index videos ahead of time."""
    ray_teacher_gpus: Annotated[NotNegative, Parameter(group=RAY)] = 0.0
    """GPUs per --ray-teachers process; may be fractional. With vllm:DIR, --tensor-parallel if not given and the cluster has GPUs."""
    ray_tool_gpus: Annotated[NotNegative, Parameter(group=RAY)] = 0.0
    """GPUs per --ray-tools or --ray-indexers process; may be fractional."""


@dataclass(frozen=True, slots=True)
class EvalExecutionConfig(RayConfig):
    """Execution settings of `act2see eval`. Only `shuffle_options` changes the answers."""

    shard: Annotated[str | None, Parameter(group=QUESTIONS)] = None
    """i/n: only every n-th question, starting at the i-th. Processes with the same --out share a run; the last to finish writes the summary."""
    shuffle_options: Annotated[Seed | None, Parameter(group=QUESTIONS)] = None
    """Shuffle each question's choices with this seed; the benchmark's order if not given."""
    view: Annotated[bool, Parameter(group=RUNS, negative="")] = False
    """Write the run as a site to look through, into the folder view in --out; act2see view writes it later."""


@dataclass(frozen=True, slots=True)
class DataCheckConfig(Checked):
    """Check of a downloaded data set."""

    data: Path
    """Folder of the data set's questions and videos, or its question file."""
    subtitles: Annotated[bool, Parameter(negative="")] = False
    """Video-MME: read the subtitles too."""
    json: bool = False
    """Print one line of JSON."""


@dataclass(frozen=True, slots=True)
class CompareConfig(Checked):
    """Comparison of two runs over the same benchmark, question by question."""

    seed: Seed = 0
    """Seed of the bootstrap."""
    json: bool = False
    """Print one line of JSON that lists every question."""


@dataclass(frozen=True, slots=True)
class ViewConfig(Checked):
    """A run, or two, as a static site."""

    out: Path | None = None
    """Folder of the site; the folder view in the run by default, or view-compared in the second of two. An earlier site there is replaced."""


CostUnit = Literal["tokens", "seconds", "dollars", "frames", "flops"]


@dataclass(frozen=True, slots=True)
class TradeoffConfig(Checked):
    """Accuracy over cost of several runs over the same benchmark."""

    by: CostUnit = "tokens"
    """Unit of the cost per answer."""
    plot: Path | None = None
    """Plot accuracy over cost to this file (.png, .svg or .pdf)."""
    json: bool = False
    """Print one line of JSON."""


@dataclass(frozen=True, slots=True)
class ScoreConfig(Checked):
    """Rescore a run's stored traces."""

    official_form: Path | None = None
    """Write the run's answers to this file, in the input format of the official script."""
    benchmark: str | None = None
    """Benchmark class of the run, package.module:Class; needed only for a custom benchmark."""
    data: Path | None = None
    """Folder with the benchmark's data; the path recorded in the run is never opened."""
    json: Annotated[bool, Parameter(negative="")] = False
    """Print one line of JSON."""


@dataclass(frozen=True, slots=True)
class ExportConfig(Checked):
    """Export a run's traces for other trainers."""

    format: Literal["trl", "llamafactory", "swift", "parquet"]
    """Export format: TRL, LLaMA-Factory, ms-swift, or Parquet tables (needs act2see[export])."""
    out: Path
    """Output folder, written atomically."""
    rendering: Literal["auto", "same_turn", "user_turn", "tool_turn"] = "auto"
    """Where to insert frames: the assistant's own turn (the paper's), a user turn or a tool turn; auto is the format's preference."""
    opening: str = ""
    """Prefix that the chat template adds to the assistant's turn; for Qwen3-VL-Thinking its <think> tag and a newline."""
    overwrite: bool = False
    """Replace an earlier export in --out; any other non-empty folder is still rejected."""
    json: bool = False
    """Print one line of JSON that lists every omitted trace and the reason."""


@dataclass(frozen=True, slots=True)
class MergeConfig(Checked):
    """Merge a LoRA adapter into its base model."""

    out: Path
    """Output folder of the merged model, new or empty; written atomically."""
    json: bool = False
    """Print one line of JSON instead of the folder."""
