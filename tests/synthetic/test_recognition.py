"""The synthetic world is told from everything else: rates on a small sample here, the full ones in docs/micro.md."""

import json
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from act2see.synthetic.recognition import is_of_the_world, read
from act2see.synthetic.world import COLOURS, Actor, Clip, make_clip, make_scene

SCRIPT = Path(__file__).parents[2] / "scripts" / "foreign_pictures.py"
STAR = Actor("star", "red", "top", 26, 0, 9)


@pytest.mark.slow
def test_at_least_99_in_100_are_told_rightly_on_both_sides() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), "--clips", "20", "--other", "12", "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {row["kind"]: row for row in map(json.loads, done.stdout.splitlines())}
    ours, others = rows["all of the world"], rows["all others"]
    assert (ours["n"], ours["right"] / ours["n"]) == (32, pytest.approx(1, abs=0.01))
    assert others["n"] >= 200
    assert others["right"] / others["n"] >= 0.99
    assert sum(row["n"] for kind, row in rows.items() if kind.startswith("real footage")) >= 48


@pytest.mark.parametrize("seed", range(20))
def test_drawn_frames_of_any_clip_are_of_the_world_in_any_size(seed: int) -> None:
    rng = random.Random(f"recognised {seed}")
    clip = (make_clip if seed % 2 else make_scene)(rng, unseen=True)
    frames = [clip.draw(at) for at in clip.times(1.0)]
    assert is_of_the_world(frames)
    assert is_of_the_world([frame.resize(rng.choice(((64, 64), (400, 300), (1024, 1024)))) for frame in frames])


def test_each_measurement_alone_refuses() -> None:
    clip = Clip(4.0, (STAR,), (40, 50, 60))
    frame = clip.draw(1.0)
    pixels = np.asarray(frame, np.float32)
    assert read(frame).is_of_the_world

    def of(changed: "np.typing.NDArray[np.floating]") -> Image.Image:
        return Image.fromarray(changed.clip(0, 255).astype(np.uint8))

    flat = Image.new("RGB", (256, 256), (40, 50, 60))
    x = np.linspace(-0.5, 0.5, 256)[None, :, None]
    stripes = 14 * (np.arange(256) // 32 % 2)[:, None, None]
    covered = frame.copy()
    ImageDraw.Draw(covered).rectangle((0, 0, 256, 100), fill=COLOURS["blue"])
    other = replace(STAR, colour="nameless", tint=(255, 150, 190))
    refused = {
        "too little ground": covered,
        "a flat ground": flat,
        "a steeper one": of(np.asarray(flat) + 40 * x),
        "a coloured light": of(np.asarray(flat) + 24 * x * np.array([2, 1, 0])),
        "a brighter one": of(pixels + 50),
        "a rough one": of(pixels + stripes),
        "another colour": replace(clip, actors=(other,)).draw(1.0),
    }
    assert {name: read(picture).is_of_the_world for name, picture in refused.items()} == dict.fromkeys(refused, False)
    assert read(of(np.asarray(flat) + 24 * x)).is_of_the_world  # an empty frame of the world


def test_a_video_is_of_the_world_where_most_of_what_is_looked_at_is() -> None:
    clip, grey = Clip(4.0, (STAR,)), Image.new("RGB", (256, 256), "grey")
    frame = clip.draw(1.0)
    assert not is_of_the_world([])
    assert is_of_the_world([frame])
    assert not is_of_the_world([grey])
    assert is_of_the_world([frame] * 4 + [grey])
    assert not is_of_the_world([frame] * 3 + [grey] * 2)
    assert not is_of_the_world([frame] * 30 + [grey] * 70)  # evenly chosen, not the first ones


def test_pictures_of_other_modes_and_sizes_are_read() -> None:
    for mode in ("L", "P", "RGBA", "1"):
        assert not read(Image.new(mode, (3, 500))).is_of_the_world
    assert not read(Image.new("RGB", (1, 1))).is_of_the_world
