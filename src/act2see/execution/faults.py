"""Unexpected exceptions: faults of act2see or of a plug-in, turned into one `InternalError` here and nowhere else.

Whatever handles one item of many (a question, a video, a row) runs it under `unexpected()` and makes the error that item's outcome, so that no
exception ends the others. Tracebacks are kept in errors.jsonl in the run folder.
"""

import json
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from act2see.core.errors import Act2SeeError, InternalError, StoppedByFaultError
from act2see.core.plaintext import one_line
from act2see.storage.atomic import MAX_LINES_BYTES, opened, writing

ERRORS_FILE = "errors.jsonl"
_PANIC = "PanicException"
"""PyO3's (`pyo3_runtime.PanicException`), a class of its own in each library: it can be told by its name alone."""
_MESSAGE_CHARACTERS = 300
_TRACEBACK_CHARACTERS = 20_000
"""From its beginning and its end, half each: an endless recursion's is long."""


@contextmanager
def unexpected(*passing: type[Exception]) -> Iterator[None]:
    """Raise any exception that is neither ours nor one of `passing` as an `InternalError`. Also a decorator.

    What is no `Exception` says that all should end, and passes: KeyboardInterrupt, SystemExit. A panic in a library written in Rust (tokenizers,
    safetensors) is none either, and is a fault like any other.
    """
    known: tuple[type[Exception], ...] = (Act2SeeError, *passing)
    try:
        yield
    except known:
        raise
    except BaseException as error:  # the one broad handler: what it catches is told with its place, never swallowed
        if not isinstance(error, Exception) and type(error).__name__ != _PANIC:
            raise
        raise _internal(error) from error


def _internal(error: BaseException) -> InternalError:
    """Where it happened, as module:line: the innermost frame of act2see, and the one that raised it where that is another."""
    frames = [f"{frame.f_globals.get('__name__', '?')}:{line}" for frame, line in traceback.walk_tb(error.__traceback__)]
    own = [place for place in frames if place.startswith("act2see.") and not place.startswith(f"{__name__}:")]
    told = traceback.TracebackException.from_exception(error, compact=True)  # its text is safe even where the exception's own __str__ fails
    place = f" at {own[-1]}" if own else ""
    place += f", raised at {frames[-1]}" if frames and frames[-1:] != own[-1:] else ""
    message = one_line(str(told)).strip()
    said = f": {message[:_MESSAGE_CHARACTERS]}{'…' if len(message) > _MESSAGE_CHARACTERS else ''}" if message else ""
    return InternalError(f"internal error: {type(error).__name__}{place}{said}", _cut("".join(told.format())))


def _cut(text: str) -> str:
    half = _TRACEBACK_CHARACTERS // 2
    return text if len(text) <= _TRACEBACK_CHARACTERS else f"{text[:half]}\n  …\n{text[-half:]}"


@dataclass(frozen=True, slots=True)
class Faults:
    """What becomes of internal errors in a run. May be called from several threads and processes."""

    folder: Path | None = None
    """The run folder that keeps their tracebacks."""
    fail_fast: bool = False
    """For developers: the first one ends the run."""

    def note(self, item: str, error: str | None, found: str | None) -> None:
        """Keep the traceback `found` of an item, if any. Raises `StoppedByFaultError` with `fail_fast`, `StoreError` for a full disk."""
        if found is None:
            return
        if self.folder is not None:
            line = json.dumps({"id": item, "error": error, "traceback": found}) + "\n"
            how = os.O_RDWR | os.O_APPEND | os.O_CREAT
            with writing(self.folder), opened(self.folder, ERRORS_FILE, max_bytes=MAX_LINES_BYTES, flags=how) as file:
                file.write(line.encode())  # one call, without a buffer: lines of several processes do not mix
        if self.fail_fast:
            raise StoppedByFaultError(error or "internal error", found)
