"""Names become objects here, and nowhere else: `micro`, `siglip:DIR`, `openai:MODEL`, or a third party's `package.module:Class`.

A name comes from the command line or the user's own settings, never from a model or a data file: `package.module:Class` runs code. What is named is
imported only then, so a missing extra is one line that says what to install.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from act2see.benchmarks.catalogue import BY_NAME
from act2see.config import EvalConfig, ImagineConfig, IndexedConfig, ModelConfig, SearchConfig, SourceConfig
from act2see.core.errors import ConfigError
from act2see.core.framing import SERVER_PICTURES
from act2see.core.interfaces import Backend, Benchmark, FrameEncoder, Generator, Painter, PictureJudge, Retriever, TextEmbedder, encoder_of
from act2see.core.naming import importing, split_spec, third_party
from act2see.storage.cache import Cache
from act2see.synthetic.scope import Scope, is_of_the_world_alone, not_judged

if TYPE_CHECKING:
    from act2see.benchmarks.reading import DataSet
    from act2see.core.chat import Tool
    from act2see.core.engine import LoopOptions
    from act2see.tools.index import Progress

MICRO = Path(__file__).parent / "micro"
"""The embedded models: `vlm`, `retriever` and `generator`, loaded by the same classes as the full-size ones."""

_BACKENDS = ("micro", "huggingface:DIR", "openai:MODEL", "package.module:Class")
_ENCODERS = {"siglip": "SiglipEncoder", "clip": "ClipEncoder", "blip2": "Blip2Encoder", "embedding": "EmbeddingEncoder"}
_RETRIEVERS = ("micro", *(f"{name}:DIR" for name in _ENCODERS), "none", "package.module:Class")
_RETRIEVER_MEMBERS = ("find", "name")
_ENCODER_MEMBERS = ("encode_frames", "encode_text", "scores", "name", "fingerprint", "side", "threshold")
_GENERATORS = ("auto", "micro", "diffusers:MODEL", "openai:MODEL", "none", "package.module:Class")
_JUDGES = ("auto", "encoder", "none", *_BACKENDS)
_EMBEDDERS = ("bge-m3", "sentence-transformers:NAME", "words", "package.module:Class")
_BENCHMARKS = (*BY_NAME, "package.module:Class")
SYNTHETIC_QUESTIONS = 300


def check_backend(spec: str) -> None:
    """Refuse a name that `backend` cannot know, before anything heavy is loaded. Raises `ConfigError`."""
    split_spec("backend", spec, _BACKENDS)


def check_retriever(spec: str) -> None:
    """Refuse a name that `retriever` cannot know, before anything heavy is loaded. Raises `ConfigError`."""
    split_spec("retriever", spec, _RETRIEVERS)


def check_generator(spec: str, judge: str = "auto") -> None:
    """Refuse names that `generator` cannot know, of itself and of what checks its pictures, before anything is loaded. Raises `ConfigError`."""
    split_spec("generator", spec, _GENERATORS)
    split_spec("judge", judge, _JUDGES)


def check_benchmark(spec: str) -> None:
    """Refuse a name that `benchmark` cannot know. Raises `ConfigError`."""
    split_spec("benchmark", spec, _BENCHMARKS)


def backend(spec: str, config: ModelConfig) -> Backend:
    """The model that a name means, loaded. A third party's class (or function) is called with the `ModelConfig` alone.

    Raises `ConfigError` for an unknown name, a missing extra or a class that is no backend, and `BackendError` for a model that cannot be loaded.
    """
    name, rest = split_spec("backend", spec, _BACKENDS)
    if name not in ("micro", "huggingface", "openai"):
        made: Backend = third_party("backend", spec, config, ("decode", "made_with"))
        return made
    with importing(f"backend {name!r}"):
        if name == "openai":
            return _openai(rest, config)
        return _huggingface(
            str(MICRO / "vlm") if name == "micro" else rest, config, greedy=config.greedy or (name == "micro" and config.temperature is None)
        )


def retriever(spec: str, config: SearchConfig, progress: "Callable[[Progress], None] | None" = None) -> Retriever | None:
    """The retriever that a name means, loaded; None for `none`. Third parties and errors as for `backend`.

    What names an encoder becomes a `SearchRetriever` with it; so does a third party's encoder. `progress` hears of an index that is being made.
    """
    name, _ = split_spec("retriever", spec, _RETRIEVERS)
    if name == "none":
        return None
    if name == "micro" or name in _ENCODERS:
        return _searcher(encoder(spec, config), config, progress)
    made: Retriever | FrameEncoder = third_party("retriever", spec, config, _RETRIEVER_MEMBERS, or_members=_ENCODER_MEMBERS)
    return _searcher(made, config, progress) if isinstance(made, FrameEncoder) else made


def encoder(spec: str, config: IndexedConfig | None = None) -> FrameEncoder:
    """The encoder that a retriever's name means, loaded: for `Index.build`. Third parties and errors as for `backend`."""
    config = config or IndexedConfig()
    name, rest = split_spec("retriever", spec, _RETRIEVERS)
    if name == "none":
        raise ConfigError("retriever 'none' encodes nothing: name one, such as micro or siglip:DIR")
    if name != "micro" and name not in _ENCODERS:
        made: FrameEncoder = third_party("encoder", spec, config, _ENCODER_MEMBERS)
        return made
    kind, model = ("siglip", str(MICRO / "retriever")) if name == "micro" else (name, rest)
    with importing(f"retriever {name!r}"):
        from act2see.tools.encoders.loading import EncoderSettings

        _hush(model)
        found = getattr(importlib.import_module(f"act2see.tools.encoders.{kind}"), _ENCODERS[kind])
        loaded: FrameEncoder = found.load(EncoderSettings(model=model, device=config.device, dtype=config.dtype))
        return loaded


