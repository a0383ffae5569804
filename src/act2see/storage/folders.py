"""Folders that are there whole or not at all: what fills one writes beside its place, and takes the place when everything is done.

What a killed process left beside a place goes when the place is next written: a process holds the folder that it fills by a lock, which dies with it.
"""

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from act2see.core.errors import ConfigError, disk_reason


@contextmanager
def whole_folder(out: Path, *, replaces: str | None = None) -> Iterator[Path]:
    """Give an empty folder to write into; it becomes `out` when the block ends, and goes with all its files when the block is left otherwise.

    A folder at `out` with anything in it is refused, unless it holds the file that `replaces` names (what an earlier call wrote): the new folder
    then takes its place. Raises `ConfigError`, for a full or read-only disk too.
    """
    check_new(out, replaces)
    out = Path(os.path.abspath(out))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _sweep(out, "unfinished")
        unfinished, held = _begun(out)
    except OSError as error:
        raise ConfigError(f"cannot write {out}: {disk_reason(error)}; give a folder that can be written") from error
    try:
        yield unfinished
        _take_place(unfinished, out, replaces)
    except OSError as error:
        raise ConfigError(f"cannot write {out}: {disk_reason(error)}; nothing was left there") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)  # gone already if all went well
        os.close(held)


def _begun(out: Path) -> tuple[Path, int]:
    """An empty folder beside `out`, and the descriptor by which this process holds it. Raises `OSError`."""
    while True:
        unfinished = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".unfinished", dir=out.parent))
        held = os.open(unfinished, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        with suppress(OSError):  # a file system without locks: what a kill leaves there stays
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if unfinished.is_dir():  # else another process has just taken it for a dead one's
            return unfinished, held
        os.close(held)


def _sweep(out: Path, what: str) -> None:
    """Remove the folders that dead processes left beside `out`; those that a living one holds stay."""
    name = re.compile(rf"\.{re.escape(out.name)}\.[a-z0-9_]{{8}}\.{what}")
    for path in out.parent.iterdir():
        if not name.fullmatch(path.name):
            continue
        with suppress(OSError):  # it is another user's, or a file system without locks: then nobody knows whether its owner lives
            held = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(held)


def check_new(out: Path, replaces: str | None = None) -> None:
    """Refuse a folder that `whole_folder` would refuse, before the work begins. Raises `ConfigError`."""
    if not out.is_dir():
        if out.exists():
            raise ConfigError(f"cannot write into {out}: it is no folder")
        return
    found = next(out.iterdir(), None)
    if found is not None and (replaces is None or not (out / replaces).is_file()):
        wanted = "give a new folder" if replaces is None else f"only one with {replaces} in it is replaced; give a new folder"
        raise ConfigError(f"{out} is not empty (it holds {found.name}): {wanted}")


def _take_place(unfinished: Path, out: Path, replaces: str | None) -> None:
    unfinished.chmod(0o777 & ~_umask())  # mkdtemp's are for their owner alone
    for path in unfinished.iterdir():
        if path.is_file():
            _flush(path)
    check_new(out, replaces)  # another process may have been faster
    if out.is_dir() and any(out.iterdir()):
        before = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".replaced", dir=out.parent))
        out.rename(before)
        try:
            unfinished.rename(out)
        except OSError:
            before.rename(out)
            raise
        shutil.rmtree(before, ignore_errors=True)
    else:
        unfinished.rename(out)
    _sweep(out, "replaced")  # of one that was killed after it had taken the place
    _flush(out.parent)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _flush(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
