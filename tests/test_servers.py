"""Which addresses of servers are accepted, and how a server's words and wishes are read."""

import email.utils
import time
from contextlib import suppress

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from act2see.backends.servers import Server, TransientError, check_url, redacted, retry_after, server_message
from act2see.core.errors import BackendError, ConfigError


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        (" http://h/v1", "has a space or a control character in it"),
        ("http://h/v 1", "has a space or a control character in it"),
        ("http://h/\x1b[31m", "has a space or a control character in it"),
        ("http://h\n/v1", "has a space or a control character in it"),
        ("http://h\u200b/v1", "has a space or a control character in it"),
        ("localhost:8000/v1", "does not begin with http:// or https://"),
        ("file:///etc/passwd", "does not begin with http:// or https://"),
        ("http:/h/v1", "does not begin with http:// or https://"),
        ("http://", "names no host"),
        ("http:///v1", "names no host"),
        ("http://:8000/v1", "names no host"),
        ("http://user:secret@h/v1", "has a user or a password in it"),
        ("http://h/v1?key=secret", "has a query or a fragment"),
        ("http://h/v1#secret", "has a query or a fragment"),
        ("http://h:0/v1", "has port 0"),
        ("http://h:65536/v1", "has a port that is no number from 1 to 65535"),
        ("http://h:port/v1", "has a port that is no number from 1 to 65535"),
        ("http://[::1/v1", "has a host that cannot be read"),
        ("http://[secret]/v1", "has a host that cannot be read"),
        ("http://a..b/v1", "has a host that cannot be read"),
        ("http://" + "a" * 64 + ".org/v1", "has a host that cannot be read"),
        ("http://\u2603.net/v1", "has a host that cannot be read"),
        ("http://h\\.evil/v1", "has a host that cannot be read"),
        ("http://%31/v1", "has a host that cannot be read"),
        ("http://h/v1/chat/completions", "ends with /chat/completions, which is added to it: leave that out"),
        ("http://h/v1/chat/completions/", "ends with /chat/completions, which is added to it: leave that out"),
        ("http://h/v1/images/edits", "ends with /images/edits, which is added to it: leave that out"),
        ("http://h/" + "a" * 70_000, "is longer than 2,000 characters"),
    ],
)
def test_an_address_that_cannot_be_used(url: str, fault: str) -> None:
    with pytest.raises(ConfigError) as raised:
        check_url(url, "the base URL")
    assert str(raised.value).startswith(f"the base URL {fault}; it must look like http://127.0.0.1:8000/v1")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "url", ["http://[::1]:8000/v1", "http://[fe80::1%25eth0]/v1", "HTTP://Host_1.example:80", "https://b\u00fccher.example/v1/", "http://h/\u00fc"]
)
def test_an_address_that_can_be_used(url: str) -> None:
    check_url(url, "the base URL")
    with httpx2.Client(base_url=url) as client:
        assert client.base_url.host


@given(st.text(st.characters(exclude_categories=()), max_size=30) | st.from_regex(r"https?://[\[\]@:/\\?#%a\d.-]*", fullmatch=True))
def test_any_address_is_one_that_the_client_takes_or_refused(url: str) -> None:
    with suppress(ConfigError):
        check_url(url, "the base URL")
        httpx2.URL(url).host.encode("idna")  # as the socket does; an error of its own would show here


def test_pauses_that_servers_ask_for() -> None:
    asked = {"7": 7.0, " 0.5 ": 0.5, "0": 0.0, "-1": None, "nan": None, "inf": None, "soon": None, "": None, "1e400": None}
    assert {value: retry_after({"retry-after": value}) for value in asked} == asked
    assert retry_after({}) is None
    assert retry_after({"retry-after-ms": "250", "retry-after": "9"}) == 0.25
    assert retry_after({"retry-after-ms": "soon", "retry-after": "9"}) == 9.0
    assert retry_after({"retry-after": email.utils.formatdate(0, usegmt=True)}) == 0.0
    later = retry_after({"retry-after": email.utils.formatdate(time.time() + 100, usegmt=True)})
    assert later is not None
    assert 90 < later <= 100


def test_the_words_of_a_server() -> None:
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    for body, words in (
        ({"error": {"message": "m"}}, "m"),
        ({"error": "m"}, "m"),
        ({"detail": [{"loc": 1}]}, "[{'loc': 1}]"),
        ({"message": ""}, "otherwise"),
        ({"error": None}, "otherwise"),
        ("m", "m"),
        ("", "otherwise"),
        (None, "otherwise"),
        ({"detail": nested}, "otherwise"),
    ):
        assert server_message(body, "otherwise") == words
    while nested:  # deeper than Python can free at once
        nested = nested.pop()  # type: ignore[assignment]


def test_one_line() -> None:
    assert redacted("a\n b\x1b[31m\ud800 sk-1 \u202e", "sk-1") == "a b [31m ***"
    assert len(redacted("x" * 10_000, "")) == 300


def test_a_status_becomes_an_error_or_another_try() -> None:
    server = Server("http://h/v1", "m", "/chat/completions", "--base-url", "sk-1", 5.0)
    for status in (408, 409, 429, 500, 503, 599):
        fault = server.refusal(status, "busy")
        assert isinstance(fault, TransientError)
        assert str(fault.final(1)) == f"http://h/v1 failed after 1 try ({status}): busy; try again later"
        assert str(fault.final(4)) == f"http://h/v1 failed after 4 tries ({status}): busy; try again later"
    told = {
        None: "http://h/v1 reported an error: key ***",
        400: "http://h/v1 refused the request (400): key ***",
        401: "http://h/v1 refused the key (401): check OPENAI_API_KEY",
        403: "http://h/v1 refused the key (403): check OPENAI_API_KEY",
        404: "http://h/v1 has no model 'm' or no /chat/completions (404): key ***; check the model's name and --base-url",
    }
    for code, text in told.items():
        error = server.refusal(code, "key sk-1")
        assert isinstance(error, BackendError)
        assert str(error) == text
