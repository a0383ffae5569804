"""Unexpected exceptions, that is, bugs of act2see or of a plug-in: converted to `InternalError` here only.

Code that processes one item of many (a question, a video, a row) runs under `unexpected()` and records the error as that item's outcome, so that
the other items continue. Tracebacks are written to errors.jsonl in the run folder.
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
"""PyO3's `pyo3_runtime.PanicException`. Each library has its own class, so only the name can be compared."""
_MESSAGE_CHARACTERS = 300
_TRACEBACK_CHARACTERS = 20_000
"""Half from the start and half from the end: an infinite recursion has a long one."""


@contextmanager
def unexpected(*passing: type[Exception]) -> Iterator[None]:
    """Convert any exception except `Act2SeeError` and `passing` to an `InternalError`. Context manager and decorator.

    KeyboardInterrupt and SystemExit pass, because they end the program. A panic of a Rust library (tokenizers, safetensors) is no `Exception`
    either, but is converted.
    """
    known: tuple[type[Exception], ...] = (Act2SeeError, *passing)
    try:
        yield
    except known:
        raise
    except BaseException as error:  # the only broad handler: it reports what it catches with its location, and swallows nothing
        if not isinstance(error, Exception) and type(error).__name__ != _PANIC:
            raise
        raise _internal(error) from error


def _internal(error: BaseException) -> InternalError:
    """The error with its location, as module:line: the innermost frame of act2see, and the raising frame if it differs."""
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
    """The log of internal errors of a run. Safe to use from several threads and processes."""

    folder: Path | None = None
    """The run folder that tracebacks are written to; None to write none."""
    fail_fast: bool = False
    """End the run at the first internal error, for developers."""

    def note(self, item: str, error: str | None, traceback_text: str | None) -> None:
        """Write an item's traceback, if there is one. Raises `StoppedByFaultError` with `fail_fast`, `StoreError` for a full disk."""
        if traceback_text is None:
            return
        if self.folder is not None:
            line = json.dumps({"id": item, "error": error, "traceback": traceback_text}) + "\n"
            how = os.O_RDWR | os.O_APPEND | os.O_CREAT
            with writing(self.folder), opened(self.folder, ERRORS_FILE, max_bytes=MAX_LINES_BYTES, flags=how) as file:
                file.write(line.encode())  # one unbuffered write: lines of several processes do not interleave
        if self.fail_fast:
            raise StoppedByFaultError(error or "internal error", traceback_text)
