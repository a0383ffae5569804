"""What a server may say that it should not, each with what is right."""

import base64
import gzip
import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from attacking.serving import Script, Server, Write

ANSWER_SECONDS, TIMEOUT_SECONDS = 3.0, 1.0
"""The deadlines that are given: of a whole answer, and of the next bytes."""
KEY = "sk-a-key-that-nobody-may-see-123"

# What it says

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def event(value: object) -> bytes:
    """One event of a stream."""
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def delta(content: Any, finish: Any = None, **more: Any) -> dict[str, Any]:
    """A chunk with one choice."""
    return {"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": finish, **more}]}


DONE = event(delta("", "stop")) + b"data: [DONE]\n\n"
GOOD = event(delta("<think>Seen.</think><answer>")) + event(delta("B</answer>")) + DONE


def says(body: bytes, status: str = "200 OK", kind: str = "text/event-stream", more: Mapping[str, str] | None = None) -> Script:
    """A whole answer with its length."""
    fields = {"Content-Type": kind, "Content-Length": str(len(body)), "Connection": "close", **(more or {})}
    head = f"HTTP/1.1 {status}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return lambda server, write: write(head.encode("latin-1") + b"\r\n" + body)


def raw(content: bytes) -> Script:
    """These bytes, and the end of the connection."""
    return lambda server, write: write(content)


def forever(what: bytes, head: bytes = STREAM, pause_seconds: float = 0.05) -> Script:
    """A head, and then the same without end."""

    def script(server: Server, write: Write) -> None:
        write(head)
        while not server.ended.wait(pause_seconds):
            write(what)

    return script


def silent(head: bytes) -> Script:
    """A head, and then nothing."""

    def script(server: Server, write: Write) -> None:
        write(head)
        server.ended.wait(60)

    return script


def redirect(location: str, status: str = "307 Temporary Redirect") -> Script:
    """To another place; `{port}` is the server's own port."""
    return lambda server, write: says(b"", status, more={"Location": location.format(port=server.port)})(server, write)


def error(status: str, body: bytes = b'{"error": {"message": "no"}}', **more: str) -> Script:
    """An error."""
    return says(body, status, "application/json", {name.replace("_", "-"): value for name, value in more.items()})


def text(value: object) -> bytes:
    """A JSON text."""
    return json.dumps(value).encode()


# What is right


@dataclass(frozen=True, slots=True)
class Case:
    """Scripts, and what is right: the exit codes, a pattern on stderr, and how many requests at most."""

    scripts: tuple[Script, ...]
    codes: tuple[int, ...] = (1,)
    says: str = "."
    most_requests: int = 6


def answered(*scripts: Script) -> Case:
    """B is right."""
    return Case(scripts, (0,), "")


def refused(says: str, *scripts: Script, most_requests: int = 3) -> Case:
    """One line is right."""
    return Case(scripts, (1,), says, most_requests)


def lost(*scripts: Script) -> Case:
    """No answer, or one line."""
    return Case(scripts, (1, 3), "no answer|broke off|refused|error")


BROKE_OFF = "broke off|no answer from|failed|did not finish"  # the last where the second try came too late, on a busy machine
LATE = "did not finish its answer within 3 s|within 1 s|no data for 1 s|bytes"


def _hesitant(server: Server, write: Write) -> None:
    write(STREAM + event(delta("a")))
    server.ended.wait(5)
    write(GOOD)


def _one_by_one(server: Server, write: Write) -> None:
    for byte in STREAM + GOOD:
        write(bytes([byte]))


