"""The values: what cannot be written is refused, and an answer is the model's or None."""

from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from act2see.core.trace import Answer, Cost, Frame, Generate, Observation, Provenance, Retrieve, Step, Thought, Trace

PICTURE = Image.new("RGB", (8, 8))
MADE = Provenance("a red star", 1.0, "tiny", 0)


def trace_of(*steps: Step) -> Trace:
    return Trace("t", "clip.mp4", "What?", (), steps=list(steps))


def test_a_generated_frame_has_no_time() -> None:
    assert Frame(PICTURE, None, provenance=MADE).seconds is None
    with pytest.raises(ValueError, match="no time in the video"):
        Frame(PICTURE, 1.0, provenance=MADE)


def test_an_observation_holds_frames_or_an_error() -> None:
    frame = Frame(PICTURE, 1.0)
    assert Observation(frames=(frame,)).error is None
    assert Observation(error="").frames == ()  # an error without words is still an error
    with pytest.raises(ValueError, match="not both"):
        Observation(frames=(frame,), error="no")
    with pytest.raises(ValueError, match="not neither"):
        Observation()


def test_steps_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Answer("A").text = "B"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("steps", "answer"),
    [
        ([], None),
        ([Thought("The answer is B.")], None),
        ([Thought("hm"), Answer(" B \n")], "B"),
        ([Answer("A"), Thought("or not")], None),
        ([Retrieve("a")], None),
    ],
)
def test_the_answer_is_the_last_step_or_none(steps: list[Step], answer: str | None) -> None:
    assert trace_of(*steps).answer == answer


def test_a_look_is_a_call_that_brought_a_frame() -> None:
    real, made = Observation(frames=(Frame(PICTURE, 1.0),)), Observation(frames=(Frame(PICTURE, None, provenance=MADE),))
    assert trace_of(Retrieve("a"), Observation(error="no"), Retrieve("b")).looks == 0
    assert trace_of(Retrieve("a"), real, Retrieve("b"), Observation(error="no"), Generate("c"), made).looks == 2


counts = st.integers(0, 10_000)
costs = st.builds(
    Cost,
    counts,
    counts,
    counts,
    st.dictionaries(st.sampled_from(["encode", "prefill", "decode", "retrieve"]), st.integers(0, 100).map(float)),
    st.none() | st.integers(0, 100).map(float),
)


@given(st.lists(costs, max_size=5))
def test_costs_add_up_by_stage_and_an_unknown_price_stays_unknown(parts: list[Cost]) -> None:
    total = Cost()
    for part in parts:
        total.add(part)
    assert (total.tokens_in, total.tokens_out, total.tokens_reused) == (
        sum(part.tokens_in for part in parts),
        sum(part.tokens_out for part in parts),
        sum(part.tokens_reused for part in parts),
    )
    assert total.seconds == {stage: sum(part.seconds.get(stage, 0) for part in parts) for part in parts for stage in part.seconds}
    known = [part.dollars for part in parts if part.dollars is not None]
    assert total.dollars == (sum(known) if known else None)


def test_two_traces_share_nothing() -> None:
    one, other = trace_of(), trace_of()
    one.steps.append(Thought("a"))
    one.cost.seconds["decode"] = 1.0
    one.made_with["backend"] = "x"
    assert (other.steps, other.cost, other.made_with) == ([], Cost(), {})
