"""The judge: four bounded questions, our words or the data set's file read as texts and never run."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from act2see.benchmarks.judge_prompts import OURS, SLOTS, Prompt, official_prompts
from act2see.benchmarks.official.vcrbench import recall
from act2see.benchmarks.vcrbench_judge import Judge, response_of
from act2see.core.chat import Tool
from act2see.core.errors import BackendError, ConfigError, JudgeError
from act2see.core.interfaces import Continuation
from act2see.core.protocol import STOPS
from act2see.core.trace import Answer, Cost, Observation, Retrieve, Thought, Trace

QUESTION, REASONING = "Why does he stop?", "1. 0:03, he walks.\n2. So he stops."
TRACE = Trace(
    "7",
    "x.mp4",
    "?",
    (),
    steps=[Thought("<think>He {walks}."), Retrieve(" the light "), Observation(error="none"), Thought("</think>"), Answer(" It is red. ")],
)
RESPONSE = "He {walks}.(the light)\nAnswer: It is red."

OFFICIAL = '''
import os
os.abort()
Answer_Extraction_Prompt_part1 = """before {as it is} """
Answer_Extraction_Prompt_part2 = """
Q: {question} R: {response}"""
Answer_Scoring_Prompt_part1 = r"""score\\n"""
Answer_Scoring_Prompt_part2 = "{question}|{extract_answer}|{gt_answer}"
Recall_Evaluation_Prompt = """[{{"step": 1}}] {question}|{answer}|{solution}|{gt_annotation}"""
Precision_Evaluation_Prompt = """{question}|{solution}|{gt_annotation}"""
'''


@dataclass
class Replies:
    """A judge that writes its replies in turn; `FAIL` is a server that is gone."""

    replies: Sequence[str]
    made_with: Mapping[str, str] = field(default_factory=lambda: {"backend": "replies", "model": "judge-1"})
    asked: list[str] = field(default_factory=list)

    def decode(self, trace: Trace, tools: Sequence[Tool]) -> Generator[str, None, Continuation]:
        assert not tools
        assert trace.frames == ()
        self.asked.append(trace.question)
        text = self.replies[len(self.asked) - 1]
        if text == "FAIL":
            raise BackendError("the server is gone")
        yield text
        return Continuation(text, "tag" if text.endswith(STOPS) else "end", Cost())


def number(text: str) -> int:
    """A reading that not every reply allows."""
    return int(text)


def test_a_reply_is_the_answer_or_what_follows_the_thoughts() -> None:
    judge = Judge(Replies(["<think>hm, 2</think>\n 1 ", "<think>x</think><answer> 0 </answer>", "1\n"]))
    assert [judge.compare(QUESTION, extracted, "y") for extracted in "abc"] == ["1", "0", "1"]


def test_what_the_judge_is_told() -> None:
    backend = Replies(["red"] * 4)
    judge = Judge(backend)
    assert judge.extract(QUESTION, RESPONSE) == "red"
    judge.compare(QUESTION, "EXTRACTED", "GOLD")
    judge.recall(QUESTION, "GOLD", RESPONSE, REASONING, str)
    judge.precision(QUESTION, RESPONSE, REASONING, str)
    extract, compare, recall, precision = backend.asked
    assert all("Why does he stop?" in asked for asked in backend.asked)
    assert all(RESPONSE in asked for asked in (extract, recall, precision))
    assert "EXTRACTED" in compare
    assert "GOLD" in compare
    assert "GOLD" in recall
    assert all("1. 0:03, he walks." in asked for asked in (recall, precision))
    assert "1. 0:03" not in extract + compare
    assert judge.name == "judge-1, our prompts"


@pytest.mark.parametrize(
    "steps",
    [
        "{",
        "5",
        "[1]",
        "[null]",
        "[" * 100_000,
        '[{"step_type": ["x"], "judgment": "Matched"}]',
        '[{"step_type": "' + "x\\n\\u001b" * 10_000 + '", "judgment": "Matched"}]',
        "9" * 5000,
    ],
)
def test_an_odd_list_of_steps_is_one_short_line(steps: str) -> None:
    judge = Judge(Replies([f"```json\n{steps}\n```"] * 3))
    with pytest.raises(JudgeError, match=r"^judge error in recall: .* \(3 tries\)$") as raised:
        judge.recall(QUESTION, "GOLD", RESPONSE, REASONING, recall)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 500


def test_what_cannot_be_read_is_asked_for_again_and_then_given_up() -> None:
    backend = Replies(["many", "two", "2", "x", "y", "z"])
    judge = Judge(backend)
    assert judge.recall(QUESTION, "GOLD", RESPONSE, REASONING, number) == 2
    assert len(backend.asked) == 3
    with pytest.raises(JudgeError, match=r"^judge error in precision: invalid literal .* \(3 tries\)$"):
        judge.precision(QUESTION, RESPONSE, REASONING, number)
    assert len(backend.asked) == 6


def test_a_server_that_is_gone_is_a_judge_error() -> None:
    with pytest.raises(JudgeError, match=r"^judge error in extract: the server is gone$"):
        Judge(Replies(["FAIL"])).extract(QUESTION, RESPONSE)


def test_nothing_is_asked_twice() -> None:
    backend = Replies(["2", "3"])
    judge = Judge(backend)
    assert [judge.recall(QUESTION, answer, RESPONSE, REASONING, number) for answer in ("a", "a", "b", "a")] == [2, 2, 3, 2]
    assert len(backend.asked) == 2


def test_a_judge_that_only_calls_is_given_up() -> None:
    backend = Replies(["<retrieve>x</retrieve>"] * 20)
    assert Judge(backend).compare(QUESTION, "a", "b") == ""
    assert len(backend.asked) == 4


def test_pictures_and_errors_are_no_words_of_the_model() -> None:
    assert response_of(TRACE) == RESPONSE
    assert response_of(Trace("x", "x", "?", ())) == ""


@given(st.fixed_dictionaries({slot: st.text("ab{}[]'\"\\\n%$") for slots in SLOTS.values() for slot in slots}))
def test_values_are_put_in_as_they_are(values: dict[str, str]) -> None:
    for name, slots in SLOTS.items():
        prompt: Prompt = getattr(OURS, name)
        assert prompt.filled(**values).count("\n\n") >= 2
        for slot in slots:
            assert values[slot] in prompt.filled(**values)
    assert Prompt("{{x}} {a}", before="{b} ", names={"a": "answer"}).filled(**values) == f"{{b}} {{x}} {values['answer']}"


def test_the_official_file_is_read_and_never_run(tmp_path: Path) -> None:
    (tmp_path / "prompt.py").write_text(OFFICIAL)
    prompts = official_prompts(tmp_path / "prompt.py")
    assert prompts.name.startswith("prompts of prompt.py, sha256 ")
    values = {"question": "q", "response": "r", "extracted": "e", "answer": "g", "reasoning": "s"}
    assert prompts.extract.filled(**values) == "before {as it is} \nQ: q R: r"
    assert prompts.compare.filled(**values) == "score\\nq|e|g"
    assert prompts.recall.filled(**values) == '[{"step": 1}] q|g|r|s'
    assert prompts.precision.filled(**values) == "q|r|s"


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("Recall_Evaluation_Prompt", "Other", "has no string Recall_Evaluation_Prompt"),
        ("{question}|{extract_answer}", "{question.__class__}|{extract_answer}", r"has unknown slots \{question\.__class__\}; allowed are"),
        ("{question}|{extract_answer}", "{}|{extract_answer}", r"has unknown slots \{\}"),
        ("{question}|{extract_answer}", "{question|", "is not a valid template"),
        ("import os", "import os (", "is not a Python file"),
        ("import os", "\x00", "is not a Python file"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, before: str, after: str, words: str) -> None:
    (tmp_path / "prompt.py").write_text(OFFICIAL.replace(before, after))
    with pytest.raises(ConfigError, match=words):
        official_prompts(tmp_path / "prompt.py")
    with pytest.raises(ConfigError, match="cannot read the judge prompts"):
        official_prompts(tmp_path / "nowhere.py")