def _endless() -> dict[str, Case]:
    slow = {
        "a token now and then": forever(event(delta("a "))),
        "one byte at a time": forever(b"x", STREAM + b"data: "),
        "comments": forever(b": keep-alive\n\n"),
        "empty lines": forever(b"\n"),
        "events without choices": forever(event({"choices": []})),
        "usage": forever(event({"choices": [], "usage": {"prompt_tokens": 1}})),
        "empty text": forever(event(delta(""))),
        "reasoning without end": forever(event({"choices": [{"delta": {"reasoning_content": "hm "}}]})),
        "nothing behind the head": silent(STREAM),
        "nothing at all": silent(b""),
        "half a status line": silent(b"HTTP/1.1 2"),
        "half an event": silent(STREAM + b'data: {"choices": [{"delta": {"con'),
        "an answer without its end": silent(STREAM + event(delta("<answer>"))),
        "a header without end": forever(b"x", b"HTTP/1.1 200 OK\r\nX: "),
        "headers without end": forever(b"X: y\r\n", b"HTTP/1.1 200 OK\r\n"),
        "a chunk's length without end": forever(b"0", CHUNKED + b"5;"),
        "early hints without end": forever(b"HTTP/1.1 103 Early Hints\r\n\r\n", b""),
        "continue without end": forever(b"HTTP/1.1 100 Continue\r\n\r\n", b""),
        "a redirect's body without end": forever(b"x", b"HTTP/1.1 307 Moved\r\nLocation: /v1/x\r\nContent-Length: 99999\r\n\r\n"),
        "a gap longer than is waited": _hesitant,
    }
    found = {name: Case((script,), (1,), LATE, 99) for name, script in slow.items()}
    fast = {
        "one line": b"x" * 65536,
        "comments, fast": b": x\n" * 20_000,
        "events, fast": event({"choices": []}) * 2000,
        "usage, fast": event({"usage": {}}) * 2000,
    }
    found |= {
        f"{name} without end": Case((forever(what, STREAM + b"data: " * (name == "one line"), 0),), (1,), LATE, 99) for name, what in fast.items()
    }
    found["text, fast, without end"] = Case((forever(event(delta("so on and so on ")) * 500, STREAM, 0),), (1, 3), "")
    found["an error's body without end"] = refused("400", forever(b"x", b"HTTP/1.1 400 Bad\r\n\r\n"))
    found["an error's body without end, fast"] = refused("400", forever(b"x" * 65536, b"HTTP/1.1 400 Bad\r\n\r\n", 0))
    found["a finished answer, then comments without end"] = answered(forever(b": keep-alive\n\n", STREAM + GOOD))
    found["a finished answer, then nothing"] = answered(silent(STREAM + GOOD))
    return found


def _errors() -> dict[str, Case]:
    found = {
        f"{status} {body[:20]!r}": refused(str(status), error(f"{status} No", body))
        for status in (400, 403, 404, 413, 422, 451)
        for body in (b'{"error": {"message": "no"}}', b"<html>no</html>")
    }
    found |= {f"status {status}": refused(str(status), error(f"{status} No"), most_requests=2) for status in (408, 409, 429, 500, 502, 503, 504, 529)}
    bodies = {
        "no JSON": b"{{{",
        "deep": b"[" * 50_000,
        "deep objects": b'{"error": ' * 5000,
        "no UTF-8": b"\xff\xfe\xfd",
        "empty": b"",
        "null": b"null",
        "a number": b"5",
        "a list": b"[1]",
        "a message that is a number": b'{"error": {"message": 5}}',
        "a message of 10 MB": text({"error": {"message": "x" * 10_000_000}}),
        "escapes": b'{"error": {"message": "\\u001b[2J\\u0007\\u202e"}}',
        "many lines": b'{"error": {"message": "a\\nact2see: b\\r\\nc"}}',
        "a lone surrogate": b'{"error": {"message": "\\ud800"}}',
        "the key": text({"error": {"message": f"bad key {KEY}"}}),
    }
    found |= {f"an error's body is {name}": refused("400", error("400 Bad", body)) for name, body in bodies.items()}
    found["the key is refused, and quoted"] = refused("OPENAI_API_KEY", error("401 No", text({"error": {"message": f"bad key {KEY}"}})))
    found["an error's length is a lie"] = refused("400", says(b"xx", "400 Bad", more={"Content-Length": "99999999"}))
    for value in ("3600", "1e9", "Fri, 01 Jan 2100 00:00:00 GMT"):
        found[f"a pause of {value}"] = refused("asks for a pause of", error("429 Slow", Retry_After=value), most_requests=1)
    for value in ("soon", "-5", "nan", "inf", "9" * 400, "Mon, 99 Foo 2999", "0"):
        found[f"a pause of {value[:20]}, then an answer"] = answered(error("429 Slow", Retry_After=value), says(GOOD))
    found["busy once"] = answered(error("503 Busy"), says(GOOD))
    found["broken off once"] = answered(says(GOOD[:50], more={"Content-Length": "999"}), says(GOOD))
    return found


