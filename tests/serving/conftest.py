"""Servers in a thread, with a model that does what its question says."""

import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

from act2see.synthetic.world import Clip
from served import Running, Start, started


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An allowed folder with a clip, and beside it a file that is not in it."""
    folder = tmp_path_factory.mktemp("served") / "videos"
    (folder / "more").mkdir(parents=True)
    Clip(2.0, ()).write(folder / "clip.mp4")
    (folder / "more" / "second.mp4").write_bytes((folder / "clip.mp4").read_bytes())
    (folder.parent / "secret.mp4").write_bytes((folder / "clip.mp4").read_bytes())
    (folder / "link.mp4").symlink_to(folder.parent / "secret.mp4")
    (folder / "inside.mp4").symlink_to(folder / "clip.mp4")
    return folder


@pytest.fixture(scope="session")
def start(root: Path) -> Start:
    """Starts a server with settings of a test's own."""
    return functools.partial(started, root)


@pytest.fixture(scope="module")
def running(start: Start) -> Iterator[Running]:
    """A server that a module's tests share; none of them ends it."""
    with start() as found:
        yield found
