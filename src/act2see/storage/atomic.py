"""Files of a folder that a stranger may have made: only regular ones, of bounded size, are read; a line is appended, a file replaced as a whole."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from act2see.core.errors import StoreError, disk_reason

MAX_LINE_BYTES = 16 * 2**20
"""Of a line of JSON. Our choice: a trace of 3,600 frames and 20 looks takes about 1 MB."""
MAX_FILE_BYTES = 64 * 2**20
"""Of a file that is read as a whole. Our choice."""
MAX_LINES_BYTES = 64 * 2**30
"""Of a file of JSON lines. Our choice: half a million traces."""

_BLOCK = 1 << 16
_KINDS = ((stat.S_ISLNK, "a link"), (stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"))
_GUARDED = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY  # a FIFO that takes a file's place after it was looked at blocks nobody


# Opening


@contextmanager
def opened(folder: Path, name: str, *, max_bytes: int, flags: int = os.O_RDONLY) -> Iterator[BinaryIO]:
    """A regular file of a folder; `name` may have folders before it, with `/`. The folder itself may be a link: the user named it.

    Raises `StoreError`, without waiting for anything, where the file or a folder on the way is a link, a FIFO, a socket or a device, and where it is
    larger than `max_bytes`; `OSError` for what the disk refuses, `FileNotFoundError` among it.
    """
    descriptor = _descriptor(folder, name, flags)
    with open(descriptor, "rb" if flags == os.O_RDONLY else "ab+", buffering=-1 if flags == os.O_RDONLY else 0) as file:
        size = os.fstat(descriptor).st_size
        if size > max_bytes:
            raise StoreError(f"{folder / name} holds {size:,} bytes; at most {max_bytes:,} are read")
        yield file


def content_of(folder: Path, name: str, *, max_bytes: int = MAX_FILE_BYTES) -> bytes:
    """What a file of a folder holds; see `opened`."""
    with opened(folder, name, max_bytes=max_bytes) as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise StoreError(f"{folder / name} grows while it is read; at most {max_bytes:,} bytes are read")
    return content


def _descriptor(folder: Path, name: str, flags: int) -> int:
    *parents, last = name.split("/")
    try:
        at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except ValueError as error:  # a NUL or a lone surrogate in it
        raise StoreError(f"{str(folder)!r} cannot be the name of a folder: {error}") from error
    try:
        for number, parent in enumerate(parents, start=1):
            refuse_special(folder / "/".join(parents[:number]), os.stat(parent, dir_fd=at, follow_symlinks=False).st_mode)
            inner = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=at)
            os.close(at)
            at = inner
        try:
            # Looked at before it is opened: to open a device can do something.
            refuse_special(folder / name, os.stat(last, dir_fd=at, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            if not flags & os.O_CREAT:
                raise
        descriptor = os.open(last, flags | _GUARDED, 0o666, dir_fd=at)
    finally:
        os.close(at)
    try:
        facts = os.fstat(descriptor)
        refuse_special(folder / name, facts.st_mode)
        if flags & os.O_RDWR and facts.st_nlink > 1:
            raise StoreError(f"{folder / name} has a second name (a hard link), which would change with it: copy the folder, and work on the copy")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def refuse_special(path: Path, mode: int) -> None:
    """Raise `StoreError` for what is neither a file nor a folder."""
    for is_kind, kind in _KINDS:
        if is_kind(mode):
            raise StoreError(f"{path} is {kind}: in a run's folder only regular files are read and written; copy what it stands for to its place")


def check_writable_place(path: Path) -> None:
    """Refuse a place that is there already and is no regular file. Raises `StoreError`; `OSError` for what the disk refuses."""
    try:
        refuse_special(path, os.lstat(path).st_mode)
    except FileNotFoundError:
        return


def own_folder(path: Path) -> None:
    """Make a folder unless it is there; a link in its place is refused, so that nothing is written elsewhere. Raises `StoreError` and `OSError`."""
    check_writable_place(path)
    path.mkdir(exist_ok=True)


# Lines


def whole_lines(file: BinaryIO) -> Iterator[tuple[int, int, bytes | None]]:
    """Each line that ends, with its number, from 1, and where it begins; None for one that is longer than `MAX_LINE_BYTES`.

    What stands behind the last line end when this is called is passed over: another process may be writing it.
    """
    end, after = end_of_last_line(file), 0
    file.seek(0)
    for number, line in lines(file):
        at, after = after, file.tell()
        if after > end:
            return
        yield number, at, line


def lines(file: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Each line with its number, from 1; None for one that is longer than `MAX_LINE_BYTES`."""
    number = 0
    while line := file.readline(MAX_LINE_BYTES):
        number += 1
        is_too_long = len(line) == MAX_LINE_BYTES and not line.endswith(b"\n")
        while len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
            line = file.readline(MAX_LINE_BYTES)
        yield number, None if is_too_long else line


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
    """The byte after the file's last line feed; 0 where there is none. Raises `StoreError` where none is near the end."""
    size = end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - _BLOCK)
        file.seek(start)
        block = file.read(end - start)
        if b"\n" in block:
            return start + block.rindex(b"\n") + 1
        end = start
        if size - end > MAX_LINE_BYTES:
            raise StoreError(f"the last {MAX_LINE_BYTES:,} bytes hold no line end: this is no file of JSON lines")
    return 0


# Writing


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, even after a crash. A link in its place is replaced, and what it leads to stays."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.unlink(missing_ok=True)  # of a process with our number that was killed; what a link of that name leads to stays
    try:
        with unfinished.open("xb") as file:
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


# Errors


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn what the disk refuses into a `StoreError` about the folder."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"cannot write to {folder}: {disk_reason(error)}; what was there stays as it was") from error


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what the disk refuses into a `StoreError` about the file."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"cannot read {path}: {disk_reason(error)}") from error


@contextmanager
def placed(where: str) -> Iterator[None]:
    """Put the place that it is about before an error's text."""
    try:
        yield
    except StoreError as error:
        raise StoreError(f"{where}: {error}") from error
