"""Transfers that end in time, whatever comes."""

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from act2see.execution.deadline import Deadline


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def drip(connection: socket.socket, ended: threading.Event) -> None:
    with suppress(OSError):
        while not ended.wait(0.01):
            connection.send(b"x")


def test_a_transfer_ends_although_bytes_keep_coming(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    ours.settimeout(5)
    ended = threading.Event()
    thread = threading.Thread(target=drip, args=(theirs, ended))
    thread.start()
    with Deadline(0.2) as deadline:
        deadline.watch(ours)
        while ours.recv(1):
            pass
        assert deadline.is_over
    ended.set()
    thread.join()


def test_a_connection_made_too_late_is_shut_down_at_once(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, _ = pair
    ours.settimeout(5)
    with Deadline(0.0) as deadline:
        assert deadline.is_over
        deadline.watch(ours)
        assert ours.recv(1) == b""


def test_it_can_be_shortened_and_not_lengthened(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, _ = pair
    ours.settimeout(5)
    with Deadline(60) as deadline:
        deadline.watch(ours)
        assert not deadline.is_over
        deadline.shorten(0.05)
        deadline.shorten(50)
        assert ours.recv(1) == b""
        assert deadline.is_over


def test_a_transfer_in_time_is_left_alone(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    before = threading.active_count()
    with Deadline(60) as deadline:
        deadline.watch(ours)
        theirs.send(b"x")
        assert ours.recv(1) == b"x"
        assert not deadline.is_over
    theirs.send(b"y")
    assert ours.recv(1) == b"y"
    ours.close()
    theirs.settimeout(5)
    assert theirs.recv(1) == b""  # nothing else keeps the connection
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join(5)
    assert threading.active_count() == before
