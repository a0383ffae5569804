"""Strict parser of streamed chat completions. Any input yields validated chunks or raises `BrokenStreamError`.

Reads server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html), and the plain JSON of servers that do not stream. The
openai client's reader validates no types and limits no line; httpx2's `EventSource` limits events, but rejects other content types and silently
replaces invalid UTF-8.
"""

import codecs
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

MAX_EVENT_BYTES = 4 * 2**20
"""Maximum size of a line or event. Our choice: a whole answer in one event is some 100 KB."""
MAX_BYTES = 64 * 2**20
"""Maximum size of a response, including comments. Our choice: 8,192 tokens, each in an event of 8 KB."""

_STOPS = frozenset({"stop", "eos", "eos_token", "end_turn", "stop_sequence"})
_LENGTHS = frozenset({"length", "max_tokens", "max_length"})
_MOST_TOKENS = 2**40  # a larger count is invalid


class BrokenStreamError(Exception):
    """The stream was cut off or is invalid. The text is the reason, as the end of a sentence."""


class ReportedError(Exception):
    """The server reported an error within the stream."""

    def __init__(self, status: int | None, body: object) -> None:
        super().__init__(status)
        self.status = status
        self.body = body


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of the server. Missing and invalid ones are 0."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


@dataclass(frozen=True, slots=True)
class Delta:
    """New text, and new text of separately sent reasoning."""

    content: str = ""
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class Chunk:
    """The content of one event."""

    delta: Delta = Delta()
    finish_reason: str | None = None
    """`stop`, `length`, `content_filter` or `tool_calls`; None until the answer is finished."""
    stop_reason: str | None = None
    """The stop string that was matched, as reported by vLLM."""
    matched_stop: str | None = None
    """The same, as reported by SGLang."""
    usage: Usage | None = None


def read_chunks(body: Iterable[bytes], max_characters: int) -> Iterator[Chunk]:
    """Parse a response's body, up to `[DONE]` or its end.

    Text beyond `max_characters` is cut off with the finish reason `length`, for servers that ignore the token limit. Raises `BrokenStreamError` and
    `ReportedError`; exceptions of `body` propagate.
    """
    left = max_characters
    texts = _Texts()
    for name, data in _events(_bounded(body)):
        if data.strip() == b"[DONE]":
            return
        event = _object(data)
        _raise_reported(name, event)
        chunk = _chunk(event, texts)
        if len(chunk.delta.content) + len(chunk.delta.reasoning) > left:
            reasoning = chunk.delta.reasoning[:left]
            yield Chunk(Delta(chunk.delta.content[: left - len(reasoning)], reasoning), "length")
            return
        left -= len(chunk.delta.content) + len(chunk.delta.reasoning)
        yield chunk


def _bounded(chunks: Iterable[bytes]) -> Iterator[bytes]:
    received = 0
    for chunk in chunks:
        received += len(chunk)
        if received > MAX_BYTES:
            raise BrokenStreamError(f"the response has more than {MAX_BYTES:,} bytes")
        yield chunk


# Events


