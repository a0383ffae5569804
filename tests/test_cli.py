"""The command line as a person uses it: answers on stdout, the rest on stderr, exit codes, settings files; with small models that are no models."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pytest

from act2see import __version__, cli
from act2see.config import ModelConfig
from act2see.store import Run
from act2see.trace import Thought

FAKES = '''
import os
import time
from pathlib import Path
from act2see.chat import STOPS
from act2see.errors import BackendError, ToolError
from act2see.interfaces import Continuation, Sample
from act2see.trace import Cost, Frame


class Scripted:
    """Writes its chunks, one a call."""

    chunks = ()
    made_with = {"backend": "scripted"}
    notice = None

    def __init__(self, config):
        self.made_with = {**self.made_with, "looks": str(config.max_looks)}
        self._calls = 0

    def decode(self, trace, tools):
        text = self.chunks[self._calls % len(self.chunks)]
        self._calls += 1
        yield from text
        return Continuation(text, "tag" if text.endswith(STOPS) else "end", Cost(tokens_in=10, tokens_out=len(text), seconds={"decode": 0.5}))


class Direct(Scripted):
    chunks = ("<think>Plain to see.</think><answer> B. red </answer>",)


class Looker(Scripted):
    chunks = ("<think>It is not here.<retrieve> the red star </retrieve>", "Now I see it.</think><answer>B</answer>")


class Free(Scripted):
    chunks = ("<answer>a \\x1b[31mred\\x07 star\\nand more</answer>",)


class Silent(Scripted):
    chunks = ("<think>I do not know.</think>",)


class Purple(Scripted):
    chunks = ("<answer>purple</answer>",)


class Stubborn(Scripted):
    chunks = ("<retrieve>x</retrieve>",)


class Narrow(Direct):
    notice = "this model knows only stars"


class Dead(Scripted):
    def decode(self, trace, tools):
        raise BackendError("no answer from the server\\nat localhost: start it")
        yield


class Halfway(Scripted):
    def decode(self, trace, tools):
        if trace.steps:
            yield "Now I"
            time.sleep(600)
        text = "<think>Look.<retrieve>the star</retrieve>"
        yield text
        return Continuation(text, "tag", Cost())


class Finder:
    name = "finder"

    def __init__(self, config):
        pass

    def find(self, video, query, *, shown, count=1):
        frame = video.frame_at(0.5)
        return [Frame(frame.image, frame.seconds, score=0.75)]


class Bench:
    name = "bench"

    def __init__(self, config):
        self.count = config.n or 3

    def samples(self):
        for number in range(self.count):
            yield Sample(f"q{number}", Path(os.environ["ACT2SEE_TEST_CLIP"]), "What colour?", ("blue", "red"), "red", ("even", "odd")[number % 2])

    def is_right(self, sample, trace):
        return None if trace.answer is None else "B" in trace.answer


class Blind(Finder):
    def find(self, video, query, *, shown, count=1):
        raise ToolError("no frame left to show")
'''


class Done(NamedTuple):
    """What a run of the command line left."""

    code: int
    out: str
    err: str


Act2See = Callable[..., Done]


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of video, 64x48 at 10 frames a second."""
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(20):
            picture = np.full((48, 64, 3), number * 12, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture
def act2see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Act2See:
    """Runs the command line in this process, in an empty folder, with the fakes at hand and without anybody's settings."""
    (tmp_path / "cli_fakes.py").write_text(FAKES, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "cli_fakes", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))

    def run(*arguments: str | Path) -> Done:
        capsys.readouterr()
        code = cli.main([str(argument) for argument in arguments])
        return Done(code, *capsys.readouterr())

    return run


def _with(backend: str, retriever: str = "Finder") -> tuple[str, ...]:
    return ("--backend", f"cli_fakes:{backend}", "--retriever", f"cli_fakes:{retriever}" if retriever[0].isupper() else retriever)


COLOURS = ("--choices", "blue", "red")


# Answers


def test_the_answer_alone_goes_to_stdout(act2see: Act2See, clip: Path) -> None:
    done = act2see("ask", clip, "What colour?", *COLOURS, *_with("Looker"))
    assert (done.code, done.out) == (0, "B. red\n")
    assert "It is not here." in done.err
    assert "the red star" in done.err
    assert "frame at 0.5 s (score 0.75)" in done.err
    assert "Now I see it." in done.err


