"""Many questions at once, in threads: for work that waits on a server. And what to do when the server stops answering."""

import ctypes
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from queue import SimpleQueue
from types import TracebackType
from typing import Generic, TypeVar

from act2see.core.errors import BackendError

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 2
"""So many items for each worker are taken from the source, so that none waits for the next; no more, so that memory does not grow."""
LONGEST_GOODBYE_SECONDS = 2.0
"""When the work is broken off, those who are in the middle of something, such as writing, get so long to end it."""
_M_ARENA_MAX, _ARENAS = -8, 2
LEAST_FAILURES = 3
LONGEST_PAUSE_SECONDS = 16.0


def imap_unordered(items: Iterable[T], work: Callable[[T], R], workers: int) -> Iterator[R]:
    """What `work` makes of every item, as each is done: in order with one worker, which is the caller's own thread, in any order with more.

    The source is read in the caller's thread. The first error ends everything and is raised here; so does the caller who stops listening.
    """
    if workers <= 1:
        yield from map(work, items)
        return
    _share_memory()
    crew = _Crew(work, workers)
    source, waited_for, is_over = iter(items), 0, False
    try:
        while True:
            while not is_over and waited_for < AHEAD * workers:
                for item in source:
                    crew.todo.put(item)
                    waited_for += 1
                    break
                else:
                    is_over = True
            if not waited_for:
                return
            ended = crew.done.get()
            waited_for -= 1
            if ended.error is not None:
                raise ended.error
            yield from ended.results
    finally:
        crew.dismiss()


def _share_memory() -> None:
    """Keep glibc from giving every thread memory of its own, which it keeps when it is freed: over 10,000 videos that adds up. Elsewhere nothing."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _ARENAS)


class _Ended(Generic[R]):
    """Takes the result of one piece of work, or the error that ended it, from one thread into another."""

    def __init__(self) -> None:
        self.results: list[R] = []
        self.error: BaseException | None = None

    def __enter__(self) -> "_Ended[R]":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        self.error = error
        return error is not None


class _Home:
    """What ends a worker's day."""


class _Crew(Generic[T, R]):
    """The threads. They are daemons: one that waits five minutes for a server must not keep an interrupted program alive."""

    def __init__(self, work: Callable[[T], R], workers: int) -> None:
        self.todo: SimpleQueue[T | _Home] = SimpleQueue()
        self.done: SimpleQueue[_Ended[R]] = SimpleQueue()
        self._is_dismissed = False
        self._threads = [threading.Thread(target=self._serve, args=(work,), daemon=True, name=f"worker {number}") for number in range(workers)]
        for thread in self._threads:
            thread.start()

    def dismiss(self) -> None:
        """Nothing new is begun; what has been begun gets a moment to end."""
        self._is_dismissed = True
        for _ in self._threads:
            self.todo.put(_Home())
        until = time.monotonic() + LONGEST_GOODBYE_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _serve(self, work: Callable[[T], R]) -> None:
        while not isinstance(item := self.todo.get(), _Home) and not self._is_dismissed:
            with _Ended[R]() as ended:
                ended.results.append(work(item))
            self.done.put(ended)


@dataclass(slots=True)
class CircuitBreaker:
    """Waits for a backend that fails, and gives it up after a while.

    While it fails, one question at a time is tried, after pauses that grow from one second to sixteen: a server that is gone for half a minute costs
    the few questions that were under way and those that were tried, and all others are asked when it is back.
    """

    seconds: float
    """So long, and for at least three questions in a row, everything may fail before all is given up. Our choice: 120 s for `act2see eval`."""
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    _failures: int = 0
    _since: float = 0.0
    _pause: float = 1.0
    _gate: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _counting: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def ask(self, work: Callable[[], R], problem: Callable[[R], str | None]) -> R:
        """Do the work, and note what `problem` says of its result: what is wrong with the backend, "" if nothing is, None if nobody can tell.

        Raises `BackendError` once the patience is at its end.
        """
        with self._gate:  # whoever tries whether the backend is back keeps all others waiting here
            if self._failures:
                self.sleep(self._next_pause())
                return self._noted(work(), problem)
        return self._noted(work(), problem)

    def _next_pause(self) -> float:
        left = self.seconds - (self.clock() - self._since)
        pause, self._pause = self._pause, min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        return max(0.0, min(pause, left))

    def _noted(self, result: R, problem: Callable[[R], str | None]) -> R:
        said = problem(result)
        if said is None:
            return result
        with self._counting:
            if not said:
                self._failures, self._pause = 0, 1.0
                return result
            if not self._failures:
                self._since = self.clock()
            self._failures += 1
            if self._failures >= LEAST_FAILURES and self.clock() - self._since >= self.seconds:
                raise BackendError(f"stopped: the backend failed on {self._failures} questions in a row; {said}")
        return result
