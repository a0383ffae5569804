"""Runs an ASGI application with uvicorn: bounded, impatient with slow clients, and ending in order on SIGTERM."""

import asyncio
import ipaddress
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from act2see.core.errors import ConfigError

HEAD_SECONDS = 10.0
"""Time limit for the head of a request, and for the rest of a body that was answered already; the connection is closed then. Our choice."""
MOST_CONNECTIONS = 1000
"""Further ones get 503. Our choice: below the usual limit of 1,024 open files."""
_KEEP_ALIVE_SECONDS = 5
_LAST_SECONDS = 10
"""How long responses that are complete may take to be received, at the end. Our choice."""
_HEAD_BYTES = 1 << 16
_SEND_BYTES = 1 << 18
"""What the system may hold of a response. Left alone it takes some MiB, and one who reads them slowly seems not to read at all. Our choice."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ending:
    """What a server does about running requests when it is told to end."""

    drain: Callable[[], None]
    """Refuse new requests."""
    is_idle: Callable[[], bool]
    stop: Callable[[], None]
    """Give the running ones up: at the second signal."""


class HttpServer(uvicorn.Server):
    """A server that takes connections until its running requests are done: SIGTERM or SIGINT begins the end, a second one hastens it."""

    def __init__(self, app: ASGIApp, ending: Ending, write_seconds: float = 60.0) -> None:
        """`write_seconds` is how long a client may take nothing of what is sent to it."""
        super().__init__(
            uvicorn.Config(
                app,
                http=type("Protocol", (ImpatientProtocol,), {"write_seconds": write_seconds}),
                ws="none",
                lifespan="auto",
                log_config=None,
                access_log=False,
                server_header=False,
                limit_concurrency=MOST_CONNECTIONS,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=_LAST_SECONDS,
                h11_max_incomplete_event_size=_HEAD_BYTES,
            )
        )
        self._ending = ending
        self._is_ending = False
        self.was_hastened = False
        """Whether running requests were given up."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals in the main thread. uvicorn's own way closes the port at once and raises the signal again at the end."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.end)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    def end(self) -> None:
        """Begin the end; called again, give up what is running."""
        if self._is_ending:
            self.was_hastened = True
            self._ending.stop()
        self._is_ending = True
        self._ending.drain()

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second; True ends the server."""
        return await super().on_tick(counter) or (self._is_ending and self._ending.is_idle())


class ImpatientProtocol(H11Protocol):
    """Closes a connection on which a request's head, a body that nobody reads, or the client's reading takes too long: uvicorn waits for ever."""

    write_seconds = 60.0
    _head_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # writing pauses as soon as the system takes no more, and resumes once it has everything
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BYTES)
        self._wait_for_head()

    def pause_writing(self) -> None:
        """The client does not read as fast as it is written to."""
        super().pause_writing()
        self._wait_for_reader()

    def resume_writing(self) -> None:
        """All that was written is on its way."""
        super().resume_writing()
        self._stop_waiting_for_reader()

    def data_received(self, data: bytes) -> None:
        """Bytes have come, of a head or a body."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE and not self._is_answered_early:
            self._stop_waiting()
        elif self._head_timer is None:
            self._wait_for_head()

    @property
    def _is_answered_early(self) -> bool:
        """Whether a response is complete while its request's body still comes."""
        return self.conn.their_state is h11.SEND_BODY and self.cycle is not None and self.cycle.response_complete

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        self._stop_waiting()
        self._stop_waiting_for_reader()
        super().connection_lost(exc)

    def _wait_for_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _wait_for_reader(self) -> None:
        self._write_timer = self.loop.call_later(self.write_seconds, self._check_reader, self.transport.get_write_buffer_size())

    def _stop_waiting_for_reader(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _check_reader(self, unread_bytes: int) -> None:
        if self.transport.get_write_buffer_size() < unread_bytes:
            self._wait_for_reader()
            return
        _log.warning("a client has taken nothing for %g s of what was sent to it: its connection is closed (--write-seconds)", self.write_seconds)
        self.transport.abort()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `ConfigError` for an address that cannot be used."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=512)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"cannot listen on {host}:{port}: {reason or error}; give another --host or --port") from error


def address_of(listening: socket.socket) -> str:
    """The address as clients write it."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def warn_if_open(listening: socket.socket, api_key: str | None) -> None:
    """Log a warning if other machines can reach a server that asks for no key."""
    host = listening.getsockname()[0]
    if api_key is None and not ipaddress.ip_address(host.partition("%")[0]).is_loopback:
        _log.warning("anybody who reaches %s can use this server: set ACT2SEE_API_KEY", host)


def run(app: ASGIApp, ending: Ending, listening: socket.socket, write_seconds: float) -> bool:
    """Serve until a signal ends it. Returns whether all running requests were finished."""
    with faults_in_our_log("uvicorn"):
        server = HttpServer(app, ending, write_seconds)
        server.run(sockets=[listening])
        return not server.was_hastened


class _Forwarded(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        _log.warning("%s", record.getMessage())


@contextmanager
def faults_in_our_log(library: str) -> Iterator[None]:
    """Pass a library's errors on to this project's log, and nothing else: its warnings are about what clients do wrong."""
    log, handler = logging.getLogger(library), _Forwarded(logging.ERROR)
    propagates, log.propagate = log.propagate, False
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.propagate = propagates
