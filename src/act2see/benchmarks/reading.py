"""Data sets of others, read without trusting them: every record with its place, every fault as one line, no video outside the folder.

What a benchmark reads lies in a folder that the user downloaded: a file of questions and, beside it, videos. `Findings` collects what is wrong, so
that a check can tell everything at once and an evaluation can refuse with the first.
"""

import csv
import difflib
import importlib
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Protocol

from act2see.core.errors import ConfigError
from act2see.core.interfaces import Benchmark, Sample
from act2see.core.plaintext import is_well_formed
from act2see.storage.codec import shown

_SHOWN_FIELDS = 12
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(slots=True)
class Findings:
    """What reading a data set found. Problems make it unfit, notes do not. The same words about many records are one line with a count."""

    _problems: dict[str, list[str]] = field(default_factory=dict)
    _notes: dict[str, list[str]] = field(default_factory=dict)

    def problem(self, where: str, message: str) -> None:
        """Something is wrong at a place."""
        self._problems.setdefault(message, []).append(where)

    def note(self, where: str, message: str) -> None:
        """Something that a reader may want to know about a place."""
        self._notes.setdefault(message, []).append(where)

    @property
    def problems(self) -> list[str]:
        """One line for each thing that is wrong, with its first place."""
        return [_folded(message, places) for message, places in self._problems.items()]

    @property
    def notes(self) -> list[str]:
        """One line for each thing to know, with its first place."""
        return [_folded(message, places) for message, places in self._notes.items()]


def _folded(message: str, places: Sequence[str]) -> str:
    more = f" (and at {len(places) - 1:,} more places)" if len(places) > 1 else ""
    return f"{places[0]}: {message}{more}"


@dataclass(frozen=True, slots=True)
class Record:
    """One object of a data file. A field that does not hold what it is asked for is a `ConfigError`; `collect` puts the place before it."""

    where: str
    """Such as `bench.json: item 3` or `data.jsonl:12`."""
    number: int
    """From 1, in its file."""
    values: Mapping[str, Any]
    key: str | None = None
    """Its name, where the file is an object of named records."""

    def value(self, *names: str) -> Any:
        """What the first of these fields that is there holds: later names are other versions' spellings."""
        for name in names:
            if name in self.values:
                return self.values[name]
        spelled = {_letters(str(name)): name for name in self.values}
        near = difflib.get_close_matches(_letters(names[0]), spelled, n=1)
        there = ", ".join(map(str, list(self.values)[:_SHOWN_FIELDS])) or "none"
        hint = f"did you mean {spelled[near[0]]!r}? " if near else ""
        raise ConfigError(f"the field {' or '.join(map(repr, names))} is missing; {hint}its fields are {there}")

    def has(self, *names: str) -> bool:
        """Whether one of these fields is there and holds something."""
        return any(self.values.get(name) not in (None, "") for name in names)

    def text(self, *names: str) -> str:
        """A text with something in it, without the space around it."""
        value = self.value(*names)
        if isinstance(value, int) and not isinstance(value, bool):  # an id that one version writes as a number
            value = str(value)
        if not isinstance(value, str) or not value.strip():
            raise ConfigError(f"{names[0]} is {shown(value)} where a text is expected")
        _refuse_malformed(names[0], value)
        return value.strip()

    def texts(self, *names: str, empty: str | None = None) -> tuple[str, ...]:
        """A list of texts, without the space around each. `empty` stands for those with nothing in them; None refuses these."""
        value = self.value(*names)
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise ConfigError(f"{names[0]} is {shown(value)} where a list of texts is expected")
        if empty is None and not all(one.strip() for one in value):
            raise ConfigError(f"{names[0]} holds an empty text: {shown(value)}")
        for one in value:
            _refuse_malformed(names[0], one)
        return tuple(one.strip() or str(empty) for one in value)

    def integer(self, *names: str) -> int:
        """A whole number, also as tables write it: `2`, `2.0`."""
        return as_integer(self.value(*names), names[0])

    def integers(self, *names: str) -> tuple[int, ...]:
        """A list of whole numbers."""
        value = self.value(*names)
        if not isinstance(value, list):
            raise ConfigError(f"{names[0]} is {shown(value)} where a list of whole numbers is expected")
        return tuple(as_integer(one, names[0]) for one in value)


def _refuse_malformed(name: str, text: str) -> None:
    if not is_well_formed(text):
        raise ConfigError(f"{name} is {shown(text)}, which holds half a character (a lone surrogate): write it whole")


