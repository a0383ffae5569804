"""A run as a static site: a gallery that filters and searches, and every trace as the report shows it.

The folder works from the file system and from any static host. A page that was opened as a file may not fetch other files, so the data are scripts,
read when they are needed:

    index.html, style.css, act2see-view.js
    data/about.js         the run's settings, and what can be filtered and sorted by
    data/rows-N.js        the list, 2,000 lines a file
    data/traces-R-N.js    run R's traces as HTML by the report's own template, 20 a file
    frames/               the frames shown, under their names in the run

Every text from a run is escaped by the template or set as text by the script, and the page's policy allows neither inline scripts nor other hosts.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import islice
from pathlib import Path

from PIL import Image

from act2see.core.errors import ConfigError, StoreError
from act2see.evaluation.compare import Comparison, PairedRates, compare
from act2see.execution.progress import ProgressCallback
from act2see.report import view
from act2see.report.gallery import FACETS, SORTS, Judgements, Row, check_pair, judgements, paired, row_like, row_of, row_without_trace
from act2see.report.page import template
from act2see.report.pictures import Album, Embedded, Picture, Sizes, clean
from act2see.storage.folders import whole_folder
from act2see.storage.run_metadata import flat
from act2see.storage.runs import JSON, Run

VIEW, PAIR_VIEW = "view", "view-compared"
"""Default folders in a run: of its own site, and of its comparison with another one."""
PAGE, SCRIPT = "index.html", "act2see-view.js"
_ENTRIES = frozenset({PAGE, SCRIPT, "style.css", "data", "frames"})
_TRACES_A_FILE, _ROWS_A_FILE = 20, 2_000
_MOST_VALUES = 200
"""Choices that a menu offers: the most frequent. Our choice: kinds are a stranger's words, and a menu of thousands is none."""
_MOST_INITIAL = 24
"""Initial frames shown of a trace, evenly chosen. Our choice: a trace then takes about 10 kB."""


@dataclass(frozen=True, slots=True)
class ViewResult:
    """A written site. `left_out` says of each trace that cannot be read why."""

    page: Path
    traces: int
    left_out: tuple[str, ...]


def write_view(run: Run, other: Run | None = None, out: Path | None = None, *, progress: ProgressCallback | None = None) -> ViewResult:
    """Write the site of one run, or of two: two evaluations compared, or a construction and what `act2see filter` kept of it.

    `out` is by default the folder `view` in the run, or `view-compared` in the second one. An earlier site there is replaced; any other folder that
    is not empty is refused. Raises `ConfigError` and `StoreError`.
    """
    is_filtering = other is not None and run.command == "construct" and other.command == "filter"
    comparison = None
    if other is not None and is_filtering:
        check_pair(run, other)
    elif other is not None:
        comparison = compare(run, other)
    out = out or (run.folder / VIEW if other is None else other.folder / PAIR_VIEW)
    _check_nothing_else(out)
    with whole_folder(out, replaces=SCRIPT) as folder:
        for name in ("data", "frames"):
            (folder / name).mkdir()
        parts = [_Part(run, judgements(run, other if is_filtering else None), folder, 0)]
        if other is not None and not is_filtering:
            parts.append(_Part(other, judgements(other), folder, 1))
        listed = [part.write(progress) for part in parts]
        if comparison is None:
            rows = list(listed[0].values())
        else:
            rows = list(paired(listed[0], listed[1], comparison.scores.gained_ids, comparison.scores.lost_ids))
        left_out = tuple(reason for part in parts for reason in part.damaged)
        _write_page(folder, [part.run for part in parts], rows, comparison, left_out)
    return ViewResult(out / PAGE, sum(part.count for part in parts), left_out)


def _check_nothing_else(out: Path) -> None:
    """Refuse an earlier site in which somebody keeps files of their own, which would go with it. Raises `ConfigError`."""
    others = sorted({path.name for path in out.iterdir()} - _ENTRIES) if (out / SCRIPT).is_file() else []
    if others:
        raise ConfigError(f"{out} holds {others[0]}, which is no part of a site and would be deleted: move it, or give a new folder")


class _LinkedFrames(Album):
    """Shows sketched frames by their files in the site. Each file's size is read once."""

    def __init__(self, run: Run) -> None:
        super().__init__(Sizes(max_initial=_MOST_INITIAL))
        self._run = run
        self._known: dict[str, Picture] = {}
        self.shown: dict[str, Picture] = {}
        """The pictures of the trace at hand, by their files."""

    def add(self, image: Image.Image, longest_side: int, *, imagined: bool = False) -> Picture:
        """Show the file that a sketch stands for. Raises `StoreError` where it is no picture."""
        name: str = image.info["file"]
        if name not in self.shown:
            if name not in self._known:
                self._known[name] = Picture(f"f-{name[:20]}", *self._run.frames.size(name))
            self.shown[name] = self._known[name]
        return self.shown[name]

    def embedded(self) -> tuple[Embedded, ...]:
        """The pictures of the trace at hand, by their addresses in the site."""
        return tuple(Embedded(one.name, one.width, one.height, f"frames/{name}") for name, one in self.shown.items())


