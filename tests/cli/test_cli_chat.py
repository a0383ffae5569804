"""`chat`: questions in a row on one loaded model, errors and interrupts of one question, commands, and what is kept."""

import io
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import pytest

from act2see.config import ModelConfig
from act2see.core.chat import Tool
from act2see.core.interfaces import Continuation
from act2see.core.trace import Trace
from act2see.storage.runs import Run
from cli_fakes import Act2See, Done, Looker, Scripted, fakes

LOADED: list[str] = []


class Counted(Looker):
    """Counts how often it is loaded."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        LOADED.append("backend")


class Interrupted(Scripted):
    """Is interrupted in its first answer, after a look, as by Ctrl-C; breaks in its second."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self._decoded = 0

    def decode(self, trace: Trace, tools: Sequence[Tool]) -> Generator[str, None, Continuation]:
        self._decoded += 1
        self.chunks = ("<think>Look.<retrieve>the star</retrieve>",) if self._decoded == 1 else ("<answer>B</answer>",)
        if self._decoded == 2:
            yield "Half of"
            raise KeyboardInterrupt
        if self._decoded == 3:
            raise IndexError("a bug")
        return (yield from super().decode(trace, tools))


def flags(backend: type[Scripted]) -> tuple[str, ...]:
    return ("--backend", f"test_cli_chat:{backend.__name__}", "--retriever", "cli_fakes:Finder")


@pytest.fixture
def chat(act2see: Act2See, clip: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    monkeypatch.setitem(sys.modules, "test_cli_chat", sys.modules[__name__])

    def run(lines: str, *arguments: str | Path) -> Done:
        monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
        return act2see("chat", clip, *arguments)

    return run


def test_questions_in_a_row_are_answered_on_one_loaded_model(chat: Callable[..., Done], tmp_path: Path) -> None:
    LOADED.clear()
    done = chat("What colour? | blue | red\n\n/quit\nnever asked\n", *flags(Counted))
    assert (done.code, done.out, LOADED) == (0, "B. red\n", ["backend"])
    assert "It is not here." in done.err
    done = chat("What colour?|blue|red\nWhat is it?\n", *flags(Counted), "--save", "run")
    assert (done.code, done.out, len(LOADED)) == (0, "B. red\nB\n", 2)
    traces = list(Run.open(tmp_path / "run").traces())
    assert [trace.question for trace in traces] == ["What colour?", "What is it?"]
    assert traces[0].choices == ("blue", "red")
    assert len({trace.id for trace in traces}) == 2


def test_an_answer_can_be_interrupted_and_a_bug_is_one_line(chat: Callable[..., Done], tmp_path: Path) -> None:
    done = chat("One?\nTwo?\nThree?\n", *flags(Interrupted), "--save", "run")
    assert (done.code, done.out) == (1, "B\n")
    assert "act2see: stopped\n" in done.err
    assert "internal error: IndexError" in done.err
    kept = list(Run.open(tmp_path / "run").traces())
    assert [(trace.question, trace.finish) for trace in kept] == [("One?", None), ("Three?", "answer")]


def test_the_exit_code_says_whether_all_questions_were_answered(chat: Callable[..., Done]) -> None:
    assert chat("", *fakes("Direct")).code == 0
    assert chat("What? | blue | red\n", *fakes("Purple")).code == 3
    assert chat("What?\n", *fakes("Dead")).code == 1
    refused = chat("What? | blue | blue\nWhat? | blue | red\n", *fakes("Direct"))
    assert (refused.code, refused.out) == (1, "B. red\n")
    assert "duplicate choices" in refused.err


def test_commands(chat: Callable[..., Done], tmp_path: Path) -> None:
    lines = "/frames\n/report\nWhat? | blue | red\n/frames\n/report out.html\n/look off\n/look maybe\n/nothing\n/quit now\n"
    done = chat(lines, *fakes("Looker"))
    assert done.code == 0
    assert "no frames yet" in done.err
    assert "nothing to report yet" in done.err
    assert "2 initial frames at 0.0, 1.0 s\nquestion 1: frame at 0.5 s (score 0.75)\n" in done.out
    assert "report: out.html\nlook off\n" in done.out
    assert "/look is off: write /look on or /look off" in done.err
    assert "unknown command /nothing" in done.err
    assert "What?" in (tmp_path / "out.html").read_text(encoding="utf-8")
    assert "/look on|off" in chat("/help\n", *fakes("Looker")).out


def test_without_looks_no_tool_is_offered(chat: Callable[..., Done], tmp_path: Path) -> None:
    chat("/look off\nWhat? | blue | red\n/look on\nWhat? | blue | red\n", *fakes("Direct"), "--save", "run")
    assert [trace.made_with["tools"] for trace in Run.open(tmp_path / "run").traces()] == ["none", "retrieve"]


def test_a_report_never_takes_the_videos_place(chat: Callable[..., Done], clip: Path) -> None:
    content = clip.read_bytes()
    assert "it is an input of the command" in chat(f"What? | blue | red\n/report {clip}\n", *fakes("Looker")).err
    assert clip.read_bytes() == content


def test_a_line_that_is_no_utf8_is_refused_and_the_next_one_answered(clip: Path, tmp_path: Path, act2see: Act2See) -> None:
    read, write = os.pipe()
    os.write(write, b"What \xff? | blue | red\nWhat? | blue | red\n")
    os.close(write)
    with pytest.MonkeyPatch.context() as patch, os.fdopen(read, encoding="utf-8") as stdin:
        patch.setattr(sys, "stdin", stdin)
        done = act2see("chat", clip, *fakes("Direct"))
    assert (done.code, done.out) == (1, "B. red\n")
    assert "not valid UTF-8" in done.err


@pytest.mark.slow
def test_in_a_terminal_ctrl_c_stops_the_answer_and_ctrl_d_ends(clip: Path, tmp_path: Path) -> None:
    master, slave = pty.openpty()
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    program = subprocess.Popen(
        [sys.executable, "-m", "act2see", "chat", clip, *fakes("Halfway"), "--save", tmp_path / "run"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "PYTHONPATH": path, "XDG_CONFIG_HOME": str(tmp_path), "TERM": "dumb"},
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )
    os.close(slave)
    seen = b""

    def wait_for(text: bytes, *, pressed: bool = False) -> None:
        nonlocal seen
        until = time.monotonic() + 60
        again = time.monotonic()
        while text not in seen:
            assert time.monotonic() < until, seen
            if pressed and time.monotonic() >= again:  # a signal that arrives just before readline or sleep begins to wait does not end that wait
                program.send_signal(signal.SIGINT)
                again += 10
            if select.select([master], [], [], 1)[0]:
                seen += os.read(master, 4096)
        seen = seen.partition(text)[2]

    wait_for(b"> ")
    os.write(master, b"What?\n")
    wait_for(b"Now I")
    wait_for(b"stopped", pressed=True)
    wait_for(b"> ")
    wait_for(b"Ctrl-D ends", pressed=True)
    wait_for(b"> ")
    os.write(master, b"\x04")
    assert program.wait(60) == 0
    os.close(master)
    assert [trace.looks for trace in Run.open(tmp_path / "run").traces()] == [1]
