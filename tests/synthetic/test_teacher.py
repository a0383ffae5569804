"""The scripted teacher: it sees what is there, errs as often and in the way that it says, and goes on from any point as if it had never stopped."""

import random
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from collections.abc import Generator as Yields
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import get_args

import pytest
from PIL import Image

from act2see import chat, registry
from act2see.config import ModelConfig
from act2see.engine import new_trace, reason
from act2see.errors import BackendError, ConfigError, ToolError
from act2see.interfaces import Continuation, Retriever
from act2see.synthetic.dataset import Item, Kind, items
from act2see.synthetic.hypothetical import Hypothetical, read
from act2see.synthetic.questions import Question
from act2see.synthetic.teacher import ErrorRates, Fault, ScriptedTeacher
from act2see.synthetic.world import COLOURS, PLACES, SHAPES, Clip, place_at
from act2see.trace import Frame, Generate, Observation, Provenance, Retrieve, Step, Thought, Trace
from act2see.video import Video

KINDS: tuple[Kind, ...] = ("static", "transient", "hypothetical")
FAULTS: tuple[Fault, ...] = get_args(Fault)
NO_RATES = ErrorRates(*[0.0] * (len(FAULTS) - 1))
BEYOND: tuple[Kind, ...] = ("transient", "hypothetical")
APPLIES: dict[Fault, tuple[Kind, ...]] = {"needless_call": ("static",), "bad_query": BEYOND, "early_answer": BEYOND, "useless_call": BEYOND}
PICTURE = Image.new("RGB", (8, 8))


@pytest.fixture(scope="module")
def some() -> list[Item]:
    """Twenty of each kind: fewer than the teacher remembers, so that the tests are quick."""
    return list(items("train", 60, 0, KINDS))


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Video:
    """Any: the fakes find their frames in the item's clip."""
    path = tmp_path_factory.mktemp("teacher") / "clip.mp4"
    Clip(1.0, ()).write(path)
    return Video(path)


# Tools that know the truth


