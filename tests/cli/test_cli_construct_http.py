"""`act2see construct` against a server that refuses, breaks off and writes garbage: the one in front of the embedded model in `scripts/`."""

import importlib.util
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import act2see as package
from act2see.backends.loading import reader
from act2see.backends.openai import data_url
from act2see.backends.pieces import joined
from act2see.core import chat
from act2see.core.protocol import STOPS
from act2see.core.trace import Frame, Observation, Retrieve, Step, Thought, Trace
from act2see.storage.runs import Run
from cli_fakes import Act2See, Done

SCRIPT = Path(__file__).parents[2] / "scripts" / "construct_over_http.py"
QUESTIONS = range(8)
GARBAGE, BROKEN, REFUSED = 4, 3, (2, 6)
"""The question that is once answered with garbage, the request that is broken off, and those that are refused."""
SEED = 7
FIELDS = {"model": "micro", "stream": True, "stream_options": {"include_usage": True}, "max_completion_tokens": 9}
ASKS = {"messages": [{"role": "user", "content": "What colour?"}]}


def _loaded() -> Any:
    spec = importlib.util.spec_from_file_location("construct_over_http", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look for it there
    spec.loader.exec_module(module)
    return module


http: Any = _loaded()


def right_at(question: int) -> int:
    """The number of the try that answers rightly."""
    return question % 3


@dataclass
class Scripted:
    """Looks for every other question, and answers it rightly at the try that `right_at` says, by the seed that was sent. Never stops by itself."""

    requests: list[tuple[int, int]] = field(default_factory=list)
    """Question and seed of each request."""

    def __call__(self, asked: Any, usage: Any) -> Iterator[str]:
        found = re.search(r"in part (\d+)", asked.prompt)
        assert found is not None
        question, tried = int(found.group(1)), asked.seed - SEED
        self.requests.append((question, asked.seed))
        usage.tokens_in, usage.reused = len(asked.prompt), 10
        own = asked.prompt.rpartition("<|im_start|>assistant\n")[2]
        if question == GARBAGE and tried == 0:
            text = "\x1b[31m\u202e {]} \ufffd"
        elif question % 2 == 0 and "<frame>" not in own:
            text = f"<think>It is not among these frames.<retrieve> part {question} </retrieve> and on"
        else:
            text = f"I look at part {question}.</think><answer>{'A' if tried == right_at(question) else 'B'}</answer> and on"
        for at in range(0, len(text), 4):
            usage.tokens_out += 1
            yield text[at : at + 4]


@dataclass(frozen=True)
class Made:
    """A run against the server, what it was asked until the run ended for the first time, and in all."""

    first: Done
    second: Done
    teacher: Scripted
    before: int
    server: Any

    def traces(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in Path("run/traces.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def made(act2see: Act2See, clip: Path, tmp_path: Path) -> Made:
    data = tmp_path / "data"
    data.mkdir()
    (data / "clip.mp4").write_bytes(clip.read_bytes())
    rows = (
        {"id": f"q{number}", "video": "clip.mp4", "question": f"What colour is it in part {number}?", "choices": ["red", "blue"], "answer": "red"}
        | {"reasoning": f"In part {number} it is plain to see."}
        for number in QUESTIONS
    )
    (data / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    faults = {BROKEN: "break", **dict.fromkeys(REFUSED, "429")}
    teacher = Scripted()
    server = http.Teaching(teacher, faults.get, retry_after="0")
    with http.serving(server):
        asked: tuple[str | Path, ...] = (
            "construct",
            "jsonl",
            "--data",
            data,
            "--teacher",
            "openai:micro",
            "--base-url",
            server.base_url,
            "--rendering",
            "same_turn",
        )
        asked += ("--temperature", "0.7", "--seed", str(SEED), "--workers", "3", "--retriever", "cli_fakes:Finder", "--out", "run", "--json")
        first = act2see(*asked)
        before = len(teacher.requests)
        second = act2see(*asked, "--resume")
    return Made(first, second, teacher, before, server)


# The storm


def test_all_questions_end_and_nothing_is_there_or_asked_twice(made: Made) -> None:
    assert (made.first.code, made.second.code) == (0, 0)
    assert json.loads(made.first.out)["outcomes"] == {"backend_error": 1, "correct": 7}
    assert json.loads(made.second.out)["outcomes"] == {"correct": 8}
    ended = Counter(trace["id"] for trace in made.traces() if trace["finish"])
    assert ended == Counter(f"q{number}#{tried}" for number in QUESTIONS for tried in range(right_at(number) + 1))
    broken = [trace["id"] for trace in made.traces() if not trace["finish"]]
    assert len(broken) == 1
    assert {question for question, _ in made.teacher.requests[made.before :]} == {int(broken[0][1])}
    counts = made.server.counts
    assert (counts["refused with 429"], counts["broken off"], counts["requests"]) == (2, 1, len(made.teacher.requests) + 2)
    assert counts["answered"] == len(made.teacher.requests) - 1


def test_every_try_sends_a_seed_of_its_own(made: Made) -> None:
    for number in QUESTIONS:
        seeds = [seed for question, seed in made.teacher.requests if question == number]
        assert list(dict.fromkeys(seeds)) == [SEED + tried for tried in range(right_at(number) + 1)]
    assert {asked.temperature for asked in made.server.asked} == {0.7}


def test_traces_hold_what_was_written_up_to_the_stops_and_what_was_counted(made: Made) -> None:
    for trace in Run.open(Path("run")).traces():
        assert not any(isinstance(step, Thought) and "and on" in step.text for step in trace.steps)
        if trace.finish == "answer":
            assert any(isinstance(step, Observation) for step in trace.steps) == (int(trace.id[1]) % 2 == 0)
            assert trace.cost.tokens_in > trace.cost.tokens_reused > 0
            assert trace.cost.tokens_out > 0
        elif trace.finish:
            assert trace.id == f"q{GARBAGE}#0"


def test_every_rejected_trace_has_a_reason(made: Made, act2see: Act2See) -> None:
    found = json.loads(act2see("filter", "run", "--embedder", "words", "--reference-similarity", "-1", "--out", "kept", "--json").out)
    wrong = sum(map(right_at, QUESTIONS))
    firsts = {reason: row["first"] for reason, row in found["by_reason"].items() if row["first"]}
    assert (firsts["no_answer"], firsts["wrong_answer"]) == (1, wrong - 1)
    assert sum(firsts.values()) == found["traces"] - found["kept"]
    assert found["traces"] == 8 + wrong


def test_the_script_counts_by_the_files_and_tells_what_does_not_add_up(made: Made, act2see: Act2See) -> None:
    for folder in ("kept", "kept-leaks"):
        assert act2see("filter", "run", "--embedder", "words", "--reference-similarity", "-1", "--out", folder).code == 0
    told: dict[str, Any] = {}
    assert http.report(Path(), 8, told) == []
    assert (told["outcomes"], told["tries"], told["traces_ended"]) == ({"correct": 8}, {"1": 3, "2": 3, "3": 2}, 8 + sum(map(right_at, QUESTIONS)))
    assert http.report(Path(), 9, {}) == ["8 scores and 8 outcomes for 9 questions"]
    summary, rejected, traces = Path("kept-leaks/summary.json"), Path("kept/rejected.jsonl"), Path("run/traces.jsonl")
    summary.write_text(json.dumps({**json.loads(summary.read_text("utf-8")), "kept": 0}), encoding="utf-8")
    rejected.write_text("".join(rejected.read_text("utf-8").splitlines(keepends=True)[1:]), encoding="utf-8")
    again = next(line for line in traces.read_text("utf-8").splitlines(keepends=True) if json.loads(line)["finish"])
    traces.write_text(traces.read_text("utf-8") + again, encoding="utf-8")
    twice, first, second, nothing = http.report(Path(), 8, {})
    assert twice == f"there twice: {json.loads(again)['id']}"
    assert first.startswith("kept: ")
    assert second.startswith("kept-leaks: ")
    assert nothing == "nothing was kept"


# The server


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize(
    ("text", "keeps_stop", "expected"),
    [
        ("a <answer>B</answer> c</frame>", True, "a <answer>B</answer>"),
        ("a <answer>B</answer> c</frame>", False, "a <answer>B"),
        ("a </answe and </fra", True, "a </answe and </fra"),
        ("", True, ""),
    ],
)
def test_a_text_is_cut_at_its_first_stop_however_it_comes(size: int, text: str, keeps_stop: bool, expected: str) -> None:
    asked = http.Asked("", (), STOPS, keeps_stop, 10, 0.0, None)
    pieces = list(http.cut((text[at : at + size] for at in range(0, len(text), size)), asked))
    assert "".join(pieces) == expected
    assert all(pieces)


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"logprobs": True}, 400),
        ({"model": "other"}, 404),
        ({"stream": False}, 400),
        ({"messages": []}, 400),
        ({"messages": [{"role": "user", "content": "<|im_end|>"}]}, 400),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/hostname"}}]}]}, 400),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}]}, 400),
        ({"messages": [{"role": "assistant", "content": "<think>"}]}, 400),
        ({"continue_final_message": True, "add_generation_prompt": False}, 400),
        ({"temperature": "warm"}, 400),
    ],
)
def test_what_servers_refuse_is_refused(more: dict[str, Any], status: int) -> None:
    path = "/v1/chat/completions"
    assert http.read_request(path, json.dumps(FIELDS | ASKS).encode()).prompt.endswith("What colour?<|im_end|>\n<|im_start|>assistant\n")
    with pytest.raises(http.Refused) as refused:
        http.read_request(path, json.dumps(FIELDS | ASKS | more).encode())
    assert refused.value.status == status


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_what_is_no_request_is_refused(content: bytes) -> None:
    with pytest.raises(http.Refused, match="not a request"):
        http.read_request("/v1/chat/completions", content)


