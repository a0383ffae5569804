"""Generates docs/reference/commands.md: every command, argument, flag, default and allowed value.

    python scripts/command_reference.py

A test compares the committed page with the output of this script.
"""

import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from cyclopts import App
from cyclopts.argument import Argument

from act2see import cli
from act2see.cli.options import is_option

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "commands.md"
WIDTH = 150
INTRODUCTION = """\
# Command reference

After reading this page you know every command, flag, default and allowed value. `scripts/command_reference.py` generates it from the command line.

Each flag of a command that takes `--config` can also be set, under the same name without the dashes, in a settings file. The command line wins:

<!-- runs -->

```toml
backend = "openai:Qwen/Qwen3-VL-8B-Thinking"
base-url = "http://127.0.0.1:8000/v1"

[ask]
max-looks = 2
```

Top-level keys apply to every command that has the flag; a table applies to its command alone. Without `--config`, `act2see/config.toml` in the
configuration folder (`~/.config` on Linux) is read. API keys are read from the environment only.

Exit codes: 0 answered, 1 an error that you can fix, 2 wrong usage, 3 no answer, 70 an internal error, 130 interrupted, 141 the reader of the output
left.
"""
_SHOWN_BY_CYCLOPTS = ("--help", "-h", "--version")
_WORDS = {str: "text", int: "integer", float: "number", bool: "", Path: "path"}


def page() -> str:
    """The whole page."""
    commands = list(_commands(cli.app, "act2see"))
    return "\n".join([INTRODUCTION, *(line for name, app in commands for line in _section(name, app))]).rstrip() + "\n"


def arguments_of(app: App) -> list[Argument]:
    """Every argument and flag of a command, including those that `--help` hides."""
    return [
        one
        for one in app.assemble_argument_collection(parse_docstring=True)
        if one.parameter.parse is not False and one.name != "*" and not one.children
    ]


def _commands(app: App, name: str) -> Iterator[tuple[str, App]]:
    for word in app:
        if word in _SHOWN_BY_CYCLOPTS or word.startswith("-"):
            continue
        found = app[word]
        if found.default_command is not None:
            yield f"{name} {word}", found
        yield from _commands(found, f"{name} {word}")


def _section(name: str, app: App) -> Iterator[str]:
    found = arguments_of(app)
    positional = [one for one in found if not one.name.startswith("-")]
    flags = [one for one in found if one.name.startswith("-")]
    words = [one.name if one.required else f"[{one.name}]" for one in positional]
    yield f"## {name}"
    yield ""
    yield inspect.cleandoc(_help(app))
    yield ""
    yield from ["<!-- output -->", "", "```text", " ".join([name, *words, *(["[FLAGS]"] if flags else [])]), "```", ""]
    for one in positional:
        yield _item(f"`{one.name}`", [], one)
    if positional:
        yield ""
    for key in sorted({_group(one) for one in flags}):
        yield from [f"**{key[1] or 'Flags'}**", ""]
        yield from (_item(_names(one), [_values(one.hint), _default(one)], one) for one in flags if _group(one) == key)
        yield ""


def _help(app: App) -> str:
    text = app.help or (app.default_command.__doc__ if app.default_command else "") or ""
    return _text(text)


def _group(one: Argument) -> tuple[int, str]:
    groups = one.parameter.group
    group = groups[0] if isinstance(groups, tuple) and groups else groups
    name = getattr(group, "name", str(group or ""))
    if name in ("Parameters", ""):
        return (0, "")
    order = getattr(group, "sort_key", None)
    return (order if isinstance(order, int) else 99, name)


def _names(one: Argument) -> str:
    if is_option(one):
        return f"`-o {one.name.removeprefix('--').replace('-', '_')}=VALUE`"
    return ", ".join(f"`{name}`" for name in one.names if not name.startswith("--empty-"))


def _item(names: str, facts: list[str], one: Argument) -> str:
    """One argument as a list item of short lines."""
    known = "; ".join(filter(None, facts))
    text = re.sub(r"\s+", " ", f"{names}{f' ({known})' if known else ''}: {_text(one.parameter.help)}").replace("<", "&lt;")
    return textwrap.fill(text, WIDTH, initial_indent="- ", subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _values(hint: Any) -> str:
    """The allowed values, or the type in one word."""
    origin = get_origin(hint)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in get_args(hint))
    if origin in (Union, UnionType):
        return " or ".join(filter(None, (_values(one) for one in get_args(hint) if one is not NoneType)))
    if origin in (tuple, list):
        return f"{_values(get_args(hint)[0])} …"
    if hasattr(hint, "__metadata__"):
        return _values(get_args(hint)[0])
    return _WORDS.get(hint, getattr(hint, "__name__", str(hint)).lower())


def _default(one: Argument) -> str:
    if one.required:
        return "required"
    value = one.field_info.default
    if value in (inspect.Parameter.empty, None, (), ""):
        return ""
    if isinstance(value, bool):
        return "on by default" if value else ""
    if isinstance(value, tuple):
        return f"default `{' '.join(map(str, value))}`"
    return f"default `{value}`"


def _text(text: Any) -> str:
    return str(getattr(text, "value", text) or "").strip()


if __name__ == "__main__":
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
