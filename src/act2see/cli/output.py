"""Output of the commands: results on stdout, one-line messages and progress on stderr. Nothing else in the package prints.

Everything goes through `plaintext`, so that no data can control the terminal. Every command loads this module, so it imports nothing heavy.
"""

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from act2see.config import AskConfig
from act2see.core.errors import InternalError, StoppedByFaultError, StoreError
from act2see.core.plaintext import one_line, plain

if TYPE_CHECKING:
    from rich.console import Console

    from act2see.core.trace import Trace
    from act2see.execution.progress import ProgressCallback
    from act2see.storage.runs import JSON

T = TypeVar("T")

DEBUG = "ACT2SEE_DEBUG"
"""Environment variable: print tracebacks of internal errors."""
FIRST_LINE_SECONDS, LONGEST_SILENCE_SECONDS = 10.0, 600.0
"""Seconds between lines of progress without a terminal: at first, and at most; in between a twentieth of the time elapsed."""


def say(line: object) -> None:
    """Print one line on stdout. Raises `StoreError` where stdout cannot be written, `BrokenPipeError` where its reader has exited."""
    send(sys.stdout, one_line(str(line)) + "\n")


def say_text(text: str) -> None:
    """Print a text with its own line breaks."""
    send(sys.stdout, plain(text) + ("" if text.endswith("\n") else "\n"))


def say_json(value: object) -> None:
    """Print a value as one line of JSON, in ASCII; infinities and NaN become null."""
    send(sys.stdout, json.dumps(_finite(value), allow_nan=False) + "\n")


def complain(message: str) -> None:
    """Print one line on stderr."""
    if _line.is_open:
        _line.is_open = False
        end_line()
    send(sys.stderr, f"act2see: {one_line(' '.join(message.split()))}\n")


@dataclass(slots=True)
class _Line:
    """Whether text without a line end was written to stderr."""

    is_open: bool = False


_line = _Line()


def leave_line_open(*, is_open: bool = True) -> None:
    """Make the next message begin on a new line."""
    _line.is_open = is_open


def end_line() -> None:
    """End an open line on stderr."""
    send(sys.stderr, "\n")


def complain_of(error: InternalError) -> None:
    """Report an internal error in one line, after its traceback if requested."""
    if os.environ.get(DEBUG) or isinstance(error, StoppedByFaultError):
        send(sys.stderr, plain(error.traceback))
        complain(str(error))
    else:
        complain(
            f"{error} (a bug in act2see or a plug-in: rerun with {DEBUG}=1 for the traceback, and report it with the output of act2see --version)"
        )


def report_faults(outcomes: Mapping[str, int], errors_file: object = None) -> None:
    """Report how many questions ended in an internal error, and where their tracebacks are."""
    if count := outcomes.get("internal_error"):
        where = f"the tracebacks are in {errors_file}" if errors_file else "rerun with --fail-fast for the traceback"
        complain(f"note: {count} ended in an internal error, a bug in act2see or a plug-in; {where}; report it with the output of act2see --version")


