"""Options of the commands that answer several questions: chat and ui."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from act2see.config.models import RUNS, ModelConfig


@dataclass(frozen=True, slots=True)
class ChatConfig(ModelConfig):
    """Answer several questions about a video."""

    save: Annotated[Path | None, Parameter(group=RUNS)] = None
    """Append each trace and its frames to this run folder; created if missing."""
