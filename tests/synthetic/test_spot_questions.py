"""Questions that need a look with a time or a place: what the clips show, what the given frames do not, and that the scripted teacher finds it."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from act2see.core.engine import LoopOptions, new_trace, reason
from act2see.core.spots import Spot, frames_of
from act2see.core.trace import Generate, Observation, Retrieve, Trace
from act2see.evaluation.frame_controls import RandomFrames, WrongTimeFrames
from act2see.synthetic.dataset import KINDS, Item, Kind, Place, items, records
from act2see.synthetic.recognition import is_of_the_world
from act2see.synthetic.spot_questions import (
    GLYPHS,
    OFTEN,
    PRINTED_SIZE,
    SPOT_KINDS,
    PrintedClip,
    SpotKind,
    SpotQuestion,
    glyph_pixels,
    print_corner,
)
from act2see.synthetic.teacher import ErrorRates, Fault, ScriptedTeacher
from act2see.synthetic.world import FRAME_RATE, SIZE, UNSEEN_PAIRS
from act2see.video import Video
from teacher_fakes import FAULTS, NO_RATES, always

TOOLS = LoopOptions(max_looks=3, offered=("retrieve", "clip", "zoom"))


def question_of(item: Item) -> SpotQuestion:
    assert isinstance(item.question, SpotQuestion)
    return item.question


def written(item: Item, folder: Path) -> Video:
    path = folder / f"{item.name}.mp4"
    if not path.exists():
        item.clip.write(path)
    return Video(path)


@pytest.fixture(scope="module")
def some(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Item, Video]]:
    """Three questions of each kind, with their clips."""
    folder = tmp_path_factory.mktemp("clips")
    return [(item, written(item, folder)) for item in items("held-out", 9, kinds=SPOT_KINDS)]


def taught(item: Item, video: Video, teacher: ScriptedTeacher, options: LoopOptions = TOOLS, name: str = "") -> Trace:
    question = question_of(item)
    trace = new_trace(video, question.text, question.choices, fps=1.0, id=name or item.name)
    list(reason(trace, video, teacher, None, options=options))
    return trace


# The questions


@pytest.mark.parametrize("split", ["train", "held-out"])
def test_each_question_has_choices_one_of_them_right_and_depends_on_its_name_alone(split: str) -> None:
    made = list(items("train" if split == "train" else "held-out", 60, kinds=SPOT_KINDS))
    assert Counter(item.question.kind for item in made) == dict.fromkeys(SPOT_KINDS, 20)
    for item in made:
        question = question_of(item)
        assert len(set(question.choices)) == (3 if question.kind == "flashes" else 4)
        assert question.choices.count(question.answer) == 1
        place = Place.of(item.name)
        assert place is not None
        assert (place.kind, place.name) == (question.kind, item.name)
        assert question.answer in item.reasoning
        pairs = {(actor.colour, actor.shape) for actor in item.clip.actors}
        assert split == "held-out" or not pairs & UNSEEN_PAIRS
    alone = [item.question for item in items("train" if split == "train" else "held-out", 20, kinds=("digit",))]
    assert alone == [item.question for item in made if item.question.kind == "digit"]


def test_no_letter_and_no_answer_is_right_too_often() -> None:
    made = [question_of(item) for item in items("held-out", 900, kinds=SPOT_KINDS)]
    for kind, share in (("order", 1 / 4), ("digit", 1 / 4), ("flashes", 1 / 3)):
        places = Counter(question.choices.index(question.answer) for question in made if question.kind == kind)
        assert all(abs(count / 300 - share) < 0.08 for count in places.values())
    orders = [[choice.split(", then ") for choice in question.choices] for question in made if question.kind == "order"]
    answers = [question.answer.split(", then ") for question in made if question.kind == "order"]
    for part in (0, 1):  # the shape that most of the choices name there
        commonest = [Counter(choice[part] for choice in choices).most_common(1)[0][0] for choices in orders]
        assert abs(sum(answer[part] == one for answer, one in zip(answers, commonest, strict=True)) / 300 - 1 / 2) < 0.09
    often = Counter(question.answer for question in made if question.kind == "flashes")
    assert set(often) == set(OFTEN)
    assert all(count < 130 for count in often.values())  # of 300: a third each


def test_they_are_asked_only_when_they_are_asked_for(tmp_path: Path) -> None:
    assert KINDS == ("static", "transient")
    found = list(records(tmp_path, "held-out", 6, kinds=("order", "flashes", "digit")))
    assert [record["kind"] for record in found] == ["order", "flashes", "digit"] * 2
    assert all(record["asked"] == record["kind"] for record in found)
    assert not any(tmp_path.iterdir())


def test_what_flashes_is_in_none_of_the_given_frames_and_in_eight_frames_of_its_second_each_time(some: list[tuple[Item, Video]]) -> None:
    for item, video in some:
        question = question_of(item)
        if question.kind == "digit":
            continue
        start, stop = question.seconds
        assert stop == start + 1
        given = item.clip.times(1.0)
        assert not any(actor.is_there(t) for actor in question.actors for t in given)
        seen = [round((frame.seconds or 0.0) * FRAME_RATE) / FRAME_RATE for frame in frames_of(video, Spot(start, stop))]
        assert len(seen) == 8
        there = [tuple(number for number, actor in enumerate(question.actors) if actor.is_there(t)) for t in seen]
        runs = [one for before, one in zip([(), *there], there, strict=False) if one and one != before]
        assert runs == [(number,) for number in range(len(question.actors))]
        expected = ", then ".join(actor.shape for actor in question.actors) if question.kind == "order" else OFTEN[len(runs) - 1]
        assert question.answer == expected


def legible(image: Image.Image, item: Item, seconds: float) -> int:
    """The digit whose drawing fits the print in a picture of the whole frame best."""
    question, grey = question_of(item), np.asarray(image.convert("L"), float)
    left, top = print_corner(question.actors[0], seconds)
    patch = grey[top - 1 : top + 7, left - 1 : left + 5]
    best = []
    for digit in range(len(GLYPHS)):
        mask = np.zeros((8, 6))
        for x, y in glyph_pixels(digit, 1, 1):
            mask[y, x] = 1
        best.append(abs(np.corrcoef(mask.ravel(), patch.ravel())[0, 1]))
    return int(np.argmax(best))


def test_small_print_can_be_read_at_full_size_and_not_where_the_frame_is_scaled_down(tmp_path: Path) -> None:
    """After compression by the codec. A model that takes 128 pixels sees a digit of a pixel and a half."""
    right, scaled = 0, 0
    made = list(items("held-out", 6, kinds=("digit",)))
    for item in made:
        video = written(item, tmp_path)
        assert video.size == (PRINTED_SIZE, PRINTED_SIZE)
        frame = video.frame_at(1.0)
        small = frame.image.resize((128, 128), Image.Resampling.BICUBIC).resize(frame.image.size, Image.Resampling.BICUBIC)
        answer = int(question_of(item).answer)
        right += legible(frame.image, item, 1.0) == answer
        scaled += legible(small, item, 1.0) == answer
    assert right == len(made)
    assert scaled <= len(made) / 2


def test_the_shapes_of_one_clip_bear_different_digits_that_are_all_among_the_choices() -> None:
    for item in items("held-out", 20, kinds=("digit",)):
        assert isinstance(item.clip, PrintedClip)
        assert len(set(item.clip.digits)) == 3
        assert set(map(str, item.clip.digits)) < set(question_of(item).choices)
        assert question_of(item).answer == str(item.clip.digits[0])


def test_the_part_worth_looking_at_holds_the_print() -> None:
    for item in items("held-out", 30, kinds=("digit",)):
        question = question_of(item)
        left, top, right, bottom = question.box_at(1.0)
        for x, y in glyph_pixels(8, *print_corner(question.actors[0], 1.0)):
            assert 0 <= left < x / PRINTED_SIZE < right <= 1
            assert 0 <= top < y / PRINTED_SIZE < bottom <= 1


def test_the_clips_are_of_the_synthetic_world(some: list[tuple[Item, Video]]) -> None:
    for item, video in some:
        assert is_of_the_world([frame.image for frame in video.sample(1.0)])
        assert video.size == ((PRINTED_SIZE,) * 2 if question_of(item).kind == "digit" else (SIZE,) * 2)


# The scripted teacher


def test_without_a_fault_it_asks_for_a_stretch_or_a_part_and_answers_right(some: list[tuple[Item, Video]]) -> None:
    for item, video in some:
        trace = taught(item, video, ScriptedTeacher(rates=NO_RATES))
        question = question_of(item)
        (call,) = trace.calls
        assert isinstance(call, Retrieve)
        assert ("zoom" in call.query) == (question.kind == "digit")
        assert (trace.answer, trace.finish) == (question.answer, "answer")
        assert [len(one.frames) for one in trace.observations] == [1 if question.kind == "digit" else 8]


@pytest.mark.parametrize("offered", [("retrieve",), ()])
def test_without_these_tools_it_calls_nothing_and_guesses(some: list[tuple[Item, Video]], offered: tuple[()] | tuple[str]) -> None:
    options = LoopOptions(offered=("retrieve",) if offered else ())
    traces = [taught(item, video, ScriptedTeacher(rates=NO_RATES), options) for item, video in some]
    assert not any(trace.calls for trace in traces)
    right = sum(trace.answer == question_of(item).answer for trace, (item, _) in zip(traces, some, strict=True))
    assert right < len(some) * 0.6


@pytest.mark.parametrize("make", [lambda: RandomFrames(seed=1), lambda: WrongTimeFrames(RandomFrames(), seed=1)], ids=["random", "wrong time"])
def test_a_placebo_of_the_same_kind_does_not_show_the_answer(some: list[tuple[Item, Video]], make: "type[RandomFrames]") -> None:
    right = 0
    for item, video in some:
        question = question_of(item)
        trace = new_trace(video, question.text, question.choices, fps=1.0, id=item.name)
        list(reason(trace, video, ScriptedTeacher(rates=NO_RATES), make(), options=TOOLS))
        assert trace.looks == 1
        right += trace.answer == question.answer
    assert right < len(some) * 0.7


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_has_its_effect(some: list[tuple[Item, Video]], fault: Fault) -> None:
    teacher = always(fault) if fault != "none" else ScriptedTeacher(rates=NO_RATES)
    wrong: tuple[Fault, ...] = ("wrong_perception", "wrong_answer")
    for item, video in some:
        question = question_of(item)
        assert teacher.fault_of(item.name, ("retrieve", "clip", "zoom")) == ("none" if fault == "needless_call" else fault)
        trace = taught(item, video, teacher)
        assert trace.finish in ("answer", "end")
        if fault in wrong:
            assert trace.answer != question.answer
        elif fault not in ("broken_format", "bad_query"):
            assert trace.answer == question.answer
        if fault == "bad_query":
            assert trace.looks == 1
            assert trace.calls[0] != taught(item, video, ScriptedTeacher(rates=NO_RATES)).calls[0]


def test_a_resumed_trace_goes_on_as_it_would_have(some: list[tuple[Item, Video]]) -> None:
    teacher = ScriptedTeacher(rates=ErrorRates())
    for item, video in some:
        whole = taught(item, video, teacher)
        question = question_of(item)
        cut = new_trace(video, question.text, question.choices, fps=1.0, id=item.name)
        cut.steps.extend(whole.steps[:2])
        list(reason(cut, video, teacher, None, options=TOOLS))
        assert [type(step) for step in cut.steps] == [type(step) for step in whole.steps]
        assert cut.answer == whole.answer


def test_the_names_of_items_are_those_of_their_kind() -> None:
    kinds: tuple[Kind, ...] = ("order", "static")
    assert [item.name for item in items("train", 4, kinds=kinds)] == [
        "train-0-order-00000",
        "train-0-00000",
        "train-0-order-00001",
        "train-0-00002",
    ]
    assert Place.of("train-0-colour-00001") is None


@pytest.mark.parametrize("kind", SPOT_KINDS)
def test_no_call_of_theirs_is_for_a_generated_picture(some: list[tuple[Item, Video]], kind: SpotKind) -> None:
    for item, video in some:
        if item.question.kind == kind:
            steps = taught(item, video, ScriptedTeacher()).steps
            assert not any(isinstance(step, Generate) for step in steps)
            assert all(len(step.frames) <= 8 for step in steps if isinstance(step, Observation))
