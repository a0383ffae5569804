"""The loop: calls become observations, nothing that a model writes raises, and a trace that was left at any point is carried on to the same end."""

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from collections.abc import Generator as Yields
from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from act2see import chat
from act2see.engine import MAX_ERRORS_IN_A_ROW, Budget, Delta, available_tools, insert, new_trace, reason
from act2see.errors import BackendError, ToolError, VideoError
from act2see.interfaces import Backend, Continuation, Generator, Retriever
from act2see.synthetic.world import Clip
from act2see.trace import Answer, Cost, Frame, Generate, Observation, Provenance, Retrieve, Step, Thought, Trace
from act2see.video import Video

PICTURE = Image.new("RGB", (8, 8), (200, 10, 10))
CALL, ANSWER = "<think>I look.<retrieve> the star </retrieve>", " It is red.</think><answer> A </answer>"
Stopped = Literal["tag", "end", "length"]


@dataclass
class Scripted:
    """A model that writes the text of its turn after as many observations as the trace holds; like a real one it goes on from its own last words."""

    texts: Sequence[str]
    without_tag: Stopped = "end"
    fails: int = 0
    """How many of the first calls end in an error halfway."""
    made_with: Mapping[str, str] = field(default_factory=lambda: {"backend": "scripted", "rendering": "same_turn"})
    read: list[list[Step]] = field(default_factory=list)
    told: list[tuple[chat.Tool, ...]] = field(default_factory=list)

    def decode(self, trace: Trace, tools: Sequence[chat.Tool]) -> Yields[str, None, Continuation]:
        self.read.append(list(trace.steps))
        self.told.append(tuple(tools))
        pieces = chat.render(trace.steps)
        turn = sum(isinstance(piece, Observation) for piece in pieces)
        whole = self.texts[turn] if turn < len(self.texts) else ""
        written = pieces[-1] if pieces and isinstance(pieces[-1], str) else ""
        text = whole.removeprefix(written)
        for start in range(0, len(text), 7):
            yield text[start : start + 7]
            if self.fails:
                self.fails -= 1
                raise BackendError("the server is gone")
        return Continuation(text, "tag" if text.endswith(chat.STOPS) else self.without_tag, Cost(10, len(text), 5, {"decode": 1.0}))


