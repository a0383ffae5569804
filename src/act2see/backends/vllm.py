"""vLLM's engine in this process, fed with our token ids and pictures. Its prefix cache goes on over a frame."""

import hashlib
import os
import re
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from collections.abc import Generator as Yields
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from PIL import Image
from safetensors import SafetensorError, safe_open

from act2see.backends import pretrained
from act2see.backends.continuation import Writing
from act2see.backends.encoder import Encoder
from act2see.backends.families.grids import sizes_of
from act2see.backends.flops import VisionLanguageModel, continuation_flops
from act2see.backends.huggingface import HuggingFaceSettings
from act2see.backends.loading import own_settings, reader
from act2see.backends.pieces import Piece, joined
from act2see.backends.stepping import Output, SteppedEngine, reason
from act2see.core import chat
from act2see.core.errors import BackendError, ConfigError
from act2see.core.framing import SHARE_OF_CONTEXT, FrameLimit
from act2see.core.interfaces import Continuation
from act2see.core.protocol import STOPS
from act2see.core.trace import Cost, Frame, Trace
from act2see.storage.frames import name_of

if TYPE_CHECKING:
    from vllm import LLMEngine, SamplingParams
    from vllm.lora.request import LoRARequest

MODEL_TYPES = ("qwen3_vl", "qwen3_vl_moe")
"""Families whose pictures vLLM expects as one placeholder between the marks of a picture."""
_ENVIRONMENT = {
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",  # stdout is for results
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}
"""Set before vLLM is imported, unless the user has set them."""
_ADAPTED = re.compile(r"base_model\.model\.model\.language_model\.layers\.\d+\.[\w.]+_proj\.lora_[AB]\.weight")
"""The weights of an adapter that vLLM applies. It skips those of the vision tower with a warning."""
_LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
_SEED_BITS = 63


@dataclass(frozen=True, slots=True)
class VllmSettings(HuggingFaceSettings):
    """Model, engine and decoding. Sampling is as for the local backend; `device` is vLLM's choice, and frames are images."""

    tensor_parallel: int = 1
    """GPUs that the engine is spread over."""
    context_length: int | None = None
    """Tokens of prompt and answer together; None for what the model and the memory hold."""
    memory_share: float | None = None
    """Share of each GPU's memory that the engine takes; vLLM's own default if None."""


