"""A local Qwen3-VL-class model through transformers, whose KV cache goes on over every inserted frame instead of being computed again."""

import hashlib
import json
import time
from collections.abc import Generator as Yields
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer, AutoVideoProcessor, DynamicCache
from transformers.generation import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper
from transformers.utils import cached_file

from act2see import chat
from act2see.backends.repetition import repeats
from act2see.errors import BackendError
from act2see.framing import SHARE_OF_CONTEXT, FrameLimit
from act2see.interfaces import Continuation
from act2see.protocol import STOPS
from act2see.tokens import Encoder, Piece, positions
from act2see.trace import Cost, Trace

MODEL_TYPES = ("qwen3_vl", "qwen3_vl_moe")
SETTINGS_FILE = "act2see.json"
"""A model's folder may hold this beside its weights: how it was trained to see (`frames_as`, `rendering`), a `notice` for its users, what it `knows`
alone (see `scope`), and where it stops: after `max_tokens`, however many may be asked for, or when its last `repeated_tokens` are one piece again and
again (never, if not given: what a larger model repeats it may mean)."""
_LIMITS = ("max_tokens", "repeated_tokens")


@dataclass(frozen=True, slots=True)
class HuggingFaceSettings:
    """Which model, where and how it decodes. Sampling defaults are those of Qwen3-VL-Thinking; temperature 0 is greedy."""

    model: str
    """A folder, or a name on the hub."""
    adapter: str | None = None
    """A folder with a LoRA adapter, merged into the model when it is loaded."""
    device: str = "auto"
    dtype: str = "auto"
    rendering: Literal["auto"] | chat.Rendering = "auto"
    frames_as: Literal["auto"] | chat.FramesAs = "auto"
    """auto: what the model's folder says, else video where the model's video processor can load, else images."""
    max_tokens: int = 8192
    """Tokens that one continuation may have. Not in the paper; our choice."""
    temperature: float = 0.6
    top_p: float = 0.95
    top_k: int = 20
    seed: int = 0