def _letters(name: str) -> str:
    """A field's name as other versions may also spell it: `video_id`, `videoID`, `video-id`."""
    return re.sub(r"[\W_]", "", name).casefold()


def as_integer(value: Any, name: str) -> int:
    """A whole number, also as tables write it: `2`, `2.0`. Raises `ConfigError`."""
    text = value.strip() if isinstance(value, str) else value
    if isinstance(text, str) and re.fullmatch(r"-?\d{1,9}(\.0)?", text):
        return int(float(text))
    if isinstance(text, float) and text.is_integer():
        return int(text)
    if not isinstance(text, int) or isinstance(text, bool):
        raise ConfigError(f"{name} is {shown(value)} where a whole number is expected")
    return text


# A data set as a whole


class DataSet(Benchmark, Protocol):
    """A benchmark whose questions are read from a folder, and which can say what is wrong there."""

    def read(self, found: Findings) -> list[Sample]:
        """Every question that can be asked; what keeps others from being asked goes to `found`. Raises `ConfigError` where there are no files."""
        ...


def asked(data: DataSet, count: int | None, *, together: int = 1) -> Iterator[Sample]:
    """All questions of a data set without a fault, or `count` of them spread evenly over it; raises `ConfigError` with the first fault.

    `together` questions in a row belong to one record, and stay together.
    """
    found = Findings()
    samples = data.read(found)
    if problems := found.problems:
        more = f" ({len(problems) - 1} more: act2see benchmarks check {data.name} lists them)" if len(problems) > 1 else ""
        raise ConfigError(f"{problems[0]}{more}")
    if count is None or count >= len(samples):
        yield from samples
        return
    groups = [samples[at : at + together] for at in range(0, len(samples), together)]
    wanted = -(-count // together)
    picked = [one for number in range(wanted) for one in groups[number * len(groups) // wanted]]
    yield from picked[:count]


def find_files(data: Path, patterns: Sequence[str]) -> tuple[Path, list[Path]]:
    """The folder and the files of questions in it, of the first pattern that fits any. `data` may also be such a file itself.

    Raises `ConfigError` where there is none.
    """
    data = Path(os.path.expanduser(data))
    if data.is_file():
        return data.parent, [data]
    if not data.is_dir():
        raise ConfigError(f"no folder {data}: name the one with the downloaded data with --data (act2see benchmarks tells what to download)")
    for pattern in patterns:
        files = sorted(path for path in data.glob(pattern) if path.is_file() and not path.name.startswith("."))
        if files:
            return data, files
    raise ConfigError(f"{data} holds no questions: there is no {' and no '.join(patterns)}; download them (act2see benchmarks tells from where)")


def collect(files: Iterable[Path], parse: Callable[[Record], Iterable[Sample]], found: Findings) -> list[Sample]:
    """The samples that `parse` makes of the files' records. What it refuses with a `ConfigError`, and an id that comes twice, go to `found`."""
    samples: list[Sample] = []
    places: dict[str, str] = {}
    for path in files:
        for record in records(path, found):
            try:
                made = list(parse(record))
            except ConfigError as error:
                found.problem(record.where, str(error))
                continue
            for sample in made:
                if sample.id in places:
                    found.problem(record.where, f"the id {shown(sample.id)} is there already, at {places[sample.id]}")
                    continue
                places[sample.id] = record.where
                if len({choice.casefold() for choice in sample.choices}) < len(sample.choices):
                    found.note(record.where, "two choices say the same: each counts as right where one does")
                samples.append(sample)
    if not samples and not found.problems:
        found.problem(", ".join(path.name for path in files), "there is no question in it")
    return samples


# Files


def records(path: Path, found: Findings) -> Iterator[Record]:
    """The objects in a .json, .jsonl, .csv or .parquet file. A file that cannot be read, or a line of it, goes to `found`."""
    readers = {".json": _from_json, ".jsonl": _from_jsonl, ".csv": _from_csv, ".parquet": _from_parquet}
    if path.suffix.lower() not in readers:
        raise ConfigError(f"cannot read {path.name}: files of questions end in {', '.join(readers)}")
    try:
        yield from readers[path.suffix.lower()](path, found)
    except OSError as error:
        found.problem(path.name, f"cannot be read: {error.strerror or error}")
    except UnicodeDecodeError as error:
        found.problem(path.name, f"is no UTF-8 text: byte {error.start} is {error.object[error.start]:#04x}")


def _text(path: Path, found: Findings) -> str:
    content = path.read_bytes()
    if content.startswith(b"\xef\xbb\xbf"):
        found.note(path.name, "begins with a byte order mark, which is not read")
    return content.decode("utf-8-sig")


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is not allowed")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {shown(twice)} is there twice in one object")
    return made


def _parse(text: str, name: str, line: int | None, found: Findings) -> Any:
    """The value of a JSON text; `...` where there is none, and then `found` has heard why."""
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        at_end = not text[error.pos :].strip() or error.msg.startswith("Unterminated")
        hint = "; the file ends too early: download it again" if at_end and text.strip() else ""
        found.problem(f"{name}:{line or error.lineno}", f"no JSON: {error.msg.removesuffix(' at')} at column {error.colno}{hint}")
    except (ValueError, RecursionError) as error:
        found.problem(name if line is None else f"{name}:{line}", f"no JSON: {error}")
    return ...


def _from_json(path: Path, found: Findings) -> Iterator[Record]:
    content = _parse(_text(path, found), path.name, None, found)
    if content is ...:
        return
    if isinstance(content, dict) and isinstance(content.get("rows"), list):  # a page of rows, as the Hub's viewer gives it
        content = [row.get("row", row) if isinstance(row, dict) else row for row in content["rows"]]
    if isinstance(content, dict) and content and all(isinstance(value, dict) for value in content.values()):
        for number, (key, value) in enumerate(content.items(), start=1):
            yield Record(f"{path.name}: item {number} ({shown(key)})", number, value, key)
        return
    for number, value in enumerate(content if isinstance(content, list) else [content], start=1):
        where = f"{path.name}: item {number}"
        if isinstance(value, dict):
            yield Record(where, number, value)
        else:
            found.problem(where, f"{shown(value)} where an object is expected")


def _from_jsonl(path: Path, found: Findings) -> Iterator[Record]:
    number = 0
    for line, text in enumerate(_text(path, found).split("\n"), start=1):
        if not text.strip():
            continue
        number += 1
        value = _parse(text, path.name, line, found)
        if isinstance(value, dict):
            yield Record(f"{path.name}:{line}", number, value)
        elif value is not ...:
            found.problem(f"{path.name}:{line}", f"{shown(value)} where an object is expected")


def _from_csv(path: Path, found: Findings) -> Iterator[Record]:
    table = csv.DictReader(io.StringIO(_text(path, found), newline=""), strict=True)
    number = 0
    try:
        for row in table:
            number += 1
            where = f"{path.name}:{table.line_num}"
            if None in row or None in row.values():
                count = len(row) - (None in row) - sum(value is None for value in row.values()) + len(row.get(None, ()) or ())
                found.problem(where, f"{count} values where the first line names {len(table.fieldnames or ())}")
                continue
            yield Record(where, number, row)
    except csv.Error as error:
        found.problem(f"{path.name}:{table.line_num + 1}", f"no CSV: {error}")


def _from_parquet(path: Path, found: Findings) -> Iterator[Record]:
    try:
        rows = importlib.import_module("act2see.benchmarks.parquet").rows
    except ModuleNotFoundError as error:
        raise ConfigError(f"{path.name} needs {error.name} to be read: pip install 'act2see[export]'") from error
    try:
        for number, row in enumerate(rows(path), start=1):
            yield Record(f"{path.name}: row {number}", number, row)
    except ConfigError as error:
        found.problem(path.name, str(error))


# Videos


def refuse_outside(name: str, what: str = "the video's name") -> None:
    """Raise `ConfigError` for a name that is no relative path or leads out of its folder: names in a data file are not trusted."""
    windows = PureWindowsPath(name)
    if not name.strip() or _UNPRINTABLE.search(name):
        raise ConfigError(f"{what} is {shown(name)}: a file's name is expected")
    if PurePosixPath(name).is_absolute() or windows.drive or windows.root:
        raise ConfigError(f"{what} is {shown(name)}: only names inside the data's folder are opened")
    if ".." in windows.parts:
        raise ConfigError(f"{what} is {shown(name)}: `..` leads out of the data's folder")


def locate(root: Path, name: str, *, folders: Sequence[str] = ("",), endings: Sequence[str] = ("",)) -> Path:
    """Where a video lies: the first of these folders and endings where there is a file, else the first of them. Never outside `root`, but for links
    that the user has set. Raises `ConfigError` for a name that leads elsewhere.
    """
    refuse_outside(name)
    places = [root / folder / f"{name}{ending}" for folder in folders for ending in endings]
    return next((place for place in places if os.path.isfile(place)), places[0])  # a name that no file can have is none, and no error
