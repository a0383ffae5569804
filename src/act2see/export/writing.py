"""The folder of an export: rows, pictures beside them, and export.json, which says where they came from and what was left out."""

import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from PIL import Image

import act2see
from act2see import chat
from act2see.errors import ConfigError, InternalError, StoreError
from act2see.export.formats import LLAMAFACTORY_INFO, Format, UnfitError, rendering_of, row
from act2see.faults import unexpected
from act2see.folders import whole_folder
from act2see.records import decode_trace, parse_json, without_version
from act2see.store import Run
from act2see.trace import Frame, Trace

MANIFEST = "export.json"
"""Tells an export from any other folder, so that only an export is ever replaced."""
ROWS: dict[Format, str] = {"trl": "metadata.jsonl", "llamafactory": "train.jsonl", "swift": "train.jsonl", "parquet": "traces.parquet"}
"""The file of rows. TRL's is named as `datasets` wants it, which then finds the pictures by paths relative to it."""
TEMPLATE = "chat_template.jinja"


@dataclass(frozen=True, slots=True)
class Stored:
    """A trace of a run with its record and its frames' files (by the identity of their images), or what is wrong with it."""

    id: str
    trace: Trace
    record: Any
    files: dict[int, Path]
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    """A trace that was left out, and why."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export holds."""

    folder: Path
    traces: int
    images: int
    rendering: chat.Rendering | None
    skipped: tuple[Skipped, ...]


def count(run: Run) -> int:
    """How many traces a run holds, answered or not."""
    return sum(1 for _ in run.places())


def stored(run: Run) -> Iterator[Stored]:
    """A run's traces in their order. A frame that is missing or is no picture is the trace's problem; a broken line is a `StoreError`."""
    path = run.folder / "traces.jsonl"
    for place in run.places():
        try:
            with path.open("rb") as lines:
                lines.seek(place.offset)
                record = parse_json(lines.readline())
            yield _stored(record, run.folder / "frames")
        except OSError as error:
            raise StoreError(f"cannot read {path}: {error.strerror}") from error
        except StoreError as error:
            raise StoreError(f"{path}:{place.line}: {error}") from error


def _stored(record: Any, frames: Path) -> Stored:
    found: dict[int, Path] = {}
    problems: list[str] = []

    def load(name: str) -> Image.Image:
        try:
            with Image.open(frames / name, formats=("PNG", "JPEG")) as opened:
                image = opened.convert("RGB")
        except FileNotFoundError:
            image, problem = Image.new("RGB", (1, 1)), f"its frame {name} is missing"
            problems.append(problem)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            image, problem = Image.new("RGB", (1, 1)), f"its frame {name} is no picture"
            problems.append(problem)
        found[id(image)] = frames / name
        return image

    trace = decode_trace(record, load)
    return Stored(trace.id, trace, without_version(record), found, problems[0] if problems else None)


def export(
    run: Run,
    traces: Iterable[Stored],
    out: Path,
    form: Format,
    *,
    rendering: Literal["auto"] | chat.Rendering = "auto",
    opening: str = "",
    overwrite: bool = False,
) -> Exported:
    """Write the answered ones of `traces` into the folder `out`, which is there whole or not at all.

    `opening` is what the model's chat template puts at the start of its turn (`<think>\\n` for Qwen3-VL-Thinking). `overwrite` lets an earlier export
    be replaced. Raises `ConfigError` for what cannot be written and when nothing is left to export, `StoreError` for a run that cannot be read.
    """
    written = rendering_of(form, rendering)
    style = chat.Style(written or "same_turn", opening=opening)
    skipped: list[Skipped] = []
    if _inside(out, run.folder):
        raise ConfigError(f"cannot export into {out}: it lies in the run itself; give another folder")
    with whole_folder(out, replaces=MANIFEST if overwrite else None) as folder:
        if form == "parquet":
            done, images = _write_table(folder / ROWS[form], traces, skipped), 0
        else:
            done, images = _write_rows(folder, traces, form, style, skipped)
        if not done:
            raise ConfigError(f"{run.folder} holds no trace to export: {_reasons(skipped)}")
        if form == "trl":
            content = files("act2see").joinpath("chat_template_training.jinja").read_text(encoding="utf-8")
            (folder / TEMPLATE).write_text(content, encoding="utf-8")
        if form == "llamafactory":
            (folder / "dataset_info.json").write_text(_pretty(LLAMAFACTORY_INFO), encoding="utf-8")
        about = {"act2see": act2see.__version__, "format": form, "rendering": written, "run": {"command": run.command, "digest": run.digest}}
        (folder / MANIFEST).write_text(
            _pretty({**about, "traces": done, "images": images, "skipped": [asdict(one) for one in skipped]}), encoding="utf-8"
        )
    return Exported(out, done, images, written, tuple(skipped))


def _inside(out: Path, folder: Path) -> bool:
    return out.resolve() == folder.resolve() or folder.resolve() in out.resolve().parents


def _reasons(skipped: list[Skipped]) -> str:
    return f"all {len(skipped)} were skipped, the first because {skipped[0].reason}" if skipped else "it is empty"


def _usable(traces: Iterable[Stored], skipped: list[Skipped]) -> Iterator[Stored]:
    for one in traces:
        if one.trace.answer is None:
            skipped.append(Skipped(one.id, f"it has no answer (its end: {one.trace.finish or 'none'})"))
        elif one.problem is not None:
            skipped.append(Skipped(one.id, one.problem))
        else:
            yield one


def _write_rows(folder: Path, traces: Iterable[Stored], form: Format, style: chat.Style, skipped: list[Skipped]) -> tuple[int, int]:
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
            for name in used.keys() - copied:
                shutil.copyfile(used[name], pictures / name)
                copied.add(name)
            lines.write(line + "\n")
            done += 1
    return done, len(copied)


def _place(one: Stored, used: dict[str, Path], frame: Frame) -> str:
    file = one.files[id(frame.image)]
    used[file.name] = file
    return f"images/{file.name}"


def _write_table(path: Path, traces: Iterable[Stored], skipped: list[Skipped]) -> int:
    try:
        from act2see.export.parquet import write
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "pyarrow":
            raise
        raise ConfigError("format 'parquet' needs pyarrow: pip install 'act2see[export]'") from error
    return write(path, ((one.trace, one.record, list(dict.fromkeys(one.files.values()))) for one in _usable(traces, skipped)))


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2) + "\n"
