"""Retrievers that bring what was not asked for: by seed, never what was shown, and nothing at all."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from act2see.core.errors import ConfigError, NoFrameError, ToolError
from act2see.core.interfaces import Sample
from act2see.core.spots import Spot, frames_of
from act2see.core.trace import Frame
from act2see.evaluation.frame_controls import BlurredFrames, OracleFrames, RandomFrames, WithheldFrames, WrongTimeFrames
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


ASKED = Sample("q1", Path("clip.mp4"), "When?", (), "then", "x", evidence_seconds=(0.9, 1.4))


def test_an_oracle_brings_what_is_known_to_be_right_the_middle_first(video: Video, number_of: Callable[[Frame], int]) -> None:
    oracle = OracleFrames().knowing(ASKED)
    frames = oracle.find(video, "anything", shown=(), count=2)
    assert [number_of(frame) for frame in frames] == [24, 32]  # 1.0 and 1.33 s, about 1.15 s
    (other,) = oracle.find(video, "anything", shown=(24 / 24,))
    assert number_of(other) == 32


def test_an_oracle_that_has_shown_it_all_brings_the_nearest_of_what_is_left(video: Video, number_of: Callable[[Frame], int]) -> None:
    oracle = OracleFrames().knowing(ASKED)
    (frame,) = oracle.find(video, "anything", shown=(24 / 24, 32 / 24))
    assert number_of(frame) in (16, 40)
    with pytest.raises(ToolError, match="every frame has been shown"):
        oracle.find(video, "anything", shown=video.times(3.0))


def test_an_oracle_needs_a_data_set_that_tells_it(video: Video) -> None:
    with pytest.raises(ConfigError, match="question 'q1'"):
        OracleFrames().knowing(replace(ASKED, evidence_seconds=None))


def test_withheld_frames_never_come(video: Video) -> None:
    with pytest.raises(NoFrameError, match="no frame was found"):
        WithheldFrames().find(video, "the star", shown=())
    assert WithheldFrames().name == "withheld"


class Finds:
    """A retriever that finds the frame at a given time, whatever is asked."""

    name = "finds"

    def __init__(self, *seconds: float) -> None:
        self.seconds = seconds

    def find(self, video: Video, query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
        if not self.seconds:
            raise ToolError("no frame was found")
        return list(video.frames_at(self.seconds[:count]))


def test_a_wrong_time_is_far_from_the_right_one_and_was_not_shown(video: Video, number_of: Callable[[Frame], int]) -> None:
    for seed in range(12):
        for right in video.times(3.0):
            (frame,) = WrongTimeFrames(Finds(right), seed=seed).find(video, "the star", shown=(0.0,))
            assert frame.seconds is not None
            assert abs(frame.seconds - right) >= video.duration_seconds / 4
            assert frame.seconds in set(video.times(3.0)) - {0.0}
            assert number_of(frame) == round(frame.seconds * 24)


def test_where_nothing_is_far_the_furthest_is_taken(video: Video) -> None:
    times = video.times(3.0)
    shown = [seconds for seconds in times if abs(seconds - times[2]) >= video.duration_seconds / 4]
    left = [seconds for seconds in times if seconds not in (*shown, times[2])]
    (frame,) = WrongTimeFrames(Finds(times[2])).find(video, "the star", shown=shown)
    assert frame.seconds == max(left, key=lambda seconds: abs(seconds - times[2]))


def test_several_wrong_times_differ(video: Video) -> None:
    found = WrongTimeFrames(Finds(0.0, 1 / 3)).find(video, "the star", shown=(), count=2)
    assert len({frame.seconds for frame in found}) == 2


def test_a_wrong_time_depends_on_the_seed_alone(video: Video) -> None:
    def drawn(seed: int) -> float | None:
        return WrongTimeFrames(Finds(0.0), seed=seed).find(video, "the star", shown=())[0].seconds

    assert [drawn(seed) for seed in range(9)] == [drawn(seed) for seed in range(9)]
    assert len({drawn(seed) for seed in range(9)}) > 1


def test_what_the_real_retriever_cannot_find_no_control_brings(video: Video) -> None:
    for control in (WrongTimeFrames(Finds()), BlurredFrames(Finds())):
        with pytest.raises(ToolError, match="no frame was found"):
            control.find(video, "the star", shown=())
    with pytest.raises(ToolError, match="every other frame"):
        WrongTimeFrames(Finds(0.0)).find(video, "the star", shown=video.times(3.0)[1:])


def test_a_blurred_frame_keeps_its_time_and_its_mean_and_loses_its_detail(video: Video) -> None:
    right = video.times(3.0)[1]
    (frame,) = BlurredFrames(Finds(right)).find(video, "the star", shown=())
    sharp, soft = (np.asarray(image, np.float32) for image in (video.frame_at(right).image, frame.image))
    assert frame.seconds == right
    assert soft.shape == sharp.shape
    assert abs(soft.mean() - sharp.mean()) < 3
    assert np.abs(np.diff(soft, axis=1)).max() < 0.2 * np.abs(np.diff(sharp, axis=1)).max()
    assert [WrongTimeFrames(Finds()).name, BlurredFrames(Finds()).name] == ["wrong time@3fps of finds", "blurred of finds"]


# In the place of a look with a time or a place: of the same kind, length and size


SPOTS = {"moment": Spot(0.5, 0.5), "stretch": Spot(0.25, 0.75), "part": Spot(0.5, 0.5, (0.1, 0.2, 0.4, 0.6))}


def span(frames: Sequence[Frame]) -> float:
    times = [frame.seconds or 0.0 for frame in frames]
    assert times == sorted(times)
    return times[-1] - times[0]


@pytest.mark.parametrize("kind", SPOTS)
def test_a_placebo_is_of_the_same_kind_and_drawn_by_seed(video: Video, kind: str) -> None:
    spot = SPOTS[kind]
    real = frames_of(video, spot)
    for seed in range(12):
        for control in (RandomFrames(seed=seed), WrongTimeFrames(RandomFrames(), seed=seed)):
            found = control.show(video, spot, shown=(0.0, 1.0, 2.0), count=8)
            again = control.show(Video(video.path), spot, shown=(0.0, 1.0, 2.0), count=8)
            assert [(frame.seconds, frame.box) for frame in found] == [(frame.seconds, frame.box) for frame in again]
            assert len(found) == len(real)
            assert abs(span(found) - span(real)) <= 1.01 / 24
            for frame, other in zip(found, real, strict=True):
                assert (frame.box is None) == (other.box is None)
                assert frame.box is None or frame.image.size == pytest.approx(other.image.size, abs=30)


def test_a_wrong_stretch_shares_no_moment_with_the_right_one_and_a_wrong_part_no_pixel(video: Video) -> None:
    for seed in range(12):
        control = WrongTimeFrames(RandomFrames(), seed=seed)
        right = {frame.seconds for frame in frames_of(video, SPOTS["stretch"])}
        assert not right & {frame.seconds for frame in control.show(video, SPOTS["stretch"], shown=(), count=8)}
        (part,) = control.show(video, SPOTS["part"], shown=(), count=8)
        assert part.box is not None
        assert part.seconds != pytest.approx(0.5)
        assert part.box[0] >= 0.4 or part.box[1] >= 0.6 or part.box[2] <= 0.1 or part.box[3] <= 0.2
        (moment,) = control.show(video, SPOTS["moment"], shown=(0.0, 1.0, 2.0), count=8)
        assert abs((moment.seconds or 0.0) - 0.5) > 0.3


def test_a_wrong_part_of_nearly_the_whole_picture_is_from_another_time(video: Video) -> None:
    (part,) = WrongTimeFrames(RandomFrames()).show(video, Spot(0.5, 0.5, (0, 0, 1, 1)), shown=(), count=8)
    assert part.box == (0, 0, 1, 1)
    assert part.seconds != pytest.approx(0.5)


def test_the_whole_video_has_no_wrong_stretch(video: Video) -> None:
    with pytest.raises(ToolError, match="no other time as long"):
        WrongTimeFrames(RandomFrames()).show(video, Spot(0, video.duration_seconds), shown=(), count=8)


def test_what_is_withheld_is_withheld_in_any_kind_of_look(video: Video) -> None:
    with pytest.raises(ToolError, match="no frame was found"):
        WithheldFrames().show(video, SPOTS["stretch"], shown=(), count=8)


def test_the_oracle_shows_the_evidence_in_the_kind_of_the_look(video: Video) -> None:
    oracle = OracleFrames(evidence_seconds=(1.0, 1.5))
    stretch = oracle.show(video, SPOTS["stretch"], shown=(), count=8)
    assert [stretch[0].seconds, stretch[-1].seconds] == pytest.approx([1.0, 1.5])
    assert len(stretch) == 8
    (part,) = oracle.show(video, SPOTS["part"], shown=(), count=8)
    assert part.seconds == pytest.approx(1.25)
    assert part.box == SPOTS["part"].box


class Plain:
    """A retriever without anything to say about times and places."""

    name = "plain"

    def find(self, video: Video, query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
        raise AssertionError("words were searched for")


def test_a_blurred_part_is_the_same_part(video: Video) -> None:
    (sharp,) = frames_of(video, SPOTS["part"])
    (soft,) = BlurredFrames(Plain()).show(video, SPOTS["part"], shown=(), count=8)
    assert (soft.seconds, soft.box, soft.image.size) == (sharp.seconds, sharp.box, sharp.image.size)
    assert np.asarray(soft.image, float).std() < 0.7 * np.asarray(sharp.image, float).std()
