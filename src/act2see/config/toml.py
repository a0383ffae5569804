"""TOML files that a person writes."""

import stat
import tomllib
from pathlib import Path

from act2see.core.errors import ConfigError

_MOST_BYTES = 1 << 20


def read_toml(path: Path, what: str) -> dict[str, object]:
    """What the file holds; `what` says in an error what it was to be. Raises `ConfigError`."""
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise ConfigError(f"cannot read the {what} {path}: it is no regular file")
        if about.st_size > _MOST_BYTES:
            raise ConfigError(f"cannot read the {what} {path}: it has {about.st_size:,} bytes, and at most {_MOST_BYTES:,} are read")
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the {what} {path}: {getattr(error, 'strerror', None) or error}") from error
    except ValueError as error:  # what TOML cannot be, and an integer of thousands of digits
        raise ConfigError(f"{path} is no TOML: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"{path} is nested too deeply to be read as TOML") from error
    if any("\0" in text for text in _texts(content)):
        raise ConfigError(f"{path} has a text with a NUL character in it: leave it out")
    return content


def _texts(value: object) -> list[str]:
    if isinstance(value, dict):
        return [*value, *(text for item in value.values() for text in _texts(item))]
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    return [value] if isinstance(value, str) else []
