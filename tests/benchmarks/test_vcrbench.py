"""VCR-Bench: four forms of answers, options taken out of the question, groups of the official breakdown."""

import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from act2see.benchmarks.reading import Findings
from act2see.benchmarks.vcrbench import VCRBench, form_of, list_in, plain_question
from act2see.benchmarks.vcrbench_judge import TRIES, Judge
from act2see.core.chat import Tool
from act2see.core.errors import ConfigError, JudgeError
from act2see.core.interfaces import Continuation
from act2see.core.trace import Cost, Trace
from made_up_sets import answered, rows_of_vcr_bench, write_json


def test_options_stand_once_and_other_forms_are_asked_for(tmp_path: Path) -> None:
    write_json(tmp_path / "meta_info_video.json", rows_of_vcr_bench())
    choice, interval, box, opened = list(VCRBench(tmp_path).samples())[:4]
    assert [form_of(sample) for sample in (choice, interval, box, opened)] == ["options", "interval", "box", "open"]
    assert choice.question == "Which colour is meant by 0?"
    assert choice.choices == ("red", "green", "blue", "yellow")
    assert choice.answer == "red"
    assert interval.question.startswith("When is it red?\nAnswer with its start and its end in seconds")
    assert box.question.startswith("Where is it red?\nAnswer with the box's left, top, right and bottom")
    assert opened.question == "Why is it red?"
    assert (interval.choices, interval.answer) == ((), "[10, 20]")
    assert choice.reasoning == "1. 0:03-0:10, a light turns red.\n2. Therefore it is red."


def test_groups_by_duration_and_form(tmp_path: Path) -> None:
    write_json(tmp_path / "meta_info_video.json", rows_of_vcr_bench())
    first, second, third, *_ = VCRBench(tmp_path).samples()
    assert first.kind == "Video Plot Analysis"
    assert [sample.groups[0] for sample in (first, second, third)] == ["duration: 0-60 s", "duration: 60-300 s", "duration: 300+ s"]
    assert [sample.groups[1] for sample in (first, second, third)] == ["answer: options", "answer: interval", "answer: box"]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Why?A. red\nB. blue\n", "Why?"),
        ("Why?\nA. red B. blue", "Why?"),
        ("Why?\n A) red\n B) blue ", "Why?"),
        ("Is it A. red or B. blue, then?", "Is it A. red or B. blue, then?"),
        ("A. red\nB. blue", "A. red\nB. blue"),
        ("Why?A. red\nB. green", "Why?A. red\nB. green"),
    ],
)
def test_only_the_options_own_texts_are_taken_out(tmp_path: Path, question: str, expected: str) -> None:
    row = {**rows_of_vcr_bench()[0], "question": question, "choices": {"A": "red", "B": "blue", "C": "", "D": None}, "answer": "B"}
    write_json(tmp_path / "meta_info_video.json", [row])
    (sample,) = VCRBench(tmp_path).samples()
    assert (sample.question, sample.choices, sample.answer) == (expected, ("red", "blue"), "blue")


@pytest.mark.parametrize(
    ("answer", "form", "expected"),
    [
        ("[10, 20]", "interval", "[10, 20]"),
        ("From [10.5,20] s.", "interval", "[10.5,20]"),
        ("[1, 2] or [3, 4]", "interval", None),
        ("10 to 20", "interval", None),
        ("[1, 2, 3, 4]", "interval", None),
        ("[1, 2, 3, 4]", "box", "[1, 2, 3, 4]"),
        ("[1.5, 2, 3, 4]", "box", None),
        ("[1, 2]", "box", None),
        (None, "box", None),
    ],
)
def test_one_list_of_the_right_kind_is_an_answer(answer: str | None, form: Any, expected: str | None) -> None:
    assert list_in(answer, form) == expected


