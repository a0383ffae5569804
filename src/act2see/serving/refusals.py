"""Errors as clients see them: an HTTP status and OpenAI's error object, one line each, without paths of this machine."""

from collections.abc import Mapping
from dataclasses import dataclass

from act2see.core.errors import (
    Act2SeeError,
    BackendError,
    ConfigError,
    InternalError,
    ScopeError,
    StoreError,
    ToolError,
    VideoError,
)
from act2see.core.plaintext import one_line
from act2see.storage.codec import JSON

_STATUS: tuple[tuple[type[Act2SeeError], int, str], ...] = (
    (ScopeError, 400, "out_of_scope"),
    (VideoError, 400, "invalid_video"),
    (ConfigError, 500, "configuration"),
    (StoreError, 500, "storage_failed"),
    (ToolError, 500, "tool_failed"),
    (BackendError, 502, "model_failed"),
    (InternalError, 500, "internal_error"),
)
"""By the first type that fits; other errors are 500."""
_HIDDEN = "the model or one of its tools failed on this request; the server's log says why"


class RefusalError(Act2SeeError):
    """A request that is refused, with its HTTP status and the code in OpenAI's error object."""

    def __init__(self, message: str, status: int = 400, code: str = "invalid_value", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.headers = status, code, dict(headers or {})


class StoppedError(RefusalError):
    """A request that was given up while it was being answered: its time is over, its client is gone, or the server is ending."""


def too_late(seconds: float) -> StoppedError:
    """The request's time is over."""
    return StoppedError(f"no answer within {seconds:g} s: ask about a shorter video, or raise the server's --deadline-seconds", 504, "deadline")


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """What a client gets for an error."""

    status: int
    message: str
    code: str
    headers: Mapping[str, str]

    def body(self) -> dict[str, JSON]:
        """OpenAI's error object."""
        kinds = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
        kind = kinds.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": None, "code": self.code}}


def answer_for(error: Act2SeeError, shown_as: Mapping[str, str] | None = None) -> ErrorAnswer:
    """The answer for an error. `shown_as` maps paths of this machine to what the client called them.

    Errors of the server itself (500) tell the client nothing but that they happened.
    """
    if isinstance(error, RefusalError):
        return ErrorAnswer(error.status, _cleaned(str(error), shown_as), error.code, error.headers)
    status, code = next(((status, code) for kind, status, code in _STATUS if isinstance(error, kind)), (500, "internal_error"))
    return ErrorAnswer(status, _HIDDEN if status == 500 else _cleaned(str(error), shown_as), code, {})


def is_hidden(error: Act2SeeError) -> bool:
    """Whether a client is not told what the error is, so that the log must."""
    return not isinstance(error, RefusalError) and answer_for(error).status == 500


def _cleaned(message: str, shown_as: Mapping[str, str] | None) -> str:
    for path, name in (shown_as or {}).items():
        message = message.replace(path, name)
    return one_line(" ".join(message.split()))
