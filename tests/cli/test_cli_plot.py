"""The plot: what is drawn, read back from the SVG, and that it stays readable."""

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from act2see.core.trace import Frame, Match
from act2see.report.plots import draw_scores
from act2see.tools.retrievers.selection import Curve
from cli_fakes import Act2See

GREY = ("--retriever", "tiny_encoder:Grey", "--retrieve-fps", "10")


def _texts(path: Path) -> str:
    """Matplotlib writes each text that it draws as a comment beside its outlines."""
    ET.parse(path)  # well formed
    return path.read_text(encoding="utf-8")


def test_a_plot_shows_scores_picks_span_and_threshold(act2see: Act2See, clip: Path) -> None:
    done = act2see("retrieve", clip, "grey 120", *GREY, "--plot", "scores.svg", "--top", "2", "--json")
    assert (done.code, done.err) == (0, "")
    drawn = _texts(Path("scores.svg"))
    for said in ("clip.mp4: grey 120", "score", "picked", "span", "threshold 0.98", "1: 1.00 s", "time (s)"):
        assert f"<!-- {said} -->" in drawn, said
    assert act2see("retrieve", clip, "grey 120", *GREY, "--plot", "again.svg", "--top", "2").code == 0
    assert Path("again.svg").read_bytes() == Path("scores.svg").read_bytes()


@pytest.mark.parametrize("ending", ["png", "PDF"])
def test_other_endings(act2see: Act2See, clip: Path, ending: str) -> None:
    assert act2see("retrieve", clip, "grey 120", *GREY, "--plot", f"scores.{ending}").code == 0
    content = Path(f"scores.{ending}").read_bytes()
    assert content.startswith(b"\x89PNG" if ending == "png" else b"%PDF")
    if ending == "png":
        with Image.open("scores.png") as image:
            assert image.size == (1500, 540)


@pytest.mark.parametrize("query", ["grey $\\frac{1", "grey 120 \u661f", "x" * 500, "a\x1b[0m<b>&amp;</b>"])
def test_a_query_is_drawn_as_it_is_and_never_read_as_a_formula(clip: Path, tmp_path: Path, query: str) -> None:
    seconds = np.arange(20) / 10
    curve = Curve(seconds, np.linspace(0, 1, 20), 0.5, np.arange(20))
    draw_scores(curve, [Frame(Image.new("RGB", (8, 8)), 1.0, score=0.5)], query, tmp_path / "scores.svg")
    drawn = _texts(tmp_path / "scores.svg")
    assert "\x1b" not in drawn
    assert "<b>" not in drawn


def test_scores_over_an_hour_and_many_picks(tmp_path: Path) -> None:
    seconds = np.arange(10_800) / 3
    curve = Curve(seconds, np.sin(seconds / 500), 0.9, np.arange(10_800))
    frames = [Frame(Image.new("RGB", (8, 8)), float(at), score=0.9, match=Match(0, (float(at), float(at) + 60))) for at in range(700, 1000, 50)]
    draw_scores(curve, frames, "hour", tmp_path / "scores.svg")
    drawn = _texts(tmp_path / "scores.svg")
    for said in ("0:00", "50:00", "time", "6"):
        assert f"<!-- {said} -->" in drawn, said


def test_a_retriever_without_scores_has_no_plot(act2see: Act2See, clip: Path) -> None:
    done = act2see("retrieve", clip, "anything", "--retriever", "cli_fakes:Finder", "--plot", "scores.svg")
    assert "does not provide" in done.complaint
    assert not Path("scores.svg").exists()


@pytest.mark.parametrize("command", [["retrieve", "clip.mp4", "x"], ["tradeoff", "run"]])
def test_a_missing_matplotlib_is_named(command: list[str]) -> None:
    program = f"""
import sys
sys.modules["matplotlib"] = None
from act2see import cli
sys.exit(cli.main([*{command!r}, "--plot", "scores.png"]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "act2see: --plot needs matplotlib: pip install 'act2see[plot]'\n")
