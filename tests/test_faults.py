"""Unexpected exceptions become one kind of error, with their place; there is no other broad handler in the package."""

import ast
import json
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import act2see
from act2see.core.errors import Act2SeeError, InternalError, StoppedByFaultError, StoreError, VideoError
from act2see.evaluation.statistics import t_quantile
from act2see.execution.faults import ERRORS_FILE, Faults, unexpected

SOURCES = sorted(Path(act2see.__file__).parent.rglob("*.py"))


class Speechless(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


def _endless(number: int) -> int:
    return _endless(number + 1) + 1


class PanicException(BaseException):
    """As PyO3 makes one for a library in Rust."""


def _raise(error: BaseException) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


@pytest.mark.parametrize(
    ("work", "kind"),
    [
        (lambda: _endless(0), "RecursionError"),
        (_raise(MemoryError()), "MemoryError"),
        (_raise(OSError(5, "Input/output error", "x")), "OSError"),
        (_raise(ExceptionGroup("several", [TypeError("a"), ValueError("b")])), "ExceptionGroup"),
        (_raise(Speechless()), "Speechless"),
        (_raise(PanicException("index out of range")), "PanicException"),
        (_raise(StopIteration()), "StopIteration"),
        (_raise(UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed")), "UnicodeEncodeError"),
        (lambda: t_quantile(0), "ValueError"),
    ],
)
def test_any_exception_is_one_line_with_its_kind_place_and_traceback(work: Callable[[], object], kind: str) -> None:
    with pytest.raises(InternalError) as raised, unexpected():
        work()
    said = str(raised.value)
    assert said.startswith((f"internal error: {kind}, raised at ", f"internal error: {kind} at act2see.evaluation.statistics:"))
    assert "\n" not in said
    assert raised.value.traceback.startswith(("Traceback (most recent call last):\n", "  + Exception Group Traceback"))
    assert len(raised.value.traceback) < 25_000
    assert raised.value.__cause__ is not None


def test_the_place_is_act2sees_innermost_line_and_that_which_raised() -> None:
    with pytest.raises(InternalError, match=r"ValueError at act2see\.evaluation\.statistics:\d+: 0 degrees of freedom"), unexpected():
        t_quantile(0)
    with pytest.raises(InternalError, match=r"TypeError at act2see\.evaluation\.statistics:\d+, raised at [\w.]+:\d+: unhappy"), unexpected():
        t_quantile(_Unhappy())  # type: ignore[arg-type]


class _Unhappy:
    def __lt__(self, other: object) -> bool:
        raise TypeError("unhappy")


def test_ours_and_those_that_are_let_through_stay_as_they_are() -> None:
    with pytest.raises(VideoError, match="no such file"), unexpected():
        raise VideoError("no such file")
    with pytest.raises(ZeroDivisionError), unexpected(ArithmeticError):
        raise ZeroDivisionError
    for ending in (KeyboardInterrupt, SystemExit, GeneratorExit):
        with pytest.raises(ending), unexpected():
            raise ending


def test_a_message_is_cleaned_and_cut() -> None:
    with pytest.raises(InternalError) as raised, unexpected():
        raise ValueError("\x1b[31mred\x07\nnext \u202e\ud800 " + "x" * 9999)
    said = str(raised.value)
    assert said.isprintable()
    assert "[31mred next \\ud800 xxx" in said
    assert len(said) < 500


def test_it_goes_through_pickle_as_from_another_process() -> None:
    sent = pickle.loads(pickle.dumps(InternalError("internal error: x", "Traceback\n")))  # noqa: S301
    assert (str(sent), sent.traceback, type(sent)) == ("internal error: x", "Traceback\n", InternalError)


def test_it_decorates_methods_too() -> None:
    class Made:
        @unexpected()
        def work(self, number: int) -> float:
            return 1 / number

    assert Made().work(2) == 0.5
    for _ in range(2):  # a context that is entered anew each time
        with pytest.raises(InternalError, match="ZeroDivisionError"):
            Made().work(0)


def test_tracebacks_are_kept_one_a_line_by_many_threads(tmp_path: Path) -> None:
    faults = Faults(tmp_path)
    faults.note("right", None, None)
    assert not (tmp_path / ERRORS_FILE).exists()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: faults.note(f"q{number}", "internal error: \ud800", "Traceback\n" + "x" * 9000), range(64)))
    rows = [json.loads(line) for line in (tmp_path / ERRORS_FILE).read_text(encoding="utf-8").splitlines()]
    assert {row["id"] for row in rows} == {f"q{number}" for number in range(64)}
    assert all(row["error"] == "internal error: \ud800" and len(row["traceback"]) == 9010 for row in rows)


def test_a_link_in_a_strangers_run_is_not_written_through(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("kept")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ERRORS_FILE).symlink_to(outside)
    with pytest.raises(StoreError, match="is a link"):
        Faults(tmp_path / "run").note("q", "internal error", "Traceback")
    assert outside.read_text() == "kept"


def test_for_developers_the_first_ends_the_run_once_it_is_kept(tmp_path: Path) -> None:
    with pytest.raises(StoppedByFaultError) as raised:
        Faults(tmp_path, fail_fast=True).note("q", "internal error: x", "Traceback")
    assert raised.value.traceback == "Traceback"
    assert (tmp_path / ERRORS_FILE).exists()
    assert issubclass(StoppedByFaultError, Act2SeeError)


def test_there_is_one_broad_handler_in_the_package() -> None:
    broad = {"Exception", "BaseException"}
    found = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ExceptHandler):
                caught = {name.id for name in ast.walk(node.type) if isinstance(name, ast.Name)} if node.type else broad
                passes_on = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None  # tidies up, and catches nothing
                if caught & broad and not passes_on:
                    found.append(path.name)
    assert [name for name in found if name != "pretrained.py"] == ["faults.py"]  # pretrained.py names what a damaged model folder is