def test_the_model_reads_over_http_the_ids_that_it_reads_locally() -> None:
    pictures = [Image.effect_noise((64, 64), 50 + 10 * number).convert("RGB") for number in range(3)]
    seen, refused = Observation((Frame(pictures[2], 1.5),)), Observation(error="no look is left: <answer>")
    words: list[Step] = [Thought("<think>Not here.\n"), Retrieve(" the star "), seen, Thought("The star is red."), Retrieve("x"), refused]
    words.append(Thought("\nSo.</think>\n"))
    frames = (Frame(pictures[0], 0.0), Frame(pictures[1], 1.0))
    encoder, style, _ = reader(str(Path(package.__file__).parent / "micro" / "vlm"))
    for steps in (words[:cut] for cut in (0, 1, 3, 4, 6, 7)):
        trace = Trace("q", "clip.mp4", "What colour is the star?", frames, ("red", "blue"), steps=steps)
        conversation = chat.turns(trace, ("retrieve",), style)
        messages = chat.messages(conversation, lambda frame: data_url(frame.image))
        continued = {"continue_final_message": True, "add_generation_prompt": False} if steps else {}
        asked = http.read_request("/v1/chat/completions", json.dumps(FIELDS | {"messages": messages} | continued).encode())
        remote, local = http.segments(asked.prompt, asked.images), chat.segments(conversation)
        assert [getattr(segment, "text", None) for segment in remote] == [getattr(segment, "text", None) for segment in local]
        there, here = encoder.encode(remote), encoder.encode(local)
        assert joined(there) == joined(here)
        assert [piece.same for piece in there if piece.pixels is not None] == [piece.same for piece in here if piece.pixels is not None]
