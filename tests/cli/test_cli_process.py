"""The command line in a process of its own: what it loads, Ctrl-C, a reader that leaves."""

import signal
import subprocess
import sys
from pathlib import Path

from act2see.core.trace import Thought
from act2see.storage.runs import Run
from cli_fakes import COLOURS, Done, fakes, start


def test_help_loads_nothing_heavy() -> None:
    program = """
import sys
from act2see import cli
for words in (["--help"], ["ask", "--help"], ["--version"], ["completion", "bash"]):
    assert cli.main(words) == 0
heavy = {"torch", "transformers", "av", "PIL", "numpy", "openai", "jinja2", "starlette", "uvicorn", "mcp", "msgspec"} & set(sys.modules)
sys.exit(f"loaded: {heavy}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_control_c_is_one_line_and_the_partial_trace_is_kept(clip: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    report = tmp_path / "report.html"
    with start(tmp_path, "ask", clip, "What colour?", *fakes("Halfway"), "--save", run, "--report", report) as process:
        assert process.stderr is not None
        seen = ""
        while "Now I" not in seen:
            letter = process.stderr.read(1)
            assert letter, seen
            seen += letter
        process.send_signal(signal.SIGINT)
        out, rest = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert rest.strip().splitlines() == [f"act2see: note: the partial trace is saved in {run} and {report}", "act2see: interrupted"]
    (trace,) = Run.open(run).traces()
    assert trace.finish is None
    assert trace.steps[0] == Thought("<think>Look.")
    assert trace.looks == 1
    page = report.read_text(encoding="utf-8")
    assert "the star" in page
    assert "cut off before its end" in page


def test_a_reader_that_leaves_is_no_traceback(clip: Path, tmp_path: Path) -> None:
    with start(tmp_path, "ask", clip, "What colour?", *COLOURS, *fakes("Looker")) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        err = process.stderr.read()
        process.wait(timeout=60)
    assert process.returncode == 141
    assert "Traceback" not in err
    assert "BrokenPipe" not in err


def test_an_error_in_a_process_of_its_own(tmp_path: Path) -> None:
    with start(tmp_path, "ask", tmp_path / "nowhere.mp4", "Why?") as process:
        out, err = process.communicate(timeout=60)
    assert Done(process.returncode, out, err).complaint == f"act2see: no such file: {tmp_path / 'nowhere.mp4'}\n"
