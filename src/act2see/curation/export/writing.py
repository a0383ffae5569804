"""Writes an export: rows, pictures, and export.json, which records the source run and the skipped traces."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path

from act2see._version import __version__
from act2see.config import ExportConfig
from act2see.core import chat
from act2see.core.errors import ConfigError, InternalError, StoreError
from act2see.core.trace import Frame, Trace
from act2see.curation.export.formats import LLAMAFACTORY_INFO, Format, UnfitError, rendering_of, row
from act2see.execution.faults import unexpected
from act2see.execution.progress import ProgressCallback, counted
from act2see.storage.folders import whole_folder
from act2see.storage.runs import JSON, Run

MANIFEST = "export.json"
"""Marks a folder as an export, so that only an export is ever replaced."""
ROWS: dict[Format, str] = {"trl": "metadata.jsonl", "llamafactory": "train.jsonl", "swift": "train.jsonl", "parquet": "traces.parquet"}
"""The file of rows. TRL's has the name that `datasets` expects, which then finds the pictures by paths relative to it."""
TEMPLATE = "chat_template.jinja"


@dataclass(frozen=True, slots=True)
class Stored:
    """A trace of a run with its record and its frames' files (by the identity of their images)."""

    id: str
    trace: Trace
    record: Mapping[str, JSON]
    files: dict[int, Path]


@dataclass(frozen=True, slots=True)
class Skipped:
    """A skipped trace and the reason."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class ExportResult:
    """The result of an export."""

    folder: Path
    traces: int
    images: int
    """Picture files beside the rows; 0 for parquet, which holds them."""
    rendering: chat.Rendering | None
    """None for parquet, which keeps the steps."""
    skipped: tuple[Skipped, ...]


def stored(run: Run) -> "Iterator[Stored | Skipped]":
    """A run's answered traces in their order, each question once: the last of several traces about one question, as everywhere.

    The others come as `Skipped`, and so does each line that is not a trace, and each trace with a frame that cannot be read.
    """
    names, left_out = _left_out(run)
    for place in run.places():
        if place.line in left_out:
            yield left_out[place.line]
            continue
        try:
            trace, record, files = run.stored_at(place)
        except StoreError as error:
            yield Skipped(names[place.line], _without_folder(str(error), run))
        else:
            yield Stored(trace.id, trace, record, files)


def _left_out(run: Run) -> tuple[dict[int, str], dict[int, Skipped]]:
    """The traces' ids by line, and the traces left out before any picture is read.

    Two traces are about the same question if they share its id, or its words, choices and video.
    """
    lines = [place.line for place in run.places()]
    found: dict[int, Skipped] = {}
    damaged: list[str] = []
    names: dict[int, str] = {}
    last: dict[object, tuple[int, str]] = {}
    for place, trace in run.sketches(damaged):
        names[place.line] = trace.id
        if trace.answer is None:
            found[place.line] = Skipped(trace.id, f"it has no answer (its end: {trace.finish or 'none'})")
            continue
        for key in (trace.id, (trace.video, trace.question, tuple(sorted(trace.choices)))):
            line, name = last.get(key, (0, ""))
            if line and line != place.line:
                found[line] = Skipped(name, f"line {place.line} answers the same question again ({trace.id}), and a question is written once")
            last[key] = place.line, trace.id
    broken = [line for line in lines if line not in names]
    found |= {line: Skipped(f"of line {line}", _without_folder(said, run)) for line, said in zip(broken, damaged, strict=False)}
    return names, found


def _without_folder(said: str, run: Run) -> str:
    """The reason without the run's own path: export.json may be published."""
    return said.replace(f"{run.folder}/", "")