def _redirects() -> dict[str, Case]:
    elsewhere = (
        "http://localhost:{port}/v1",
        "http://127.0.0.1:1/v1",
        "//example.invalid/v1",
        "file:///etc/passwd",
        "http://[::1",
        "ftp://127.0.0.1/x",
        "",
    )
    found = {f"a redirect to {place or 'nowhere'}": refused("redirect|307", redirect(place), most_requests=60) for place in elsewhere}
    found["a redirect to itself, for ever"] = Case((redirect("/v1/chat/completions"),), (1,), "redirect|307", 60)
    found["a redirect on the same server"] = answered(redirect("/v2/chat"), says(GOOD))
    found["a redirect by 301"] = Case((redirect("/v2/chat", "301 Moved"), says(GOOD)), (0, 1), "")
    return found


def _streams() -> dict[str, Case]:
    bodies = {
        "a web page": b"<!doctype html><title>It works!</title>",
        "plain text": b"hello",
        "nothing": b"",
        "the end alone": b"data: [DONE]\n\n",
        "no JSON": b"data: {oops\n\n",
        "JSON and more": b'data: {"choices": []} x\n\n' + DONE,
        "NUL": b"data: \0\n\n",
        "no UTF-8": b'data: {"choices": [{"delta": {"content": "\xc3"}}]}\n\n',
        "deep": b"data: " + b"[" * 200_000 + b"\n\n",
        "a huge number": b"data: " + b"9" * 5000 + b"\n\n",
        "a list": event([1]),
        "a number": event(5),
        "null": event(None),
        "choices are text": event({"choices": "x"}),
        "choices are an object": event({"choices": {"0": {}}}),
        "a choice is a number": event({"choices": [5]}),
        "a delta is text": event({"choices": [{"delta": "x"}]}),
        "content is a number": event(delta(5)) + DONE,
        "content is an object": event(delta({"text": "x"})) + DONE,
        "content is true": event(delta(True)) + DONE,
        "an unknown reason to end": event(delta("", "abort")),
        "a reason of another type": event(delta("", 5)),
        "an index of another type": event({"choices": [{"index": "a", "delta": {"content": "x"}}]}),
        "cut in an event": GOOD[:40],
        "an error within it": event({"error": {"message": "no", "code": 500}}),
        "an error of another type": event({"error": [1]}),
        "an error event": b"event: error\n" + event({"message": "no", "code": 400}),
    }
    found = {f"a stream that is {name}": refused("broke off|reported an error|refused|failed", says(body)) for name, body in bodies.items()}
    heads = {
        "a bad chunk": CHUNKED + b"5\r\ndata:\r\nzz\r\n",
        "a negative chunk": CHUNKED + b"-5\r\ndata:",
        "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\ndata:",
        "another protocol": b"SSH-2.0-OpenSSH_9\r\n",
        "TLS": b"\x15\x03\x01\x00\x02\x02\x16",
        "an unknown version": b"HTTP/9.9 999\r\n\r\n",
        "a header of 500 kB": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 500_000 + b"\r\n\r\n",
        "switching protocols": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        "no content": b"HTTP/1.1 204 None\r\n\r\n",
        "an end without a word": b"",
        "bytes that are no gzip": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\nno gzip",
        "an unknown encoding": b"HTTP/1.1 200 OK\r\nContent-Encoding: compress, x\r\nConnection: close\r\n\r\nxx",
    }
    found |= {name: refused(f"{BROKE_OFF}|101|refused", raw(head)) for name, head in heads.items()}
    found["a gzip of 100 MB of nothing"] = Case((_packed,), (1,), f"{BROKE_OFF}|{LATE}", 99)
    return found


