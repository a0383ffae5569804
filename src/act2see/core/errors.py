"""Errors for users, one line each (what was given, what is allowed, what to do), and `InternalError` for bugs."""

import errno

_DISK_REASONS = {
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied (it belongs to another user, or its mode forbids it)",
    errno.EPERM: "the system does not permit it",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
}


def disk_reason(error: OSError) -> str:
    """The reason for a failed file operation, in plain words."""
    return _DISK_REASONS.get(error.errno or 0) or error.strerror or str(error)


class Act2SeeError(Exception):
    """Base class of all errors that act2see raises deliberately. The command line prints it as one line and exits with 1."""


class ConfigError(Act2SeeError):
    """An invalid name, option or settings file."""


class ScopeError(Act2SeeError):
    """A question or video outside a model's scope, refused without --force. The command line exits with 3, as for no answer."""


class VideoError(Act2SeeError):
    """An unreadable video file, or a time outside the video."""


class ToolError(Act2SeeError):
    """A retriever or generator failed at one call. The text is the plain reason; the model reads what `chat.error_for_model` makes of it."""


class NoFrameError(ToolError):
    """No frame can be shown for this call: the model is advised to answer from what it has seen."""


class NoMatchError(NoFrameError):
    """Nothing in the video matches the query, according to a retriever that can tell. The command line exits with 3, as for no answer."""


class OutOfMemoryToolError(NoFrameError):
    """The generator's device has too little memory for a picture of this size."""


class UnsupportedSizeError(NoFrameError):
    """The generator does not support pictures of this size or shape."""


class JudgeError(Act2SeeError):
    """A judge gave no usable verdict after all retries."""


class BackendError(Act2SeeError):
    """A model or a server failed to continue the conversation."""


class StoreError(Act2SeeError):
    """A run folder, or a line in it, could not be read or written."""


class ProcessEndedError(Act2SeeError):
    """A worker process ended before its work was done."""


class InternalError(Act2SeeError):
    """A bug in act2see or in a plug-in, not a user error. `faults.unexpected` converts any other exception to it."""

    def __init__(self, message: str, traceback: str = "") -> None:
        super().__init__(message, traceback)  # both, so that it goes through pickle from another process
        self.traceback = traceback
        """The original exception's traceback, as Python prints it."""

    def __str__(self) -> str:
        return str(self.args[0])


class StoppedByFaultError(InternalError):
    """An `InternalError` that ends the run and shows its traceback: --fail-fast, for developers."""
