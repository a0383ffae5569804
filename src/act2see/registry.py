"""Create components by name: `micro`, `siglip:DIR`, `openai:MODEL`, or a third party's `package.module:Class`.

Names come from the command line or the user's settings, never from a model or a data file, because `package.module:Class` runs code. A component is
imported when it is created; a missing extra becomes a one-line error that names it.
"""

import importlib
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from act2see.benchmarks.catalogue import BY_NAME
from act2see.config import EvalConfig, ImagineConfig, IndexedConfig, ModelConfig, SearchConfig, SourceConfig, WordsConfig
from act2see.config.models import named_tools
from act2see.core.errors import ConfigError
from act2see.core.framing import MAX_STRETCH_FRAMES, SERVER_PICTURES
from act2see.core.interfaces import Backend, Benchmark, FrameEncoder, Generator, Painter, PictureJudge, Retriever, TextEmbedder, encoder_of
from act2see.core.naming import importing, split_spec, third_party
from act2see.storage.cache import Cache
from act2see.synthetic.scope import Scope, is_of_the_world_alone, not_judged

if TYPE_CHECKING:
    from act2see.benchmarks.reading import DataSet
    from act2see.core.chat import Tool
    from act2see.core.engine import LoopOptions
    from act2see.tools.index import Progress
    from act2see.tools.retrievers.words import WordsRetriever
    from act2see.video.transcript.prompting import LinesOfVideos

MICRO = Path(__file__).parent / "micro"
"""Folder of the embedded models `vlm`, `retriever` and `generator`, which are loaded by the same classes as full-size ones."""

_BACKENDS = ("micro", "huggingface:DIR", "vllm:DIR", "openai:MODEL", "package.module:Class")
_ENCODERS = {"siglip": "SiglipEncoder", "clip": "ClipEncoder", "blip2": "Blip2Encoder", "embedding": "EmbeddingEncoder"}
_RETRIEVERS = ("micro", *(f"{name}:DIR" for name in _ENCODERS), "words", "words+RETRIEVER", "none", "package.module:Class")
_WITH_WORDS = "words+"
_RETRIEVER_MEMBERS = ("find", "name")
_ENCODER_MEMBERS = ("encode_frames", "encode_text", "scores", "name", "fingerprint", "side", "threshold")
_GENERATORS = ("auto", "micro", "diffusers:MODEL", "openai:MODEL", "none", "package.module:Class")
_JUDGES = ("auto", "encoder", "none", *_BACKENDS)
_EMBEDDERS = ("bge-m3", "sentence-transformers:NAME", "words", "package.module:Class")
_BENCHMARKS = (*BY_NAME, "package.module:Class")
SYNTHETIC_QUESTIONS = 300


def check_backend(spec: str) -> None:
    """Validate a backend's name before loading anything. Raises `ConfigError`."""
    split_spec("backend", spec, _BACKENDS)


def is_engine(spec: str) -> bool:
    """Whether a backend's name stands for an engine: a process that takes many questions at once, and needs what one model needs."""
    return spec.partition(":")[0] == "vllm"


def check_retriever(spec: str) -> None:
    """Validate a retriever's name before loading anything. Raises `ConfigError`."""
    inner = spec.removeprefix(_WITH_WORDS)
    name, _ = split_spec("retriever", inner, _RETRIEVERS)
    if inner != spec and name in ("words", "none"):
        raise ConfigError(f"retriever {spec!r}: words+ is followed by a retriever for what is seen, such as words+siglip:DIR")


def check_generator(spec: str, judge: str = "auto") -> None:
    """Validate the names of a generator and its judge before loading anything. Raises `ConfigError`."""
    split_spec("generator", spec, _GENERATORS)
    split_spec("judge", judge, _JUDGES)


def check_benchmark(spec: str) -> None:
    """Validate a benchmark's name. Raises `ConfigError`."""
    split_spec("benchmark", spec, _BENCHMARKS)


