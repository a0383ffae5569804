"""The applications as Python functions: the same runs as the command line's, with typed results, progress and no printing."""

import json
import logging
import typing
from collections.abc import Mapping
from pathlib import Path

import pytest

import act2see
from act2see import api
from act2see.config import EvalExecutionConfig
from act2see.core.errors import ConfigError, StoreError
from act2see.storage.runs import Run
from cli_fakes import Act2See

package = act2see  # a fixture has the package's name

FAKES: dict[str, typing.Any] = {"backend": "cli_fakes:Direct", "retriever": "cli_fakes:Finder"}
APPLICATIONS = (
    "ask",
    "audit",
    "compare",
    "construct",
    "evaluate",
    "export_run",
    "find_frames",
    "generate",
    "load_models",
    "retrieve",
    "train",
    "transcript",
)


def steady(folder: Path | None = None, **changes: object) -> act2see.EvalConfig:
    settings: dict[str, typing.Any] = {"backend": "eval_fakes:Steady", "retriever": "cli_fakes:Finder", "out": folder, "n": 8, **changes}
    return act2see.EvalConfig(**settings)


def test_every_application_is_typed_and_has_a_frozen_result() -> None:
    for name in APPLICATIONS:
        hints = typing.get_type_hints(getattr(api, name))
        assert not [hint for hint in hints.values() if "dict[str, typing.Any]" in str(hint)], name
        results = typing.get_args(hints["return"]) or (hints["return"],)
        for result in results:
            params: typing.Any = getattr(result, "__dataclass_params__", None)
            assert params is None or params.frozen, name


