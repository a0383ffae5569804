"""A server on 127.0.0.1 that sends whatever bytes it is told to, at whatever pace."""

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

Write = Callable[[bytes], None]
Script = Callable[["Server", Write], None]


@dataclass
class Server:
    """Answers each request with the next script, the last one again and again."""

    scripts: list[Script]
    requests: list[bytes] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    def serve(self, listening: socket.socket) -> None:
        """Take connections until the end."""
        while not self.ended.is_set():
            with suppress(TimeoutError):
                connection, _ = listening.accept()
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            self.requests.append(_request(connection))
            script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
            script(self, connection.sendall)
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(0.2)
            while connection.recv(65536):
                pass


def _request(connection: socket.socket) -> bytes:
    """A whole HTTP request."""
    connection.settimeout(20)
    content = b""
    while (end := content.find(b"\r\n\r\n")) < 0:
        if not (more := connection.recv(65536)):
            return content
        content += more
    length = re.search(rb"(?i)content-length: *(\d+)", content[:end])
    while length and len(content) < end + 4 + int(length[1]) and (more := connection.recv(65536)):
        content += more
    return content


@contextmanager
def serving(*scripts: Script) -> Iterator[Server]:
    """The server on a port of 127.0.0.1."""
    server = Server(list(scripts))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.05)
        server.port = listening.getsockname()[1]
        thread = threading.Thread(target=server.serve, args=(listening,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.ended.set()
            thread.join()
