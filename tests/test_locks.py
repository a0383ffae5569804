"""Who is at work on a run: one process, or several shards, and nobody is kept out by a dead one."""

import errno
import fcntl
import json
import logging
import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from act2see.core.errors import StoreError
from act2see.storage.locks import LOCK, at_work


def hold(folder: Path, shard: str | None, connection: Connection) -> None:
    """In a process of its own: hold the folder until it is told to go."""
    with at_work(folder, shard):
        connection.send(os.getpid())
        connection.recv()


Hold = Callable[[str | None], int]


@pytest.fixture
def holding(tmp_path: Path) -> "Hold":
    """Let another process hold the folder for a shard, or alone; gives its number."""
    context = multiprocessing.get_context("spawn")

    def start(shard: str | None) -> int:
        ours, theirs = context.Pipe()
        context.Process(target=hold, args=(tmp_path, shard, theirs), daemon=True).start()
        pid: int = ours.recv()
        kept.append(ours)
        return pid

    kept: list[Connection] = []
    return start


def test_a_second_process_is_refused_with_the_name_of_the_first(tmp_path: Path, holding: Hold) -> None:
    first = holding(None)
    for shard in (None, "1-of-2"):
        with (
            pytest.raises(StoreError, match=rf"is being worked on by process {first} on \".*\" since \"20.*\": wait for it, or"),
            at_work(tmp_path, shard),
        ):
            pass
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)
    with at_work(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    with at_work(tmp_path):  # what was given back is free
        pass


def test_shards_hold_it_together_and_each_once(tmp_path: Path, holding: Hold) -> None:
    first = holding("1-of-2")
    with at_work(tmp_path, "2-of-2"):
        pass
    with pytest.raises(StoreError, match=f"by process {first} "), at_work(tmp_path, "1-of-2"):
        pass
    with pytest.raises(StoreError, match="is being worked on by process "), at_work(tmp_path):
        pass
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": "\x1b[2J"}', b"9" * 4000])
def test_what_a_lock_says_is_data(tmp_path: Path, content: bytes) -> None:
    (tmp_path / LOCK).write_bytes(content)
    with (tmp_path / LOCK).open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match=r"is being worked on by (another process|process )") as caught, at_work(tmp_path):
            pass
    assert "\x1b" not in str(caught.value)


def test_a_lock_that_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"mine")
    (tmp_path / LOCK).symlink_to("outside")
    with pytest.raises(StoreError, match="is a link"), at_work(tmp_path):
        pass
    (tmp_path / LOCK).unlink()
    os.mkfifo(tmp_path / LOCK)
    with pytest.raises(StoreError, match="is a FIFO"), at_work(tmp_path):
        pass
    assert (tmp_path / "outside").read_bytes() == b"mine"


def test_a_file_system_without_locks_keeps_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(file: object, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with caplog.at_level(logging.WARNING), at_work(tmp_path):
        pass
    assert "is on a file system without locks: a second process on it would not be noticed" in caplog.text


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.open

    def read_only(path: str, flags: int, *others: int, **more: int) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, "Read-only file system")
        return whole(path, flags, *others, **more)

    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(StoreError, match=rf"cannot write to {tmp_path}: the file system is read-only"), at_work(tmp_path):
        pass
