"""A model on any server with OpenAI's chat-completions API: vLLM, SGLang, `transformers serve`, Gemini, OpenAI.

Conversation format and request options differ by server: docs/servers.md lists the settings for each.
"""

import base64
import copy
import io
import json
import os
import re
import time
import weakref
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast, get_args
from urllib.parse import urlsplit

import httpx2
import openai
from openai.types.chat import ChatCompletionChunk
from PIL import Image

from act2see.backends.calls import Call, Caller, RetryPolicy
from act2see.backends.servers import Server, TransientError, check_url, server_message
from act2see.backends.stream import BrokenStreamError, Chunk, ReportedError, Usage, read_chunks
from act2see.core import chat
from act2see.core.errors import BackendError, ConfigError
from act2see.core.framing import SERVER_PICTURES, FrameLimit, server_limit
from act2see.core.interfaces import Continuation
from act2see.core.protocol import STOPS, first_use, is_thinking
from act2see.core.trace import Cost, Frame, Trace

ImageFormat = Literal["auto", "png", "jpeg"]
MAX_PNG_PIXELS = 256 * 256
"""`auto` sends frames up to this size as lossless PNG, and larger ones as JPEG, a tenth of the bytes. Our choice."""
JPEG_QUALITY = 95
TAIL_SECONDS = 10.0
"""How long to wait for the usage after the last text. Our choice."""
CHARACTERS_PER_TOKEN = 40
"""Limits the text of a server that ignores the token limit. Our choice: ten times the English average."""

CALL_STOPS = ("</retrieve>", "</generate>")
"""Stop strings for servers that cannot continue a turn. `</answer>` is not among them: an answer ends the turn anyway, and may be a mention."""
RUN_ON_CHARACTERS = 64
"""How much text after an answer to read before closing the connection: a stream read to its end reports the usage."""
MAX_MENTIONS = 256
"""A model that mentions calls this often in one answer does not terminate: it counts as cut off. Our choice; a mention costs no request here, unlike
in `decoding`, where the limit is 32."""

_TEMPLATE_ADVICE = "does the server use the chat template of `act2see template`? If not, use --rendering user_turn"
MODELS_SECONDS = 5.0
"""How long to wait for the list of models, which only improves an error message. Our choice."""
MAX_MODELS_BYTES = 2**20

_TAG = re.compile("<(/?)(" + "|".join(stop[2:-1] for stop in STOPS) + ")>")


@dataclass(frozen=True, slots=True)
class OpenAISettings:
    """Server, model and request options. The key is read from the environment's OPENAI_API_KEY, never from settings."""

    model: str
    """The model's name on the server."""
    base_url: str | None
    """The address including the version, such as `http://127.0.0.1:8000/v1`."""
    rendering: Literal["auto"] | chat.Rendering = "auto"
    """`same_turn` needs vLLM with act2see's chat template; `tool_turn` a ChatML server that accepts images in tool messages. auto is `user_turn`,
    which every server supports: our choice, because a server does not report its template."""
    opening: str = ""
    """The assistant prefix (`<think>\\n` for Qwen3-VL-Thinking). With user_turn, the server's template adds it."""
    max_tokens: int = 8192
    """Maximum number of tokens of one call. Not in the paper; our choice."""
    temperature: float | None = None
    """None, here and below, sends nothing: the server uses its default, vLLM the model's."""
    top_p: float | None = None
    top_k: int | None = None
    """Supported by vLLM and SGLang; rejected by OpenAI's own servers."""
    seed: int | None = None
    timeout_seconds: float = 300.0
    """Read timeout: the longest wait for the next bytes of an answer, including the first."""
    answer_seconds: float = 3600.0
    """Deadline for one whole answer, including retries and pauses. Not in the paper; our choice: 8,192 tokens at 2.3 tokens per second."""
    answer_characters: int | None = None
    """Maximum characters of one answer, which is cut there; None for 40 per token of `max_tokens`. Not in the paper; our choice."""
    retries: int = 3
    """Maximum number of retries after a connection error, a 429 or a 5xx."""
    image_format: ImageFormat = "auto"
    max_frames: int = SERVER_PICTURES
    """Maximum number of initial frames."""
    send_stop: bool = True
    """False for servers that reject stop strings; the answer is then cut here, and the connection closed."""
    max_tokens_field: Literal["max_completion_tokens", "max_tokens"] = "max_completion_tokens"
    """The request field for `max_tokens`: OpenAI's newer models accept only the first, some small servers only the second."""

    def __post_init__(self) -> None:
        if not self.base_url:
            raise ConfigError("the openai backend needs a server: give its address, as --base-url http://127.0.0.1:8000/v1")
        check_url(self.base_url, "the base URL")
        if self.rendering not in ("auto", *get_args(chat.Rendering)):
            raise ConfigError(f"unknown rendering {self.rendering!r}; known are auto, {', '.join(get_args(chat.Rendering))}")
        if self.image_format not in get_args(ImageFormat):
            raise ConfigError(f"unknown image format {self.image_format!r}; known are {', '.join(get_args(ImageFormat))}")


