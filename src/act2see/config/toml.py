"""Reads TOML files written by users."""

import stat
import tomllib
from pathlib import Path

from act2see.core.errors import ConfigError

_MOST_BYTES = 1 << 20


def read_toml(path: Path, what: str) -> dict[str, object]:
    """The content of a file; `what` is its purpose, for error messages. Raises `ConfigError`."""
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise ConfigError(f"cannot read the {what} {path}: it is not a regular file")
        if about.st_size > _MOST_BYTES:
            raise ConfigError(f"cannot read the {what} {path}: it has {about.st_size:,} bytes; the limit is {_MOST_BYTES:,}")
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the {what} {path}: {getattr(error, 'strerror', None) or error}") from error
    except ValueError as error:  # invalid TOML, or an integer of thousands of digits
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"{path} is nested too deeply to be read as TOML") from error
    if any("\0" in text for text in _texts(content)):
        raise ConfigError(f"{path} contains a NUL character: remove it")
    return content


def _texts(value: object) -> list[str]:
    if isinstance(value, dict):
        return [*value, *(text for item in value.values() for text in _texts(item))]
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    return [value] if isinstance(value, str) else []