@dataclass
class Numbered:
    """Gives the frame at 0.1, 1.1, 2.1, … seconds, the first that was not shown; fails for a query with 'nothing' in it."""

    name: str = "numbered"
    asked: list[tuple[str, tuple[float, ...]]] = field(default_factory=list)
    breaks: int = 0

    def find(self, video: Video, query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
        self.asked.append((query, tuple(shown)))
        if self.breaks:
            self.breaks -= 1
            raise VideoError("the file is gone")
        if "nothing" in query:
            raise ToolError("no frame was found")
        seconds = next(n + 0.1 for n in itertools.count() if n + 0.1 not in shown)
        return [Frame(PICTURE, seconds, score=0.5)]


@dataclass
class Painter:
    """Gives back its anchor as a generated frame; refuses a prompt with 'never' in it."""

    name: str = "painter"
    asked: list[tuple[str, Frame, int]] = field(default_factory=list)

    def generate(self, prompt: str, anchor: Frame, *, seed: int) -> Frame:
        self.asked.append((prompt, anchor, seed))
        if "never" in prompt:
            raise ToolError("no faithful picture could be made")
        return Frame(anchor.image, None, provenance=Provenance(prompt, anchor.seconds, "painter", seed))


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Video:
    path = tmp_path_factory.mktemp("engine") / "clip.mp4"
    Clip(2.0, ()).write(path)
    return Video(path)


def fresh(frames: int = 2) -> Trace:
    return Trace("t", "clip.mp4", "What colour is the star?", tuple(Frame(PICTURE, float(n)) for n in range(frames)), ("red", "blue"))


def finished(
    video: Video, texts: Sequence[str], *, max_looks: int = 1, retriever: Retriever | None = None, without_tag: Stopped = "end"
) -> tuple[Trace, Scripted]:
    backend, trace = Scripted(texts, without_tag), fresh()
    for _ in reason(trace, video, backend, retriever or Numbered(), max_looks=max_looks):
        pass
    return trace, backend


def written(trace: Trace) -> str:
    """Everything that the model wrote."""
    return "".join(piece for piece in chat.render(trace.steps) if isinstance(piece, str))


def seen_at(seconds: float) -> Observation:
    return Observation(frames=(Frame(PICTURE, seconds, score=0.5),))


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
    bad, errors = "<retrieve></retrieve>", MAX_ERRORS_IN_A_ROW - 1
    trace, _ = finished(video, [*[bad] * errors, CALL, *[bad] * errors, ANSWER])
    assert (trace.finish, trace.answer) == ("answer", "A")


def test_a_tools_failure_is_an_error_that_the_model_reads(video: Video) -> None:
    trace, backend = finished(video, ["<retrieve> nothing </retrieve>", "<retrieve> the star </retrieve>", ANSWER])
    assert trace.steps[1] == Observation(error="no frame was found")
    assert backend.read[1] == trace.steps[:2]
    assert trace.steps[3] == seen_at(0.1)  # a failed look is not counted
    assert trace.finish == "answer"


# Generating


def test_a_picture_is_generated_from_the_frame_that_fits_best_be_it_shown_or_not(video: Video) -> None:
    retriever, painter, trace = Numbered(), Painter(), fresh()
    backend = Scripted(["<generate> a blue star </generate>", ANSWER])
    for _ in reason(trace, video, backend, retriever, painter, seed=7):
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
    assert available_tools(retriever, generator, looks) == tools


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
    list(reason(trace, video, Scripted([CALL, ANSWER]), Numbered(), max_looks=3, budget=budget))
    observed = next(step for step in trace.steps if isinstance(step, Observation))
    assert observed.error == (None if says is None else f"{says}: answer from what you have seen")
    assert trace.finish == "answer"


def test_frames_that_were_brought_count_too(video: Video) -> None:
    trace = new_trace(video, "What?", (), fps=1.0, id="t")
    list(reason(trace, video, Scripted([CALL, CALL, ANSWER]), Numbered(), max_looks=3, budget=Budget(frames=3)))
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
    list(reason(trace, video, backend, Numbered(), Painter(), max_looks=2, offered=offered))
    assert backend.told == [offered, offered]
    assert trace.made_with["tools"] == (",".join(offered) or "none")
    observed = trace.steps[1]
    assert isinstance(observed, Observation)
    assert bool(observed.frames) is brings
    assert brings or observed.error == "this cannot be asked for here: answer from what you have seen"


def test_a_generator_without_a_retriever_is_no_tool() -> None:
    assert available_tools(None, Painter(), 1) == ()


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


# Going on


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
    events = sum(1 for _ in reason(fresh(), video, Scripted(texts), Numbered(), max_looks=2))
    for stop in range(events + 1):
        trace = fresh()
        list(itertools.islice(reason(trace, video, Scripted(texts), Numbered(), max_looks=2), stop))
        assert trace.steps == whole.steps[: len(trace.steps)]
        list(reason(trace, video, Scripted(texts), Numbered(), max_looks=2))
        assert (trace.steps, trace.finish) == (whole.steps, whole.finish), f"stopped after {stop} events"


def test_a_trace_that_was_cut_between_any_two_steps_is_carried_on(video: Video) -> None:
    texts = [CALL, " And<retrieve> more </retrieve>", ANSWER]
    whole, _ = finished(video, texts, max_looks=2)
    for count in range(len(whole.steps) + 1):
        trace = fresh()
        trace.steps = whole.steps[:count]
        list(reason(trace, video, Scripted(texts), Numbered(), max_looks=2))
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
    ends = [at + len(stop) for stop in chat.STOPS if (at := text.find(stop)) >= 0]
    return text[: min(ends)] if ends else text


scripts = st.lists(st.lists(tags | words, max_size=6).map("".join).map(until_stop), max_size=6)
stops = st.sampled_from(["end", "length"])
looks = st.integers(0, 2)


def run(trace: Trace, video: Video, backend: Backend, max_looks: int) -> Iterator[Delta | Step]:
    return reason(trace, video, backend, Numbered(), Painter(), max_looks=max_looks)


@given(scripts, stops, looks)
def test_whatever_a_model_writes_the_loop_ends_and_loses_no_word(video: Video, texts: list[str], stopped: Stopped, max_looks: int) -> None:
    trace, backend = fresh(), Scripted(texts, stopped)
    events = list(run(trace, video, backend, max_looks))
    assert "".join(event.text for event in events if isinstance(event, Delta)) == written(trace) == "".join(texts[: len(backend.read)])
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
