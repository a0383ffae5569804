"""The class that lmms-eval asks, run on a stand-in for lmms-eval: what it is asked comes back in order, and what fails is told."""

import importlib
import logging
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from act2see.core.errors import ConfigError
from act2see.integrations.lmms_eval import manifest
from act2see.storage.runs import Run
from lmms_eval_fakes import GenerationResult, Instance, Lmms, TokenCounts, installed

QUESTION = "Which colour?\nA. blue\nB. red\nAnswer with the right option."


@pytest.fixture
def model_class(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The class as lmms-eval finds it: by the entry point's manifest and the path that this names."""
    installed(monkeypatch)
    (entry,) = entry_points(group="lmms_eval.models", name="act2see")
    assert entry.load() is manifest
    found = manifest()
    module, _, name = found.simple_class_path.rpartition(".")
    assert (found.model_id, found.chat_class_path) == ("act2see", None)
    yield getattr(importlib.import_module(module), name)
    monkeypatch.undo()


@pytest.fixture
def clips(write_video: Callable[..., Path]) -> list[Path]:
    return [write_video(f"clip-{number}.mp4", [second / 4 for second in range(8)], fps=4) for number in range(3)]


def model(model_class: Any, backend: str = "cli_fakes:Looker", **given: Any) -> Any:
    return model_class(backend=backend, retriever="cli_fakes:Finder", generator="none", **given)


def requests(made: Any, *videos: object) -> list[Instance]:
    """A request for each video, which the evaluator's task shows."""
    made.task_dict = {"colours": {"test": dict(enumerate(videos))}}
    arguments = {"max_new_tokens": 16, "until": ["\n"]}  # of a task that knows no reasoning: not read
    return [Instance((QUESTION, arguments, lambda video: [video], number, "colours", "test")) for number in range(len(videos))]


def test_it_is_one_of_lmms_evals_models(model_class: Any) -> None:
    made = model(model_class)
    assert isinstance(made, Lmms)
    assert (made._rank, made._world_size) == (0, 1)


def test_each_request_gets_its_answer_and_its_tokens_in_order(model_class: Any, clips: list[Path], tmp_path: Path) -> None:
    """Of tokens what the model counts: 10 before each of two chunks, and as many as it writes letters."""
    made = model(model_class, out=str(tmp_path / "run"))
    written = len("<think>It is not here.<retrieve> the red star </retrieve>Now I see it.</think><answer>B</answer>")
    assert made.generate_until(requests(made, *map(str, clips))) == [GenerationResult("B", TokenCounts(20, written))] * 3
    traces = list(Run.open(tmp_path / "run").traces())
    assert [(trace.id, trace.video, trace.question) for trace in traces] == [
        (f"colours/test/{number}", str(clip), QUESTION) for number, clip in enumerate(clips)
    ]


def test_answers_that_come_in_another_order_go_back_in_theirs(model_class: Any, clips: list[Path]) -> None:
    alone, together = (model(model_class, "eval_fakes:Steady", workers=workers) for workers in (1, 4))
    videos = [str(clip) for clip in clips] * 4
    one_by_one, at_once = ([reply.text for reply in made.generate_until(requests(made, *videos))] for made in (alone, together))
    assert at_once == one_by_one
    assert len(set(one_by_one)) > 1


def test_a_question_asked_again_is_another_one(model_class: Any, clips: list[Path], tmp_path: Path) -> None:
    made = model(model_class, out=str(tmp_path / "run"))
    for _ in range(2):
        made.generate_until(requests(made, str(clips[0])))
    assert [trace.id for trace in Run.open(tmp_path / "run").traces()] == ["colours/test/0", "colours/test/0#1"]


def test_what_fails_is_an_empty_answer_and_one_warning(model_class: Any, clips: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = model(model_class)
    with caplog.at_level(logging.WARNING):
        found = made.generate_until(requests(made, str(clips[0]), str(tmp_path / "gone.mp4"), str(clips[1])))
    assert [reply.text for reply in found] == ["B", "", "B"]
    (warning,) = [record.getMessage() for record in caplog.records if record.name == "act2see.integrations.lmms_eval_model"]
    assert warning.startswith("1 of 3 questions failed and are left without an answer; the first: ")
    assert "gone.mp4" in warning


@pytest.mark.parametrize(
    ("given", "words"),
    [({"batch_size": 8}, "remove the batch size 8"), ({"max_loks": 1}, "did you mean 'max_looks'"), ({"n": 3}, "'n' is not a model setting")],
)
def test_what_it_cannot_be_made_with_is_refused(model_class: Any, given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        model(model_class, **given)


def test_several_processes_are_refused(model_class: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="in one process, not 2"):
        model(model_class)


def test_tasks_of_other_kinds_are_refused(model_class: Any, clips: list[Path]) -> None:
    made = model(model_class)
    with pytest.raises(NotImplementedError, match="choose a task of output_type generate_until"):
        made.loglikelihood(requests(made, str(clips[0])))
    with pytest.raises(NotImplementedError, match="choose a task of output_type generate_until"):
        made.generate_until_multi_round(requests(made, str(clips[0])))
    with pytest.raises(ConfigError, match="'colours' shows 1 visuals"):
        made.generate_until(requests(made, 7))
