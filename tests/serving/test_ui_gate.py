"""What the page of `act2see ui` refuses before Gradio sees it: other sites, other addresses, other files, too much at once."""

import http.client
import json
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from act2see.serving.gate import own_names
from act2see.serving.http_server import Ending, HttpServer, listen
from act2see.serving.room import Room
from act2see.serving.ui.gate import PageGate, size_below
from served import until

JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "multipart/form-data; boundary=x"}
JOIN, UPLOAD = "/gradio_api/queue/join", "/gradio_api/upload"
MEBIBYTE = 1 << 20


class Page:
    """Behaves as Gradio: keeps what it receives, and leaves a broken upload where it is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        if scope["path"] == "/crash":
            raise KeyError("99")
        if scope["path"] == UPLOAD:
            made = self.folder / f"tmp{secrets.token_hex(4)}"
            with made.open("wb") as file:
                async for chunk in request.stream():
                    file.write(chunk)
            (self.folder / secrets.token_hex(4)).mkdir()
            made.rename(next(one for one in self.folder.iterdir() if one.is_dir() and not list(one.iterdir())) / "video.mp4")
        await PlainTextResponse(await request.body() if scope["path"] == JOIN else b"passed")(scope, receive, send)


class Site:
    def __init__(self, port: int, folder: Path) -> None:
        self.port, self.folder = port, folder

    def send(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, str]:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            response = connection.getresponse()
            assert response.headers["X-Frame-Options"] == "SAMEORIGIN"
            return response.status, response.read().decode()


@contextmanager
def site(folder: Path, host: str = "127.0.0.1") -> Iterator[Site]:
    """The gate before a page, with room for 3 MiB and uploads of 1 MiB."""
    room = Room(3 * MEBIBYTE, lambda: size_below(folder))
    with listen("127.0.0.1", 0) as listening:
        server = HttpServer(
            PageGate(Page(folder), own_names(host), folder, room, MEBIBYTE, lambda: None), Ending(lambda: None, lambda: True, lambda: None)
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            until(lambda: server.started)
            yield Site(listening.getsockname()[1], folder)
        finally:
            server.end()
            thread.join(10)


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path.resolve()) as found:
        yield found


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example:7860"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://localhost.evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "localhost:7860", "Origin": "http://localhost:7860"}, 200),
        ({"Host": "[::1]:7860", "Origin": "http://[::1]:7860"}, 200),
    ],
)
def test_only_the_pages_own_site_is_answered(page: Site, headers: dict[str, str], status: int) -> None:
    assert page.send("GET", "/", None, **headers)[0] == status
    assert page.send("POST", UPLOAD, b"x" * 100, **FORM, **headers)[0] == status
    assert (size_below(page.folder) > 0) == (status == 200)


def test_on_an_open_address_other_sites_are_refused_too(tmp_path: Path) -> None:
    with site(tmp_path, "0.0.0.0") as page:
        assert page.send("POST", JOIN, b"{}", **JSON, Host="video.example", Origin="https://video.example")[0] == 200
        assert page.send("POST", JOIN, b"{}", **JSON, Host="video.example", Origin="https://evil.example")[0] == 403


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/gradio_api/file=http://example.org/x"),
        ("GET", "/gradio_api/file=https://example.org/x"),
        ("GET", "/gradio_api/file=/etc/passwd"),
        ("GET", "/gradio_api/file={folder}/../x"),
        ("GET", "/gradio_api/file={folder}/link"),
        ("GET", "/gradio_api/file={folder}/x%00"),
        ("GET", "/gradio_api/file=relative"),
        ("GET", "/gradio_api/file/etc/passwd"),
        ("GET", "/gradio_api/proxy=http://example.org"),
        ("GET", "/gradio_api/deep_link?session_hash=x"),
        ("GET", "/gradio_api/heartbeat/a/b"),
        ("GET", "/monitoring"),
        ("POST", "/gradio_api/process_recording"),
        ("POST", "/gradio_api/call/asked"),
        ("POST", "/gradio_api/component_server"),
        ("POST", "/gradio_api/upload/"),
        ("POST", "/login"),
    ],
)
def test_what_the_page_never_asks_for_is_not_there(page: Site, method: str, path: str) -> None:
    (page.folder / "link").symlink_to("/etc/passwd")
    assert page.send(method, path.replace("{folder}", str(page.folder)), None, **JSON) == (404, "there is nothing here")


@pytest.mark.parametrize(
    "path", ["/", "/config", "/assets/x.js", "/gradio_api/file={folder}/a/x.mp4", "/gradio_api/queue/data", "/gradio_api/heartbeat/a1"]
)
def test_what_the_page_asks_for_is_passed_on(page: Site, path: str) -> None:
    assert page.send("GET", path.replace("{folder}", str(page.folder))) == (200, "passed")


def test_a_question_names_files_of_the_page_only(page: Site) -> None:
    def ask(path: object) -> tuple[int, str]:
        return page.send("POST", JOIN, json.dumps({"data": [[{"path": path, "url": "http://127.0.0.1/x"}]]}).encode(), **JSON)

    for path in ("http://example.org/x.mp4", "/etc/passwd", f"{page.folder}/../x", "x.mp4", "\0", 5, {"path": "/etc/passwd"}):
        status, told = ask(path)
        assert (status, told.count("\n")) == (400, 0)
        assert "no file of this page" in told
    assert ask(f"{page.folder}/a/x.mp4")[0] == 200
    assert page.send("POST", JOIN, b'{"data": ["/etc/passwd"]}', **JSON) == (200, '{"data": ["/etc/passwd"]}')  # a question's text


def test_bodies_are_bounded_and_declared(page: Site) -> None:
    assert page.send("POST", JOIN, b"{", **JSON)[0] == 400
    assert page.send("POST", JOIN, b"[" * 100_000, **JSON)[0] == 400
    assert page.send("POST", JOIN, b"{}", Content_Type="text/plain")[0] == 415
    assert page.send("POST", JOIN, json.dumps({"data": ["x" * 2 * MEBIBYTE]}).encode(), **JSON)[0] == 413
    assert page.send("POST", UPLOAD, bytes(2 * MEBIBYTE), **FORM)[0] == 413
    assert size_below(page.folder) == 0


def test_a_fault_of_the_page_is_one_line_in_the_log(page: Site, caplog: pytest.LogCaptureFixture) -> None:
    status, told = page.send("GET", "/crash")
    assert (status, "99" in told) == (500, False)
    (record,) = caplog.records
    assert record.getMessage().startswith("the page failed: internal error: KeyError")


def test_all_uploads_are_bounded_together(page: Site) -> None:
    body = bytes(MEBIBYTE)
    assert [page.send("POST", UPLOAD, body, **FORM)[0] for _ in range(4)] == [200, 200, 200, 507]
    status, told = page.send("POST", UPLOAD, body, **FORM)
    assert status == 507
    assert "--max-disk-mb" in told
    next(page.folder.glob("*/video.mp4")).unlink()
    assert page.send("POST", UPLOAD, body, **FORM)[0] == 200


def test_a_chunked_upload_takes_the_largest_size_whatever_its_head_states(page: Site) -> None:
    body = bytes(MEBIBYTE)
    assert [page.send("POST", UPLOAD, body, **FORM)[0] for _ in range(3)] == [200, 200, 200]
    with closing(socket.create_connection(("127.0.0.1", page.port), timeout=10)) as connection:
        head = "POST /gradio_api/upload HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: 0\r\n"
        connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n3\r\n--x\r\n0\r\n\r\n".encode())
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 507 ")


def test_an_upload_that_breaks_off_leaves_nothing(page: Site) -> None:
    (page.folder / ".in-use").touch()
    with closing(socket.create_connection(("127.0.0.1", page.port))) as connection:
        connection.sendall(
            b"POST /gradio_api/upload HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data\r\nContent-Length: 500000\r\n\r\n"
        )
        connection.sendall(bytes(100_000))
        until(lambda: size_below(page.folder) > 0)
    until(lambda: size_below(page.folder) == 0)
    with suppress(FileNotFoundError):
        assert [one.name for one in page.folder.iterdir()] == [".in-use"]
