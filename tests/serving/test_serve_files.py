"""Temporary files: uploads end with their time, folders with their server, and paths are compared once links are resolved."""

import fcntl
import io
import os
import tempfile
from pathlib import Path
from typing import BinaryIO

import pytest

from act2see.core.errors import ConfigError, VideoError
from act2see.serving.folders import AllowedFolders
from act2see.serving.refusals import RefusalError
from act2see.serving.room import Room
from act2see.serving.uploads import UploadStore, bytes_of_uploads, is_upload_id
from act2see.serving.workspace import PREFIX, workspace


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def room_in(folder: Path) -> Room:
    return Room(40, lambda: bytes_of_uploads(folder))


def held_in(folder: Path) -> list[Path]:
    """What a store holds there, but its lock."""
    return [path for path in folder.iterdir() if path.name != ".uploads"]


def test_an_upload_is_deleted_some_time_after_its_last_use(tmp_path: Path) -> None:
    clock = Clock()
    store = UploadStore(tmp_path, room_in(tmp_path), max_bytes=10, keep_seconds=60, clock=clock)
    kept = store.add("a.mp4", io.BytesIO(b"12345"), 5)
    assert is_upload_id(kept.id)
    clock.seconds = 50
    with store.reading(kept.id) as path:
        clock.seconds = 500
        assert store.get(kept.id).name == "a.mp4"  # in use
        assert path.read_bytes() == b"12345"
    clock.seconds = 559
    assert store.get(kept.id).id == kept.id
    clock.seconds = 560
    with pytest.raises(RefusalError, match="no such file"):
        store.get(kept.id)
    assert held_in(tmp_path) == []


def test_an_upload_that_is_deleted_while_it_is_read_stays_until_then(tmp_path: Path) -> None:
    store = UploadStore(tmp_path, room_in(tmp_path), max_bytes=10, keep_seconds=60)
    kept = store.add("a.mp4", io.BytesIO(b"12345"), 5)
    with store.reading(kept.id) as path:
        store.delete(kept.id)
        assert path.read_bytes() == b"12345"
        with pytest.raises(RefusalError), store.reading(kept.id):
            pass
    assert held_in(tmp_path) == []


def test_the_stores_of_several_processes_share_their_uploads_and_their_room(tmp_path: Path) -> None:
    clock = Clock()
    clock.seconds = 1000
    one, other = (UploadStore(tmp_path, room_in(tmp_path), max_bytes=10, keep_seconds=60, clock=clock) for _ in range(2))
    kept = one.add("a.mp4", io.BytesIO(b"12345"), 5)
    with other.reading(kept.id) as path:
        assert path.read_bytes() == b"12345"
        clock.seconds += 100
        one.sweep()  # in use elsewhere
        assert one.get(kept.id).name == "a.mp4"
        one.delete(kept.id)
        with pytest.raises(RefusalError, match="no such file"):
            other.get(kept.id)
        assert path.read_bytes() == b"12345"
    assert held_in(tmp_path) == []
    for store in (one, other, one, other):
        store.add("b.mp4", io.BytesIO(b"1234567890"), 10)
    with pytest.raises(RefusalError, match="no room for 1 bytes"):
        other.add("c.mp4", io.BytesIO(b"1"), 1)
    clock.seconds += 60
    other.add("c.mp4", io.BytesIO(b"1"), 1)


def test_what_a_killed_process_was_receiving_takes_no_room(tmp_path: Path) -> None:
    store = UploadStore(tmp_path, room_in(tmp_path), max_bytes=10, keep_seconds=60)
    being_received, left = (tmp_path / f"file-{letter * 32}" for letter in "ab")
    for path in (being_received, left):
        path.write_bytes(b"1234567890")
    with being_received.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        store.sweep()
        assert held_in(tmp_path) == [being_received]
    store.sweep()
    assert held_in(tmp_path) == []


def test_an_upload_that_is_just_beginning_is_not_taken_for_a_killed_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, other = (UploadStore(tmp_path, room_in(tmp_path), max_bytes=10, keep_seconds=60) for _ in range(2))
    lock = fcntl.flock

    def after_a_sweep(file: BinaryIO, how: int) -> None:
        if how == fcntl.LOCK_EX:
            other.sweep()
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", after_a_sweep)
    assert store.add("a.mp4", io.BytesIO(b"12345"), 5).path.read_bytes() == b"12345"


@pytest.mark.parametrize("id", ["", ".in-use", "../secret", "file-x", "a\0b"])
def test_what_is_no_id_names_no_file(tmp_path: Path, id: str) -> None:
    (tmp_path / ".in-use").touch()
    with pytest.raises(RefusalError, match="no such file"):
        UploadStore(tmp_path, room_in(tmp_path), max_bytes=10, keep_seconds=60).get(id)


def test_a_full_disk_is_no_upload(tmp_path: Path) -> None:
    class Full(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError(28, "No space left on device")

    store = UploadStore(tmp_path, room_in(tmp_path), max_bytes=10, keep_seconds=60)
    with pytest.raises(Exception, match="the disk is full"):
        store.add("a.mp4", Full(), 10)
    assert held_in(tmp_path) == []
    for _ in range(4):  # what failed takes no room
        store.add("b.mp4", io.BytesIO(b"1234567890"), 10)


def test_a_servers_folder_goes_with_it_and_a_killed_ones_with_the_next(tmp_path: Path) -> None:
    killed, mine, alive = (Path(tempfile.mkdtemp(prefix=PREFIX, dir=tmp_path)) for _ in range(3))
    for folder in (killed, alive):
        (folder / ".in-use").touch()
        (folder / "video").write_bytes(b"x")
    # mine has no lock file: it is not a server's, or being made
    held = os.open(alive / ".in-use", os.O_RDWR)
    fcntl.flock(held, fcntl.LOCK_EX)
    with workspace(tmp_path) as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "video").write_bytes(b"x")
        assert set(tmp_path.iterdir()) == {folder, mine, alive}
    assert set(tmp_path.iterdir()) == {mine, alive}
    os.close(held)


def test_a_link_that_is_swapped_leads_nowhere_else(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (outside / "a.mp4").touch()
    (inside / "b.mp4").touch()
    folders = AllowedFolders.of([inside], "--allow-root")
    assert folders.file("b.mp4") == inside / "b.mp4"
    assert folders.label(inside / "b.mp4") == "b.mp4"
    (inside / "loop").symlink_to(inside / "loop")
    (inside / "out").symlink_to(outside)
    (inside / "folder.mp4").mkdir()
    os.mkfifo(inside / "pipe.mp4")
    for named in ("folder.mp4", "pipe.mp4", "loop", "out/a.mp4", "../outside/a.mp4", str(outside / "a.mp4"), ""):
        with pytest.raises(VideoError, match="in the allowed folders"):
            folders.file(named)
    folders.check_opened(inside / "b.mp4")
    (inside / "b.srt").symlink_to(outside / "a.mp4")
    with pytest.raises(VideoError, match=r'the subtitles "b.srt" are a link out of the allowed folders'):
        folders.check_opened(inside / "b.mp4")
    (inside / "b.srt").unlink()
    (inside / "b.mp4").unlink()
    (inside / "b.mp4").symlink_to(outside / "a.mp4")  # after `file` has found it
    with pytest.raises(VideoError, match="in the allowed folders"):
        folders.check_opened(inside / "b.mp4")


def test_what_is_no_folder_is_not_allowed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("file", "nowhere"):
        with pytest.raises(ConfigError, match="--allow-root"):
            AllowedFolders.of([tmp_path / name], "--allow-root")
