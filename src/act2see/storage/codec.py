"""JSON that nobody vouches for: parsed strictly, and quoted in errors; and values in their one spelling."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import TypeAlias, TypeVar, overload

from act2see.core.errors import StoreError
from act2see.core.trace import Provenance

FORMAT_VERSION = 1
"""Stands in every record; another version is refused."""

MAX_CHOICES = 26
"""Each choice has a letter."""

LARGEST_WHOLE = 2**64
"""Seeds are the largest whole numbers that are kept."""

_SHOWN_CHARACTERS = 80
TOO_LARGE = 1e300
"""Keeps out 1e999, which is infinite, and integers beyond a float."""
_DEEPEST = 64
"""So many lists and objects may stand inside each other; a trace needs nine."""

_T = TypeVar("_T")
JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"
Reader = Callable[[object, str], _T]
"""Takes a JSON value and its place in the record, and gives what it stands for or raises `StoreError`."""


# JSON that is not trusted


def parse_json(content: bytes) -> JSON:
    """The value of a JSON text. Raises `StoreError` for everything else: NaN and Infinity, numbers that no float holds, whole ones beyond 64 bits, a
    key that an object has twice, and what is nested deeper than anything that is written here.
    """

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is not allowed")

    try:
        value: JSON = json.loads(content, parse_constant=refuse, object_pairs_hook=_each_key_once)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"no JSON: {error}") from error
    _check_bounds(value)
    return value


def _each_key_once(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    found = dict(pairs)
    if len(found) < len(pairs):
        ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise StoreError(f"the key {shown(twice)} is there twice in one object")
    return found


def _check_bounds(value: JSON) -> None:
    """Level by level rather than by recursion: whoever reads the value afterwards may recurse into it."""
    level, depth = [value], 0
    while level:
        depth += 1
        deeper: list[JSON] = []
        for one in level:
            if isinstance(one, dict):
                deeper += one.values()
            elif isinstance(one, list):
                deeper += one
            elif isinstance(one, float) and not abs(one) < TOO_LARGE:
                raise StoreError(f"the number {one!r} is out of range")
            elif isinstance(one, int) and abs(one) > LARGEST_WHOLE:
                raise StoreError(f"the whole number {shown(one)} is out of range")
        if depth > _DEEPEST and deeper:
            raise StoreError(f"no JSON of ours: more than {_DEEPEST} lists and objects stand inside each other")
        level = deeper


def without_version(record: JSON) -> dict[str, JSON]:
    """The record without its version, which must be ours."""
    if not isinstance(record, dict):
        raise StoreError(f"{shown(record)} where an object is expected")
    version = record.get("version")
    if isinstance(version, bool) or not isinstance(version, int) or version != FORMAT_VERSION:
        raise StoreError(f"format version {shown(version)}; this act2see reads version {FORMAT_VERSION}: use the one that wrote it")
    return {name: value for name, value in record.items() if name != "version"}


def read_object(make: Callable[..., _T], /, **readers: Reader[object]) -> Reader[_T]:
    """A reader of objects with exactly these fields; `make` builds the value of them and may refuse with a `ValueError`."""

    def read(value: object, where: str) -> _T:
        place = f"{where}: " if where else ""
        if not isinstance(value, dict):
            raise StoreError(f"{place}{shown(value)} where an object is expected")
        for unknown in sorted(value.keys() - readers.keys()):
            raise StoreError(f"{place}unknown field {shown(unknown)}; known are {', '.join(readers)}")
        for missing in sorted(readers.keys() - value.keys()):
            raise StoreError(f"{place}the field {shown(missing)} is missing")
        read_fields = {name: reader(value[name], f"{where}.{name}" if where else name) for name, reader in readers.items()}
        try:
            return make(**read_fields)
        except ValueError as error:
            raise StoreError(f"{place}{error}") from error

    return read


def read_text(value: object, where: str) -> str:
    """A text."""
    if not isinstance(value, str):
        raise StoreError(f"{where} is {shown(value)} where a text is expected")
    return value


def read_integer(value: object, where: str) -> int:
    """A whole number."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise StoreError(f"{where} is {shown(value)} where a whole number is expected")
    return value


def read_count(value: object, where: str) -> int:
    """A whole number of things, from 0 to 2^53."""
    found = read_integer(value, where)
    if not 0 <= found <= 2**53:
        raise StoreError(f"{where} is {shown(value)} where a count is expected, from 0 to 2^53")
    return found


def read_amount(value: object, where: str) -> float:
    """A finite number that is not negative: seconds, dollars."""
    found = read_number(value, where)
    if found < 0:
        raise StoreError(f"{where} is {shown(value)} where a number is expected that is not negative")
    return found


def read_number(value: object, where: str) -> float:
    """A finite number."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < TOO_LARGE:
        raise StoreError(f"{where} is {shown(value)} where a number is expected")
    return float(value)


def read_pair(value: object, where: str) -> tuple[float, float]:
    """Two numbers."""
    numbers = tuple_of(read_number)(value, where)
    if len(numbers) != 2:
        raise StoreError(f"{where} is {shown(value)} where two numbers are expected")
    return numbers[0], numbers[1]


def optional(read: Reader[_T]) -> Reader[_T | None]:
    """A reader that lets null pass as None."""
    return lambda value, where: None if value is None else read(value, where)


def list_of(read: Reader[_T]) -> Reader[list[_T]]:
    """A reader of lists."""

    def read_list(value: object, where: str) -> list[_T]:
        if not isinstance(value, list):
            raise StoreError(f"{where} is {shown(value)} where a list is expected")
        return [read(item, f"{where}[{number}]") for number, item in enumerate(value)]

    return read_list


def tuple_of(read: Reader[_T]) -> Reader[tuple[_T, ...]]:
    """A reader of lists that become tuples."""
    read_list = list_of(read)
    return lambda value, where: tuple(read_list(value, where))


def map_of(read: Reader[_T]) -> Reader[dict[str, _T]]:
    """A reader of objects whose fields have any names and one kind of value."""

    def read_map(value: object, where: str) -> dict[str, _T]:
        if not isinstance(value, dict):
            raise StoreError(f"{where} is {shown(value)} where an object is expected")
        return {name: read(item, f"{where}.{name}") for name, item in value.items()}

    return read_map


def shown(value: object) -> str:
    """A value as an error quotes it: JSON, on one line, cut short."""
    text = json.dumps(value, default=str)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


def encode_provenance(made: Provenance) -> dict[str, JSON]:
    """Where a generated frame came from, as a JSON object."""
    encoded = {field.name: getattr(made, field.name) for field in fields(made)} | {"scores": dict(made.scores)}
    return {name: value for name, value in encoded.items() if name != "unverified" or value is not None}


def canonical_json(value: JSON) -> str:
    """The one spelling of a value, in ASCII: equal values have equal texts."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


@overload
def plain(value: Mapping[str, JSON]) -> dict[str, JSON]: ...


@overload
def plain(value: JSON) -> JSON: ...


def plain(value: JSON) -> JSON:
    """Settings in one spelling: 1 and 1.0, a tuple and a list, are the same."""
    if value is None or isinstance(value, str | int):  # most are; the tests for collections are ten times as slow
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, Sequence) else value
