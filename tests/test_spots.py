"""Looks with a time or a place: what of a call's words is one, what is refused and with which advice, and which pictures come back."""

from collections.abc import Collection
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from act2see.config.models import ToolName, named_tools
from act2see.core import chat, spots
from act2see.core.chat import Tool
from act2see.core.engine import Budget, LoopOptions, available_tools, new_trace, reason
from act2see.core.errors import ToolError
from act2see.core.protocol import SPOT_PLACEHOLDERS, first_use
from act2see.core.spots import Spot
from act2see.core.trace import Box, Call, Frame, Generate, Observation, Retrieve, Trace
from act2see.synthetic.world import Actor, Clip
from act2see.video import Video
from engine_fakes import ANSWER, PICTURE, Numbered, Painter, Scripted

ALL: tuple[Tool, ...] = ("retrieve", "generate", "clip", "zoom")
SECONDS = st.integers(0, 9_999_999).map(lambda number: number / 1000)
SIDES = st.integers(0, 1000).map(lambda number: number / 1000)


def read(query: str, offered: Collection[Tool] = ALL) -> Spot | None:
    return spots.parse(query, spots.tool_of(Retrieve(query), offered))


def asked(video: Video, *queries: str, options: LoopOptions | None = None, retriever: Numbered | None = None) -> tuple[Trace, list[Observation]]:
    """A trace in which a model makes these calls one after the other, and what it got."""
    trace = new_trace(video, "What?", (), fps=1.0, id="t")
    script = Scripted([*(f"<retrieve> {query} </retrieve>" for query in queries), ANSWER])
    list(reason(trace, video, script, retriever, options=options or LoopOptions(max_looks=9, offered=ALL)))
    return trace, [step for step in trace.steps if isinstance(step, Observation)]


@given(SECONDS)
def test_a_time_is_read_as_it_was_written(seconds: float) -> None:
    for text in (f"at {seconds} s", f" AT  {seconds}s ", f"at {seconds} seconds"):
        assert read(text) == Spot(seconds, seconds)


@given(SECONDS, SECONDS)
def test_a_stretch_is_read_as_it_was_written_and_refused_where_it_does_not_run_forwards(start: float, stop: float) -> None:
    for text in (f"{start} to {stop} s", f"{start} s to {stop} s", f"{start}s to {stop} seconds"):
        if start < stop:
            assert read(text) == Spot(start, stop)
        else:
            with pytest.raises(ToolError, match="write the earlier time first"):
                read(text)


@given(st.tuples(SIDES, SIDES, SIDES, SIDES), SECONDS)
def test_a_zoom_is_read_as_it_was_written_and_refused_where_its_box_is_empty(box: Box, seconds: float) -> None:
    text = f"zoom {' '.join(map(str, box))} at {seconds} s"
    if box[0] < box[2] and box[1] < box[3]:
        assert read(text) == Spot(seconds, seconds, box)
        assert read(f"zoom {spots.box_text(box)} at {seconds} s") == Spot(seconds, seconds, box)
    else:
        with pytest.raises(ToolError, match="is empty"):
            read(text)


@given(
    st.text(max_size=60)
    | st.from_regex(r"(at|zoom|from|between)? ?[-+.,:0-9e]{0,9} ?(s|sec|to|and|-)? ?[-0-9.]{0,5}( s)?( at [0-9] s)?", fullmatch=True)
)
def test_whatever_is_written_is_free_words_a_spot_or_refused_with_an_example(text: str) -> None:
    found: Spot | None = None
    refused = ""
    try:
        found = read(text)
    except ToolError as error:
        refused = str(error)
    assert not refused or any(part in refused for part in ("12 to 15 s", "0.6 0.5 at 12.5 s", "from 0 to 1"))
    assert found is None or (0 <= found.start <= found.stop and (found.box is None or found.start == found.stop))


@given(st.text(max_size=60))
def test_without_these_tools_every_call_is_free_words(text: str) -> None:
    for query in (text, f"at {text}", f"zoom {text}", "at 12.5 s", "12 to 15 s", "zoom 0 0 1 1 at 2 s"):
        assert spots.tool_of(Retrieve(query), ("retrieve", "generate")) == "retrieve"
        assert read(query, ("retrieve", "generate")) is None


@pytest.mark.parametrize(
    "words", ["12 to 15 people", "at 3 o'clock", "at the top", "42", "the zoom lens", "from 3 to 4 people", "2-3 cars", "a 5 s clip"]
)
def test_words_that_only_hold_a_number_are_searched_for(words: str) -> None:
    assert read(words) is None