def discard(stream: TextIO) -> None:
    """Redirect a stream to /dev/null, so that Python does not fail again when it flushes the stream at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def send(stream: TextIO | None, text: str) -> None:
    """Write and flush a cleaned text. Errors of stderr are ignored; raises `StoreError` for stdout, `BrokenPipeError` for both."""
    if stream is None:  # closed before the program started; `cli.entry` reports it
        return
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        discard(stream)
        if stream is not sys.stderr:  # an error of stderr cannot be reported anywhere
            raise StoreError(f"cannot write to stdout: {error.strerror or error}") from error


def _finite(value: object) -> object:
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_answer(trace: "Trace", settings: AskConfig) -> bool:
    """Print the answer, and nothing else, on stdout. Returns whether there was one; where choices were given, it must be one of them."""
    from act2see.core.chat import chosen, letters

    index = chosen(trace.answer, trace.choices) if trace.choices else None
    answered = trace.answer is not None and (index is not None or not trace.choices)
    if settings.json:
        say_json(_summary(trace, index, settings))
    elif answered and index is not None:
        say(f"{letters(len(trace.choices))[index]}. {trace.choices[index]}")
    elif answered:
        say_text(trace.answer or "")
    if not answered and trace.answer is not None:  # without any answer, the terminal's printer has given the reason
        complain(f"no answer: {trace.answer!r} is not one of the choices")
    return answered


def _summary(trace: "Trace", index: int | None, settings: AskConfig) -> "dict[str, JSON]":
    return {
        "answer": trace.answer,
        "choice": index,
        "finish": trace.finish,
        "looks": looks_of(trace),
        "cost": asdict(trace.cost),
        "made_with": trace.made_with,
        "report": str(settings.report) if settings.report else None,
        "save": str(settings.save) if settings.save else None,
    }


def looks_of(trace: "Trace") -> "list[dict[str, JSON]]":
    """Every call and what it returned: a frame's time in seconds (None if generated) and score, or an error; generated frames with provenance.

    `kind` is the tool; a frame of a zoom has its `box`.
    """
    from act2see.core.chat import tools_of
    from act2see.core.spots import tool_of
    from act2see.core.trace import Generate, Observation, Retrieve
    from act2see.storage.codec import encode_provenance

    looks: list[dict[str, JSON]] = []
    for call, brought in zip(trace.steps, trace.steps[1:], strict=False):
        if not isinstance(call, Retrieve | Generate) or not isinstance(brought, Observation):
            continue
        query = call.query if isinstance(call, Retrieve) else call.prompt
        look: dict[str, JSON] = {"kind": tool_of(call, tools_of(trace)), "query": query.strip()}
        if brought.error is not None:
            looks.append({**look, "imagined": False, "seconds": None, "score": None, "error": brought.error})
        for frame in brought.frames:
            made = {} if frame.provenance is None else encode_provenance(frame.provenance)
            made |= {} if frame.box is None else {"box": list(frame.box)}
            line = {} if frame.match is None or frame.match.line is None else {"line": asdict(frame.match.line)}
            looks.append({**look, "imagined": frame.seconds is None, "seconds": frame.seconds, "score": frame.score, **line, **made})
    return looks


def print_scores(summary: Mapping[str, Any], *, as_json: bool) -> None:
    """Print an evaluation's summary as text or as one line of JSON."""
    if as_json:
        say_json(summary)
        return
    say(f"{summary['n']} questions of {summary['benchmark']}: " + ", ".join(f"{count} {name}" for name, count in summary["outcomes"].items()))
    errors = [f"{count} {name}" for name, count in summary["outcomes"].items() if name.endswith("_error")]
    failed = f"; {' and '.join(errors)} among them count as wrong" if errors else ""
    for name, accuracy in summary["accuracy"].items():
        if accuracy is None:
            continue
        count, between = summary["n_by_kind"].get(name, summary["n"]), summary["accuracy_95"][name]
        if name == "all":
            count = summary["n"]
        interval = "95 %: unknown, only one video" if between is None else f"95 %: {between[0]:.1%} to {between[1]:.1%}"
        note = failed if name == "all" else ""
        say(f"{name}: {accuracy:.1%} right of {count} ({interval}{note}), {summary['call_rate'][name]:.1%} looked again")
    if guesses := summary.get("baselines"):
        say(f"guessing baselines, of {guesses['n']}: " + ", ".join(f"{name} {share:.1%}" for name, share in guesses["ours"].items()))
    if cost := summary.get("cost", {}).get("tokens_in"):
        out, frames = summary["cost"]["tokens_out"], summary["cost"]["frames"]
        say(f"per answer: {cost['mean']:.0f} tokens in, {out['mean']:.0f} out (p99 {out['p99']:g}), {frames['mean']:.1f} frames")