def test_repeated_choices_are_one_list(act2see: Act2See, clip: Path) -> None:
    done = act2see("ask", clip, "What colour?", "--choices", "blue", "--choices", "red", *_with("Direct"))
    assert done.out == "B. red\n"


def test_an_open_question_prints_the_models_words_without_control_characters(act2see: Act2See, clip: Path) -> None:
    done = act2see("ask", clip, "What is it?", *_with("Free"))
    assert (done.code, done.out) == (0, "a [31mred star\nand more\n")
    assert "\x1b" not in done.err


def test_json_is_one_line_with_everything(act2see: Act2See, clip: Path, tmp_path: Path) -> None:
    done = act2see("ask", clip, "What colour?", *COLOURS, *_with("Looker"), "--json", "--save", "runs/one", "--report", "out.html")
    assert done.code == 0
    assert done.out.count("\n") == 1
    told = json.loads(done.out)
    assert told["answer"] == "B"
    assert told["choice"] == 1
    assert told["finish"] == "answer"
    assert told["looks"] == [{"kind": "retrieve", "query": "the red star", "seconds": pytest.approx(0.5), "score": 0.75}]
    assert told["cost"]["tokens_in"] == 20
    assert told["cost"]["seconds"]["decode"] == 1.0
    assert told["made_with"]["backend"] == "scripted"
    assert told["made_with"]["retriever"] == "finder"
    assert (told["save"], told["report"]) == ("runs/one", "out.html")
    assert (tmp_path / "out.html").read_text(encoding="utf-8").lower().startswith("<!doctype html>")


def test_a_tools_failure_is_told_to_the_model_and_in_the_json(act2see: Act2See, clip: Path) -> None:
    done = act2see("ask", clip, "What colour?", *COLOURS, *_with("Looker", "Blind"), "--json")
    assert done.code == 0
    look = {"kind": "retrieve", "query": "the red star", "seconds": None, "score": None, "error": "no frame left to show"}
    assert json.loads(done.out)["looks"] == [look]
    assert "no frame left to show" in done.err


def test_save_keeps_every_trace_in_one_run(act2see: Act2See, clip: Path) -> None:
    for question in ("What colour?", "Which colour?"):
        assert act2see("ask", clip, question, *COLOURS, *_with("Looker"), "--save", "run").code == 0
    run = Run.open(Path("run"))
    traces = list(run.traces())
    assert [trace.question for trace in traces] == ["What colour?", "Which colour?"]
    assert [trace.answer for trace in traces] == ["B", "B"]
    assert [frame.seconds for frame in traces[0].frames] == pytest.approx([0.0, 1.0])
    assert run.command == "ask"
    assert run.config["max_looks"] == 3


def test_without_looks_no_tool_is_offered_and_no_retriever_is_loaded(act2see: Act2See, clip: Path) -> None:
    done = act2see("ask", clip, "What colour?", *COLOURS, "--backend", "cli_fakes:Direct", "--retriever", "json:loads", "--max-looks", "0", "--json")
    assert (done.code, json.loads(done.out)["made_with"]["tools"]) == (0, "none")


def test_a_backend_says_what_it_does_not_know(act2see: Act2See, clip: Path) -> None:
    done = act2see("ask", clip, "What colour?", *COLOURS, *_with("Narrow"))
    assert (done.code, done.out) == (0, "B. red\n")
    assert "act2see: note: this model knows only stars\n" in done.err


# No answer


@pytest.mark.parametrize("backend", ["Silent", "Stubborn", "Purple"])
def test_no_answer_is_3_and_nothing_on_stdout(act2see: Act2See, clip: Path, backend: str) -> None:
    done = act2see("ask", clip, "What colour?", *COLOURS, *_with(backend))
    assert (done.code, done.out) == (3, "")
    assert "no answer" in done.err


def test_no_answer_in_json(act2see: Act2See, clip: Path) -> None:
    done = act2see("ask", clip, "What colour?", *COLOURS, *_with("Silent"), "--json")
    told = json.loads(done.out)
    assert (done.code, told["answer"], told["choice"], told["finish"]) == (3, None, None, "end")


# Errors that the user can mend


def _one_complaint(done: Done) -> str:
    """The one line that an error prints; nothing may be on stdout."""
    assert done.code == 1
    assert done.out == ""
    assert done.err.count("\n") == 1
    assert done.err.startswith("act2see: ")
    return done.err


