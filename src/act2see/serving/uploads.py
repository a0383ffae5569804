"""Uploaded videos: files with ids that nobody can guess, deleted on request, some time after their last use, and with the server."""

import re
import secrets
import threading
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


@dataclass(slots=True)
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
    users: int = 0
    """Requests that read it right now."""
    is_deleted: bool = False


class UploadStore:
    """Uploads in one folder. Thread-safe. There is no list of ids: only who has an id can use it."""

    def __init__(self, folder: Path, room: Room, *, max_bytes: int, keep_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.folder, self.room, self.max_bytes, self.keep_seconds = folder, room, max_bytes, keep_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._uploads: dict[str, Upload] = {}

    def add(self, name: str, content: BinaryIO, size_bytes: int) -> Upload:
        """Store an upload of a known size. Raises `RefusalError` for an empty or too large one, and when the store is full; `StoreError`."""
        if size_bytes > self.max_bytes:
            raise RefusalError(f"the file has {size_bytes:,} bytes; at most {self.max_bytes:,} are taken", 413, "too_large")
        if not size_bytes:
            raise RefusalError("the file is empty: upload a video file")
        self.sweep()
        self.room.take(size_bytes)
        made = f"file-{secrets.token_urlsafe(24)}"
        path = self.folder / made
        try:
            with path.open("xb") as file:
                while chunk := content.read(_CHUNK_BYTES):
                    file.write(chunk)
        except OSError as error:
            path.unlink(missing_ok=True)
            self.room.give(size_bytes)
            raise StoreError(f"cannot store an upload: {disk_reason(error)}") from error
        upload = Upload(made, name, path, size_bytes, time.time(), self._clock())
        with self._lock:
            self._uploads[made] = upload
        return upload

    def get(self, id: str) -> Upload:
        """An upload by its id. Raises `RefusalError` (404) for an unknown one."""
        self.sweep()
        with self._lock:
            found = self._uploads.get(id)
        if found is None:
            raise RefusalError("no such file: it was never uploaded here, or deleted since; upload it again", 404, "file_not_found")
        return found

    @contextmanager
    def reading(self, id: str) -> Iterator[Path]:
        """The upload's file, which stays until the block ends even if it is deleted meanwhile. Raises as `get`."""
        found = self.get(id)
        with self._lock:
            found.users += 1
        try:
            yield found.path
        finally:
            with self._lock:
                found.users -= 1
                found.used = self._clock()
                self._drop(found)

    def delete(self, id: str) -> None:
        """Delete an upload; nobody can use its id from now on. Raises as `get`."""
        found = self.get(id)
        with self._lock:
            self._uploads.pop(id, None)
            found.is_deleted = True
            self._drop(found)

    def seconds_left(self, upload: Upload) -> float:
        """Time until an upload is deleted, unless it is used again."""
        return max(0.0, upload.used + self.keep_seconds - self._clock())

    def sweep(self) -> None:
        """Delete the uploads that have not been used for `keep_seconds`."""
        now = self._clock()
        with self._lock:
            for upload in [one for one in self._uploads.values() if not one.users and now - one.used >= self.keep_seconds]:
                del self._uploads[upload.id]
                upload.is_deleted = True
                self._drop(upload)

    def _drop(self, upload: Upload) -> None:
        if upload.is_deleted and not upload.users:
            with suppress(OSError):  # the server's end deletes the folder
                upload.path.unlink()
                self.room.give(upload.size_bytes)


def is_upload_id(text: str) -> bool:
    """Whether a text has the form of an upload's id."""
    return _ID.fullmatch(text) is not None
