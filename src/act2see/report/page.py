"""Renders a trace as an HTML page and writes it."""

import os
import secrets
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template
from markupsafe import Markup

from act2see.core.errors import StoreError, disk_reason
from act2see.core.trace import Trace
from act2see.report import view
from act2see.report.pictures import Album, clean


def render_report(*traces: Trace) -> str:
    """One or several traces as one self-contained HTML page: pictures are embedded, it has no script and loads nothing."""
    album = Album()
    pages = [view.page(trace, album, f"q{number}-" if len(traces) > 1 else "") for number, trace in enumerate(traces, 1)]
    return template("page.html.j2").render(pages=pages, pictures=album.embedded(), seconds=view.seconds_text)


def write_report(traces: Trace | Sequence[Trace], path: Path | str) -> None:
    """Write the page of one or several traces to `path`, atomically. Raises `StoreError`."""
    write_page(Path(path), render_report(*((traces,) if isinstance(traces, Trace) else traces)))


def write_page(path: Path, html: str) -> None:
    """Write a page to `path`, atomically. Raises `StoreError`."""
    # In the target's folder: a rename is atomic only within a file system.
    temporary = path.with_name(f".{secrets.token_hex(8)}.part") if path.name else path
    try:
        with temporary.open("x", encoding="utf-8") as file:
            file.write(html)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise StoreError(
            f"cannot write the report to {path}: {disk_reason(error)}; give a file in a folder that exists and can be written"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def template(name: str) -> Template:
    """A template by its file name in this package. Every value is escaped, and stripped of characters that HTML does not allow."""
    return _environment().get_template(name)


@cache
def _environment() -> Environment:
    loader = FunctionLoader(lambda name: files("act2see.report").joinpath(name).read_text(encoding="utf-8"))
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_finished)


def _finished(value: object) -> object:
    # Markup is the output of a macro, whose values came through here already. Most texts are plain, which is known sooner than cleaned.
    if not isinstance(value, str) or isinstance(value, Markup) or (value.isascii() and value.isprintable()):
        return value
    return clean(value)
