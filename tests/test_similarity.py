"""How alike traces and people's reasonings are: cosines that another computation finds too, each asked for once."""

import dataclasses
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from act2see.core.errors import StoreError
from act2see.core.interfaces import TextEmbedder
from act2see.core.trace import Answer, Finish, Frame, Observation, Retrieve, Step, Thought, Trace
from act2see.curation.filters import own_words
from act2see.curation.qa_records import Reference
from act2see.curation.similarity import SIMILARITIES, Pair, finished, reference_of, similarities
from act2see.storage.runs import Place, Run

LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass
class Counting:
    """Counts a text's letters, and notes what it was asked for."""

    name: str = "letters"
    asked: list[list[str]] = field(default_factory=list)

    def __call__(self) -> TextEmbedder:
        return self

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.asked.append(list(texts))
        counts = np.array([[text.count(letter) for letter in LETTERS] for text in texts], np.float32)
        return np.asarray(counts / np.linalg.norm(counts, axis=1, keepdims=True), np.float32)


def never() -> TextEmbedder:
    raise AssertionError("no embedder is needed")


def cosine(one: str, other: str) -> float:
    """By the numbers of letters, in another way than `Counting`'s."""
    first, second = (Counter(letter for letter in text if letter in LETTERS) for text in (one, other))
    product = sum(count * second[letter] for letter, count in first.items())
    return product / math.sqrt(sum(n * n for n in first.values()) * sum(n * n for n in second.values()))


def reference(name: str, reasoning: str | None) -> Reference:
    return Reference(name, "made-up", "MIT", "v.mp4", "?", (), "blue", "colour", reasoning)


def trace(name: str, thought: str, finish: Finish | None = "answer") -> Trace:
    frame = Frame(Image.new("RGB", (4, 4)), 0.5)
    steps: list[Step] = [Thought(f"<think>{thought}"), Retrieve("zzz"), Observation((frame,)), Thought("and more</think>"), Answer("qqq")]
    return Trace(name, "v.mp4", "?", (), steps=steps, finish=finish)


TEXTS = {"a#0": "it shines bluely", "a#1": "it is a blue star", "b#0": "a ring is\n near  the border", "c#0": "nothing"}
REFERENCES = {"a": reference("a", "the star is blue"), "b": reference("b", "a ring lies near it"), "c": reference("c", None)}
EXPECTED = {name: cosine(f"{TEXTS[name]} and more", REFERENCES[name[0]].reasoning or "") for name in ("a#0", "a#1", "b#0")}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = Run.create(tmp_path / "run", command="construct", config={}, seed=0)
    for name, thought in TEXTS.items():
        made.append(trace(name, thought))
    return made


def the_place(place: Place, trace: Trace) -> Place:
    return place


def pairs(run: Run, references: Mapping[str, Reference] = REFERENCES) -> dict[str, Pair]:
    """As a filtering compares them: none of a question without a person's reasoning."""
    asked = {trace.id: (own_words(trace), reference_of(trace, references).reasoning) for _, trace in run.sketches()}
    return {name: Pair(said, reasoning) for name, (said, reasoning) in asked.items() if reasoning}


def test_cosines_are_those_of_an_independent_computation(run: Run) -> None:
    embedder = Counting()
    found = similarities(run, pairs(run), embedder, "letters")
    assert found == pytest.approx(EXPECTED, abs=1e-6)  # and none of c, whose person has not reasoned
    assert len({round(value, 3) for value in found.values()}) == 3
    (asked,) = embedder.asked
    assert asked[:2] == ["it shines bluely and more", "the star is blue"]  # neither call nor answer
    assert asked[4] == "a ring is near the border and more"


def test_what_is_known_is_not_asked_for_again(run: Run) -> None:
    before = similarities(run, pairs(run), Counting(), "letters")
    assert similarities(Run.open(run.folder), pairs(run), never, "letters") == before


def test_only_what_is_new_is_asked_for(run: Run) -> None:
    similarities(run, pairs(run), Counting(), "letters")
    run.append(trace("b#1", "a new try"))
    embedder = Counting()
    changed = REFERENCES | {"a": reference("a", "another reasoning")}
    found = similarities(run, pairs(run, changed), embedder, "letters")
    asked = [text for texts in embedder.asked for text in texts]
    assert sorted(asked[0::2]) == ["a new try and more", "it is a blue star and more", "it shines bluely and more"]
    assert found["b#0"] == pytest.approx(EXPECTED["b#0"], abs=1e-6)
    assert found["a#0"] == pytest.approx(cosine("it shines bluely and more", "another reasoning"), abs=1e-6)
    # What was known before still is.
    assert similarities(run, pairs(run, REFERENCES | {"b": reference("b", None)}), never, "letters").keys() == {"a#0", "a#1"}