def _events(chunks: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """The name and data of each event. A body that is a single JSON value counts as one event."""
    lines = _lines(chunks)
    first = next((line for line in lines if line.strip()), b"").removeprefix(codecs.BOM_UTF8)
    if first.lstrip().startswith((b"{", b"[")):
        yield b"", _whole(first, lines)
        return
    if first.lstrip().startswith(b"<"):
        raise BrokenStreamError("the response is a web page; is this an OpenAI-compatible server?")
    name, size = b"", 0
    data: list[bytes] = []
    for line in _after(first, lines):
        if not line:
            if data:
                yield name, b"\n".join(data)
            name, data, size = b"", [], 0
            continue
        field, _, value = line.partition(b":")
        if field == b"data":
            size = _grown(size, value)
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.strip()


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Lines without their terminators: LF, CR LF or CR."""
    pending = bytearray()
    for chunk in chunks:
        pending += chunk
        if b"\n" in chunk or b"\r" in chunk:
            *whole, rest = bytes(pending).splitlines(keepends=True)
            if rest.endswith(b"\n"):
                whole, rest = [*whole, rest], b""
            for line in whole:  # a CR at the end of a chunk may be followed by an LF
                yield line.rstrip(b"\r\n")
            pending = bytearray(rest)
        _grown(0, pending)
    if pending:
        yield bytes(pending).rstrip(b"\r\n")


def _whole(first: bytes, lines: Iterable[bytes]) -> bytes:
    parts, size = [first], len(first)
    for line in lines:
        size = _grown(size, line)
        parts.append(line)
    return b"\n".join(parts)


def _after(first: bytes, lines: Iterable[bytes]) -> Iterator[bytes]:
    yield first
    yield from lines


def _grown(size: int, part: bytes | bytearray) -> int:
    if size + len(part) > MAX_EVENT_BYTES:
        raise BrokenStreamError(f"an event has more than {MAX_EVENT_BYTES:,} bytes")
    return size + len(part)


# Content of an event


def _object(data: bytes) -> Mapping[str, object]:
    try:
        event = json.loads(data.decode("utf-8"))
    except UnicodeDecodeError:
        raise BrokenStreamError("a line is not valid UTF-8") from None
    except ValueError:
        raise BrokenStreamError("a line is not valid JSON") from None
    except RecursionError:
        raise BrokenStreamError("a line is nested too deeply") from None
    return _mapping(event, "an event")


def _raise_reported(name: bytes, event: Mapping[str, object]) -> None:
    error = event.get("error") or (event if name == b"error" else None)
    if not error:
        return
    places = [where for where in (error, event) if isinstance(where, Mapping)]
    codes = [where.get(field) for where in places for field in ("code", "status_code", "status")]
    raise ReportedError(next((status for code in codes if (status := _status(code)) is not None), None), error)


def _status(code: object) -> int | None:
    if isinstance(code, str) and len(code) == 3 and code.isascii() and code.isdigit():
        code = int(code)
    return code if isinstance(code, int) and 400 <= code < 600 else None


def _chunk(event: Mapping[str, object], texts: "_Texts") -> Chunk:
    usage = _usage(event.get("usage"))
    choices = event.get("choices") or []
    if not isinstance(choices, list):
        raise _odd("the choices are", choices, "a list")
    for choice in (_mapping(one, "a choice") for one in choices):
        index = choice.get("index") or 0
        if not isinstance(index, int):
            raise _odd("a choice's index is", index, "a number")
        if index == 0:  # one choice is requested; others would be mixed into its text
            delta = _mapping(choice.get("delta") or choice.get("message") or {}, "a delta")
            finish = _finish(choice.get("finish_reason"))
            text = texts.of(delta, is_last=finish is not None)
            return Chunk(text, finish, _text_or_none(choice.get("stop_reason")), _text_or_none(choice.get("matched_stop")), usage)
    return Chunk(usage=usage)


class _Texts:
    """Joins surrogate pairs that are split over two chunks, and replaces lone surrogates."""

    def __init__(self) -> None:
        make = codecs.getincrementaldecoder("utf-16-le")
        self._content = make("replace")
        self._reasoning = make("replace")

    def of(self, delta: Mapping[str, object], *, is_last: bool) -> Delta:
        reasoning = delta.get("reasoning_content") or delta.get("reasoning")  # some servers send both, with equal text
        content = _text(delta.get("content"), "content") + _text(delta.get("refusal"), "refusal")
        return Delta(_joined(self._content, content, is_last), _joined(self._reasoning, _text(reasoning, "reasoning"), is_last))


def _joined(decoder: codecs.IncrementalDecoder, text: str, is_last: bool) -> str:
    return decoder.decode(text.encode("utf-16-le", "surrogatepass"), is_last)


def _text(value: object, name: str) -> str:
    """A string, or the joined strings of a list of text parts."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise _odd(f"the {name} is", value, "a text")
    parts: list[object] = [part.get("text") if isinstance(part, Mapping) else part for part in value]
    texts = [part for part in parts if isinstance(part, str)]
    if len(texts) < len(parts):
        raise BrokenStreamError(f"the {name} has parts that are not text")
    return "".join(texts)


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None  # vLLM reports the end token as an integer


def _finish(reason: object) -> str | None:
    if reason is None or reason == "":
        return None
    if not isinstance(reason, str):
        raise _odd("a finish reason is", reason, "a text")
    word = reason.partition(":")[0].strip().lower()
    if word in _STOPS:
        return "stop"
    if word in _LENGTHS:
        return "length"
    if word in ("content_filter", "tool_calls"):
        return word
    raise BrokenStreamError(f"the finish reason is {reason[:40]!r}")  # error, abort


def _usage(usage: object) -> Usage | None:
    if not isinstance(usage, Mapping):
        return None
    details = usage.get("prompt_tokens_details")
    prompt = _count(usage.get("prompt_tokens"))
    cached = _count(details.get("cached_tokens")) if isinstance(details, Mapping) else 0
    return Usage(prompt, _count(usage.get("completion_tokens")), min(cached, prompt))


def _count(value: object) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_TOKENS else 0


def _mapping(value: object, what: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise _odd(f"{what} is", value, "an object")
    return value


def _odd(what: str, value: object, expected: str) -> BrokenStreamError:
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "a boolean", int: "a number", float: "a number", type(None): "null"}
    return BrokenStreamError(f"{what} {kinds[type(value)]} where {expected} is expected")
