"""Validation of a command's input before anything heavy is loaded."""

import importlib
import os
from collections.abc import Sequence
from pathlib import Path

from act2see.core.errors import ConfigError
from act2see.core.plaintext import is_well_formed

PLOT_ENDINGS = (".png", ".svg", ".pdf")


def check_text(label: str, text: str) -> None:
    """Refuse an empty text and one that is not valid Unicode. Raises `ConfigError`."""
    if not text.strip():
        raise ConfigError(f"{label} is empty: enter some text")
    if not is_well_formed(text):
        raise ConfigError(f"{label} is not valid UTF-8: {text!r}; type it again, or set the terminal to UTF-8")


def check_question(question: str, choices: Sequence[str]) -> None:
    """Refuse an empty question, too few, too many or repeated choices. Raises `ConfigError`."""
    from act2see.core.chat import letters  # Pillow, for which help must not wait

    check_text("the question", question)
    if choices and not 2 <= len(choices) <= len(letters(100)):
        raise ConfigError(f"{len(choices)} choices: give 2 to {len(letters(100))}")
    for choice in choices:
        check_text("a choice", choice)
    if len({choice.strip().casefold() for choice in choices}) < len(choices):
        raise ConfigError("duplicate choices: give different ones")


def check_file_to_write(path: Path | None, *read: str) -> None:
    """Refuse a file that cannot be written, and one that the command reads (`read`). Raises `ConfigError`."""
    if path is None:
        return
    try:
        if path.is_dir():
            raise ConfigError(f"cannot write {path}: it is a folder; give a file")
        if not path.parent.is_dir():
            raise ConfigError(f"cannot write {path}: folder {path.parent} does not exist")
        if any(os.path.exists(one) and path.exists() and path.samefile(one) for one in map(os.path.expanduser, read)):
            raise ConfigError(f"cannot write {path}: it is an input of the command; give another file")
        existing = path if path.exists() else path.parent
    except OSError as error:  # a name that is too long, a folder without read permission
        raise ConfigError(f"cannot write {path}: {error.strerror}; give another file") from error
    if not os.access(existing, os.W_OK):
        raise ConfigError(f"cannot write {path}: no permission")


def check_plot(path: Path | None) -> None:
    """Refuse an unsupported plot format, a file that cannot be written, and a plot without matplotlib installed. Raises `ConfigError`."""
    if path is None:
        return
    if path.suffix.lower() not in PLOT_ENDINGS:
        raise ConfigError(f"cannot plot to {path}: the file name must end in one of {', '.join(PLOT_ENDINGS)}")
    check_file_to_write(path)
    try:
        importlib.import_module("act2see.report.plots")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        raise ConfigError("--plot needs matplotlib: pip install 'act2see[plot]'") from error