def test_files_that_are_no_videos(act2see: Act2See, tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a video", encoding="utf-8")
    for name in ("nowhere.mp4", "empty.mp4", "text.mp4", "."):
        _one_complaint(act2see("ask", name, "What colour?", *_with("Direct")))


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("",), "the question is empty"),
        (("  ",), "the question is empty"),
        (("Why?", "--choices", "one"), "1 choices: give 2 to 26"),
        (("Why?", "--choices", *(str(number) for number in range(27))), "27 choices: give 2 to 26"),
        (("Why?", "--choices", "red", "Red "), "the same choice twice"),
        (("Why?", "--choices", "red", " "), "a choice is empty"),
        (("Why?", "--backend", "hugginface:x"), "did you mean huggingface:DIR?"),
        (("Why?", "--backend", "cli_fakes:Nobody"), "cli_fakes has no class or function Nobody"),
        (("Why?", "--retriever", "sigclip"), "no retriever 'sigclip'"),
        (("Why?", "--report", "nowhere/out.html"), "there is no folder nowhere"),
        (("Why?", "--report", "."), "it is a folder"),
        (("Why?", "--save", "cli_fakes.py"), "cli_fakes.py"),
        (("Why?", "--config", "nowhere.toml"), "cannot read the settings file nowhere.toml"),
    ],
)
def test_what_cannot_be_done_is_one_line(act2see: Act2See, clip: Path, arguments: tuple[str, ...], part: str) -> None:
    with_defaults = arguments if "--backend" in arguments else (*arguments, "--backend", "cli_fakes:Direct")
    with_defaults = with_defaults if "--retriever" in arguments else (*with_defaults, "--retriever", "none")
    assert part in _one_complaint(act2see("ask", clip, *with_defaults))


def test_a_dead_server_is_one_line_and_leaves_no_report(act2see: Act2See, clip: Path, tmp_path: Path) -> None:
    complaint = _one_complaint(act2see("ask", clip, "What colour?", *_with("Dead"), "--report", "out.html"))
    assert complaint == "act2see: no answer from the server at localhost: start it\n"
    assert not (tmp_path / "out.html").exists()