def generator(spec: str, config: ImagineConfig, found_by: Retriever | None, *, has_anchor: bool = False) -> Generator | None:
    """The generator that a name means, loaded; None for `none`, and without a retriever, unless the anchor is there already. Errors as for `backend`.

    `auto` is the embedded one beside the embedded backend, and none beside any other. Pictures are checked as `judge` of the config says.
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
    """Which of the models that a config names know the synthetic world alone, by what their folders say. Nothing is loaded."""
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
    """What checks the pictures. `auto` is the retriever's encoder; of the embedded generator the embedded model, whose retriever knows no places.

    The encoder is that of `found_by` where it has one, else that of the retriever which the config names.
    """
    spec = ("micro" if of_micro else "encoder") if config.judge == "auto" else config.judge
    name, _ = split_spec("judge", spec, _JUDGES)
    if name == "none":
        return None
    if name == "encoder":
        from act2see.tools.generators.verified import EncoderJudge

        return EncoderJudge(encoder_of(found_by) or encoder(config.retriever, config), config.margin, config.floor)
    if name not in ("micro", "huggingface", "openai"):
        made: PictureJudge = third_party("judge", spec, config, ("judge", "name"))
        return made
    from act2see.tools.generators.vlm_judge import ModelJudge

    shared = {one.name for one in fields(ImagineConfig)}
    asked = config if isinstance(config, ModelConfig) else ModelConfig(**{name: value for name, value in asdict(config).items() if name in shared})
    return ModelJudge(backend(spec, replace(asked, adapter=None)))


def _painter(model: str, config: ImagineConfig) -> Painter:
    from act2see.tools.generators.diffusion import DiffusionPainter, DiffusionSettings

    _hush(model)
    strengths = config.strengths or None
    return DiffusionPainter.load(DiffusionSettings(model=model, device=config.device, dtype=config.dtype, strengths=strengths, memory=config.memory))


def _remote_painter(model: str, config: ImagineConfig) -> Painter:
    from act2see.tools.generators.remote import RemotePainter, RemoteSettings

    return RemotePainter(RemoteSettings(model, base_url=config.generator_url, answer_seconds=config.answer_seconds))


def embedder(spec: str, device: str = "auto") -> TextEmbedder:
    """The embedder of texts that a name means, loaded. A third party's class is called with the device. Errors as for `backend`."""
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


def loop_options(config: ModelConfig) -> "LoopOptions":
    """The loop's options that a config stands for."""
    from act2see.core.engine import Budget, LoopOptions

    offered: Mapping[str, tuple[Tool, ...]] = {
        "both": ("retrieve", "generate"),
        "retrieve": ("retrieve",),
        "generate": ("generate",),
        "none": (),
    }
    return LoopOptions(config.max_looks, config.seed or 0, offered[config.tools], Budget(config.budget_seconds, config.budget_frames))


def benchmark(spec: str, config: EvalConfig, folder: Path, *, makes_videos: bool = True) -> Benchmark:
    """The benchmark that a name means; videos that it makes are written into `folder`. A third party's class is called with the `EvalConfig` alone.

    Without `makes_videos` the synthetic world's are named and not made, for whoever has the answers already.

    Raises `ConfigError` as `backend` does, and for data that are not there or have a fault.
    """
    name, _ = split_spec("benchmark", spec, _BENCHMARKS)
    if name not in BY_NAME:
        made: Benchmark = third_party("benchmark", spec, config, ("samples", "is_right"))
        return made
    if name != "synthetic":
        found = data_set(name, config)
        next(iter(found.samples()), None)  # a file with a fault is refused before a model is loaded
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

    return SyntheticBenchmark(folder, config.n or SYNTHETIC_QUESTIONS, config.seed or 0, config.kind, writes=makes_videos)


def source(spec: str, config: SourceConfig, folder: Path) -> Benchmark:
    """The data set that a name means, to make training data from: of the synthetic world, clips that no evaluation shows. Else as `benchmark`."""
    name, _ = split_spec("source", spec, _BENCHMARKS)
    if name not in BY_NAME:
        made: Benchmark = third_party("source", spec, config, ("samples", "is_right"))
        return made
    if name != "synthetic":
        return data_set(name, config)
    if config.data:
        raise ConfigError("source 'synthetic' makes its own videos: leave --data out")
    from act2see.benchmarks.synthetic import SyntheticBenchmark

    return SyntheticBenchmark(folder, config.n or SYNTHETIC_QUESTIONS, config.seed or 0, config.kind, split="train")


def data_set(name: str, config: SourceConfig) -> "DataSet":
    """The benchmark of the catalogue that a name means, over the data that the config names. Nothing is read yet. Raises `ConfigError`."""
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
    """The data set with the judge that the config names, loaded."""
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

    _hush(model)
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


def _openai(model: str, config: ModelConfig) -> Backend:
    from act2see.backends.openai import OpenAIBackend, OpenAISettings

    # What would silently change the answers is refused; what only local models have (a device, say) is not read.
    if config.adapter:
        raise ConfigError("a server's model takes no adapter from here: start the server with it, and leave adapter out")
    if config.frames_as == "video":
        raise ConfigError("servers take frames as images: leave frames-as out, or set it to images")
    return OpenAIBackend(
        OpenAISettings(
            model=model,
            base_url=config.base_url,
            rendering=config.rendering,
            opening=config.opening,
            seed=config.seed,
            max_frames=config.max_frames or max(1, SERVER_PICTURES - config.max_looks - config.insert),
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


def _hush(model: str) -> None:
    """Keep transformers' warnings about defaults off the terminal, and its loading bars where there is nothing to wait for."""
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