def test_faults(tmp_path: Path) -> None:
    rows = rows_of_vcr_bench()
    rows[0]["answer"] = "E"
    rows[1]["duration"] = "long"
    rows[2]["multiple-choice"] = "no"
    rows[3]["reasoning"] = "1. It is red."
    rows[4]["choices"] = ["red"]
    rows[5]["duration"] = 0
    del rows[6]["reasoning"]
    write_json(tmp_path / "meta_info_video.json", rows)
    found = Findings()
    assert len(VCRBench(tmp_path).read(found)) == 13
    words = (
        'the answer "E" is not one of the choices A to D',
        'duration is "long", expected a number of seconds',
        'multiple-choice is "no", expected true or false',
        'reasoning is "1. It is red.", expected a list of texts',
        'choices is ["red"], expected an object of texts',
        "duration is 0, expected a number of seconds",
        "missing field 'reasoning'",
    )
    assert len(found.problems) == len(words)
    for number, (problem, expected) in enumerate(zip(found.problems, words, strict=True), start=1):
        assert problem.startswith(f"meta_info_video.json: item {number}: {expected}")


def test_options_are_scored_by_letter_or_text(tmp_path: Path) -> None:
    write_json(tmp_path / "meta_info_video.json", rows_of_vcr_bench())
    data = VCRBench(tmp_path)
    sample = next(data.samples())
    assert data.is_right(sample, answered("0", "A")) is True
    assert data.is_right(sample, answered("0", "green")) is False
    assert data.is_right(sample, answered("0", "E")) is None


# Overlaps and the judge


class Words:
    """A judge that answers by the kind of question it is asked, and counts."""

    made_with: Mapping[str, str] = {"backend": "words", "model": "judge-1"}

    def __init__(self, *, extracted: str = "Z", compared: str = "0", steps: str = "[]") -> None:
        self.extracted, self.compared, self.steps = extracted, compared, steps
        self.asked: list[str] = []

    def decode(self, trace: Trace, tools: Sequence[Tool]) -> Generator[str, None, Continuation]:
        self.asked.append(trace.question)
        text = (
            self.compared if "Do these two answers" in trace.question else self.extracted if "Find the final answer" in trace.question else self.steps
        )
        yield text
        return Continuation(text, "end", Cost())


def steps(*judged: tuple[str, str]) -> str:
    kinds = {"see": "Video Description Steps", "think": "Logical Inference Steps", "repeat": "Background Review Steps"}
    return f"```json\n{json.dumps([{'step': 's', 'step_type': kinds[kind], 'judgment': judgment} for kind, judgment in judged])}\n```"


@pytest.fixture
def data(tmp_path: Path) -> VCRBench:
    write_json(tmp_path / "meta_info_video.json", rows_of_vcr_bench())
    return VCRBench(tmp_path)


@pytest.mark.parametrize(
    ("number", "answer", "right"),
    [
        (1, "[10, 20]", True),
        (1, "It is red in [10, 18].", True),
        (1, "[10, 17]", False),  # exactly 0.7 is not above it
        (1, "[10, 17.01]", True),
        (1, "[30, 40]", False),
        (1, "10 to 20", None),
        (1, "[10, 20] or [20, 30]", None),
        (1, "[010, 20]", None),
        (2, "[10, 10, 110, 110]", True),
        (2, "[10, 10, 110, 60]", False),  # exactly 0.5
        (2, "[10, 10, 110, 61]", True),
        (2, "[10, 20]", None),
        (3, "because of  the LIGHT", True),
        (3, "It is the light.", None),
        (3, "", None),
    ],
)
def test_overlaps_are_scored_and_open_answers_only_in_the_same_words(data: VCRBench, number: int, answer: str, right: bool | None) -> None:
    assert data.is_right(list(data.samples())[number], answered("q", answer)) is right


