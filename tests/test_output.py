"""What is printed goes through one place, cleaned; progress in lines where there is no terminal."""

import ast
import io
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import act2see
from act2see.cli import output
from act2see.core.errors import InternalError, StoreError
from act2see.core.plaintext import is_well_formed, one_line, plain

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m[red]\u202eevil\u2066\x7f\x00\r\ud800 \N{GRINNING FACE}"
SOURCES = sorted(Path(act2see.__file__).parent.rglob("*.py"))
_FORBIDDEN = {*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A), *range(0xD800, 0xE000)}


def is_harmless(text: str) -> bool:
    """Whether nothing in it steers a terminal; line feeds and tabs are harmless."""
    return not _FORBIDDEN & ({ord(letter) for letter in text} - {0x09, 0x0A})


@given(st.text(st.characters(codec=None)))
def test_no_text_steers_the_terminal(text: str) -> None:
    assert is_harmless(plain(text))
    assert is_harmless(one_line(text))
    assert len((one_line(text) + "\n").splitlines()) == 1
    assert plain(plain(text)) == plain(text)
    plain(text).encode("utf-8")


def test_what_people_write_stays_as_it_is() -> None:
    for text in ("Größe", "赤い星\u3000です", "\u200fعربي", "\N{WOMAN}\u200d\N{PERSONAL COMPUTER}", "a\u00a0b", "one\ttwo\nthree"):
        assert plain(text) == text
        assert is_well_formed(text)
    assert plain("a\x1b[31mb\ud800") == "a[31mb\\ud800"
    assert one_line("a\r\nb\u2028c\td") == "a b c d"
    assert not is_well_formed("a\udcff")


def test_every_way_to_say_something_is_cleaned(capsys: pytest.CaptureFixture[str]) -> None:
    output.say(HOSTILE)
    output.say(Path("a\nb"))
    output.say_text(f"{HOSTILE}\nsecond line\n")
    output.complain(HOSTILE)
    output.complain_of(InternalError(f"internal error: {HOSTILE}", "Traceback"))
    out, err = capsys.readouterr()
    assert is_harmless(out)
    assert is_harmless(err)
    assert (out.count("\n"), err.count("\n")) == (4, 2)
    assert "[red]" in out  # as it is written: no markup
    assert "Traceback" not in err


def test_a_developer_sees_the_traceback(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(output.DEBUG, "1")
    output.complain_of(InternalError("internal error: x", "Traceback\n  \x1b[2J\n"))
    assert capsys.readouterr().err == "Traceback\n  [2J\nact2see: internal error: x\n"


def test_json_is_ascii_and_valid_whatever_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    output.say_json({"text": HOSTILE, "numbers": [float("nan"), (float("inf"), 1.5)], "of": {"x": float("-inf")}})
    out = capsys.readouterr().out
    assert out.isascii()
    assert is_harmless(out)
    assert json.loads(out, parse_constant=pytest.fail) == {"text": HOSTILE, "numbers": [None, [None, 1.5]], "of": {"x": None}}


def test_a_stdout_that_takes_nothing_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    full = open("/dev/full", "w", encoding="utf-8")  # noqa: SIM115 - it cannot be closed in order
    monkeypatch.setattr(sys, "stdout", full)
    with pytest.raises(StoreError, match="cannot write to stdout: No space left on device"):
        output.say("an answer")
    full.close()  # what could not be written was led to nowhere, or this would raise


def test_nothing_else_prints() -> None:
    """Not even literal text. Streams and rich's console are used in output.py, and in the two files that draw a trace and a training's progress."""
    drawing = {"output.py": {"send", "Console"}, "terminal.py": {"send"}, "train_progress.py": {"Console"}}
    for path in SOURCES:
        allowed = drawing.get(path.name, set())
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            where = f"{path}:{node.lineno}: {called}"
            assert called not in ("print", "pprint"), where
            assert "sys.stdout.write" not in called, where
            assert "sys.stderr.write" not in called, where
            assert called != "Console" or "Console" in allowed, where


# Progress


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def lines_of(seconds_each: float, count: int, total: int | None, capsys: pytest.CaptureFixture[str]) -> list[str]:
    clock = Clock()
    lines = output.Lines("questions", clock=clock)
    for done in range(1, count + 1):
        clock.now += seconds_each
        lines.update(done, total)
    lines.end()
    return capsys.readouterr().err.splitlines()


def test_progress_in_lines_with_rate_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    told = lines_of(1.0, 100, 100, capsys)
    assert told[0] == "act2see: questions: 10/100 (10%) in 0:00:10, 1/s, 0:01:30 left"
    assert told[-1] == "act2see: questions: 100/100 (100%) in 0:01:40, 1/s"
    assert len(told) == 10
    assert lines_of(1.0, 30, None, capsys)[0] == "act2see: questions: 10 in 0:00:10, 1/s"


def test_a_small_job_says_nothing_and_a_long_one_ever_less(capsys: pytest.CaptureFixture[str]) -> None:
    assert lines_of(0.1, 90, 90, capsys) == []
    assert lines_of(0.1, 0, 90, capsys) == []
    assert len(lines_of(6.0, 6000, 6000, capsys)) < 150  # ten hours


def test_without_a_terminal_progress_comes_in_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(output, "FIRST_LINE_SECONDS", 0.0)
    assert list(output.progressing(iter("abc"), "letters \x1b[31m", 3)) == ["a", "b", "c"]
    err = capsys.readouterr().err
    assert [line.split(" in ")[0] for line in err.splitlines()] == [
        "act2see: letters [31m: 1/3 (33%)",
        "act2see: letters [31m: 2/3 (67%)",
        "act2see: letters [31m: 3/3 (100%)",
    ]


def test_on_a_terminal_progress_is_a_bar_without_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    assert list(output.progressing(iter("ab"), "[red]letters\x07", 2)) == ["a", "b"]
    assert "[red]letters" in terminal.getvalue()
    assert "\x07" not in terminal.getvalue()


def test_each_step_of_a_long_job_has_its_own_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(output, "FIRST_LINE_SECONDS", 0.0)
    with output.show_progress(unit=" frames") as progress:
        for done in range(3):
            progress(done, 2, "first")
        progress(0, None, "second")
        progress(1, None, "second")
    told = [line.split(" in ")[0] for line in capsys.readouterr().err.splitlines()]
    assert told == ["act2see: first: 1/2 frames (50%)", "act2see: first: 2/2 frames (100%)", "act2see: second: 1 frames"]


def test_a_transient_bar_is_gone_when_its_work_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with output.show_progress(unit=" frames", transient=True) as progress:
        assert terminal.getvalue() == ""  # nothing before the first call
        progress(1, 2, "[red]indexing\x07")
        progress(2, 2, "[red]indexing\x07")
        shown = terminal.getvalue()
        assert "[red]indexing" in shown
        assert "\x07" not in shown
        assert shown.endswith("\x1b[2K")  # the line is erased
        progress(0, None, "imagining")
        progress(1, 2, "[red]indexing\x07")  # the first work again
    assert "imagining" in terminal.getvalue()


def test_nothing_is_shown_where_nothing_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with output.show_progress():
        pass
    assert terminal.getvalue() == ""
