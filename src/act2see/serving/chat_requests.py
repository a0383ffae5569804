"""Chat completion requests: the last user message is the question, and its video part the video."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

from act2see.core.errors import StoreError
from act2see.serving.refusals import RefusalError
from act2see.storage.codec import JSON, parse_json, shown
from act2see.storage.typed_json import converted

MAX_QUESTION_CHARACTERS = 20_000
"""Longer questions are refused, and choices that are longer together: a model would read them for minutes. Our choice."""
Choices: TypeAlias = Annotated[tuple[str, ...], Meta(max_length=100, extra={"words": "a list of 2 to 100 texts"})]
Looks: TypeAlias = Annotated[int, Meta(ge=0, le=1000, extra={"words": "a whole number from 0"})]

_UNUSED = ("temperature", "top_p", "max_tokens", "max_completion_tokens", "seed", "stop", "presence_penalty", "frequency_penalty")
_UNSUPPORTED = ("tools", "tool_choice", "functions", "function_call", "logprobs", "top_logprobs", "audio", "modalities", "prediction")
_KNOWN = ("model", "messages", "stream", "stream_options", "n", "act2see", "response_format", "user", "metadata", "store")


class _VideoUrl(Struct):
    url: str


class _FileId(Struct):
    file_id: str


class _Part(Struct):
    type: str
    text: str | None = None
    video_url: _VideoUrl | None = None
    file: _FileId | None = None


class _Message(Struct):
    role: str
    content: str | tuple[_Part, ...] | None = None


class _StreamOptions(Struct):
    include_usage: bool = False


class _Format(Struct):
    type: str


class _Own(Struct, forbid_unknown_fields=True):
    choices: Choices = ()
    max_looks: Looks | None = None


class _Body(Struct):
    messages: Annotated[tuple[_Message, ...], Meta(min_length=1, max_length=10_000, extra={"words": "a list of messages, one at least"})]
    model: str
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    n: int | None = None
    response_format: _Format | None = None
    act2see: _Own | None = None


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A question about a video, as a client asks it."""

    model: str
    question: str
    video: str
    """A data URL, an upload's id, an http(s) address, or a path."""
    choices: tuple[str, ...]
    max_looks: int | None
    """None for the server's."""
    stream: bool
    include_usage: bool
    ignored: tuple[str, ...]
    """Fields of the request that have no effect."""


def read_request(content: bytes) -> ChatRequest:
    """Read the body of a chat completion. Raises `RefusalError` for everything that cannot be answered as it is asked."""
    try:
        raw = parse_json(content)
    except (StoreError, UnicodeDecodeError) as error:
        raise RefusalError(f"the body is {error}: send a JSON object", code="invalid_json") from error
    if not isinstance(raw, Mapping):
        raise RefusalError(f"the body is {shown(raw)}: send a JSON object", code="invalid_json")
    body = converted(raw, _Body, "", RefusalError)
    _refuse_unsupported(raw, body)
    question, video, has_history = _question(body.messages)
    own = body.act2see or _Own()
    if (letters := sum(map(len, own.choices))) > MAX_QUESTION_CHARACTERS:
        raise RefusalError(f"the choices have {letters:,} characters; at most {MAX_QUESTION_CHARACTERS:,} are taken: shorten them")
    ignored = [name for name in raw if name in _UNUSED and raw[name] is not None]
    ignored += [str(name) for name in raw if name not in (*_UNUSED, *_UNSUPPORTED, *_KNOWN)]
    return ChatRequest(
        model=body.model,
        question=question,
        video=video,
        choices=tuple(own.choices),
        max_looks=own.max_looks,
        stream=bool(body.stream),
        include_usage=body.stream_options is not None and body.stream_options.include_usage,
        ignored=(*ignored, *(["earlier messages"] if has_history else [])),
    )


def _refuse_unsupported(raw: Mapping[str, JSON], body: _Body) -> None:
    if body.n not in (None, 1):
        raise RefusalError(f"n is {body.n}; one answer is given: leave it out", code="unsupported")
    if body.response_format is not None and body.response_format.type != "text":
        raise RefusalError(f"response_format {shown(body.response_format.type)} is not supported: leave it out", code="unsupported")
    for name in _UNSUPPORTED:
        if raw.get(name) and raw[name] not in ("none", ["text"]):
            raise RefusalError(f"{name} is not supported: leave it out", code="unsupported")


def _question(messages: Sequence[_Message]) -> tuple[str, str, bool]:
    """The question, the video, and whether other messages are left unread."""
    asked = [message for message in messages if message.role == "user"]
    if not asked:
        raise RefusalError("there is no message of role user: send one with a question and a video_url part")
    question = "\n".join(part for part in _texts(asked[-1]) if part.strip()).strip()
    if not question:
        raise RefusalError("the last user message has no text: ask a question")
    if len(question) > MAX_QUESTION_CHARACTERS:
        raise RefusalError(f"the question has {len(question):,} characters; at most {MAX_QUESTION_CHARACTERS:,} are taken: ask shorter")
    for message in reversed(asked):
        videos = _videos(message)
        if len(videos) > 1:
            raise RefusalError(f"{len(videos)} videos in one message: send one")
        if videos:
            return question, videos[0], len(messages) > 1
    raise RefusalError("there is no video: add a part {'type': 'video_url', 'video_url': {'url': …}} to the user message")


def _texts(message: _Message) -> list[str]:
    if isinstance(message.content, str):
        return [message.content]
    return [part.text or "" for part in message.content or () if part.type == "text"]


def _videos(message: _Message) -> list[str]:
    found = []
    for part in message.content if isinstance(message.content, tuple) else ():
        match part.type:
            case "text":
                continue
            case "video_url" if part.video_url is not None:
                found.append(part.video_url.url)
            case "file" if part.file is not None:
                found.append(part.file.file_id)
            case "video_url" | "file":
                field = "video_url: {url}" if part.type == "video_url" else "file: {file_id}"
                raise RefusalError(f"a part of type {part.type} lacks its video: give {field}")
            case "image_url":
                do = "send the video itself as a video_url or file part, from which the frames are taken"
                raise RefusalError(f"a part of type image_url is a picture; questions here are about a video: {do}", code="unsupported")
            case _:
                raise RefusalError(f"a part of type {shown(part.type)} is not supported: send text and one video_url or file", code="unsupported")
    return found
