"""Processes for work that keeps a CPU busy: results, messages, warnings, errors, and a process that is killed."""

import logging
import os
import signal

import pytest

from act2see.core.errors import Act2SeeError, InternalError, ProcessEndedError, VideoError
from act2see.execution.processes import Report, imap_processes


class Work:
    """Does what its item says, and counts the items of its own process."""

    def __init__(self) -> None:
        self.done = 0

    def __call__(self, item: str, report: Report) -> tuple[str, int, int]:
        self.done += 1
        match item:
            case "refuse":
                raise VideoError("no such file: refuse")
            case "break":
                raise KeyError("broken")
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "warn":
                logging.getLogger("act2see.anything").warning("%s is odd", item)
            case "report":
                report(7)
        return item, os.getpid(), self.done


def test_each_item_yields_its_result_once_from_processes_that_keep_their_state() -> None:
    items = [f"item {number}" for number in range(6)]
    found = dict(imap_processes(items, Work(), 2))
    results = [one for one in found.values() if not isinstance(one, Act2SeeError)]
    assert sorted(item for item, _, _ in results) == items
    processes = {pid for _, pid, _ in results}
    assert len(processes) <= 2
    assert os.getpid() not in processes
    for process in processes:
        assert sorted(count for _, pid, count in results if pid == process) == list(range(1, sum(pid == process for _, pid, _ in results) + 1))


def test_errors_are_results_and_a_killed_process_costs_its_item_only(caplog: pytest.LogCaptureFixture) -> None:
    messages: list[tuple[str, object]] = []
    items = ["refuse", "die", "break", "warn", "report", "last"]
    with caplog.at_level(logging.WARNING, "act2see"):
        found = dict(imap_processes(items, Work(), 1, lambda item, message: messages.append((item, message))))
    assert list(found) == items
    assert isinstance(found["refuse"], VideoError)
    assert isinstance(found["die"], ProcessEndedError)
    assert str(found["die"]) == "its process was killed by signal 9, perhaps for lack of memory: try fewer --workers"
    broken = found["break"]
    assert isinstance(broken, InternalError)
    assert "KeyError" in broken.traceback
    assert messages == [("report", 7)]
    assert caplog.messages == ["warn is odd"]
    last = found["last"]
    assert not isinstance(last, Act2SeeError)
    assert last[2] == 4  # of the process that took the killed one's place


def test_a_caller_that_stops_ends_the_processes() -> None:
    results = imap_processes(["first", "second", "third"], Work(), 2)
    _, first = next(results)
    results.close()
    assert not isinstance(first, Act2SeeError)
    with pytest.raises(ProcessLookupError):
        os.kill(first[1], 0)


def test_nothing_to_do_starts_nothing() -> None:
    assert list(imap_processes([], Work(), 3)) == []
