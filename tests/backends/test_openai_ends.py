"""The HTTP backend against servers that do not end, do not answer, or answer with something else (raw_server.py): one line each, in time."""

import email.utils
import gzip
import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from act2see.backends import openai as module
from act2see.backends import stream
from act2see.backends.openai import OpenAIBackend, OpenAISettings
from act2see.benchmarks.vcrbench_judge import Judge
from act2see.core.errors import BackendError, ConfigError, JudgeError
from act2see.core.interfaces import Continuation
from act2see.core.trace import Frame, Observation, Retrieve, Trace
from raw_server import STREAM_HEAD, RawServer, Script, Write, delta, dripping_handshake, event, raw_server, whole

KEY = "sk-very-secret-1234567890"
ANSWER = event(delta("<answer> B </answer>")) + event(delta("", "stop")) + b"data: [DONE]\n\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def settings(server: RawServer, **changes: Any) -> OpenAISettings:
    return replace(OpenAISettings("m", server.base_url, timeout_seconds=5, retries=0), **changes)


def ask(made: OpenAISettings, sleep: Callable[[float], None] = lambda seconds: None, trace: Trace | None = None) -> Continuation:
    trace = trace or Trace("1", "clip.mp4", "What colour?", (Frame(Image.new("RGB", (8, 6)), 0.0),), ("blue", "red"))
    stream = OpenAIBackend(made, sleep).decode(trace, ())
    while True:
        try:
            next(stream)
        except StopIteration as end:
            found: Continuation = end.value
            return found


def refused(made: OpenAISettings, sleep: Callable[[float], None] = lambda seconds: None, trace: Trace | None = None) -> str:
    with pytest.raises(BackendError) as raised:
        ask(made, sleep, trace)
    text = str(raised.value)
    assert text.isprintable()  # one line
    assert len(text) < 700
    assert KEY not in text
    return text


# Advice


@pytest.mark.parametrize(
    ("models", "advice"),
    [
        ({"data": [{"id": "other", "max_model_len": 1}, {"id": "m", "max_model_len": 8192}]}, "its context has 8,192 tokens"),
        ({"data": [{"id": "m", "max_model_len": 262144}]}, None),
        ({"data": [{"id": "m"}]}, None),
        ({"data": "none"}, None),
        (["x" * (module.MAX_MODELS_BYTES + 1)], None),
    ],
)
def test_a_refusal_for_length_names_the_servers_context(models: Any, advice: str | None) -> None:
    too_long = whole(b'{"error": {"message": "too long"}}', status="400 Bad", kind="application/json")
    with raw_server(too_long, whole(json.dumps(models).encode(), kind="application/json")) as server:
        text = refused(settings(server))
        assert server.paths == ["/v1/chat/completions", "/v1/models"]
    assert "refused the request (400): too long" in text
    assert ("--max-tokens" in text) == (advice is not None)
    assert (advice or "") in text


@pytest.mark.parametrize("status", ["400 Bad", "500 Failed"])
def test_a_server_without_our_template_is_named_where_it_fails(status: str) -> None:
    """Other templates drop or misplace an image in the assistant's turn: vLLM then answers 500, llama.cpp 400."""
    frame = Frame(Image.new("RGB", (8, 6)), 1.0)
    looked = Trace("1", "clip.mp4", "What colour?", (), ("blue", "red"), steps=[Retrieve("x"), Observation((frame,))])
    with raw_server(whole(b"no", status=status)) as server:
        text = refused(settings(server, rendering="same_turn"), trace=looked)
        assert "--rendering user_turn" in text
        assert "--rendering" not in refused(settings(server, rendering="same_turn"))
        assert "--rendering" not in refused(settings(server), trace=looked)


# What does not end by itself

