"""Each fault of the scripted teacher spoils its trace in its own way and in no other."""

import re
from collections import Counter

from act2see.core.trace import Retrieve
from act2see.synthetic.dataset import Item, Kind, items
from act2see.synthetic.hypothetical import Hypothetical, read
from act2see.synthetic.questions import Question
from act2see.synthetic.teacher import Fault
from act2see.synthetic.world import COLOURS, PLACES, SHAPES
from act2see.video import Video
from teacher_fakes import (
    APPLIES,
    FAULTS,
    KINDS,
    THING,
    Failing,
    Missing,
    always,
    attempts,
    calls,
    chosen,
    finish,
    fresh,
    longest_shared_run,
    observed,
    read_frames,
    shown,
    thoughts,
    transients,
    written,
)

# Each fault


def test_wrong_perception_reads_another_value_off_a_frame_and_answers_it(some: list[Item], video: Video) -> None:
    for item, trace in attempts("wrong_perception", some, video):
        assert chosen(trace) in set(item.question.choices) - {item.question.answer}
        assert trace.answer
        if isinstance(item.question, Question):
            false = [t for t, things in read_frames(trace) if shown(item.clip, t) != sorted(things)]
            assert len(false) == 1  # all other frames are read as they are
            actor = item.question.actor
            assert actor.is_there(false[0])
        else:
            assert isinstance(item.question, Hypothetical)
            things = [(colour, shape, place) for colour, shape, place in THING.findall(thoughts(trace)[-1])]
            assert read(item.question.fact, things) == trace.answer  # the conclusion follows from what it says that it sees
        assert trace.answer in thoughts(trace)[-1]


def test_wrong_perception_claims_what_no_frame_showed_where_none_came(some: list[Item], video: Video) -> None:
    for item in transients(some):
        for retriever in (Missing(item), Failing(item)):
            trace = finish(fresh(item), item, video, always("wrong_perception"), retriever)
            assert chosen(trace) != item.question.answer
            assert "I am sure to have seen" in thoughts(trace)[-1]


def test_a_needless_call_is_for_what_was_seen_and_its_frame_is_spoken_of(some: list[Item], video: Video) -> None:
    found = list(attempts("needless_call", some, video))
    assert len(found) == 20
    for item, trace in found:
        (call,), (came,) = calls(trace), observed(trace)
        assert isinstance(call, Retrieve)
        assert chosen(trace) == item.question.answer
        assert f"{came.frames[0].seconds:.1f} seconds" in thoughts(trace)[1]
        answered = re.search(r"\b(therefore|hence|gather|choose|settle)\b", thoughts(trace)[0], re.IGNORECASE)
        assert answered is None


def test_a_bad_query_names_something_else_and_its_frame_misses(some: list[Item], video: Video) -> None:
    for item, trace in attempts("bad_query", some, video):
        (call,) = calls(trace)
        named = set((call.query if isinstance(call, Retrieve) else call.prompt).split())
        if isinstance(item.question, Hypothetical):
            assert item.question.edit.shape not in named
        else:
            assert isinstance(item.question, Question)
            actor = item.question.actor
            assert not named & ({actor.colour} if item.question.asked == "shape" else {actor.shape})
            assert not actor.is_there(observed(trace)[0].frames[0].seconds or 0.0)
        assert re.search("Without any evidence|take a chance|by luck alone", thoughts(trace)[-1])


def test_a_wrong_answer_is_not_the_one_that_was_concluded(some: list[Item], video: Video) -> None:
    for item, trace in attempts("wrong_answer", some, video):
        right = finish(fresh(item), item, video, always("none"))
        assert thoughts(trace) == thoughts(right)
        assert chosen(trace) in set(item.question.choices) - {item.question.answer}