def backend(spec: str, config: ModelConfig) -> Backend:
    """Load a backend by name. A third party's class (or function) is called with the `ModelConfig` alone.

    Raises `ConfigError` for an unknown name, a missing extra or a class that is no backend, and `BackendError` if the model cannot be loaded.
    """
    name, rest = split_spec("backend", spec, _BACKENDS)
    if name not in ("micro", "huggingface", "vllm", "openai"):
        made: Backend = third_party("backend", spec, config, ("decode", "made_with"))
        return made
    with importing(f"backend {name!r}"):
        if name == "openai":
            return _openai(rest, config)
        if name == "vllm":
            return _vllm(rest, config)
        return _huggingface(
            str(MICRO / "vlm") if name == "micro" else rest, config, greedy=config.greedy or (name == "micro" and config.temperature is None)
        )


def retriever(spec: str, config: SearchConfig, progress: "Callable[[Progress], None] | None" = None) -> Retriever | None:
    """Load a retriever by name; None for `none`. Third parties and errors as for `backend`.

    An encoder, of ours or of a third party, is wrapped in a `SearchRetriever`. `progress` is called while an index is built.
    """
    check_retriever(spec)
    if isinstance(config, ModelConfig) and config.transcript == "tool" and spec != "none":
        from act2see.tools.retrievers.lines import RetrieverWithLines

        found = retriever(spec, replace(config, transcript="off"), progress)
        assert found is not None
        return RetrieverWithLines(found, _words(config, progress))
    if spec == "words":
        return _words(config, progress)
    if spec.startswith(_WITH_WORDS):
        from act2see.tools.retrievers.fused import FusedRetriever

        seen = retriever(spec.removeprefix(_WITH_WORDS), config, progress)
        assert seen is not None
        return FusedRetriever(_words(config, progress), seen)
    name, _ = split_spec("retriever", spec, _RETRIEVERS)
    if name == "none":
        return None
    if name == "micro" or name in _ENCODERS:
        return _searcher(encoder(spec, config), config, progress)
    made: Retriever | FrameEncoder = third_party("retriever", spec, config, _RETRIEVER_MEMBERS, or_members=_ENCODER_MEMBERS)
    return _searcher(made, config, progress) if isinstance(made, FrameEncoder) else made


def _words(config: SearchConfig, progress: "Callable[[Progress], None] | None") -> "WordsRetriever":
    from act2see.tools.index import Progress
    from act2see.tools.retrievers.words import WordsRetriever
    from act2see.video.transcript.reading import check_words

    check_words(config)
    told = None if progress is None else lambda done, total, what: progress(Progress(done, total, what=what))
    return WordsRetriever(config, Cache() if config.cache else None, told)


def encoder(spec: str, config: IndexedConfig | None = None) -> FrameEncoder:
    """Load a retriever's encoder by name, for `Index.build`. Third parties and errors as for `backend`."""
    config = config or IndexedConfig()
    check_retriever(spec)
    spec = spec.removeprefix(_WITH_WORDS)
    name, rest = split_spec("retriever", spec, _RETRIEVERS)
    if name in ("none", "words"):
        raise ConfigError(f"retriever {name!r} encodes nothing: name one, such as micro or siglip:DIR")
    if name != "micro" and name not in _ENCODERS:
        made: FrameEncoder = third_party("encoder", spec, config, _ENCODER_MEMBERS)
        return made
    kind, model = ("siglip", str(MICRO / "retriever")) if name == "micro" else (name, rest)
    with importing(f"retriever {name!r}"):
        from act2see.tools.encoders.loading import EncoderSettings

        _silence(model)
        found = getattr(importlib.import_module(f"act2see.tools.encoders.{kind}"), _ENCODERS[kind])
        loaded: FrameEncoder = found.load(EncoderSettings(model=model, device=config.device, dtype=config.dtype))
        return loaded


def generator(spec: str, config: ImagineConfig, found_by: Retriever | None, *, has_anchor: bool = False) -> Generator | None:
    """Load a generator by name; None for `none`, and without a retriever unless `has_anchor`. Errors as for `backend`.

    `auto` is `micro` with the backend `micro`, and `none` with any other. Pictures are checked by the config's `judge`.
    """
    name, rest = split_spec("generator", spec, _GENERATORS)
    if name == "auto":
        name = _auto_generator(config)
    if name == "none" or (found_by is None and not has_anchor):
        return None
    if name not in ("micro", "diffusers", "openai"):
        made: Generator = third_party("generator", spec, config, ("generate", "name"))
        return made
    with importing(f"generator {name!r}"):
        painter = _remote_painter(rest, config) if name == "openai" else _painter(str(MICRO / "generator") if name == "micro" else rest, config)
    from act2see.tools.generators.verified import VerifiedGenerator

    of_micro = name == "micro"
    cannot_judge = not_judged if _judges_the_world_alone(config, of_micro) else None
    return VerifiedGenerator(painter, _judge(config, found_by, of_micro=of_micro), tries=config.tries, cannot_judge=cannot_judge)