def export_run(run: Run | Path | str, options: ExportConfig, progress: ProgressCallback | None = None) -> ExportResult:
    """Write the answered traces of a run (or its folder) as another trainer's data into `options.out`, atomically. `progress` counts the traces.

    Raises `ConfigError` for invalid options and if nothing is left to export, `StoreError` for an unreadable run.
    """
    run, form, out = Run.of(run), options.format, options.out
    rendering = rendering_of(form, options.rendering)
    style = chat.Style(rendering or "same_turn", opening=options.opening)
    skipped: list[Skipped] = []
    if _inside(out, run.folder):
        raise ConfigError(f"cannot export to {out}: it is inside the run; give another folder")
    traces = counted(stored(run), progress, "traces", sum(1 for _ in run.places()))
    with whole_folder(out, replaces=MANIFEST if options.overwrite else None) as folder:
        if form == "parquet":
            done, images = _write_table(folder / ROWS[form], run, traces, skipped), 0
        else:
            done, images = _write_rows(folder, run, traces, form, style, skipped)
        if not done:
            raise ConfigError(f"{run.folder} has no trace to export: {_reasons(skipped)}")
        if form == "trl":
            content = files("act2see.core").joinpath("templates", "chat_template_training.jinja").read_text(encoding="utf-8")
            (folder / TEMPLATE).write_text(content, encoding="utf-8")
        if form == "llamafactory":
            (folder / "dataset_info.json").write_text(_pretty(LLAMAFACTORY_INFO), encoding="utf-8")
        about = {"act2see": __version__, "format": form, "rendering": rendering, "run": {"command": run.command, "digest": run.digest}}
        (folder / MANIFEST).write_text(
            _pretty({**about, "traces": done, "images": images, "skipped": [asdict(one) for one in skipped]}), encoding="utf-8"
        )
    return ExportResult(out, done, images, rendering, tuple(skipped))


def _inside(out: Path, folder: Path) -> bool:
    return out.resolve() == folder.resolve() or folder.resolve() in out.resolve().parents


def _reasons(skipped: list[Skipped]) -> str:
    return f"all {len(skipped)} were skipped, the first because {skipped[0].reason}" if skipped else "it is empty"


def _usable(traces: "Iterable[Stored | Skipped]", skipped: list[Skipped]) -> Iterator[Stored]:
    for one in traces:
        if isinstance(one, Skipped):
            skipped.append(one)
        else:
            yield one


def _write_rows(
    folder: Path, run: Run, traces: "Iterable[Stored | Skipped]", form: Format, style: chat.Style, skipped: list[Skipped]
) -> tuple[int, int]:
    done = 0
    pictures = folder / "images"
    pictures.mkdir()
    copied: set[str] = set()
    with (folder / ROWS[form]).open("w", encoding="utf-8") as lines:
        for one in _usable(traces, skipped):
            used: dict[str, Path] = {}
            try:
                with unexpected(UnfitError):
                    line = json.dumps(row(one.trace, form, style, partial(_place, one, used)), allow_nan=False)
            except (UnfitError, InternalError) as error:
                skipped.append(Skipped(one.id, str(error)))
                continue
            run.frames.copy(used.keys() - copied, pictures)
            copied |= used.keys()
            lines.write(line + "\n")
            done += 1
    return done, len(copied)


def _place(one: Stored, used: dict[str, Path], frame: Frame) -> str:
    file = one.files[id(frame.image)]
    used[file.name] = file
    return f"images/{file.name}"


def _write_table(path: Path, run: Run, traces: "Iterable[Stored | Skipped]", skipped: list[Skipped]) -> int:
    try:
        from act2see.curation.export.parquet import write
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "pyarrow":
            raise
        raise ConfigError("format 'parquet' needs pyarrow: pip install 'act2see[export]'") from error

    def files_of(one: Stored) -> dict[str, bytes]:
        return {name: run.frames.content(name) for name in dict.fromkeys(file.name for file in one.files.values())}

    return write(path, ((one.trace, one.record, files_of(one)) for one in _usable(traces, skipped)))


def _pretty(value: Mapping[str, JSON]) -> str:
    return json.dumps(value, indent=2) + "\n"
