"""Options of each command: one frozen dataclass per command, whose fields define its flags, its keys in a TOML file and its help.

Top-level keys of a file apply to every command that has them, those in a table (`[ask]`) to that command only; command-line flags override both.
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
    RayConfig,
    RetrieveConfig,
    ScoreConfig,
    SourceConfig,
    TradeoffConfig,
    TranscriptConfig,
    ViewConfig,
)
from act2see.config.data import ConstructConfig, ConstructExecutionConfig, ContaminationConfig, FilterConfig
from act2see.config.files import SettingsFile, read_settings, refuse_unknown
from act2see.config.interactive import ChatConfig, UiConfig
from act2see.config.models import ImagineConfig, IndexedConfig, ModelConfig, SearchConfig, Words, WordsConfig, recorded
from act2see.config.presets import PAPER, PRESETS, preset_values
from act2see.config.reproduction import ReproduceConfig
from act2see.config.resolving import resolved, with_preset
from act2see.config.serving import McpConfig, ServeConfig
from act2see.config.training import MicroGeneratorConfig, MicroRetrieverConfig, MicroVlmConfig, SyntheticConfig, TrainConfig

__all__ = [
    "PAPER",
    "PRESETS",
    "AskConfig",
    "ChatConfig",
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
    "McpConfig",
    "MergeConfig",
    "MicroGeneratorConfig",
    "MicroRetrieverConfig",
    "MicroVlmConfig",
    "ModelConfig",
    "RayConfig",
    "ReproduceConfig",
    "RetrieveConfig",
    "ScoreConfig",
    "SearchConfig",
    "ServeConfig",
    "SettingsFile",
    "SourceConfig",
    "SyntheticConfig",
    "TradeoffConfig",
    "TrainConfig",
    "TranscriptConfig",
    "UiConfig",
    "ViewConfig",
    "Words",
    "WordsConfig",
    "preset_values",
    "read_settings",
    "recorded",
    "refuse_unknown",
    "resolved",
    "with_preset",
]
