"""Files that can be made again, kept between runs: bounded in size, safe for several processes, and never a reason to fail.

The folder is the user's cache folder, or what the environment's ACT2SEE_CACHE names. Where it cannot be written (a full or read-only disk),
nothing is kept; that is logged once as a warning and is no error. POSIX only: processes exclude each other by `flock`.
"""

import fcntl
import functools
import json
import logging
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

MAX_BYTES = 10 * 2**30
"""The default bound. Our choice: about 900 hours of video at 3 fps and 512 numbers a frame."""

_log = logging.getLogger(__name__)

# A name is a relative path of plain segments: none is empty, begins with a dot or holds anything that a file system might read as more.
_SEGMENT = r"[A-Za-z0-9_][A-Za-z0-9._=+@-]{0,199}"
_NAME = re.compile(rf"{_SEGMENT}(/{_SEGMENT}){{0,3}}")
_MARK = ".act2see-cache"
_LOCKS = ".locks"
_WRITING = ".writing-"
_UNFINISHED = (_WRITING, ".fetching-")  # the second is what `video.remote` writes into
_LABELS, _LABEL_BYTES = "videos", 4096
_DIGEST_LETTERS = 32
_DIGEST = re.compile(rf"(?:packets|frames|parts|lines)/([0-9a-f]{{{_DIGEST_LETTERS}}})")
_STALE_SECONDS = 3600.0
"""A file that was begun so long ago and never finished belongs to a process that was killed."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One kept file. `used_at` is when it was last read or written, in seconds since 1970."""

    name: str
    size_bytes: int
    used_at: float


