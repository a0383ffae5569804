"""What a call brings: pictures that were generated, what is offered, what a budget allows, and a tool that breaks its promise."""

from collections.abc import Collection, Sequence

import pytest

from act2see.core import chat
from act2see.core.engine import Budget, LoopOptions, available_tools, insert, new_trace, reason
from act2see.core.errors import NoFrameError, OutOfMemoryToolError, ToolError
from act2see.core.interfaces import Generator, Retriever
from act2see.core.trace import Frame, Observation, Provenance
from act2see.video import Video
from engine_fakes import ANSWER, CALL, PICTURE, Numbered, Painter, Scripted, finished, fresh


def test_a_picture_is_generated_from_the_frame_that_fits_best_be_it_shown_or_not(video: Video) -> None:
    retriever, painter, trace = Numbered(), Painter(), fresh()
    backend = Scripted(["<generate> a blue star </generate>", ANSWER])
    for _ in reason(trace, video, backend, retriever, painter, options=LoopOptions(seed=7)):
        pass
    assert retriever.asked == [("a blue star", ())]
    assert painter.asked == [("a blue star", Frame(PICTURE, 0.1, score=0.5), 7)]
    assert trace.steps[1] == Observation(frames=(Frame(PICTURE, None, provenance=Provenance("a blue star", 0.1, "painter", 7)),))
    assert backend.told[0] == ("retrieve", "generate")
    assert (trace.looks, trace.finish) == (1, "answer")
    assert "generate" in trace.cost.seconds


@pytest.mark.parametrize(
    ("prompt", "part"), [("it never was", "faithful"), ("nothing", "no frame was found")], ids=["the generator refuses", "no frame to begin with"]
)
def test_a_picture_that_cannot_be_made_is_an_error_that_the_model_reads(video: Video, prompt: str, part: str) -> None:
    trace = fresh()
    for _ in reason(trace, video, Scripted([f"<generate>{prompt}</generate>", ANSWER]), Numbered(), Painter()):
        pass
    assert isinstance(trace.steps[1], Observation)
    assert part in (trace.steps[1].error or "")
    assert trace.finish == "answer"


@pytest.mark.parametrize(("call", "part"), [("<retrieve> a </retrieve>", "no retriever"), ("<generate> a </generate>", "no retriever")])
def test_a_call_for_a_tool_that_is_not_there_is_refused(video: Video, call: str, part: str) -> None:
    trace = fresh()
    for _ in reason(trace, video, Scripted([call, ANSWER]), None):
        pass
    assert isinstance(trace.steps[1], Observation)
    assert part in (trace.steps[1].error or "")
    assert trace.made_with["tools"] == "none"


