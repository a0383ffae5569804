"""Checks of texts and paths, before anything heavy is loaded."""

import os
from collections.abc import Sequence
from pathlib import Path

from act2see.core.chat import letters
from act2see.core.errors import ConfigError
from act2see.core.plaintext import is_well_formed


def check_text(what: str, text: str) -> None:
    """Refuse a text that no model reads. Raises `ConfigError`."""
    if not text.strip():
        raise ConfigError(f"{what} is empty: write something")
    if not is_well_formed(text):
        raise ConfigError(f"{what} is no valid UTF-8: {text!r}; write it anew, or set the terminal to UTF-8")


def check_question(question: str, choices: Sequence[str]) -> None:
    """Refuse an empty question and choices that are no choice. Raises `ConfigError`."""
    check_text("the question", question)
    if choices and not 2 <= len(choices) <= len(letters(100)):
        raise ConfigError(f"{len(choices)} choices: give 2 to {len(letters(100))}")
    for choice in choices:
        check_text("a choice", choice)
    if len({choice.strip().casefold() for choice in choices}) < len(choices):
        raise ConfigError("the same choice twice: give different ones")


def check_file_to_write(path: Path | None, *read: str) -> None:
    """Refuse a file that cannot be written, and one of those that the command reads. Raises `ConfigError`."""
    if path is None:
        return
    try:
        if path.is_dir():
            raise ConfigError(f"cannot write {path}: it is a folder; give a file")
        if not path.parent.is_dir():
            raise ConfigError(f"cannot write {path}: there is no folder {path.parent}")
        if any(os.path.exists(one) and path.exists() and path.samefile(one) for one in map(os.path.expanduser, read)):
            raise ConfigError(f"cannot write {path}: it is what is read here, and would be lost; give another file")
        there = path if path.exists() else path.parent
    except OSError as error:  # a name that is too long, a folder that may not be read
        raise ConfigError(f"cannot write {path}: {error.strerror}; give another file") from error
    if not os.access(there, os.W_OK):
        raise ConfigError(f"cannot write {path}: no permission")