class Cache:
    """Named files in one folder. The least recently used ones go first when together they are more than `max_bytes`.

    A folder that holds other things is not used: only what act2see made is ever deleted.
    """

    def __init__(self, folder: Path | None = None, max_bytes: int = MAX_BYTES) -> None:
        self.folder = folder or Path(os.path.expanduser(os.environ.get("ACT2SEE_CACHE") or user_cache_path("act2see"))).absolute()
        self.max_bytes = max_bytes
        self._is_off = False
        # Counted from the last look at the whole folder; the first write looks.
        self._unchecked_bytes = max_bytes

    def path(self, name: str) -> Path:
        """Where the entry is or would be. Raises `ValueError` for a name that is no relative path of plain segments, such as `frames/ab12.npz`."""
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot name a cache entry: write up to four segments of letters, digits and ._=+@- with / between them")
        return self.folder / name

    def find(self, name: str) -> Path | None:
        """The path of an entry that is there, which counts as its use; None where there is none. For files that are mapped rather than read."""
        path = self.path(name)
        if not os.path.isfile(path):  # also where a folder may not be read or a name is too long
            return None
        with suppress(OSError):  # a cache that may only be read still serves
            os.utime(path)
        return path

    def read(self, name: str) -> bytes | None:
        """The entry's content; None where there is none that can be read."""
        path = self.find(name)
        try:
            return path.read_bytes() if path else None
        except OSError:
            return None

    def write(self, name: str, data: bytes | bytearray | memoryview) -> bool:
        """Keep an entry, replacing one of that name at once and whole. False, and no error, where it cannot be kept."""
        path = self.path(name)
        if len(data) > self.max_bytes or not self.is_usable():
            return False
        try:
            try:
                _replace(path, data)
            except FileNotFoundError:  # the first entry there, or another process has just removed the last one and the folder with it
                path.parent.mkdir(parents=True, exist_ok=True)
                _replace(path, data)
        except OSError as error:
            self._turn_off(error.strerror or str(error))
            return False
        self._unchecked_bytes += len(data)
        if self._unchecked_bytes > self.max_bytes // 16:
            self.prune(self.max_bytes)
        return True

    def remove(self, name: str) -> bool:
        """Drop an entry. False, and no error, where there is none or it cannot be removed."""
        path = self.path(name)
        try:
            path.unlink()
        except OSError:
            return False
        if path.parent != self.folder:
            with suppress(OSError):  # not empty
                path.parent.rmdir()
        return True

    def label(self, digest: str, video: str) -> None:
        """Keep a video's name beside what is kept of it: entries are named by its digest, which tells a reader nothing."""
        name = _label(digest)
        if not os.path.isfile(self.path(name)):  # also where a folder may not be read or a name is too long
            self.write(name, json.dumps(video).encode())

    def labels(self) -> dict[str, str]:
        """The names of the videos of which something is kept, by the beginnings of their digests that entries' names hold."""
        found = {}
        for path in self._files():
            if path.parent.name == _LABELS:
                with suppress(OSError, ValueError, RecursionError):  # a damaged one names nothing
                    told = json.loads(path.read_bytes()[:_LABEL_BYTES])
                    if isinstance(told, str):
                        found[path.name] = told
        return found

    def is_usable(self) -> bool:
        """Whether anything can be kept; the folder is made where it can be."""
        if self._is_off:
            return False
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            present = os.listdir(self.folder)
            if not present:
                (self.folder / _MARK).write_text("act2see keeps here what it can make again; `act2see cache clear` empties it.\n", encoding="utf-8")
            elif _MARK not in present:
                self._turn_off("the folder holds other things; name a new or empty one with ACT2SEE_CACHE")
        except OSError as error:
            self._turn_off(error.strerror or str(error))
        return not self._is_off

    @contextmanager
    def lock(self, name: str, waiting: Callable[[], None] | None = None) -> Iterator[None]:
        """Keep other processes and threads that lock the same name out; `waiting` is called when another holds it, before waiting for it.

        The lock of a process that is killed is free at once. Nobody is kept out where the folder cannot be written: nothing is kept there either.
        Not to be taken twice by the same thread.
        """
        path = self.folder / _LOCKS / self.path(name).relative_to(self.folder).as_posix().replace("/", "~")
        held = self._locked(path, waiting) if self.is_usable() else None
        try:
            yield
        finally:
            if held is not None:
                with suppress(OSError):  # unlinked while it is held: whoever waits for it sees that, and makes a new one
                    path.unlink()
                os.close(held)

    def entries(self) -> list[Entry]:
        """Everything that is kept, the least recently used first."""
        found = []
        for path in self._files():
            name = path.relative_to(self.folder).as_posix()
            if _NAME.fullmatch(name) and not name.startswith(f"{_LABELS}/"):
                with suppress(OSError):  # another process has just removed it
                    stat = path.stat()
                    found.append(Entry(name, stat.st_size, stat.st_mtime))
        return sorted(found, key=lambda entry: (entry.used_at, entry.name))

    def prune(self, max_bytes: int) -> list[Entry]:
        """Remove the least recently used entries until the rest is at most `max_bytes`, and what killed processes left. Returns what was removed."""
        self._unchecked_bytes = 0
        self._remove_unfinished()
        entries = self.entries()
        total = sum(entry.size_bytes for entry in entries)
        removed = []
        for entry in entries:
            if total <= max_bytes:
                break
            if self.remove(entry.name):
                total -= entry.size_bytes
                removed.append(entry)
        if removed:
            self._remove_labels()
        return removed

    def clear(self) -> list[Entry]:
        """Remove all entries. Returns what was removed."""
        return self.prune(-1)

    def _turn_off(self, reason: str) -> None:
        self._is_off = True
        _warn_once(f"nothing is kept in the cache {self.folder}: {reason}")

    def _locked(self, path: Path, waiting: Callable[[], None] | None) -> int | None:
        """A descriptor that holds the lock; None where there can be no lock."""
        try:
            path.parent.mkdir(exist_ok=True)
            while True:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
                try:
                    _flock(descriptor, waiting)
                    if _is_same_file(descriptor, path):
                        return descriptor
                except BaseException:  # Ctrl-C while waiting, too
                    os.close(descriptor)
                    raise
                os.close(descriptor)  # the one who held it has unlinked it: what we locked is no longer what others lock
                waiting = None
        except OSError as error:
            self._turn_off(error.strerror or str(error))
            return None

    def _files(self) -> Iterator[Path]:
        if os.path.isfile(self.folder / _MARK):
            for parent, _, names in os.walk(self.folder):
                yield from (Path(parent) / name for name in names)

    def _remove_labels(self) -> None:
        """Those of videos of which nothing is kept any more."""
        kept = {digest_in(entry.name) for entry in self.entries()}
        for digest in self.labels().keys() - kept:
            self.remove(f"{_LABELS}/{digest}")

    def _remove_unfinished(self) -> None:
        for path in self._files():
            if path.name.startswith(_UNFINISHED):
                with suppress(OSError):
                    if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                        path.unlink()


def digest_in(name: str) -> str | None:
    """The beginning of a video's digest in an entry's name; None where there is none."""
    found = _DIGEST.match(name)
    return found[1] if found else None


def _label(digest: str) -> str:
    return f"{_LABELS}/{digest[:_DIGEST_LETTERS]}"


def _replace(path: Path, data: bytes | bytearray | memoryview) -> None:
    """Write beside and rename: a reader sees the old content or the new, never a part, and so does whoever comes after a kill."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=_WRITING, delete=False) as file:
        try:
            file.write(data)
            file.flush()
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def _flock(descriptor: int, waiting: Callable[[], None] | None) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if waiting is not None:
            waiting()
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


@functools.cache
def _warn_once(message: str) -> None:
    _log.warning("%s", message)
