"""Parse component names, and import and create a third party's `package.module:Class`.

A name comes from the command line or the user's own settings, never from a model or a data file: `package.module:Class` runs code.
"""

import difflib
import importlib
import importlib.util
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from act2see.core.errors import ConfigError

_EXTRA_OF = {
    "torch": "local",
    "transformers": "local",
    "peft": "local",
    "diffusers": "local",
    "openai": "openai",
    "sentence_transformers": "embedding",
    "ray": "ray",
    "faiss": "faiss",
    "faster_whisper": "speech",
    "onnxruntime": "text",
    "rapidocr": "text",
    "vllm": "vllm",
    "starlette": "serve",
    "uvicorn": "serve",
    "prometheus_client": "serve",
    "python_multipart": "serve",
    "mcp": "mcp",
    "gradio": "ui",
}
_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_IMPORT_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def split_spec(what: str, spec: str, allowed: tuple[str, ...]) -> tuple[str, str]:
    """The name before the colon and what follows it, validated. Raises `ConfigError`."""
    name, colon, rest = spec.partition(":")
    known = {form.partition(":")[0]: form for form in allowed[:-1]}
    if name not in known:
        if _IMPORT_NAME.fullmatch(spec) and importlib.util.find_spec(name.partition(".")[0]):
            return name, rest
        near = difflib.get_close_matches(name, known, n=1)
        hint = (
            f"did you mean {known[near[0]]}? "
            if near
            else f"no package {name.partition('.')[0]!r} is installed; "
            if _IMPORT_NAME.fullmatch(spec)
            else ""
        )
        raise ConfigError(f"no {what} {spec!r}: {hint}allowed are {', '.join(allowed)}")
    if ":" not in known[name] and colon:
        raise ConfigError(f"{what} {spec!r}: {name} takes no argument")
    if ":" in known[name] and not rest:
        raise ConfigError(f"{what} {spec!r} is incomplete: write {known[name]}")
    if known[name].endswith(":DIR"):
        folder = Path(os.path.expanduser(rest))
        if folder.is_dir():
            return name, str(folder)
        if not _HUB_NAME.fullmatch(rest):
            raise ConfigError(f"{what} {spec!r}: no folder {rest}")
    return name, rest


@contextmanager
def importing(what: str, extra: str | None = None) -> Iterator[None]:
    """Convert a missing package into one line that names the extra to install: `extra` for all of them, if given."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if extra is None and missing not in _EXTRA_OF:
            raise
        raise ConfigError(f"{what} needs {missing}: pip install 'act2see[{extra or _EXTRA_OF[missing]}]'") from error


def third_party(what: str, spec: str, config: object, members: tuple[str, ...], or_members: tuple[str, ...] = ()) -> Any:
    """An instance of the named class, created from the config. It must have all `members`, or all of `or_members` if it has the first of these.

    Raises `ConfigError`.
    """
    module_name, _, attribute = spec.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(f"{what} {spec!r}: cannot import {module_name} ({error}); is it installed, or its folder on PYTHONPATH?") from error
    factory = getattr(module, attribute, None)
    if not callable(factory):
        raise ConfigError(f"{what} {spec!r}: {module_name} has no class or function {attribute}")
    try:
        made = factory(config)
    except TypeError as error:
        raise ConfigError(f"{what} {spec!r} cannot be created from a {type(config).__name__} alone: {error}") from error
    for member in or_members if or_members and hasattr(made, or_members[0]) else members:
        if not hasattr(made, member):
            raise ConfigError(f"{what} {spec!r} is invalid: it has no {member!r} (see act2see.core.interfaces)")
    return made
