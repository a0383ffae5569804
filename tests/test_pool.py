"""Work in threads: everything is done once, errors come back to the caller, and a backend that is away for a while is waited for."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from act2see.core.errors import BackendError, StoreError
from act2see.execution.pool import LEAST_FAILURES, PREFETCH_PER_WORKER, CircuitBreaker, imap_unordered


@settings(max_examples=30)
@given(st.lists(st.integers(), max_size=40), st.integers(1, 8))
def test_every_item_is_done_once(items: list[int], workers: int) -> None:
    assert sorted(imap_unordered(items, lambda item: 2 * item, workers)) == sorted(2 * item for item in items)


def test_one_worker_is_the_callers_thread_and_keeps_the_order() -> None:
    threads = list(imap_unordered(range(5), lambda item: (item, threading.current_thread()), 1))
    assert threads == [(item, threading.main_thread()) for item in range(5)]


def test_workers_work_at_the_same_time() -> None:
    meeting = threading.Barrier(4, timeout=60)  # nobody gets past it alone
    assert len(list(imap_unordered(range(8), lambda item: meeting.wait(), 4))) == 8


def test_items_are_taken_only_as_they_are_needed() -> None:
    """Ten thousand questions must not stand in memory at once."""
    taken: list[int] = []

    def source() -> Iterator[int]:
        for item in range(1000):
            taken.append(item)
            yield item

    done = 0
    for _ in imap_unordered(source(), lambda item: item, 3):
        done += 1
        assert len(taken) - done <= PREFETCH_PER_WORKER * 3
    assert done == 1000


@pytest.mark.parametrize("workers", [1, 4])
def test_an_error_ends_it_and_is_the_callers(workers: int) -> None:
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        if item == 5:
            raise StoreError("the disk is full")
        return item

    with pytest.raises(StoreError, match="the disk is full"):
        list(imap_unordered(range(10_000), work, workers))
    assert len(begun) < 100


def test_an_error_of_the_source_is_the_callers_too() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise StoreError("line 2 is no JSON")

    with pytest.raises(StoreError, match="line 2"):
        list(imap_unordered(source(), lambda item: item, 4))


def test_who_stops_listening_stops_the_work() -> None:
    begun: list[int] = []
    results = imap_unordered(range(10_000), begun.append, 4)
    next(results)
    results.close()  # type: ignore[attr-defined]  # it is a generator
    before = len(begun)
    assert before <= 4 * PREFETCH_PER_WORKER + 4
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("worker")]
    assert len(begun) == before


# A backend that is away


@dataclass
class Clock:
    """Time that passes only while somebody sleeps, or works."""

    now: float = 100.0
    slept: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def asking(clock: Clock, breaker: CircuitBreaker, is_down: Callable[[float], bool]) -> str:
    def work() -> str:
        clock.now += 0.1
        return "backend_error" if is_down(clock.now) else "correct"

    return breaker.ask(work, lambda outcome: "it is away" if outcome == "backend_error" else "")


def test_an_outage_of_half_a_minute_costs_a_few_questions() -> None:
    clock = Clock()
    breaker = CircuitBreaker(120.0, clock.sleep, lambda: clock.now)
    outcomes = [asking(clock, breaker, lambda now: 110 < now < 140) for _ in range(1000)]
    assert 3 <= outcomes.count("backend_error") <= 6
    assert outcomes[-800:] == ["correct"] * 800
    assert clock.slept == [1.0, 2.0, 4.0, 8.0, 16.0]


def test_a_backend_that_stays_away_is_given_up() -> None:
    clock = Clock()
    breaker = CircuitBreaker(120.0, clock.sleep, lambda: clock.now)
    with pytest.raises(BackendError, match=r"stopped: the backend failed on \d+ questions in a row; it is away"):
        [asking(clock, breaker, lambda now: True) for _ in range(1000)]
    assert 120 <= clock.now - 100 <= 130


def test_without_patience_three_in_a_row_are_the_end_and_nobody_sleeps() -> None:
    clock = Clock()
    breaker = CircuitBreaker(0.0, clock.sleep, lambda: clock.now)
    asked: list[float] = []

    def is_down(now: float) -> bool:
        asked.append(now)
        return True

    with pytest.raises(BackendError, match="failed on 3 questions in a row"):
        [asking(clock, breaker, is_down) for _ in range(10)]
    assert len(asked) == LEAST_FAILURES
    assert sum(clock.slept) == 0


def test_one_answer_in_between_and_all_is_well() -> None:
    clock = Clock()
    breaker = CircuitBreaker(0.0, clock.sleep, lambda: clock.now)
    for number in range(30):
        asking(clock, breaker, lambda now, number=number: number % 3 != 2)  # type: ignore[misc]


def test_what_tells_nothing_of_the_backend_does_not_count() -> None:
    """A video that does not decode is no answer of the backend's: two failures, such a video, and one more failure are three in a row."""
    breaker = CircuitBreaker(0.0, lambda seconds: None)
    said: list[str | None] = ["away", "away", None, "away"]
    with pytest.raises(BackendError, match="3 questions in a row"):
        [breaker.ask(lambda told=told: told, lambda result: result) for told in said]  # type: ignore[misc]


def test_while_one_tries_the_others_wait() -> None:
    breaker = CircuitBreaker(60.0, lambda seconds: None)
    busy, most = 0, 0
    counting = threading.Lock()

    def work(number: int) -> int:
        nonlocal busy, most
        with counting:
            busy += 1
            most = max(most, busy)
        with counting:
            busy -= 1
        return number

    breaker.ask(lambda: 0, lambda result: "away")
    list(imap_unordered(range(200), lambda number: breaker.ask(lambda: work(number), lambda result: "away"), 8))
    assert most == 1
