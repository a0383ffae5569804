"""Validation of server addresses and error messages, shared by backends and generators on OpenAI-compatible servers."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx2
import openai

from act2see.core.errors import BackendError, ConfigError

_MAX_MESSAGE = 300
_LONGEST_URL = 2000
_ENDPOINTS = ("/chat/completions", "/completions", "/images/edits", "/images/generations")
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+(%25[A-Za-z0-9._-]+)?")  # a name or an IPv4 address, or an IPv6 address
_RETRIED = (408, 409, 429)


class TransientError(Exception):
    """A server error worth a retry. Internal: it is retried, or becomes a `BackendError`."""

    def __init__(self, what: str, why: str, hint: str, wait_seconds: float | None = None) -> None:
        """`what` happened, the reason `why`, and a `hint` for the user; `wait_seconds` is the server's Retry-After."""
        super().__init__(why)
        self.what = what
        self.why = why
        self.hint = hint
        self.wait_seconds = wait_seconds

    def final(self, tries: int) -> BackendError:
        """The error to report after the last attempt."""
        return BackendError(f"{self.what} after {tries} {'try' if tries == 1 else 'tries'}{self.why}; {self.hint}")


@dataclass(frozen=True, slots=True)
class Server:
    """A server, as named in errors. Its key is needed to redact error messages."""

    url: str
    model: str
    endpoint: str
    """The path below the address, as /chat/completions."""
    option: str
    """The flag that sets the address, named in errors."""
    key: str
    timeout_seconds: float
    advice: str = ""
    """What to do if the server refuses the request (400) or fails on it (5xx); ends the error."""

    def redacted(self, words: object) -> str:
        """A server's text as one short printable line without the key."""
        return redacted(words, self.key)

    def fault(self, error: openai.APIError) -> BackendError | TransientError:
        """The error for a failed request; a `TransientError` if it is worth a retry."""
        match error:
            case openai.APITimeoutError():
                hint = f"start the server, check {self.option}, or allow it more time"
                return TransientError(f"no answer from {self.url} within {self.timeout_seconds:g} s", "", hint)
            case openai.APIConnectionError(__cause__=BackendError() as refusal):
                return refusal  # our own; early versions of the client treat it as a connection error
            case openai.APIConnectionError():
                cause = self.redacted(error.__cause__ or error)
                return TransientError(f"no answer from {self.url}", f": {cause}", f"start the server or check {self.option}")
            case openai.APIStatusError():
                return self.refusal(error.status_code, server_message(error.body, error.message), retry_after(error.response.headers))
            case _:
                return BackendError(f"{self.url} reported an error: {self.redacted(server_message(error.body, error.message))}")

    def refusal(self, status: int | None, words: object, wait_seconds: float | None = None) -> BackendError | TransientError:
        """The error for an HTTP status. An error within a stream may have none."""
        said = self.redacted(words)
        if status is None:
            return BackendError(f"{self.url} reported an error: {said}")
        if status in (401, 403):  # without the server's text, which may quote the key
            return BackendError(f"{self.url} refused the key ({status}): {'check' if self.key else 'set'} OPENAI_API_KEY")
        if status == 404:
            missing = f"has no model {self.model!r} or no {self.endpoint}"
            return BackendError(f"{self.url} {missing} (404): {said}; check the model's name and {self.option}")
        if status in _RETRIED or status >= 500:
            hint = self.advice if status >= 500 and self.advice else "try again later"
            return TransientError(f"{self.url} failed", f" ({status}): {said}", hint, wait_seconds)
        advice = f"; {self.advice}" if status == 400 and self.advice else ""
        return BackendError(f"{self.url} refused the request ({status}): {said}{advice}")

    def broken(self, why: str) -> TransientError:
        """The error for an answer that was cut off or cannot be parsed."""
        return TransientError(f"the answer of {self.url} broke off", f": {why}", "see the server's log, or try again")


def check_url(url: str, name: str) -> None:
    """Raise `ConfigError` unless the URL is a plain HTTP address of an API; `name` describes it in the error."""
    if fault := _fault_of(url):
        raise ConfigError(
            f"{name} {fault}; it must look like http://127.0.0.1:8000/v1, without user, password or query; a key goes into OPENAI_API_KEY"
        )


def _fault_of(url: str) -> str | None:
    """The problem with a URL, without quoting it."""
    if not url:
        return "is empty"
    if len(url) > _LONGEST_URL:
        return f"is longer than {_LONGEST_URL:,} characters"
    if any(sign.isspace() or not sign.isprintable() for sign in url):
        return "has a space or a control character in it"
    if not url.lower().startswith(("http://", "https://")):
        return "does not begin with http:// or https://"
    try:
        parts = urlsplit(url)
        host, user = parts.hostname, "@" in parts.netloc
    except ValueError:
        return "has a host that cannot be read"
    if user:
        return "has a user or a password in it"
    if not host:
        return "names no host"
    if "?" in url or "#" in url:
        return "has a query or a fragment"
    try:
        if parts.port == 0:
            return "has port 0"
    except ValueError:
        return "has a port that is no number from 1 to 65535"
    path = parts.path.rstrip("/").lower()
    if endpoint := next((one for one in _ENDPOINTS if path.endswith(one)), None):
        return f"ends with {endpoint}, which is added to it: leave that out"
    try:
        host = httpx2.URL(url).raw_host.decode("ascii")
        host.encode("idna")  # as the socket does
    except (httpx2.InvalidURL, ValueError):
        return "has a host that cannot be read"
    return None if _HOST.fullmatch(host) else "has a host that cannot be read"


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds of a Retry-After header; None if it is missing or invalid."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        try:
            seconds = float(value) / unit
        except ValueError:
            continue
        return seconds if 0 <= seconds < float("inf") else None
    return _seconds_until(headers.get("retry-after", ""))


def _seconds_until(date: str) -> float | None:
    """The seconds until an HTTP date; None for an invalid one."""
    try:
        return max(0.0, parsedate_to_datetime(date).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def server_message(body: object, otherwise: str) -> str:
    """The message in an error's body, in OpenAI's or FastAPI's format, else the body itself."""
    inner = body.get("error", body) if isinstance(body, Mapping) else body
    words = [inner.get(name) for name in ("message", "detail")] if isinstance(inner, Mapping) else [inner]
    try:
        return str(next((one for one in words if one), None) or otherwise)
    except RecursionError:  # nested too deeply for str()
        return otherwise


def redacted(words: object, key: str) -> str:
    """External text as one short printable line without the key."""
    text = str(words)
    if key:
        text = text.replace(key, "***")
    text = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    return text if len(text) <= _MAX_MESSAGE else text[: _MAX_MESSAGE - 1] + "…"
