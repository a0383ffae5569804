"""The painter against servers that do not end, or send something else (raw_server.py): the laws of the backend hold here as well."""

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from act2see.core.errors import BackendError, ConfigError
from act2see.tools.generators import remote
from act2see.tools.generators.remote import RemotePainter, RemoteSettings
from raw_server import RawServer, Script, raw_server, whole

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
ENDLESS: dict[str, Callable[[RawServer], Script]] = {
    "bytes of a picture": lambda server: server.forever(b"A", head=HEAD + b'{"data": [{"b64_json": "', pause_seconds=0.02),
    "white space": lambda server: server.forever(b"\n", head=HEAD, pause_seconds=0.02),
    "nothing after the head": lambda server: server.silent(HEAD),
    "nothing at all": lambda server: server.silent(b""),
    "a header": lambda server: server.forever(b"x", head=b"HTTP/1.1 200 OK\r\nX: ", pause_seconds=0.02),
}


def problem(server: RawServer, **changes: Any) -> str:
    settings = replace(RemoteSettings("m", server.base_url, timeout_seconds=5, retries=0), **changes)
    slept: list[float] = []
    with pytest.raises(BackendError) as raised:
        RemotePainter(settings, slept.append).paint("a red door", Image.new("RGB", (8, 8)), seed=0, strength=None)
    text = str(raised.value)
    assert text.isprintable()
    assert len(text) < 700
    return text


@pytest.mark.parametrize("kind", ENDLESS)
def test_a_picture_has_a_deadline(kind: str) -> None:
    with raw_server() as server:
        server.scripts = [ENDLESS[kind](server)]
        text = problem(server, answer_seconds=0.4, retries=3)
        assert text == f"{server.base_url} did not finish its answer within 0.4 s; allow it more with --answer-seconds"


@pytest.mark.parametrize("is_compressed", [False, True])
def test_a_picture_has_a_size(monkeypatch: pytest.MonkeyPatch, is_compressed: bool) -> None:
    monkeypatch.setattr(remote, "MAX_BYTES", 100_000)
    body = json.dumps({"data": [{"b64_json": "A" * 1_000_000}]}).encode()
    script = whole(gzip.compress(body), more={"Content-Encoding": "gzip"}) if is_compressed else whole(body)
    with raw_server(script) as server:
        assert "exceeds 100,000 bytes" in problem(server)
        if not is_compressed:
            server.scripts = [server.forever(b"A" * 1000, head=HEAD)]
            assert "exceeds 100,000 bytes" in problem(server)


def test_the_beginning_of_an_errors_body_is_enough() -> None:
    with raw_server(whole(b"x" * 40_000_000, status="500 Oops")) as server:
        assert f"{server.base_url} failed after 1 try (500): xxx" in problem(server)


def test_a_pause_beyond_our_patience_is_told() -> None:
    with raw_server(whole(b"", status="429 Too Many", more={"Retry-After": "3600"})) as server:
        assert f"{server.base_url} asks for a pause of 3,600 s (429)" in problem(server, retries=3)
        assert len(server.paths) == 1


@pytest.mark.parametrize(
    "script",
    [
        whole(b'{"data": [', more={"Content-Length": "500"}),
        lambda write: write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        whole(b"no gzip", more={"Content-Encoding": "gzip"}),
        lambda write: write(b"no HTTP\r\n\r\n"),
    ],
)
def test_an_answer_that_breaks_off_is_asked_for_again(script: Script) -> None:
    with raw_server(script) as server:
        assert "after 3 tries: " in problem(server, retries=2)
        assert len(server.paths) == 3


def test_frames_go_nowhere_else() -> None:
    with raw_server(whole(b"", status="307 Moved", more={"Location": "http://localhost:1/v1"})) as server:
        assert "redirects (307) to localhost, which is not followed" in problem(server, retries=3)
        assert len(server.paths) == 1


@pytest.mark.parametrize("url", ["", " http://h/v1", "file:///a", "http://h/v1/images/edits", "http://a..b/v1", "http://h:99999/v1"])
def test_an_address_that_cannot_be_used(url: str) -> None:
    with pytest.raises(ConfigError, match=r"the generator's address .* must look like http://127.0.0.1:8000/v1"):
        RemoteSettings("m", url)
