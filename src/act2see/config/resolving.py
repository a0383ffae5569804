"""Options in Python with the values of a preset: what `--preset` does on the command line."""

from collections.abc import Callable, Mapping
from typing import TypeVar, cast

from act2see.config.commands import EvalConfig
from act2see.config.data import ConstructConfig, FilterConfig
from act2see.config.models import ModelConfig
from act2see.config.presets import PRESETS, Command, preset_values
from act2see.core.errors import ConfigError

_Options = TypeVar("_Options", bound=ModelConfig | FilterConfig)


def with_preset(kind: type[_Options], preset: str, *, benchmark: str | None = None, **given: object) -> _Options:
    """Options of this kind with a preset's values, except for those that are `given`: `with_preset(EvalConfig, "paper", backend="micro")`.

    `benchmark` is the one to be evaluated on, for values that are only for it. Raises `ConfigError` for an unknown preset or option, and as `kind`.
    """
    if preset not in PRESETS:
        raise ConfigError(f"unknown preset {preset!r}; allowed: {', '.join(PRESETS)}")
    return _made(kind, {"preset": preset, **preset_values(preset, _command(kind), benchmark=benchmark, given=given), **given})


def resolved(kind: type[_Options], given: Mapping[str, object], *, benchmark: str | None = None) -> _Options:
    """Options of this kind from values of which one may be the `preset`'s name."""
    others = {name: value for name, value in given.items() if name != "preset"}
    preset = given.get("preset")
    return _made(kind, others) if preset is None else with_preset(kind, str(preset), benchmark=benchmark, **others)


def _made(kind: type[_Options], values: Mapping[str, object]) -> _Options:
    known = kind.__dataclass_fields__
    if unknown := next((name for name in values if name not in known), None):
        raise ConfigError(f"{kind.__name__} has no option {unknown!r}; allowed: {', '.join(sorted(known))}")
    return cast(Callable[..., _Options], kind)(**values)


def _command(kind: type[object]) -> Command:
    if issubclass(kind, FilterConfig):
        return "filter"
    return "construct" if issubclass(kind, ConstructConfig) else "eval" if issubclass(kind, EvalConfig) else "ask"
