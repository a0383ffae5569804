"""The search retriever over real small videos: what it finds, what it tells, what it keeps, and its options with small stand-ins."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from act2see.core.errors import ConfigError, ToolError
from act2see.core.trace import Frame
from act2see.storage.cache import Cache
from act2see.tools.index import Progress
from act2see.tools.retrievers.decomposition import Decomposition
from act2see.tools.retrievers.rerank import RERANKED_FRAMES
from act2see.tools.retrievers.search import CURVE_POINTS, SearchRetriever, thinned
from act2see.tools.retrievers.selection import Curve, Oracle, TopK
from act2see.video import Video
from tiny_encoder import Grey

RATE = 24


@pytest.fixture
def video(write_video: Callable[..., Path]) -> Video:
    """Four seconds of numbered frames: at 3 fps every eighth, 0 to 88."""
    return Video(write_video("clip.mp4", [n / RATE for n in range(96)]))


class Dot(Grey):
    """Scores that a test sets: the text names a score for each searched frame."""

    name = "dot"
    threshold = 0.5

    def encode_text(self, text: str) -> NDArray[np.float32]:
        return np.array([float(number) for number in text.split()], np.float32)

    def scores(self, frames: NDArray[np.floating], text: NDArray[np.float32]) -> NDArray[np.float32]:
        return text


def scores(**at: float) -> str:
    """A query to `Dot`: a flat 0.1 over twelve frames with these exceptions."""
    return " ".join(str(at.get(f"f{n}", 0.1)) for n in range(12))


def number(frame: Frame) -> int:
    return round((frame.seconds or 0.0) * RATE)


@pytest.mark.parametrize("select", ["grounding", "argmax", "top_k"])
def test_the_frame_that_was_asked_for_is_found(select: str, video: Video, number_of: Callable[[Frame], int]) -> None:
    for wanted in (0, 40, 88):
        (frame,) = SearchRetriever(Grey(), select=select).find(video, f"number {wanted}", shown=())
        assert number_of(frame) == wanted
        assert frame.seconds == pytest.approx(wanted / RATE)
        assert frame.match is not None
        assert frame.match.frame_index == wanted
        assert not frame.match.is_fallback


def test_frames_come_best_first_at_full_size_with_all_that_is_known(video: Video, number_of: Callable[[Frame], int]) -> None:
    found = SearchRetriever(Dot(), select="argmax").find(video, scores(f7=0.9, f2=0.8, f11=0.4), shown=(), count=3)
    assert [number_of(frame) for frame in found] == [56, 16, 88]
    assert [frame.score for frame in found] == pytest.approx([0.9, 0.8, 0.4])
    assert {frame.image.size for frame in found} == {video.size}
    matches = [frame.match for frame in found if frame.match]
    assert [match.is_fallback for match in matches] == [False, False, True]
    assert all(match.frame_index == n for match, n in zip(matches, (56, 16, 88), strict=True))


def test_grounding_tells_its_span_and_the_next_best(video: Video) -> None:
    (frame,) = SearchRetriever(Dot()).find(video, scores(f3=0.6, f4=0.9, f5=0.7, f10=0.55), shown=())
    assert frame.match is not None
    span = frame.match.span_seconds
    assert span is not None
    assert span[0] <= (frame.seconds or 0.0) <= span[1]
    assert number(frame) == 32
    assert frame.match.runners_up[0] == pytest.approx((80 / RATE, 0.55))


def test_a_frame_keeps_the_curve_that_it_was_chosen_from(video: Video) -> None:
    (frame,) = SearchRetriever(Dot()).find(video, scores(f3=0.6, f4=0.9), shown=())
    assert frame.match is not None
    seconds, values = zip(*frame.match.curve, strict=True)
    assert list(seconds) == sorted(seconds)
    assert values[4] == pytest.approx(0.9)
    assert len(values) == 12


@given(st.lists(st.floats(-1, 1, allow_nan=False, width=32), min_size=1, max_size=2000))
def test_of_a_long_curve_the_best_of_each_stretch_is_kept(values: list[float]) -> None:
    seconds = np.arange(len(values)) / 3
    curve = Curve(seconds, np.asarray(values), 0.5, np.arange(len(values)), key="x")
    kept = thinned(curve)
    assert len(kept) == min(len(values), CURVE_POINTS)
    assert max(score for _, score in kept) == float(f"{max(values):.4g}")
    assert [at for at, _ in kept] == sorted({at for at, _ in kept})


def test_what_was_shown_is_left_out_until_nothing_is_left(video: Video) -> None:
    retriever = SearchRetriever(Dot())
    query = scores(f4=0.9, f8=0.8)
    shown: list[float] = []
    for _ in range(12):
        (frame,) = retriever.find(video, query, shown=shown)
        assert frame.seconds is not None
        shown.append(frame.seconds)
    assert sorted(round(seconds * 3) for seconds in shown) == list(range(12))
    assert [round(seconds * 3) for seconds in shown[:2]] == [4, 8]
    with pytest.raises(ToolError, match="every frame at 3 fps has been shown") as raised:
        retriever.find(video, query, shown=shown)
    assert "\n" not in str(raised.value)
    assert retriever.search(video, query, shown=shown).frames == ()


def test_a_search_gives_the_curve_too(video: Video) -> None:
    found = SearchRetriever(Dot()).search(video, scores(f4=0.9))
    assert found.curve.seconds.tolist() == pytest.approx(video.times(3.0))
    assert found.curve.frame_indices.tolist() == list(range(0, 96, 8))
    assert found.curve.scores[4] == pytest.approx(0.9)
    assert (found.curve.threshold, found.notes) == (0.5, ())


def test_a_video_is_encoded_once_and_the_last_few_are_kept(video: Video, write_video: Callable[..., Path]) -> None:
    encoder = Grey()
    retriever = SearchRetriever(encoder)
    for query in ("number 0", "number 8"):
        retriever.find(video, query, shown=())
        retriever.find(Video(video.path), query, shown=())  # opened anew, but the same file
    assert encoder.images == 12
    others = [Video(write_video(f"{n}.mp4", [k / RATE for k in range(n + 8)])) for n in range(4)]
    for other in others:
        retriever.find(other, "number 0", shown=())
    made = encoder.images
    retriever.find(others[0], "number 0", shown=())
    assert encoder.images == made
    retriever.find(video, "number 0", shown=())  # the fifth last is made anew
    assert encoder.images == made + 12


def test_a_cache_outlives_the_retriever(video: Video, tmp_path: Path) -> None:
    reported: list[Progress] = []
    SearchRetriever(Grey(), cache=Cache(tmp_path / "cache"), progress=reported.append).find(video, "number 8", shown=())
    encoder = Grey()
    (frame,) = SearchRetriever(encoder, cache=Cache(tmp_path / "cache")).find(video, "number 8", shown=())
    assert number(frame) == 8
    assert encoder.images == 0
    assert reported[-1].done == reported[-1].total == 12


def test_the_rate_is_the_one_that_was_asked_for(video: Video) -> None:
    found = SearchRetriever(Grey(), fps=24.0, select="argmax").find(video, "number 41", shown=(), count=99)
    assert number(found[0]) == 41
    assert len(found) == 96


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "grey@3fps+grounding"),
        ({"select": "argmax", "fps": 0.5}, "grey@0.5fps+argmax"),
        ({"select": TopK(2.0)}, "grey@3fps+TopK(apart_seconds=2.0)"),
        ({"skip_duplicates": True, "keyframes_only": True}, "grey@3fps+grounding+skip-duplicates+keyframes"),
        ({"judge": lambda query, frames: 0, "decompose": lambda query: Decomposition()}, "grey@3fps+grounding+votes+judge"),
    ],
)
def test_the_name_says_what_two_traces_may_differ_in(options: dict[str, Any], name: str) -> None:
    assert SearchRetriever(Grey(), **options).name == name


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"fps": 0.0}, "must be above 0"),
        ({"fps": -1.0}, "must be above 0"),
        ({"fps": float("nan")}, "must be above 0"),
        ({"select": "best"}, "unknown selection 'best'; allowed: grounding, middle, argmax, top_k, uniform, random"),
        ({"select": "argmax", "decompose": lambda query: Decomposition()}, "needs the selection 'grounding'"),
    ],
)
def test_what_does_not_go_together_is_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        SearchRetriever(Grey(), **options)


def test_scores_that_are_no_numbers_are_refused(video: Video) -> None:
    with pytest.raises(ConfigError, match="encoder dot returned non-finite scores"):
        SearchRetriever(Dot()).find(video, scores(f3=float("nan")), shown=())


def test_a_choice_of_ones_own_is_used(video: Video) -> None:
    (frame,) = SearchRetriever(Dot(), select=Oracle([(1.9, 2.1)])).find(video, scores(f1=0.9), shown=())
    assert number(frame) == 48


def test_keyframes_first_finds_a_frame_between_them(write_video: Callable[..., Path]) -> None:
    path = write_video("gop.mp4", [n / RATE for n in range(96)], options={"g": "24", "keyint_min": "24", "sc_threshold": "0"})
    found = SearchRetriever(Grey(), keyframes_only=True, select="argmax").search(Video(path), "number 40")
    assert number(found.frames[0]) == 40


# A language model takes the query apart


def test_wordings_outvote_the_query(video: Video) -> None:
    query, wording = scores(f1=0.9, f8=0.55, f9=0.6), scores(f8=0.9, f9=0.8)
    taken_apart = Decomposition(rewrites=(wording, wording, wording))
    (alone,) = SearchRetriever(Dot()).find(video, query, shown=())
    (voted,) = SearchRetriever(Dot(), decompose=lambda _: taken_apart).find(video, query, shown=())
    assert number(alone) == 8
    assert number(voted) == 72  # in the stretch that the wordings agree on, the frame that fits the query itself best


def test_a_query_that_could_not_be_taken_apart_is_searched_for_and_noted(video: Video, caplog: pytest.LogCaptureFixture) -> None:
    retriever = SearchRetriever(Dot(), decompose=lambda _: Decomposition(problem="the query was searched for as it is"))
    found = retriever.search(video, scores(f8=0.9))
    assert number(found.frames[0]) == 64
    assert found.notes == ("the query was searched for as it is",)
    with caplog.at_level(logging.WARNING):
        retriever.find(video, scores(f8=0.9), shown=())
    assert "searched for as it is" in caplog.text


# A judge has the last word


def test_the_judge_sees_the_best_frames_in_order_of_time_and_has_the_last_word(video: Video) -> None:
    seen: list[tuple[str, list[int]]] = []

    def judge(query: str, frames: Sequence[Frame]) -> int:
        seen.append((query, [number(frame) for frame in frames]))
        return 1

    query = scores(f1=0.5, f7=0.9, f4=0.8)
    found = SearchRetriever(Dot(), select="top_k", judge=judge).find(video, query, shown=(), count=2)
    assert seen == [(query, [8, 32, 56, 80])]
    assert [number(frame) for frame in found] == [32, 56]
    assert [frame.score for frame in found] == pytest.approx([0.8, 0.9])


def test_the_judge_is_given_sixteen_frames_at_most(video: Video) -> None:
    counts: list[int] = []

    def judge(query: str, frames: Sequence[Frame]) -> int:
        counts.append(len(frames))
        return len(frames) - 1

    found = SearchRetriever(Grey(), select="argmax", fps=24.0, judge=judge).find(video, "number 40", shown=(), count=20)
    assert counts == [RERANKED_FRAMES]
    assert len({frame.seconds for frame in found}) == 20


def test_a_judge_that_cannot_say_leaves_the_order_and_that_is_noted(video: Video) -> None:
    found = SearchRetriever(Dot(), judge=lambda query, frames: None).search(video, scores(f7=0.9))
    assert number(found.frames[0]) == 56
    assert "chose no frame" in found.notes[0]