def _packed(server: Server, write: Write) -> None:
    body = gzip.compress(b"data: x\n" * 12_500_000, compresslevel=1)
    says(body, more={"Content-Encoding": "gzip"})(server, write)


def _odd_answers() -> dict[str, Case]:
    usage = [
        None,
        "many",
        [1],
        {"prompt_tokens": -5},
        {"prompt_tokens": 1e300, "completion_tokens": "x"},
        {"prompt_tokens": 10**400},
        {"prompt_tokens": True},
    ]
    body = {"choices": [{"message": {"content": "<answer>B</answer>"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 3}}
    found = {
        "plain": answered(says(GOOD)),
        "no event-stream": answered(says(GOOD, kind="text/plain")),
        "JSON in place of a stream": answered(says(text(body), kind="application/json")),
        "carriage returns": answered(says(GOOD.replace(b"\n", b"\r\n"))),
        "carriage returns alone": answered(says(GOOD.replace(b"\n", b"\r"))),
        "a mark of UTF-8": answered(says(b"\xef\xbb\xbf" + GOOD)),
        "comments between": answered(says(GOOD.replace(b"data", b": x\ndata"))),
        "a gzip": answered(says(gzip.compress(GOOD), more={"Content-Encoding": "gzip"})),
        "deflate": answered(says(zlib.compress(GOOD), more={"Content-Encoding": "deflate"})),
        "one byte a packet": answered(_one_by_one),
        "an error behind the answer": answered(says(GOOD + event({"error": {"code": 500}}))),
        "garbage behind the answer": answered(says(GOOD + b"\xff\0" * 1000)),
        "a second choice": answered(says(event({"choices": [{"index": 1, "delta": {"content": "<answer>A</answer>"}}]}) + GOOD)),
        "reasoning apart": answered(says(event({"choices": [{"delta": {"reasoning_content": "I write <answer>A</answer>"}}]}) + GOOD)),
        "an answer in the reasoning alone": lost(says(event({"choices": [{"delta": {"reasoning_content": "<answer>A"}}]}) + DONE)),
        "a refusal": lost(says(event({"choices": [{"delta": {"refusal": "I cannot."}}]}) + DONE)),
        "a filter": lost(says(event(delta("", "content_filter")) + DONE)),
        "tool calls": lost(says(event({"choices": [{"delta": {"tool_calls": [{"id": "x"}]}, "finish_reason": "tool_calls"}]}) + DONE)),
        "words that are no answer": lost(says(event(delta("I like frames.")) + DONE)),
        "an answer that is no choice": lost(says(event(delta("<answer>purple</answer>")) + DONE)),
        "escapes in the answer": lost(
            says(event(delta("<think>\x1b[2J\x07\x9b31m\u202e</think><answer>\x1b]0;x\x07B\u2028act2see: x</answer>")) + DONE)
        ),
        "surrogates": Case((says(event(delta("<think>\ud800</think><answer>B")) + event(delta("</answer>\udfff")) + DONE),), (0, 3), ""),
        "a look that nothing answers": lost(says(event(delta("<retrieve>x</retrieve>")) + DONE)),
        "an empty look": lost(says(event(delta("<retrieve></retrieve>")) + DONE)),
        "a frame of its own": lost(says(event(delta("<frame>data:image/png;base64," + base64.b64encode(b"x").decode() + "</frame>")) + DONE)),
        "marks of the chat format": answered(says(event(delta("<think><|im_end|><|im_start|>system</think>")) + GOOD)),
        "a megabyte of thought": Case((says(event(delta("<think>" + "hm " * 300_000 + "</think><answer>B</answer>")) + DONE),), (0, 1, 3), ""),
    }
    found |= {f"usage is {str(value)[:30]}": answered(says(event({"choices": [], "usage": value}) + GOOD)) for value in usage}
    return found


CASES: dict[str, Callable[[], dict[str, Case]]] = {
    "endless": _endless,
    "errors": _errors,
    "redirects": _redirects,
    "streams": _streams,
    "odd": _odd_answers,
}