def progressing(items: Iterable[T], description: str, count: int | None) -> Iterator[T]:
    """Yield the same items and show their count on stderr, as `show_progress` does."""
    from act2see.execution.progress import counted

    with show_progress() as progress:
        yield from counted(items, progress, description, count)


@contextmanager
def show_progress(unit: str = "", *, transient: bool = False) -> "Iterator[ProgressCallback]":
    """Yield a callback that shows progress on stderr with rate and time left: a bar on a terminal, elsewhere an occasional line.

    Nothing is shown before the first call. `unit` follows each count (`" frames"`). `transient` removes a bar when its work is done.
    """
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_terminal:
        with _bars(console, unit, transient=transient) as progress:
            yield progress
        return
    lines: dict[str, Lines] = {}

    def update(done: int, total: int | None, what: str) -> None:
        if what not in lines:
            for earlier in lines.values():
                earlier.end()
            lines[what] = Lines(what, unit)
        if done:
            lines[what].update(done, total)

    yield update
    for one in lines.values():
        one.end()


@contextmanager
def _bars(console: "Console", unit: str, *, transient: bool) -> "Iterator[ProgressCallback]":
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[counts]}", markup=False))
    bars = Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, transient=transient)
    tasks: dict[str, TaskID] = {}

    def update(done: int, total: int | None, what: str) -> None:
        if what not in tasks:
            while transient and tasks:
                bars.remove_task(tasks.popitem()[1])
            tasks[what] = bars.add_task(one_line(what), total=total, counts="")
        bars.update(tasks[what], completed=done, total=total)
        speed = next((task.speed for task in bars.tasks if task.id == tasks[what]), None)
        counts = f"{done}{unit}" if total is None else f"{done}/{total}{unit}"
        bars.update(tasks[what], counts=(counts if done or total else "") + (f", {speed:.3g}/s" if speed else ""))
        bars.start()
        if transient and done == total:
            bars.stop()

    try:
        yield update
    finally:
        if bars.live.is_started:  # stopping one that never started prints an empty line
            bars.stop()


class Lines:
    """Progress in lines, for a log: none in the first ten seconds, then at growing intervals, and a final one if any was printed."""

    def __init__(self, what: str, unit: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        self._what, self._unit, self._clock = what, unit, clock
        self._started_at = self._printed_at = clock()
        self._last: tuple[int, int | None] | None = None
        self._is_printed = True

    def update(self, done: int, total: int | None) -> None:
        """Print the progress if a line is due."""
        self._last, self._is_printed = (done, total), False
        now = self._clock()
        if now - self._printed_at >= min(max(FIRST_LINE_SECONDS, (now - self._started_at) / 20), LONGEST_SILENCE_SECONDS):
            self._printed_at = now
            self._say()

    def end(self) -> None:
        """Print the final progress, unless it is printed already or nothing was."""
        if self._printed_at != self._started_at and not self._is_printed:
            self._say()

    def _say(self) -> None:
        assert self._last is not None
        done, total = self._last
        elapsed = self._clock() - self._started_at
        rate = done / elapsed if elapsed > 0 else 0.0
        speed = f", {rate:.3g}/s" if rate else ""
        of = f"{done}{self._unit}" if total is None else f"{done}/{total}{self._unit} ({done / max(1, total):.0%})"
        left = f", {clock_time((total - done) / rate)} left" if total is not None and rate and done < total else ""
        complain(f"{self._what}: {of} in {clock_time(elapsed)}{speed}{left}")
        self._is_printed = True


@contextmanager
def working(what: str) -> Iterator[None]:
    """Show a status line on a terminal while the block runs."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(Text(one_line(what))):
        yield


def clock_time(seconds: float) -> str:
    """Hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def note_omitted_frames(summary: Mapping[str, Any]) -> None:
    """Report the number of questions in a summary that do not use all initial frames."""
    if found := summary.get("frames_left_out"):
        complain(f"note: {found['questions']} questions use only some of their initial frames, evenly spaced; see --max-frames")
