"""Disk space for what clients send: one limit for all that a server holds at once."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from act2see.core.errors import ConfigError
from act2see.serving.refusals import RefusalError

_MEBIBYTE = 1 << 20
_FULL_SECONDS = 60


@dataclass(slots=True)
class Room:
    """Counts bytes against a limit. Thread-safe."""

    max_bytes: int
    held: Callable[[], int] = lambda: 0
    """Bytes on disk that nobody took here, counted anew each time."""
    _taken: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, max_disk_mb: int, max_upload_mb: int, copies: int, held: Callable[[], int] = lambda: 0) -> "Room":
        """From the flags. An upload may be on disk `copies` times at once. Raises `ConfigError` if not even one of the largest size fits."""
        if max_disk_mb < copies * max_upload_mb:
            why = " twice: it is received and then stored" if copies == 2 else ""
            allowed = f"it must be at least {copies * max_upload_mb}, to hold an upload of --max-upload-mb {max_upload_mb}{why}"
            raise ConfigError(f"--max-disk-mb is {max_disk_mb}; {allowed}")
        return cls(max_disk_mb * _MEBIBYTE, held)

    def take(self, size_bytes: int) -> None:
        """Count bytes that will be on disk. Raises `RefusalError` (507) if they do not fit."""
        with self._lock:
            if self._taken + self.held() + size_bytes > self.max_bytes:
                wait = {"Retry-After": str(_FULL_SECONDS)}
                limit = f"the server holds at most {self.max_bytes:,} bytes of videos (--max-disk-mb)"
                raise RefusalError(f"no room for {size_bytes:,} bytes: {limit}; delete an upload, or try later", 507, "storage_full", wait)
            self._taken += size_bytes

    def give(self, size_bytes: int) -> None:
        """Free bytes that were taken."""
        with self._lock:
            self._taken -= size_bytes

    @contextmanager
    def taken(self, size_bytes: int) -> Iterator[None]:
        """Hold bytes while the block runs. Raises as `take`."""
        self.take(size_bytes)
        try:
            yield
        finally:
            self.give(size_bytes)
