"""Validation of a command's input before anything heavy is loaded."""

import importlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from functools import cache
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Literal, Union, get_args, get_origin, get_type_hints

from cyclopts import Parameter
from cyclopts.validators import Number

from act2see.config.presets import takes_effect
from act2see.core.errors import ConfigError
from act2see.core.plaintext import is_well_formed

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

PLOT_ENDINGS = (".png", ".svg", ".pdf")


# Options


class Checked:
    """A dataclass of options whose values are checked when it is created. The bounds are those that its annotations state for the command line."""

    __slots__ = ()

    def __post_init__(self: "DataclassInstance") -> None:
        """Raises `ConfigError` for the first number out of range, number of another kind, or word that is not offered."""
        for name, check in _checks_of(type(self)):
            check(name, getattr(self, name))


_Check = Callable[[str, object], None]


@cache
def _checks_of(kind: "type[DataclassInstance]") -> tuple[tuple[str, _Check], ...]:
    hints = get_type_hints(kind, include_extras=True)
    return tuple((field.name, check) for field in fields(kind) for check in _checks(hints[field.name]))


def _checks(hint: object) -> Iterator[_Check]:
    """What an annotation demands of a value."""
    origin, parts = get_origin(hint), get_args(hint)
    if hint is int or hint is float:
        yield _check_number(whole=hint is int)
    elif origin is Annotated:
        yield from _checks(parts[0])
        for note in parts[1:]:
            if isinstance(note, Parameter):
                validators = note.validator if isinstance(note.validator, tuple) else (note.validator,)
                yield from (_check_bounds(one) for one in validators if callable(one))
    elif origin in (Union, UnionType):
        inner = [check for part in parts if part is not type(None) for check in _checks(part)]
        yield from map(_unless_none, inner)
    elif origin is Literal:
        yield _check_word(parts)
    elif origin is tuple:
        yield from map(_for_each, _checks(parts[0]))


def _unless_none(check: _Check) -> _Check:
    return lambda name, value: None if value is None else check(name, value)


def _for_each(check: _Check) -> _Check:
    def check_all(name: str, values: object) -> None:
        for value in values if isinstance(values, Sequence) else ():
            check(name, value)

    return check_all


def _check_number(*, whole: bool) -> _Check:
    def check(name: str, value: object) -> None:
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            raise ConfigError(f"{name} is {value!r}; it must be a {'whole ' if whole else ''}number")

    return check


def _check_bounds(validator: Callable[[type, object], None]) -> _Check:
    """`validator` is one of cyclopts': it raises `ValueError`."""

    def check(name: str, value: object) -> None:
        if value is None:
            return
        try:
            validator(type(value), value)
        except ValueError as error:
            allowed = f"it must be {_range(validator)}" if isinstance(validator, Number) else str(error)
            raise ConfigError(f"{name} is {value!r}; {allowed}") from error

    return check


def _range(bounds: Number) -> str:
    words = (("at least", bounds.gte), ("above", bounds.gt), ("at most", bounds.lte), ("below", bounds.lt))
    return " and ".join(f"{word} {bound}" for word, bound in words if bound is not None)


def _check_word(allowed: Sequence[object]) -> _Check:
    def check(name: str, value: object) -> None:
        if value not in allowed:
            raise ConfigError(f"{name} is {value!r}; allowed are {', '.join(map(str, allowed))}")

    return check


def check_preset(name: str | None, options: "DataclassInstance") -> None:
    """Refuse options that name a preset of which no value is set, as a caller in Python may write. Raises `ConfigError`."""
    if name is not None and not takes_effect(name, options):
        kind = type(options).__name__
        raise ConfigError(f"preset is {name!r}, but none of its values is set: make the options with with_preset({kind}, {name!r})")


# Texts and files


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


def check_file_to_write(path: Path | None, *read: str, run: Path | None = None) -> None:
    """Refuse a file that cannot be written, one that the command reads (`read`), and a run's own, of `run` or any other. Raises `ConfigError`."""
    if path is None:
        return
    try:
        if _is_of_a_run(path, run):
            raise ConfigError(f"cannot write {path}: the run keeps its own data there; give another file")
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


_OF_A_RUN = re.compile(r"(run|summary|costs)\.json|(traces|scores(-\d+-of-\d+)?|samples|rejected|errors|similarities|verdicts)\.jsonl|\.lock.*")


def _is_of_a_run(path: Path, run: Path | None) -> bool:
    """Whether a run keeps something at that place: by the file's name beside a run.json, or in the run's frames or videos."""
    resolved = path.resolve()
    wanted = None if run is None else Path(os.path.expanduser(run)).resolve()
    for folder in resolved.parents:
        if folder == wanted or (folder / "run.json").exists():
            first, *more = resolved.relative_to(folder).parts
            return first in ("frames", "videos") if more else _OF_A_RUN.fullmatch(first) is not None
    return False


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
