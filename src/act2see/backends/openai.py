"""A model behind any server that speaks OpenAI's chat-completions API: vLLM, SGLang, `transformers serve`, Gemini, OpenAI.

How the conversation is written and what is asked for differ by server: docs/servers.md says which settings go with which.
"""

import base64
import copy
import io
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
from act2see.core.protocol import STOPS, first_use
from act2see.core.trace import Cost, Frame, Trace

ImageFormat = Literal["auto", "png", "jpeg"]
MAX_PNG_PIXELS = 256 * 256
"""`auto` sends frames up to this size as PNG, without loss, and larger ones as JPEG, which is a tenth of the bytes. Our choice."""
JPEG_QUALITY = 95
TAIL_SECONDS = 10.0
"""So long the token count, which follows the last word, is waited for. Our choice."""
CHARACTERS_PER_TOKEN = 40
"""Bounds the text of a server that does not keep the token limit. Our choice: ten times what a token of English has."""

CALL_STOPS = ("</retrieve>", "</generate>")
"""What a server is asked to stop at where it cannot go on with a turn: after an answer a model stops by itself, and one in its reasoning is none."""
RUN_ON_CHARACTERS = 64
"""What a server may write behind an answer before it is hung up on: one that is heard to its end says what the answer cost."""
MAX_MENTIONS = 256
"""A model that mentions calls this often in one answer repeats itself: it has used up its length. Our choice; a stop that is only mentioned costs no
request here as it does in `decoding`, where it is 32."""

_TAG = re.compile("<(/?)(" + "|".join(stop[2:-1] for stop in STOPS) + ")>")


@dataclass(frozen=True, slots=True)
class OpenAISettings:
    """Which server, which model, and how to ask it. The key is no setting: it comes from the environment, as OPENAI_API_KEY."""

    model: str
    """The model's name as the server knows it."""
    base_url: str | None
    """The address up to and including the version, as `http://127.0.0.1:8000/v1`."""
    rendering: Literal["auto"] | chat.Rendering = "auto"
    """`same_turn` needs a vLLM that serves with act2see's chat template; `tool_turn` a ChatML server that takes images from a tool. auto is
    `user_turn`, which every server can: our choice, because a server does not tell its template."""
    opening: str = ""
    """What stands at the start of the assistant's turn (`<think>\\n` for Qwen3-VL-Thinking). With user_turn, the server's template brings it."""
    max_tokens: int = 8192
    """Tokens that one call may have. Not in the paper; our choice."""
    temperature: float | None = None
    """None sends none, here as below: the server then takes its own, and vLLM the model's."""
    top_p: float | None = None
    top_k: int | None = None
    """vLLM and SGLang know it; OpenAI's own servers refuse it."""
    seed: int | None = None
    timeout_seconds: float = 300.0
    """The longest wait for the next bytes of an answer, the first included."""
    answer_seconds: float = 3600.0
    """Time for one whole answer, all tries and pauses included. Not in the paper; our choice: 8,192 tokens at 2.3 tokens a second."""
    answer_characters: int | None = None
    """The longest text of one answer, which is cut there as by the token limit; None is 40 for each of `max_tokens`. Not in the paper; our choice."""
    retries: int = 3
    """How often a request is sent again after a broken connection, a 429 or a 5xx."""
    image_format: ImageFormat = "auto"
    max_frames: int = SERVER_PICTURES
    """Initial frames of one question at most."""
    send_stop: bool = True
    """Off for servers that refuse stop strings or fail over them; the answer is then cut here, and the server is hung up on."""
    max_tokens_field: Literal["max_completion_tokens", "max_tokens"] = "max_completion_tokens"
    """OpenAI's newer models take only the first name, some small servers only the second."""

    def __post_init__(self) -> None:
        if not self.base_url:
            raise ConfigError("the openai backend needs a server: give its address, as --base-url http://127.0.0.1:8000/v1")
        check_url(self.base_url, "the base URL")
        if self.rendering not in ("auto", *get_args(chat.Rendering)):
            raise ConfigError(f"unknown rendering {self.rendering!r}; known are auto, {', '.join(get_args(chat.Rendering))}")
        if self.image_format not in get_args(ImageFormat):
            raise ConfigError(f"unknown image format {self.image_format!r}; known are {', '.join(get_args(ImageFormat))}")


