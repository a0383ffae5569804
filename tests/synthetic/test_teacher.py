"""The scripted teacher: it sees what is there, errs as often and in the way that it says, and goes on from any point as if it had never stopped."""

import random
import re
from collections import Counter
from collections.abc import Collection, Sequence
from collections.abc import Generator as Yields
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from pathlib import Path

import pytest

from act2see import registry
from act2see.config import ModelConfig
from act2see.core import chat
from act2see.core.engine import new_trace
from act2see.core.errors import BackendError, ConfigError
from act2see.core.interfaces import Continuation, Retriever
from act2see.core.protocol import STOPS
from act2see.core.trace import Frame, Generate, Observation, Retrieve, Step, Thought, Trace
from act2see.synthetic.dataset import Item, items
from act2see.synthetic.hypothetical import Hypothetical
from act2see.synthetic.questions import Question
from act2see.synthetic.teacher import ErrorRates, Fault, ScriptedTeacher
from act2see.video import Video
from teacher_fakes import (
    APPLIES,
    FAULTS,
    KINDS,
    NO_RATES,
    Failing,
    Missing,
    Truthful,
    always,
    attempts,
    calls,
    chosen,
    claims,
    finish,
    fresh,
    observed,
    read_frames,
    shown,
    thoughts,
    transients,
)

# Without a fault


def test_without_a_fault_it_looks_where_it_must_and_answers_right(some: list[Item], video: Video) -> None:
    for item, trace in attempts("none", some, video):
        wanted = {"static": [], "transient": [Retrieve], "hypothetical": [Generate]}[item.question.kind]
        assert [type(call) for call in calls(trace)] == wanted
        assert (chosen(trace), trace.finish) == (item.question.answer, "answer")
        text = "".join(thoughts(trace))
        assert (text.count("<think>"), text.count("</think>")) == (1, 1)
        assert item.question.answer in text
        assert "pick" not in text  # nothing is guessed


def test_what_it_says_of_a_frame_is_what_the_frame_shows(some: list[Item], video: Video) -> None:
    for item, trace in attempts("none", some, video):
        said = list(read_frames(trace))
        assert said
        assert all(shown(item.clip, t) == sorted(things) for t, things in said)


def test_a_transients_answer_is_read_off_the_frame_that_came(some: list[Item], video: Video) -> None:
    for item, trace in attempts("none", some, video):
        if isinstance(item.question, Question) and item.question.kind == "transient":
            (came,) = observed(trace)
            before, after = thoughts(trace)
            assert f"{came.frames[0].seconds:.1f} seconds" in after
            thing = (item.question.actor.shape, item.question.actor.colour)
            assert not any(set(thing) <= set(one) for _, _, things in claims(before) for one in things)


def test_the_prompt_of_a_hypothetical_is_in_the_generators_own_words(some: list[Item], video: Video) -> None:
    for item, trace in attempts("none", some, video):
        if isinstance(item.question, Hypothetical):
            (call,) = calls(trace)
            assert isinstance(call, Generate)
            assert item.question.edit.shape in call.prompt
            assert len(call.prompt.split()) <= 11


# Looks that bring nothing


@pytest.mark.parametrize("looks", [1, 2])
def test_a_frame_without_the_thing_is_said_to_miss_and_looked_past_or_guessed_after(some: list[Item], video: Video, looks: int) -> None:
    counts = Counter[int]()
    for item in transients(some):
        trace = finish(fresh(item), item, video, always("none"), Missing(item), looks=looks)
        counts[len(calls(trace))] += 1
        assert trace.finish == "answer"
        assert re.search("Without any evidence|take a chance|by luck alone", thoughts(trace)[-1])
        assert chosen(trace) in item.question.choices
    assert set(counts) == {1, 2}


def test_a_guess_knows_nothing(some: list[Item], video: Video) -> None:
    item = transients(some)[0]
    found = [finish(fresh(item, f"#{n}"), item, video, always("none"), Failing(item)) for n in range(400)]
    assert all(len(calls(trace)) == 1 and observed(trace)[0].error for trace in found)
    right = sum(chosen(trace) == item.question.answer for trace in found)
    assert abs(right - 100) < 3 * (400 * 0.25 * 0.75) ** 0.5