def scope(config: SearchConfig) -> Scope:
    """Which of a config's models are limited to the synthetic world, according to their folders. Loads nothing."""
    looks = not isinstance(config, ModelConfig) or config.max_looks > 0
    painter = config.generator if isinstance(config, ImagineConfig) else "none"
    if painter == "auto":
        painter = _auto_generator(config)
    return Scope(
        backend=isinstance(config, ModelConfig) and is_of_the_world_alone(config.backend),
        retriever=looks and is_of_the_world_alone(config.retriever),
        generator=looks and is_of_the_world_alone(painter),
        force=config.force,
    )


def _auto_generator(config: SearchConfig) -> str:
    return "none" if isinstance(config, ModelConfig) and config.backend != "micro" else "micro"


def _judges_the_world_alone(config: ImagineConfig, of_micro: bool) -> bool:
    spec = ("micro" if of_micro else "encoder") if config.judge == "auto" else config.judge
    return is_of_the_world_alone(config.retriever if spec == "encoder" else spec)


def _judge(config: ImagineConfig, found_by: Retriever | None, *, of_micro: bool) -> PictureJudge | None:
    """Load the judge of generated pictures. `auto` is the retriever's encoder, or the embedded VLM for the embedded generator.

    The encoder is shared with `found_by` if that has one; else it is the encoder of the config's retriever.
    """
    spec = ("micro" if of_micro else "encoder") if config.judge == "auto" else config.judge
    name, _ = split_spec("judge", spec, _JUDGES)
    if name == "none":
        return None
    if name == "encoder":
        from act2see.tools.generators.verified import EncoderJudge

        return EncoderJudge(encoder_of(found_by) or encoder(config.retriever, config), config.margin, config.floor)
    if name not in ("micro", "huggingface", "vllm", "openai"):
        made: PictureJudge = third_party("judge", spec, config, ("judge", "name"))
        return made
    from act2see.tools.generators.vlm_judge import ModelJudge

    shared = {one.name for one in fields(ImagineConfig)}
    asked = config if isinstance(config, ModelConfig) else ModelConfig(**{name: value for name, value in asdict(config).items() if name in shared})
    return ModelJudge(backend(spec, replace(asked, adapter=None)))


def _painter(model: str, config: ImagineConfig) -> Painter:
    from act2see.tools.generators.diffusion import DiffusionPainter, DiffusionSettings

    _silence(model)
    strengths = config.strengths or None
    return DiffusionPainter.load(DiffusionSettings(model=model, device=config.device, dtype=config.dtype, strengths=strengths, memory=config.memory))


def _remote_painter(model: str, config: ImagineConfig) -> Painter:
    from act2see.tools.generators.remote import RemotePainter, RemoteSettings

    return RemotePainter(RemoteSettings(model, base_url=config.generator_url, answer_seconds=config.answer_seconds))


def embedder(spec: str, device: str = "auto") -> TextEmbedder:
    """Load a text embedder by name. A third party's class is called with the device. Errors as for `backend`."""
    name, rest = split_spec("embedder", spec, _EMBEDDERS)
    if name == "words":
        from act2see.tools.encoders.words import Words

        return Words()
    if name in ("bge-m3", "sentence-transformers"):
        with importing(f"embedder {name!r}"):
            from act2see.tools.encoders.sentences import BGE_M3, Sentences

            return Sentences(BGE_M3 if name == "bge-m3" else rest, device)
    made: TextEmbedder = third_party("embedder", spec, device, ("embed", "name"))
    return made


def lines_of_videos(config: ModelConfig) -> "LinesOfVideos | None":
    """What reads the lines for questions; None unless the config's `transcript` is `question`. Raises `ConfigError`."""
    if config.transcript != "question":
        return None
    from act2see.video.transcript.prompting import LinesOfVideos
    from act2see.video.transcript.reading import check_words

    check_words(config)
    words = WordsConfig(config.words_from, config.speech_model, config.screen_fps)
    return LinesOfVideos(words, config.cache)