@pytest.mark.parametrize(
    ("call", "part"),
    [
        ("at 12:30", "write only at 12.5 s, or 12 to 15 s"),
        ("at -1 s", "plain seconds"),
        ("at 1e5 s", "plain seconds"),
        ("at 3 s the man falls", "write only"),
        ("12 to 15", "write only"),
        ("12-15 s", "write only"),
        ("from 3 to 4 s", "write only"),
        ("between 3 and 4 seconds", "write only"),
        ("12 to 15 s of the race", "write only"),
        ("5 s", "write only"),
        ("15 to 12 s", "runs backwards"),
        ("12 to 12 s", "is empty"),
        ("zoom in on the sign", "write only zoom 0.2 0.1 0.6 0.5 at 12.5 s"),
        ("zoom 0.2 0.1 0.6 at 12.5 s", "write only zoom"),
        ("zoom 0.2 0.1 0.6 0.5", "write only zoom"),
        ("zoom 0,2 0,1 0,6 0,5 at 3 s", "write only zoom"),
        ("zoom 20 10 60 50 at 3 s", "leaves the picture"),
        ("zoom -0.1 0 1 1 at 3 s", "leaves the picture"),
        ("zoom 0.6 0.1 0.2 0.5 at 3 s", "left less than right"),
        ("zoom nan 0 1 1 at 3 s", "write only zoom"),
    ],
)
def test_what_is_malformed_is_refused_with_advice(call: str, part: str) -> None:
    with pytest.raises(ToolError, match=r"at 12\.5 s|12 to 15 s|0 to 1") as caught:
        read(call)
    assert part in str(caught.value)


def test_a_moment_brings_the_frame_on_screen_then(video: Video) -> None:
    trace, (seen,) = asked(video, "at 0.52 s")
    assert [frame.seconds for frame in seen.frames] == [pytest.approx(0.5)]
    assert trace.looks == 1
    assert trace.finish == "answer"
    assert "clip" in trace.cost.seconds


def test_a_stretch_brings_up_to_eight_frames_of_it_as_one_observation(video: Video) -> None:
    trace, (long, short) = asked(video, "0.1 to 1.9 s", "0.50 to 0.55 s")
    times = [frame.seconds or 0.0 for frame in long.frames]
    assert len(times) == 8
    assert times == sorted(times)
    assert times[0] <= 0.1
    assert 1.85 < times[-1] <= 1.9
    assert [frame.seconds for frame in short.frames] == [pytest.approx(12 / 24), pytest.approx(13 / 24)]
    assert (trace.looks, len(trace.brought_frames)) == (2, 10)


def test_each_frame_of_a_stretch_counts_towards_the_budget(video: Video) -> None:
    options = LoopOptions(max_looks=9, offered=ALL, budget=Budget(frames=5))
    trace, (first, second) = asked(video, "0.1 to 1.9 s", "at 0.5 s", options=options)
    assert (len(trace.frames), len(first.frames)) == (2, 3)
    assert second.error == "the 5 frames for this answer are spent: answer from what you have seen"


@pytest.mark.parametrize(
    ("call", "part"),
    [
        ("at 2.5 s", "there is nothing at 2.5 s: the video runs from 0 to 2.00 s"),
        ("1 to 3 s", "there is nothing at 3 s"),
        ("zoom 0 0 1 1 at 9 s", "there is nothing at 9 s"),
        ("zoom 0 0.5 1 0.500001 at 1 s", "too narrow"),
        ("at 1.01 s", "has been shown already"),
        ("12 to 9 s", "runs backwards"),
    ],
)
def test_what_the_video_does_not_have_is_an_error_that_the_model_reads_and_no_look(video: Video, call: str, part: str) -> None:
    trace, (seen,) = asked(video, call)
    assert part in (seen.error or "")
    assert trace.looks == 0
    assert trace.finish == "answer"


def test_the_end_that_an_error_names_may_be_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "odd.mp4"
    Clip(28 / 24, ()).write(path)  # 1.1666… s, which must not be rounded up
    _, (error, seen) = asked(Video(path), "at 2 s", "at 1.16 s")
    assert "from 0 to 1.16 s" in (error.error or "")
    assert seen.frames


def test_a_zoom_is_cut_from_the_full_size_picture_and_enlarged(tmp_path: Path) -> None:
    path = tmp_path / "star.mp4"
    Clip(2.0, (Actor("square", "red", "left", 25, 0, 3, sway=0),)).write(path)
    video = Video(path)
    trace, (seen,) = asked(video, "zoom 0.1 0.4 0.3 0.6 at 0.5 s")
    (frame,) = seen.frames
    assert frame.seconds == pytest.approx(0.5)
    assert (frame.box, frame.image.size) == ((0.1, 0.4, 0.3, 0.6), (512, 512))
    whole = video.frame_at(0.5).image.crop((25, 102, 77, 154)).resize((512, 512), Image.Resampling.BICUBIC)
    assert frame.image.tobytes() == whole.tobytes()
    red, _, blue = frame.image.getpixel((256, 256))  # type: ignore[misc]
    assert (red > 180, blue < 90) == (True, True)
    assert "zoom" in trace.cost.seconds