@pytest.mark.parametrize("fault", FAULTS)
def test_without_tools_nothing_is_called_and_the_fault_is_told_for_that(some: list[Item], video: Video, fault: Fault) -> None:
    teacher = always(fault)
    for item in some[:18]:
        trace = finish(fresh(item), item, video, teacher, looks=0)
        assert not calls(trace)
        told = teacher.fault_of(trace.id, ())
        assert told == ("none" if fault in APPLIES else fault)
        if told == "none" and item.question.kind == "static":
            assert chosen(trace) == item.question.answer


# Rates


def test_the_rates_are_met() -> None:
    teacher = ScriptedTeacher(seed=3)
    ids = [name for n in range(1000) for name in (f"train-0-{2 * n:05d}#1", f"train-0-{2 * n + 1:05d}#1", f"train-0-hypothetical-{n:05d}#1")]
    kinds = [kind for _ in range(1000) for kind in KINDS]
    found = [teacher.fault_of(one) for one in ids]
    for fault in FAULTS[1:]:
        can = [got for got, kind in zip(found, kinds, strict=True) if kind in APPLIES.get(fault, KINDS)]
        rate, n = getattr(teacher.rates, fault), len(can)
        print(f"{fault}: {can.count(fault)} of {n}, set {rate}")
        assert abs(can.count(fault) - n * rate) < 3 * (n * rate * (1 - rate)) ** 0.5
        assert found.count(fault) == can.count(fault)  # elsewhere there is none


@pytest.mark.parametrize(
    ("rates", "said"),
    [
        ({"leak": -0.1}, "leak is -0.1"),
        ({"leak": 1.5}, "leak is 1.5"),
        ({"leak": float("nan")}, "leak is nan"),
        ({"leak": "much"}, "leak is 'much'"),
        ({"leak": True}, "leak is True"),
        ({"leak": 0.6, "off_topic": 0.6}, "add up to 1.62"),
    ],
)
def test_rates_that_cannot_be_are_refused(rates: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)) as refused:
        ErrorRates(**rates)
    assert "\n" not in str(refused.value)


def test_rates_may_add_up_to_all() -> None:
    rates = ErrorRates(*[1 / 9] * 9)
    assert len(fields(rates)) == 9 == len(FAULTS) - 1
    assert "none" not in {ScriptedTeacher(rates=replace(NO_RATES, leak=0.5, off_topic=0.5)).fault_of(f"train-0-{n:05d}") for n in range(200)}


# Names


@pytest.mark.parametrize(
    "name",
    ["", "train-0-12", "train-0-000012", "train-00-00012", "test-0-00001", "train-0-00012#", "train-0-00012#x", "train-0-00012#1#2",
     "../train-0-00012",
     "train-0-hypothetical-1", "train-0-00012\n", "train-0-" + "9" * 5000, "train-0-٠٠٠١٢"],
)  # fmt: skip
def test_a_name_that_no_item_has_is_refused(name: str) -> None:
    with pytest.raises(BackendError, match="has no question") as refused:
        ScriptedTeacher().fault_of(name)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300
    with pytest.raises(BackendError, match="has no question"):
        next(ScriptedTeacher().decode(Trace(name, "clip.mp4", "What?", ()), ()))


def test_another_question_under_an_items_name_is_refused(some: list[Item]) -> None:
    for trace in (replace(fresh(some[0]), question="Who is it?"), replace(fresh(some[0]), choices=("a", "b"))):
        with pytest.raises(BackendError, match="differs from the synthetic question"):
            next(ScriptedTeacher().decode(trace, ()))


def test_choices_may_stand_in_another_order(some: list[Item], video: Video) -> None:
    for item in some[:6]:
        trace = replace(fresh(item), choices=tuple(reversed(item.question.choices)))
        assert chosen(finish(trace, item, video, always("none"))) == item.question.answer


def test_a_negative_seed_is_a_seed(video: Video) -> None:
    (item,) = items("held-out", 1, -3)
    assert chosen(finish(fresh(item, ""), item, video, always("none"))) == item.question.answer


# The same again


def mixed(seed: int = 0) -> ScriptedTeacher:
    return ScriptedTeacher(rates=ErrorRates(*[0.1] * 9), seed=seed)