@pytest.mark.parametrize(
    ("error", "read"),
    [
        (ToolError("the picture was refused"), "the picture was refused"),
        (NoFrameError("no frame was found"), "no frame was found: answer from what you have seen"),
        (OutOfMemoryToolError("out of memory"), "out of memory: answer from what you have seen"),
    ],
)
def test_the_model_reads_the_reason_and_where_no_frame_can_be_shown_advice(video: Video, error: ToolError, read: str) -> None:
    class Refuses(Numbered):
        def find(self, video: Video, query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
            raise error

    trace = fresh()
    list(reason(trace, video, Scripted([CALL, ANSWER]), Refuses()))
    assert [step for step in trace.steps if isinstance(step, Observation)] == [Observation(error=read)]
    assert "answer from" not in str(error)


def test_without_a_generator_nothing_is_generated(video: Video) -> None:
    trace, _ = finished(video, ["<generate> a </generate>", ANSWER])
    assert trace.steps[1] == Observation(error="nothing can be generated here: answer from what you have seen")


@pytest.mark.parametrize(
    ("retriever", "generator", "looks", "tools"),
    [
        (None, None, 1, ()),
        (Numbered(), None, 1, ("retrieve",)),
        (Numbered(), Painter(), 1, ("retrieve", "generate")),
        (Numbered(), Painter(), 0, ()),
    ],
)
def test_the_model_is_told_of_the_tools_that_it_has(
    retriever: Retriever | None, generator: Generator | None, looks: int, tools: tuple[chat.Tool, ...]
) -> None:
    assert available_tools(retriever, generator, LoopOptions(looks)) == tools


@pytest.mark.parametrize(
    ("budget", "says"),
    [
        (Budget(seconds=1.0), "the 1 seconds for this answer are spent"),
        (Budget(frames=2), "the 2 frames for this answer are spent"),
        (Budget(frames=3), None),
        (Budget(seconds=1.5), None),
        (Budget(), None),
    ],
)
def test_when_the_budget_is_spent_nothing_more_is_brought_and_the_model_answers(video: Video, budget: Budget, says: str | None) -> None:
    trace = new_trace(video, "What?", (), fps=1.0, id="t")
    assert len(trace.frames) == 2
    list(reason(trace, video, Scripted([CALL, ANSWER]), Numbered(), options=LoopOptions(max_looks=3, budget=budget)))
    observed = next(step for step in trace.steps if isinstance(step, Observation))
    assert observed.error == (None if says is None else f"{says}: answer from what you have seen")
    assert trace.finish == "answer"


def test_frames_that_were_brought_count_too(video: Video) -> None:
    trace = new_trace(video, "What?", (), fps=1.0, id="t")
    list(reason(trace, video, Scripted([CALL, CALL, ANSWER]), Numbered(), options=LoopOptions(max_looks=3, budget=Budget(frames=3))))
    brought = [step.error for step in trace.steps if isinstance(step, Observation)]
    assert brought == [None, "the 3 frames for this answer are spent: answer from what you have seen"]


def test_frames_are_put_in_unasked_at_their_place_in_time(video: Video) -> None:
    trace = new_trace(video, "Where is the star?", (), fps=1.0, id="t")
    given = [frame.seconds or 0.0 for frame in trace.frames]
    finder = Numbered()
    insert(trace, video, finder)
    assert finder.asked == [("Where is the star?", tuple(given))]
    assert [frame.seconds for frame in trace.frames] == sorted([*given, 0.1])
    assert trace.steps == []
    assert trace.made_with["inserted"] == "1 by numbered"
    nothing = new_trace(video, "nothing?", (), fps=1.0, id="t")
    insert(nothing, video, finder)
    assert [frame.seconds for frame in nothing.frames] == given


@pytest.mark.parametrize(
    ("offered", "call", "brings"),
    [
        (("generate",), "<generate> a star </generate>", True),
        (("generate",), "<retrieve> the star </retrieve>", False),
        (("retrieve",), "<retrieve> the star </retrieve>", True),
        (("retrieve",), "<generate> a star </generate>", False),
        ((), "<retrieve> the star </retrieve>", False),
    ],
)
def test_only_what_is_offered_is_told_of_and_can_be_called(video: Video, offered: tuple[chat.Tool, ...], call: str, brings: bool) -> None:
    backend = Scripted([call, ANSWER])
    trace = new_trace(video, "What?", (), fps=1.0, id="t")
    list(reason(trace, video, backend, Numbered(), Painter(), options=LoopOptions(max_looks=2, offered=offered)))
    assert backend.told == [offered, offered]
    assert trace.made_with["tools"] == (",".join(offered) or "none")
    observed = trace.steps[1]
    assert isinstance(observed, Observation)
    assert bool(observed.frames) is brings
    assert brings or observed.error == "this cannot be asked for here: answer from what you have seen"


def test_a_generator_without_a_retriever_is_no_tool() -> None:
    assert available_tools(None, Painter(), LoopOptions()) == ()


class Empty:
    """A retriever that breaks its promise to raise when there is no frame."""

    name = "empty"

    def find(self, video: Video, query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
        return []


@pytest.mark.parametrize("call", ["<retrieve> a </retrieve>", "<generate> a </generate>"])
def test_a_retriever_that_gives_nothing_is_an_error_that_the_model_reads(video: Video, call: str) -> None:
    trace = fresh()
    for _ in reason(trace, video, Scripted([call, ANSWER]), Empty(), Painter()):
        pass
    assert isinstance(trace.steps[1], Observation)
    assert trace.steps[1].error
    assert trace.finish == "answer"
