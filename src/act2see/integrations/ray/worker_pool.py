"""A supervised worker pool: a worker that dies is replaced, and its calls are retried on another one.

Independent of any cluster: `start` creates a worker, and a call that raises one of `lost` means that its worker died.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from act2see.core.errors import Act2SeeError, BackendError

W = TypeVar("W")
R = TypeVar("R")

MAX_RETRIES = 3
"""How often a call is retried after its worker died. Our choice."""
EXCLUSIVE_FROM = 2
"""From this retry on the call has a worker to itself, so that one that kills its workers affects others at most twice. Our choice."""

_log = logging.getLogger(__name__)


class WorkersLostError(BackendError):
    """A call whose worker died at every attempt."""


def slots_per_worker(questions: int, workers: int) -> tuple[int, ...]:
    """Distribute `questions` concurrent calls evenly over the workers. No worker has 0 slots; surplus workers are dropped."""
    workers = max(1, min(workers, questions))
    fewest, more = divmod(questions, workers)
    return tuple(fewest + (number < more) for number in range(workers))


@dataclass(slots=True)
class _Supervised(Generic[W]):
    """A worker with its load. Stays the same object when the worker is replaced."""

    worker: W
    slots: int
    taken: int = 0
    is_reserved: bool = False
    """An exclusive call has it, or waits until the other calls finish."""
    is_loading: bool = False
    """It was started in a dead one's place, and loads its models: calls go to the others meanwhile."""

    @property
    def is_open(self) -> bool:
        return not self.is_reserved and not self.is_loading and self.taken < self.slots


class WorkerPool(Generic[W]):
    """Workers with `slots` concurrent calls one. `do` is thread-safe and blocks until a slot is free.

    `load` blocks until a worker is ready. It is called, in a thread of its own, for each that replaces a dead one; while other workers live, calls go
    to them until it returns.
    """

    def __init__(
        self,
        start: Callable[[], W],
        stop: Callable[[W], None],
        slots: Sequence[int],
        lost: tuple[type[Exception], ...],
        load: Callable[[W], object] | None = None,
    ) -> None:
        self._start, self._stop, self._lost, self._load = start, stop, lost, load
        self._workers = [_Supervised(start(), count) for count in slots]
        self._changed = threading.Condition()

    @property
    def slots(self) -> int:
        """How many calls can run at once."""
        return sum(one.slots for one in self._workers)

    def do(self, call: Callable[[W], R]) -> R:
        """Run `call` on the least loaded worker as soon as one has a free slot. Errors of the call propagate, except for a worker's death.

        Raises `WorkersLostError` if the worker died at every one of `1 + MAX_RETRIES` attempts.
        """
        reason: Exception | None = None
        for attempt in range(1 + MAX_RETRIES):
            with self._slot(exclusive=attempt >= EXCLUSIVE_FROM) as supervised:
                worker = supervised.worker
                try:
                    return call(worker)
                except self._lost as error:
                    reason = error
                    self._replace(supervised, worker)
        raise WorkersLostError(f"the worker died at each of {1 + MAX_RETRIES} attempts, the last ones without other calls: {_first_line(reason)}")

    @contextmanager
    def _slot(self, *, exclusive: bool) -> Iterator[_Supervised[W]]:
        with self._changed:
            supervised = self._reserved() if exclusive else self._open()
            supervised.taken += 1
        try:
            yield supervised
        finally:
            with self._changed:
                supervised.taken -= 1
                supervised.is_reserved = supervised.is_reserved and not exclusive
                self._changed.notify_all()

    def _open(self) -> _Supervised[W]:
        """Wait for a free slot; returns the least loaded worker that has one."""
        self._changed.wait_for(lambda: any(one.is_open for one in self._workers))
        return min((one for one in self._workers if one.is_open), key=lambda one: one.taken / one.slots)

    def _reserved(self) -> _Supervised[W]:
        """Reserve a worker: it gets no new calls, and is returned once its running ones have finished."""
        self._changed.wait_for(lambda: not all(one.is_reserved for one in self._workers))
        supervised = min((one for one in self._workers if not one.is_reserved), key=lambda one: one.taken / one.slots)
        supervised.is_reserved = True
        self._changed.wait_for(lambda: not supervised.taken)
        return supervised

    def _replace(self, supervised: _Supervised[W], dead: W) -> None:
        """Start a new worker in the place of a dead one, unless another call has done so."""
        with self._changed:
            if supervised.worker is dead:
                self._stop(dead)
                supervised.worker = self._start()
                _log.warning("a worker died and was replaced; its calls are retried")
                if self._load is not None and any(not one.is_loading for one in self._workers if one is not supervised):
                    supervised.is_loading = True
                    threading.Thread(target=self._wait_for, args=(supervised, self._load), daemon=True, name="loading").start()

    def _wait_for(self, supervised: _Supervised[W], load: Callable[[W], object]) -> None:
        told: tuple[type[Exception], ...] = (Act2SeeError, *self._lost)
        try:
            load(supervised.worker)
        except told as error:  # the next call that it is given meets the same, and tells
            _log.debug("a worker that replaced a dead one did not load: %s", error)
        except SystemExit:  # what Ray raises in a thread that waits while the cluster is shut down
            _log.debug("the run ended while a worker was loading")
        finally:
            with self._changed:
                supervised.is_loading = False
                self._changed.notify_all()


def _first_line(error: Exception | None) -> str:
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__
