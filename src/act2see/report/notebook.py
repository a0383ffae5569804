"""A trace and a run as HTML fragments for a notebook: scoped styles, no script, nothing to load, every text escaped."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from math import sqrt

from act2see.core.errors import StoreError
from act2see.core.trace import Trace
from act2see.report import view
from act2see.report.page import template
from act2see.report.pictures import Album, Sizes
from act2see.storage.run_metadata import flat
from act2see.storage.runs import Run

_INITIAL = Sizes(initial_pixels=160, max_initial=24)
_INSERTED_PIXELS, _LEAST_PIXELS, _FULL_SIZE_LOOKS = 480, 96, 6
"""Up to six inserted frames at 480 pixels; more are scaled down to the same area in all. A fragment stays below about 1 MB. Our choice."""
_VALUE_LETTERS = 200
_COUNTED_TRACES = 2_000
"""A longer run without a summary is not parsed for its outcomes: a notebook's output must not take seconds."""


def trace_html(trace: Trace) -> str:
    """A trace, finished or not, as one HTML element with its pictures as data URLs.

    Its styles apply to itself alone, and several traces can stand in one document. Initial frames are thumbnails; many inserted frames are smaller.
    """
    looks = max(1, len(trace.brought_frames))
    inserted = max(_LEAST_PIXELS, min(_INSERTED_PIXELS, round(_INSERTED_PIXELS * sqrt(_FULL_SIZE_LOOKS / looks))))
    album = Album(Sizes(inserted, _INITIAL.initial_pixels, _INITIAL.max_initial))
    name = hashlib.sha256(f"{trace.id}\0{len(trace.steps)}".encode("utf-8", "surrogatepass")).hexdigest()[:12]
    page = view.page(trace, album, f"act2see-{name}-")
    return template("notebook.html.j2").render(page=page, pictures=album.embedded(), seconds=view.seconds_text)


def run_html(run: Run) -> str:
    """A run as a small HTML table: folder, command, seed, number of traces, outcomes, accuracy with its 95 % interval, and the settings.

    Reads run.json and summary.json, and the traces' text where there is no summary. A file that cannot be read is named in the table.
    """
    rows = [("run", str(run.folder)), ("command", run.command), ("seed", "none" if run.seed is None else str(run.seed))]
    try:
        count = sum(1 for _ in run.places())
        rows.append(("traces", f"{count:,}"))
        summary = run.summary()
        rows += _scored(summary) if isinstance(summary, dict) else _finished(run) if count <= _COUNTED_TRACES else []
    except StoreError as error:
        rows.append(("cannot be read", str(error)))
    settings = [(name, _short(value)) for name, value in flat(run.config).items()]
    return template("run.html.j2").render(rows=rows, settings=settings)


def _scored(summary: Mapping[str, object]) -> list[tuple[str, str]]:
    """What summary.json records; anything that is not as `act2see eval` writes it is left out, because a run may come from elsewhere."""
    rows = []
    if isinstance(benchmark := summary.get("benchmark"), str):
        rows.append(("benchmark", benchmark))
    if isinstance(outcomes := summary.get("outcomes"), dict):
        rows.append(("outcomes", _counts(outcomes)))
    accuracy = _of_all(summary.get("accuracy"))
    if isinstance(accuracy, float | int):
        match _of_all(summary.get("accuracy_95")):
            case [float() | int() as low, float() | int() as high]:
                interval = f"95 %: {low:.1%} to {high:.1%}"
            case _:
                interval = "95 % interval unknown"
        rows.append(("accuracy", f"{accuracy:.1%} ({interval})"))
    return rows


def _finished(run: Run) -> list[tuple[str, str]]:
    """How the traces of a run without a summary ended."""
    damaged: list[str] = []
    ends = Counter[str](trace.finish or "unfinished" for _, trace in run.sketches(damaged))
    return [("ends", _counts(ends))] if ends else []


def _of_all(value: object) -> object:
    return value.get("all") if isinstance(value, dict) else None


def _counts(counts: Mapping[str, object]) -> str:
    return ", ".join(f"{_short(count)} {name}" for name, count in counts.items())


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= _VALUE_LETTERS else text[: _VALUE_LETTERS - 1] + "…"
