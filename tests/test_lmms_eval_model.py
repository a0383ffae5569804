"""What lmms-eval is told of act2see, without lmms-eval: settings are read as the command line reads them, and each request becomes one reply."""

import inspect
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import pytest
from cyclopts import App, Parameter
from PIL import Image

from act2see.config import EvalConfig, EvalExecutionConfig
from act2see.core.errors import BackendError, ConfigError, StoreError
from act2see.integrations.lmms_eval import Answering, Reply, Settings, asked, one_video, refuse_batches, refuse_cache, refuse_processes
from act2see.storage.runs import Run

QUESTION = "Which colour?\nA. blue\nB. red\nAnswer with the right option."


@pytest.fixture
def clip(write_video: Callable[..., Path]) -> Path:
    return write_video("clip.mp4", [number / 4 for number in range(8)], fps=4)


def answering(backend: str = "Looker", **given: object) -> Answering:
    name = backend if ":" in backend else f"cli_fakes:{backend}"
    return Answering(Settings.read({"backend": name, "retriever": "cli_fakes:Finder", "generator": "none", **given}))


def replies(models: Answering, *videos: Path, question: str = QUESTION) -> list[Reply]:
    asked_for = [asked(question, [str(video)], "colours", "test", number) for number, video in enumerate(videos)]
    found = dict(models.answer(asked_for))
    return [found[number] for number in range(len(videos))]


# Settings

GIVEN: list[tuple[Mapping[str, Any], list[str]]] = [
    ({}, []),
    (
        {"backend": "openai:some/model", "base_url": "http://127.0.0.1:8000/v1"},
        ["--backend=openai:some/model", "--base-url=http://127.0.0.1:8000/v1"],
    ),
    ({"max_looks": 1, "fps": 2, "retrieve_fps": 0.5}, ["--max-looks=1", "--fps=2", "--retrieve-fps=0.5"]),
    ({"max_looks": "1", "fps": "2.0", "greedy": "true"}, ["--max-looks=1", "--fps=2.0", "--greedy"]),
    ({"seed": 7.0, "insert": "2.0"}, ["--seed=7", "--insert=2"]),
    ({"greedy": True, "cache": False, "send_stop": False}, ["--greedy", "--no-cache", "--no-send-stop"]),
    ({"strengths": "[0.3, 1]"}, ["--strengths", "0.3", "1"]),
    ({"strengths": 0.5}, ["--strengths", "0.5"]),
    ({"budget_seconds": 30, "budget_frames": 12.0}, ["--budget-seconds=30", "--budget-frames=12"]),
    ({"out": "runs/here", "resume": True, "adapter": '"2024"'}, ["--out=runs/here", "--resume", "--adapter=2024"]),
    ({"opening": '"<think>\\n"', "rendering": "same_turn"}, ["--opening=<think>\n", "--rendering=same_turn"]),
    ({"frames": "withheld", "tools": "retrieve", "workers": 4, "patience_seconds": 0}, ["--frames=withheld", "--tools=retrieve"]),
]


@pytest.mark.parametrize(("given", "flags"), GIVEN)
def test_settings_are_what_the_command_line_makes_of_them(given: Mapping[str, Any], flags: list[str]) -> None:
    app = App(result_action="return_value")

    @app.default
    def evaluate(*, settings: Annotated[EvalConfig, Parameter(name="*")] = EvalConfig()) -> EvalConfig:
        return settings

    read = Settings.read(given)
    assert read.config == app(flags, exit_on_error=False, print_error=False)
    assert (read.execution.workers, read.execution.patience_seconds) == ((4, 0.0) if "workers" in given else (1, 120.0))


