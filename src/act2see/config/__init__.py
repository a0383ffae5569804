"""What each command can be told: one frozen dataclass a command, whose fields are its flags, its keys in a TOML file, and its help.

A file's top-level keys hold for every command that has them, those in a table (`[ask]`) for that command alone; a flag on the command line wins.
"""

from act2see.config.commands import (
    AskConfig,
    CompareConfig,
    DataCheckConfig,
    DemoConfig,
    EvalConfig,
    EvalExecutionConfig,
    ExecutionConfig,
    ExportConfig,
    GenerateConfig,
    IndexConfig,
    MergeConfig,
    ParallelConfig,
    RayConfig,
    RetrieveConfig,
    ScoreConfig,
    SourceConfig,
    TradeoffConfig,
)
from act2see.config.data import ConstructConfig, ConstructExecutionConfig, ContaminationConfig, FilterConfig
from act2see.config.files import SettingsFile, read_settings, refuse_unknown
from act2see.config.models import ImagineConfig, IndexedConfig, ModelConfig, SearchConfig, Words, recorded
from act2see.config.training import MicroGeneratorConfig, MicroRetrieverConfig, MicroVlmConfig, SyntheticConfig, TrainConfig

__all__ = [
    "AskConfig",
    "CompareConfig",
    "ConstructConfig",
    "ConstructExecutionConfig",
    "ContaminationConfig",
    "DataCheckConfig",
    "DemoConfig",
    "EvalConfig",
    "EvalExecutionConfig",
    "ExecutionConfig",
    "ExportConfig",
    "FilterConfig",
    "GenerateConfig",
    "ImagineConfig",
    "IndexConfig",
    "IndexedConfig",
    "MergeConfig",
    "MicroGeneratorConfig",
    "MicroRetrieverConfig",
    "MicroVlmConfig",
    "ModelConfig",
    "ParallelConfig",
    "RayConfig",
    "RetrieveConfig",
    "ScoreConfig",
    "SearchConfig",
    "SettingsFile",
    "SourceConfig",
    "SyntheticConfig",
    "TradeoffConfig",
    "TrainConfig",
    "Words",
    "read_settings",
    "recorded",
    "refuse_unknown",
]
