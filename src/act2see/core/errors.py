"""Errors that a user can mend, each one line: what was got, what is allowed, what to do. And the one for faults that a user cannot."""

import errno

_DISK_REASONS = {
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied (it belongs to another user, or its mode forbids it)",
    errno.EPERM: "the system does not permit it",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
}


def disk_reason(error: OSError) -> str:
    """Why the disk refused something, for a reader."""
    return _DISK_REASONS.get(error.errno or 0) or error.strerror or str(error)


class Act2SeeError(Exception):
    """The base of all errors that act2see raises on purpose; the command line prints it as one line and exits with 1."""


class ConfigError(Act2SeeError):
    """A name, an option or a settings file that cannot be used."""


class ScopeError(Act2SeeError):
    """What a model does not know, and is not asked unless that is wanted all the same; the command line exits with 3, as for no answer."""


class VideoError(Act2SeeError):
    """A file that cannot be read as a video, or a time outside it."""


class ToolError(Act2SeeError):
    """A retriever or generator failed at one call. The text is the plain reason; the model reads what `chat.error_for_model` makes of it."""


class NoFrameError(ToolError):
    """No frame can be shown for this call: the model is advised to answer from what it has seen."""


class OutOfMemoryToolError(NoFrameError):
    """The generator's device has too little memory for a picture of this size."""


class UnsupportedSizeError(NoFrameError):
    """The generator does not support pictures of this size or shape."""


class JudgeError(Act2SeeError):
    """What a judge wrote cannot be used, however often it was asked."""


class BackendError(Act2SeeError):
    """A model or a server that cannot continue the conversation."""


class StoreError(Act2SeeError):
    """A run folder, or a line in it, that cannot be read or written."""


class InternalError(Act2SeeError):
    """A fault of act2see or of a plug-in, not of the user's: made by `faults.unexpected` of any other exception."""

    def __init__(self, message: str, traceback: str = "") -> None:
        super().__init__(message, traceback)  # both, so that it goes through pickle from another process
        self.traceback = traceback
        """The exception's, as Python prints it."""

    def __str__(self) -> str:
        return str(self.args[0])


class StoppedByFaultError(InternalError):
    """The same, where a developer wants it to end the run, and to see its traceback."""
