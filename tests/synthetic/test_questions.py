"""Questions: one right answer by brute force, a kind by definition, words that do not tell it, and a teacher that knows only what it sees."""

import random
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import NamedTuple

import pytest

from act2see.core import chat
from act2see.core.trace import Answer, Observation, Retrieve, Step, Thought
from act2see.synthetic.questions import CHOICES, WORDINGS, Asked, Kind, Look, Question, ask, describe, explain
from act2see.synthetic.world import COLOURS, FRAME_RATE, PLACES, SHAPES, Clip, make_clip

KINDS: tuple[Kind, ...] = ("static", "transient")
ASKED: tuple[Asked, ...] = ("colour", "shape", "place")
CHI_SQUARE_3 = 16.27  # three degrees of freedom: larger once in a thousand times


class Asking(NamedTuple):
    clip: Clip
    question: Question


@pytest.fixture(scope="module")
def askings() -> list[Asking]:
    rng = random.Random(0)
    return [Asking(clip, question) for clip in (make_clip(rng, unseen=True) for _ in range(1500)) for question in ask(rng, clip)]


def of_kind(askings: list[Asking], kind: Kind) -> list[Asking]:
    return [asking for asking in askings if asking.question.kind == kind]


def chi_square(counts: Collection[int]) -> float:
    """How far counts are from equal ones."""
    expected = sum(counts) / len(counts)
    return sum((count - expected) ** 2 / expected for count in counts)


# Reading a question as a person would, without its other fields


PATTERNS = {
    wording: re.compile(re.escape(wording).replace(r"\{shape\}", f"({'|'.join(SHAPES)})").replace(r"\{colour\}", f"({'|'.join(COLOURS)})"))
    for wordings in WORDINGS.values()
    for wording in wordings
}


def wording_of(text: str) -> tuple[str, str]:
    """The wording, and the shape or colour that it names."""
    ((wording, match),) = [(wording, match) for wording, pattern in PATTERNS.items() if (match := pattern.fullmatch(text))]
    return wording, match.group(1)


class Seen(NamedTuple):
    shape: str
    colour: str
    place: str


def seen_at(clip: Clip, seconds: float) -> set[Seen]:
    def place(x: float, y: float) -> str:
        return min(PLACES, key=lambda name: abs(PLACES[name][0] - x) + abs(PLACES[name][1] - y))

    return {Seen(actor.shape, actor.colour_at(seconds), place(*actor.centre(seconds))) for actor in clip.visible(seconds)}


def answers(asking: Asking, seconds: Sequence[float]) -> set[str]:
    """Everything that answers the question's words truly at these times."""
    question = asking.question
    _, named = wording_of(question.text)
    there = {seen for t in seconds for seen in seen_at(asking.clip, t)}
    return {getattr(seen, question.asked) for seen in there if named == (seen.colour if question.asked == "shape" else seen.shape)}


def frames_every(clip: Clip, step: int) -> list[float]:
    return [number / FRAME_RATE for number in range(0, round(clip.duration_seconds * FRAME_RATE), step)]


def test_a_question_has_exactly_one_right_answer_among_its_choices(askings: list[Asking]) -> None:
    for asking in random.Random(0).sample(askings, 400):
        question = asking.question
        assert answers(asking, frames_every(asking.clip, 1)) == {question.answer}
        assert len(set(question.choices)) == len(question.choices) == CHOICES
        assert question.choices.count(question.answer) == 1
        assert set(question.choices) <= {"colour": set(COLOURS), "shape": set(SHAPES), "place": set(PLACES)}[question.asked]


