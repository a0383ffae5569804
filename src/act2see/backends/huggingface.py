"""A local Qwen3-VL-class model with transformers, which keeps its KV cache across inserted frames."""

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Generator as Yields
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import DynamicCache
from transformers.generation import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from act2see.backends import pretrained
from act2see.backends.loading import load_vlm, model_folder, own_settings, reader
from act2see.backends.qwen_tokens import Encoder, Piece, positions
from act2see.backends.repetition import repeats
from act2see.core import chat
from act2see.core.errors import ConfigError
from act2see.core.framing import SHARE_OF_CONTEXT, FrameLimit
from act2see.core.interfaces import Continuation
from act2see.core.naming import importing
from act2see.core.protocol import STOPS
from act2see.core.trace import Cost, Trace

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


class CachedConversation:
    """A model with the KV cache of one conversation.

    `feed` extends or crops the cache to the given pieces and computes only what is missing. Rope positions are computed here and passed to the model,
    because its own would be wrong for a chunk of a prompt.
    """

    def __init__(self, model: Any, merge: int) -> None:
        self.model, self.merge = model, merge
        self._cache = DynamicCache(config=model.config)
        self._held: list[_Unit] = []

    def feed(self, pieces: Sequence[Piece]) -> tuple[torch.Tensor, int, int]:
        """Logits (vocabulary,) float32 after the last token, the number of tokens, and how many of them were reused from the cache."""
        wanted = list(_units(pieces, self.merge))
        same = next((n for n, (a, b) in enumerate(zip(self._held, wanted, strict=False)) if a.key != b.key), min(len(self._held), len(wanted)))
        same = min(same, len(wanted) - 1)  # the last unit is recomputed for its logits
        self._cut(same)
        reused = self._cache.get_seq_length()
        logits = self._forward([unit.piece for unit in wanted[same:]])
        self._held = wanted
        return logits, reused + sum(unit.tokens for unit in wanted[same:]), reused

    def append(self, token: int) -> torch.Tensor:
        """Logits (vocabulary,) after one more token."""
        start = self._held[-1].after
        piece = Piece((token,), token)
        logits = self._forward([piece])
        self._held.append(_Unit(token, 1, start + 1, piece))
        return logits

    def _cut(self, units: int) -> None:
        if units < len(self._held):
            if units:
                self._cache.crop(-sum(unit.tokens for unit in self._held[units:]))
            else:
                self._cache = DynamicCache(config=self.model.config)
            del self._held[units:]

    def _forward(self, pieces: Sequence[Piece]) -> torch.Tensor:
        device, held = self.model.device, self._cache.get_seq_length()
        rows, _ = positions(pieces, self.merge, self._held[-1].after if self._held else 0)
        order = torch.arange(held, held + rows.shape[1])
        inputs: dict[str, torch.Tensor] = {
            "input_ids": torch.tensor([[token for piece in pieces for token in piece.ids]], device=device),
            "position_ids": torch.cat([order[None], torch.from_numpy(rows)])[:, None].to(device),
            **picture_inputs(pieces, device, self.model.dtype),
        }
        with torch.inference_mode():
            out = self.model(**inputs, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        logits: torch.Tensor = out.logits[0, -1].float()
        return logits


@dataclass(frozen=True, slots=True)
class _Unit:
    """The smallest unit that the cache is cropped by: one text token, or a whole picture. `after` is the next rope position."""

    key: object
    tokens: int
    after: int
    piece: Piece


def _units(pieces: Sequence[Piece], merge: int) -> Iterator[_Unit]:
    at = 0
    for piece in pieces:
        if piece.grid is None:
            for token in piece.ids:
                at += 1
                yield _Unit(token, 1, at, Piece((token,), token))
        else:
            _, at = positions([piece], merge, at)
            yield _Unit(piece.same, len(piece.ids), at, piece)


def picture_inputs(pieces: Sequence[Piece], device: torch.device, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The pieces' patches and grids, as keyword arguments of Qwen3-VL's forward."""
    inputs = {}
    for is_video, pixels_name, grid_name in ((False, "pixel_values", "image_grid_thw"), (True, "pixel_values_videos", "video_grid_thw")):
        shown = [piece for piece in pieces if piece.pixels is not None and piece.is_video is is_video]
        if shown:
            inputs[pixels_name] = torch.cat([torch.from_numpy(piece.pixels) for piece in shown]).to(device, dtype)
            inputs[grid_name] = torch.tensor([piece.grid for piece in shown], device=device)
    return inputs


class HuggingFaceBackend:
    """The local backend. Not thread-safe: it has one KV cache, which another conversation replaces."""

    def __init__(self, settings: HuggingFaceSettings, model: Any, encoder: Encoder, style: chat.Style, notice: str | None = None) -> None:
        self.settings, self.model, self.encoder, self.style, self.notice = settings, model, encoder, style, notice
        self.repeated_tokens = 0
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
        pieces = self.encoder.encode(chat.segments(chat.turns(trace, tools, self.style)))
        encoded = time.perf_counter()
        logits, tokens_in, reused = self._conversation.feed(pieces)
        prefilled = time.perf_counter()
        draw = self._sampler(trace)
        text = _TextStream(self.encoder.tokenizer)
        stopped: Literal["tag", "end", "length"] = "length"
        ids: list[int] = []
        while len(ids) < self.settings.max_tokens:
            token = draw(logits)
            if token in self._ends:
                stopped = "end"
                break
            ids.append(token)
            fresh, closed = text.add(token)
            if fresh:
                yield fresh
            if closed:
                stopped = "tag"
                break
            if repeats(ids, self.repeated_tokens):
                break
            logits = self._conversation.append(token)
        if stopped != "tag" and (rest := text.rest()):
            yield rest
        seconds = {"encode": encoded - began, "prefill": prefilled - encoded, "decode": time.perf_counter() - prefilled}
        return Continuation(text.text, stopped, Cost(tokens_in, len(ids) + (stopped == "end"), reused, seconds))

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


class _TextStream:
    """Incremental detokenizer: yields whole characters only, and cuts after the first stop string, which may end inside a token."""

    def __init__(self, tokenizer: Any) -> None:
        self.text = ""
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._done = 0  # all tokens before this index are in `text`
        self._start = 0  # decoding starts at this index: a token's text may depend on the previous one

    def add(self, token: int) -> tuple[str, bool]:
        """The new complete text, and whether it ends with a stop string."""
        self._ids.append(token)
        known = self._tokenizer.decode(self._ids[self._start : self._done])
        longer = self._tokenizer.decode(self._ids[self._start :])
        if longer.endswith("\ufffd"):  # an incomplete character
            return "", False
        self._start, self._done = self._done, len(self._ids)
        return self._take(longer[len(known) :])

    def rest(self) -> str:
        """The remaining text if decoding ended inside a character."""
        known = self._tokenizer.decode(self._ids[self._start : self._done])
        return self._take(self._tokenizer.decode(self._ids[self._start :])[len(known) :])[0]

    def _take(self, fresh: str) -> tuple[str, bool]:
        longer = self.text + fresh
        ends = [at + len(stop) for stop in STOPS if (at := longer.find(stop, max(0, len(self.text) - len(stop)))) >= 0]
        before, self.text = self.text, longer[: min(ends)] if ends else longer
        return self.text[len(before) :], bool(ends)
