"""The fingerprint changes with what changes an answer, and with nothing else."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from act2see.core import chat
from act2see.evaluation.fingerprint import fingerprint, headline, prompt_digest
from act2see.storage.run_metadata import differences, flat, library_versions

SETTINGS: dict[str, Any] = {"benchmark": "synthetic", "fps": 1.0, "max_looks": 3, "data": "/somewhere", "retries": 3}


@dataclass
class Processor:
    size: Mapping[str, int]


@dataclass
class Reads:
    image_processor: Processor


@dataclass
class Where:
    model: str
    adapter: str | None = None


@dataclass
class Local:
    """As much of a local backend as a fingerprint sees."""

    settings: Where
    encoder: Reads = field(default_factory=lambda: Reads(Processor({"shortest_edge": 1, "longest_edge": 9})))
    model: object = None
    made_with: Mapping[str, str] = field(
        default_factory=lambda: {"backend": "huggingface", "model": "m", "decoding": "greedy", "rendering": "same_turn"}
    )

    def decode(self, trace: Any, tools: Any) -> Any:
        raise NotImplementedError


@dataclass
class Server:
    settings: Where
    made_with: Mapping[str, str] = field(default_factory=lambda: {"backend": "openai", "model": "qwen"})

    def decode(self, trace: Any, tools: Any) -> Any:
        raise NotImplementedError


def names(folders: Sequence[Path]) -> str:
    return hashlib.sha256(repr(folders).encode()).hexdigest()


def of(backend: Any, **settings: Any) -> dict[str, Any]:
    return fingerprint({**SETTINGS, **settings}, backend, None, None, names)


@pytest.fixture
def local(tmp_path: Path) -> Local:
    return Local(Where(str(tmp_path)))


def test_it_is_the_same_for_the_same(local: Local) -> None:
    assert of(local) == of(replace(local))
    assert of(local)["digest"] == of(local, data="/elsewhere", retries=9, fps=1)["digest"]


def test_everything_that_changes_an_answer_changes_it(local: Local, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    made = [
        of(local),
        of(local, fps=2.0),
        of(local, max_looks=1),
        of(replace(local, made_with={**local.made_with, "decoding": "temperature 0.6"})),
        of(replace(local, made_with={**local.made_with, "rendering": "user_turn"})),
        of(replace(local, encoder=Reads(Processor({"shortest_edge": 1, "longest_edge": 8})))),
        of(replace(local, settings=Where(str(tmp_path / "other")))),
        of(replace(local, settings=Where(local.settings.model, str(tmp_path / "other")))),
        of(Server(Where("qwen"))),
    ]
    assert len({found["digest"] for found in made}) == len(made)


def test_the_weights_are_told_as_far_as_they_are_known(local: Local, tmp_path: Path) -> None:
    assert of(local)["weights"] == names([tmp_path])[:12]
    assert of(Server(Where(str(tmp_path))))["weights"] is None  # a server's model is not the folder of that name

    @dataclass
    class Config:
        _commit_hash: str = "abc"

    @dataclass
    class Model:
        config: Config

    assert of(replace(local, settings=Where("org/name"), model=Model(Config())))["weights"] == "revision abc"


def test_the_prompts_digest_changes_with_every_word(monkeypatch: pytest.MonkeyPatch) -> None:
    before = prompt_digest({})
    assert before == prompt_digest({"rendering": "same_turn"}) == prompt_digest({"rendering": "none of ours"})
    assert len({before, prompt_digest({"rendering": "tool_turn"}), prompt_digest({"opening": "<think>\n"})}) == 3
    monkeypatch.setattr(chat, "question_text", lambda question, choices: f"Q: {question}")
    assert prompt_digest({}) != before


def test_a_line_for_a_reader(local: Local) -> None:
    found = of(local)
    told = headline(found)
    assert told.startswith(f"fingerprint {found['digest']}: m {found['weights']}, greedy")
    assert f"greedy, 1 fps, at most 3 looks, prompt {found['prompt']}, act2see {library_versions()['act2see']}" in told
    assert headline(of(Server(Where("qwen")))).split(": ")[1].startswith("qwen, 1 fps")


# What differs


def test_differences_are_named_with_both_values() -> None:
    one, two = flat({"a": 1, "b": {"c": [1], "d": None}}), flat({"a": 1, "b": {"c": [2]}, "e": "x"})
    assert one == {"a": 1, "b.c": [1], "b.d": None}
    assert differences(one, two) == {"b.c": ("[1]", "[2]"), "b.d": ("null", "not set"), "e": ("not set", '"x"')}
    assert differences(one, one) == {}
