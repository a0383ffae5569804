"""A time limit on network transfers that holds however slowly the bytes arrive."""

import socket
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Self


class Deadline:
    """Shuts down the connections of one transfer once its time is over.

    A socket's own timeout starts anew with every byte, so a server that sends one now and then would hold a transfer for ever. Used as a context
    manager around the transfer; the reader sees its connection end, and asks `is_over` why.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._connections: list[socket.socket] = []
        self._is_cut = False
        self._timer: threading.Timer | None = None

    @property
    def is_over(self) -> bool:
        """Whether the time is over."""
        return self._is_cut or time.monotonic() >= self._end

    def shorten(self, seconds: float) -> None:
        """Leave at most this many seconds from now."""
        end = time.monotonic() + seconds
        if end < self._end:
            self._end = end
            self._start()

    def watch(self, connection: socket.socket) -> None:
        """Include a connection. A duplicate is kept, because TLS takes the socket over; shutting down either ends both."""
        with self._lock:
            self._connections.append(connection.dup())
            if self._is_cut:
                self._shut_down()

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        with self._lock:
            for connection in self._connections:
                connection.close()
            self._connections.clear()

    def _start(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = threading.Timer(max(0.0, self._end - time.monotonic()), self._cut)
        self._timer.daemon = True
        self._timer.start()

    def _cut(self) -> None:
        with self._lock:
            self._is_cut = True
            self._shut_down()

    def _shut_down(self) -> None:
        for connection in self._connections:
            with suppress(OSError):  # it has ended already
                connection.shutdown(socket.SHUT_RDWR)