@pytest.mark.parametrize(("compared", "right"), [("1", True), (" 1\n", True), ("0", False), ("<answer>1</answer>", True)])
def test_a_judge_compares_open_answers_alone(data: VCRBench, compared: str, right: bool) -> None:
    words = Words(compared=compared)
    judging = replace(data, judge=Judge(words))
    samples = list(data.samples())
    assert judging.is_right(samples[3], answered("q", "It is the light.")) is right
    assert len(words.asked) == 1
    assert judging.is_right(samples[3], answered("q", "Because of the light")) is True
    assert judging.is_right(samples[1], answered("q", "[10, 20]")) is True
    assert judging.is_right(samples[0], answered("q", "green")) is False
    assert judging.is_right(samples[3], answered("q", None)) is None
    assert len(words.asked) == 1


def test_a_judge_that_never_says_1_or_0_is_asked_three_times_and_then_an_error_of_its_own(data: VCRBench) -> None:
    words = Words(compared="yes")
    judging = replace(data, judge=Judge(words))
    with pytest.raises(JudgeError, match="expected 1 or 0"):
        judging.is_right(list(data.samples())[3], answered("q", "It is the light."))
    assert len(words.asked) == TRIES


def test_four_questions_give_the_official_fields(data: VCRBench) -> None:
    reply = steps(("see", "Matched"), ("think", "Matched"), ("repeat", "Matched"))
    words = Words(extracted=" [11, 20] ", steps=reply)
    interval = list(data.samples())[1]
    found = replace(data, judge=Judge(words)).judged(interval, answered("q", "[11, 20]"))
    assert found.error is None
    assert found.fields["extract_answer"] == "[11, 20]"
    assert found.fields["answer_scoring"] == "1"  # by the overlap: the judge was not asked to compare
    assert (found.fields["overall_recall"], found.fields["overall_precision"], found.fields["dimension"]) == (1.0, 1.0, "Temporal Grounding")
    assert len(words.asked) == 3
    assert all("Answer with its start" not in asked for asked in words.asked)
    assert "1. 0:03-0:10, a light turns red.\n2. Therefore" in words.asked[1]


def test_options_are_written_as_the_data_set_does(data: VCRBench) -> None:
    assert plain_question(next(data.samples())) == "Which colour is meant by 0?\nA. red\nB. green\nC. blue\nD. yellow"


def test_a_judge_that_never_writes_a_list_is_a_judge_error(data: VCRBench) -> None:
    words = Words(extracted="A", compared="1", steps="no list")
    judging = replace(data, judge=Judge(words, tries=2))
    found = judging.judged(next(data.samples()), answered("q", "A"))
    assert found.error == "judge error in recall: the judge's reply has no list between ```json and ``` (2 tries)"
    assert found.fields["answer_scoring"] == "1"
    assert len(words.asked) == 4
    with pytest.raises(ConfigError, match="pass one with --answer-judge"):
        data.judged(next(data.samples()), answered("q", "A"))


def test_figures_over_a_run(data: VCRBench) -> None:
    reply = steps(("see", "Matched"), ("think", "Matched"))
    judging = replace(data, judge=Judge(Words(extracted="A", compared="1", steps=reply)))
    samples = list(data.samples())[:4]
    figures = judging.figures([(samples[0], answered("0", "A")), (samples[3], answered("3", "the light")), (samples[1], None)])
    assert figures["n"] == 3
    assert figures["judge"] == "judge-1, our prompts"
    assert figures["judge_errors"] == 0
    assert figures["accuracy"]["overall_accuracy"] == pytest.approx(2 / 3)
    assert figures["accuracy"]["dimension_accuracy"] == {"Video Plot Analysis": 1.0, "Knowledge": 1.0, "Temporal Grounding": 0.0}
    assert figures["accuracy"]["duration_accuracy"] == {"0-60": 1.0, "60-300": 0.0, "300+": 0.0}
    assert figures["reasoning"]["overall"] == {"precision": 1.0, "recall": 1.0, "f1": 1.0}
    broken = replace(data, judge=Judge(Words(extracted="A", compared="1"))).figures([(samples[0], answered("0", "A"))])
    assert (broken["n"], broken["judge_errors"]) == (0, 1)
