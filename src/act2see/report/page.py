"""Renders a trace as an HTML page and writes it."""

import os
import re
import secrets
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from act2see.core.errors import StoreError, disk_reason
from act2see.core.trace import Trace
from act2see.report import view
from act2see.report.pictures import Album

# HTML allows no control characters, UTF-8 no lone surrogates; a mark that reorders text could make a page say what is not written.
_NOT_FOR_A_PAGE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def render_report(*traces: Trace) -> str:
    """One or several traces as one HTML page that needs nothing else: pictures are embedded, there is no script and no address to load."""
    album = Album()
    pages = [view.page(trace, album, f"q{number}-" if len(traces) > 1 else "") for number, trace in enumerate(traces, 1)]
    return template("page.html.j2").render(pages=pages, pictures=album.embedded(), seconds=view.seconds_text)


def write_report(traces: Trace | Sequence[Trace], path: Path | str) -> None:
    """Write the page of one or several traces to `path`, whole or not at all. Raises `StoreError`."""
    write_page(Path(path), render_report(*((traces,) if isinstance(traces, Trace) else traces)))


def write_page(path: Path, html: str) -> None:
    """Write a page to `path`, whole or not at all. Raises `StoreError`."""
    # Beside the target, because a rename is atomic only within a file system.
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


@cache
def template(name: str) -> Template:
    """A page's template, by its file's name here: everything that is put into it is escaped, and cleaned of what may not stand in a page."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_clean)
    return environment.from_string(files("act2see.report").joinpath(name).read_text(encoding="utf-8"))


def _clean(value: object) -> object:
    # What a macro of the page gives is Markup, made of values that came through here already.
    return _NOT_FOR_A_PAGE.sub("", value) if isinstance(value, str) and not isinstance(value, Markup) else value