ENDLESS: dict[str, Callable[[RawServer], Script]] = {
    "a token now and then": lambda server: server.forever(event(delta("a ")), pause_seconds=0.02),
    "bytes of one line": lambda server: server.forever(b"x", head=STREAM_HEAD + b"data: ", pause_seconds=0.02),
    "comments": lambda server: server.forever(b": keep-alive\n\n", pause_seconds=0.02),
    "usage": lambda server: server.forever(event({"choices": [], "usage": {"prompt_tokens": 1}}), pause_seconds=0.02),
    "nothing after the head": lambda server: server.silent(),
    "nothing at all": lambda server: server.silent(b""),
    "a header": lambda server: server.forever(b"x", head=b"HTTP/1.1 200 OK\r\nX: ", pause_seconds=0.02),
    "a chunk's length": lambda server: server.forever(b"x", head=CHUNKED + b"5;", pause_seconds=0.02),
    "early hints": lambda server: server.forever(b"HTTP/1.1 103 Early Hints\r\n\r\n", head=b"", pause_seconds=0.02),
    "an error's body": lambda server: server.forever(b"x", head=b"HTTP/1.1 400 Bad\r\n\r\n", pause_seconds=0.02),
    "a redirect's body": lambda server: server.forever(
        b"x", head=b"HTTP/1.1 307 Moved\r\nLocation: /v1/there\r\nContent-Length: 9999\r\n\r\n", pause_seconds=0.02
    ),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_an_answer_has_a_deadline(kind: str) -> None:
    with raw_server() as server:
        server.scripts = [ENDLESS[kind](server)]
        text = refused(settings(server, answer_seconds=0.4, retries=3))
    if kind == "an error's body":
        assert "refused the request (400): xx" in text  # its beginning counts
    else:
        assert text == f"{server.base_url} did not finish its answer within 0.4 s; allow it more with --answer-seconds"


def test_the_deadline_is_of_all_tries_together() -> None:
    with raw_server(whole(b"", status="503 Busy", more={"Retry-After": "0.2"})) as server:
        text = refused(settings(server, answer_seconds=0.7, retries=1000), time.sleep)
    assert "asks for a pause of 0.2 s (503)" in text or "did not finish its answer within 0.7 s" in text
    assert 1 < len(server.paths) < 10


def test_a_finished_answer_is_not_waited_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TAIL_SECONDS", 0.1)
    with raw_server() as server:
        for head in (STREAM_HEAD + event(delta("ab", "stop")), STREAM_HEAD + event(delta("<answer> B </answer>"))):
            server.scripts = [server.forever(b": keep-alive\n", head=head, pause_seconds=0.02)]
            assert ask(settings(server)).text in ("ab", "<answer> B </answer>")


@pytest.mark.parametrize("endless", [b": keep-alive\n", b"x", event({"choices": []})])
def test_an_answer_has_a_length(monkeypatch: pytest.MonkeyPatch, endless: bytes) -> None:
    monkeypatch.setattr(stream, "MAX_BYTES", 200_000)
    monkeypatch.setattr(stream, "MAX_EVENT_BYTES", 100_000)
    with raw_server() as server:
        server.scripts = [server.forever(endless * 1000, head=STREAM_HEAD + b"data: " * (endless == b"x"))]
        assert "bytes; see the server's log, or try again" in refused(settings(server))


def test_a_server_that_keeps_no_token_limit_is_cut_and_hung_up_on() -> None:
    hung_up_on = threading.Event()

    def script(write: Write) -> None:
        try:
            server.forever(event(delta("so on and ")) * 100)(write)
        except OSError:
            hung_up_on.set()

    with raw_server(script) as server:
        found = ask(settings(server, max_tokens=5))
        assert (found.text, found.stopped) == ("so on and " * 20, "length")
        assert hung_up_on.wait(10)
        found = ask(settings(server, answer_characters=15))
        assert (found.text, found.stopped) == ("so on and so on", "length")


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf"), 1e300])
def test_times_that_are_none(value: float) -> None:
    for name in ("answer_seconds", "timeout_seconds"):
        with pytest.raises(ConfigError, match=r"it must be above 0 and at most 10,000,000"):
            OpenAIBackend(OpenAISettings("m", "http://h/v1", **{name: value}))  # type: ignore[arg-type]


# Errors


@pytest.mark.parametrize(
    "script",
    [
        whole(b"x" * 40_000_000, status="400 Bad"),
        whole(b"xxxx", status="400 Bad", more={"Content-Length": "1000000000"}),
        lambda write: write(b"HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nxxxx\r\nno length\r\n"),
        lambda write: write(b"HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nxxxx\r\n"),
    ],
)
def test_the_beginning_of_an_errors_body_is_enough(script: Script) -> None:
    with raw_server(script) as server:
        assert "refused the request (400): xxxx" in refused(settings(server))


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 30_000,
        b'{"error": ' * 3000,
        b'{"error": {"message": ' + b"[" * 900 + b"]" * 900 + b"}}",
        b"\xff\xfe",
        b"null",
        b'{"error": {"message": 5}}',
        b"",
    ],
)
def test_an_odd_body_of_an_error(body: bytes) -> None:
    with raw_server(whole(body, status="400 Bad", kind="application/json")) as server:
        assert "refused the request (400): " in refused(settings(server))


def test_a_compressed_error_is_not_unpacked() -> None:
    body = gzip.compress(b"y" * 1_000_000)
    with raw_server(whole(body, status="400 Bad", more={"Content-Encoding": "gzip"})) as server:
        text = refused(settings(server))
        assert "(400)" in text
        assert "yyy" not in text
        assert server.headers[0]["accept-encoding"] == "identity"


