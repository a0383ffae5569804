"""Errors that a user can mend. Each carries one line: what was got, what is allowed, what to do."""


class Act2SeeError(Exception):
    """The base of all errors that act2see raises on purpose; the command line prints it as one line and exits with 1."""


class ConfigError(Act2SeeError):
    """A name, an option or a settings file that cannot be used."""


class VideoError(Act2SeeError):
    """A file that cannot be read as a video, or a time outside it."""


class ToolError(Act2SeeError):
    """A retriever or generator that has no frame to give; the loop turns it into an `Observation` that the model reads."""


class JudgeError(Act2SeeError):
    """What a judge wrote cannot be used, however often it was asked."""


class BackendError(Act2SeeError):
    """A model or a server that cannot continue the conversation."""


class StoreError(Act2SeeError):
    """A run folder, or a line in it, that cannot be read or written."""