def test_every_default_can_be_given() -> None:
    """A setting of a kind that is not known here would fail."""
    tasks = {
        "n",
        "kind",
        "data",
        "subtitles",
        "answer_judge",
        "judge_prompts",
        "official_judge",
        "given",
        "limit",
        "shard",
        "shuffle_options",
        "json",
    }
    tasks |= {"ray", "ray_teachers", "ray_tools", "ray_indexers", "ray_teacher_gpus", "ray_tool_gpus"}
    defaults = {field.name: field.default for kind in (EvalConfig, EvalExecutionConfig) for field in fields(kind)}
    given = {name: value for name, value in defaults.items() if name not in tasks and value is not None}
    assert Settings.read(given) == Settings(EvalConfig(), EvalExecutionConfig())
    for name in tasks:
        with pytest.raises(ConfigError, match=f"'{name}' is not a model setting"):
            Settings.read({name: 1})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"max_loks": 1}, "unknown setting 'max_loks'; did you mean 'max_looks'?"),
        ({"pretrained": "x"}, "unknown setting 'pretrained'; allowed: adapter, answer_characters, "),
        ({"max_looks": True}, "max_looks is true: a whole number is expected"),
        ({"max_looks": 2.5}, "max_looks is 2.5: a whole number is expected"),
        ({"max_looks": -1.0}, "max_looks is -1.0: Must be >= 0."),
        ({"max_tokens": 0}, "max_tokens is 0: Must be >= 1."),
        ({"fps": float("nan")}, "fps is NaN: a number is expected"),
        ({"fps": "fast"}, 'fps is "fast": a number is expected'),
        ({"greedy": 1}, "greedy is 1: true or false is expected"),
        ({"out": 2024}, 'out is 2024: a path is expected; if it is one, write out="2024"'),
        ({"device": 0}, 'device is 0: a text is expected; if it is one, write device="0"'),
        ({"tools": "all"}, 'tools is "all": Must be none, or some of both, retrieve, generate, clip, zoom'),
        ({"strengths": "[0.3,"}, 'strengths is "[0.3,", which is not valid JSON'),
        ({"strengths": "[true]"}, "strengths is true: a number is expected"),
        ({"backend": "micr"}, "no backend 'micr': did you mean micro?"),
        ({"resume": True}, "resume needs the run folder: add out=DIR"),
    ],
)
def test_what_cannot_be_is_refused_by_name(given: Mapping[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        Settings.read(given)


def test_batches_and_several_processes_are_refused() -> None:
    refuse_batches(1, None)
    refuse_batches("1", None)
    for size, most in ((8, None), ("auto", None), (1, 16)):
        with pytest.raises(ConfigError, match=f"one question at a time: remove the batch size {most or size}"):
            refuse_batches(size, most)
    refuse_processes({})
    refuse_processes({"WORLD_SIZE": "1"})
    with pytest.raises(ConfigError, match="act2see runs in one process, not 4"):
        refuse_processes({"WORLD_SIZE": "4"})


EVALUATOR = """
def simple_evaluate(model, use_cache=None):
    return model()
"""
RESPONSE_CACHE = """
class ResponseCache:
    def execute(self, model):
        return model()
"""


def lmms_evals(module: str, source: str) -> dict[str, Any]:
    """A module of lmms-eval's name that calls a model as lmms-eval does."""
    names: dict[str, Any] = {"__name__": f"lmms_eval.{module}"}
    exec(source, names)
    return names


def test_lmms_evals_cache_is_refused_when_a_model_is_made_and_when_it_is_asked() -> None:
    """Its key knows neither the video nor the repetition."""
    evaluate: Callable[..., Any] = lmms_evals("evaluator", EVALUATOR)["simple_evaluate"]
    cache: Any = lmms_evals("caching.response_cache", RESPONSE_CACHE)["ResponseCache"]
    execute: Callable[..., Any] = cache().execute

    def called() -> str:
        refuse_cache(inspect.currentframe())
        return "fine"

    assert called() == evaluate(called) == "fine"
    refusals: tuple[Callable[[], Any], ...] = (
        lambda: evaluate(called, use_cache="cache"),
        lambda: evaluate(lambda: [called()], use_cache=""),
        lambda: execute(called),
    )
    for refused in refusals:
        with pytest.raises(ConfigError, match=r"--use_cache would return old answers.*remove it.*out=DIR,resume=true") as told:
            refused()
        assert "\n" not in str(told.value)


# Requests


def test_a_request_shows_one_video_file() -> None:
    assert one_video(["a/clip.mp4"], "t") == one_video("a/clip.mp4", "t") == one_video((Path("a/clip.mp4"),), "t") == Path("a/clip.mp4")
    picture = Image.new("RGB", (2, 2))
    for visuals, said in (([picture, picture], "2 visuals (Image)"), (["a.mp4", "b.mp4"], "2 visuals (str)"), ([], "no visual"), (None, "no visual")):
        with pytest.raises(ConfigError) as told:
            one_video(visuals, "mmmu")
        assert str(told.value).startswith(f"task 'mmmu' shows {said}: act2see needs exactly one video file")


def test_the_answers_text_goes_back_and_nothing_else_does(clip: Path) -> None:
    """Of tokens what the model counts: 10 before each of two chunks, and as many as it writes letters."""
    (looked,) = replies(answering("Looker"), clip)
    assert (looked.text, looked.tokens_in, looked.error) == ("B", 20, None)
    assert looked.tokens_out == len("<think>It is not here.<retrieve> the red star </retrieve>Now I see it.</think><answer>B</answer>")
    assert [reply.text for reply in replies(answering("Direct"), clip, clip)] == ["B. red", "B. red"]
    assert replies(answering("Silent"), clip) == [Reply("", 10, len("<think>I do not know.</think>"))]


def test_a_question_that_fails_is_left_without_an_answer(clip: Path, tmp_path: Path) -> None:
    first, second = replies(answering("Direct"), tmp_path / "none.mp4", clip)
    assert first.text == ""
    assert "none.mp4" in (first.error or "")
    assert second == Reply("B. red", 10, len("<think>Plain to see.</think><answer> B. red </answer>"))


def test_a_backend_that_is_gone_ends_it(clip: Path) -> None:
    (gone,) = replies(answering("Dead", patience_seconds=0), clip)
    assert (gone.text, (gone.error or "").splitlines()[0]) == ("", "no answer from the server")
    with pytest.raises(BackendError, match="stopped: the backend failed on 3 questions in a row"):
        replies(answering("Dead", patience_seconds=0), *[clip] * 9)


def test_several_are_asked_at_once_only_where_the_backend_can_be(clip: Path) -> None:
    alone, together = (replies(answering("eval_fakes:Steady", workers=workers), *[clip] * 12) for workers in (1, 4))
    assert [reply.text for reply in together] == [reply.text for reply in alone]
    assert len({reply.text for reply in alone}) > 1
    with pytest.raises(ConfigError, match="backend 'cli_fakes:Direct' handles one question at a time: remove workers=2"):
        answering("Direct", workers=2)


# The run


def test_a_repetition_is_a_question_of_its_own() -> None:
    ids = [asked(QUESTION, "clip.mp4", "colours", "test", 7, turn).id for turn in range(3)]
    assert ids == ["colours/test/7", "colours/test/7#1", "colours/test/7#2"]


def test_every_trace_is_kept_whole(clip: Path, tmp_path: Path) -> None:
    replies(answering("Looker", out=str(tmp_path / "run")), clip, clip)
    run = Run.open(tmp_path / "run")
    traces = list(run.traces())
    assert [trace.id for trace in traces] == ["colours/test/0", "colours/test/1"]
    assert [(trace.question, trace.choices, trace.answer, trace.looks) for trace in traces] == [(QUESTION, (), "B", 1)] * 2
    assert run.command == "lmms-eval"
    assert run.config["backend"] == "cli_fakes:Looker"
    assert not {"out", "n", "json", "data"} & set(run.config)
    with pytest.raises(StoreError, match="holds a run already"):
        answering("Looker", out=str(tmp_path / "run"))


def test_a_run_goes_on_where_it_was_cut_off(clip: Path, tmp_path: Path) -> None:
    """What was answered comes from the run: its video is not even there any more."""
    out = str(tmp_path / "run")
    answered = replies(answering("Looker", out=out), clip)
    clip.unlink()
    again = replies(answering("Looker", out=out, resume=True), clip, clip)
    assert again[0] == answered[0]
    assert again[1].error is not None
    with pytest.raises(StoreError, match="max_looks was 3 and is 1"):
        answering("Looker", out=out, resume=True, max_looks=1)
    with pytest.raises(StoreError, match=r"has a different question .*colours/test/0.*: the task has changed"):
        replies(answering("Looker", out=out, resume=True), clip, question="Which shape?")


def test_what_lmms_eval_loads_at_its_start_is_light() -> None:
    program = "import sys, act2see.integrations.lmms_eval; sys.exit(str({'torch', 'transformers', 'lmms_eval'} & set(sys.modules) or ''))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""