def test_a_compressed_stream_is_bounded_by_what_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    with raw_server(whole(gzip.compress(ANSWER), more={"Content-Encoding": "gzip"})) as server:
        assert ask(settings(server)).text == "<answer> B </answer>"
    monkeypatch.setattr(stream, "MAX_BYTES", 200_000)
    with raw_server(whole(gzip.compress(b"data: x\n" * 1_000_000), more={"Content-Encoding": "gzip"})) as server:
        assert "the response has more than 200,000 bytes" in refused(settings(server))
    with raw_server(whole(b"no gzip", more={"Content-Encoding": "gzip"})) as server:
        assert "broke off" in refused(settings(server))


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_tries_are_counted(retries: int) -> None:
    tries = f"{retries + 1} {'tries' if retries else 'try'}"
    with raw_server(whole(b"full", status="503 Busy")) as server:
        assert refused(settings(server, retries=retries)) == f"{server.base_url} failed after {tries} (503): full; try again later"
        assert len(server.paths) == retries + 1
        server.scripts = [whole(b"")]
        assert f"the answer of {server.base_url} broke off after {tries}: it ended without a finish reason" in refused(
            settings(server, retries=retries)
        )
        assert len(server.paths) == 2 * (retries + 1)
    assert f"no answer from {server.base_url} after {tries}: " in refused(settings(server, retries=retries))


@pytest.mark.parametrize(("header", "retries"), [("3600", 3), ("3600", 0), ("3600.0", 3), ("1e9", 3), ("a date", 3)])
def test_a_pause_beyond_our_patience_is_told_and_not_slept(header: str, retries: int) -> None:
    value = email.utils.formatdate(time.time() + 3600.9, usegmt=True) if header == "a date" else header
    slept: list[float] = []
    with raw_server(whole(b"slow down", status="429 Too Many", more={"Retry-After": value})) as server:
        text = refused(settings(server, retries=retries), slept.append)
    seconds = {"1e9": "1,000,000,000", "a date": r"3,(?:59\d|60\d)"}.get(header, "3,600")  # a date goes by the clock, in whole seconds
    said = rf"asks for a pause of {seconds} s \(429\): slow down; the maximum is 120 s: try again later"
    assert re.fullmatch(rf"{re.escape(server.base_url)} {said}", text)
    assert (len(server.paths), slept) == (1, [])


@pytest.mark.parametrize(("header", "value", "expected"), [("Retry-After", "7", 7.0), ("Retry-After-Ms", "250", 0.25), ("Retry-After", "0", 0.0)])
def test_a_pause_that_is_asked_for_is_made(header: str, value: str, expected: float) -> None:
    slept: list[float] = []
    with raw_server(whole(b"", status="429 Too Many", more={header: value}), whole(ANSWER)) as server:
        assert ask(settings(server, retries=1), slept.append).text == "<answer> B </answer>"
    assert slept == [expected]


@pytest.mark.parametrize("value", ["soon", "-5", "nan", "inf", "Mon, 99 Foo 2999", "", "9" * 400])
def test_a_pause_that_cannot_be_read_is_our_own(value: str) -> None:
    slept: list[float] = []
    with raw_server(whole(b"", status="429 Too Many", more={"Retry-After": value}), whole(ANSWER)) as server:
        ask(settings(server, retries=1), slept.append)
    assert [0.3 < seconds <= 0.5 for seconds in slept] == [True]


@pytest.mark.parametrize("code", [408, 429, "500", 503])
def test_an_error_within_a_stream_is_tried_again_by_its_code(code: object) -> None:
    with raw_server(whole(event({"error": {"message": "cache", "code": code}})), whole(ANSWER)) as server:
        assert ask(settings(server, retries=1)).text == "<answer> B </answer>"
        server.scripts = [whole(event({"error": {"message": "cache", "code": code}}))]
        assert refused(settings(server, retries=1)).endswith(f"failed after 2 tries ({code}): cache; try again later")


@pytest.mark.parametrize(
    ("code", "said"), [(400, "refused the request (400): no"), (None, "reported an error: no"), (401, "refused the key (401): set OPENAI_API_KEY")]
)
def test_another_error_within_a_stream_is_not(code: object, said: str) -> None:
    with raw_server(whole(event({"error": {"message": "no", "code": code}}))) as server:
        assert said in refused(settings(server, retries=3))
        assert len(server.paths) == 1


def test_an_error_after_the_end_of_an_answer_does_not_matter() -> None:
    with raw_server(whole(event(delta("ab", "stop")) + event({"error": {"code": 500}}))) as server:
        assert ask(settings(server)).text == "ab"


# Redirects


