"""Answers questions in worker threads: a bounded queue, a deadline for each request, and an orderly end."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeAlias

from act2see.core.errors import Act2SeeError, InternalError
from act2see.core.plaintext import one_line
from act2see.core.trace import Trace
from act2see.execution.faults import unexpected
from act2see.execution.pool import imap_unordered
from act2see.serving.refusals import RefusalError, StoppedError, is_hidden, too_late


@dataclass(frozen=True, slots=True)
class Answered:
    """The end of an answer: its trace, and what remains to be sent."""

    trace: Trace
    content: bytes


Event: TypeAlias = bytes | Answered | Act2SeeError
"""What happens in an answer, in order: pieces of a stream, then the end or an error."""
Tell: TypeAlias = Callable[[Event], None]
_FIRST_ESTIMATE_SECONDS = 5.0
"""Assumed duration of an answer before the first one has ended, for Retry-After. Our choice."""
_LONGEST_RETRY_SECONDS = 600
_log = logging.getLogger(__name__)
_current: "ContextVar[Job | None]" = ContextVar("current job", default=None)


@dataclass(slots=True, eq=False)
class Job:
    """A request that has a place: it is being read, waits, or is being answered."""

    deadline_seconds: float
    clock: Callable[[], float] = time.monotonic
    ask: Callable[[], Answered] | None = None
    tell: Tell = lambda event: None
    """Called in the worker's thread."""
    began: float = 0.0
    stopped: StoppedError | None = None
    is_running: bool = False
    is_over: bool = False

    def __post_init__(self) -> None:
        self.began = self.clock()

    @property
    def seconds_left(self) -> float:
        """Time until the deadline; not negative."""
        return max(0.0, self.began + self.deadline_seconds - self.clock())

    def check(self) -> None:
        """Raise `StoppedError` if the request was stopped or its time is over."""
        if self.stopped is None and not self.seconds_left:
            self.stopped = too_late(self.deadline_seconds)
        if self.stopped is not None:
            raise self.stopped


def check_current() -> None:
    """Raise `StoppedError` if the request that this thread answers is to end; nothing in other threads."""
    if (job := _current.get()) is not None:
        job.check()


class Answers:
    """Runs up to `workers` jobs at once while `queue` more may wait. All methods are thread-safe."""

    def __init__(self, workers: int, queue: int, deadline_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.workers, self.queue, self.deadline_seconds = workers, queue, deadline_seconds
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._jobs: set[Job] = set()
        self._is_draining = self._is_closed = False
        self._mean_seconds = _FIRST_ESTIMATE_SECONDS
        self._thread = threading.Thread(target=self._run, daemon=True, name="answers")
        self._thread.start()

    @property
    def is_draining(self) -> bool:
        """Whether new requests are refused because the server is about to end."""
        return self._is_draining

    @property
    def running(self) -> int:
        """Requests that are being answered."""
        with self._changed:
            return sum(job.is_running for job in self._jobs)

    @property
    def waiting(self) -> int:
        """Requests that are being read or wait for a worker."""
        with self._changed:
            return sum(not job.is_running for job in self._jobs)

    def reserve(self) -> Job:
        """A place for a new request, before its body is read. Raises `RefusalError`: 503 when draining, 429 when all places are taken."""
        with self._changed:
            if self._is_draining:
                raise RefusalError("the server is shutting down: ask another one", 503, "shutting_down", {"Retry-After": "10", "Connection": "close"})
            if len(self._jobs) >= self.workers + self.queue:
                seconds = round(self._mean_seconds * len(self._jobs) / self.workers / 2)
                wait = {"Retry-After": str(min(max(1, seconds), _LONGEST_RETRY_SECONDS))}
                raise RefusalError(f"{len(self._jobs)} questions are being answered or wait: try again later", 429, "queue_full", wait)
            job = Job(self.deadline_seconds, self._clock)
            self._jobs.add(job)
            return job

    def start(self, job: Job, ask: Callable[[], Answered], tell: Tell) -> None:
        """Queue a reserved job. `ask` runs in a worker's thread and calls `check_current` now and then; `tell` hears its end there."""
        job.ask, job.tell = ask, tell
        with self._changed:
            self._waiting.append(job)
            self._changed.notify_all()

    def stop(self, job: Job, reason: StoppedError) -> None:
        """Give a job up. One that waits frees its place at once, one that is running at its next token or frame; an ended one stays as it is."""
        with self._changed:
            if job.stopped is None:
                job.stopped = reason
            if not job.is_running:
                with suppress(ValueError):  # it was not started yet, or is on its way to a worker, who skips it
                    self._waiting.remove(job)
                self._end(job)

    def drain(self) -> None:
        """Refuse new requests from now on."""
        with self._changed:
            self._is_draining = True

    def stop_all(self) -> None:
        """Give all jobs up."""
        with self._changed:
            jobs = list(self._jobs)
        for job in jobs:
            self.stop(job, StoppedError("the server was ended before the answer", 503, "shutting_down"))

    @property
    def is_idle(self) -> bool:
        """Whether no request has a place."""
        with self._changed:
            return not self._jobs

    def close(self) -> None:
        """End the workers. Running answers are given up."""
        self.drain()
        self.stop_all()
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join(timeout=5.0)

    def _end(self, job: Job) -> None:
        """Free a job's place."""
        job.is_over, job.is_running = True, False
        self._jobs.discard(job)
        job.ask = None  # it holds the request's video
        self._changed.notify_all()

    # In the workers' threads.

    def _run(self) -> None:
        for _ in imap_unordered(self._next(), self._answer, self.workers):
            pass

    def _next(self) -> Iterator[Job]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_closed)
                if self._is_closed:
                    return
                job = self._waiting.popleft()
            yield job

    def _answer(self, job: Job) -> None:
        with self._changed:
            if job.is_over or job.ask is None:
                return
            job.is_running, ask = True, job.ask
        began = self._clock()
        token = _current.set(job)
        try:
            last: Event = self._asked(job, ask)
        finally:
            _current.reset(token)
            with self._changed:
                self._mean_seconds += 0.2 * (self._clock() - began - self._mean_seconds)
                self._end(job)
        job.tell(last)

    @staticmethod
    def _asked(job: Job, ask: Callable[[], Answered]) -> Event:
        try:
            with unexpected():
                job.check()
                return ask()
        except InternalError as error:
            _log.error("a request failed: %s", one_line(str(error)))
            _log.debug("%s", error.traceback)
            return error.with_traceback(None)
        except Act2SeeError as error:
            if is_hidden(error):
                _log.error("a request failed: %s", one_line(str(error)))
            return error.with_traceback(None)  # whose frames hold the request's video and the model's place