@dataclass
class Truthful:
    """Finds the frame that shows what the query names, if it is what the question asks for, and a frame without it if it is not."""

    item: Item
    name: str = "truthful"

    def find(self, video: Video, query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
        question = self.item.question
        if isinstance(question, Hypothetical):
            return [Frame(PICTURE, question.anchors[0])]
        named = question.actor.colour if question.asked == "shape" else question.actor.shape
        return [self.frame(question, shown, shows=named in query.split())]

    def frame(self, question: Question, shown: Collection[float], *, shows: bool) -> Frame:
        """A frame that shows the asked thing, or does not; where no such is left, another."""
        left = [t for t in self.item.clip.times(3.0) if t not in shown]
        return Frame(PICTURE, next((t for t in left if question.actor.is_there(t) == shows), left[0]))


@dataclass
class Missing(Truthful):
    """Finds a frame that does not show what is asked for, whatever the query."""

    def find(self, video: Video, query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
        assert isinstance(self.item.question, Question)
        return [self.frame(self.item.question, shown, shows=False)]


@dataclass
class Failing(Truthful):
    """Finds nothing."""

    def find(self, video: Video, query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
        raise ToolError("no frame was found")


class Painter:
    """Says what was to be painted, and of which frame."""

    name = "painter"

    def generate(self, prompt: str, anchor: Frame, *, seed: int) -> Frame:
        return Frame(PICTURE, None, provenance=Provenance(prompt, anchor.seconds, "painter", seed))


def fresh(item: Item, attempt: str = "#0") -> Trace:
    frames = tuple(Frame(PICTURE, seconds) for seconds in item.clip.times(1.0))
    return Trace(item.name + attempt, "clip.mp4", item.question.text, frames, item.question.choices)


def finish(trace: Trace, item: Item, video: Video, teacher: ScriptedTeacher, retriever: Retriever | None = None, *, looks: int = 2) -> Trace:
    for _ in reason(trace, video, teacher, retriever or Truthful(item), Painter(), max_looks=looks):
        pass
    return trace


def always(fault: Fault, seed: int = 0) -> ScriptedTeacher:
    """A teacher that makes this fault wherever it can be made."""
    return ScriptedTeacher(rates=NO_RATES if fault == "none" else replace(NO_RATES, **{fault: 1.0}), seed=seed)


def attempts(fault: Fault, found: Sequence[Item], video: Video) -> Iterator[tuple[Item, Trace]]:
    """A finished attempt at each item that can have this fault."""
    teacher = always(fault)
    for item in found:
        can = item.question.kind in APPLIES.get(fault, KINDS)
        assert teacher.fault_of(f"{item.name}#0") == (fault if can else "none")
        if can:
            yield item, finish(fresh(item), item, video, teacher)


def chosen(trace: Trace) -> str | None:
    index = chat.chosen(trace.answer, trace.choices)
    return None if index is None else trace.choices[index]


def calls(trace: Trace) -> list[Retrieve | Generate]:
    return [step for step in trace.steps if isinstance(step, Retrieve | Generate)]


def observed(trace: Trace) -> list[Observation]:
    return [step for step in trace.steps if isinstance(step, Observation)]


def thoughts(trace: Trace) -> list[str]:
    return [step.text for step in trace.steps if isinstance(step, Thought)]


def written(trace: Trace) -> str:
    return " ".join(piece for piece in chat.render(trace.steps) if isinstance(piece, str))


def longest_shared_run(text: str, other: str) -> int:
    """The most words in a row that both have, punctuation and case aside."""
    one, two = (re.findall(r"\w+", re.sub(r"</?\w+>", " ", part).casefold()) for part in (text, other))
    best, ends = 0, dict[int, int]()
    for word in one:
        ends = {n: ends.get(n - 1, 0) + 1 for n, same in enumerate(two) if same == word}
        best = max(best, *ends.values(), 0) if ends else best
    return best


# Without a fault


THING = re.compile(rf"\b({'|'.join(COLOURS)}) ({'|'.join(SHAPES)}) (?:near the|towards the|around the) ({'|'.join(PLACES)})")
SENTENCE = re.compile(r"(?:At|In the frames from) (\d+\.\d)(?: to (\d+\.\d))? seconds ([^.]*)\.")


def claims(text: str) -> list[tuple[float, float, list[tuple[str, ...]]]]:
    """From when to when a text says that which things are shown."""
    return [(float(m[1]), float(m[2] or m[1]), THING.findall(m[3])) for m in SENTENCE.finditer(text)]


def shown(clip: Clip, seconds: float) -> list[tuple[str, ...]]:
    return sorted((actor.colour_at(seconds), actor.shape, place_at(actor, seconds)) for actor in clip.actors if actor.is_there(seconds))


def read_frames(trace: Trace) -> Iterator[tuple[float, list[tuple[str, ...]]]]:
    """The seconds of each frame that is spoken of, and what is said of it: of the given ones in the first thought, of one that came after it."""
    given = [frame.seconds for frame in trace.frames]
    came = [[frame.seconds for frame in step.frames] for step in observed(trace)]
    for text, frames in zip(thoughts(trace), [given, *came], strict=False):
        for start, stop, things in claims(text):
            meant = [t for t in frames if t is not None and start - 0.051 <= t <= stop + 0.051]
            assert meant
            yield from ((t, things) for t in meant)


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


def transients(found: list[Item]) -> list[Item]:
    return [item for item in found if item.question.kind == "transient"]


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
        ({"leak": -0.1}, "leak -0.1"),
        ({"leak": 1.5}, "leak 1.5"),
        ({"leak": float("nan")}, "leak nan"),
        ({"leak": "much"}, "leak 'much'"),
        ({"leak": True}, "leak True"),
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
    with pytest.raises(BackendError, match="knows no question") as refused:
        ScriptedTeacher().fault_of(name)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300
    with pytest.raises(BackendError, match="knows no question"):
        next(ScriptedTeacher().decode(Trace(name, "clip.mp4", "What?", ()), ()))


def test_another_question_under_an_items_name_is_refused(some: list[Item]) -> None:
    for trace in (replace(fresh(some[0]), question="Who is it?"), replace(fresh(some[0]), choices=("a", "b"))):
        with pytest.raises(BackendError, match="asks something else"):
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
    with pytest.raises(BackendError, match="begun by another teacher"):
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
            assert not any(stop in end.text[:-1] for stop in chat.STOPS)
            assert (end.stopped == "tag") == end.text.endswith(chat.STOPS)
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
