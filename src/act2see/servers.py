"""What backends and generators on OpenAI-compatible servers share: which addresses are taken, and how a server's words are told."""

from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

import openai

_MAX_MESSAGE = 300


def is_plain_url(url: str) -> bool:
    """Whether this is an HTTP address without anything secret in it."""
    try:
        parts = urlsplit(url)
        has_port = parts.port is None or parts.port > 0
    except ValueError:
        return False
    return has_port and parts.scheme in ("http", "https") and bool(parts.hostname) and not ("@" in parts.netloc or parts.query or parts.fragment)


def server_message(error: openai.APIError) -> str:
    """The words of the server about an error: OpenAI's form, FastAPI's, or the plain body."""
    body = error.body
    if isinstance(body, Mapping):
        inner = body.get("error", body)
        found: Iterator[object] = (inner.get(name) for name in ("message", "detail")) if isinstance(inner, Mapping) else iter([inner])
        return str(next((value for value in found if value), None) or error.message)
    return str(body or error.message)


def one_line(words: object, key: str) -> str:
    """Somebody else's words as one short printable line without the key."""
    text = str(words)
    if key:
        text = text.replace(key, "***")
    text = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    return text if len(text) <= _MAX_MESSAGE else text[: _MAX_MESSAGE - 1] + "…"
