"""Reads third-party data sets without trusting them: each record with its location, each problem as one line, no video outside the folder.

A data set is a folder that the user downloaded, with a question file and videos. `Findings` collects the problems, so that a check can report all of
them and an evaluation can stop at the first.
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
from typing import Protocol

from act2see.core.errors import ConfigError
from act2see.core.interfaces import Benchmark, Sample
from act2see.core.plaintext import is_well_formed
from act2see.storage.codec import shown

_SHOWN_FIELDS = 12
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(slots=True)
class Findings:
    """Problems and notes about a data set. Problems prevent an evaluation, notes do not. Equal messages are folded into one line with a count."""

    _problems: dict[str, list[str]] = field(default_factory=dict)
    _notes: dict[str, list[str]] = field(default_factory=dict)

    def problem(self, where: str, message: str) -> None:
        """Add a problem at a location."""
        self._problems.setdefault(message, []).append(where)

    def note(self, where: str, message: str) -> None:
        """Add a note about a location."""
        self._notes.setdefault(message, []).append(where)

    @property
    def problems(self) -> list[str]:
        """One line per problem, with its first location."""
        return [_folded(message, places) for message, places in self._problems.items()]

    @property
    def notes(self) -> list[str]:
        """One line per note, with its first location."""
        return [_folded(message, places) for message, places in self._notes.items()]


def _folded(message: str, places: Sequence[str]) -> str:
    more = f" (and at {len(places) - 1:,} more places)" if len(places) > 1 else ""
    return f"{places[0]}: {message}{more}"


@dataclass(frozen=True, slots=True)
class Record:
    """One object of a data file. The accessors raise `ConfigError` for a missing or invalid field; `collect` adds the location."""

    where: str
    """Such as `bench.json: item 3` or `data.jsonl:12`."""
    number: int
    """Position in its file, from 1."""
    values: Mapping[str, object]
    key: str | None = None
    """Its key, if the file is an object of records."""

    def value(self, *names: str) -> object:
        """The value of the first of these fields that exists; later names are the spellings of other versions."""
        for name in names:
            if name in self.values:
                return self.values[name]
        spelled = {_spelling(str(name)): name for name in self.values}
        near = difflib.get_close_matches(_spelling(names[0]), spelled, n=1)
        there = ", ".join(map(str, list(self.values)[:_SHOWN_FIELDS])) or "none"
        hint = f"did you mean {spelled[near[0]]!r}? " if near else ""
        raise ConfigError(f"missing field {' or '.join(map(repr, names))}; {hint}its fields are {there}")

    def has(self, *names: str) -> bool:
        """Whether one of these fields exists and is not empty."""
        return any(self.values.get(name) not in (None, "") for name in names)

    def text(self, *names: str) -> str:
        """A non-empty text, stripped."""
        value = self.value(*names)
        if isinstance(value, int) and not isinstance(value, bool):  # an id that one version writes as a number
            value = str(value)
        if not isinstance(value, str) or not value.strip():
            raise ConfigError(f"{names[0]} is {shown(value)}, expected a text")
        _refuse_malformed(names[0], value)
        return value.strip()

    def texts(self, *names: str, empty: str | None = None) -> tuple[str, ...]:
        """A list of texts, stripped. Empty ones become `empty`; if it is None, they are rejected."""
        value = self.value(*names)
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise ConfigError(f"{names[0]} is {shown(value)}, expected a list of texts")
        if empty is None and not all(one.strip() for one in value):
            raise ConfigError(f"{names[0]} contains an empty text: {shown(value)}")
        for one in value:
            _refuse_malformed(names[0], one)
        return tuple(one.strip() or str(empty) for one in value)

    def integer(self, *names: str) -> int:
        """An integer, also as tables write it: `2`, `2.0`."""
        return as_integer(self.value(*names), names[0])

    def integers(self, *names: str) -> tuple[int, ...]:
        """A list of integers."""
        value = self.value(*names)
        if not isinstance(value, list):
            raise ConfigError(f"{names[0]} is {shown(value)}, expected a list of integers")
        return tuple(as_integer(one, names[0]) for one in value)


def _refuse_malformed(name: str, text: str) -> None:
    if not is_well_formed(text):
        raise ConfigError(f"{name} is {shown(text)}, which contains a lone surrogate (half a character): write the whole character")


def _spelling(name: str) -> str:
    """A field name without case and punctuation: `video_id`, `videoID` and `video-id` are equal."""
    return re.sub(r"[\W_]", "", name).casefold()


def as_integer(value: object, name: str) -> int:
    """An integer, also as tables write it: `2`, `2.0`. Raises `ConfigError`."""
    text = value.strip() if isinstance(value, str) else value
    if isinstance(text, str) and re.fullmatch(r"-?\d{1,9}(\.0)?", text):
        return int(float(text))
    if isinstance(text, float) and text.is_integer():
        return int(text)
    if not isinstance(text, int) or isinstance(text, bool):
        raise ConfigError(f"{name} is {shown(value)}, expected an integer")
    return text


# A data set as a whole


class DataSet(Benchmark, Protocol):
    """A benchmark that reads its questions from a folder and can report problems there."""

    def read(self, found: Findings) -> list[Sample]:
        """All valid questions; problems with other records are added to `found`. Raises `ConfigError` if there are no files."""
        ...


def select(data: DataSet, count: int | None, *, per_record: int = 1) -> Iterator[Sample]:
    """All questions of a data set, or `count` evenly spaced ones. Raises `ConfigError` with the first problem.

    Each record has `per_record` consecutive questions, which are selected together.
    """
    found = Findings()
    samples = data.read(found)
    if problems := found.problems:
        more = f" ({len(problems) - 1} more: act2see benchmarks check {data.name} lists them)" if len(problems) > 1 else ""
        raise ConfigError(f"{problems[0]}{more}")
    if count is None or count >= len(samples):
        yield from samples
        return
    groups = [samples[at : at + per_record] for at in range(0, len(samples), per_record)]
    wanted = -(-count // per_record)
    picked = [one for number in range(wanted) for one in groups[number * len(groups) // wanted]]
    yield from picked[:count]


def find_files(data: Path, patterns: Sequence[str]) -> tuple[Path, list[Path]]:
    """The folder and its question files, which match the first pattern that matches any. `data` may also be such a file.

    Raises `ConfigError` if there is none.
    """
    data = Path(os.path.expanduser(data))
    if data.is_file():
        return data.parent, [data]
    if not data.is_dir():
        raise ConfigError(f"no folder {data}: pass the folder of the downloaded data with --data (act2see benchmarks lists the downloads)")
    for pattern in patterns:
        files = sorted(path for path in data.glob(pattern) if path.is_file() and not path.name.startswith("."))
        if files:
            return data, files
    raise ConfigError(f"{data} has no question file (expected {' or '.join(patterns)}): download it (act2see benchmarks lists the sources)")


def collect(files: Iterable[Path], parse: Callable[[Record], Iterable[Sample]], found: Findings) -> list[Sample]:
    """The samples that `parse` returns for the files' records. A `ConfigError` that it raises and a duplicate id are added to `found`."""
    samples: list[Sample] = []
    places: dict[str, str] = {}
    for path in files:
        for record in records(path, found):
            try:
                parsed = list(parse(record))
            except ConfigError as error:
                found.problem(record.where, str(error))
                continue
            for sample in parsed:
                if sample.id in places:
                    found.problem(record.where, f"duplicate id {shown(sample.id)}, first used at {places[sample.id]}")
                    continue
                places[sample.id] = record.where
                if len({choice.casefold() for choice in sample.choices}) < len(sample.choices):
                    found.note(record.where, "two choices are identical: both count as right if one is")
                samples.append(sample)
    if not samples and not found.problems:
        found.problem(", ".join(path.name for path in files), "no questions")
    return samples


