"""Fetching by address: http(s) alone, within limits of size and time, whole or not at all."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from act2see.core.errors import VideoError
from act2see.video import Video
from act2see.video.download import fetch, is_url
from raw_server import dripping_handshake

Answer = Callable[[BaseHTTPRequestHandler], None]
CONTENT = bytes(range(256)) * 1000


def send(handler: BaseHTTPRequestHandler, content: bytes, *, status: int = 200, headers: dict[str, str] | None = None) -> None:
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(content)


def redirect(handler: BaseHTTPRequestHandler, target: str) -> None:
    send(handler, b"", status=302, headers={"Location": target})


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    with suppress(OSError):
        while True:
            handler.wfile.write(CONTENT)


def trickle_headers(handler: BaseHTTPRequestHandler) -> None:
    with suppress(OSError):
        handler.wfile.write(b"HTTP/1.0 200 OK\r\nX: ")
        while True:
            handler.wfile.write(b"y")
            handler.wfile.flush()
            time.sleep(0.02)


def trickle_content(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    with suppress(OSError):
        while True:
            handler.wfile.write(b"y")
            handler.wfile.flush()
            time.sleep(0.02)


def redirect_without_end(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(302)
    handler.send_header("Location", "/video.MP4")
    handler.end_headers()
    with suppress(OSError):
        while True:
            handler.wfile.write(CONTENT)


def odd_reason(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.0 404 \x1b[31mno\x07 " + b"x" * 5000 + b"\r\n\r\n")


ANSWERS: dict[str, Answer] = {
    "/video.MP4": lambda handler: send(handler, CONTENT),
    "/moved": lambda handler: redirect(handler, "/video.MP4"),
    "/moved-without-end": redirect_without_end,
    "/odd-reason": odd_reason,
    "/loop": lambda handler: redirect(handler, "/loop"),
    "/to-file": lambda handler: redirect(handler, "file:///etc/passwd"),
    "/to-ftp": lambda handler: redirect(handler, "ftp://127.0.0.1/a.mp4"),
    "/page": lambda handler: send(handler, b"<html>", headers={"Content-Type": "text/html; charset=utf-8"}),
    "/empty": lambda handler: send(handler, b""),
    "/none": lambda handler: send(handler, b"", status=404),
    "/short": lambda handler: send(handler, CONTENT, headers={"Content-Length": str(len(CONTENT) + 1)}),
    "/endless": endless,
    "/trickled-headers": trickle_headers,
    "/trickled-content": trickle_content,
}


@contextmanager
def serving(answers: dict[str, Answer]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answers[self.path](self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving(ANSWERS) as address:
        yield address


@pytest.mark.parametrize("name", ["/video.MP4", "/moved", "/moved-without-end"])
def test_a_file_is_fetched(name: str, site: str, tmp_path: Path) -> None:
    path = fetch(site + name, tmp_path / "new" / "folder")
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]
    assert path.suffix == (".mp4" if name == "/video.MP4" else "")
    assert fetch(site + name, path.parent) == path  # the same content has the same name


def test_a_fetched_video_is_a_video(write_video: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    content = write_video("clip.mp4", [Fraction(number, 24) for number in range(24)]).read_bytes()
    with serving({"/clip.mp4?key=1": lambda handler: send(handler, content)}) as address:
        path = fetch(f"{address}/clip.mp4?key=1", tmp_path / "fetched")
    assert path.suffix == ".mp4"
    assert Video(path).duration_seconds == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/to-file", "is not allowed"),
        ("/to-ftp", "redirects from http to ftp are not followed"),
        ("/loop", "redirect"),
        ("/page", "it is a web page; give the address of a video file"),
        ("/empty", "the response is empty"),
        ("/none", "the server returned 404"),
        ("/odd-reason", r"the server returned 404 \[31mno xxx"),
        ("/short", "the connection closed after 256,000 of 256,001 bytes"),
        ("/endless", "it has more than 1,000,000 bytes"),
    ],
)
def test_what_is_not_fetched(name: str, message: str, site: str, tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=message) as caught:
        fetch(site + name, tmp_path, max_bytes=1_000_000)
    assert str(caught.value).startswith(f"cannot fetch {site}{name}: ")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500
    assert list(tmp_path.iterdir()) == []


def test_a_promise_beyond_the_limit_is_refused_at_once(site: str, tmp_path: Path) -> None:
    assert fetch(f"{site}/video.MP4", tmp_path, max_bytes=len(CONTENT)).exists()
    with pytest.raises(VideoError, match="more than 255,999 bytes"):
        fetch(f"{site}/video.MP4", tmp_path, max_bytes=len(CONTENT) - 1)


@pytest.mark.parametrize("name", ["/trickled-headers", "/trickled-content"])
def test_the_time_limit_holds_for_the_whole_transfer(name: str, site: str, tmp_path: Path) -> None:
    # Each single wait is short, so that only a limit on the whole can end this.
    with pytest.raises(VideoError, match=r"it took longer than 0\.5 s"):
        fetch(site + name, tmp_path, timeout_seconds=0.5)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://127.0.0.1/a.mp4", "data:,a", "/etc/passwd", "http:/a", "http://", "http://a b", "a\nb", "http://a/\x1b[31m"]
)
def test_other_addresses_are_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="give an address that begins with http:// or https://") as caught:
        fetch(url, tmp_path)
    assert "\n" not in str(caught.value)


def test_nobody_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(VideoError, match="Connection refused"):
        fetch("http://127.0.0.1:9/a.mp4", tmp_path)


def test_the_time_limit_holds_for_the_tls_handshake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with dripping_handshake() as port, pytest.raises(VideoError, match=r"it took longer than 0\.5 s"):
        fetch(f"https://127.0.0.1:{port}/a.mp4", tmp_path, timeout_seconds=0.5)


def test_a_folder_that_cannot_be_made(site: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(VideoError, match="cannot write to"):
        fetch(f"{site}/video.MP4", tmp_path / "file" / "folder")


def test_what_is_an_address() -> None:
    assert is_url("https://example.org/a.mp4")
    assert is_url("HTTP://example.org")
    assert not any(map(is_url, ("http.mp4", "./http://a", "ftp://a", "file:///a", "C:\\a")))
