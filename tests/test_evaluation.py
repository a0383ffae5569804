"""Evaluation: every sample ends as exactly one outcome and stays in the denominator, and scoring again runs no model."""

from collections.abc import Collection, Mapping, Sequence
from collections.abc import Generator as Yields
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from PIL import Image

from act2see.core.chat import Tool, chosen
from act2see.core.engine import Budget, LoopOptions
from act2see.core.errors import BackendError, ConfigError, ToolError, VideoError
from act2see.core.interfaces import Continuation, Sample
from act2see.core.protocol import STOPS
from act2see.core.trace import Answer, Cost, Frame, Observation, Retrieve, Trace
from act2see.evaluation.evaluator import Evaluator, Scored, ShuffledOptions, summarise
from act2see.synthetic.world import Clip
from act2see.video import Video

PICTURE = Image.new("RGB", (8, 8))
LOOK = "<retrieve> the star </retrieve>"


@dataclass
class Parrot:
    """A model that writes what the question says, turn by turn apart by `|`; `FAIL` is an error instead, `…` at the end the token limit."""

    made_with: Mapping[str, str] = field(default_factory=lambda: {"backend": "parrot"})
    asked: list[str] = field(default_factory=list)

    def decode(self, trace: Trace, tools: Sequence[Tool]) -> Yields[str, None, Continuation]:
        self.asked.append(trace.question)
        text = trace.question.split("|")[sum(isinstance(step, Observation) for step in trace.steps)]
        if text == "FAIL":
            raise BackendError("the server is gone")
        yield text
        stopped: Literal["tag", "end", "length"] = "tag" if text.endswith(STOPS) else "length" if text.endswith("…") else "end"
        return Continuation(text, stopped, Cost(10, 2, 1))