def test_a_key_is_never_printed(act2see: Act2See, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-to-be-seen")
    done = act2see(
        "ask", clip, "What?", "--backend", "openai:some-model", "--base-url", "http://127.0.0.1:9/v1", "--retriever", "none", "--save", "run"
    )
    _one_complaint(done)
    assert "sk-not" not in done.out + done.err
    assert all("sk-not" not in path.read_text(encoding="utf-8") for path in Path("run").rglob("*.json*"))


# Usage


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("aks",), "aks"),
        (("ask",), "VIDEO"),
        (("ask", "clip.mp4"), "QUESTION"),
        (("ask", "clip.mp4", "Why?", "more"), "more"),
        (("ask", "clip.mp4", "Why?", "--fpz", "2"), "Did you mean --fps?"),
        (("ask", "clip.mp4", "Why?", "--fps", "0"), "Must be > 0"),
        (("ask", "clip.mp4", "Why?", "--fps", "nan"), "--fps"),
        (("ask", "clip.mp4", "Why?", "--max-looks", "many"), "--max-looks"),
        (("ask", "clip.mp4", "Why?", "--dtype", "int"), "bfloat16"),
        (("completion", "cmd"), "bash"),
    ],
)
def test_usage_is_one_line_and_2(act2see: Act2See, arguments: tuple[str, ...], part: str) -> None:
    done = act2see(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("act2see: ")
    assert done.err.count("\n") == 1
    assert part in done.err


def test_version_help_template_and_completion_go_to_stdout(act2see: Act2See) -> None:
    assert act2see("--version") == Done(0, f"{__version__}\n", "")
    for words, part in (
        (("--help",), "ask"),
        (("ask", "--help"), "--max-looks"),
        (("template",), "<|im_start|>"),
        (("completion", "bash"), "complete"),
    ):
        done = act2see(*words)
        assert (done.code, done.err) == (0, "")
        assert part in done.out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_the_flags(act2see: Act2See, shell: str) -> None:
    assert "max-looks" in act2see("completion", shell).out


# Settings files


def test_settings_fill_what_the_command_line_leaves_open(act2see: Act2See, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('backend = "cli_fakes:Direct"\nretriever = "none"\nmax-looks = 5\n[ask]\njson = true\n', encoding="utf-8")
    asked = ("ask", clip, "What colour?", *COLOURS, "--config", "mine.toml")
    assert json.loads(act2see(*asked).out)["made_with"]["looks"] == "5"
    assert json.loads(act2see(*asked, "--max-looks", "2").out)["made_with"]["looks"] == "2"
    assert act2see(*asked, "--no-json").out == "B. red\n"


def test_the_users_own_settings_are_read_without_being_named(act2see: Act2See, clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "settings" / "act2see"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text('backend = "cli_fakes:Direct"\nretriever = "none"\n', encoding="utf-8")
    assert act2see("ask", clip, "What colour?", *COLOURS).out == "B. red\n"
    (tmp_path / "other.toml").write_text('backend = "cli_fakes:Purple"\nretriever = "none"\n', encoding="utf-8")
    assert act2see("ask", clip, "What colour?", *COLOURS, "--config", "other.toml").code == 3


@pytest.mark.parametrize(
    ("text", "part"), [("bakend = 'micro'", "unknown key 'bakend'; did you mean 'backend'?"), ("[asc]\nfps = 2", "unknown table 'asc'")]
)
def test_an_unknown_setting_is_refused_with_its_file(act2see: Act2See, clip: Path, tmp_path: Path, text: str, part: str) -> None:
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    complaint = _one_complaint(act2see("ask", clip, "What colour?", *_with("Direct"), "--config", "mine.toml"))
    assert "mine.toml" in complaint
    assert part in complaint


def test_a_setting_of_the_wrong_kind_names_file_and_key(act2see: Act2See, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('max-looks = "many"', encoding="utf-8")
    done = act2see("ask", clip, "What colour?", *_with("Direct"), "--config", "mine.toml")
    assert (done.code, done.out) == (2, "")
    assert "max-looks" in done.err
    assert "mine.toml" in done.err


# Evaluation


def _evaluate(act2see: Act2See, *arguments: str) -> Done:
    return act2see("eval", "cli_fakes:Bench", *_with("Looker"), *arguments)


@pytest.fixture
def _bench(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACT2SEE_TEST_CLIP", str(clip))


@pytest.mark.usefixtures("_bench")
def test_eval_ends_in_one_line_of_json(act2see: Act2See) -> None:
    done = _evaluate(act2see, "--json", "--n", "4")
    told = json.loads(done.out)
    assert (done.code, done.out.count("\n")) == (0, 1)
    assert told["n"] == 4
    assert told["benchmark"] == "cli_fakes:Bench"
    assert told["accuracy"] == {"all": 1.0, "even": 1.0, "odd": 1.0}
    assert told["call_rate"]["all"] == 1.0


@pytest.mark.usefixtures("_bench")
def test_eval_for_a_reader(act2see: Act2See) -> None:
    done = _evaluate(act2see)
    assert (done.code, done.out.splitlines()[:2]) == (0, ["3 questions of cli_fakes:Bench: 3 correct", "all: 100.0% right of 3, 100.0% looked again"])


@pytest.mark.usefixtures("_bench")
@pytest.mark.parametrize(("frames", "made_with", "brought"), [("random", "random@3fps", 1), ("withheld", "withheld", 0)])
def test_a_look_can_bring_something_else(act2see: Act2See, frames: str, made_with: str, brought: int) -> None:
    assert _evaluate(act2see, "--frames", frames, "--n", "1", "--out", "run").code == 0
    (trace,) = Run.open(Path("run")).traces()
    assert trace.made_with["retriever"] == made_with
    assert trace.looks == brought


@pytest.mark.usefixtures("_bench")
def test_a_run_is_resumed_only_with_the_same_settings(act2see: Act2See) -> None:
    assert _evaluate(act2see, "--out", "run").code == 0
    assert "holds a run already" in _one_complaint(_evaluate(act2see, "--out", "run"))
    assert "max_looks" in _one_complaint(_evaluate(act2see, "--out", "run", "--resume", "--max-looks", "1"))
    lines = Path("run/traces.jsonl").read_bytes().splitlines(keepends=True)
    Path("run/traces.jsonl").write_bytes(b"".join(lines[:1]) + lines[1][:20])  # cut off while the second trace was written
    again = _evaluate(act2see, "--out", "run", "--resume", "--json")
    assert (again.code, json.loads(again.out)["accuracy"]["all"]) == (0, 1.0)
    assert [trace.id for trace in Run.open(Path("run")).traces()] == ["q0", "q1", "q2"]
    assert json.loads(Path("run/summary.json").read_text(encoding="utf-8"))["n"] == 3


@pytest.mark.usefixtures("_bench")
def test_what_failed_is_counted_and_said(act2see: Act2See) -> None:
    done = act2see("eval", "cli_fakes:Bench", *_with("Dead"), "--json")
    assert (done.code, json.loads(done.out)["outcomes"]) == (0, {"backend_error": 3})
    assert "note: 3 of 3 questions failed; the first: no answer from the server at localhost: start it" in done.err


@pytest.mark.parametrize(
    ("arguments", "part"),
    [(("synthetics",), "did you mean synthetic?"), (("cli_fakes:Bench", "--resume"), "--out"), (("cli_fakes:Finder",), "it has no 'samples'")],
)
def test_an_eval_that_cannot_be_done_is_one_line(act2see: Act2See, arguments: tuple[str, ...], part: str) -> None:
    assert part in _one_complaint(act2see("eval", *arguments, *_with("Looker")))


# The demo


def test_the_demo_answers_every_question_and_writes_a_report(
    act2see: Act2See, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from act2see import registry

    item = {"video": str(clip), "question": "What colour is the star?", "choices": ["blue", "red"], "answer": "red"}
    (tmp_path / "questions.json").write_text(json.dumps([item, {**item, "answer": "blue"}]), encoding="utf-8")
    monkeypatch.setattr(cli, "DEMO", tmp_path)
    how = ModelConfig()
    act2see("--version")  # the fixture's folder and fakes
    code = cli.answer_demo(Path("demo.html"), registry.backend("cli_fakes:Looker", how), registry.retriever("cli_fakes:Finder", how), how)
    out = capsys.readouterr().out.splitlines()
    assert code == 0
    assert out == [
        "1. What colour is the star? red (right; looked again at 0.50 s)",
        "2. What colour is the star? red (wrong: it is blue; looked again at 0.50 s)",
        "report: demo.html",
    ]
    assert "the red star" in (tmp_path / "demo.html").read_text(encoding="utf-8")


# Processes


def _start(tmp_path: Path, *arguments: str | Path) -> "subprocess.Popen[str]":
    (tmp_path / "cli_fakes.py").write_text(FAKES, encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "XDG_CONFIG_HOME": str(tmp_path / "settings")}
    return subprocess.Popen(
        [sys.executable, "-m", "act2see", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        # A test run in the background may ignore SIGINT, and its children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )


def test_help_loads_nothing_heavy() -> None:
    program = """
import sys
from act2see import cli
for words in (["--help"], ["ask", "--help"], ["--version"], ["completion", "bash"]):
    assert cli.main(words) == 0
heavy = {"torch", "transformers", "av", "PIL", "numpy", "openai", "jinja2"} & set(sys.modules)
sys.exit(f"loaded: {heavy}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_control_c_is_one_line_and_the_partial_trace_is_kept(clip: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with _start(tmp_path, "ask", clip, "What colour?", *_with("Halfway"), "--save", run) as process:
        assert process.stderr is not None
        seen = ""
        while "Now I" not in seen:
            letter = process.stderr.read(1)
            assert letter, seen
            seen += letter
        process.send_signal(signal.SIGINT)
        out, rest = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert rest.strip() == f"act2see: interrupted; what was thought so far is kept in {run}"
    (trace,) = Run.open(run).traces()
    assert trace.finish is None
    assert trace.steps[0] == Thought("<think>Look.")
    assert trace.looks == 1


def test_a_reader_that_leaves_is_no_traceback(clip: Path, tmp_path: Path) -> None:
    with _start(tmp_path, "ask", clip, "What colour?", *COLOURS, *_with("Looker")) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        err = process.stderr.read()
        process.wait(timeout=60)
    assert process.returncode == 141
    assert "Traceback" not in err
    assert "BrokenPipe" not in err


def test_an_error_in_a_process_of_its_own(tmp_path: Path) -> None:
    with _start(tmp_path, "ask", tmp_path / "nowhere.mp4", "Why?") as process:
        out, err = process.communicate(timeout=60)
    assert _one_complaint(Done(process.returncode, out, err)) == f"act2see: no such file: {tmp_path / 'nowhere.mp4'}\n"
