"""A stand-in for vLLM with the calls that the backend makes. It has no model: what it writes, a function of the prompt decides.

It checks what vLLM checks (placeholders, pictures and their uuids, ids, the context's length), expands placeholders with the model's own processor,
reuses prompts by prefix, processes a picture once for each uuid, stops at stop strings, and fails as vLLM fails.
"""

import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import ClassVar, TypedDict

from PIL import Image
from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer

from act2see import registry
from act2see.config import ModelConfig
from act2see.core.interfaces import Backend

BLOCK = 16
"""The prefix cache reuses whole blocks."""


class RequestOutputKind(Enum):
    CUMULATIVE = 0
    DELTA = 1
    FINAL_ONLY = 2


class VLLMError(Exception):
    """The root of vLLM's exceptions, which are no `ValueError`."""


class VLLMValidationError(VLLMError): ...


class EngineDeadError(VLLMError): ...


@dataclass(kw_only=True)
class SamplingParams:
    max_tokens: int
    stop: list[str]
    stop_token_ids: list[int]
    output_kind: RequestOutputKind
    include_stop_str_in_output: bool
    skip_special_tokens: bool
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None


@dataclass(kw_only=True)
class EngineArgs:
    model: str
    dtype: str
    seed: int
    tensor_parallel_size: int
    max_model_len: int
    limit_mm_per_prompt: Mapping[str, int]
    enable_prefix_caching: bool
    enforce_eager: bool
    disable_log_stats: bool
    gpu_memory_utilization: float = 0.9
    enable_lora: bool = False
    max_lora_rank: int = 16


@dataclass(frozen=True)
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str


class TokensPrompt(TypedDict, total=False):
    prompt_token_ids: list[int]
    multi_modal_data: Mapping[str, list[Image.Image]]
    multi_modal_uuids: Mapping[str, list[str]]


@dataclass
class Rendered:
    """A prompt as the engine's process gets it: its tokens, each of a picture's with the picture's uuid."""

    ids: list[int]
    keys: list[tuple[int, str | None]]


@dataclass
class Request:
    id: str
    rendered: Rendered
    sampling: SamplingParams
    lora: LoRARequest | None
    coming: Iterator[tuple[list[int], str | None]]
    written: list[int] = field(default_factory=list)
    reused: int = 0


@dataclass
class Completion:
    token_ids: list[int]
    finish_reason: str | None


@dataclass
class RequestOutput:
    request_id: str
    prompt_token_ids: list[int]
    num_cached_tokens: int
    finished: bool
    outputs: list[Completion]


