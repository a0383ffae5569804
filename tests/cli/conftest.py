"""A small clip, and the command line run in this process."""

from pathlib import Path

import av
import numpy as np
import pytest

from act2see import cli
from cli_fakes import Act2See, Done


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of video, 64x48 at 10 frames a second."""
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(20):
            picture = np.full((48, 64, 3), number * 12, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture
def own_clip(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The clip in a folder of the test's own, which the questions of `eval_fakes` are about: they copy it."""
    own = tmp_path / "clips"
    own.mkdir()
    copied = own / "clip.mp4"
    copied.write_bytes(clip.read_bytes())
    monkeypatch.setenv("ACT2SEE_TEST_CLIP", str(copied))
    return copied


@pytest.fixture
def act2see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Act2See:
    """Runs the command line in this process, in an empty folder and without anybody's settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    monkeypatch.setenv("ACT2SEE_CACHE", str(tmp_path / "cache"))

    def run(*arguments: str | Path) -> Done:
        capsys.readouterr()
        code = cli.main([str(argument) for argument in arguments])
        return Done(code, *capsys.readouterr())

    return run