def loop_options(config: ModelConfig) -> "LoopOptions":
    """The loop options of a config."""
    from act2see.core.engine import Budget, LoopOptions

    return LoopOptions(config.max_looks, config.seed or 0, offered(config), Budget(config.budget_seconds, config.budget_frames))


def offered(config: ModelConfig) -> "tuple[Tool, ...]":
    """The tools that `config.tools` names, in their order in the prompt. Raises `ConfigError`."""
    try:
        return named_tools(config.tools)
    except ValueError as error:
        raise ConfigError(f"tools {config.tools!r}: {error}") from error


def benchmark(spec: str, config: EvalConfig, folder: Path, *, makes_videos: bool = True) -> Benchmark:
    """Load a benchmark by name. Generated videos are written to `folder`. A third party's class is called with the `EvalConfig` alone.

    With `makes_videos` False, for scoring stored answers, the videos of the synthetic benchmark are not generated, and a data set is not read yet.
    Raises `ConfigError` as `backend` does, and for missing or invalid data.
    """
    name, _ = split_spec("benchmark", spec, _BENCHMARKS)
    if name not in BY_NAME:
        made: Benchmark = third_party("benchmark", spec, config, ("samples", "is_right"))
        return made
    if name != "synthetic":
        found = data_set(name, config)
        if makes_videos:
            next(iter(found.samples()), None)  # an invalid file is rejected before a model is loaded
        return _with_judge(found, config)
    useless = {
        "--data": config.data,
        "--subtitles": config.subtitles,
        "--answer-judge": config.answer_judge,
        "--judge-prompts": config.judge_prompts,
        "--official-judge": config.official_judge,
    }
    for flag, value in useless.items():
        if value:
            raise ConfigError(f"benchmark 'synthetic' makes its own videos and needs no judge: leave {flag} out")
    from act2see.benchmarks.synthetic import SyntheticBenchmark

    return SyntheticBenchmark(folder, SYNTHETIC_QUESTIONS if config.n is None else config.n, config.seed or 0, config.kind, writes=makes_videos)


def source(spec: str, config: SourceConfig, folder: Path) -> Benchmark:
    """Load a data set by name to build training data from: of the synthetic world the training split. Otherwise as `benchmark`."""
    name, _ = split_spec("source", spec, _BENCHMARKS)
    if name not in BY_NAME:
        made: Benchmark = third_party("source", spec, config, ("samples", "is_right"))
        return made
    if name != "synthetic":
        return data_set(name, config)
    if config.data:
        raise ConfigError("source 'synthetic' makes its own videos: leave --data out")
    from act2see.benchmarks.synthetic import SyntheticBenchmark

    return SyntheticBenchmark(folder, SYNTHETIC_QUESTIONS if config.n is None else config.n, config.seed or 0, config.kind, split="train")


def data_set(name: str, config: SourceConfig) -> "DataSet":
    """Create a benchmark of the catalogue with the config's data, without reading it yet. Raises `ConfigError`."""
    entry = BY_NAME.get(name)
    if entry is None or entry.loader is None:
        known = ", ".join(one.name for one in BY_NAME.values() if one.loader)
        raise ConfigError(f"no benchmark {name!r} is read from a folder; those that are: {known}")
    if config.data is None:
        raise ConfigError(f"benchmark {name!r} needs its data: --data DIR, with {entry.download} (from {entry.source})")
    subtitles = isinstance(config, EvalConfig) and config.subtitles
    if subtitles and name != "video-mme":
        raise ConfigError(f"benchmark {name!r} has no subtitles: leave --subtitles out")
    options: dict[str, object] = {"subtitles": subtitles} if name == "video-mme" else {}
    if name == "egonormia" and isinstance(config, EvalConfig):
        options = {"given": config.given}
    module, _, loader = entry.loader.partition(":")
    made: DataSet = getattr(importlib.import_module(f"act2see.benchmarks.{module}"), loader)(config.data, count=config.n, **options)
    return made


