"""Work on workers that may die: each has a few slots, one that died is replaced, and what it was doing is asked for again.

It knows no cluster: a worker is whatever `hire` gives, and it is dead where work on it raises one of `lost`.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from act2see.core.errors import BackendError

W = TypeVar("W")
R = TypeVar("R")

AGAIN = 3
"""So often a piece of work is asked for again whose worker died. Our choice."""
ALONE_FROM = 2
"""From the second time on it has a worker for itself: one that kills its workers takes no other with it more than twice. Our choice."""

_log = logging.getLogger(__name__)


class WorkersLostError(BackendError):
    """Work whose worker died each time that it was asked for."""


def dealt(questions: int, workers: int) -> tuple[int, ...]:
    """How many slots each worker has, so that together they have `questions`; never a worker without one."""
    workers = max(1, min(workers, questions))
    fewest, more = divmod(questions, workers)
    return tuple(fewest + (number < more) for number in range(workers))


@dataclass(slots=True)
class _Post(Generic[W]):
    """A worker's place, which stays when the worker is replaced."""

    worker: W
    slots: int
    taken: int = 0
    is_reserved: bool = False
    """Somebody has it alone, or waits until all others are done with it."""

    @property
    def is_open(self) -> bool:
        return not self.is_reserved and self.taken < self.slots


class WorkerPool(Generic[W]):
    """Workers with `slots` each. `do` may be called from any number of threads: no more than all slots together are at work."""

    def __init__(self, hire: Callable[[], W], dismiss: Callable[[W], None], slots: Sequence[int], lost: tuple[type[Exception], ...]) -> None:
        self._hire, self._dismiss, self._lost = hire, dismiss, lost
        self._posts = [_Post(hire(), count) for count in slots]
        self._changed = threading.Condition()

    @property
    def slots(self) -> int:
        """How many pieces of work can be under way at once."""
        return sum(post.slots for post in self._posts)

    def do(self, work: Callable[[W], R]) -> R:
        """What `work` makes of a worker, as soon as one has a free slot. Its errors come back, but for a worker's death.

        Raises `WorkersLostError` where it was asked for `AGAIN` more times and every worker died.
        """
        reason: Exception | None = None
        for asked in range(1 + AGAIN):
            with self._slot(alone=asked >= ALONE_FROM) as post:
                worker = post.worker
                try:
                    return work(worker)
                except self._lost as error:
                    reason = error
                    self._replace(post, worker)
        raise WorkersLostError(f"the worker died each of the {1 + AGAIN} times that one was asked, the last ones for this alone: {_said(reason)}")

    @contextmanager
    def _slot(self, *, alone: bool) -> Iterator[_Post[W]]:
        with self._changed:
            post = self._reserved() if alone else self._open()
            post.taken += 1
        try:
            yield post
        finally:
            with self._changed:
                post.taken -= 1
                post.is_reserved = post.is_reserved and not alone
                self._changed.notify_all()

    def _open(self) -> _Post[W]:
        """The emptiest post with a free slot, once there is one."""
        self._changed.wait_for(lambda: any(post.is_open for post in self._posts))
        return min((post for post in self._posts if post.is_open), key=lambda post: post.taken / post.slots)

    def _reserved(self) -> _Post[W]:
        """A post that nobody else has, once those who have it are done; nobody new gets it meanwhile."""
        self._changed.wait_for(lambda: not all(post.is_reserved for post in self._posts))
        post = min((post for post in self._posts if not post.is_reserved), key=lambda post: post.taken / post.slots)
        post.is_reserved = True
        self._changed.wait_for(lambda: not post.taken)
        return post

    def _replace(self, post: _Post[W], dead: W) -> None:
        """Put another in the place of one that died, unless somebody else who lost it has done so."""
        with self._changed:
            if post.worker is dead:
                self._dismiss(dead)
                post.worker = self._hire()
                _log.warning("a worker died: another has taken its place, and what it was doing is asked again")


def _said(error: Exception | None) -> str:
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__
