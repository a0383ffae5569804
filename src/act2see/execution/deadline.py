"""A time limit for a whole network transfer, regardless of how slowly bytes arrive."""

import socket
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Self


class Deadline:
    """Shuts down the connections of one transfer when its time is over.

    A socket's timeout restarts with every byte, so a server that trickles bytes would never time out. Use it as a context manager around the
    transfer. The reader sees a closed connection, and checks `is_over` for the reason.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._connections: list[socket.socket] = []
        self._is_cut = False
        self._timer: threading.Timer | None = None

    @property
    def is_over(self) -> bool:
        """Whether the deadline has passed."""
        return self._is_cut or time.monotonic() >= self._end

    def shorten(self, seconds: float) -> None:
        """Move the deadline to at most this many seconds from now."""
        end = time.monotonic() + seconds
        if end < self._end:
            self._end = end
            self._start()

    def watch(self, connection: socket.socket) -> None:
        """Add a connection. Its socket is duplicated, because TLS takes over the original; shutting down one shuts down both."""
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
            with suppress(OSError):  # already closed
                connection.shutdown(socket.SHUT_RDWR)
