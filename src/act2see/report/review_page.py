"""Traces as one HTML page for manual review: each is kept or rejected, and the verdicts are saved as a file for `act2see filter`.

The page runs one script, this package's own, which its Content-Security-Policy allows by digest; everything from a trace is escaped text.
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from act2see.core.trace import Trace
from act2see.curation.qa_records import Reference
from act2see.report import view
from act2see.report.page import template
from act2see.report.pictures import Album

INITIAL_PICTURES = 8
"""Initial frames shown of a trace, evenly chosen, so that a page of a hundred traces opens. Our choice."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One trace as the page shows it. Each choice has its letter, its text, and whether it is the right one."""

    trace: Trace
    reference: Reference
    choices: tuple[tuple[str, str, bool], ...]
    initial: tuple[view.Shown, ...]
    blocks: tuple[view.Block, ...]


def render_review(shown: Sequence[tuple[Trace, Reference]]) -> str:
    """Render traces and their questions as one self-contained HTML page."""
    album = Album()
    entries = [_entry(trace, reference, album) for trace, reference in shown]
    script = files("act2see.report").joinpath("review.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    name = hashlib.sha256("\0".join(entry.trace.id for entry in entries).encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return template("review.html.j2").render(entries=entries, pictures=album.embedded(), script=script, digest=digest, name=name)


def _entry(trace: Trace, reference: Reference, album: Album) -> Entry:
    right = reference.choices.index(reference.answer) if reference.answer in reference.choices else None
    return Entry(trace, reference, view.lettered(reference.choices, right), *view.seen_and_said(trace, album, INITIAL_PICTURES))