def test_a_wrong_answer_is_neither_right_nor_what_was_guessed(some: list[Item], video: Video) -> None:
    item = transients(some)[1]
    for number in range(100):
        trace = finish(fresh(item, f"#{number}"), item, video, always("wrong_answer"), Failing(item))
        assert trace.answer is not None
        assert chosen(trace) != item.question.answer
        assert trace.answer not in re.findall(r"\w+", thoughts(trace)[-1])


def test_a_broken_format_is_broken_in_each_way(some: list[Item], video: Video) -> None:
    seen = Counter[tuple[Kind, str]]()
    for item, trace in attempts("broken_format", some, video):
        text, errors = written(trace), [step.error or "" for step in observed(trace) if step.error]
        kind = item.question.kind
        if trace.finish == "end" and "</think>" not in text:
            assert re.search(r"<(retrieve|generate)>[^<]+$", text)
            seen[kind, "open_call"] += 1
        elif trace.finish == "end":
            assert text.endswith("</think>")
            seen[kind, "no_answer"] += 1
        elif any("only the tool writes a frame" in error for error in errors):
            seen[kind, "own_frame"] += 1
        elif any("tags inside" in error for error in errors):
            seen[kind, "tags_in_call"] += 1
        else:
            assert "</think>" not in text
            seen[kind, "open_think"] += 1
        if trace.finish == "answer":
            assert chosen(trace) == item.question.answer
    anywhere, calling = {"no_answer", "own_frame", "open_think"}, {"open_call", "tags_in_call"}
    assert {way for kind, way in seen if kind == "static"} == anywhere
    assert {way for kind, way in seen if kind != "static"} == anywhere | calling


def test_an_early_answer_is_concluded_before_its_call(some: list[Item], video: Video) -> None:
    for item, trace in attempts("early_answer", some, video):
        assert len(calls(trace)) == 1
        assert re.search(rf"(the answer must be|so my answer is) {item.question.answer}\b", thoughts(trace)[0])
        assert chosen(trace) == item.question.answer


def test_after_a_useless_call_nothing_is_said_of_it(some: list[Item], video: Video) -> None:
    for item, trace in attempts("useless_call", some, video):
        assert len(calls(trace)) == 1
        after = thoughts(trace)[1]
        about = {*COLOURS, *SHAPES, *PLACES, "frame", "picture", "image", "seconds", "shows", "see", item.question.answer}
        assert not about & set(re.findall(r"\w+", after.casefold()))
        assert chosen(trace) == item.question.answer


def test_a_leak_holds_twelve_words_of_the_reasoning_or_names_it(some: list[Item], video: Video) -> None:
    kinds = Counter[bool]()
    for item, trace in attempts("leak", some, video):
        names_it = re.search("reference explanation|human reasoning|given explanation", written(trace)) is not None
        assert names_it or longest_shared_run(written(trace), item.reasoning) >= 12
        assert chosen(trace) == item.question.answer
        kinds[names_it] += 1
    assert min(kinds[True], kinds[False]) > 10


def test_off_topic_shares_no_word_that_matters_with_the_question(some: list[Item], video: Video) -> None:
    about = {*COLOURS, *SHAPES, *PLACES, "frame", "shape", "colour", "video", "picture"}
    for item, trace in attempts("off_topic", some, video):
        assert not calls(trace)
        assert not about & set(re.findall(r"\w+", "".join(thoughts(trace)).casefold()))
        assert chosen(trace) == item.question.answer


def test_only_a_leak_shares_a_run_of_words_with_the_reasoning(video: Video) -> None:
    """Over 300 items, and all faults in turn."""
    worst = Counter[Fault]()
    for item in items("held-out", 300, 5, KINDS):
        for fault in FAULTS:
            if fault != "leak" and item.question.kind in APPLIES.get(fault, KINDS):
                trace = finish(fresh(item), item, video, always(fault))
                worst[fault] = max(worst[fault], longest_shared_run(written(trace), item.reasoning))
    print(dict(worst))
    assert max(worst.values()) < 8