class CachedConversation:
    """A model and the one conversation that its KV cache holds.

    `feed` brings the cache to hold exactly the pieces given and computes only what it does not hold yet. Rope positions are counted here and handed
    to the model: left to itself it would count a chunk from the wrong place.
    """

    def __init__(self, model: Any, merge: int) -> None:
        self.model, self.merge = model, merge
        self._cache = DynamicCache(config=model.config)
        self._held: list[_Unit] = []

    def feed(self, pieces: Sequence[Piece]) -> tuple[torch.Tensor, int, int]:
        """Logits (vocabulary,) float32 after the last token, how many tokens there are, and how many of them came from the cache."""
        wanted = list(_units(pieces, self.merge))
        same = next((n for n, (a, b) in enumerate(zip(self._held, wanted, strict=False)) if a.key != b.key), min(len(self._held), len(wanted)))
        same = min(same, len(wanted) - 1)  # the last unit is computed again, for its logits
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
        inputs: dict[str, Any] = {
            "input_ids": torch.tensor([[token for piece in pieces for token in piece.ids]], device=device),
            "position_ids": torch.cat([order[None], torch.from_numpy(rows)])[:, None].to(device),
            **_pictures(pieces, device, self.model.dtype),
        }
        with torch.inference_mode():
            out = self.model(**inputs, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        logits: torch.Tensor = out.logits[0, -1].float()
        return logits


@dataclass(frozen=True, slots=True)
class _Unit:
    """What a cache can be cut between: one token of text, or a whole picture. `after` is the rope position that follows it."""

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


def _pictures(pieces: Sequence[Piece], device: Any, dtype: Any) -> dict[str, torch.Tensor]:
    inputs = {}
    for is_video, pixels_name, grid_name in ((False, "pixel_values", "image_grid_thw"), (True, "pixel_values_videos", "video_grid_thw")):
        shown = [piece for piece in pieces if piece.pixels is not None and piece.is_video is is_video]
        if shown:
            inputs[pixels_name] = torch.cat([torch.from_numpy(piece.pixels) for piece in shown]).to(device, dtype)
            inputs[grid_name] = torch.tensor([piece.grid for piece in shown], device=device)
    return inputs


class HuggingFaceBackend:
    """The local backend. One rollout at a time: asking about other frames simply replaces what the cache holds."""

    def __init__(self, settings: HuggingFaceSettings, model: Any, encoder: Encoder, style: chat.Style, notice: str | None = None) -> None:
        self.settings, self.model, self.encoder, self.style, self.notice = settings, model, encoder, style, notice
        self.repeated_tokens = 0
        self._conversation = CachedConversation(model, encoder.merge)
        generation = getattr(model, "generation_config", None)
        ends = getattr(generation, "eos_token_id", None)
        self._ends = {encoder.tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}

    @classmethod
    def load(cls, settings: HuggingFaceSettings) -> "HuggingFaceBackend":
        """Load model, tokenizer and processors. Raises `BackendError` with one line for what cannot be used."""
        device = settings.device if settings.device != "auto" else _best_device()
        # Half precision is slow and, for some operations, missing on CPUs.
        dtype = "float32" if settings.dtype == "auto" and device == "cpu" else settings.dtype
        encoder, style, notice = reader(settings.model, settings.rendering, settings.frames_as)
        try:
            model: Any = AutoModelForImageTextToText.from_pretrained(settings.model, dtype=dtype)
            if settings.adapter:
                model = _with_adapter(model, settings.adapter)
            model = model.to(device).eval()
        except (OSError, ValueError, RuntimeError, ImportError) as error:
            raise BackendError(f"cannot load {settings.model}: {(str(error).splitlines() or [''])[0]}") from error
        if model.config.model_type not in MODEL_TYPES:
            raise BackendError(f"{settings.model} is of type {model.config.model_type!r}; this backend runs {' and '.join(MODEL_TYPES)}")
        own = _own_settings(settings.model)
        made = cls(replace(settings, max_tokens=min(settings.max_tokens, own.get("max_tokens", settings.max_tokens))), model, encoder, style, notice)
        made.repeated_tokens = own.get("repeated_tokens", 0)
        return made

    @property
    def made_with(self) -> Mapping[str, str]:
        """Model, how the conversation is written, and how tokens are drawn."""
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
        """As the processors scale them, and as many as the context holds; see `LimitsFrames`."""
        room = int(self.model.config.get_text_config().max_position_embeddings * SHARE_OF_CONTEXT)
        return self.encoder.frame_limit(size, frames, room, as_video=self.style.frames_as == "video")

    def decode(self, trace: Trace, tools: Sequence[chat.Tool]) -> Yields[str, None, Continuation]:
        """Continue the trace; see `Backend.decode`."""
        began = time.perf_counter()
        pieces = self.encoder.encode(chat.segments(chat.turns(trace, tools, self.style)))
        encoded = time.perf_counter()
        logits, tokens_in, reused = self._conversation.feed(pieces)
        prefilled = time.perf_counter()
        draw = self._drawing(trace)
        words = _Words(self.encoder.tokenizer)
        stopped: Literal["tag", "end", "length"] = "length"
        ids: list[int] = []
        while len(ids) < self.settings.max_tokens:
            token = draw(logits)
            if token in self._ends:
                stopped = "end"
                break
            ids.append(token)
            fresh, closed = words.add(token)
            if fresh:
                yield fresh
            if closed:
                stopped = "tag"
                break
            if repeats(ids, self.repeated_tokens):
                break
            logits = self._conversation.append(token)
        if stopped != "tag" and (rest := words.rest()):
            yield rest
        seconds = {"encode": encoded - began, "prefill": prefilled - encoded, "decode": time.perf_counter() - prefilled}
        return Continuation(words.text, stopped, Cost(tokens_in, len(ids) + (stopped == "end"), reused, seconds))

    def _drawing(self, trace: Trace) -> Any:
        """A function from logits to a token. Seeded by trace and step, so that a trace that is carried on is the trace that would have been."""
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


class _Words:
    """Tokens to text as they come: whole characters only, cut after the first stop string, which may end inside a token."""

    def __init__(self, tokenizer: Any) -> None:
        self.text = ""
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._done = 0  # tokens before this one are fully in `text`
        self._start = 0  # decoding begins here: a token's text may depend on the one before it

    def add(self, token: int) -> tuple[str, bool]:
        """The text that became certain, and whether a stop string closed it."""
        self._ids.append(token)
        known = self._tokenizer.decode(self._ids[self._start : self._done])
        longer = self._tokenizer.decode(self._ids[self._start :])
        if longer.endswith("\ufffd"):  # part of a character
            return "", False
        self._start, self._done = self._done, len(self._ids)
        return self._take(longer[len(known) :])

    def rest(self) -> str:
        """What is left when decoding ends inside a character."""
        known = self._tokenizer.decode(self._ids[self._start : self._done])
        return self._take(self._tokenizer.decode(self._ids[self._start :])[len(known) :])[0]

    def _take(self, fresh: str) -> tuple[str, bool]:
        longer = self.text + fresh
        ends = [at + len(stop) for stop in STOPS if (at := longer.find(stop, max(0, len(self.text) - len(stop)))) >= 0]
        before, self.text = self.text, longer[: min(ends)] if ends else longer
        return self.text[len(before) :], bool(ends)


def reader(
    model: str, rendering: Literal["auto"] | chat.Rendering = "auto", frames_as: Literal["auto"] | chat.FramesAs = "auto"
) -> tuple[Encoder, chat.Style, str | None]:
    """How a model reads, without its weights: its encoder, how conversations are written for it, and its notice. For decoding and for training.

    Raises `BackendError` as `HuggingFaceBackend.load` does.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(model)
        image_processor = AutoImageProcessor.from_pretrained(model)
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise BackendError(f"cannot load {model}: {(str(error).splitlines() or [''])[0]}") from error
    own = _own_settings(model)
    seen_as = frames_as if frames_as != "auto" else own.get("frames_as", "auto")
    video_processor = _video_processor(model) if seen_as != "images" else None
    if seen_as == "auto":
        seen_as = "video" if video_processor is not None else "images"
    written = rendering if rendering != "auto" else own.get("rendering", "same_turn")
    style = chat.Style(rendering=written, frames_as=seen_as, opening=read_opening(tokenizer, model))
    return Encoder(tokenizer, image_processor, video_processor), style, own.get("notice")


def read_opening(tokenizer: Any, model: str) -> str:
    """What the model's chat template puts at the start of the assistant's turn, once it is clear that its prompts are ours.

    Raises `BackendError` when the template writes a prompt otherwise than `chat` does: the model would read what it was not trained on.
    """
    if not tokenizer.chat_template:
        return ""
    told = [
        {"role": "system", "content": [{"type": "text", "text": "a"}]},
        {"role": "user", "content": [{"type": "text", "text": "<0.0 seconds>"}, {"type": "image"}, {"type": "text", "text": "b"}]},
    ]
    theirs = tokenizer.apply_chat_template(told, add_generation_prompt=True, tokenize=False)
    picture = "<|vision_start|><|image_pad|><|vision_end|>"
    ours = f"<|im_start|>system\na<|im_end|>\n<|im_start|>user\n<0.0 seconds>{picture}b<|im_end|>\n<|im_start|>assistant\n"
    if not theirs.startswith(ours):
        raise BackendError(f"the chat template of {model} is not Qwen3-VL's; serve the model over HTTP and use --backend openai:MODEL instead")
    return str(theirs[len(ours) :])


def _own_settings(model: str) -> dict[str, Any]:
    quiet = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
    path = cached_file(model, SETTINGS_FILE, **quiet)
    if path is None:
        return {}
    try:
        found: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise BackendError(f"{path} is no JSON: {error}") from error
    allowed = {"frames_as": ("images", "video"), "rendering": ("same_turn", "tool_turn", "user_turn"), "knows": ("synthetic",)}
    for key, value in found.items():
        is_count = key in _LIMITS and isinstance(value, int) and not isinstance(value, bool) and value > 0
        if key != "notice" and not is_count and value not in allowed.get(key, ()):
            may_be = "; ".join(f"{name} {' or '.join(values)}" for name, values in allowed.items())
            raise BackendError(f"{path}: {key} is {value!r}; allowed are {may_be}; {', '.join(_LIMITS)} (numbers above 0); notice")
    return found


def _video_processor(model: str) -> Any:
    try:
        return AutoVideoProcessor.from_pretrained(model)
    except (ImportError, OSError, ValueError):  # no torchvision, or no such processor in the folder
        return None


def _with_adapter(model: Any, adapter: str) -> Any:
    from peft import PeftModel  # here: only those who have an adapter need it

    return PeftModel.from_pretrained(model, adapter).merge_and_unload()


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