def _with_judge(made: "DataSet", config: EvalConfig) -> "DataSet":
    """The data set with the config's judge, loaded."""
    from act2see.benchmarks.judge_prompts import OURS, official_prompts
    from act2see.benchmarks.vcrbench import VCRBench
    from act2see.benchmarks.vcrbench_judge import Judge

    if config.answer_judge is None:
        if config.judge_prompts is not None:
            raise ConfigError("--judge-prompts without a judge: name one with --answer-judge")
        if config.official_judge:
            raise ConfigError("--official-judge without a judge: name one with --answer-judge")
        return made
    if not isinstance(made, VCRBench):
        raise ConfigError(f"benchmark {made.name!r} needs no judge: leave --answer-judge out")
    prompts = official_prompts(config.judge_prompts) if config.judge_prompts else OURS
    return replace(made, judge=Judge(backend(config.answer_judge, replace(config, adapter=None)), prompts))


def _huggingface(model: str, config: ModelConfig, *, greedy: bool) -> Backend:
    from act2see.backends.huggingface import HuggingFaceBackend, HuggingFaceSettings

    _silence(model)
    return HuggingFaceBackend.load(
        HuggingFaceSettings(
            model=model,
            adapter=str(config.adapter) if config.adapter else None,
            device=config.device,
            dtype=config.dtype,
            rendering=config.rendering,
            frames_as=config.frames_as,
            seed=config.seed or 0,
            **_sampling(config, greedy),
        )
    )


def _vllm(model: str, config: ModelConfig) -> Backend:
    from act2see.backends.vllm import VllmBackend, VllmSettings

    _silence(model)
    return VllmBackend.load(
        VllmSettings(
            model=model,
            adapter=str(config.adapter) if config.adapter else None,
            dtype=config.dtype,
            rendering=config.rendering,
            frames_as=config.frames_as,
            seed=config.seed or 0,
            tensor_parallel=config.tensor_parallel,
            context_length=config.context_length,
            memory_share=config.memory_share,
            **_sampling(config, config.greedy),
        )
    )


def _openai(model: str, config: ModelConfig) -> Backend:
    from act2see.backends.openai import OpenAIBackend, OpenAISettings

    # Options that would silently change the answers are rejected; options of local models, such as a device, are ignored.
    if config.adapter:
        raise ConfigError("a server's model takes no adapter from here: start the server with it, and leave adapter out")
    if config.frames_as == "video":
        raise ConfigError("servers take frames as images: leave frames-as out, or set it to images")
    frames_a_look = MAX_STRETCH_FRAMES if "clip" in offered(config) else 1
    return OpenAIBackend(
        OpenAISettings(
            model=model,
            base_url=config.base_url,
            rendering=config.rendering,
            opening=config.opening,
            seed=config.seed,
            max_frames=config.max_frames or max(1, SERVER_PICTURES - config.max_looks * frames_a_look - config.insert),
            timeout_seconds=config.timeout_seconds,
            answer_seconds=config.answer_seconds,
            answer_characters=config.answer_characters,
            retries=config.retries,
            image_format=config.image_format,
            send_stop=config.send_stop,
            max_tokens_field=config.max_tokens_field,
            **_sampling(config, config.greedy),
        )
    )


def _searcher(made: FrameEncoder, config: SearchConfig, progress: "Callable[[Progress], None] | None") -> Retriever:
    from act2see.tools.retrievers.search import SearchRetriever
    from act2see.tools.retrievers.selection import Random

    return SearchRetriever(
        made,
        select=Random(config.seed or 0) if config.select == "random" else config.select,
        fps=config.retrieve_fps,
        cache=Cache() if config.cache else None,
        progress=progress,
        skip_duplicates=config.skip_duplicates,
        keyframes_only=config.keyframes_first,
    )


def _silence(model: str) -> None:
    """Suppress transformers' warnings, and its progress bars for the small embedded models."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    if Path(model).is_relative_to(MICRO):
        logging.disable_progress_bar()
    else:
        logging.enable_progress_bar()


class _Sampling(TypedDict, total=False):
    """Sampling settings that both backends have. What is absent is the backend's own."""

    max_tokens: int
    temperature: float
    top_p: float
    top_k: int


def _sampling(config: ModelConfig, greedy: bool) -> _Sampling:
    given: _Sampling = {}
    if config.max_tokens is not None:
        given["max_tokens"] = config.max_tokens
    if greedy or config.temperature is not None:
        given["temperature"] = 0.0 if greedy else config.temperature or 0.0
    if config.top_p is not None:
        given["top_p"] = config.top_p
    if config.top_k is not None:
        given["top_k"] = config.top_k
    return given
