"""The world: the same by seed, nothing covers anything, and what is drawn is what the mp4 shows, at the same times."""

import itertools
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from act2see.core.trace import Frame
from act2see.synthetic.world import COLOURS, FRAME_RATE, PLACES, SHAPES, SIZE, UNSEEN_PAIRS, Actor, Clip, make_clip
from act2see.video import Video

REACH = 1.25  # no shape reaches farther than its radius times this from its centre


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    rng = random.Random(0)
    return [make_clip(rng, unseen=number % 2 == 0) for number in range(400)]


def pairs(clip: Clip) -> set[tuple[str, str]]:
    """Every colour that a shape has at some time."""
    return {(colour, actor.shape) for actor in clip.actors for colour in (actor.colour, actor.later_colour) if colour is not None}


def every_frame(clip: Clip) -> list[float]:
    return [number / FRAME_RATE for number in range(round(clip.duration_seconds * FRAME_RATE))]


def drawn(clip: Clip, actors: Sequence[Actor], seconds: float) -> NDArray[np.bool_]:
    """The pixels that differ from the empty backdrop."""
    empty = Clip(clip.duration_seconds, (), clip.background, clip.noise_seed).draw(0)
    picture = Clip(clip.duration_seconds, tuple(actors), clip.background, clip.noise_seed).draw(seconds)
    differs: NDArray[np.bool_] = np.any(np.asarray(picture) != np.asarray(empty), axis=-1)
    return differs


# Making clips


def test_a_seed_makes_one_clip_and_always_the_same_pixels() -> None:
    one, same, other = (make_clip(random.Random(seed)) for seed in (7, 7, 8))
    assert one == same
    assert one != other
    assert one.draw(1.3).tobytes() == same.draw(1.3).tobytes()
    assert one.draw(1.3).size == (SIZE, SIZE)


def test_a_clip_lasts_as_long_as_asked_in_whole_frames(clips: list[Clip]) -> None:
    assert all(4 <= clip.duration_seconds <= 12 for clip in clips)
    assert all((clip.duration_seconds * FRAME_RATE).is_integer() for clip in clips)
    lasting = [make_clip(random.Random(seed), seconds=(2.0, 3.0)).duration_seconds for seed in range(50)]
    assert 2 <= min(lasting) < 2.2
    assert 2.8 < max(lasting) <= 3


def test_training_never_shows_the_unseen_pairs(clips: list[Clip]) -> None:
    rng = random.Random(1)
    shown = {pair for _ in range(1500) for pair in pairs(make_clip(rng))}
    assert shown == {(colour, shape) for colour in COLOURS for shape in SHAPES} - UNSEEN_PAIRS
    assert {pair for clip in clips for pair in pairs(clip)} >= UNSEEN_PAIRS


def test_every_shape_has_one_unseen_colour() -> None:
    assert {shape for _, shape in UNSEEN_PAIRS} == set(SHAPES)
    assert len({colour for colour, _ in UNSEEN_PAIRS}) == len(UNSEEN_PAIRS) == len(SHAPES)


def test_something_flashes_in_almost_every_clip(clips: list[Clip]) -> None:
    """A flash lasts 0.2 to 0.6 s; where there is no room it is left out."""
    flashes = [[actor for actor in clip.actors if actor.stop - actor.start < 0.601] for clip in clips]
    assert sum(bool(found) for found in flashes) >= 0.98 * len(clips)
    lengths = [actor.stop - actor.start for found in flashes for actor in found]
    assert min(lengths) >= 0.199
    assert all(actor.start >= 0 and actor.stop <= clip.duration_seconds for clip, found in zip(clips, flashes, strict=True) for actor in found)


def test_nothing_covers_anything_and_nothing_leaves_the_picture(clips: list[Clip]) -> None:
    close = []
    for clip, seconds in [(one, seconds) for one in clips for seconds in every_frame(one)]:
        there = clip.visible(seconds)
        for actor in there:
            assert all(actor.radius * REACH <= at <= SIZE - actor.radius * REACH for at in actor.centre(seconds))
        for one, other in itertools.combinations(there, 2):
            if math.dist(one.centre(seconds), other.centre(seconds)) < REACH * (one.radius + other.radius):
                close.append((clip, one, other, seconds))
    assert len(close) > 50  # else there was nothing to see
    for clip, one, other, seconds in random.Random(0).sample(close, 50):
        assert not (drawn(clip, [one], seconds) & drawn(clip, [other], seconds)).any()


