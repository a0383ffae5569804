"""Folders that are there whole or not at all: what fills one writes beside its place, and takes the place when everything is done."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from act2see.errors import ConfigError


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
        unfinished = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".unfinished", dir=out.parent))
    except OSError as error:
        raise ConfigError(f"cannot write {out}: {error.strerror}; give a folder that can be written") from error
    try:
        yield unfinished
        _take_place(unfinished, out, replaces)
    except OSError as error:
        raise ConfigError(f"cannot write {out}: {error.strerror or error}; nothing was left there") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)  # gone already if all went well


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
        shutil.rmtree(before)
    else:
        unfinished.rename(out)
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
