"""What is refused before anything heavy is loaded."""

import os
from collections.abc import Sequence
from pathlib import Path

from act2see.errors import ConfigError


def check_question(question: str, choices: Sequence[str]) -> None:
    """Refuse an empty question and choices that are no choice. Raises `ConfigError`."""
    from act2see.chat import letters

    if not question.strip():
        raise ConfigError("the question is empty: ask something")
    if choices and not 2 <= len(choices) <= len(letters(100)):
        raise ConfigError(f"{len(choices)} choices: give 2 to {len(letters(100))}")
    if any(not choice.strip() for choice in choices):
        raise ConfigError("a choice is empty: write what can be chosen")
    if len({choice.strip().casefold() for choice in choices}) < len(choices):
        raise ConfigError("the same choice twice: give different ones")


def check_file_to_write(path: Path | None) -> None:
    """Refuse a file that cannot be written. Raises `ConfigError`."""
    if path is None:
        return
    if path.is_dir():
        raise ConfigError(f"cannot write {path}: it is a folder; give a file")
    if not path.parent.is_dir():
        raise ConfigError(f"cannot write {path}: there is no folder {path.parent}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ConfigError(f"cannot write {path}: no permission")