@dataclass(slots=True)
class _Part:
    """One run while it is written. `place` is its number on the page, from 0."""

    run: Run
    known: Judgements
    folder: Path
    place: int
    damaged: list[str] = field(default_factory=list)
    count: int = 0

    def write(self, progress: ProgressCallback | None) -> dict[str, Row]:
        """Write its traces and their frames; give the rows by the traces' ids. Of two traces with one id the later counts, as everywhere."""
        rows: dict[str, Row] = {}
        articles = self._articles(rows, progress)
        number = 0
        while batch := list(islice(articles, _TRACES_A_FILE)):
            _write_script(self.folder / f"data/traces-{self.place}-{number}.js", "traces", self.place, number, batch)
            number += 1
        for name, known, question in self.known.without(dict(rows)):
            original = rows.get(known.same_as or "")
            rows[name] = row_without_trace(name, known, question) if original is None else row_like(original, name, known)
        return rows

    def _articles(self, rows: dict[str, Row], progress: ProgressCallback | None) -> Iterator[str]:
        """Each trace as HTML; its row is then in `rows`, and its frames are in the site."""
        total = sum(1 for _ in self.run.places())
        album, copied = _LinkedFrames(self.run), set[str]()
        layout = template("site_trace.html.j2")
        for place, trace in self.run.sketches(self.damaged, with_files=True):
            known = self.known.of(trace)
            album.shown = {}
            try:
                page = view.page(trace, album, f"t{self.place}-{self.count}-", known.right_choice(trace))
                row = row_of(trace, known, self.count)
                new = {*album.shown, *filter(None, [row["thumb"]])} - copied
                self.run.frames.give(new, self.folder / "frames")
            except StoreError as error:
                self.damaged.append(f"{self.run.folder}, trace {place.line}: {error}")
                continue
            copied |= new
            rows.pop(trace.id, None)  # a later one takes its own place in the order
            rows[trace.id] = row
            self.count += 1
            if progress is not None:
                progress(self.count, total, "traces")
            yield layout.render(page=page, pictures=album.embedded(), seconds=view.seconds_text)


# The page and its data


def _write_page(folder: Path, runs: Sequence[Run], rows: Sequence[Row], comparison: Comparison | None, left_out: Sequence[str]) -> None:
    chunks = [rows[start : start + _ROWS_A_FILE] for start in range(0, len(rows), _ROWS_A_FILE)]
    for number, chunk in enumerate(chunks):
        _write_script(folder / f"data/rows-{number}.js", "rows", chunk)
    counts = {name: Counter(value for row in rows for value in row["facets"].get(name, ())) for name in FACETS}
    title = " and ".join(clean(run.folder.absolute().name) or str(run.folder) for run in runs)
    about = {
        "title": title,
        "runs": [_about_run(run) for run in runs],
        "facets": [{"name": name, "label": label, "values": _offered(counts[name])} for name, label in FACETS.items() if counts[name]],
        "sorts": [[name, label] for name, label in SORTS.items() if any(name in row["sorts"] for row in rows)],
        "tracesAFile": _TRACES_A_FILE,
        "comparison": None if comparison is None else _about_comparison(comparison),
        "leftOut": [clean(reason) for reason in left_out],
    }
    _write_script(folder / "data/about.js", "about", about)
    scripts = [SCRIPT, "data/about.js", *(f"data/rows-{number}.js" for number in range(len(chunks)))]
    (folder / "style.css").write_text(template("site.css.j2").render(), encoding="utf-8")
    (folder / SCRIPT).write_text(files("act2see.report").joinpath("site.js").read_text(encoding="utf-8"), encoding="utf-8")
    (folder / PAGE).write_text(template("site.html.j2").render(title=title, subtitle=_subtitle(runs[0]), scripts=scripts), encoding="utf-8")


def _offered(counts: Counter[str]) -> list[str]:
    """The values of a menu, in the order in which they appear."""
    most = {value for value, _ in counts.most_common(_MOST_VALUES)}
    return [value for value in counts if value in most]


def _subtitle(run: Run) -> str:
    """What the run is of: its command, and the benchmark or source where it names one."""
    named = next((value for name in ("benchmark", "source") if isinstance(value := run.config.get(name), str)), None)
    return run.command if named is None else f"{run.command} · {named}"


def _write_script(path: Path, kind: str, *values: object) -> None:
    """Write data as a call of the page's script. JSON in ASCII, without a tag's first character, is the same in JavaScript."""
    told = ",".join(json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c") for value in values)
    path.write_text(f"act2see.{kind}({told});\n", encoding="ascii")


def _about_run(run: Run) -> dict[str, JSON]:
    settings: dict[str, JSON] = {"command": run.command, "seed": run.seed, **flat(run.config), **flat({"versions": dict(run.versions)})}
    told: list[JSON] = [[clean(name), clean(str(value))] for name, value in settings.items() if value is not None]
    return {"name": clean(run.folder.absolute().name), "command": clean(run.command), "settings": told}


def _about_comparison(found: Comparison) -> dict[str, JSON]:
    rows: list[JSON] = [[clean(name), *_columns(rates)] for name, rates in {"all": found.scores.overall, **found.scores.by_kind}.items()]
    differing: list[JSON] = [[clean(name), clean(before), clean(after)] for name, (before, after) in found.made_differently.items()]
    return {"rows": rows, "differing": differing}


def _columns(rates: PairedRates) -> Iterable[JSON]:
    """The columns of `act2see compare`."""
    between = rates.difference_95
    interval = "unknown" if between is None else f"{100 * between[0]:+.1f}, {100 * between[1]:+.1f}"
    yield rates.n
    for share in (rates.first, rates.second):
        yield "–" if share is None else f"{share:.1%}"
    yield "–" if rates.difference is None else f"{100 * rates.difference:+.1f} [{interval}]"
    yield rates.gained
    yield rates.lost
    yield f"{rates.mcnemar_p:.3g}"