# Files


def records(path: Path, found: Findings) -> Iterator[Record]:
    """The objects in a .json, .jsonl, .csv or .parquet file. An unreadable file or line is added to `found` as a problem."""
    readers = {".json": _from_json, ".jsonl": _from_jsonl, ".csv": _from_csv, ".parquet": _from_parquet}
    if path.suffix.lower() not in readers:
        raise ConfigError(f"cannot read {path.name}: question files end in {', '.join(readers)}")
    try:
        yield from readers[path.suffix.lower()](path, found)
    except OSError as error:
        found.problem(path.name, f"unreadable: {error.strerror or error}")
    except UnicodeDecodeError as error:
        found.problem(path.name, f"not UTF-8: byte {error.start} is {error.object[error.start]:#04x}")


def _text(path: Path, found: Findings) -> str:
    content = path.read_bytes()
    if content.startswith(b"\xef\xbb\xbf"):
        found.note(path.name, "starts with a byte order mark, which is ignored")
    return content.decode("utf-8-sig")


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is not allowed")


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"duplicate key {shown(twice)} in one object")
    return content


def _parse(text: str, name: str, line: int | None, found: Findings) -> object:
    """The value of a JSON text; `...` if it is invalid, with a problem added to `found`."""
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_without_duplicates)
    except json.JSONDecodeError as error:
        at_end = not text[error.pos :].strip() or error.msg.startswith("Unterminated")
        hint = "; the file is truncated: download it again" if at_end and text.strip() else ""
        found.problem(f"{name}:{line or error.lineno}", f"invalid JSON: {error.msg.removesuffix(' at')} at column {error.colno}{hint}")
    except (ValueError, RecursionError) as error:
        found.problem(name if line is None else f"{name}:{line}", f"invalid JSON: {error}")
    return ...


