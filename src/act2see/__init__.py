"""act2see: a vision-language model that reasons about a video and asks for the frame that it missed.

The public names are loaded when they are first used, so that `import act2see` and `act2see --help` stay light.
"""

import importlib
from typing import TYPE_CHECKING

from act2see._version import __version__

if TYPE_CHECKING:
    from act2see.api import (
        AskResult,
        AuditResult,
        Comparison,
        ConstructResult,
        EvalResult,
        ExportResult,
        GenerateResult,
        Models,
        RetrieveResult,
        TrainResult,
        ask,
        audit,
        compare,
        construct,
        evaluate,
        export_run,
        find_frames,
        generate,
        load_models,
        retrieve,
        train,
    )
    from act2see.config import (
        AskConfig,
        CompareConfig,
        ConstructConfig,
        ConstructExecutionConfig,
        EvalConfig,
        EvalExecutionConfig,
        ExecutionConfig,
        ExportConfig,
        GenerateConfig,
        ModelConfig,
        RetrieveConfig,
        SearchConfig,
        TrainConfig,
    )
    from act2see.core.engine import Delta, LoopOptions, reason
    from act2see.core.errors import Act2SeeError, BackendError, ConfigError, StoreError, ToolError, VideoError
    from act2see.core.interfaces import Backend, Benchmark, Continuation, FrameEncoder, Generator, Retriever, Sample
    from act2see.core.trace import Answer, Cost, Frame, Generate, Match, Observation, Provenance, Retrieve, Step, Thought, Trace
    from act2see.registry import encoder
    from act2see.storage.cache import Cache
    from act2see.storage.runs import Run
    from act2see.tools.index import Index, Progress
    from act2see.video import Video

__all__ = [
    "Act2SeeError",
    "Answer",
    "AskConfig",
    "AskResult",
    "AuditResult",
    "Backend",
    "BackendError",
    "Benchmark",
    "Cache",
    "CompareConfig",
    "Comparison",
    "ConfigError",
    "ConstructConfig",
    "ConstructExecutionConfig",
    "ConstructResult",
    "Continuation",
    "Cost",
    "Delta",
    "EvalConfig",
    "EvalExecutionConfig",
    "EvalResult",
    "ExecutionConfig",
    "ExportConfig",
    "ExportResult",
    "Frame",
    "FrameEncoder",
    "Generate",
    "GenerateConfig",
    "GenerateResult",
    "Generator",
    "Index",
    "LoopOptions",
    "Match",
    "ModelConfig",
    "Models",
    "Observation",
    "Progress",
    "Provenance",
    "Retrieve",
    "RetrieveConfig",
    "RetrieveResult",
    "Retriever",
    "Run",
    "Sample",
    "SearchConfig",
    "Step",
    "StoreError",
    "Thought",
    "ToolError",
    "Trace",
    "TrainConfig",
    "TrainResult",
    "Video",
    "VideoError",
    "__version__",
    "ask",
    "audit",
    "compare",
    "construct",
    "encoder",
    "evaluate",
    "export_run",
    "find_frames",
    "generate",
    "load_models",
    "reason",
    "retrieve",
    "train",
]

_MODULE_OF = {
    "storage.cache": ("Cache",),
    "config": (
        "AskConfig",
        "CompareConfig",
        "ConstructConfig",
        "ConstructExecutionConfig",
        "EvalConfig",
        "EvalExecutionConfig",
        "ExecutionConfig",
        "ExportConfig",
        "GenerateConfig",
        "ModelConfig",
        "RetrieveConfig",
        "SearchConfig",
        "TrainConfig",
    ),
    "core.engine": ("Delta", "LoopOptions", "reason"),
    "core.errors": ("Act2SeeError", "BackendError", "ConfigError", "StoreError", "ToolError", "VideoError"),
    "tools.index": ("Index", "Progress"),
    "core.interfaces": ("Backend", "Benchmark", "Continuation", "FrameEncoder", "Generator", "Retriever", "Sample"),
    "api": (
        "AskResult",
        "AuditResult",
        "Comparison",
        "ConstructResult",
        "EvalResult",
        "ExportResult",
        "GenerateResult",
        "Models",
        "RetrieveResult",
        "TrainResult",
        "ask",
        "audit",
        "compare",
        "construct",
        "evaluate",
        "export_run",
        "find_frames",
        "generate",
        "load_models",
        "retrieve",
        "train",
    ),
    "registry": ("encoder",),
    "storage.runs": ("Run",),
    "core.trace": ("Answer", "Cost", "Frame", "Generate", "Match", "Observation", "Provenance", "Retrieve", "Step", "Thought", "Trace"),
    "video": ("Video",),
}


def __getattr__(name: str) -> object:
    for module, names in _MODULE_OF.items():
        if name in names:
            return getattr(importlib.import_module(f"act2see.{module}"), name)
    raise AttributeError(f"module 'act2see' has no attribute {name!r}")