def test_the_kind_follows_from_what_the_frames_show(askings: list[Asking]) -> None:
    """Static: a 1 fps frame shows it. Transient: none does, but a 3 fps frame does."""
    for asking in random.Random(1).sample(askings, 1500):
        given, could_be_had = (answers(asking, frames_every(asking.clip, step)) for step in (FRAME_RATE, FRAME_RATE // 3))
        assert could_be_had == {asking.question.answer}
        assert given == ({asking.question.answer} if asking.question.kind == "static" else set())


def test_the_times_are_those_at_which_the_actor_is_there(askings: list[Asking]) -> None:
    for clip, question in askings[:1000]:
        assert list(question.could_see) == [t for t in frames_every(clip, FRAME_RATE // 3) if question.actor in clip.visible(t)]
        assert list(question.seen) == [t for t in question.could_see if t.is_integer()]


def test_questions_come_by_seed() -> None:
    clip = make_clip(random.Random(3))
    assert ask(random.Random(4), clip) == ask(random.Random(4), clip)
    assert len({tuple(ask(random.Random(seed), clip)) for seed in range(5)}) == 5


# Nothing but the frames tells the answer or the kind


def test_every_sentence_is_asked_in_both_kinds(askings: list[Asking]) -> None:
    said = {kind: {wording_of(asking.question.text) for asking in of_kind(askings, kind)} for kind in KINDS}
    assert {wording for wording, _ in said["static"]} == set(PATTERNS)
    assert said["static"] == said["transient"]


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("kind", KINDS)
def test_no_wording_is_rarer_than_another_in_either_kind(askings: list[Asking], kind: Kind, asked: Asked) -> None:
    counts = Counter(wording_of(question.text)[0] for _, question in of_kind(askings, kind) if question.asked == asked)
    assert len(counts) == 4
    assert chi_square(counts.values()) < CHI_SQUARE_3


@pytest.mark.parametrize("kind", KINDS)
def test_every_letter_is_right_equally_often(askings: list[Asking], kind: Kind) -> None:
    counts = Counter("ABCD"[question.choices.index(question.answer)] for _, question in of_kind(askings, kind))
    assert sum(counts.values()) > 2000
    assert set(counts) == set("ABCD")
    assert chi_square(counts.values()) < CHI_SQUARE_3


# The scripted teacher


MISSED = re.compile("This frame does not show it|It is not in this frame")
GUESSED = re.compile("guess")


def said(steps: list[Step]) -> str:
    return "".join(step.text for step in steps if isinstance(step, Thought))


def answered(steps: list[Step], question: Question) -> str:
    """The choice that the last step names; the reasoning says the same one, and is closed."""
    last, thought = steps[-1], steps[-2]
    assert isinstance(last, Answer)
    assert isinstance(thought, Thought)
    index = chat.chosen(last.text, question.choices)
    assert index is not None
    assert re.search(rf"(answer is|makes it) {question.choices[index]}\.</think>$", thought.text)
    return question.choices[index]


def a_miss(asking: Asking) -> Look:
    return Look(next(t for t in frames_every(asking.clip, 1) if not asking.question.actor.is_there(t)))


def a_hit(asking: Asking) -> Look:
    return Look(asking.question.could_see[-1])


def marked(text: str) -> list[str]:
    return re.findall(r"(\w+)!", text)


NOTHING = Look(None, "no frame was found: answer from what you have seen")


def test_what_the_teacher_writes_is_what_the_model_can_write(askings: list[Asking]) -> None:
    rng = random.Random(0)
    for asking in askings[:400]:
        looks = [a_miss(asking), NOTHING, a_hit(asking)] if asking.question.kind == "transient" else []
        steps = explain(rng, *asking, looks)
        assert chat.parse(chat.render(steps)) == steps
        assert len(steps) == 3 * len(looks) + 2
        assert said(steps).startswith("<think>")
        assert said(steps).count("<think>") == said(steps).count("</think>") == 1


def test_a_static_question_is_answered_without_a_call(askings: list[Asking]) -> None:
    rng = random.Random(0)
    for asking in of_kind(askings, "static")[:300]:
        steps = explain(rng, *asking, [a_hit(asking)])
        assert [type(step) for step in steps] == [Thought, Answer]
        assert answered(steps, asking.question) == asking.question.answer
        # The frames are gone through up to the first that shows it, and only there the asked word is marked.
        read = [f"{seconds:.1f} seconds" for seconds in asking.clip.times(1.0) if seconds <= asking.question.seen[0]]
        assert re.findall(r"[\d.]+ seconds", said(steps)) == read
        last = said(steps).partition(f"{read[-1]}: ")[2].partition(".")[0]
        assert marked(said(steps)) == marked(said(steps).partition("!")[0] + "!") * 2
        assert marked(last) == marked(said(steps))[1:]
        assert not GUESSED.search(said(steps))


def test_a_transient_question_is_answered_by_the_look_that_shows_it(askings: list[Asking]) -> None:
    rng = random.Random(0)
    for asking in of_kind(askings, "transient")[:300]:
        steps = explain(rng, *asking, [a_hit(asking), a_hit(asking)])
        assert [type(step) for step in steps] == [Thought, Retrieve, Observation, Thought, Answer]
        call, observation = steps[1:3]
        assert isinstance(call, Retrieve)
        assert isinstance(observation, Observation)
        assert wording_of(asking.question.text)[1] in call.query
        assert asking.question.answer not in call.query
        assert observation.frames[0].seconds == a_hit(asking).seconds
        assert observation.frames[0].image.tobytes() == asking.clip.draw(a_hit(asking).seconds or 0.0).tobytes()
        # What is looked for is marked once at the beginning and once in the frame that shows it: in none of the first frames.
        before, after = (marked(step.text) for step in (steps[0], steps[3]) if isinstance(step, Thought))
        assert before == after == [wording_of(asking.question.text)[1]]
        assert answered(steps, asking.question) == asking.question.answer
        assert not MISSED.search(said(steps))
        assert not GUESSED.search(said(steps))


def test_a_look_that_misses_says_so_and_the_next_one_follows(askings: list[Asking]) -> None:
    rng = random.Random(0)
    for asking in of_kind(askings, "transient")[:200]:
        steps = explain(rng, *asking, [a_miss(asking), a_hit(asking)])
        assert sum(isinstance(step, Retrieve) for step in steps) == 2
        after_the_miss = steps[3]
        assert isinstance(after_the_miss, Thought)
        assert MISSED.search(after_the_miss.text)
        assert answered(steps, asking.question) == asking.question.answer
        assert not GUESSED.search(said(steps))


def test_without_the_thing_the_teacher_admits_a_guess(askings: list[Asking]) -> None:
    rng = random.Random(0)
    for asking in of_kind(askings, "transient")[:200]:
        missed, refused = explain(rng, *asking, [a_miss(asking)]), explain(rng, *asking, [NOTHING])
        blind = explain(rng, *asking, [a_hit(asking)], can_look=False)
        assert all(GUESSED.search(said(steps)) for steps in (missed, refused, blind))
        assert MISSED.search(said(missed))
        assert refused[2] == Observation(error=NOTHING.error)
        assert "frame" in said(refused[3:4])
        assert [type(step) for step in blind] == [Thought, Answer]


def test_a_guess_does_not_depend_on_the_truth(askings: list[Asking]) -> None:
    """Were another answer true, the same random numbers would write the same words."""
    for seed, asking in enumerate(of_kind(askings, "transient")[:200]):
        question = asking.question
        otherwise = [replace(question, answer=choice) for choice in question.choices]
        for looks in ([], [NOTHING], [a_miss(asking)]):
            told = [explain(random.Random(seed), asking.clip, other, looks) for other in otherwise]
            assert all(chat.render(steps)[0] == chat.render(told[0])[0] for steps in told)
            assert {answered(steps, question) for steps in told} == {answered(told[0], question)}


def test_guesses_are_spread_evenly(askings: list[Asking]) -> None:
    rng = random.Random(0)
    transient = of_kind(askings, "transient")[:2000]
    guesses = [(answered(explain(rng, *asking), asking.question), asking.question) for asking in transient]
    counts = Counter(question.choices.index(guess) for guess, question in guesses)
    assert chi_square(counts.values()) < CHI_SQUARE_3
    assert 0.21 < sum(guess == question.answer for guess, question in guesses) / len(guesses) < 0.29


# Captions


def test_a_caption_lists_what_each_frame_shows(askings: list[Asking]) -> None:
    rng = random.Random(0)
    for clip, _ in rng.sample(askings, 200):
        times = clip.times(1.0)
        clauses = describe(clip, times).split("; ")
        assert len(clauses) == len(times)
        for seconds, clause in zip(times, clauses, strict=True):
            time, _, listing = clause.partition(" seconds: ")
            assert time == f"{seconds:.1f}"
            listed = Counter(listing.split(", ")) if listing != "nothing" else Counter()
            assert listed == Counter(f"{seen.colour} {seen.shape} {seen.place}" for seen in seen_at(clip, seconds))