class VllmBackend:
    """A vLLM engine in this process. Thread-safe: it decodes as many conversations at once as `decode` is called for."""

    concurrent = True

    def __init__(
        self,
        settings: VllmSettings,
        engine: SteppedEngine,
        sampling: "Callable[..., SamplingParams]",
        encoder: Encoder,
        style: chat.Style,
        *,
        context: int,
        made_with: Mapping[str, str],
        ends: Collection[int] = (),
        repeated_tokens: int = 0,
        notice: str | None = None,
        revision: str | None = None,
        flops: VisionLanguageModel | None = None,
    ) -> None:
        """`sampling` makes vLLM's `SamplingParams`; `context` is the engine's context length in tokens; `ends` are tokens that end the turn."""
        self.settings, self.encoder, self.style, self.notice, self.revision = settings, encoder, style, notice, revision
        self.made_with = made_with
        self._engine, self._sampling, self._context, self._repeated_tokens = engine, sampling, context, repeated_tokens
        self._flops = flops
        self._ends = frozenset({*ends, encoder.tokenizer.eos_token_id} - {None})
        self._around = tuple(int(encoder.tokenizer.convert_tokens_to_ids(mark)) for mark in ("<|vision_start|>", "<|vision_end|>"))
        self._encoding = threading.Lock()  # the encoder is not thread-safe
        self._names = _PictureNames()

    @classmethod
    def load(cls, settings: VllmSettings) -> "VllmBackend":
        """Start the engine. Raises `BackendError` and `ConfigError`, one line each, and `ModuleNotFoundError` without vLLM."""
        folder = _folder(settings)
        rank = None if settings.adapter is None else _rank(settings.adapter)
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        import vllm
        from vllm.exceptions import VLLMError
        from vllm.lora.request import LoRARequest
        from vllm.platforms import current_platform
        from vllm.sampling_params import RequestOutputKind
        from vllm.v1.engine.exceptions import EngineDeadError

        own = own_settings(folder, settings.model)
        encoder, style, notice = reader(settings.model, settings.rendering, "images")
        dtype = "float32" if settings.dtype == "auto" and current_platform.is_cpu() else settings.dtype
        try:
            engine = vllm.LLMEngine.from_engine_args(
                vllm.EngineArgs(
                    model=str(folder),
                    dtype=dtype,
                    seed=settings.seed,
                    tensor_parallel_size=settings.tensor_parallel,
                    max_model_len=settings.context_length or -1,
                    limit_mm_per_prompt={"video": 0},  # no profiling of video inputs
                    enable_prefix_caching=True,
                    enforce_eager=current_platform.is_cpu(),  # compiling takes minutes there
                    disable_log_stats=True,
                    **({} if settings.memory_share is None else {"gpu_memory_utilization": settings.memory_share}),
                    **({} if rank is None else {"enable_lora": True, "max_lora_rank": rank}),
                )
            )
            lora = None if settings.adapter is None else LoRARequest("adapter", 1, str(Path(settings.adapter).absolute()))
            if lora is not None:
                engine.add_lora(lora)
        except (OSError, ValueError, TypeError, RuntimeError, ImportError, AssertionError, LookupError, AttributeError, VLLMError) as error:
            if isinstance(error, ModuleNotFoundError):
                raise
            raise BackendError(f"vLLM cannot load {settings.model}: {reason(error)}; its log above has the cause") from error

        def sampling(**options: object) -> "SamplingParams":
            return vllm.SamplingParams(output_kind=RequestOutputKind.DELTA, **options)

        config = engine.model_config
        limited = replace(settings, max_tokens=min(settings.max_tokens, own.get("max_tokens", settings.max_tokens)))
        return cls(
            limited,
            SteppedEngine(_Engine(engine, lora), died=(EngineDeadError,), refused=(ValueError, VLLMError)),
            sampling,
            encoder,
            style,
            context=int(config.max_model_len),
            made_with=_made_with(limited, style, str(config.dtype).removeprefix("torch."), str(vllm.__version__)),
            ends=_ends(folder, settings.model),
            repeated_tokens=own.get("repeated_tokens", 0),
            notice=notice,
            revision=None if Path(os.path.expanduser(settings.model)).is_dir() else folder.name,
            flops=VisionLanguageModel.of(config.hf_config.to_dict()),
        )

    @property
    def is_dead(self) -> bool:
        """Whether the engine has ended for good; see `MortalBackend`."""
        return self._engine.is_dead

    def close(self) -> None:
        """End the engine and free its memory. It also ends with the program."""
        self._engine.close()

    def frame_limit(self, size: tuple[int, int], frames: int) -> FrameLimit:
        """The processor's input size, and as many frames as the engine's context holds; see `LimitsFrames`."""
        return self.encoder.frame_limit(size, frames, int(self._context * SHARE_OF_CONTEXT))

    def decode(self, trace: Trace, tools: Sequence[chat.Tool]) -> Yields[str, None, Continuation]:
        """Continue the trace; see `Backend.decode`."""
        began = time.perf_counter()
        ids, frames = self._prompt(trace, tools)
        encoded = prefilled = time.perf_counter()
        writing = Writing(self.encoder.tokenizer, self._ends, max_tokens=self.settings.max_tokens, repeated_tokens=self._repeated_tokens)
        read: Sequence[int] = ()
        reused = 0
        with closing(self._engine.outputs(self._request(ids, frames), self._sampled(trace))) as outputs:
            for output in outputs:
                if not read:
                    prefilled = time.perf_counter()
                    read, reused = self._checked(output, ids), output.num_cached_tokens or 0
                yield from _written(writing, output)
                if writing.stopped is not None:
                    break
        if writing.stopped is None:
            raise BackendError("vLLM ended the request without a token that ends it")
        seconds = {"encode": encoded - began, "prefill": prefilled - encoded, "decode": time.perf_counter() - prefilled}
        flops = continuation_flops(self._flops, self._pieces(read, frames), len(read), reused, writing.tokens_out)
        return Continuation(writing.text, writing.stopped, Cost(len(read), writing.tokens_out, reused, seconds, flops=flops))

    def _prompt(self, trace: Trace, tools: Sequence[chat.Tool]) -> tuple[list[int], list[Frame]]:
        """The prompt with one placeholder for each picture, which vLLM repeats as often as the picture has tokens, and the pictures in order."""
        start, end = self._around
        ids: list[int] = []
        frames: list[Frame] = []
        with self._encoding:
            for segment in chat.segments(chat.turns(trace, tools, self.style)):
                match segment:
                    case chat.Picture(frame):
                        ids += (start, self.encoder.image_id, end)
                        frames.append(frame)
                    case _:
                        ids += joined(self.encoder.encode([segment]))
        return ids, frames

    def _request(self, ids: list[int], frames: Sequence[Frame]) -> dict[str, object]:
        request: dict[str, object] = {"prompt_token_ids": ids}
        if frames:
            request["multi_modal_data"] = {"image": [frame.image for frame in frames]}
            request["multi_modal_uuids"] = {"image": [self._names.of(frame) for frame in frames]}
        return request

    def _sampled(self, trace: Trace) -> "SamplingParams":
        """Sampling seeded by trace and step, as the local backend's: a resumed trace equals an uninterrupted one."""
        settings = self.settings
        seed = hashlib.sha256(f"{settings.seed}\n{trace.id}\n{len(trace.steps)}".encode()).digest()
        drawn = {
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "top_k": settings.top_k,
            "seed": int.from_bytes(seed[:8], "big") >> (64 - _SEED_BITS),
        }
        return self._sampling(
            **({"temperature": 0.0} if settings.temperature == 0 else drawn),
            max_tokens=settings.max_tokens,
            stop=list(STOPS),
            include_stop_str_in_output=True,
            stop_token_ids=sorted(self._ends),
            skip_special_tokens=False,
        )

    def _checked(self, output: Output, ids: Sequence[int]) -> Sequence[int]:
        """The prompt that the engine has read, if it is ours with each placeholder repeated. Raises `BackendError`."""
        pad, read = self.encoder.image_id, output.prompt_token_ids or ()
        if [token for number, token in enumerate(read) if token != pad or not number or read[number - 1] != pad] != ids:
            raise BackendError("vLLM reads another prompt than it was given: this version, or this model, is not supported")
        return read

    def _pieces(self, read: Iterable[int], frames: Iterable[Frame]) -> list[Piece]:
        """The prompt cut at its pictures, without pixels. vLLM's cache may end within a picture, which its vision tower then sees as a whole."""
        sizes, patch, shown = sizes_of(self.encoder.image_processor), int(self.encoder.image_processor.patch_size), iter(frames)
        pieces: list[Piece] = []
        for is_picture, tokens in groupby(read, key=lambda token: token == self.encoder.image_id):
            width, height = sizes.seen(next(shown).image.size, 1) if is_picture else (0, 0)
            pieces.append(Piece(tuple(tokens), None, grid=(1, height // patch, width // patch) if is_picture else None))
        return pieces


def _written(writing: Writing, output: Output) -> Yields[str, None, None]:
    """The text that an output adds."""
    (completion,) = output.outputs
    for token in completion.token_ids:
        if fresh := writing.add(token):
            yield fresh
        if writing.stopped is not None:
            return
    if completion.finish_reason == "length" and (fresh := writing.cut()):  # the context is full
        yield fresh


class _Engine:
    """vLLM's engine as `stepping.Engine`."""

    def __init__(self, engine: "LLMEngine", lora: "LoRARequest | None") -> None:
        self._engine, self._lora = engine, lora

    def add(self, request_id: str, prompt: Mapping[str, object], sampling: object) -> None:
        (rendered,) = self._engine.renderer.render_cmpl([prompt])
        self._engine.add_request(request_id, rendered, sampling, lora_request=self._lora)

    def step(self) -> Sequence[Output]:
        found: Sequence[Output] = self._engine.step()
        return found

    def abort(self, request_ids: Sequence[str]) -> None:
        self._engine.abort_request(list(request_ids))

    @property
    def is_busy(self) -> bool:
        return bool(self._engine.has_unfinished_requests())

    @property
    def is_alive(self) -> bool:
        resources = getattr(self._engine.engine_core, "resources", None)  # there is none where the engine computes in this process
        return not getattr(resources, "engine_dead", False)

    def close(self) -> None:
        self._engine.engine_core.shutdown()


class _PictureNames:
    """Names of frames by what they show (`frames.name_of`), computed once for each picture."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[Image.Image], str]] = {}

    def of(self, frame: Frame) -> str:
        """The frame's name."""
        key = id(frame.image)
        found = self._known.get(key)
        if found is None or found[0]() is not frame.image:
            found = self._known[key] = (weakref.ref(frame.image, lambda _: self._known.pop(key, None)), name_of(frame))
        return found[1]


def _folder(settings: VllmSettings) -> Path:
    """The model's folder, after checking that this backend takes it. Reads no weights. Raises `BackendError` and `ConfigError`."""
    model = settings.model
    folder = pretrained.locate(model, model, BackendError)
    found = pretrained.read_model_type(folder, model, BackendError)
    if found not in MODEL_TYPES:
        raise BackendError(
            f"{model} is a model of type {found[:80]!r}; the vllm backend takes {' and '.join(MODEL_TYPES)}; serve others with vLLM and use "
            "--backend openai:MODEL"
        )
    trained: Literal["auto"] | chat.FramesAs = own_settings(folder, model).get("frames_as", "auto")
    if settings.frames_as == "video" or (settings.frames_as == "auto" and trained == "video"):
        why = "" if settings.frames_as == "video" else f", and {model} states that it was trained with video"
        raise ConfigError(f"vLLM takes frames as images here{why}: set frames-as to images, or use --backend huggingface:DIR")
    pretrained.weight_files(folder, model, BackendError)
    return folder


def _ends(folder: Path, model: str) -> Collection[int]:
    """The tokens that end a turn by the folder's generation_config.json."""
    path = folder / "generation_config.json"
    found = pretrained.read_json(path, model, BackendError).get("eos_token_id") if path.is_file() else None
    return [one for one in (found if isinstance(found, list) else [found]) if isinstance(one, int)]


def _rank(adapter: str) -> int:
    """The rank to reserve for a LoRA adapter, after checking that vLLM applies all of it. Raises `BackendError`."""
    folder, what = Path(adapter), f"the adapter {adapter}"
    if not (folder / "adapter_config.json").is_file():
        raise BackendError(f"no adapter in {adapter}: it holds no adapter_config.json; name the folder that training wrote")
    (file,) = pretrained.weight_files(folder, what, BackendError, single="adapter_model.safetensors")
    try:
        with safe_open(file, framework="pt") as weights:
            shapes = {name: weights.get_slice(name).get_shape() for name in weights.keys()}  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError) as error:
        raise BackendError(f"cannot load {what}: {pretrained.first_line(error)}") from error
    if other := next((name for name in shapes if not _ADAPTED.fullmatch(name)), None):
        raise BackendError(
            f"vLLM applies adapters to the linear layers of the language model only, and {adapter} also changes {other}: merge it with "
            "`act2see merge BASE ADAPTER`, and name the merged folder"
        )
    highest = max((shape[0] for name, shape in shapes.items() if ".lora_A." in name), default=0)
    rank = next((rank for rank in _LORA_RANKS if rank >= highest), None)
    if rank is None or not highest:
        raise BackendError(f"{what} has rank {highest}; vLLM takes 1 to {_LORA_RANKS[-1]}: merge it with `act2see merge BASE ADAPTER`")
    return rank


def _made_with(settings: VllmSettings, style: chat.Style, dtype: str, version: str) -> Mapping[str, str]:
    drawn = f"temperature {settings.temperature:g}, top-p {settings.top_p:g}, top-k {settings.top_k}, seed {settings.seed}"
    made = {
        "backend": "vllm",
        "model": Path(settings.model).name,
        "rendering": style.rendering,
        "frames_as": style.frames_as,
        "decoding": "greedy" if settings.temperature == 0 else drawn,
        "dtype": dtype,
        "engine": f"vllm {version}",
    }
    made |= {"opening": style.opening} if style.opening else {}
    return made | ({"adapter": Path(settings.adapter).name} if settings.adapter else {})
