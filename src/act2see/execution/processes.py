"""Parallel processes for work that keeps a CPU busy, such as encoding videos. One that dies costs its item only."""

import logging
import multiprocessing
import os
import signal
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, Literal, TypeVar

from act2see.core.errors import Act2SeeError, ProcessEndedError
from act2see.execution.faults import unexpected

T = TypeVar("T")
R = TypeVar("R")

Report = Callable[[object], None]
"""Sends a message from a worker to the caller, such as progress."""

_TERMINATED_SECONDS = 5.0
_GONE = (EOFError, BrokenPipeError, ConnectionResetError)
"""What a pipe raises whose other end has exited."""


@dataclass(frozen=True, slots=True)
class _Sent:
    """What a worker sends: a result or an error, a message of the function, or a warning that it logged."""

    kind: Literal["outcome", "message", "warning"]
    value: Any


@dataclass(slots=True)
class _Worker(Generic[T]):
    process: BaseProcess
    item: T


def imap_processes(
    items: Iterable[T], function: Callable[[T, Report], R], workers: int, on_message: Callable[[T, Any], None] = lambda item, message: None
) -> Generator[tuple[T, R | Act2SeeError], None, None]:
    """Yield each item with `function(item, report)` or the error that it raised, as results complete, from as many new processes.

    Everything that is passed must be picklable; each process has its own copy of `function`, which may keep what it loads. `on_message` receives
    what the function reports. Warnings of the processes are logged here. An item whose process is killed yields `ProcessEndedError`. An
    interrupt ends the processes.
    """
    source, running = iter(items), dict[Connection, _Worker[T]]()
    threads = max(1, (os.cpu_count() or 1) // workers)

    def start() -> None:
        for item in source:
            here, there = _context.Pipe()
            process = _context.Process(target=_serve, args=(function, there, threads), daemon=True)
            process.start()
            there.close()
            running[here] = _Worker(process, item)
            with suppress(*_GONE):  # it has died already: the next receipt says so
                here.send(item)
            return

    try:
        for _ in range(workers):
            start()
        while running:
            for pipe in wait(list(running)):
                assert isinstance(pipe, Connection)
                worker = running[pipe]
                item, sent = worker.item, _received(pipe)
                if sent is None:
                    del running[pipe]
                    worker.process.join()
                    start()
                    yield item, _ended(worker.process)
                elif sent.kind == "message":
                    on_message(item, sent.value)
                elif sent.kind == "warning":
                    logging.getLogger("act2see").warning("%s", sent.value)
                else:
                    _give_next(pipe, running, source)
                    yield item, sent.value
    finally:
        _end(running)


_context = multiprocessing.get_context("spawn")  # a fork would copy locks of other threads as they happen to be


def _received(pipe: Connection) -> _Sent | None:
    try:
        sent: _Sent = pipe.recv()
    except _GONE:
        return None
    return sent


def _give_next(pipe: Connection, running: dict[Connection, _Worker[T]], source: Iterator[T]) -> None:
    for item in source:
        running[pipe].item = item
        with suppress(*_GONE):
            pipe.send(item)
        return
    pipe.close()  # ends the process
    running.pop(pipe).process.join()


def _ended(process: BaseProcess) -> ProcessEndedError:
    code = process.exitcode or 0
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    return ProcessEndedError(f"its process {how}, perhaps for lack of memory: try fewer --workers")


def _end(running: dict[Connection, _Worker[T]]) -> None:
    for worker in running.values():
        worker.process.terminate()
    for pipe, worker in running.items():
        worker.process.join(_TERMINATED_SECONDS)
        if worker.process.exitcode is None:
            worker.process.kill()
        pipe.close()


def _serve(function: Callable[[T, Report], R], pipe: Connection, threads: int) -> None:
    """A worker: items in, outcomes out, until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to all; the caller then ends this process
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # read when torch is loaded: the workers share the cores
    log = logging.getLogger("act2see")
    log.addHandler(_Forward(pipe))
    log.propagate = False
    try:
        while True:
            item = pipe.recv()
            outcome: R | Act2SeeError
            try:
                with unexpected(*_GONE):
                    outcome = function(item, lambda message: pipe.send(_Sent("message", message)))
            except Act2SeeError as error:
                outcome = error
            pipe.send(_Sent("outcome", outcome))
    except _GONE:
        return


class _Forward(logging.Handler):
    def __init__(self, pipe: Connection) -> None:
        super().__init__(logging.WARNING)
        self._pipe = pipe

    def emit(self, record: logging.LogRecord) -> None:
        self._pipe.send(_Sent("warning", record.getMessage()))
