"""The files that the official scripts take: what stands in them, and that the figures made of them are those of the rules."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from act2see import registry
from act2see.benchmarks.catalogue import BY_NAME
from act2see.benchmarks.official import vcrbench, videomme, vitib
from act2see.benchmarks.official.files import official_file
from act2see.benchmarks.official.rules import RULES, Answered
from act2see.config import EvalConfig
from act2see.core.chat import letters
from act2see.core.errors import ConfigError
from act2see.core.interfaces import Sample
from act2see.core.trace import Answer, Retrieve, Step, Thought, Trace
from made_up_sets import MAKERS, answered

WITH_FILE = ("video-mme", "videoespresso", "vitib", "egonormia", "vcr-bench")


@pytest.fixture
def made_up(tmp_path: Path, request: pytest.FixtureRequest) -> list[Sample]:
    """The questions of the made-up data set that the test names."""
    name = request.param
    MAKERS[name](tmp_path)
    return list(registry.data_set(name, EvalConfig(data=tmp_path)).samples())


def half_right(samples: Sequence[Sample]) -> list[Answered]:
    """Right, wrong, right in words, none, and no trace at all in turn."""
    given: list[Answered] = []
    for number, sample in enumerate(samples):
        right = letters(26)[sample.choices.index(sample.answer)] if sample.choices else sample.answer
        said = (right, "nonsense", sample.answer, None)[number % 4]
        given.append((sample, None if number % 8 == 7 else answered(sample.id, said, sample.choices)))
    return given


@pytest.mark.parametrize("made_up", ["video-mme"], indirect=True)
def test_video_mmes_file_holds_videos_with_their_questions(made_up: list[Sample]) -> None:
    given = half_right(made_up)
    videos = json.loads(official_file("video-mme", given, "m"))
    assert [video["video_id"] for video in videos] == ["001", "002", "003", "004", "005"]
    assert [len(video["questions"]) for video in videos] == [4] * 5
    assert videos[1] == {**videos[1], "duration": "medium", "domain": "Knowledge", "sub_category": "Astronomy", "missing": False}
    first = videos[0]["questions"][0]
    assert first == {"question_id": "001-1", "task_type": "Counting Problem", "answer": "A", "response": "A"}
    verdicts = [videomme.verdict(one["response"], one["answer"]).share for video in videos for one in video["questions"]]
    counted = [share for share in verdicts if share is not None]
    assert RULES["video-mme"].figures(given).accuracy == sum(counted) / len(counted)


@pytest.mark.parametrize("made_up", ["vitib"], indirect=True)
def test_vitibs_file_holds_a_line_a_question(made_up: list[Sample]) -> None:
    given = half_right(made_up)
    rows = [json.loads(line) for line in official_file("vitib", given, "m").splitlines()]
    assert len(rows) == len(made_up)
    assert rows[0]["correct_answer"] == "(A)"
    assert [row["model_output"] for row in rows[:4]] == ["Answer: A", "nonsense", "Answer: C", ""]
    shares: dict[str, list[bool]] = {}
    for row in rows:
        shares.setdefault(row["task"], []).append(vitib.verdict(row["model_output"], row["correct_answer"]).outcome == "correct")
    mean = sum(sum(task) / len(task) for task in shares.values()) / len(shares)
    assert RULES["vitib"].figures(given).accuracy == round(mean, 4)


@pytest.mark.parametrize("made_up", ["videoespresso"], indirect=True)
def test_videoespressos_file_holds_a_list(made_up: list[Sample]) -> None:
    rows = json.loads(official_file("videoespresso", half_right(made_up), "m"))
    assert [row["model_output"] for row in rows[:4]] == ["(A)", "nonsense", "(C)", ""]
    assert {row["correct_answer"] for row in rows} <= {"(A)", "(B)", "(C)", "(D)"}


@pytest.mark.parametrize("made_up", ["egonormia"], indirect=True)
def test_egonormias_file_leaves_out_what_could_not_be_read(made_up: list[Sample]) -> None:
    right = [(sample, answered(sample.id, sample.answer, sample.choices)) for sample in made_up]
    given = [(sample, None) if sample.id == "clip-3/justification" else (sample, trace) for sample, trace in right]
    items = json.loads(official_file("egonormia", given, "my-model"))
    assert len(items) == 20
    assert items["clip-0"] == {
        "my-model": {"best": {"results": [0, 0], "correct": [0, 0]}, "sensible": {"results": [0, 1], "correct": [0, 1]}, "followed": {}}
    }
    assert items["clip-3"] == {}
    assert items["clip-9"]["my-model"]["sensible"] == {"results": [], "correct": []}
    assert all(item["my-model"]["best"]["results"] == item["my-model"]["best"]["correct"] for item in items.values() if item)


@pytest.mark.parametrize("made_up", ["vcr-bench"], indirect=True)
def test_vcr_benchs_file_is_what_its_judging_takes(made_up: list[Sample]) -> None:
    steps: list[Step] = [Thought("<think>It is dark."), Retrieve("a light"), Thought("Now it is red.</think>"), Answer("A")]
    trace = Trace(made_up[0].id, "clip.mp4", "?", (), choices=made_up[0].choices, steps=steps, finish="answer")
    items: list[dict[str, Any]] = json.loads(official_file("vcr-bench", [(made_up[0], trace), *((sample, None) for sample in made_up[1:])], "m"))
    first, second, *_ = items
    assert first["id"] == 0
    assert first["multiple-choice"] is True
    assert first["choices"] == {"A": "red", "B": "green", "C": "blue", "D": "yellow"}
    assert first["question"] == "Which colour is meant by 0?\nA. red\nB. green\nC. blue\nD. yellow"
    assert first["answer"] == "A"
    assert first["reasoning"] == ["1. 0:03-0:10, a light turns red.", "2. Therefore it is red."]
    assert first["response"].startswith("It is dark.")
    assert first["response"].endswith("Answer: A")
    assert "<" not in first["response"]
    assert second == {**second, "answer": "[10, 20]", "question": "When is it red?", "choices": {}, "multiple-choice": False, "response": ""}
    assert [vcrbench.duration_group(item["duration"]) for item in items[:3]] == ["0-60", "60-300", "300+"]


@pytest.mark.parametrize("name", sorted({*BY_NAME} - {*WITH_FILE}))
def test_a_benchmark_whose_script_takes_no_file_says_so_in_one_line(name: str) -> None:
    with pytest.raises(ConfigError) as raised:
        official_file(name, [], "m")
    message = str(raised.value)
    assert message.startswith(f"benchmark '{name}' has no official answer file: ")
    assert message.endswith(f"available for {', '.join(WITH_FILE)}")
    assert "\n" not in message


@pytest.mark.parametrize("name", WITH_FILE)
def test_the_file_of_no_answers_is_empty_and_whole(name: str) -> None:
    text = official_file(name, [], "m")
    assert (json.loads(text) in ([], {})) if text else name == "vitib"