@pytest.mark.parametrize(
    ("location", "where"),
    [
        ("http://localhost:{port}/v1/chat/completions", "localhost"),
        ("http://127.0.0.1:1/v1", "127.0.0.1"),
        ("https://127.0.0.1:{port}/v1", "127.0.0.1"),
        ("//example.invalid/v1", "example.invalid"),
        ("file:///etc/passwd", "an address that cannot be read"),
        ("http://[::1", "an address that cannot be read"),
        ("http://" + "x" * 5000, "x" * 299),
    ],
)
def test_a_redirect_to_another_server_is_refused(location: str, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with raw_server() as server:
        server.scripts = [whole(b"", status="307 Temporary Redirect", more={"Location": location.format(port=server.port)}), whole(ANSWER)]
        assert f"redirects (307) to {where}" in refused(settings(server, retries=3))
        assert len(server.paths) == 1


def test_a_redirect_on_the_same_server_is_followed_to_an_end() -> None:
    with raw_server(whole(b"x" * 1_000_000, status="308 Moved", more={"Location": "/v2/chat"}), whole(ANSWER)) as server:
        assert ask(settings(server)).text == "<answer> B </answer>"
        assert server.paths == ["/v1/chat/completions", "/v2/chat"]
        server.scripts = [whole(b"", status="308 Moved", more={"Location": "/v2/chat"})]
        assert "redirects" in refused(settings(server))


# Streams that are none


@pytest.mark.parametrize(
    "script",
    [
        whole(b"<html>It works!</html>", kind="text/html"),
        whole(b"hello", kind="text/plain"),
        whole(b"[1]", kind="application/json"),
        whole(b""),
        whole(b"data: [DONE]\n\n"),
        whole(event(delta("", "abort"))),
        whole(event([1])),
        whole(event(delta(5))),
        whole(b"data: " + b"[" * 100_000 + b"\n\n"),
        whole(ANSWER[:30], more={"Content-Length": "500"}),
        lambda write: write(CHUNKED + b"5\r\ndata:\r\nzz\r\n"),
        lambda write: write(CHUNKED + b"-5\r\ndata:"),
        lambda write: write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\ndata:"),
        lambda write: write(b"HTTP/9.9 999\r\n\r\n"),
        lambda write: write(b"SSH-2.0-OpenSSH\r\n"),
        lambda write: write(b"\x15\x03\x01\x00\x02\x02\x16"),
        lambda write: write(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 500_000 + b"\r\n\r\n"),
        lambda write: write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"),
        lambda write: write(b"HTTP/1.1 204 None\r\n\r\n"),
    ],
)
def test_what_is_no_stream_is_one_line_after_bounded_tries(script: Script) -> None:
    with raw_server(script) as server:
        text = refused(settings(server, retries=1))
        assert (
            re.match(f"(the answer of )?(no answer from )?{re.escape(server.base_url)} ?(broke off|failed)? after 2 tries", text) or "(101)" in text
        )
        assert len(server.paths) in (1, 2)


def test_a_server_that_does_not_stream_is_read() -> None:
    choice = b'{"message": {"content": "<answer> B </answer>"}, "finish_reason": "stop"}'
    body = b'{"choices": [' + choice + b'], "usage": {"prompt_tokens": 3, "completion_tokens": -1}}'
    with raw_server(whole(body, kind="application/json")) as server:
        found = ask(settings(server))
        assert (found.text, found.stopped, found.cost.tokens_in, found.cost.tokens_out) == ("<answer> B </answer>", "tag", 3, 0)


def test_a_judge_behind_such_a_server_is_a_judges_error() -> None:
    with raw_server(whole(event(delta(5)))) as server, pytest.raises(JudgeError, match="judge error in compare: the answer of http") as raised:
        Judge(OpenAIBackend(settings(server))).compare("q", "x", "y")
    assert str(raised.value).isprintable()


# Surroundings


@pytest.mark.parametrize(("name", "value"), [("HTTP_PROXY", "nonsense://x"), ("OPENAI_CUSTOM_HEADERS", "a\x00: b")])
def test_surroundings_that_cannot_be_used(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value.replace("\x00", "\x01"))
    with raw_server(whole(ANSWER)) as server, pytest.raises((ConfigError, BackendError)) as raised:
        ask(settings(server))
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("changes", [{"temperature": float("inf")}, {"model": "\ud800"}])
def test_what_json_cannot_hold_is_not_sent(changes: dict[str, Any]) -> None:
    with raw_server(whole(ANSWER)) as server:
        assert "cannot be sent: " in refused(settings(server, **changes))
        assert server.paths == []


def test_a_tls_handshake_has_the_same_deadline() -> None:
    with dripping_handshake() as port:
        url = f"https://127.0.0.1:{port}/v1"
        assert "did not finish its answer within 0.4 s" in refused(OpenAISettings("m", url, answer_seconds=0.4, timeout_seconds=5))
