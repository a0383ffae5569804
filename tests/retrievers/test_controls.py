"""Retrievers that bring what was not asked for: by seed, never what was shown, and nothing at all."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from act2see.errors import ToolError
from act2see.retrievers.controls import RandomFrames, WithheldFrames
from act2see.trace import Frame
from act2see.video import Video


@pytest.fixture
def video(write_video: Callable[..., Path]) -> Video:
    """Two seconds of numbered frames: seven of them at 3 fps."""
    return Video(write_video("clip.mp4", [n / 24 for n in range(49)]))


def test_a_random_frame_depends_on_seed_and_query_alone(video: Video) -> None:
    def drawn(seed: int, query: str) -> list[float | None]:
        return [frame.seconds for frame in RandomFrames(seed=seed).find(Video(video.path), query, shown=(), count=3)]

    assert drawn(0, "the star") == drawn(0, "the star")
    assert len({tuple(drawn(seed, "the star")) for seed in range(8)}) > 4
    assert len({tuple(drawn(0, query)) for query in "abcdefgh"}) > 4


def test_a_random_frame_is_a_real_one_at_its_own_time(video: Video, number_of: Callable[[Frame], int]) -> None:
    for seed in range(5):
        (frame,) = RandomFrames(seed=seed).find(video, "the star", shown=())
        assert frame.seconds in video.times(3.0)
        assert number_of(frame) == round((frame.seconds or 0.0) * 24)
        assert frame.score is None


def test_every_frame_has_its_chance(video: Video) -> None:
    drawn = Counter(frame.seconds for seed in range(60) for frame in RandomFrames(seed=seed).find(video, "the star", shown=()))
    assert set(drawn) == set(video.times(3.0))
    assert max(drawn.values()) < 20


def test_what_was_shown_is_never_drawn(video: Video) -> None:
    given = video.times(1.0)
    near = [seconds + 0.005 for seconds in given]
    for shown in (given, near):
        found = {frame.seconds for seed in range(10) for frame in RandomFrames(seed=seed).find(video, "the star", shown=shown, count=2)}
        assert found <= set(video.times(3.0)) - set(given)
    assert len(RandomFrames().find(video, "the star", shown=given, count=99)) == 4


def test_when_all_was_shown_there_is_nothing_to_draw(video: Video) -> None:
    with pytest.raises(ToolError, match="every frame has been shown"):
        RandomFrames().find(video, "the star", shown=video.times(3.0))


def test_the_rate_is_part_of_the_name(video: Video) -> None:
    assert RandomFrames().name == "random@3fps"
    assert RandomFrames(fps=0.5).name == "random@0.5fps"
    assert len(RandomFrames(fps=24.0).find(video, "the star", shown=(), count=99)) == 49


def test_withheld_frames_never_come(video: Video) -> None:
    with pytest.raises(ToolError, match="no frame was found: answer from what you have seen"):
        WithheldFrames().find(video, "the star", shown=())
    assert WithheldFrames().name == "withheld"
