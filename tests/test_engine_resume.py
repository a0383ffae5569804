"""A trace that was left at any point is carried on to the same end, and laws over whatever a model may write."""

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from act2see.core.engine import Delta, LoopOptions, reason
from act2see.core.errors import BackendError, VideoError
from act2see.core.interfaces import Backend
from act2see.core.protocol import STOPS
from act2see.core.trace import Generate, Observation, Retrieve, Step, Thought, Trace
from act2see.video import Video
from engine_fakes import ANSWER, CALL, Numbered, Painter, Scripted, Stopped, finished, fresh, written

SCRIPTS = [
    [CALL, ANSWER],
    ["<answer>A</answer>"],
    [CALL, "<retrieve> nothing </retrieve>", "<frame>x</frame>", ANSWER],
    ["<retrieve></retrieve>"] * 4,
    [CALL, " I cannot say."],
]


@pytest.mark.parametrize("texts", SCRIPTS)
def test_a_trace_that_was_left_at_any_point_ends_as_the_uninterrupted_one(video: Video, texts: list[str]) -> None:
    whole, _ = finished(video, texts, max_looks=2)
    events = sum(1 for _ in reason(fresh(), video, Scripted(texts), Numbered(), options=LoopOptions(max_looks=2)))
    for stop in range(events + 1):
        trace = fresh()
        list(itertools.islice(reason(trace, video, Scripted(texts), Numbered(), options=LoopOptions(max_looks=2)), stop))
        assert trace.steps == whole.steps[: len(trace.steps)]
        list(reason(trace, video, Scripted(texts), Numbered(), options=LoopOptions(max_looks=2)))
        assert (trace.steps, trace.finish) == (whole.steps, whole.finish), f"stopped after {stop} events"


def test_a_trace_that_was_cut_between_any_two_steps_is_carried_on(video: Video) -> None:
    texts = [CALL, " And<retrieve> more </retrieve>", ANSWER]
    whole, _ = finished(video, texts, max_looks=2)
    for count in range(len(whole.steps) + 1):
        trace = fresh()
        trace.steps = whole.steps[:count]
        list(reason(trace, video, Scripted(texts), Numbered(), options=LoopOptions(max_looks=2)))
        assert (trace.steps, trace.finish) == (whole.steps, "answer"), f"cut after {count} steps"


def test_a_finished_trace_is_left_alone(video: Video) -> None:
    trace, _ = finished(video, [CALL, ANSWER])
    steps, backend = list(trace.steps), Scripted(["<answer>B</answer>"])
    assert list(reason(trace, video, backend, Numbered())) == []
    assert (trace.steps, backend.read) == (steps, [])


def test_a_finished_trace_keeps_how_it_was_made(video: Video) -> None:
    trace, _ = finished(video, [CALL, ANSWER])
    made_with = dict(trace.made_with)
    list(reason(trace, video, Scripted([], made_with={"backend": "another"}), None))
    assert trace.made_with == made_with


def test_a_dead_backend_leaves_a_trace_that_goes_on(video: Video) -> None:
    trace, backend = fresh(), Scripted([CALL, ANSWER], fails=1)
    with pytest.raises(BackendError, match="gone"):
        list(reason(trace, video, backend, Numbered()))
    assert (trace.steps, trace.finish) == ([], None)
    list(reason(trace, video, backend, Numbered()))
    assert (trace.finish, trace.looks) == ("answer", 1)


def test_a_video_that_vanishes_leaves_a_trace_that_goes_on(video: Video) -> None:
    trace, retriever = fresh(), Numbered(breaks=1)
    with pytest.raises(VideoError, match="gone"):
        list(reason(trace, video, Scripted([CALL, ANSWER]), retriever))
    assert trace.steps == [Thought("<think>I look."), Retrieve(" the star ")]
    list(reason(trace, video, Scripted([CALL, ANSWER]), retriever))
    assert (trace.finish, trace.looks) == ("answer", 1)


# Laws over whatever a model may write


tags = st.sampled_from([f"<{slash}{name}>" for name in ("think", "retrieve", "generate", "frame", "answer") for slash in ("", "/")])
words = st.sampled_from(["the star", " ", "nothing", "A", "\n", "never", "<3.0 seconds>", "★"])


def until_stop(text: str) -> str:
    ends = [at + len(stop) for stop in STOPS if (at := text.find(stop)) >= 0]
    return text[: min(ends)] if ends else text


scripts = st.lists(st.lists(tags | words, max_size=6).map("".join).map(until_stop), max_size=6)
stops = st.sampled_from(["end", "length"])
looks = st.integers(0, 2)


def run(trace: Trace, video: Video, backend: Backend, max_looks: int) -> Iterator[Delta | Step]:
    return reason(trace, video, backend, Numbered(), Painter(), options=LoopOptions(max_looks=max_looks))


@given(scripts, stops, looks)
def test_whatever_a_model_writes_the_loop_ends_and_loses_no_word(video: Video, texts: list[str], stopped: Stopped, max_looks: int) -> None:
    trace, backend = fresh(), Scripted(texts, stopped)
    events = list(run(trace, video, backend, max_looks))
    turns = 1 + sum(isinstance(step, Observation) for step in trace.steps)
    assert "".join(event.text for event in events if isinstance(event, Delta)) == written(trace)
    assert written(trace) == "".join(texts[:turns] if trace.finish != "errors" else texts[: turns - 1])
    assert [event for event in events if not isinstance(event, Delta)] == trace.steps
    assert trace.finish in ("answer", stopped, "errors")
    assert (trace.answer is not None) == (trace.finish == "answer")
    assert trace.looks <= max_looks
    for before, step in itertools.pairwise([Thought(""), *trace.steps]):
        assert isinstance(step, Observation) or not isinstance(before, Retrieve | Generate)


@given(scripts, stops, looks, st.data())
def test_whatever_a_model_writes_a_left_trace_ends_the_same(
    video: Video, texts: list[str], stopped: Stopped, max_looks: int, data: st.DataObject
) -> None:
    whole = fresh()
    events = len(list(run(whole, video, Scripted(texts, stopped), max_looks)))
    trace = fresh()
    for stop in sorted(data.draw(st.lists(st.integers(0, events), max_size=3))):
        list(itertools.islice(run(trace, video, Scripted(texts, stopped), max_looks), stop))
    list(run(trace, video, Scripted(texts, stopped), max_looks))
    assert (trace.steps, trace.finish) == (whole.steps, whole.finish)
