"""Writing so that a crash or a full disk loses nothing that was there: a line is appended whole, a file is replaced whole."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from act2see.errors import StoreError

_BLOCK = 1 << 16


def append_line(file: BinaryIO, line: bytes) -> None:
    """Write a line after the last whole one. What a crash left behind it goes; what a full disk leaves of this one goes too."""
    end = end_of_last_line(file)
    file.truncate(end)
    rest = memoryview(line)
    try:
        while rest:
            rest = rest[file.write(rest) :]
        os.fsync(file.fileno())
    except OSError:
        file.truncate(end)
        raise


def end_of_last_line(file: BinaryIO) -> int:
    """The byte after the file's last line feed; 0 where there is none."""
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - _BLOCK)
        file.seek(start)
        block = file.read(end - start)
        if b"\n" in block:
            return start + block.rindex(b"\n") + 1
        end = start
    return 0


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, even after a crash."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn what the disk refuses into a `StoreError` about the folder."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"cannot write to {folder}: {error.strerror}; what was there stays as it was") from error


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what the disk refuses into a `StoreError` about the file."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error


@contextmanager
def placed(where: str) -> Iterator[None]:
    """Put the place that it is about before an error's text."""
    try:
        yield
    except StoreError as error:
        raise StoreError(f"{where}: {error}") from error
