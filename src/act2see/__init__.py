"""act2see: a vision-language model that reasons about a video and asks for the frame that it missed.

The public names are loaded when they are first used, so that `import act2see` and `act2see --help` stay light.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from act2see.engine import Delta, reason
    from act2see.errors import Act2SeeError, BackendError, ConfigError, StoreError, ToolError, VideoError
    from act2see.interfaces import Backend, Benchmark, Continuation, Generator, Retriever, Sample
    from act2see.store import Run
    from act2see.trace import Answer, Cost, Frame, Generate, Observation, Provenance, Retrieve, Step, Thought, Trace
    from act2see.video import Video

__version__ = "0.1.0"

__all__ = [
    "Act2SeeError",
    "Answer",
    "Backend",
    "BackendError",
    "Benchmark",
    "ConfigError",
    "Continuation",
    "Cost",
    "Delta",
    "Frame",
    "Generate",
    "Generator",
    "Observation",
    "Provenance",
    "Retrieve",
    "Retriever",
    "Run",
    "Sample",
    "Step",
    "StoreError",
    "Thought",
    "ToolError",
    "Trace",
    "Video",
    "VideoError",
    "__version__",
    "reason",
]

_MODULE_OF = {
    "engine": ("Delta", "reason"),
    "errors": ("Act2SeeError", "BackendError", "ConfigError", "StoreError", "ToolError", "VideoError"),
    "interfaces": ("Backend", "Benchmark", "Continuation", "Generator", "Retriever", "Sample"),
    "store": ("Run",),
    "trace": ("Answer", "Cost", "Frame", "Generate", "Observation", "Provenance", "Retrieve", "Step", "Thought", "Trace"),
    "video": ("Video",),
}


def __getattr__(name: str) -> object:
    for module, names in _MODULE_OF.items():
        if name in names:
            return getattr(importlib.import_module(f"act2see.{module}"), name)
    raise AttributeError(f"module 'act2see' has no attribute {name!r}")
