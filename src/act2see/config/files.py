"""Settings files: flag names as keys, one table per command."""

import difflib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from act2see.config.models import RUNS
from act2see.config.toml import read_toml
from act2see.core.errors import ConfigError

SettingsFile = Annotated[
    Path | None, Parameter(group=RUNS, help="TOML file with flag names as keys; default: act2see/config.toml in your configuration folder.")
]


def read_settings(path: Path, keys_of: Mapping[str, Collection[str]]) -> dict[str, dict[str, object]]:
    """Each command's settings from a TOML file, its table over the top level. `keys_of` maps each command to its keys, spelled like its flags.

    Raises `ConfigError` for an unreadable file and for a key that no command, or not this command, has.
    """
    content = read_toml(path, "settings file")
    everywhere = {key: value for key, value in content.items() if not isinstance(value, dict)}
    tables = {key: value for key, value in content.items() if isinstance(value, dict)}
    refuse_unknown(path, "table", tables, keys_of)
    refuse_unknown(path, "key", everywhere, {key for keys in keys_of.values() for key in keys})
    for command, table in tables.items():
        refuse_unknown(path, f"key in [{command}]", table, keys_of[command])
    return {command: {key: value for key, value in everywhere.items() if key in keys} | tables.get(command, {}) for command, keys in keys_of.items()}


def refuse_unknown(path: Path, what: str, given: Collection[str], known: Collection[str]) -> None:
    """Raise `ConfigError` for the first unknown key of a file, suggesting the closest known one. `what` is the kind of key."""
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key.replace("_", "-"), known, n=1) or difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "allowed: " + ", ".join(sorted(known))
            raise ConfigError(f"{path}: unknown {what} {key!r}; {hint}")