class OpenAIBackend:
    """Continues traces over HTTP. Thread-safe: one client serves all calls."""

    concurrent = True

    def __init__(self, settings: OpenAISettings, sleep: Callable[[float], None] = time.sleep) -> None:
        """`sleep` is called between attempts. Raises `BackendError` for an invalid key, and `ConfigError` for invalid limits."""
        self.settings = settings
        key = os.environ.get("OPENAI_API_KEY", "").strip()
        if not (key.isascii() and key.isprintable()):
            raise BackendError("OPENAI_API_KEY contains invalid characters: copy it again")
        self._url = settings.base_url or ""
        rendering: chat.Rendering = "user_turn" if settings.rendering == "auto" else settings.rendering
        self._style = chat.Style(rendering, "images", settings.opening)
        self._urls: dict[int, str] = {}
        self._server = Server(self._url, settings.model, "/chat/completions", "--base-url", key, settings.timeout_seconds)
        policy = RetryPolicy(settings.timeout_seconds, settings.answer_seconds, settings.retries, "--answer-seconds")
        self._caller = Caller(self._server, policy, follow_redirects=True, sleep=sleep)

    @property
    def made_with(self) -> Mapping[str, str]:
        """Settings that affect the answers. Of the address, only host and port are recorded."""
        s = self.settings
        asked = {"temperature": s.temperature, "top-p": s.top_p, "top-k": s.top_k, "seed": s.seed}
        drawn = ", ".join(f"{name} {value:g}" for name, value in asked.items() if value is not None)
        made = {
            "backend": "openai",
            "model": s.model,
            "server": urlsplit(self._url).netloc,
            "rendering": self._style.rendering,
            "frames_as": "images",
            "image_format": s.image_format,
            "decoding": "greedy" if s.temperature == 0 else drawn or "as the server does",
            "max_tokens": str(s.max_tokens),
        }
        return made | ({"opening": s.opening} if s.opening else {})

    def frame_limit(self, size: tuple[int, int], frames: int) -> FrameLimit:
        """See `framing.server_limit`."""
        return server_limit(size, frames, self.settings.max_frames)

    def reseeded(self, number: int) -> "OpenAIBackend":
        """A copy with the seed raised by `number`. Without a seed the server samples anew anyway, and the copy is this object."""
        if self.settings.seed is None:
            return self
        other = copy.copy(self)
        other.settings = replace(self.settings, seed=self.settings.seed + number)
        return other

    def decode(self, trace: Trace, tools: Sequence[chat.Tool]) -> Generator[str, None, Continuation]:
        """Continue the trace; see `Backend.decode`. A stream that breaks before its first text is retried; one that breaks later is an error.

        Token counts are the server's; they are 0 if it reports none, or if the connection was closed early.
        """
        stops: tuple[str, ...] = STOPS if self._style.rendering == "same_turn" else CALL_STOPS
        stops = stops if self.settings.send_stop else ()
        request = self._request(trace, tools, stops)
        before = chat.words_of_turn(trace, self._style)
        started = time.perf_counter()
        tries = self._caller.tries()
        server = self._advised(trace)
        while True:
            answer = _Answer(before, stops)
            try:
                with tries.next() as call:
                    yield from self._read(server, call, request, answer)
                    if not answer.is_complete:
                        raise self._server.broken("it ended without a finish reason; is this an OpenAI-compatible server?")
            except TransientError as fault:
                if answer.is_complete:
                    break
                if call.deadline.is_over:
                    raise tries.overdue() from None
                if answer.text:
                    raise BackendError(f"the answer of {self._url} broke off{fault.why}; see the server's log, or try again") from None
                tries.again(fault)
            else:
                break
        if tail := answer.end():
            yield tail
        if answer.finish == "content_filter":
            raise BackendError(f"the content filter of {self._url} stopped the answer")
        return Continuation(answer.text, answer.stopped, _cost(answer, started))

    def _advised(self, trace: Trace) -> Server:
        """The server, with advice for the fault that a trace's images can cause: only our template keeps images in the assistant's turn."""
        has_images = self._style.rendering == "same_turn" and any(observation.frames for observation in trace.observations)
        return replace(self._server, advice=_TEMPLATE_ADVICE) if has_images else self._server

    def _read(self, server: Server, call: Call, request: Mapping[str, object], answer: "_Answer") -> Generator[str, None, None]:
        """Read one request's stream into the answer, yielding its text. Raises `TransientError` and `BackendError`."""
        s = self.settings
        with self._open(server, call, request) as stream:
            try:
                for chunk in read_chunks(stream.response.iter_bytes(), s.answer_characters or CHARACTERS_PER_TOKEN * s.max_tokens):
                    answer.usage = chunk.usage or answer.usage
                    if text := answer.take(chunk):
                        yield text
                    if answer.ran_on:
                        break
                    if answer.is_complete:
                        call.deadline.shorten(TAIL_SECONDS)
            except ReportedError as error:
                if answer.is_complete:
                    return
                raise server.refusal(error.status, server_message(error.body, "no reason")) from None
            except BrokenStreamError as error:
                raise server.broken(str(error)) from None
            except httpx2.TimeoutException:
                raise server.broken(f"no data for {s.timeout_seconds:g} s") from None
            except (httpx2.HTTPError, httpx2.StreamError) as error:
                raise server.broken(server.redacted(error) or type(error).__name__) from None

    def _open(self, server: Server, call: Call, request: Mapping[str, object]) -> openai.Stream[ChatCompletionChunk]:
        try:
            create = cast("Callable[..., openai.Stream[ChatCompletionChunk]]", call.client.chat.completions.create)
            return create(**request)
        except openai.APIError as error:
            if isinstance(error, openai.APIStatusError) and error.status_code == 400 and (context := self._context(call)) is not None:
                limit = f"its context has {context:,} tokens for prompt and answer together"
                server = replace(server, advice=f"{limit}: pass a --max-tokens well below (now {self.settings.max_tokens:,}), or fewer --max-frames")
            # Without the cause, whose request contains the key.
            raise server.fault(error) from None
        except ValueError as error:  # a value that JSON or a header cannot represent
            raise BackendError(f"the request to {self._url} cannot be sent: {server.redacted(error)}") from None

    def _context(self, call: Call) -> int | None:
        """The context length that the server's list of models gives (vLLM's `max_model_len`), if `max_tokens` fills half of it; else None."""
        call.deadline.shorten(MODELS_SECONDS)
        body = bytearray()
        try:
            with call.client.models.with_streaming_response.list() as response:
                for part in response.iter_bytes():
                    body += part
                    if len(body) > MAX_MODELS_BYTES:
                        return None
            listed = json.loads(body)["data"]
            length = next(model["max_model_len"] for model in listed if model["id"] == self.settings.model)
        except (openai.OpenAIError, httpx2.HTTPError, httpx2.StreamError, LookupError, TypeError, ValueError, RecursionError, StopIteration):
            return None  # many servers list no lengths
        return length if type(length) is int and 0 < length <= 2 * self.settings.max_tokens else None

    def _request(self, trace: Trace, tools: Sequence[chat.Tool], stops: Sequence[str]) -> Mapping[str, object]:
        s = self.settings
        conversation = chat.turns(trace, tools, self._style)
        last = conversation[-1]
        if self._style.rendering != "same_turn" and not any(isinstance(part, chat.Text) and part.own for part in last.segments):
            # These servers start the assistant's turn themselves, including the opening.
            conversation[-1] = chat.Turn("assistant", ())
        messages = chat.messages(conversation, self._data_url)
        request: dict[str, object] = {"model": s.model, "messages": messages, s.max_tokens_field: s.max_tokens}
        request |= {"stream": True, "stream_options": {"include_usage": True}}
        optional = {"stop": list(stops) or None, "temperature": s.temperature, "top_p": s.top_p, "seed": s.seed}
        request |= {name: value for name, value in optional.items() if value is not None}
        extra: dict[str, object] = {} if s.top_k is None else {"top_k": s.top_k}
        if self._style.rendering == "same_turn":
            extra["include_stop_str_in_output"] = True
            if messages[-1]["role"] == "assistant":
                extra |= {"continue_final_message": True, "add_generation_prompt": False}
        return request | {"extra_body": extra}

    def _data_url(self, frame: Frame) -> str:
        key = id(frame.image)
        url = self._urls.get(key)
        if url is None:
            url = self._urls[key] = data_url(frame.image, self.settings.image_format)
            # Cached for the lifetime of the image, because every call sends all frames again.
            weakref.finalize(frame.image, self._urls.pop, key, None).atexit = False
        return url