class LLMEngine:
    """The engine. Class variables say how the next ones behave."""

    writes: ClassVar[Callable[[str], str]] = lambda prompt: "<answer>A</answer>"
    """The whole text of a turn's rest, by the prompt as text."""
    made: ClassVar[list["LLMEngine"]] = []
    failing: ClassVar[int] = 0
    """So many requests fail before their first token, as those whose pictures the engine's process has lost."""
    fatal: ClassVar[Callable[["LLMEngine"], bool]] = lambda engine: False
    """Whether the engine dies now."""

    def __init__(self, args: EngineArgs) -> None:
        self.args = args
        self.tokenizer = AutoTokenizer.from_pretrained(args.model)
        self.processor = AutoImageProcessor.from_pretrained(args.model)
        self.model_config = SimpleNamespace(
            max_model_len=8192 if args.max_model_len < 0 else args.max_model_len,
            dtype=f"torch.{args.dtype}",
            hf_config=AutoConfig.from_pretrained(args.model),
        )
        self.renderer = self.engine_core = self
        self.processed: dict[str, tuple[bytes, int]] = {}
        """Digest and number of tokens of the pictures processed, by uuid."""
        self.requests: list[Request] = []
        self.aborted: list[str] = []
        self.loras: list[LoRARequest] = []
        self.most_at_once = 0
        self.is_closed = self.is_dead = False
        self.resources = SimpleNamespace(engine_dead=False)
        self._active: dict[str, Request] = {}
        self._cached: list[list[tuple[int, str | None]]] = []
        self._failing = self.failing
        self._pad: int = self.tokenizer.encode("<|image_pad|>", add_special_tokens=False)[0]
        type(self).made.append(self)

    @classmethod
    def from_engine_args(cls, args: EngineArgs) -> "LLMEngine":
        return cls(args)

    def render_cmpl(self, prompts: Sequence[TokensPrompt]) -> list[Rendered]:
        return [self._render(prompt) for prompt in prompts]

    def _render(self, prompt: TokensPrompt) -> Rendered:
        assert all(type(token) is int and 0 <= token < len(self.tokenizer) for token in prompt["prompt_token_ids"])
        images = prompt.get("multi_modal_data", {}).get("image", [])
        uuids = prompt.get("multi_modal_uuids", {}).get("image", [])
        if not len(images) == len(uuids) == prompt["prompt_token_ids"].count(self._pad):
            raise ValueError(f"{len(images)} pictures, {len(uuids)} uuids and {prompt['prompt_token_ids'].count(self._pad)} placeholders")
        left, keys = iter(uuids), list[tuple[int, str | None]]()
        for image, uuid in zip(images, uuids, strict=True):
            self._process(image, uuid)
        for token in prompt["prompt_token_ids"]:
            if token == self._pad:
                uuid = next(left)
                keys += [(token, uuid)] * self.processed[uuid][1]
            else:
                keys.append((token, None))
        if len(keys) >= self.model_config.max_model_len:
            raise VLLMValidationError(
                f"The decoder prompt (length {len(keys)}) is longer than\nthe maximum model length of {self.model_config.max_model_len}."
            )
        return Rendered([token for token, _ in keys], keys)

    def _process(self, image: Image.Image, uuid: str) -> None:
        digest = hashlib.sha256(image.tobytes()).digest()
        if uuid not in self.processed:
            time, height, width = self.processor(images=[image], return_tensors="np")["image_grid_thw"][0]
            self.processed[uuid] = digest, int(time * height * width) // self.processor.merge_size**2
        assert self.processed[uuid][0] == digest, "one uuid for two pictures"

    def add_lora(self, lora: LoRARequest) -> bool:
        assert self.args.enable_lora
        self.loras.append(lora)
        return True

    def add_request(self, request_id: str, rendered: Rendered, sampling: SamplingParams, *, lora_request: LoRARequest | None = None) -> None:
        if self.is_dead:
            raise EngineDeadError("EngineCore encountered an issue.")
        assert request_id not in self._active
        assert sampling.output_kind is RequestOutputKind.DELTA
        request = Request(request_id, rendered, sampling, lora_request, self._coming(rendered, sampling))
        request.reused = max((_shared(rendered.keys, one) for one in self._cached), default=0)
        self.requests.append(request)
        self._active[request_id] = request
        self.most_at_once = max(self.most_at_once, len(self._active))

    def _coming(self, rendered: Rendered, sampling: SamplingParams) -> Iterator[tuple[list[int], str | None]]:
        """The tokens of each step, and why the last one is the last."""
        text = type(self).writes(str(self.tokenizer.decode(rendered.ids)))
        ids = self.tokenizer.encode(text, add_special_tokens=False)
        for number, token in enumerate(ids):
            so_far = self.tokenizer.decode(ids[: number + 1])
            if any(stop in so_far for stop in sampling.stop):
                yield [token], "stop"
                return
            if number + 1 >= sampling.max_tokens or len(rendered.ids) + number + 1 >= self.model_config.max_model_len:
                yield [token], "length"
                return
            yield [token], None
        yield [self.tokenizer.eos_token_id], "stop"

    def has_unfinished_requests(self) -> bool:
        return bool(self._active)

    def step(self) -> list[RequestOutput]:
        if type(self).fatal(self):
            self.is_dead = True
            raise EngineDeadError("EngineCore encountered an issue.")
        return [self._stepped(request) for request in list(self._active.values())]

    def _stepped(self, request: Request) -> RequestOutput:
        if self._failing:
            self._failing -= 1
            tokens: list[int] = []
            ended: str | None = "error"
        else:
            tokens, ended = next(request.coming)
        request.written += tokens
        if ended:
            del self._active[request.id]
            self._cached.append([*request.rendered.keys, *((token, None) for token in request.written)])
        return RequestOutput(request.id, request.rendered.ids, request.reused, ended is not None, [Completion(tokens, ended)])

    def abort_request(self, request_ids: list[str]) -> None:
        self.aborted += request_ids
        for name in request_ids:
            self._active.pop(name, None)

    def shutdown(self) -> None:
        self.is_closed = True


def _shared(one: Sequence[object], other: Sequence[object]) -> int:
    same = next((number for number, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return min(same, len(one) - 1) // BLOCK * BLOCK


def modules() -> dict[str, ModuleType]:
    """What stands for vLLM's modules in `sys.modules`."""
    holds: dict[str, dict[str, object]] = {
        "vllm": {"LLMEngine": LLMEngine, "EngineArgs": EngineArgs, "SamplingParams": SamplingParams, "__version__": "0.0.fake"},
        "vllm.exceptions": {"VLLMError": VLLMError},
        "vllm.lora": {},
        "vllm.lora.request": {"LoRARequest": LoRARequest},
        "vllm.platforms": {"current_platform": SimpleNamespace(is_cpu=lambda: True)},
        "vllm.sampling_params": {"RequestOutputKind": RequestOutputKind},
        "vllm.v1": {},
        "vllm.v1.engine": {},
        "vllm.v1.engine.exceptions": {"EngineDeadError": EngineDeadError},
    }
    made = {}
    for name, members in holds.items():
        made[name] = ModuleType(name)
        vars(made[name]).update(members)
    return made


def on_a_cluster(config: ModelConfig) -> Backend:
    """The vllm backend in a process of its own: looks once and answers. The first engine that has three requests dies."""
    sys.modules.update(modules())

    def fatal(engine: LLMEngine) -> bool:
        if len(engine.requests) < 3:
            return False
        try:
            with Path(os.environ["ACT2SEE_TEST_DIED"]).open("x", encoding="utf-8") as file:
                file.write(str(os.getpid()))
        except FileExistsError:
            return False
        return True

    LLMEngine.fatal = fatal
    LLMEngine.writes = lambda prompt: "<answer>A</answer>" if "</retrieve>" in prompt.partition("assistant\n")[2] else "<retrieve> a star </retrieve>"
    return registry.backend(f"vllm:{registry.MICRO / 'vlm'}", config)
