"""Who is at work on a run: a second process that would ask the same questions again is refused, with the first one's name."""

import errno
import fcntl
import json
import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from act2see.core.errors import StoreError
from act2see.storage.atomic import opened, writing
from act2see.storage.codec import parse_json, shown

LOCK = ".lock"
_SHARED = " (eval --shard lets several processes share a run)"
_MOST_BYTES = 4096
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
_HERE = threading.RLock()
"""Threads of one process exclude each other by this where the file system has no locks."""

_log = logging.getLogger(__name__)


@contextmanager
def alone(file: BinaryIO) -> Iterator[None]:
    """Keep other processes out that ask for the same file, and other threads; waits for its turn. Closing the file gives it back."""
    with _HERE:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        yield


@contextmanager
def at_work(folder: Path, shard: str | None = None, *, hint: str = _SHARED) -> Iterator[None]:
    """Hold a folder for a process that asks a run's questions, or trains. Shards hold it together, each one's own name once.

    Raises `StoreError` with the owner's process, host and start where another process holds it. The system frees what a dead process held. On a file
    system without locks a note says so, and nobody is kept out.
    """
    with ExitStack() as held:
        try:
            _hold(held, folder, LOCK, together=shard is not None, hint=hint)
            if shard is not None:
                _hold(held, folder, f"{LOCK}-{shard}", together=False, hint=hint)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                with writing(folder):
                    raise
            _log.warning("%s is on a file system without locks: a second process on it would not be noticed, and would ask everything twice", folder)
        yield


def _hold(held: ExitStack, folder: Path, name: str, *, together: bool, hint: str) -> None:
    file = held.enter_context(opened(folder, name, max_bytes=_MOST_BYTES, flags=os.O_RDWR | os.O_APPEND | os.O_CREAT))
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if together else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        raise StoreError(f"{folder} is being worked on by {_owner(file.read(_MOST_BYTES))}: wait for it, or give another folder{hint}") from error
    file.truncate(0)
    about = {"pid": os.getpid(), "host": socket.gethostname()[:255], "since": datetime.now().astimezone().isoformat(timespec="seconds")}
    file.write(json.dumps(about).encode())


def _owner(content: bytes) -> str:
    """What its lock says of the owner: read like anything else in the folder."""
    try:
        about = parse_json(content)
    except StoreError:
        about = None
    if not isinstance(about, dict):
        return "another process"
    return f"process {shown(about.get('pid'))} on {shown(about.get('host'))} since {shown(about.get('since'))}"
