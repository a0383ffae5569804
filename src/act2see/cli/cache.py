"""`act2see cache`: list, prune or clear the cache."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated

from cyclopts import App, Parameter, Token

from act2see.cli.exits import ANSWERED
from act2see.cli.output import say, say_json
from act2see.storage.cache import Cache, Entry, digest_in

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}

cache = App(name="cache", help="List or remove cached video data. All of it can be recomputed.")


def _bytes(_kind: type, tokens: Sequence[Token]) -> int:
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,15})?)\s*([A-Za-z]*)", tokens[0].value.strip())
    unit = found.group(2).upper() if found else "?"
    unit = unit if unit in _UNITS or unit == "B" else unit + "B"
    if not found or (unit != "B" and unit not in _UNITS):
        raise ValueError("give a size such as 5GB, 500MB or 1.5GiB")
    return int(float(found.group(1)) * _UNITS.get(unit, 1))


Size = Annotated[int, Parameter(converter=_bytes)]
Json = Annotated[bool, Parameter(help="Print one line of JSON.")]


@cache.command(name="ls")
def list_entries(*, json: Json = False) -> int:
    """List the cached videos, least recently used first, with size and time of last use."""
    kept = Cache()
    entries = kept.entries()
    total = sum(entry.size_bytes for entry in entries)
    if json:
        say_json({"folder": str(kept.folder), "max_bytes": kept.max_bytes, "total_bytes": total, "entries": _records(entries, kept.labels())})
        return ANSWERED
    for video, parts in _by_video(entries, kept.labels()):
        size, used_at = sum(entry.size_bytes for entry in parts), max(entry.used_at for entry in parts)
        say(f"{_size(size):>9}  {_date(used_at)}  {video}")
    say(f"{_entries(len(entries))}, {_size(total)} of at most {_size(kept.max_bytes)}, in {kept.folder}")
    return ANSWERED


@cache.command
def prune(*, max_size: Annotated[Size, Parameter(help="Size to keep, such as 5GB or 500MB.")], json: Json = False) -> int:
    """Remove the least recently used entries until the cache is no larger than --max-size."""
    return _say_removed(Cache(), max_size, as_json=json)


@cache.command
def clear(*, json: Json = False) -> int:
    """Remove everything in the cache."""
    return _say_removed(Cache(), -1, as_json=json)


def _say_removed(kept: Cache, max_bytes: int, *, as_json: bool) -> int:
    labels = kept.labels()
    removed = kept.prune(max_bytes)
    freed = sum(entry.size_bytes for entry in removed)
    left = sum(entry.size_bytes for entry in kept.entries())
    if as_json:
        say_json({"folder": str(kept.folder), "removed_bytes": freed, "total_bytes": left, "removed": _records(removed, labels)})
    else:
        say(f"removed {_entries(len(removed))}, {_size(freed)}; {_size(left)} left in {kept.folder}")
    return ANSWERED


def _records(entries: Sequence[Entry], labels: Mapping[str, str]) -> list[dict[str, object]]:
    named = ((entry, labels.get(digest_in(entry.name) or "")) for entry in entries)
    return [{"name": entry.name, "video": video, "size_bytes": entry.size_bytes, "used_at": entry.used_at} for entry, video in named]


def _by_video(entries: Sequence[Entry], labels: Mapping[str, str]) -> list[tuple[str, list[Entry]]]:
    """Entries grouped by video, under the video's file name; videos with equal names stay apart. Other entries keep their own name."""
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        found.setdefault(digest_in(entry.name) or entry.name, []).append(entry)
    return [(labels.get(key) or parts[0].name, parts) for key, parts in sorted(found.items(), key=lambda one: max(part.used_at for part in one[1]))]


def _date(seconds: float) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M}"
    except (OverflowError, ValueError, OSError):  # a modification time may be any number
        return "time unknown"


def _entries(count: int) -> str:
    return "1 entry" if count == 1 else f"{count} entries"


def _size(count: int) -> str:
    for unit in ("GB", "MB", "kB"):
        if count >= _UNITS[unit.upper()]:
            return f"{count / _UNITS[unit.upper()]:.1f} {unit}"
    return f"{count} B"