def _from_json(path: Path, found: Findings) -> Iterator[Record]:
    content = _parse(_text(path, found), path.name, None, found)
    if content is ...:
        return
    if isinstance(content, dict) and isinstance(content.get("rows"), list):  # a page of rows from the Hub's data set viewer
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
            found.problem(where, f"got {shown(value)}, expected an object")


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
            found.problem(f"{path.name}:{line}", f"got {shown(value)}, expected an object")


def _from_csv(path: Path, found: Findings) -> Iterator[Record]:
    table = csv.DictReader(io.StringIO(_text(path, found), newline=""), strict=True)
    number = 0
    try:
        for row in table:
            number += 1
            where = f"{path.name}:{table.line_num}"
            if None in row or None in row.values():
                count = len(row) - (None in row) - sum(value is None for value in row.values()) + len(row.get(None, ()) or ())
                found.problem(where, f"got {count} values, expected {len(table.fieldnames or ())} as in the header")
                continue
            yield Record(where, number, row)
    except csv.Error as error:
        found.problem(f"{path.name}:{table.line_num + 1}", f"invalid CSV: {error}")


def _from_parquet(path: Path, found: Findings) -> Iterator[Record]:
    try:
        rows = importlib.import_module("act2see.benchmarks.parquet").rows
    except ModuleNotFoundError as error:
        raise ConfigError(f"reading {path.name} needs {error.name}: pip install 'act2see[export]'") from error
    try:
        for number, row in enumerate(rows(path), start=1):
            yield Record(f"{path.name}: row {number}", number, row)
    except ConfigError as error:
        found.problem(path.name, str(error))


# Videos


def check_inside(name: str, what: str = "the video path") -> None:
    """Raise `ConfigError` for a path that is not relative or leaves the data folder: paths in a data file are not trusted."""
    windows = PureWindowsPath(name)
    if not name.strip() or _UNPRINTABLE.search(name):
        raise ConfigError(f"{what} is {shown(name)}, expected a file path")
    if PurePosixPath(name).is_absolute() or windows.drive or windows.root:
        raise ConfigError(f"{what} is {shown(name)}, expected a path relative to the data folder")
    if ".." in windows.parts:
        raise ConfigError(f"{what} is {shown(name)}: `..` leaves the data folder")


def locate(root: Path, name: str, *, folders: Sequence[str] = ("",), endings: Sequence[str] = ("",)) -> Path:
    """The video's path: the first combination of folder and ending where a file exists, else the first one.

    Never outside `root`, except through links that the user created. Raises `ConfigError` for a path that leaves `root`.
    """
    check_inside(name)
    places = [(root / folder if folder else root) / f"{name}{ending}" for folder in folders for ending in endings]
    return next((place for place in places if os.path.isfile(place)), places[0])  # False for an impossible file name