def test_a_crop_has_no_more_pixels_than_the_model_takes() -> None:
    crop = Frame(Image.new("RGB", (512, 256)), 1.0, box=(0, 0, 1, 0.5))
    assert spots.fitted(crop, None) is crop
    assert spots.fitted(crop, (512, 256)) is crop
    assert spots.fitted(crop, (128, 64)).image.size == (128, 64)


def test_a_zoom_into_a_frame_that_was_shown_is_no_repetition_but_the_same_zoom_is(video: Video) -> None:
    _, (first, again) = asked(video, "zoom 0 0 0.5 0.5 at 1 s", "zoom 0 0 0.5 0.5 at 1 s")
    assert first.frames
    assert "shown already" in (again.error or "")


def test_a_stretch_may_hold_frames_that_were_shown_but_not_only_those(video: Video) -> None:
    _, (first, again) = asked(video, "0.9 to 1.1 s", "0.9 to 1.1 s")
    assert 1.0 in [frame.seconds for frame in first.frames]
    assert "shown already" in (again.error or "")


def test_times_and_places_need_no_retriever_and_words_are_refused_without_one(video: Video) -> None:
    options = LoopOptions(max_looks=9, offered=("clip", "zoom"))
    trace, (words, seen) = asked(video, "a star", "at 0.5 s", options=options)
    assert words.error == "words are not searched for here: write at 12.5 s, or 12 to 15 s, or zoom 0.2 0.1 0.6 0.5 at 12.5 s in the call"
    assert seen.frames
    assert trace.made_with["tools"] == "clip,zoom"
    assert "retriever" not in trace.made_with


def test_where_they_are_not_offered_they_are_the_retrievers_words(video: Video) -> None:
    retriever = Numbered()
    asked(video, "at 0.5 s", "zoom 0 0 1 1 at 1 s", options=LoopOptions(max_looks=2), retriever=retriever)
    assert [query for query, _ in retriever.asked] == ["at 0.5 s", "zoom 0 0 1 1 at 1 s"]


def test_the_tools_offered_are_those_in_the_prompt() -> None:
    assert available_tools(None, None, LoopOptions(offered=ALL)) == ("clip", "zoom")
    assert available_tools(Numbered(), Painter(), LoopOptions(offered=ALL)) == ALL
    assert available_tools(Numbered(), Painter(), LoopOptions(max_looks=0, offered=ALL)) == ()
    prompt = chat.system_prompt(ALL)
    for words in SPOT_PLACEHOLDERS.values():
        assert f"<retrieve> {words} </retrieve>" in prompt
        assert words not in chat.system_prompt(("retrieve", "generate"))
    assert "zoom" not in chat.system_prompt(("retrieve", "clip"))


def test_quoting_the_prompts_own_examples_is_no_call() -> None:
    quoted = "<think>" + chat.system_prompt(ALL).replace("<think> and </think>", "marks").replace(" <answer> your answer </answer>", "")
    assert first_use(quoted) is None
    assert first_use("<retrieve> at 12.5 s </retrieve>", "<think>") is not None


@pytest.mark.parametrize(
    ("names", "tools"),
    [
        ("both", ("retrieve", "generate")),
        ("none", ()),
        ("clip", ("clip",)),
        ("zoom, both", (*ALL[:2], "zoom")),
        ("zoom,clip,generate,retrieve", ALL),
        ("both,retrieve", ALL[:2]),
        ("retrieve+clip", ("retrieve", "clip")),
    ],
)
def test_the_option_names_tools(names: str, tools: tuple[Tool, ...]) -> None:
    assert named_tools(names) == tools
    assert get_args(ToolName) == get_args(Tool)


@pytest.mark.parametrize("names", ["", "all", "none,clip", "clip,clip", "clip zoom", "clip,"])
def test_other_names_are_refused(names: str) -> None:
    with pytest.raises(ValueError, match="Must be none, or some of both"):
        named_tools(names)


def test_the_tool_of_a_call() -> None:
    calls: list[Call] = [Retrieve("a star"), Generate("at 5 s"), Retrieve("at 5 s"), Retrieve("Zoom")]
    assert [spots.tool_of(call, ALL) for call in calls] == ["retrieve", "generate", "clip", "zoom"]


@pytest.mark.parametrize("box", [(0.5, 0, 0.5, 1), (0, 0, 1.1, 1), (-0.1, 0, 1, 1), (0, 0.6, 1, 0.4)])
def test_a_frame_cannot_have_a_box_that_is_no_part_of_a_picture(box: Box) -> None:
    with pytest.raises(ValueError, match="no part of a picture"):
        Frame(PICTURE, 1.0, box=box)
