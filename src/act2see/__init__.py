"""act2see: a vision-language model that reasons about a video and asks for the frame that it missed.

The public names are loaded when they are first used, so that `import act2see` and `act2see --help` stay light.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from act2see.cache import Cache
    from act2see.config import SearchConfig
    from act2see.engine import Delta, reason
    from act2see.errors import Act2SeeError, BackendError, ConfigError, StoreError, ToolError, VideoError
    from act2see.index import Index, Progress
    from act2see.interfaces import Backend, Benchmark, Continuation, FrameEncoder, Generator, Retriever, Sample
    from act2see.moments import retrieve
    from act2see.registry import encoder
    from act2see.store import Run
    from act2see.trace import Answer, Cost, Frame, Generate, Match, Observation, Provenance, Retrieve, Step, Thought, Trace
    from act2see.video import Video

__version__ = "0.1.0"

__all__ = [
    "Act2SeeError",
    "Answer",
    "Backend",
    "BackendError",
    "Benchmark",
    "Cache",
    "ConfigError",
    "Continuation",
    "Cost",
    "Delta",
    "Frame",
    "FrameEncoder",
    "Generate",
    "Generator",
    "Index",
    "Match",
    "Observation",
    "Progress",
    "Provenance",
    "Retrieve",
    "Retriever",
    "Run",
    "Sample",
    "SearchConfig",
    "Step",
    "StoreError",
    "Thought",
    "ToolError",
    "Trace",
    "Video",
    "VideoError",
    "__version__",
    "encoder",
    "reason",
    "retrieve",
]

_MODULE_OF = {
    "cache": ("Cache",),
    "config": ("SearchConfig",),
    "engine": ("Delta", "reason"),
    "errors": ("Act2SeeError", "BackendError", "ConfigError", "StoreError", "ToolError", "VideoError"),
    "index": ("Index", "Progress"),
    "interfaces": ("Backend", "Benchmark", "Continuation", "FrameEncoder", "Generator", "Retriever", "Sample"),
    "moments": ("retrieve",),
    "registry": ("encoder",),
    "store": ("Run",),
    "trace": ("Answer", "Cost", "Frame", "Generate", "Match", "Observation", "Provenance", "Retrieve", "Step", "Thought", "Trace"),
    "video": ("Video",),
}


def __getattr__(name: str) -> object:
    for module, names in _MODULE_OF.items():
        if name in names:
            return getattr(importlib.import_module(f"act2see.{module}"), name)
    raise AttributeError(f"module 'act2see' has no attribute {name!r}")
