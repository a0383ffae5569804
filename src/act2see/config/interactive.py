"""Options of the commands that answer several questions: chat and ui."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from act2see.config.models import RUNS, ModelConfig, Positive, Seconds
from act2see.config.serving import SERVING, Port, ServingConfig


@dataclass(frozen=True, slots=True)
class ChatConfig(ModelConfig):
    """Answer several questions about a video."""

    save: Annotated[Path | None, Parameter(group=RUNS)] = None
    """Append each trace and its frames to this run folder; created if missing."""


@dataclass(frozen=True, slots=True)
class UiConfig(ServingConfig):
    """Ask questions about videos in a browser."""

    host: Annotated[str, Parameter(group=SERVING)] = "127.0.0.1"
    """Address to listen on. The page has no password: whoever reaches any other than a loopback address can ask."""
    port: Port = 7860
    """Port to listen on; 0 for a free one."""
    queue: Annotated[Positive, Parameter(group=SERVING)] = 16
    """Questions that may wait for the model; further ones are refused."""
    max_upload_mb: Annotated[Positive, Parameter(group=SERVING)] = 512
    """Maximum size of an uploaded video in MiB."""
    max_disk_mb: Annotated[Positive, Parameter(group=SERVING)] = 8192
    """Maximum size of all visitors' uploads, traces and reports on disk together in MiB; an upload that does not fit is refused."""
    max_video_seconds: Annotated[Seconds, Parameter(group=SERVING)] = 3600.0
    """Maximum length of a video in seconds; longer ones are refused."""
    open: Annotated[bool, Parameter(group=SERVING, negative="")] = False
    """Open the page in the default browser."""
