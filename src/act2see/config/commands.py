"""One frozen dataclass a command that asks, finds, makes, evaluates or hands on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter
from cyclopts.validators import Number

from act2see.config.models import MOST, ImagineConfig, IndexedConfig, Kinds, ModelConfig, NotNegative, Positive, SearchConfig, Seed, Words

RAY = Group("On a Ray cluster", sort_key=9)


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
    """Where the HTML report of all answers goes."""


@dataclass(frozen=True, slots=True)
class SourceConfig(ModelConfig):
    """Many questions from a data set, and the run that keeps what becomes of them."""

    n: Positive | None = None
    """How many questions; all that there are if not given (300 for synthetic)."""
    kind: Kinds = ("static", "transient")
    """Which kinds of questions the synthetic world asks, in turn."""
    data: Path | None = None
    """Folder of a data set's downloaded questions and videos, or the file of questions in it: act2see benchmarks tells what to download."""
    out: Path | None = None
    """Run folder for the videos that are made, the traces and the summary."""
    resume: bool = False
    """Go on with the run in --out; refused if its settings differ."""
    json: bool = False
    """End with one line of JSON."""


@dataclass(frozen=True, slots=True)
class EvalConfig(SourceConfig):
    """Many questions, scored."""

    subtitles: Annotated[bool, Parameter(negative="")] = False
    """Video-MME: put what is said in the video into the question."""
    answer_judge: str | None = None
    """VCR-Bench: the model that compares open answers, named as a backend is; if not given, only the same words are right."""
    judge_prompts: Path | None = None
    """VCR-Bench: its own eval_code/prompt.py, to ask the judge in its words instead of ours."""
    given: Literal["own", "right"] = "own"
    """EgoNormia: which behaviour is to be justified, the one that the model chose itself (as in the official scripts) or the right one."""
    official_judge: Annotated[bool, Parameter(negative="")] = False
    """VCR-Bench, with a judge: ask it the official script's four questions an answer at the end, for its accuracy and the reasoning's scores."""
    frames: Literal["real", "random", "oracle", "withheld", "unedited"] = "real"
    """What a look brings: what was asked for, a random frame, the one known to be right, nothing, or the frame that a picture would come from."""


@dataclass(frozen=True, slots=True)
class ExecutionConfig:
    """How many questions are asked, how fast, and what a token costs. Nothing of it changes what is answered."""

    limit: Positive | None = None
    """Only the first so many questions; --resume without it goes on with the others."""
    requests_per_minute: Annotated[float | None, Parameter(validator=Number(gte=0.01, lte=MOST))] = None
    """The backend is asked no oftener, whatever the number of workers: what a hosted model's rate limit allows."""
    prices: Path | None = None
    """TOML file with dollars per million tokens of each model (examples/prices.toml): the traces then say what they cost."""
    patience_seconds: NotNegative = 120.0
    """After so long without a single answer from the backend all is stopped (our choice)."""
    fail_fast: Annotated[bool, Parameter(negative="")] = False
    """For developers: stop at the first internal error, with its traceback, instead of counting it and going on."""


@dataclass(frozen=True, slots=True)
class ParallelConfig(ExecutionConfig):
    """The same, with several questions at once."""

    workers: Annotated[int, Parameter(validator=Number(gte=1, lte=1000))] = 1
    """How many questions are asked at once, where the backend waits for a server."""


@dataclass(frozen=True, slots=True)
class RayConfig(ParallelConfig):
    """The same, on a Ray cluster if one is wanted."""

    ray: Annotated[str | None, Parameter(group=RAY)] = None
    """`local`, or a Ray cluster's address: the questions are spread over its processes (needs act2see[ray])."""
    ray_teachers: Annotated[Positive | None, Parameter(group=RAY)] = None
    """Processes that run the loop; if not given, one for every eight workers, or for every one where the backend takes one question at a time."""
    ray_tools: Annotated[Positive, Parameter(group=RAY)] = 1
    """Processes that hold the retriever and the generator."""
    ray_indexers: Annotated[Positive, Parameter(group=RAY)] = 1
    """Processes that index videos ahead of need."""
    ray_teacher_gpus: Annotated[NotNegative, Parameter(group=RAY)] = 0.0
    """GPUs of each process that runs the loop; parts of one are allowed."""
    ray_tool_gpus: Annotated[NotNegative, Parameter(group=RAY)] = 0.0
    """GPUs of each process that holds tools or indexes videos."""


@dataclass(frozen=True, slots=True)
class EvalExecutionConfig(RayConfig):
    """How `act2see eval` goes through the questions. All but the order of the options changes nothing of what is answered."""

    shard: str | None = None
    """i/n: only every n-th question from the i-th on. Several processes with one --out share a run; the last to end writes its summary."""
    shuffle_options: Seed | None = None
    """Seed of an order of the choices that is drawn for each question, instead of the benchmark's own."""


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
