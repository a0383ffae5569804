"""Options that only one benchmark has, declared as data and parsed from `name=value` texts.

A benchmark declares its options in the catalogue; see `act2see.benchmarks.catalogue.parse_options`.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from act2see.core.errors import ConfigError
from act2see.storage.codec import shown

OptionValue: TypeAlias = bool | str | Path | tuple[str, ...] | None
"""A parsed value: a flag, a text or one choice, a path, several choices, or None for an optional text or path that is not set."""

_FLAGS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True, slots=True)
class BenchmarkOption:
    """One option of one benchmark."""

    name: str
    """As in `name=value`: lower case, words joined by underscores. Hyphens are accepted in their place."""
    type: Literal["flag", "choice", "choices", "text", "path"]
    """`choices` is a comma-separated list of at least one of `choices`, in the order given."""
    help: str
    """One line for the command line's help."""
    default: OptionValue = None
    choices: tuple[str, ...] = ()
    """The allowed values, for the types `choice` and `choices`."""

    @property
    def allowed(self) -> str:
        """The allowed values, for help and error messages."""
        match self.type:
            case "flag":
                return "true or false"
            case "choice":
                return " or ".join(self.choices)
            case "choices":
                return f"a comma-separated list of {', '.join(self.choices)}"
            case "path":
                return "a path"
            case "text":
                return "a text"

    def parse(self, text: str) -> OptionValue:
        """The value that a text stands for. Raises `ConfigError` with the allowed values."""
        text = text.strip()
        match self.type:
            case "flag" if text.lower() in _FLAGS:
                return _FLAGS[text.lower()]
            case "choice" if text in self.choices:
                return text
            case "choices" if text and all(part.strip() in self.choices for part in text.split(",")):
                return tuple(part.strip() for part in text.split(","))
            case "text" if text:
                return text
            case "path" if text:
                return Path(text)
        raise ConfigError(f"option {self.name}: got {shown(text)}, expected {self.allowed}")


def parse_declared(benchmark: str, declared: Sequence[BenchmarkOption], given: Mapping[str, str]) -> dict[str, OptionValue]:
    """The values of all declared options: those given, and the defaults of the rest.

    Raises `ConfigError` for an option that is not declared, one that is given twice, or a value that is not allowed.
    """
    known = {option.name: option for option in declared}
    values = {option.name: option.default for option in declared}
    spelled: dict[str, str] = {}
    for written, text in given.items():
        name = written.replace("-", "_")
        if name not in known:
            raise ConfigError(_unknown(benchmark, written, known))
        if name in spelled:
            raise ConfigError(f"option {name} is given twice, as {spelled[name]} and as {written}")
        spelled[name] = written
        values[name] = known[name].parse(text)
    return values


def _unknown(benchmark: str, written: str, known: Mapping[str, BenchmarkOption]) -> str:
    if not known:
        return f"benchmark {benchmark!r} has no options: remove {shown(written)}"
    near = difflib.get_close_matches(written.replace("-", "_"), known, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"benchmark {benchmark!r} has no option {shown(written)}: {hint}its options are {', '.join(known)}"