_CLOSING = "</think>"


class _Answer:
    """Accumulates one answer: its text up to the first call or answer, and its finish reason."""

    def __init__(self, before: str = "", stops: tuple[str, ...] = STOPS) -> None:
        """`before` is the preceding text of the turn, `stops` are the stop strings in the request."""
        self.text = ""
        self.finish: str | None = None
        self.usage: Usage | None = None
        self.first_seconds: float | None = None
        """`time.perf_counter()` at the first text."""
        self._before, self._stops = before, stops
        self._matched: str | None = None
        self._is_cut = False
        self._is_reasoning = False
        self._is_opened = is_thinking(before)
        self._held = ""
        self._behind = 0
        self._mentions = 0

    @property
    def is_complete(self) -> bool:
        return self._is_cut or self._goes_on or self.finish is not None

    @property
    def ran_on(self) -> bool:
        """Whether the server continues long after a call or an answer, or only mentions calls without end."""
        return self._behind > RUN_ON_CHARACTERS or self._goes_on

    @property
    def _goes_on(self) -> bool:
        return self._mentions >= MAX_MENTIONS

    @property
    def stopped(self) -> Literal["tag", "end", "length"]:
        if self._goes_on:
            return "length"
        if self._is_cut or self.text.endswith(self._stops):
            return "tag"
        return "length" if self.finish == "length" else "end"

    def take(self, choice: Chunk) -> str:
        """Add a chunk of the stream; returns the new text."""
        # vLLM and SGLang report the matched stop string in different fields.
        self._matched = choice.stop_reason or choice.matched_stop or self._matched
        self.finish = choice.finish_reason or self.finish
        new = self._words(choice)
        if self._is_cut:
            self._behind += len(new)
            return ""
        if not new:
            return ""
        if self.first_seconds is None:
            self.first_seconds = time.perf_counter()
        known = len(self.text)
        self.text += new
        if not _closes(self.text, known):
            return new
        if (found := first_use(self.text, self._before)) is None:
            self._mentions += 1
        else:
            self._behind = len(self.text) - found.end
            self.text, self._is_cut = self.text[: found.end], True
        return self.text[known:]

    def end(self) -> str:
        """Restore a stop string or closing mark that the server omitted at the end; returns the new text."""
        if self._is_cut or self._goes_on or self.finish != "stop":
            return ""
        if self._matched in STOPS:
            tail = "" if self.text.endswith(self._matched) else self._matched
        else:
            tail = left_out(self.text, self._before, self._stops)
        if not tail and self._is_reasoning:
            tail = _CLOSING
        self.text += tail
        return tail

    def _words(self, choice: Chunk) -> str:
        """The chunk's text. Separately sent reasoning is put between `<think>` marks, as the model itself would write it (our choice)."""
        content = choice.delta.content
        reasoning = self._quoted(choice.delta.reasoning, is_last=bool(content) or choice.finish_reason is not None)
        new = ""
        if reasoning:
            new += reasoning if self._is_reasoning or self._is_opened else f"<think>{reasoning}"
            self._is_reasoning, self._is_opened = True, False
        if content:
            new += f"{_CLOSING}{content}" if self._is_reasoning else content
            self._is_reasoning = False
        return new

    def _quoted(self, reasoning: str, *, is_last: bool) -> str:
        """Reasoning with its closing marks quoted, because the server states where it ends. An incomplete mark is held back until the next chunk."""
        text = self._held + reasoning
        held = 0 if is_last else next((count for count in range(len(_CLOSING) - 1, 0, -1) if text.endswith(_CLOSING[:count])), 0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held].replace(_CLOSING, f"`{_CLOSING}`")


