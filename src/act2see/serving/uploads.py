"""Uploaded videos: files with ids that nobody can guess, deleted on request, some time after their last use, and with the server.

All that is known of them is in their folder, so that several processes serve the same uploads.
"""

import fcntl
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from act2see.core.errors import StoreError, disk_reason
from act2see.serving.refusals import RefusalError
from act2see.serving.room import Room

_ID = re.compile(r"file-[A-Za-z0-9_-]{32}")
_CHUNK_BYTES = 1 << 20
_LOCK = ".uploads"


@dataclass(frozen=True, slots=True)
class Upload:
    """An uploaded file. `name` is what its owner called it, for messages only."""

    id: str
    name: str
    path: Path
    size_bytes: int
    created: float
    """Seconds since the epoch."""
    used: float
    """When it was last used, on the store's clock."""


class UploadStore:
    """Uploads in one folder, which the stores of several processes may share. Thread-safe. There is no list of ids: only who has an id can use it.

    An upload is a file and, beside it, a record, whose modification time is that of the last use: without its record nobody can use it. Who reads or
    writes the file holds a lock on it, which the system releases when the process dies; who deletes it takes the lock alone.
    """

    def __init__(self, folder: Path, room: Room, *, max_bytes: int, keep_seconds: float, clock: Callable[[], float] = time.time) -> None:
        """`room` counts the uploads that are on disk as held."""
        self.folder, self.room, self.max_bytes, self.keep_seconds = folder, room, max_bytes, keep_seconds
        self._clock = clock

    def add(self, name: str, content: BinaryIO, size_bytes: int) -> Upload:
        """Store an upload of a known size. Raises `RefusalError` for an empty or too large one, and when the store is full; `StoreError`."""
        if size_bytes > self.max_bytes:
            raise RefusalError(f"the file has {size_bytes:,} bytes; at most {self.max_bytes:,} are taken", 413, "too_large")
        if not size_bytes:
            raise RefusalError("the file is empty: upload a video file")
        path = self.folder / f"file-{secrets.token_urlsafe(24)}"
        try:
            with self._reserved(path, size_bytes) as file:
                while chunk := content.read(_CHUNK_BYTES):
                    file.write(chunk)
                file.flush()
                self._record(path.name).write_text(json.dumps({"name": name, "created": time.time()}), encoding="utf-8")
                self._use(path.name)
        except OSError as error:
            self._record(path.name).unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            raise StoreError(f"cannot store an upload: {disk_reason(error)}") from error
        return self._found(path.name)

    def get(self, id: str) -> Upload:
        """An upload by its id. Raises `RefusalError` (404) for an unknown one."""
        self.sweep()
        return self._found(id)

    @contextmanager
    def reading(self, id: str) -> Iterator[Path]:
        """The upload's file, which stays until the block ends even if it is deleted meanwhile. Raises as `get`."""
        path = self.get(id).path
        try:
            file = path.open("rb")
        except FileNotFoundError as error:
            raise _unknown() from error
        try:
            with file:
                fcntl.flock(file, fcntl.LOCK_SH)
                self._found(id)
                try:
                    yield path
                finally:
                    with suppress(FileNotFoundError):  # it was deleted meanwhile
                        self._use(id)
        finally:
            if not self._record(id).exists():
                self._discard(id)

    def delete(self, id: str) -> None:
        """Delete an upload; nobody can use its id from now on. Raises as `get`."""
        self.get(id)
        self._record(id).unlink(missing_ok=True)
        self._discard(id)

    def seconds_left(self, upload: Upload) -> float:
        """Time until an upload is deleted, unless it is used again."""
        return max(0.0, upload.used + self.keep_seconds - self._clock())

    def sweep(self) -> None:
        """Delete the uploads that have not been used for `keep_seconds`, and what a killed process was receiving."""
        for path in _files(self.folder):
            if self._is_over(path.name):
                self._discard(path.name)

    @contextmanager
    def _reserved(self, path: Path, size_bytes: int) -> Iterator[BinaryIO]:
        """A new file that counts with its whole size from the start. Others leave it alone while the block runs."""
        self.sweep()
        with (self.folder / _LOCK).open("wb") as one_at_a_time:
            fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
            with self.room.taken(size_bytes):  # until it is held on disk
                made = path.with_name(f".{path.name}-soon")  # it gets its name once it is locked, or a sweep could take it for a killed process's
                file = made.open("xb")
                fcntl.flock(file, fcntl.LOCK_EX)
                made.rename(path)
                file.truncate(size_bytes)
        with file:
            yield file

    def _record(self, id: str) -> Path:
        return self.folder / f".{id}"

    def _found(self, id: str) -> Upload:
        if not is_upload_id(id):  # it may be any text, and a path's name is made of it
            raise _unknown()
        path, record = self.folder / id, self._record(id)
        try:
            said = json.loads(record.read_text(encoding="utf-8"))
            return Upload(id, str(said["name"]), path, path.stat().st_size, float(said["created"]), record.stat().st_mtime)
        except FileNotFoundError as error:
            raise _unknown() from error

    def _use(self, id: str) -> None:
        now = self._clock()
        os.utime(self._record(id), (now, now))

    def _is_over(self, id: str) -> bool:
        """Whether nobody may use an upload any longer."""
        try:
            return self._clock() - self._record(id).stat().st_mtime >= self.keep_seconds
        except FileNotFoundError:
            return True

    def _discard(self, id: str) -> None:
        """Delete the files of an upload that is over, unless somebody has it open: who reads it then does."""
        with suppress(OSError), (self.folder / id).open("rb") as file:  # gone, or in use; the server's end deletes the folder
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self._is_over(id):
                self._record(id).unlink(missing_ok=True)
                (self.folder / id).unlink(missing_ok=True)


def bytes_of_uploads(folder: Path) -> int:
    """What all uploads in a store's folder have on disk."""
    return sum(map(_size, _files(folder)))


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if is_upload_id(path.name)]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _unknown() -> RefusalError:
    return RefusalError("no such file: it was never uploaded here, or deleted since; upload it again", 404, "file_not_found")


def is_upload_id(text: str) -> bool:
    """Whether a text has the form of an upload's id."""
    return _ID.fullmatch(text) is not None
