"""The painter behind `POST /images/edits` against a real server in a thread, which sends whatever the test says."""

import base64
import io
import json
import logging
import socket
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from act2see.core.errors import BackendError, ConfigError, ToolError
from act2see.core.interfaces import Painter
from act2see.tools.generators.remote import RemotePainter, RemoteSettings, _picture

KEY = "sk-very-secret-1234567890"
ANCHOR = Image.linear_gradient("L").resize((96, 64)).convert("RGB")


def encoded(image: Image.Image, kind: str = "PNG") -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def sent(**first: Any) -> dict[str, Any]:
    """A 200's body, with these fields for its picture."""
    return {"created": 0, "data": [first]}


def square(colour: str = "red", size: tuple[int, int] = (48, 32)) -> dict[str, Any]:
    return sent(b64_json=encoded(Image.new("RGB", size, colour)))


def error(message: str, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


def png_header(width: int, height: int) -> str:
    """A PNG that claims a size and holds no pixel."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0")
    chunks = b"".join(struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in (head, data, b"IEND"))
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + chunks).decode("ascii")


@dataclass
class EditServer:
    """The answers that are still to be sent, one a request and the last again and again, and the requests that came."""

    answers: list[tuple[int, Any]] = field(default_factory=list)
    """Status and body: JSON, or bytes as they are."""
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    visited: list[str] = field(default_factory=list)
    """What was asked for by GET: nothing ever."""
    content_type: str = "application/json"
    location: str | None = None
    port: int = 0

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


def handler(server: EditServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            server.visited.append(self.path)
            self.send_error(404)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            message = BytesParser().parsebytes(b"Content-Type: " + self.headers["Content-Type"].encode() + b"\r\n\r\n" + body)
            parts = [part for part in message.walk() if not part.is_multipart()]
            fields = {str(part.get_param("name", header="Content-Disposition")): part.get_payload(decode=True) for part in parts}
            server.requests.append({name: value if name == "image" else str(value, "utf-8") for name, value in fields.items()})  # type: ignore[arg-type]
            server.keys.append(self.headers["Authorization"].removeprefix("Bearer "))
            status, answer = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
            if self.path != "/v1/images/edits":
                status, answer = 404, {"detail": "Not Found"}
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", server.content_type)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Retry-After-Ms", "1")  # the client's own pauses are half a second and more
            if server.location:
                self.send_header("Location", server.location)
            self.end_headers()
            self.wfile.write(data)

    return Handler


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[EditServer]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    state = EditServer(answers=[(200, square())])
    with ThreadingHTTPServer(("127.0.0.1", 0), handler(state)) as http:
        state.port = http.server_address[1]
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        http.shutdown()
        thread.join()


def painter(server: EditServer, **changes: Any) -> RemotePainter:
    return RemotePainter(replace(RemoteSettings("gpt-image-1", server.base_url, timeout_seconds=5, retries=2), **changes))


def paint(one: Painter, anchor: Image.Image = ANCHOR) -> Image.Image:
    return one.paint("a red door.", anchor, seed=7, strength=None)


def problem(one: RemotePainter, kind: type[Exception], anchor: Image.Image = ANCHOR) -> str:
    with pytest.raises(kind) as raised:
        paint(one, anchor)
    text = str(raised.value)
    assert text.isprintable()  # one line
    assert KEY not in text
    return text


# What is asked and what comes back


def test_a_picture_of_the_anchors_size(server: EditServer) -> None:
    one = painter(server)
    made = paint(one)
    assert (made.mode, made.size, made.getpixel((5, 5))) == ("RGB", ANCHOR.size, (255, 0, 0))
    assert (one.name, one.model, one.strengths) == ("openai:gpt-image-1", "gpt-image-1", (None,))
    request = server.requests[0]
    assert request.keys() == {"model", "prompt", "n", "image"}  # no size, and no seed: OpenAI's servers refuse it
    assert (request["model"], request["n"]) == ("gpt-image-1", "1")
    assert request["prompt"] == "Change this picture so that it shows: a red door. Keep everything else as it is."
    with Image.open(io.BytesIO(request["image"])) as came:
        assert came.format == "PNG"
        assert came.tobytes() == ANCHOR.tobytes()
    assert server.keys == ["none"]


def test_the_seed_is_sent_where_it_is_wanted(server: EditServer) -> None:
    paint(painter(server, send_seed=True))
    assert server.requests[0]["seed"] == "7"


@pytest.mark.parametrize(("kind", "mode"), [("PNG", "RGBA"), ("PNG", "P"), ("PNG", "L"), ("JPEG", "RGB"), ("WEBP", "RGB")])
def test_every_format_becomes_rgb(server: EditServer, kind: str, mode: str) -> None:
    server.answers = [(200, sent(b64_json="\n".join([encoded(ANCHOR.convert(mode), kind)[:40], encoded(ANCHOR.convert(mode), kind)[40:]])))]
    made = paint(painter(server))
    assert (made.mode, made.size, made.info) == ("RGB", ANCHOR.size, {})


def test_a_squared_picture_is_asked_for_again_in_the_nearest_shape(server: EditServer) -> None:
    one = painter(server)
    wide, tall = Image.new("RGB", (160, 90)), Image.new("RGB", (90, 160))
    server.answers = [(200, square("red", (64, 64))), (200, square("green", (96, 64)))]
    assert paint(one, wide).getpixel((0, 0)) == (0, 128, 0)
    server.answers = [(200, square("blue", (64, 96)))]
    assert paint(one, tall).size == tall.size
    assert [request.get("size") for request in server.requests] == [None, "1536x1024", "1024x1536"]
    server.answers = [(200, square("red", (64, 64)))]
    assert "wrong shape (64 x 64 pixels came for a frame of 160 x 90)" in problem(one, ToolError, wide)
    assert len(server.requests) == 4


@pytest.mark.parametrize(("anchor", "came"), [((160, 90), (160, 96)), ((160, 90), (96, 64)), ((100, 90), (64, 64))])
def test_a_near_enough_shape_is_stretched_back(server: EditServer, anchor: tuple[int, int], came: tuple[int, int]) -> None:
    server.answers = [(200, square("red", came))]
    assert paint(painter(server), Image.new("RGB", anchor)).size == anchor
    assert len(server.requests) == 1


# Faults of the server


@pytest.mark.parametrize("statuses", [[429], [500], [500, 429]])
def test_a_passing_fault_is_tried_again(server: EditServer, statuses: list[int]) -> None:
    server.answers = [(status, error("overloaded")) for status in statuses] + [(200, square())]
    assert paint(painter(server)).size == ANCHOR.size
    assert len(server.requests) == len(statuses) + 1


@pytest.mark.parametrize("status", [429, 500])
def test_a_lasting_fault_is_an_error_after_bounded_tries(server: EditServer, status: int) -> None:
    server.answers = [(status, error("over\nloaded"))]
    assert problem(painter(server), BackendError) == f"{server.base_url} failed after 3 tries ({status}): over loaded; try again later"
    assert len(server.requests) == 3


def test_a_dead_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        text = problem(RemotePainter(RemoteSettings("m", url, retries=0)), BackendError)
    assert text.startswith(f"no answer from {url} after 1 try: ")
    assert text.endswith("Connection refused; start the server or check the generator's address")


def test_a_server_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        assert "within 0.2 s" in problem(RemotePainter(RemoteSettings("m", url, timeout_seconds=0.2, retries=0)), BackendError)


@pytest.mark.parametrize(
    ("kind", "body"),
    [("text/html", b"<html>It works!</html>"), ("application/json", b"{not json"), ("application/json", b"[1]"), ("", b"[" * 100_000)],
)
def test_an_answer_that_is_no_object(server: EditServer, kind: str, body: bytes) -> None:
    server.content_type, server.answers = kind, [(200, body)]
    assert "is this an OpenAI-compatible server?" in problem(painter(server), BackendError)


@pytest.mark.parametrize(
    ("status", "body", "part"),
    [
        (400, error("Unknown parameter: 'seed'.", "unknown_parameter", "seed"), "refused the request (400): Unknown parameter: 'seed'."),
        (400, error("Billing hard limit has been reached", "billing_hard_limit_reached"), "refused the request (400): Billing hard limit"),
        (401, error("who?"), "refused the key (401): set OPENAI_API_KEY"),
        (404, {"detail": "Not Found"}, "has no model 'gpt-image-1' or no /images/edits (404): Not Found"),
        (422, {"detail": [{"loc": ["body", "n"]}]}, "refused the request (422): [{'loc': ['body', 'n']}]"),
    ],
)
def test_what_would_fail_for_every_picture_is_an_error_of_the_server(server: EditServer, status: int, body: object, part: str) -> None:
    server.answers = [(status, body)]
    assert part in problem(painter(server), BackendError)
    assert len(server.requests) == 1


def test_a_redirection_is_not_followed(server: EditServer) -> None:
    for status in (302, 307):
        server.answers, server.location = [(status, {})], f"http://127.0.0.1:{server.port}/elsewhere"
        assert f"redirects ({status}) to 127.0.0.1, which is not followed" in problem(painter(server), BackendError)
    assert (len(server.requests), server.visited) == (2, [])


# Faults of the picture


@pytest.mark.parametrize("body", [error("rejected by the\nsafety system", "moderation_blocked"), {"detail": "rejected by the safety system"}])
def test_a_refused_picture(server: EditServer, body: object) -> None:
    server.answers = [(400, body)]
    assert problem(painter(server), ToolError) == "the generator refused to make this picture: rejected by the safety system"
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ({"created": 0}, "sent nothing"),
        ({"created": 0, "data": []}, "sent nothing"),
        ({"created": 0, "data": "abc"}, "sent nothing"),
        ({"created": 0, "data": [None]}, "sent nothing"),
        ({"data": {"0": {}}}, "sent nothing"),
        (sent(b64_json=None), "sent nothing"),
        (sent(b64_json="\ud800"), "no PNG, JPEG or WebP"),
        (sent(b64_json=5), "sent nothing"),
        (sent(b64_json="no base64!"), "no PNG, JPEG or WebP"),
        (sent(b64_json="ü"), "no PNG, JPEG or WebP"),
        (sent(b64_json="http://127.0.0.1/a.png"), "no PNG, JPEG or WebP"),
        (sent(b64_json=base64.b64encode(b"/etc/passwd").decode()), "no PNG, JPEG or WebP"),
        (sent(b64_json=base64.b64encode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n").decode()), "no PNG, JPEG or WebP"),
        (sent(b64_json=encoded(ANCHOR)[:200]), "no PNG, JPEG or WebP"),
        (sent(b64_json=encoded(ANCHOR, "GIF")), "no PNG, JPEG or WebP"),
        (sent(b64_json=png_header(8000, 7000)), "too large (8000 x 7000 pixels); at most 50 megapixels are read"),
        (sent(b64_json=png_header(10_000, 10_000)), "too large"),
        (sent(b64_json=png_header(60_000, 60_000)), "too large; at most 50 megapixels are read"),
        (sent(b64_json=png_header(60, 60)), "no PNG, JPEG or WebP"),
    ],
)
def test_garbage_is_no_picture(server: EditServer, body: object, part: str) -> None:
    server.answers = [(200, body)]
    assert part in problem(painter(server), ToolError)
    assert len(server.requests) == 1


def test_an_address_is_never_opened(server: EditServer) -> None:
    server.answers = [(200, sent(url=f"http://127.0.0.1:{server.port}/picture.png"))]
    assert "sent an address (which is never opened) instead of a picture" in problem(painter(server), ToolError)
    assert server.visited == []


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(("PNG", "JPEG", "WEBP")),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=12),
    st.floats(0, 1),
)
def test_a_damaged_picture_is_a_picture_or_a_tool_error(kind: str, damage: list[tuple[float, int]], kept: float) -> None:
    raw = bytearray(base64.b64decode(encoded(ANCHOR, kind)))
    for where, value in damage:
        raw[int(where * len(raw))] = value
    body = sent(b64_json=base64.b64encode(raw[: int(kept * len(raw))]).decode())
    with suppress(ToolError):
        assert _picture(body).mode == "RGB"


# The key


def test_the_key_is_sent_and_never_seen(server: EditServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f" {KEY}\n")
    caplog.set_level(logging.DEBUG)
    one = painter(server)
    paint(one)
    assert server.keys == [KEY]
    for status, kind in ((400, ToolError), (401, BackendError), (404, BackendError), (409, BackendError), (429, BackendError), (500, BackendError)):
        server.answers = [(status, error(f"bad\nkey {KEY} \x1b[31m"))]
        text = problem(one, kind)
        assert ("check OPENAI_API_KEY" if status == 401 else "bad key ***") in text
    assert caplog.text
    assert KEY not in caplog.text + repr(one) + repr(one.settings)


def test_no_key_for_openais_own_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    with pytest.raises(BackendError, match=r"https://api\.openai\.com/v1 needs a key: set OPENAI_API_KEY"):
        RemotePainter(RemoteSettings("gpt-image-1"))


def test_a_key_that_no_header_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1\nX: y")
    with pytest.raises(BackendError, match="copy it again"):
        RemotePainter(RemoteSettings("gpt-image-1"))


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:8000", "ftp://h/v1", "http://", "http://me:secret@h/v1", "https://h/v1?key=secret", "http://h:99999/v1"]
)
def test_an_address_that_cannot_be_used(url: str) -> None:
    with pytest.raises(ConfigError, match="must look like") as raised:
        RemoteSettings("m", url)
    assert "secret" not in str(raised.value)