def test_another_name_asks_again_and_forgets_nothing(run: Run) -> None:
    similarities(run, pairs(run), Counting(), "letters")
    embedder = Counting()
    similarities(run, pairs(run), embedder, "other letters")
    assert sum(map(len, embedder.asked)) == 6
    similarities(run, pairs(run), never, "letters")


def test_many_are_asked_for_in_batches_and_each_is_told_of(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", command="construct", config={}, seed=0)
    names = [f"a#{number}" for number in range(150)]
    for name in names:
        run.append(trace(name, f"{name} {'star ' * (int(name[2:]) % 7)}"))
    told: list[tuple[int, int | None, str]] = []
    embedder = Counting()
    found = similarities(run, pairs(run), embedder, "letters", lambda *progress: told.append(progress))
    assert told == [(64, 150, "texts compared"), (128, 150, "texts compared"), (150, 150, "texts compared")]
    assert list(found) == names
    assert max(map(len, embedder.asked)) <= 128
    for name in names:
        assert found[name] == pytest.approx(cosine(f"{name} {'star ' * (int(name[2:]) % 7)}and more", "the star is blue"), abs=1e-6)


def test_a_trace_that_answers_no_known_question_is_refused(run: Run) -> None:
    run.append(trace("d#0", "who asked?"))
    with pytest.raises(StoreError, match=re.escape("trace d#0 has no question in samples.jsonl")):
        similarities(run, pairs(run), Counting(), "letters")
    assert reference_of(trace("a#17", ""), REFERENCES) is REFERENCES["a"]


@pytest.mark.parametrize(
    ("line", "message"),
    [("{", "no JSON"), ('{"key": "k"}', 'the field "cosine" is missing'), ('{"key": "k", "cosine": "0.9"}', "where a number is expected")],
)
def test_a_broken_line_of_what_is_known_is_computed_again(line: str, message: str, run: Run) -> None:
    (run.folder / SIMILARITIES).write_text(json.dumps({"key": "k", "cosine": 0.5}) + f"\n{line}\n", encoding="utf-8")
    damaged: list[str] = []
    run.rows(SIMILARITIES, damaged)
    assert not damaged or message in damaged[0]
    similarities(run, pairs(run), Counting(), "letters")
    rows = run.rows(SIMILARITIES)
    assert rows is not None
    assert rows[0][1] == {"key": "k", "cosine": 0.5}
    assert all(set(row) == {"key", "cosine"} and isinstance(row["cosine"], float | int) for _, row in rows)


def test_what_cannot_be_judged_is_named_and_passed_over(run: Run) -> None:
    count = len(finished(run, the_place)[0])
    run.append(trace("d#0", "who asked?"))
    run.append(dataclasses.replace(trace("a#9", "x"), question="What else?"))
    with (run.folder / "traces.jsonl").open("ab") as file:
        file.write(b"{}\n")
    damaged: list[str] = []
    places, _ = finished(run, the_place, REFERENCES, damaged)
    assert len(places) == count
    assert ["traces.jsonl:" in one for one in damaged] == [True] * 3
    assert sum("has no question in samples.jsonl" in one for one in damaged) == 1
    assert sum("differs from samples.jsonl" in one for one in damaged) == 1


# Which traces have ended


def test_what_failed_has_cost_something_and_of_several_the_last_that_ended_stands(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", command="construct", config={}, seed=0)
    tries: tuple[tuple[str, Finish | None], ...] = (("a#0", None), ("a#0", "answer"), ("b#0", None), ("c#0", "length"), ("c#0", "end"), ("c#0", None))
    for number, (name, finish) in enumerate(tries, start=1):
        tried = trace(name, "hm", finish)
        tried.cost.tokens_in = number
        run.append(tried)
    places, failed = finished(run, the_place)
    assert {name: place.line for name, place in places.items()} == {"a#0": 2, "c#0": 5}
    assert [cost.tokens_in for cost in failed] == [1, 3, 6]


def test_a_run_without_traces(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", command="construct", config={}, seed=0)
    assert finished(run, the_place) == ({}, [])
    assert similarities(run, {}, never, "letters") == {}
