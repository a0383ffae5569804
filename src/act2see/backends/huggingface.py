"""A local vision-language model with transformers, which keeps its KV cache across inserted frames."""

import hashlib
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Generator as Yields
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from transformers.generation import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from act2see.backends import pretrained
from act2see.backends.batching import DecodingBatch, Row
from act2see.backends.continuation import Decoding
from act2see.backends.encoder import Encoder
from act2see.backends.flops import VisionLanguageModel, continuation_flops
from act2see.backends.kv_cache import CachedConversation
from act2see.backends.loading import load_vlm, model_folder, own_settings, reader
from act2see.backends.pieces import Piece
from act2see.backends.states import MOST_BORDERS, bytes_of_states
from act2see.core import chat
from act2see.core.errors import ConfigError
from act2see.core.framing import SHARE_OF_CONTEXT, FrameLimit
from act2see.core.interfaces import Continuation
from act2see.core.naming import importing
from act2see.core.trace import Cost, Trace

_log = logging.getLogger(__name__)
_LOWEST_TEMPERATURE = 1e-4
"""Logits divided by less may overflow float32. Our choice."""


@dataclass(frozen=True, slots=True)
class HuggingFaceSettings:
    """Model, device and decoding. Sampling defaults are those of Qwen3-VL-Thinking; temperature 0 is greedy."""

    model: str
    """A folder, or a name on the hub."""
    adapter: str | None = None
    """Folder of a LoRA adapter, merged into the model on loading."""
    device: str = "auto"
    dtype: str = "auto"
    rendering: Literal["auto"] | chat.Rendering = "auto"
    frames_as: Literal["auto"] | chat.FramesAs = "auto"
    """auto: as the model's act2see.json states, else video if the model's video processor can be loaded, else images."""
    max_tokens: int = 8192
    """Maximum number of tokens of one continuation. Not in the paper; our choice."""
    temperature: float = 0.6
    top_p: float = 0.95
    top_k: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises `ConfigError` for invalid sampling parameters."""
        if self.temperature != 0 and not _LOWEST_TEMPERATURE <= self.temperature < math.inf:
            raise ConfigError(f"temperature is {self.temperature}; allowed are 0 (greedy) and finite numbers from {_LOWEST_TEMPERATURE} on")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p is {self.top_p}; it must be above 0 and at most 1 (all tokens)")
        if self.top_k < 0:
            raise ConfigError(f"top_k is {self.top_k}; it must be 1 or more, or 0 for all tokens")
        if self.max_tokens < 1:
            raise ConfigError(f"max_tokens is {self.max_tokens}; it must be 1 or more")


class HuggingFaceBackend:
    """The local backend. Not thread-safe: it has one KV cache, which another conversation replaces."""

    def __init__(self, settings: HuggingFaceSettings, model: Any, encoder: Encoder, style: chat.Style, notice: str | None = None) -> None:
        self.settings, self.model, self.encoder, self.style, self.notice = settings, model, encoder, style, notice
        self.repeated_tokens = 0
        self.flops = VisionLanguageModel.of(model.config.to_dict())
        self._conversation = CachedConversation(model, encoder.merge)
        generation = getattr(model, "generation_config", None)
        ends = getattr(generation, "eos_token_id", None)
        self._ends = {encoder.tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}

    @classmethod
    def load(cls, settings: HuggingFaceSettings) -> "HuggingFaceBackend":
        """Load model, tokenizer and processors. Raises `BackendError` and `ConfigError`, one line each."""
        device = pretrained.device_of(settings.device)
        dtype = pretrained.dtype_of(settings.dtype, device, None)
        encoder, style, notice = reader(settings.model, settings.rendering, settings.frames_as)
        adapter = None
        if settings.adapter is not None:
            with importing("an adapter"):
                from act2see.backends.adapters import merge_into, read_adapter
            adapter = read_adapter(settings.adapter)
        model = load_vlm(settings.model, dtype=dtype or "auto").to(device)
        if adapter is not None:
            model = merge_into(model, adapter, settings.model, encoder).model
        own = own_settings(model_folder(settings.model), settings.model)
        made = cls(replace(settings, max_tokens=min(settings.max_tokens, own.get("max_tokens", settings.max_tokens))), model, encoder, style, notice)
        made.repeated_tokens = own.get("repeated_tokens", 0)
        return made

    @property
    def made_with(self) -> Mapping[str, str]:
        """Model, conversation format, and sampling."""
        settings = self.settings
        drawn = "greedy" if settings.temperature == 0 else f"temperature {settings.temperature:g}, top-p {settings.top_p:g}, top-k {settings.top_k}"
        made = {
            "backend": "huggingface",
            "model": Path(settings.model).name,
            "rendering": self.style.rendering,
            "frames_as": self.style.frames_as,
            "decoding": drawn + ("" if settings.temperature == 0 else f", seed {settings.seed}"),
            "dtype": str(self.model.dtype).removeprefix("torch."),
        }
        made |= {"opening": self.style.opening} if self.style.opening else {}
        return made | ({"adapter": Path(settings.adapter).name} if settings.adapter else {})

    def frame_limit(self, size: tuple[int, int], frames: int) -> FrameLimit:
        """The processor's input size, and as many frames as the context holds; see `LimitsFrames`."""
        room = int(self.model.config.get_text_config().max_position_embeddings * SHARE_OF_CONTEXT)
        return self.encoder.frame_limit(size, frames, room, as_video=self.style.frames_as == "video")

    def decode(self, trace: Trace, tools: Sequence[chat.Tool]) -> Yields[str, None, Continuation]:
        """Continue the trace; see `Backend.decode`."""
        began = time.perf_counter()
        pieces = self._pieces(trace, tools)
        encoded = time.perf_counter()
        logits, tokens_in, reused = self._conversation.feed(pieces)
        prefilled = time.perf_counter()
        decoding = self._decoding(trace)
        while True:
            if fresh := decoding.take(logits):
                yield fresh
            if decoding.stopped is not None:
                break
            logits = self._conversation.append(decoding.ids[-1])
        seconds = {"encode": encoded - began, "prefill": prefilled - encoded, "decode": time.perf_counter() - prefilled}
        flops = continuation_flops(self.flops, pieces, tokens_in, reused, decoding.tokens_out)
        return Continuation(decoding.text, decoding.stopped, Cost(tokens_in, decoding.tokens_out, reused, seconds, flops=flops))

    def batched(self, conversations: int) -> "HuggingFaceBackend | BatchedBackend":
        """The same model, which decodes up to so many conversations at once; see `BatchingBackend`.

        A model with sliding windows is returned as it is: rows of a batch have caches side by side, which these have not.
        """
        return BatchedBackend(self, conversations) if self._conversation.fits_slots else self

    def _pieces(self, trace: Trace, tools: Sequence[chat.Tool]) -> list[Piece]:
        return self.encoder.prompt(chat.turns(trace, tools, self.style))

    def _decoding(self, trace: Trace) -> Decoding:
        sampler, limit = self._sampler(trace), self.settings.max_tokens
        return Decoding(self.encoder.tokenizer, sampler, self._ends, max_tokens=limit, repeated_tokens=self.repeated_tokens)

    def _sampler(self, trace: Trace) -> Callable[[torch.Tensor], int]:
        """A function from logits to a token, seeded by trace and step: a resumed trace equals an uninterrupted one."""
        settings = self.settings
        if settings.temperature == 0:
            return lambda logits: int(logits.argmax())
        seed = hashlib.sha256(f"{settings.seed}\n{trace.id}\n{len(trace.steps)}".encode()).digest()
        generator = torch.Generator(self.model.device).manual_seed(int.from_bytes(seed[:7], "big"))
        warp: Any = LogitsProcessorList([TemperatureLogitsWarper(settings.temperature)])
        if settings.top_k > 0:
            warp.append(TopKLogitsWarper(settings.top_k))
        if settings.top_p < 1:
            warp.append(TopPLogitsWarper(settings.top_p))

        def draw(logits: torch.Tensor) -> int:
            shares = torch.softmax(warp(None, logits[None].clone()), dim=-1)
            return int(torch.multinomial(shares, 1, generator=generator))

        return draw


