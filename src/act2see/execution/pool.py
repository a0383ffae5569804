"""Concurrency for calls that wait for a server: an unordered map over daemon threads, and a circuit breaker for a failing backend."""

import ctypes
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from queue import SimpleQueue
from types import TracebackType
from typing import Final, Generic, Literal, TypeVar

from act2see.core.errors import BackendError

T = TypeVar("T")
R = TypeVar("R")

PREFETCH_PER_WORKER = 2
"""Items to prefetch per worker: enough to keep it busy, few enough to bound the memory."""
SHUTDOWN_SECONDS = 2.0
"""How long running calls may take to finish, such as a write, after an error or an interrupt. Our choice."""
_M_ARENA_MAX, _ARENAS = -8, 2
LEAST_FAILURES = 3
LONGEST_PAUSE_SECONDS = 16.0


def imap_unordered(items: Iterable[T], function: Callable[[T], R], workers: int) -> Iterator[R]:
    """Yield `function(item)` for every item as results complete: in order in the caller's thread with one worker, else in any order in threads.

    The caller's thread reads `items`. The first error stops all workers and is raised here. Closing the iterator stops them too.
    """
    if workers <= 1:
        yield from map(function, items)
        return
    _limit_arenas()
    pool = _DaemonPool(function, workers)
    source, pending, is_exhausted = iter(items), 0, False
    try:
        while True:
            while not is_exhausted and pending < PREFETCH_PER_WORKER * workers:
                for item in source:
                    pool.todo.put(item)
                    pending += 1
                    break
                else:
                    is_exhausted = True
            if not pending:
                return
            outcome = pool.done.get()
            pending -= 1
            if outcome.error is not None:
                raise outcome.error
            yield from outcome.results
    finally:
        pool.shut_down()


def _limit_arenas() -> None:
    """Share glibc's malloc arenas among threads: one per thread keeps freed memory, which adds up over 10,000 videos. No effect elsewhere."""
    try:
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)
    except AttributeError:  # another C library
        return


class _Outcome(Generic[R]):
    """Carries the result of one call, or its exception, from a worker to the caller's thread. A context manager that captures the exception."""

    def __init__(self) -> None:
        self.results: list[R] = []
        self.error: BaseException | None = None

    def __enter__(self) -> "_Outcome[R]":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        self.error = error
        return error is not None


class _Sentinel(Enum):
    STOP = "stop"


_STOP: Final = _Sentinel.STOP
"""Tells a worker to exit."""


class _DaemonPool(Generic[T, R]):
    """Daemon threads: the interpreter must not wait for one that is blocked on a server.

    `concurrent.futures` joins its threads at exit: docs/architecture.md has the measurement.
    """

    def __init__(self, function: Callable[[T], R], workers: int) -> None:
        self.todo: SimpleQueue[T | Literal[_Sentinel.STOP]] = SimpleQueue()
        self.done: SimpleQueue[_Outcome[R]] = SimpleQueue()
        self._is_shut_down = False
        self._threads = [threading.Thread(target=self._serve, args=(function,), daemon=True, name=f"worker {number}") for number in range(workers)]
        for thread in self._threads:
            thread.start()

    def shut_down(self) -> None:
        """Start no further call, and wait up to `SHUTDOWN_SECONDS` for the running ones."""
        self._is_shut_down = True
        for _ in self._threads:
            self.todo.put(_STOP)
        until = time.monotonic() + SHUTDOWN_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _serve(self, function: Callable[[T], R]) -> None:
        while (item := self.todo.get()) is not _STOP and not self._is_shut_down:
            with _Outcome[R]() as outcome:
                outcome.results.append(function(item))
            self.done.put(outcome)


@dataclass(slots=True)
class CircuitBreaker:
    """Retries a failing backend with exponential backoff, and aborts the run once it has failed for too long.

    While the backend fails, one call at a time probes it, after pauses that grow from 1 to 16 s. All other calls wait until a probe succeeds, so an
    outage of half a minute costs only the questions in flight and the probes.
    """

    seconds: float
    """Abort once every call has failed for this long, and at least `LEAST_FAILURES` in a row. Our choice: 120 s for `act2see eval`."""
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    _failures: int = 0
    _since: float = 0.0
    _pause: float = 1.0
    _probing: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _counting: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def ask(self, call: Callable[[], R], problem_of: Callable[[R], str | None]) -> R:
        """Run `call` and count what `problem_of` reports of its result: the backend's problem, "" for none, None if the result tells nothing.

        Raises `BackendError` when the run is to be aborted.
        """
        with self._probing:  # held by the probe: all other calls wait here
            if self._failures:
                self.sleep(self._next_pause())
                return self._counted(call(), problem_of)
        return self._counted(call(), problem_of)

    def _next_pause(self) -> float:
        left = self.seconds - (self.clock() - self._since)
        pause, self._pause = self._pause, min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        return max(0.0, min(pause, left))

    def _counted(self, result: R, problem_of: Callable[[R], str | None]) -> R:
        problem = problem_of(result)
        if problem is None:
            return result
        with self._counting:
            if not problem:
                self._failures, self._pause = 0, 1.0
                return result
            if not self._failures:
                self._since = self.clock()
            self._failures += 1
            if self._failures >= LEAST_FAILURES and self.clock() - self._since >= self.seconds:
                raise BackendError(f"stopped: the backend failed on {self._failures} questions in a row; {problem}")
        return result