def test_shapes_do_not_reach_farther_than_this_file_believes() -> None:
    for shape in SHAPES:
        clip = Clip(4.0, (Actor(shape, "white", "middle", 28.0, 0.0, 4.0),))
        rows, columns = np.nonzero(drawn(clip, clip.actors, 0.0))
        x, y = clip.actors[0].centre(0.0)
        assert np.hypot(columns - x, rows - y).max() <= 28 * REACH + 1


def test_an_actor_is_there_from_its_start_until_just_before_its_stop() -> None:
    actor = Actor("star", "red", "top", 25.0, 1.0, 1.5, later_colour="blue", change_seconds=1.25)
    assert [actor.is_there(seconds) for seconds in (0.99, 1.0, 1.49, 1.5)] == [False, True, True, False]
    assert [actor.colour_at(seconds) for seconds in (1.0, 1.24, 1.25)] == ["red", "red", "blue"]
    assert Clip(4.0, (actor,)).visible(1.5) == []


def test_what_crosses_goes_from_its_place_to_its_target() -> None:
    actor = Actor("star", "red", "left", 25.0, 1.0, 3.0, target="right")
    for seconds, place in ((1.0, "left"), (2.0, "middle"), (3.0, "right")):
        assert math.dist(actor.centre(seconds), PLACES[place]) < 12  # it also wanders


# Files


@given(st.integers(1, 400), st.sampled_from([0.3, 0.5, 1.0, 2.0, 3.0, 5.0, 7.0, 24.0, 30.0]))
def test_times_are_rising_and_inside_the_clip(frames: int, fps: float) -> None:
    times = Clip(frames / FRAME_RATE, ()).times(fps)
    assert times == sorted(set(times))
    assert times[0] == 0
    assert times[-1] <= (frames - 1) / FRAME_RATE
    assert len(times) == min(frames, math.ceil(round(frames * fps / FRAME_RATE, 6)))


@pytest.mark.parametrize("frames", [24, 25, 47, 48, 49, 63])
def test_times_are_those_that_the_file_gives(tmp_path: Path, frames: int) -> None:
    clip = Clip(frames / FRAME_RATE, ())
    clip.write(tmp_path / "clip.mp4")
    video = Video(tmp_path / "clip.mp4")
    assert video.duration_seconds == pytest.approx(clip.duration_seconds, abs=1e-3)
    for fps in (1.0, 3.0, 2.0, 7.0, 24.0):
        assert video.times(fps) == pytest.approx(clip.times(fps), abs=1e-6)


def named(rgb: NDArray[Any]) -> str:
    """The colour that is nearest."""
    return min(COLOURS, key=lambda colour: float(np.abs(np.array(COLOURS[colour], np.float64) - rgb).sum()))


def colour_of(frame: Frame, actor: Actor) -> str:
    """What the picture shows at the actor's centre, or on the upper rim of a ring."""
    x, y = actor.centre(frame.seconds or 0.0)
    y -= 0.82 * actor.radius if actor.shape == "ring" else 0
    patch = np.asarray(frame.image)[round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2]
    return named(np.median(patch, axis=(0, 1)))


PICTURED = (
    [("circle", "red"), ("square", "orange"), ("triangle", "yellow"), ("star", "green"), ("cross", "cyan")],
    [("ring", "blue"), ("circle", "purple"), ("square", "white"), ("star", "blue"), ("ring", "yellow")],
)


@pytest.mark.parametrize("pictured", PICTURED)
def test_the_file_shows_what_is_drawn(tmp_path: Path, pictured: list[tuple[str, str]]) -> None:
    """Every shape and colour through H.264 and back; the last one is there for six frames only."""
    lasting = [Actor(shape, colour, place, 25.0, 0.0, 9.0) for (shape, colour), place in zip(pictured, PLACES, strict=True)]
    flash = Actor(lasting[-1].shape, lasting[-1].colour, lasting[-1].place, 25.0, 0.75, 1.0)
    clip = Clip(1.5, (*lasting[:-1], flash), (50, 30, 60), 3)
    clip.write(tmp_path / "clip.mp4")
    frames = list(Video(tmp_path / "clip.mp4").sample(FRAME_RATE))
    assert len(frames) == 36
    for number, frame in enumerate(frames):
        assert frame.seconds == pytest.approx(number / FRAME_RATE, abs=1e-6)
        there = clip.visible(number / FRAME_RATE)
        assert (flash in there) == (18 <= number < 24)
        assert [colour_of(frame, actor) for actor in there] == [actor.colour for actor in there]
        difference = np.abs(np.asarray(frame.image, np.int16) - np.asarray(clip.draw(number / FRAME_RATE), np.int16))
        assert difference.mean() < 4
