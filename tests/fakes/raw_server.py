"""An HTTP server on 127.0.0.1 that writes whatever bytes a test says, in whatever pace: what no well-behaved server does."""

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Write = Callable[[bytes], None]
Script = Callable[[Write], None]
"""Writes one whole answer, status line and all."""

STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


@dataclass
class RawServer:
    """The answers that are still to be written, one a request and the last again and again, and the requests that came."""

    scripts: list[Script] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    """Set at the end of the test: what writes without end goes home."""
    port: int = 0

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def forever(self, what: bytes, *, head: bytes = STREAM_HEAD, pause_seconds: float = 0.0) -> Script:
        """Writes a head, and then the same again and again."""

        def script(write: Write) -> None:
            write(head)
            while not self.released.wait(pause_seconds):
                write(what)

        return script

    def silent(self, head: bytes = STREAM_HEAD) -> Script:
        """Writes a head and nothing more, and keeps the connection."""

        def script(write: Write) -> None:
            write(head)
            self.released.wait(60)

        return script


def whole(body: bytes, *, status: str = "200 OK", kind: str = "text/event-stream", more: Mapping[str, str] | None = None) -> Script:
    """One answer with its length."""
    fields = {"Content-Type": kind, "Content-Length": str(len(body)), "Connection": "close", **(more or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return lambda write: write(f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body)


def event(value: object) -> bytes:
    return f"data: {json.dumps(value)}\n\n".encode()


def delta(content: Any = None, finish: Any = None, **more: Any) -> dict[str, Any]:
    """A chunk with one choice."""
    return {"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": finish, **more}]}


@contextmanager
def raw_server(*scripts: Script) -> Iterator[RawServer]:
    state = RawServer(list(scripts))

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.do_GET()

        def do_GET(self) -> None:
            state.paths.append(self.path)
            state.headers.append({name.lower(): value for name, value in self.headers.items()})
            script = state.scripts.pop(0) if len(state.scripts) > 1 else state.scripts[0]
            with suppress(OSError):  # the client hung up
                script(self.write)

        def write(self, data: bytes) -> None:
            self.wfile.write(data)
            self.wfile.flush()

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        state.port = http.server_address[1]
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield state
        finally:
            state.released.set()
            http.shutdown()
            thread.join()


@contextmanager
def dripping_handshake() -> Iterator[int]:
    """The port of a server that begins a TLS handshake and drips on for ever: the head of a long message, then a byte now and then."""
    ended = threading.Event()

    def drip(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection, suppress(OSError):
            connection.sendall(b"\x16\x03\x03\x40\x00")
            while not ended.wait(0.02):
                connection.sendall(b"\x02")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=drip, args=(listening,))
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            ended.set()
            thread.join()