class OpenAIBackend:
    """Continues traces over HTTP. One client for all calls; safe to use from several threads."""

    concurrent = True

    def __init__(self, settings: OpenAISettings, sleep: Callable[[float], None] = time.sleep) -> None:
        """`sleep` pauses between tries. Raises `BackendError` for a key that cannot be sent, and `ConfigError` for limits that are none."""
        self.settings = settings
        key = os.environ.get("OPENAI_API_KEY", "").strip()
        if not (key.isascii() and key.isprintable()):
            raise BackendError("OPENAI_API_KEY holds characters that no key has: copy it again")
        self._url = settings.base_url or ""
        rendering: chat.Rendering = "user_turn" if settings.rendering == "auto" else settings.rendering
        self._style = chat.Style(rendering, "images", settings.opening)
        self._urls: dict[int, str] = {}
        self._server = Server(self._url, settings.model, "/chat/completions", "--base-url", key, settings.timeout_seconds)
        policy = RetryPolicy(settings.timeout_seconds, settings.answer_seconds, settings.retries, "--answer-seconds")
        self._caller = Caller(self._server, policy, follow_redirects=True, sleep=sleep)

    @property
    def made_with(self) -> Mapping[str, str]:
        """What changes the answers, by name. The server appears as host and port only."""
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
        """The same server and client, with a seed that is `number` higher. Where no seed is sent, the server draws anew by itself."""
        if self.settings.seed is None:
            return self
        other = copy.copy(self)
        other.settings = replace(self.settings, seed=self.settings.seed + number)
        return other

    def decode(self, trace: Trace, tools: Sequence[chat.Tool]) -> Generator[str, None, Continuation]:
        """Ask the server to continue. A stream that breaks before its first word is asked for again, one that breaks later is an error.

        Tokens are the server's own count; a server that counts none, or that was hung up on, leaves them 0.
        """
        stops: tuple[str, ...] = STOPS if self._style.rendering == "same_turn" else CALL_STOPS
        stops = stops if self.settings.send_stop else ()
        request = self._request(trace, tools, stops)
        before = chat.words_of_turn(trace, self._style)
        started = time.perf_counter()
        tries = self._caller.tries()
        while True:
            answer = _Answer(before, stops)
            try:
                with tries.next() as call:
                    yield from self._read(call, request, answer)
                    if not answer.is_complete:
                        raise self._server.broken("it ended before its end; is this an OpenAI-compatible server?")
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

    def _read(self, call: Call, request: Mapping[str, object], answer: "_Answer") -> Generator[str, None, None]:
        """Fill the answer from one request's stream, yielding its text. Raises `TransientError` and `BackendError`."""
        s = self.settings
        with self._open(call, request) as stream:
            try:
                for piece in read_chunks(stream.response.iter_bytes(), s.answer_characters or CHARACTERS_PER_TOKEN * s.max_tokens):
                    answer.usage = piece.usage or answer.usage
                    if text := answer.take(piece):
                        yield text
                    if answer.ran_on:
                        break
                    if answer.is_complete:
                        call.deadline.shorten(TAIL_SECONDS)
            except ReportedError as error:
                if answer.is_complete:
                    return
                raise self._server.refusal(error.status, server_message(error.body, "no reason")) from None
            except BrokenStreamError as error:
                raise self._server.broken(str(error)) from None
            except httpx2.TimeoutException:
                raise self._server.broken(f"nothing came for {s.timeout_seconds:g} s") from None
            except (httpx2.HTTPError, httpx2.StreamError) as error:
                raise self._server.broken(self._server.redacted(error) or type(error).__name__) from None

    def _open(self, call: Call, request: Mapping[str, object]) -> openai.Stream[ChatCompletionChunk]:
        try:
            create = cast("Callable[..., openai.Stream[ChatCompletionChunk]]", call.client.chat.completions.create)
            return create(**request)
        except openai.APIError as error:
            # Without the cause: its request holds the key.
            raise self._server.fault(error) from None
        except ValueError as error:  # a text or a number that JSON or a header cannot hold
            raise BackendError(f"the request to {self._url} cannot be sent: {self._server.redacted(error)}") from None

    def _request(self, trace: Trace, tools: Sequence[chat.Tool], stops: Sequence[str]) -> Mapping[str, object]:
        s = self.settings
        conversation = chat.turns(trace, tools, self._style)
        last = conversation[-1]
        if self._style.rendering != "same_turn" and not any(isinstance(part, chat.Text) and part.own for part in last.segments):
            # These servers begin the assistant's turn themselves, the opening included.
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
            # Encoded once and kept as long as the image itself: every call sends all frames again.
            weakref.finalize(frame.image, self._urls.pop, key, None).atexit = False
        return url


_CLOSING = "</think>"


class _Answer:
    """What has come of one answer: its text up to the first call or answer in it, and how it ended."""

    def __init__(self, before: str = "", stops: tuple[str, ...] = STOPS) -> None:
        """`before` is what the turn holds already, `stops` are the stop strings that the server was given."""
        self.text = ""
        self.finish: str | None = None
        self.usage: Usage | None = None
        self.first_seconds: float | None = None
        """`time.perf_counter()` when the first text came."""
        self._before, self._stops = before, stops
        self._matched: str | None = None
        self._is_cut = False
        self._is_reasoning = False
        self._held = ""
        self._behind = 0
        self._mentions = 0

    @property
    def is_complete(self) -> bool:
        return self._is_cut or self._goes_on or self.finish is not None

    @property
    def ran_on(self) -> bool:
        """Whether the server writes on and on: behind a call or an answer, or what only mentions them."""
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
        """Add a piece of the stream; returns the text that it adds."""
        # vLLM and SGLang say which stop string it was, each in a field of its own.
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
        """Put back what the server left out at the end of a finished answer; returns the text that it adds."""
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
        """The piece's text. Reasoning that a server sends apart goes between `<think>` marks, as the model itself would write it (our choice)."""
        content = choice.delta.content
        reasoning = self._quoted(choice.delta.reasoning, is_last=bool(content) or choice.finish_reason is not None)
        new = ""
        if reasoning:
            new += reasoning if self._is_reasoning else f"<think>{reasoning}"
            self._is_reasoning = True
        if content:
            new += f"{_CLOSING}{content}" if self._is_reasoning else content
            self._is_reasoning = False
        return new

    def _quoted(self, reasoning: str, *, is_last: bool) -> str:
        """Reasoning in which each closing mark is quoted: it ends where the server says so. The beginning of a mark waits for the next piece."""
        text = self._held + reasoning
        held = 0 if is_last else next((count for count in range(len(_CLOSING) - 1, 0, -1) if text.endswith(_CLOSING[:count])), 0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held].replace(_CLOSING, f"`{_CLOSING}`")


def left_out(text: str, before: str, stops: Sequence[str]) -> str:
    """The stop string that a server left out at the end of its text, when a call is still open there; else nothing.

    Hosted servers return what stands before a stop string. A model that ended its turn inside an open call looks the same to them, and its call
    is closed too: our choice.
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
    """Whether a closing tag ends in the new part: only then there is something to look for."""
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
