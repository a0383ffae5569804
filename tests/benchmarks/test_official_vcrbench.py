"""VCR-Bench's official rule: overlaps, a judge's exact word, steps counted by their type, and what a whole run comes to."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from act2see.benchmarks.official import vcrbench
from act2see.benchmarks.official.vcrbench import Match

VIDEO, LOGIC, BACKGROUND = "Video Description Steps", "Logical Inference Steps", "Background Review Steps"


def asked(extracted: Any, gold: Any, judge: str | None = "1") -> Match:
    return vcrbench.match_answer(extracted, gold, lambda: judge)


def reply(*steps: tuple[str, str]) -> str:
    return f"```json\n{json.dumps([{'step_type': kind, 'judgment': judgment} for kind, judgment in steps])}\n```"


# Answers


@pytest.mark.parametrize(
    ("extracted", "gold", "scoring"),
    [
        ("[3, 10]", "[0, 10]", "0"),  # 0.7 is not above 0.7
        ("[2.99, 10]", "[0, 10]", "1"),
        ("[0, 0]", "[0, 0]", "0"),  # nothing in common with nothing
        ("[5, 5]", "[5, 5]", "0"),
        ("[10, 0]", "[10, 0]", "0"),
        ("[10, 0]", "[0, 10]", "0"),
        (" [0, 10]", "[0, 10]", "1"),
        ("[-5, 5]", "[-5, 5.0]", "1"),
        ("[0, 1e999]", "[0, 1e999]", "0"),
        ("[False, 10]", "[0, 10]", "1"),
        ("[0, 0, 10, 5]", "[0, 0, 10, 10]", "0"),  # 0.5 is not above 0.5
        ("[0, 0, 10, 6]", "[0, 0, 10, 10]", "1"),
        ("[ 0 ,0, 10,  10 ]", "[0,0,10,10]", "1"),
        ("[10, 10, 0, 0]", "[10, 10, 0, 0]", "0"),
        ("[+0, 0, 1_0, 10]", "[0, 0, 10, 10]", "1"),
    ],
)
def test_overlaps_are_computed(extracted: str, gold: str, scoring: str) -> None:
    assert asked(extracted, gold) == Match(scoring, judge_called=False)


@pytest.mark.parametrize(
    ("extracted", "gold"),
    [
        ("[0,0,0,0]", "[0,0,0,0]"),  # no area
        ("[5,0,5,10]", "[5,0,5,10]"),
        (None, "[0,0,10,10]"),  # a box is compared with what is no text
        (5, "[0,0,10,10]"),
        ("D", None),  # the right answer is no text
        ("[0, 10]", [0, 10]),
        ("[" + "9" * 400 + ", 0.5]", "[0, 1]"),  # too large to divide
        ("x", "{[]: 1}"),  # a list as a key
    ],
)
def test_what_the_original_fails_on_is_wrong_without_a_judge(extracted: Any, gold: Any) -> None:
    assert asked(extracted, gold) == Match(0, judge_called=False)
    assert not asked(extracted, gold).is_right


@pytest.mark.parametrize(
    ("extracted", "gold"),
    [
        ("D", "D"),
        ("", ""),
        (None, "D"),
        ("(0, 10)", "[0, 10]"),
        ("[0, 10", "[0, 10]"),
        ("[0, 10]", "[0, 5, 10]"),
        ("['0', 10]", "[0, 10]"),
        ("[0, None]", "[0, 10]"),
        ("[0, 10]", "[0,0,10,10]"),  # a box against a stretch of time
        ("[0,0,10,10]", "[0, 10]"),
        ("[0,0,10.0,10]", "[0,0,10,10]"),
        ("[0,0,10,10] ", "[0,0,10,10]"),
        ("[0,0,,10]", "[0,0,10,10]"),
        ("[" * 300, "[0, 10]"),
        ("0:05", "[0,0,10,10]"),
    ],
)
def test_the_rest_is_the_judges(extracted: Any, gold: Any) -> None:
    assert asked(extracted, gold, "1") == Match("1", judge_called=True)
    assert asked(extracted, gold, "1").is_right


@pytest.mark.parametrize("word", ["0", "1\n", " 1", "1.", "Yes", "", None])
def test_only_the_text_1_is_right(word: str | None) -> None:
    assert asked("D", "D", word) == Match(word, judge_called=True)
    assert not asked("D", "D", word).is_right


intervals = st.tuples(st.integers(0, 100), st.integers(1, 50)).map(lambda pair: [float(pair[0]), float(pair[0] + pair[1])])
boxes = st.tuples(*[st.integers(0, 100)] * 2, *[st.integers(1, 50)] * 2).map(lambda box: [box[0], box[1], box[0] + box[2], box[1] + box[3]])


@given(intervals, intervals)
def test_overlaps_of_times_are_symmetric_and_whole_for_equal_ones(one: list[float], other: list[float]) -> None:
    assert vcrbench.time_iou(one, other) == vcrbench.time_iou(other, one) <= 1
    assert vcrbench.time_iou(one, one) == 1


@given(boxes, boxes)
def test_overlaps_of_boxes_are_what_counting_pixels_gives(one: list[int], other: list[int]) -> None:
    def pixels(box: list[int]) -> set[tuple[int, int]]:
        return {(x, y) for x in range(box[0], box[2]) for y in range(box[1], box[3])}

    first, second = pixels(one), pixels(other)
    assert vcrbench.box_iou(one, other) == pytest.approx(len(first & second) / len(first | second))


# Steps


def test_recall_counts_by_type_and_leaves_background_out_of_all() -> None:
    found = vcrbench.recall(reply((VIDEO, "Matched"), (VIDEO, "Unmatched"), (VIDEO, "Unmatched"), (LOGIC, "Matched"), (BACKGROUND, "Unmatched")))
    assert found == {"Video_recall": 1 / 3, "logic_recall": 1.0, "background_recall": 0.0, "overall_recall": 0.5}


def test_precision_leaves_redundant_steps_out_of_all_but_the_efficiency() -> None:
    found = vcrbench.precision(reply((VIDEO, "Redundant"), (LOGIC, "Wrong"), (LOGIC, "Matched"), (BACKGROUND, "Redundant")))
    assert found == {"Video_precision": "", "logic_precision": 0.5, "background_precision": "", "overall_precision": 0.5, "efficiency": 0.5}


def test_redundant_steps_alone_have_no_precision() -> None:
    assert vcrbench.precision(reply((VIDEO, "Redundant")))["overall_precision"] == ""
    assert vcrbench.precision(reply((VIDEO, "Redundant")))["efficiency"] == 0.0


@pytest.mark.parametrize("content", ["[]", "{}", '""'])
def test_of_no_step_nothing_is_known(content: str) -> None:
    assert set(vcrbench.recall(f"```json\n{content}```").values()) == {""}
    assert set(vcrbench.precision(f"```json\n{content}```").values()) == {""}


@pytest.mark.parametrize(
    "said",
    [
        "",
        "[]",
        "```json []```",
        "```JSON\n[]\n```",
        "```json\r\n[]\n```",
        "```json\n[]",
        "```json\n[\n```",
        "```json\nnull\n```",
        "```json\n1\n```",
        '```json\n"steps"\n```',
        "```json\n[1]\n```",
        '```json\n{"step_type": "Video Description Steps", "judgment": "Matched"}\n```',
        '```json\n[{"step_type": ["Video Description Steps"], "judgment": "Matched"}]\n```',
        reply((VIDEO, "matched")),
        reply((VIDEO, "")),
        reply(("Video Description", "Matched")),
        "```json\n" + "[" * 100_000 + "\n```",
        f"```json\n[{'9' * 5000}]\n```",
    ],
)
def test_a_reply_that_cannot_be_read_is_said_to_be(said: str) -> None:
    for read in (vcrbench.recall, vcrbench.precision):
        with pytest.raises(ValueError, match=r"judge|JSON|Expecting|Extra|Exceeds"):
            read(said)


def test_each_side_has_its_own_judgments() -> None:
    with pytest.raises(ValueError, match="Wrong"):
        vcrbench.recall(reply((VIDEO, "Wrong")))
    with pytest.raises(ValueError, match="Unmatched"):
        vcrbench.precision(reply((VIDEO, "Unmatched")))


def test_the_first_fenced_list_counts() -> None:
    first, second = reply((LOGIC, "Matched")), reply((LOGIC, "Unmatched"))
    assert vcrbench.recall(f"So:\n{first}\nor {second}")["logic_recall"] == 1.0
    with pytest.raises(ValueError, match="Expecting"):  # and if it cannot be read, no other does
        vcrbench.recall(f"```json\nno\n``` {second}")


steps = st.lists(st.tuples(st.sampled_from([VIDEO, LOGIC, BACKGROUND]), st.sampled_from(["Matched", "Unmatched"])))


@given(steps)
def test_recall_is_the_share_of_matched_steps(judged: list[tuple[str, str]]) -> None:
    found = vcrbench.recall(reply(*judged))
    told = [judgment == "Matched" for kind, judgment in judged if kind != BACKGROUND]
    assert found["overall_recall"] == (sum(told) / len(told) if told else "")


# A whole run


def test_f1_is_of_the_means_and_each_mean_over_what_has_a_number() -> None:
    items: list[dict[str, Any]] = [{"overall_precision": 1.0, "overall_recall": 0.2}, {"overall_precision": "", "overall_recall": 0.6}, {}]
    assert vcrbench.cot_figures(items) == {"overall": {"precision": 1.0, "recall": pytest.approx(0.4), "f1": pytest.approx(0.8 / 1.4)}}


@pytest.mark.parametrize(
    ("items", "figures"),
    [
        ([], {}),
        ([{"Video_recall": 1.0}], {"Video": {"precision": 0, "recall": 1.0, "f1": 0}}),
        ([{"logic_recall": 0.0, "logic_precision": 0.0}], {"logic": {"precision": 0, "recall": 0, "f1": 0}}),
        ([{"background_recall": 1.0, "efficiency": 1.0}], {}),
    ],
)
def test_the_reasoning_of_a_run(items: list[dict[str, Any]], figures: dict[str, Any]) -> None:
    assert vcrbench.cot_figures(items) == figures


def test_the_accuracy_of_nothing_is_zero() -> None:
    assert vcrbench.accuracy_figures([]) == {
        "overall_accuracy": 0,
        "dimension_accuracy": {},
        "duration_accuracy": {"0-60": 0, "60-300": 0, "300+": 0},
    }


def test_accuracy_by_dimension_and_length() -> None:
    lengths = {0: "0-60", 60: "0-60", 60.01: "60-300", 300: "60-300", 300.5: "300+", float("nan"): "300+"}
    for seconds, group in lengths.items():
        assert vcrbench.duration_group(seconds) == group
        figures = vcrbench.accuracy_figures([{"answer_scoring": "1", "dimension": "", "duration": seconds}])
        assert figures["dimension_accuracy"] == {}
        assert figures["duration_accuracy"][group] == 1.0
    assert vcrbench.accuracy_figures([{"dimension": "X"}, {"dimension": "X", "answer_scoring": "1"}])["dimension_accuracy"] == {"X": 0.5}


@pytest.mark.parametrize("item", [{"duration": None}, {"duration": "60"}])
def test_a_length_that_is_no_number_fails_as_in_the_original(item: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        vcrbench.accuracy_figures([item])
