"""Places, deadlines, clients that leave, and the server's end."""

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

import pytest

from served import Answer, Running, Start, body_of, until


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as found:
        yield found


def waiting(running: Running, pool: ThreadPoolExecutor, count: int = 1) -> "list[Future[Answer]]":
    """Questions that are being answered and wait."""
    asked = [pool.submit(running.ask, "wait") for _ in range(count)]
    for _ in range(count):
        assert running.model.began.acquire(timeout=10)
    return asked


def test_a_full_queue_says_when_to_come_back(start: Start, pool: ThreadPoolExecutor) -> None:
    with start(workers=2, queue=1) as running:
        asked = waiting(running, pool, 2)
        asked.append(pool.submit(running.ask, "Which colour?"))
        until(lambda: running.service.answers.waiting == 1)
        refused = running.ask("Which colour?")
        assert (refused.status, refused.code) == (429, "queue_full")
        assert int(refused.headers["retry-after"]) >= 1
        text = running.send("GET", "/metrics").content.decode()
        assert "act2see_questions_running 2.0" in text
        assert "act2see_questions_waiting 1.0" in text
        running.model.go_on.set()
        assert [one.result(10).status for one in asked] == [200, 200, 200]
        running.settled()
        assert 'act2see_answers_total{finish="answer"} 3.0' in running.send("GET", "/metrics").content.decode()


def test_a_question_beyond_its_deadline_frees_the_model(start: Start) -> None:
    with start(workers=1, deadline_seconds=0.4) as running:
        late = running.ask("wait")
        assert (late.status, late.code) == (504, "deadline")
        assert running.model.closed.acquire(timeout=10)
        assert running.ask("Which colour?").status == 200
        stream = running.ask("wait", stream=True)
        assert (stream.status, stream.content.count(b'"code": "deadline"') + stream.content.count(b'"code":"deadline"')) == (200, 1)
        assert b"[DONE]" not in stream.content
        assert running.model.closed.acquire(timeout=10)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_place(start: Start, stream: bool) -> None:
    with start(workers=1, queue=0) as running:
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)
        connection.request("POST", "/v1/chat/completions", body_of("wait", stream=stream), {"Content-Type": "application/json"})
        assert running.model.began.acquire(timeout=10)
        assert running.ask("Which colour?").status == 429
        connection.close()
        assert running.model.closed.acquire(timeout=10)
        running.settled()
        assert running.ask("Which colour?").status == 200


def test_a_client_that_stops_reading_frees_its_place(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    with start(workers=1, queue=0, write_seconds=0.2) as running, closing(socket.socket()) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the least that the system allows
        connection.connect(("127.0.0.1", running.port))
        body = body_of("flood", stream=True)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        assert running.model.closed.acquire(timeout=10)
        running.settled()
        assert running.ask("Which colour?").status == 200
    assert [record.getMessage() for record in caplog.records if "taken nothing" in record.getMessage()]


def test_a_client_that_reads_slowly_gets_everything(start: Start) -> None:
    with start(workers=1, write_seconds=1) as running, closing(socket.socket()) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        connection.settimeout(10)
        connection.connect(("127.0.0.1", running.port))
        body = body_of("flood", stream=True)
        head = f"POST /v1/chat/completions HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        for _ in range(30):  # longer than the limit, and never fast enough
            assert connection.recv(1 << 16)
            time.sleep(0.05)
        running.model.go_on.set()
        last = b""
        while received := connection.recv(1 << 20):
            last = last[-100:] + received
        assert last.endswith(b"data: [DONE]\n\n")


def test_one_that_leaves_while_it_waits_is_never_asked(start: Start, pool: ThreadPoolExecutor) -> None:
    with start(workers=1, queue=1) as running:
        asked = waiting(running, pool)
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)
        connection.request("POST", "/v1/chat/completions", body_of("wait"), {"Content-Type": "application/json"})
        until(lambda: running.service.answers.waiting == 1)
        connection.close()
        until(lambda: running.service.answers.waiting == 0)
        running.model.go_on.set()
        assert asked[0].result(10).status == 200
        assert not running.model.began.acquire(blocking=False)


def test_the_end_finishes_what_was_accepted_and_refuses_what_comes(start: Start, pool: ThreadPoolExecutor) -> None:
    with start(workers=1) as running:
        asked = waiting(running, pool)
        asked.append(pool.submit(running.ask, "Which colour?"))
        until(lambda: running.service.answers.waiting == 1)
        running.server.end()
        refused = running.ask("Which colour?")
        assert (refused.status, refused.code) == (503, "shutting_down")
        assert running.send("GET", "/health").status == 503
        running.model.go_on.set()
        assert [one.result(10).status for one in asked] == [200, 200]
        until(lambda: not running.server.server_state.connections)
        assert not running.server.was_hastened


def test_a_second_signal_gives_up_what_is_running(start: Start, pool: ThreadPoolExecutor) -> None:
    with start(workers=1) as running:
        asked = waiting(running, pool)
        running.server.end()
        running.server.end()
        assert asked[0].result(10).code == "shutting_down"
        assert running.server.was_hastened


def test_answers_of_many_at_once_are_each_their_own(start: Start) -> None:
    with start(workers=4, queue=20) as running, ThreadPoolExecutor(20) as many:
        found = list(many.map(lambda number: running.ask(f"Which colour? {number}", ("clip.mp4", "more/second.mp4")[number % 2]), range(20)))
        assert {one.status for one in found} == {200}
        assert len({one.json["act2see"]["id"] for one in found}) == 20
        assert [one.json["act2see"]["video"] for one in found] == ["clip.mp4", "more/second.mp4"] * 10


def test_a_head_that_does_not_come_is_not_waited_for(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("act2see.serving.http_server.HEAD_SECONDS", 0.2)
    with start() as running, closing(socket.create_connection(("127.0.0.1", running.port), timeout=10)) as connection:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: ")
        assert connection.recv(100) == b""


def test_a_body_that_nobody_reads_is_not_waited_for(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("act2see.serving.http_server.HEAD_SECONDS", 0.2)
    with start() as running, closing(socket.create_connection(("127.0.0.1", running.port), timeout=10)) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n")
        assert connection.recv(10_000).startswith(b"HTTP/1.1 200")
        connection.sendall(b"x")
        while connection.recv(10_000):
            pass


def test_a_worker_that_waits_for_a_tool_gives_up_with_its_question() -> None:
    from act2see.serving.shared_tools import Turn

    given_up = threading.Event()

    def check() -> None:
        if given_up.is_set():
            raise KeyError

    turn = Turn(check)
    with turn.taken():
        given_up.set()
        with pytest.raises(KeyError), turn.taken():
            pass
    given_up.clear()
    with turn.taken():  # and it is free again
        pass