@dataclass
class OneFrame:
    """Always the same frame; `broken` meets a broken file, `gone` a server that is gone, `nan` an encoder without numbers, `nothing` no frame."""

    name: str = "one"

    def find(self, video: Video, query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
        if query == "broken":
            raise VideoError("no frame at 1.00 s")
        if query == "gone":
            raise BackendError("no answer from the retriever's server")
        if query == "nan":
            raise ConfigError("scores that are no numbers")
        if query == "nothing":
            raise ToolError("no frame was found")
        return [Frame(PICTURE, 0.5)]


@dataclass
class NoPainter:
    """A generator whose server is gone."""

    name: str = "painter"

    def generate(self, prompt: str, anchor: Frame, *, seed: int) -> Frame:
        raise BackendError("no answer from the painter")


@dataclass
class Listed:
    """A benchmark of the given samples."""

    listed: Sequence[Sample]
    name: str = "listed"

    def samples(self) -> Sequence[Sample]:
        return self.listed

    def is_right(self, sample: Sample, trace: Trace) -> bool | None:
        index = chosen(trace.answer, sample.choices)
        return None if index is None else sample.choices[index] == sample.answer


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("evaluation") / "clip.mp4"
    Clip(2.0, ()).write(path)
    return path


# What the model writes, whether it calls, and the one outcome that follows.
CASES = {
    "right": ("<answer> B </answer>", False, "correct"),
    "right after a look": (f"{LOOK}|<answer>blue</answer>", True, "correct"),
    "wrong": ("<answer>A</answer>", False, "wrong"),
    "an answer that names no choice": ("<answer>the blue one, I think</answer>", False, "no_answer"),
    "a letter that is not there": ("<answer>E</answer>", False, "no_answer"),
    "no answer": ("It is blue.", False, "no_answer"),
    "no answer after a look": (f"{LOOK}|I do not know.", True, "no_answer"),
    "errors only": ("|".join(["<retrieve></retrieve>"] * 4), False, "no_answer"),
    "cut off": ("It is…", False, "truncated"),
    "cut off while answering": (f"{LOOK}|<answer>B…", True, "truncated"),
    "the backend fails": ("FAIL", False, "backend_error"),
    "the backend fails after a look": (f"{LOOK}|FAIL", True, "backend_error"),
    "the video breaks": ("<retrieve>broken</retrieve>|<answer>B</answer>", True, "video_error"),
    "the retriever is gone": ("<retrieve>gone</retrieve>|<answer>B</answer>", True, "tool_error"),
    "the retriever is no use": ("<retrieve>nan</retrieve>|<answer>B</answer>", True, "tool_error"),
    "the painter is gone": ("<generate>a star</generate>|<answer>B</answer>", True, "tool_error"),
    # What a tool tells the model is part of what is measured: the model goes on, and its answer counts.
    "nothing is found, and the answer is right": ("<retrieve>nothing</retrieve>|<answer>B</answer>", True, "correct"),
    "nothing is found, and the answer is wrong": ("<retrieve>nothing</retrieve>|<answer>A</answer>", True, "wrong"),
    "it calls badly and answers all the same": ("<retrieve></retrieve>|<answer>A</answer>", False, "wrong"),
}


def samples(clip: Path) -> list[Sample]:
    made = [
        Sample(name, clip, text, ("red", "blue"), "blue", "static" if number % 2 else "transient", ("rare",) if number < 3 else ())
        for number, (name, (text, _, _)) in enumerate(CASES.items())
    ]
    return [*made, Sample("no video", clip.with_name("none.mp4"), "What?", ("red", "blue"), "blue", "static")]


def test_every_sample_ends_as_exactly_one_outcome(clip: Path) -> None:
    scored = list(Evaluator(Listed(samples(clip)), Parrot(), OneFrame(), NoPainter()).run())
    assert {one.sample.id: (one.called, one.outcome) for one in scored} == {
        **{name: (called, outcome) for name, (_, called, outcome) in CASES.items()},
        "no video": (False, "video_error"),
    }
    assert [one.sample.id for one in scored] == [*CASES, "no video"]  # in the benchmark's order


def test_an_outcome_keeps_the_trace_and_says_what_went_wrong(clip: Path) -> None:
    scored = {one.sample.id: one for one in Evaluator(Listed(samples(clip)), Parrot(), OneFrame(), NoPainter()).run()}
    assert scored["no video"].trace is None
    assert "no such file" in (scored["no video"].error or "")
    for name, part in (("the backend fails after a look", "the server is gone"), ("the video breaks", "no frame at 1.00 s")):
        trace = scored[name].trace
        assert trace is not None
        assert trace.finish is None  # it can be carried on
        assert isinstance(trace.steps[0], Retrieve)
        assert part in (scored[name].error or "")
    assert all(one.error is None for one in scored.values() if not one.outcome.endswith("_error"))


def test_every_sample_stays_in_the_denominator(clip: Path) -> None:
    summary = summarise(Evaluator(Listed(samples(clip)), Parrot(), OneFrame(), NoPainter()).run())
    total = len(CASES) + 1
    assert summary["n"] == total == sum(summary["outcomes"].values())
    counted = {"backend_error": 2, "correct": 3, "no_answer": 5, "tool_error": 3, "truncated": 2, "video_error": 2, "wrong": 3}
    assert summary["outcomes"] == counted
    assert summary["n_by_kind"] == {"rare": 3, "static": 10, "transient": 10}
    assert summary["accuracy"] == {"all": round(3 / total, 4), "rare": round(2 / 3, 4), "static": 0.1, "transient": 0.2}
    assert summary["call_rate"]["all"] == round(10 / total, 4)


def test_tokens_are_those_of_all_traces(clip: Path) -> None:
    asked = Listed([sample for sample in samples(clip) if sample.id in ("right", "right after a look")])
    assert summarise(Evaluator(asked, Parrot(), OneFrame(), NoPainter()).run())["tokens"] == {"in": 30, "out": 6}


def test_nothing_scored_has_no_rates() -> None:
    summary = summarise([])
    assert (summary["n"], summary["outcomes"]) == (0, {})
    assert (summary["accuracy"], summary["call_rate"]) == ({"all": None}, {"all": None})


def test_without_looks_a_call_still_counts_as_a_call(clip: Path) -> None:
    asked = Listed([Sample("s", clip, f"{LOOK}|<answer>B</answer>", ("red", "blue"), "blue", "static")])
    (scored,) = Evaluator(asked, Parrot(), OneFrame(), loop=LoopOptions(max_looks=0)).run()
    assert (scored.called, scored.outcome) == (True, "correct")
    assert scored.trace is not None
    assert scored.trace.looks == 0


def test_traces_that_are_there_are_scored_again_without_the_model(clip: Path) -> None:
    known = [sample for sample in samples(clip) if sample.id in ("right", "wrong", "cut off")]
    first = {one.sample.id: one for one in Evaluator(Listed(known), Parrot(), OneFrame(), NoPainter()).run()}
    done = {name: one.trace for name, one in first.items() if one.trace is not None and name != "wrong"}
    backend = Parrot()
    again = list(Evaluator(Listed(known), backend, OneFrame()).run(done))
    assert backend.asked == ["<answer>A</answer>"]  # of the sample that was not done
    assert {one.sample.id: one.outcome for one in again} == {name: one.outcome for name, one in first.items()}
    assert all(one.trace is done[one.sample.id] for one in again if one.sample.id in done)


def test_another_scoring_rule_needs_no_model(clip: Path) -> None:
    """What is scored again is judged by the benchmark as it is now."""
    (sample,) = (sample for sample in samples(clip) if sample.id == "wrong")
    (first,) = Evaluator(Listed([sample]), Parrot(), OneFrame(), NoPainter()).run()
    assert first.trace is not None
    assert first.trace.steps == [Answer("A")]
    corrected = Sample(sample.id, clip.with_name("gone.mp4"), sample.question, sample.choices, "red", sample.kind)
    (again,) = Evaluator(Listed([corrected]), Parrot(), OneFrame()).run({sample.id: first.trace})
    assert again == Scored(corrected, "correct", first.trace)


def test_only_some_tools_may_be_offered_and_a_budget_ends_the_looking(clip: Path) -> None:
    asked = [sample for sample in samples(clip) if sample.id == "right after a look"]
    for loop, brings in ((LoopOptions(), True), (LoopOptions(offered=()), False), (LoopOptions(budget=Budget(frames=1)), False)):
        (scored,) = Evaluator(Listed(asked), Parrot(), OneFrame(), loop=loop).run()
        assert scored.trace is not None
        assert (scored.trace.looks == 1) is brings


def test_frames_are_put_in_where_that_is_asked_for(clip: Path) -> None:
    asked = [sample for sample in samples(clip) if sample.id == "right"]
    (plain,), (inserted,) = (list(Evaluator(Listed(asked), Parrot(), OneFrame(), insert=count).run()) for count in (0, 1))
    assert plain.trace is not None
    assert inserted.trace is not None
    assert len(inserted.trace.frames) == len(plain.trace.frames) + 1
    assert inserted.outcome == "correct"


# What is kept of each


def test_a_score_tells_what_the_trace_took(clip: Path) -> None:
    asked = [sample for sample in samples(clip) if sample.id in ("right after a look", "it calls badly and answers all the same", "no video")]
    looked, careless, missing = (one.score(number) for number, one in enumerate(Evaluator(Listed(asked), Parrot(), OneFrame()).run(), start=7))
    assert (looked.id, looked.number, looked.outcome, looked.video) == ("right after a look", 7, "correct", str(clip))
    assert (looked.calls, looked.served, looked.refused) == (1, 1, 0)
    assert (looked.tokens_in, looked.tokens_out, looked.frames) == (20, 4, 3)  # two decodings; two initial frames and one brought
    assert (careless.calls, careless.served, careless.refused) == (0, 0, 1)
    assert (missing.frames, missing.tokens_in, missing.calls) == (0, 0, 0)
    assert "no such file" in (missing.error or "")


def test_the_same_question_has_the_same_content_in_any_order_of_its_choices(clip: Path) -> None:
    one = Sample("s", clip, "What?", ("red", "blue"), "blue", "static")
    moved = Sample("s", clip.parent / "elsewhere" / clip.name, "In other words?", ("blue", "red"), "blue", "static")
    others = [
        Sample("s", clip, "What?", ("red", "green"), "green", "static"),
        Sample("s", clip, "What?", ("red", "blue"), "red", "static"),
        Sample("s", clip.with_name("other.mp4"), "What?", ("red", "blue"), "blue", "static"),
    ]
    contents = [Scored(sample, "wrong", None).score().content for sample in (one, moved, *others)]
    assert contents[0] == contents[1]
    assert len(set(contents)) == 4


# The order of the choices


def test_shuffled_options_are_drawn_for_each_question_and_by_the_seed(clip: Path) -> None:
    choices = ("red", "blue", "green", "grey")
    asked = Listed([Sample(f"q{number}", clip, "What?", choices, "blue", "static") for number in range(40)])
    first, again, other = (list(ShuffledOptions(asked, seed).samples()) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert all(sorted(sample.choices) == sorted(choices) and sample.answer == "blue" for sample in first)
    assert {sample.choices.index("blue") for sample in first} == {0, 1, 2, 3}
    assert [sample.id for sample in first] == [sample.id for sample in asked.listed]


def test_a_letter_means_the_choice_that_the_model_was_shown(clip: Path) -> None:
    """Also when the trace is scored again by the benchmark in its own order: in whatever order the choices stood, B was the second."""
    plain = Sample("s", clip, "<answer>B</answer>", ("blue", "red"), "blue", "static")
    turned = next(one for seed in range(99) for one in ShuffledOptions(Listed([plain]), seed).samples() if one.choices == ("red", "blue"))
    shown = Evaluator(Listed([plain]), Parrot(), OneFrame()).answer(turned)
    assert shown.trace is not None
    again = Evaluator(Listed([plain]), Parrot(), OneFrame()).score(plain, shown.trace)
    assert (shown.outcome, again.outcome, again.sample.choices) == ("correct", "correct", ("red", "blue"))
