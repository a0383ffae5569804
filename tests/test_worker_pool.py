"""A pool whose workers die: every call returns once, a dead worker is replaced once, and a call that kills workers ends without failing others."""

import threading
from collections import Counter
from collections.abc import Callable
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from act2see.core.errors import ConfigError
from act2see.execution.pool import imap_unordered
from act2see.integrations.ray.worker_pool import EXCLUSIVE_FROM, MAX_RETRIES, WorkerPool, WorkersLostError, slots_per_worker


class Died(Exception):
    """Raised by calls on a dead worker."""


class Worker:
    """Counts its running calls. Once it is dead, all of them and all later ones fail."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.is_dead = False
        self.present = self.most = 0
        self._lock = threading.Lock()

    def do(self, item: int, work: Callable[["Worker", int], int]) -> int:
        with self._lock:
            self.present += 1
            self.most = max(self.most, self.present)
        try:
            made = work(self, item)
            if self.is_dead:
                raise Died(f"worker {self.number}")
            return made
        finally:
            with self._lock:
                self.present -= 1


class Started:
    """Starts and stops workers, and records both."""

    def __init__(self, *slots: int) -> None:
        self.workers: list[Worker] = []
        self.stopped: list[Worker] = []
        numbers = count()

        def start() -> Worker:
            self.workers.append(Worker(next(numbers)))
            return self.workers[-1]

        self.pool = WorkerPool(start, self.stopped.append, slots, (Died,))

    def all_of(self, items: range, work: Callable[[Worker, int], int], threads: int) -> list[int]:
        return sorted(imap_unordered(items, lambda item: self.pool.do(lambda worker: worker.do(item, work)), threads))


@given(st.integers(1, 200), st.integers(1, 50))
def test_slots_are_dealt_evenly_and_none_is_lost(questions: int, workers: int) -> None:
    slots = slots_per_worker(questions, workers)
    assert sum(slots) == questions
    assert len(slots) == min(workers, questions)
    assert max(slots) - min(slots) <= 1
    assert min(slots) >= 1


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.sets(st.integers(0, 39), max_size=8), st.integers(2, 12))
def test_whatever_dies_everything_is_done_and_each_dead_worker_is_replaced_once(slots: list[int], deadly: set[int], threads: int) -> None:
    started, left, lock = Started(*slots), set(deadly), threading.Lock()

    def work(worker: Worker, item: int) -> int:
        with lock:
            if item in left:
                left.remove(item)
                worker.is_dead = True
        return 2 * item

    assert started.all_of(range(40), work, threads) == [2 * item for item in range(40)]
    assert not left
    assert Counter(worker.number for worker in started.stopped) == Counter(worker.number for worker in started.workers if worker.is_dead)
    assert len(started.workers) == len(slots) + len(started.stopped)


def test_no_worker_has_more_than_its_slots_and_all_slots_are_used() -> None:
    started, meeting = Started(3, 2), threading.Barrier(5, timeout=60)  # five must be there at once, or nobody goes on

    def work(worker: Worker, item: int) -> int:
        meeting.wait()
        return item

    assert started.all_of(range(20), work, 10) == list(range(20))
    assert [worker.most for worker in started.workers] == [3, 2]
    assert started.pool.slots == 5


def test_work_that_always_kills_ends_alone_and_everything_else_is_done() -> None:
    started, asked = Started(4), Counter[int]()
    together: list[int] = []
    meeting = threading.Barrier(4, timeout=60)

    def work(worker: Worker, item: int) -> int:
        asked[item] += 1
        if worker.number < EXCLUSIVE_FROM:  # the first deaths take all four with them
            meeting.wait()
        if item == 0:
            together.append(worker.present)
            worker.is_dead = True
        if worker.number < EXCLUSIVE_FROM:
            meeting.wait()
        return item

    ended: list[int | str] = []

    def one(item: int) -> None:
        try:
            ended.append(started.pool.do(lambda worker: worker.do(item, work)))
        except WorkersLostError as error:
            ended.append(str(error))

    list(imap_unordered(range(4), one, 4))
    assert sorted(one for one in ended if isinstance(one, int)) == [1, 2, 3]
    (said,) = [one for one in ended if isinstance(one, str)]
    assert "died at each of 4 attempts" in said
    assert "worker 3" in said
    assert "\n" not in said
    assert asked == {0: 1 + MAX_RETRIES, 1: 1 + EXCLUSIVE_FROM, 2: 1 + EXCLUSIVE_FROM, 3: 1 + EXCLUSIVE_FROM}
    assert together == [4, 4, 1, 1]


def test_an_error_that_is_no_death_is_the_callers_and_replaces_nobody() -> None:
    started = Started(1)

    def refuse(worker: Worker, item: int) -> int:
        raise ConfigError("no such model")

    with pytest.raises(ConfigError, match="no such model"):
        started.all_of(range(1), refuse, 1)
    assert started.stopped == []
    assert started.all_of(range(3), lambda worker, item: item, 1) == [0, 1, 2], "the slot is free again"


def test_an_error_while_a_worker_is_started_is_raised() -> None:
    workers = [Worker(0)]

    def start() -> Worker:
        if not workers:
            raise ConfigError("nobody is left")
        return workers.pop()

    def die(worker: Worker) -> int:
        raise Died

    pool = WorkerPool(start, lambda worker: None, (1,), (Died,))
    with pytest.raises(ConfigError, match="nobody is left"):
        pool.do(die)


def test_while_a_dead_workers_replacement_loads_the_others_take_its_calls() -> None:
    loading, loaded = threading.Event(), threading.Event()
    numbers, stopped = count(), list[int]()

    def load(worker: int) -> None:
        loading.set()
        assert loaded.wait(60)

    pool = WorkerPool(lambda: next(numbers), stopped.append, (1, 1), (Died,), load)
    deaths = iter([True])

    def work(worker: int) -> int:
        if worker == 0 and next(deaths, False):
            raise Died
        return worker

    assert pool.do(work) == 1
    assert loading.wait(60)
    assert [pool.do(work) for _ in range(4)] == [1, 1, 1, 1]
    assert stopped == [0]
    loaded.set()
    meeting = threading.Barrier(2, timeout=60)

    def meet(worker: int) -> int:
        meeting.wait()
        return worker

    assert sorted(imap_unordered(range(2), lambda item: pool.do(meet), 2)) == [1, 2]


@pytest.mark.parametrize("error", [ConfigError("no such model"), SystemExit(0)], ids=["an error", "a cluster that is shut down"])
def test_a_replacement_that_does_not_load_is_asked_nonetheless_and_tells_why(error: BaseException) -> None:
    is_over = threading.Event()

    def load(worker: int) -> None:
        is_over.wait(60)
        raise error

    def work(worker: int) -> int:
        if worker == 0:
            raise Died
        if worker > 1:
            raise ConfigError("no such model")
        return worker

    numbers = count()
    pool = WorkerPool(lambda: next(numbers), lambda worker: None, (1, 1), (Died,), load)
    assert pool.do(work) == 1
    is_over.set()
    meeting = threading.Barrier(2, timeout=60)

    def both(worker: int) -> int:
        meeting.wait()
        return work(worker)

    with pytest.raises(ConfigError, match="no such model"):
        list(imap_unordered(range(2), lambda item: pool.do(both), 2))
