"""Standard streams that are closed, full or gone, and home folders that are of no use: one line at most, never a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli_fakes import fakes

ASK = ("What?", *fakes("Direct"), "--choices", "blue", "red")


def shell(tmp_path: Path, redirection: str, *arguments: str | Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """The command line with a shell's redirection."""
    inherited = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])}
    inherited |= {"XDG_CONFIG_HOME": str(tmp_path / "settings"), "ACT2SEE_CACHE": str(tmp_path / "cache")}
    command = ["sh", "-c", f'"$@" {redirection}', "sh", sys.executable, "-m", "act2see", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={**inherited, **environment}, check=False, timeout=120)


@pytest.mark.parametrize(
    ("redirection", "code", "out", "said"),
    [
        (">&-", 1, "", "act2see: stdout is closed: redirect it to a file or to /dev/null\n"),
        (">/dev/full", 1, "", "act2see: cannot write to stdout: No space left on device\n"),
        ("2>&-", 0, "B. red\n", ""),
        ("2>/dev/full", 0, "B. red\n", ""),
        ("2</dev/null", 0, "B. red\n", ""),
        ("<&-", 0, "B. red\n", ""),
        ("<&- >&- 2>&-", 1, "", ""),
        ("| true", 0, "", None),
    ],
)
def test_streams(clip: Path, tmp_path: Path, redirection: str, code: int, out: str, said: str | None) -> None:
    done = shell(tmp_path, redirection, "ask", clip, *ASK, "--save", "run")
    assert (done.returncode, done.stdout) == (code, out)
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
    if said:
        assert done.stderr.endswith(said)


def test_a_closed_stream_is_nobodys_file(clip: Path, tmp_path: Path) -> None:
    """The first file that is opened would get the number 2, and every complaint would be written into it."""
    done = shell(tmp_path, "2>&-", "ask", clip, *ASK, "--save", "run", "--report", "report.html")
    assert done.returncode == 0
    for path in (tmp_path / "report.html", tmp_path / "run" / "traces.jsonl", tmp_path / "run" / "run.json"):
        assert "0 looks" not in path.read_text(encoding="utf-8").partition("\n")[0]
        assert path.read_text(encoding="utf-8").startswith(("<!doctype html>", "{"))


@pytest.mark.parametrize("home", ["/nowhere/at/all", "/proc", "/dev/null", f"/{'n' * 300}"])
def test_homes(clip: Path, tmp_path: Path, home: str) -> None:
    folders = {"HOME": home, "XDG_CONFIG_HOME": f"{home}/config", "XDG_CACHE_HOME": f"{home}/cache", "ACT2SEE_CACHE": f"{home}/own"}
    done = shell(tmp_path, "", "ask", clip, *ASK, **folders)
    assert (done.returncode, done.stdout) == (0, "B. red\n")
    assert "Traceback" not in done.stderr


def test_bytes_that_are_no_utf_8(clip: Path, tmp_path: Path) -> None:
    odd = os.fsdecode(b"odd \xff")
    refused: tuple[tuple[str | Path, ...], ...] = (
        ("ask", clip, odd, *fakes("Direct")),
        ("ask", clip, "What?", *fakes("Direct"), "--choices", odd, "red"),
        ("retrieve", clip, odd),
        ("generate", clip, odd),
    )
    for arguments in refused:
        done = shell(tmp_path, "", *arguments)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert "is not valid UTF-8: 'odd \\udcff'" in done.stderr
    named = tmp_path / f"{odd}.mp4"
    named.write_bytes(clip.read_bytes())
    done = shell(tmp_path, "", "ask", named, *ASK, "--save", f"run {odd}", "--report", f"{odd}.html", "--json")
    assert done.returncode == 0
    assert done.stdout.isascii()
    assert (tmp_path / f"{odd}.html").exists()
