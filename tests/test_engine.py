"""The loop: calls become observations, nothing that a model writes raises, and a trace says how it was made."""

import pytest

from act2see.core.engine import MAX_ERRORS_IN_A_ROW, Delta, new_trace, reason
from act2see.core.trace import Answer, Cost, Observation, Retrieve, Thought
from act2see.video import Video
from engine_fakes import ANSWER, CALL, Numbered, Painter, Scripted, Stopped, finished, fresh, seen_at

# What a trace becomes


def test_a_new_trace_holds_the_videos_frames_and_has_not_begun(video: Video) -> None:
    trace = new_trace(video, "What?", ["red", "blue"], fps=2, id="t")
    assert [frame.seconds for frame in trace.frames] == [0.0, 0.5, 1.0, 1.5]
    assert (trace.video, trace.duration_seconds, trace.choices) == (str(video.path), 2.0, ("red", "blue"))
    assert (trace.steps, trace.finish, trace.cost) == ([], None, Cost())


def test_an_answer_without_a_look(video: Video) -> None:
    trace = fresh()
    events = list(reason(trace, video, Scripted(["<think>It is red.</think><answer> A </answer>"]), Numbered()))
    assert "".join(event.text for event in events if isinstance(event, Delta)) == "<think>It is red.</think><answer> A </answer>"
    assert [event for event in events if not isinstance(event, Delta)] == trace.steps == [Thought("<think>It is red.</think>"), Answer(" A ")]
    assert (trace.finish, trace.answer, trace.looks) == ("answer", "A", 0)


def test_a_look_brings_a_frame_that_the_model_reads_next(video: Video) -> None:
    trace, backend = finished(video, [CALL, ANSWER])
    assert trace.steps == [Thought("<think>I look."), Retrieve(" the star "), seen_at(0.1), Thought(" It is red.</think>"), Answer(" A ")]
    assert backend.read == [[], trace.steps[:3]]
    assert backend.told == [("retrieve",)] * 2
    assert (trace.finish, trace.looks) == ("answer", 1)


def test_what_was_shown_is_not_shown_again(video: Video) -> None:
    retriever = Numbered()
    trace, _ = finished(video, [CALL, " And<retrieve>more</retrieve>", ANSWER], max_looks=3, retriever=retriever)
    assert retriever.asked == [("the star", (0.0, 1.0)), ("more", (0.0, 1.0, 0.1))]
    assert [step.frames[0].seconds for step in trace.steps if isinstance(step, Observation)] == [0.1, 1.1]
    assert trace.looks == 2


def test_a_look_too_many_is_an_error_that_the_model_reads(video: Video) -> None:
    retriever = Numbered()
    trace, backend = finished(video, [CALL, " More<retrieve>more</retrieve>", ANSWER], retriever=retriever)
    refused = Observation(error="no look is left (at most 1): answer from what you have seen")
    assert trace.steps[5] == refused
    assert backend.read[-1][-1] == refused
    assert len(retriever.asked) == 1
    assert (trace.finish, trace.answer, trace.looks) == ("answer", "A", 1)


def test_without_looks_no_tool_is_told_and_a_call_is_refused(video: Video) -> None:
    retriever = Numbered()
    trace, backend = finished(video, [CALL, ANSWER], max_looks=0, retriever=retriever)
    assert backend.told == [(), ()]
    assert trace.made_with["tools"] == "none"
    assert "retriever" not in trace.made_with
    assert trace.steps[2] == Observation(error="no look is left (at most 0): answer from what you have seen")
    assert retriever.asked == []
    assert trace.finish == "answer"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("<retrieve> </retrieve>", "empty"),
        ("<retrieve> a <retrieve> b </retrieve>", "tags inside"),
        ("<retrieve> a <generate> b </generate>", "tags inside"),
        ("<retrieve> a </generate>", "same tag"),
        ("<answer> a </retrieve>", "same tag"),
        ("a </answer>", "without an opening"),
        ("<answer> <retrieve> a </retrieve>", "tags inside"),
        ("<answer> <frame> A </answer>", "tags inside"),
        ("<answer>  </answer>", "empty"),
        (f"<retrieve>{'x' * 10_000}</retrieve>", "10,000 characters"),
        ("<frame><3.0 seconds> a red star </frame>", "only the tool"),
        ("<retrieve> a <frame> it is there </frame>", "only the tool"),
    ],
)
def test_a_malformed_call_is_an_error_that_the_model_reads(video: Video, text: str, part: str) -> None:
    retriever = Numbered()
    trace, backend = finished(video, [text, ANSWER], retriever=retriever)
    thought, observation = trace.steps[:2]
    assert thought == Thought(text)
    assert isinstance(observation, Observation)
    assert part in (observation.error or "")
    assert backend.read[-1] == trace.steps[:2]
    assert retriever.asked == []
    assert (trace.finish, trace.answer, trace.looks) == ("answer", "A", 0)


@pytest.mark.parametrize("stopped", ["end", "length"])
@pytest.mark.parametrize("text", ["<think>I look<retrieve> the star", "<answer> A", "It is A.", "", "</think>", "<frame> a red star"])
def test_a_turn_that_ends_without_an_answer_has_none(video: Video, text: str, stopped: Stopped) -> None:
    trace, _ = finished(video, [text], without_tag=stopped)
    assert trace.steps == ([Thought(text)] if text else [])
    assert (trace.finish, trace.answer) == (stopped, None)


def test_a_model_that_keeps_failing_is_stopped(video: Video) -> None:
    trace, backend = finished(video, ["<retrieve></retrieve>"] * 9)
    assert (trace.finish, trace.answer) == ("errors", None)
    assert len(backend.read) == sum(isinstance(step, Observation) for step in trace.steps) == MAX_ERRORS_IN_A_ROW


def test_a_frame_in_between_forgives_the_errors_before_it(video: Video) -> None:
    bad, errors = "<retrieve><retrieve> a </retrieve>", MAX_ERRORS_IN_A_ROW - 1  # malformed in open reasoning too
    trace, _ = finished(video, [*[bad] * errors, CALL, *[bad] * errors, ANSWER])
    assert (trace.finish, trace.answer) == ("answer", "A")


def test_a_tools_failure_is_an_error_that_the_model_reads(video: Video) -> None:
    trace, backend = finished(video, ["<retrieve> nothing </retrieve>", "<retrieve> the star </retrieve>", ANSWER])
    assert trace.steps[1] == Observation(error="no frame was found")
    assert backend.read[1] == trace.steps[:2]
    assert trace.steps[3] == seen_at(0.1)  # a failed look is not counted
    assert trace.finish == "answer"


# What is recorded


def test_a_trace_says_how_it_was_made_and_what_it_cost(video: Video) -> None:
    trace = fresh()
    for _ in reason(trace, video, Scripted([CALL, ANSWER]), Numbered(), Painter()):
        pass
    assert trace.made_with == {
        "backend": "scripted", "rendering": "same_turn", "tools": "retrieve,generate", "retriever": "numbered", "generator": "painter",
    }  # fmt: skip
    assert (trace.cost.tokens_in, trace.cost.tokens_out, trace.cost.tokens_reused) == (20, len(CALL + ANSWER), 10)
    assert trace.cost.seconds["decode"] == 2.0
    assert trace.cost.seconds["retrieve"] >= 0


def test_every_step_is_in_the_trace_before_it_is_told(video: Video) -> None:
    trace = fresh()
    for event in reason(trace, video, Scripted([CALL, "<retrieve></retrieve>", ANSWER]), Numbered()):
        assert isinstance(event, Delta) or any(event is step for step in trace.steps)