def test_an_attempt_is_always_the_same_and_another_one_is_another(some: list[Item], video: Video) -> None:
    def all_of(teacher: ScriptedTeacher, attempt: str) -> list[list[Step]]:
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(lambda item: finish(fresh(item, attempt), item, video, teacher).steps, some))

    first = all_of(mixed(), "#0")
    assert first == [finish(fresh(item), item, video, mixed()).steps for item in reversed(some)][::-1]
    for other in (all_of(mixed(), "#1"), all_of(mixed(seed=1), "#0")):
        assert sum(one == two for one, two in zip(first, other, strict=True)) < len(some) / 4


@pytest.mark.parametrize("fault", FAULTS)
def test_a_trace_that_was_cut_anywhere_goes_on_to_the_same_end(some: list[Item], video: Video, fault: Fault) -> None:
    def retriever(item: Item) -> Retriever:
        return Missing(item) if isinstance(item.question, Question) and random.Random(item.name).random() < 0.3 else Truthful(item)

    for item in some[:30]:
        whole = finish(fresh(item), item, video, always(fault), retriever(item))
        for cut in range(len(whole.steps)):
            kept, left = whole.steps[:cut], whole.steps[cut:]
            if kept and isinstance(kept[-1], Thought) and isinstance(left[0], Observation):
                continue  # the loop puts a malformed call and its error into a trace at once: it is never cut there
            again = replace(fresh(item), steps=list(kept))
            assert finish(again, item, video, always(fault), retriever(item)).steps == whole.steps
            assert again.finish == whole.finish


def test_a_turn_that_another_began_is_refused(some: list[Item]) -> None:
    trace = replace(fresh(some[0]), steps=[Thought("<think>I think of something else.")])
    with pytest.raises(BackendError, match="started by another teacher"):
        next(ScriptedTeacher().decode(trace, ()))


# As a backend


def test_each_text_ends_at_its_first_stop_and_is_counted_in_words(some: list[Item], video: Video) -> None:
    heard: list[Continuation] = []

    class Heard(ScriptedTeacher):
        def decode(self, trace: Trace, tools: Sequence[chat.Tool]) -> Yields[str, None, Continuation]:
            end = yield from super().decode(trace, tools)
            heard.append(end)
            return end

    for item in some:
        trace = finish(fresh(item), item, video, Heard(rates=mixed().rates))
        assert trace.cost.tokens_out == sum(len(end.text.split()) for end in heard)
        assert "".join(end.text for end in heard) == "".join(piece for piece in chat.render(trace.steps) if isinstance(piece, str))
        for end in heard:
            assert not any(stop in end.text[:-1] for stop in STOPS)
            assert (end.stopped == "tag") == end.text.endswith(STOPS)
        heard.clear()


def test_it_says_that_no_model_wrote_this_and_how_it_errs() -> None:
    made = ScriptedTeacher(rates=replace(NO_RATES, leak=0.25), seed=7).made_with
    assert (made["backend"], made["model"], made["rendering"], made["seed"]) == ("scripted teacher", "scripted", "none", "7")
    assert "leak 0.25" in made["error_rates"]
    assert all(fault in made["error_rates"] for fault in FAULTS[1:])


def test_it_is_named_on_a_command_line_as_any_third_partys_backend() -> None:
    made = registry.backend("act2see.synthetic.teacher:ScriptedTeacher", ModelConfig(seed=5))
    assert isinstance(made, ScriptedTeacher)
    assert (made.seed, made.concurrent) == (5, True)
    assert ScriptedTeacher(ModelConfig()).seed == 0


def test_it_reads_real_videos(tmp_path: Path) -> None:
    """Files, whose frames have the container's times, and a retriever that decodes them."""

    @dataclass
    class Decoding(Truthful):
        def find(self, video: Video, query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
            (found,) = super().find(video, query, shown=shown)
            assert found.seconds is not None
            return [video.frame_at(found.seconds + 0.001)]

    for item in items("train", 6, 1, KINDS):
        path = tmp_path / f"{item.name}.mp4"
        item.clip.write(path)
        trace = new_trace(Video(path), item.question.text, item.question.choices, fps=1.0, id=item.name)
        finish(trace, item, Video(path), always("none"), Decoding(item), looks=1)
        assert (chosen(trace), trace.finish, len(calls(trace))) == (item.question.answer, "answer", item.question.kind != "static")
