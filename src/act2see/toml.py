"""TOML files that a person writes."""

import tomllib
from pathlib import Path
from typing import Any

from act2see.errors import ConfigError


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """What the file holds; `what` says in an error what it was to be. Raises `ConfigError`."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the {what} {path}: {getattr(error, 'strerror', None) or error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is no TOML: {error}") from error