def test_ask_gives_the_trace_and_the_answer_and_prints_nothing(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events: list[object] = []
    options = act2see.AskConfig(choices=("blue", "red"), **FAKES)
    result = act2see.ask(clip, "Which?", options, on_event=events.append)
    assert (result.choice, result.answer, result.trace.finish) == (1, "red", "answer")
    assert events[-1] == result.trace.steps[-1]
    assert capsys.readouterr() == ("", "")


def test_loaded_models_answer_several_questions(clip: Path) -> None:
    models = act2see.load_models(act2see.ModelConfig(**FAKES))
    first, second = (act2see.ask(clip, question, act2see.AskConfig(choices=("blue", "red")), models=models) for question in ("Which?", "What?"))
    assert first.answer == second.answer == "red"
    assert first.trace.id != second.trace.id


def test_an_answer_that_is_no_choice_is_none(clip: Path) -> None:
    result = act2see.ask(clip, "Which?", act2see.AskConfig(choices=("blue", "red"), backend="cli_fakes:Purple", retriever="none"))
    assert result.answer is None
    assert result.trace.answer == "purple"


def test_a_question_that_cannot_be_asked_is_refused_before_anything_is_loaded(clip: Path) -> None:
    with pytest.raises(ConfigError, match="empty"):
        act2see.ask(clip, " ")
    with pytest.raises(ConfigError, match="choices"):
        act2see.ask(clip, "Which?", act2see.AskConfig(choices=("red",)))


def test_evaluate_writes_the_same_run_as_the_command(act2see: Act2See, own_clip: Path, tmp_path: Path) -> None:
    done = act2see("eval", "eval_fakes:Many", "--backend", "eval_fakes:Steady", "--retriever", "cli_fakes:Finder", "--n", "8", "--out", "command")
    assert done.code == 0
    seen: list[tuple[int, int | None, str]] = []
    result = api.evaluate("eval_fakes:Many", steady(tmp_path / "python"), progress=lambda *told: seen.append(told))
    for name in ("scores.jsonl", "summary.json", "run.json"):
        assert (tmp_path / "python" / name).read_bytes() == (tmp_path / "command" / name).read_bytes()
    assert seen[0] == (0, 8, "questions")
    assert seen[-1] == (8, 8, "questions")
    summary: Mapping[str, typing.Any] = result.summary
    assert json.loads((tmp_path / "python" / "summary.json").read_text()) == json.loads(json.dumps(summary))
    assert result.accuracy == pytest.approx(summary["accuracy"]["all"], abs=1e-4)
    assert [one.number for one in result.scores] == list(range(8))


def test_a_run_is_resumed_without_asking_again(act2see: Act2See, own_clip: Path, tmp_path: Path) -> None:
    first = api.evaluate("eval_fakes:Many", steady(tmp_path / "run", n=3))
    assert len(first.scores) == 3
    before = (tmp_path / "run" / "traces.jsonl").read_bytes()
    again = api.evaluate("eval_fakes:Many", steady(tmp_path / "run", resume=True))
    assert len(again.scores) == 8
    assert (tmp_path / "run" / "traces.jsonl").read_bytes().startswith(before)


def test_what_a_user_must_know_is_a_warning(act2see: Act2See, own_clip: Path, caplog: pytest.LogCaptureFixture) -> None:
    options = EvalExecutionConfig(workers=2)
    with caplog.at_level(logging.WARNING, logger="act2see"):
        api.evaluate("eval_fakes:Many", steady(backend="eval_fakes:OneByOne"), options)
    assert "handles one question at a time: --workers 2 has no effect" in caplog.text


def test_audit_returns_every_condition_and_writes_the_page(act2see: Act2See, own_clip: Path, tmp_path: Path) -> None:
    result = api.audit("eval_fakes:Many", steady(tmp_path / "audit", n=3))
    conditions = result.summary["arms"]
    assert isinstance(conditions, Mapping)
    assert {"real", "off", "withheld", "random"} <= set(conditions)
    assert (tmp_path / "audit" / api.AUDIT_PAGE).read_text(encoding="utf-8").startswith("<!")
    assert len(result.audited) == 3


def test_a_trace_and_a_run_show_themselves_in_a_notebook(act2see: Act2See, own_clip: Path, tmp_path: Path) -> None:
    result = api.evaluate("eval_fakes:Many", steady(tmp_path / "run", n=2))
    assert result.folder is not None
    run = Run.open(result.folder)
    trace = next(run.traces())
    assert "<" in trace._repr_html_()
    assert "eval" in run._repr_html_()


def test_a_run_is_given_by_itself_or_by_its_folder(act2see: Act2See, own_clip: Path, tmp_path: Path) -> None:
    for name, count in (("one", 3), ("two", 4)):
        api.evaluate("eval_fakes:Many", steady(tmp_path / name, n=count))
    first, second = Run.open(tmp_path / "one"), Run.open(tmp_path / "two")
    runs: tuple[Run | Path | str, ...] = (first, first.folder, str(first.folder))
    options = package.ScoreConfig(benchmark="eval_fakes:Many")
    assert {api.score(run, options).questions for run in runs} == {3}
    assert api.compare(first, second) == api.compare(str(first.folder), second.folder)
    forms = [api.export_run(run, package.ExportConfig(format="trl", out=tmp_path / f"export-{number}")) for number, run in enumerate(runs)]
    assert len({form.traces for form in forms}) == 1
    for run in runs:
        with pytest.raises(StoreError, match=r"has no samples\.jsonl"):
            api.filter_run(run, package.FilterConfig(out=tmp_path / "kept"))


def test_retrieve_finds_the_frames_of_find_frames(clip: Path) -> None:
    options = package.RetrieveConfig(retriever="cli_fakes:Finder", top=2)
    found = [frame.seconds for frame in api.find_frames(clip, "x", options).frames]
    assert [frame.seconds for frame in api.retrieve(clip, "x", retriever="cli_fakes:Finder", count=2)] == found
    with pytest.raises(ConfigError, match="count is 0"):
        api.retrieve(clip, "x", retriever="cli_fakes:Finder", count=0)
    with pytest.raises(ConfigError, match="retriever 'none' cannot search"):
        api.retrieve(clip, "x", retriever="none")
