"""Temporary files of a server: one folder for each process, deleted when it ends, or by the next server if it was killed."""

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from act2see.core.errors import StoreError, disk_reason

PREFIX = "act2see-serving-"
LOCK = ".in-use"
"""Name of the lock file in each folder."""


@contextmanager
def workspace(parent: Path | None = None) -> Iterator[Path]:
    """A private folder for temporary files, in the system's temporary folder unless `parent` is given. Raises `StoreError`.

    The process holds a lock on it, which the system releases when the process dies: folders without a holder are deleted first. The lock file gets
    its name once it is locked, so that no folder looks abandoned while it is being made.
    """
    parent = parent or Path(tempfile.gettempdir())
    _sweep(parent)
    try:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))  # readable by its owner alone
        made = folder / f"{LOCK}-soon"
        held = os.open(made, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with suppress(OSError):  # a file system without locks: a killed server's folder then stays
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        made.rename(folder / LOCK)
    except OSError as error:
        raise StoreError(f"cannot create a folder for temporary files in {parent}: {disk_reason(error)}") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def _sweep(parent: Path) -> None:
    """Delete the folders of servers that were killed. Another user's are left alone."""
    for folder in parent.glob(f"{PREFIX}*"):
        try:
            found = folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
                continue
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:  # just being created or deleted
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # in use
            continue
        finally:
            os.close(lock)