class BatchedBackend:
    """A local model that decodes several conversations in one forward pass. Thread-safe. A continuation's text comes a few times a second."""

    concurrent = True

    def __init__(self, inner: HuggingFaceBackend, conversations: int) -> None:
        """Logs how much memory the caches can take."""
        self.inner = inner
        self._batch = DecodingBatch(inner.model, inner.encoder.merge, conversations)
        self._encoding = threading.Lock()  # the encoder remembers pictures
        text = inner.model.config.get_text_config()
        width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        layers = getattr(text, "layer_types", None) or ["full_attention"] * text.num_hidden_layers
        token = 2 * layers.count("full_attention") * text.num_key_value_heads * width * inner.model.dtype.itemsize
        state = bytes_of_states(text, inner.model.dtype.itemsize) * (1 + MOST_BORDERS)
        most = 2 * conversations * (token * text.max_position_embeddings + state)
        _log.warning(
            "%d conversations are decoded at once: their KV caches take %.1f KiB a token%s, and at most %.1f GiB in all",
            conversations,
            token / 2**10,
            f" and {state / 2**20:.1f} MiB each" if state else "",
            most / 2**30,
        )

    @property
    def made_with(self) -> Mapping[str, str]:
        """The model's own metadata: batching changes no text."""
        return self.inner.made_with

    def decode(self, trace: Trace, tools: Sequence[chat.Tool]) -> Yields[str, None, Continuation]:
        """Continue the trace; see `Backend.decode`."""
        began = time.perf_counter()
        with self._encoding:
            pieces = self.inner._pieces(trace, tools)
        encoded = time.perf_counter()
        decoding = self.inner._decoding(trace)
        row = Row(trace.id, pieces, decoding)
        yield from self._batch.stream(row)
        assert decoding.stopped is not None
        assert row.tokens_in is not None
        seconds = {"encode": encoded - began, "prefill": row.prefill_seconds, "decode": row.decode_seconds}
        flops = continuation_flops(self.inner.flops, pieces, row.tokens_in, row.reused, decoding.tokens_out)
        return Continuation(decoding.text, decoding.stopped, Cost(row.tokens_in, decoding.tokens_out, row.reused, seconds, flops=flops))
