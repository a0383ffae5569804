"""The models that come with the package do the main job, through the command line, on real files."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from act2see.registry import MICRO

pytestmark = pytest.mark.timeout(1200)  # the set-up asks hundreds of questions: minutes on a busy machine


def act2see(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "act2see", *arguments], cwd=folder, capture_output=True, text=True, check=False)


def test_the_models_together_are_small() -> None:
    sizes = {folder.name: sum(path.stat().st_size for path in folder.rglob("*.safetensors")) for folder in MICRO.iterdir()}
    assert set(sizes) == {"vlm", "retriever", "generator"}
    assert sizes["generator"] <= 15_000_000
    assert sum(sizes.values()) <= 25_000_000


def test_the_demo_looks_again_and_writes_its_report(tmp_path: Path) -> None:
    done = act2see("demo", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len([line for line in done.stdout.splitlines() if line[:2] in ("1.", "2.", "3.", "4.")]) == 4
    assert "looked again at" in done.stdout.splitlines()[0]  # a retrieved frame is the first thing to see in the report
    assert "imagined a picture" in done.stdout
    assert "<svg" in (tmp_path / "report.html").read_text()


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Held-out questions' summaries by what a look brings. So few only catch a broken path: docs/micro.md has the figures."""
    folder = tmp_path_factory.mktemp("eval")
    found = {}
    for name, flags in {"real": [], "random": ["--frames", "random"], "none": ["--max-looks", "0"]}.items():
        done = act2see("eval", "synthetic", "--n", "24", "--workers", "12", "--json", *flags, folder=folder)
        assert done.returncode == 0, done.stderr
        found[name] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
def test_the_embedded_model_looks_where_it_has_to_and_only_there(scores: dict[str, dict[str, Any]]) -> None:
    assert scores["real"]["call_rate"]["transient"] >= 0.85
    assert scores["real"]["call_rate"]["static"] <= 0.15


@pytest.mark.slow
def test_what_the_first_frames_show_is_answered_from_them(scores: dict[str, dict[str, Any]]) -> None:
    assert scores["real"]["accuracy"]["static"] >= 0.8
    assert scores["none"]["accuracy"]["static"] >= 0.8


@pytest.mark.slow
def test_the_retrieved_frame_makes_the_difference(scores: dict[str, dict[str, Any]]) -> None:
    transient = {name: summary["accuracy"]["transient"] for name, summary in scores.items()}
    assert transient["real"] >= 0.7
    assert transient["real"] > max(transient["random"], transient["none"]) + 0.25
