"""The cache between processes, at its bound, and where it cannot be written."""

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from act2see.storage.cache import Cache


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def _aged(cache: Cache, name: str, seconds: float) -> None:
    os.utime(cache.path(name), (seconds, seconds))


def _names(cache: Cache) -> list[str]:
    return [entry.name for entry in cache.entries()]


# Reading and writing


def test_what_is_written_is_read_by_another_run(cache: Cache) -> None:
    assert cache.read("packets/ab.npz") is None
    assert cache.find("packets/ab.npz") is None
    assert cache.write("packets/ab.npz", b"one")
    assert cache.write("packets/ab.npz", memoryview(b"two"))
    again = Cache(cache.folder)
    assert again.read("packets/ab.npz") == b"two"
    assert again.find("packets/ab.npz") == cache.folder / "packets/ab.npz"
    assert [(entry.name, entry.size_bytes) for entry in again.entries()] == [("packets/ab.npz", 3)]
    assert again.remove("packets/ab.npz")
    assert not again.remove("packets/ab.npz")
    assert again.read("packets/ab.npz") is None


def test_the_environment_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACT2SEE_CACHE", str(tmp_path / "here"))
    assert Cache().folder == tmp_path / "here"
    assert Cache(tmp_path / "there").folder == tmp_path / "there"
    monkeypatch.setenv("ACT2SEE_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    assert Cache().folder == tmp_path / "home/act2see"


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/../b", "/etc/passwd", "a//b", "a/", ".hidden", "a/.b", "a\\b", "a b", "a\n", "a\0", "~/a", "a/b/c/d/e", "x" * 300],
)
def test_no_name_leads_out_of_the_folder(cache: Cache, name: str) -> None:
    for use in (cache.path, cache.read, cache.find, cache.remove, lambda bad: cache.write(bad, b"")):
        with pytest.raises(ValueError, match="cannot name a cache entry"):
            use(name)
    with pytest.raises(ValueError, match="cannot name a cache entry"), cache.lock(name):
        pass
    assert not cache.folder.exists()


# The bound


def test_the_least_recently_used_goes_first(cache: Cache) -> None:
    for number, name in enumerate(["a", "b", "c"]):
        cache.write(name, b"x" * 10)
        _aged(cache, name, 1000.0 + number)
    assert cache.read("a") is not None  # used now
    assert _names(cache) == ["b", "c", "a"]
    assert [entry.name for entry in cache.prune(20)] == ["b"]
    assert cache.find("c") is not None
    assert [entry.name for entry in cache.prune(10)] == ["a"]
    assert _names(cache) == ["c"]


def test_writing_keeps_within_the_bound(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", max_bytes=1000)
    for number in range(50):
        assert cache.write(f"parts/{number}", bytes(90))
        _aged(cache, f"parts/{number}", 1000.0 + number)
        assert sum(entry.size_bytes for entry in cache.entries()) <= 1000
    assert _names(cache) == [f"parts/{number}" for number in range(39, 50)]
    assert not cache.write("large", bytes(1001))
    assert len(_names(cache)) == 11  # what cannot be kept drives nothing out


def test_clear_removes_entries_and_empty_folders(cache: Cache) -> None:
    cache.write("frames/a", b"1")
    cache.write("b", b"2")
    assert {entry.name for entry in cache.clear()} == {"frames/a", "b"}
    assert cache.entries() == []
    assert cache.clear() == []
    assert [path.name for path in cache.folder.iterdir()] == [".act2see-cache"]
    assert Cache(cache.folder.parent / "never made").clear() == []


def test_what_a_killed_process_left_is_removed_later(cache: Cache) -> None:
    cache.write("frames/a", b"1")
    left, writing = cache.folder / "frames/.writing-old", cache.folder / "frames/.writing-now"
    left.write_bytes(b"half")
    writing.write_bytes(b"half")
    os.utime(left, (1000, 1000))
    assert _names(cache) == ["frames/a"]
    cache.prune(100)
    assert not left.exists()
    assert writing.exists()


def test_only_what_is_ours_is_ever_deleted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """ACT2SEE_CACHE=$HOME must not end a home folder."""
    (tmp_path / "thesis.tex").write_text("years of work", encoding="utf-8")
    cache = Cache(tmp_path)
    assert not cache.write("frames/a", b"1")
    assert "the folder holds other things" in caplog.text
    assert cache.entries() == cache.clear() == []
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


# Where it cannot be written


def _refused(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = Cache(folder)
    assert not cache.write("a", b"1")
    assert not cache.write("b", b"1")
    assert not Cache(folder).write("c", b"1")
    assert cache.read("a") is None
    with cache.lock("a"):
        pass
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert str(folder) in record.getMessage()


def test_a_folder_that_cannot_be_made_turns_caching_off_and_says_so_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    _refused(tmp_path / "file" / "cache", caplog)


def test_a_file_system_that_takes_nothing_turns_caching_off_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    # Linux's /proc refuses new files from root, too.
    _refused(Path("/proc/act2see"), caplog)


_FULL = """
import pathlib, resource, sys
from act2see.storage.cache import Cache
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # a write beyond it fails half-way, as on a full disk
cache = Cache(pathlib.Path(sys.argv[1]))
print(cache.write("frames/a", bytes(5000)), cache.write("frames/b", b"1"), cache.read("frames/a"))
"""


def test_a_full_disk_is_no_error_and_leaves_the_old_content(cache: Cache) -> None:
    cache.write("frames/a", b"old")
    done = subprocess.run([sys.executable, "-c", _FULL, str(cache.folder)], capture_output=True, text=True, check=True)
    assert done.stdout == "False False b'old'\n"
    assert done.stderr.count("\n") == 1
    assert "nothing is kept in the cache" in done.stderr
    assert [path.name for path in (cache.folder / "frames").iterdir()] == ["a"]


# Between processes


def test_a_lock_is_waited_for_and_leaves_nothing(cache: Cache) -> None:
    order = []
    waits, done = threading.Event(), threading.Event()

    def second() -> None:
        with Cache(cache.folder).lock("frames/a", waits.set):
            order.append("second")
        done.set()

    with cache.lock("frames/a"):
        threading.Thread(target=second, daemon=True).start()
        assert waits.wait(20)
        with cache.lock("frames/b", pytest.fail):  # another name is free
            order.append("first")
    assert done.wait(20)
    assert order == ["first", "second"]
    assert list((cache.folder / ".locks").iterdir()) == []


_HOLD = """
import pathlib, sys, time
from act2see.storage.cache import Cache
with Cache(pathlib.Path(sys.argv[1])).lock("a"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_lock_of_a_killed_process_is_free(cache: Cache) -> None:
    with subprocess.Popen([sys.executable, "-c", _HOLD, str(cache.folder)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        waits = threading.Event()

        def kill_when_waited_for() -> None:
            assert waits.wait(20)
            process.send_signal(signal.SIGKILL)

        killer = threading.Thread(target=kill_when_waited_for)
        killer.start()
        with cache.lock("a", waits.set):
            killer.join()
    assert waits.is_set()


def _count(folder: Path, times: int) -> None:
    cache = Cache(folder)
    for _ in range(times):
        with cache.lock("counter"):
            cache.write("counter", str(int(cache.read("counter") or b"0") + 1).encode())


def test_processes_that_count_together_lose_nothing(cache: Cache) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_count, args=(cache.folder, 200)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert cache.read("counter") == b"600"