def left_out(text: str, before: str, stops: Sequence[str]) -> str:
    """The stop string that a server omitted at the end of a text with an open call; else "".

    Hosted servers return the text before the stop string. A turn that ended inside an open call looks the same, and its call is closed too: our
    choice.
    """
    tags = _TAG.findall(text)
    tail = f"</{tags[-1][1]}>" if tags and not tags[-1][0] else ""
    found = first_use(text + tail, before) if tail in stops else None
    return tail if found is not None and found.end == len(text + tail) else ""


def data_url(image: Image.Image, image_format: ImageFormat = "auto") -> str:
    """The image as a data URL, PNG or JPEG."""
    if image_format == "auto":
        image_format = "png" if image.width * image.height <= MAX_PNG_PIXELS else "jpeg"
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, image_format.upper(), quality=JPEG_QUALITY)
    return f"data:image/{image_format};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _closes(text: str, new_from: int) -> bool:
    """Whether a closing tag ends in the new part: only then the text has to be parsed."""
    start = max(0, new_from - max(map(len, STOPS)) + 1)
    return any(text.find(stop, start) >= 0 for stop in STOPS)


def _cost(answer: _Answer, started: float) -> Cost:
    seconds = {"decode": time.perf_counter() - started}
    if answer.first_seconds is not None:
        seconds["first_token"] = answer.first_seconds - started
    usage = answer.usage
    if usage is None:
        return Cost(seconds=seconds)
    return Cost(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens, seconds)
