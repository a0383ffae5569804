"""A server in a thread or as a process, with a model that does what its question says."""

import http.client
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from act2see.api import Models
from act2see.config import ServeConfig
from act2see.serving.answers import check_current
from act2see.serving.app import Application
from act2see.serving.http_server import Ending, HttpServer, listen
from act2see.serving.service import Service, service
from act2see.serving.shared_tools import shared
from serving_fakes import Copyist, Held, Middle


@dataclass(frozen=True)
class Answer:
    """A response as it came."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def code(self) -> str:
        """The code of an error, which has one line and OpenAI's shape."""
        error = self.json["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert "\n" not in error["message"]
        return str(error["code"])


@dataclass(frozen=True)
class Running:
    """A server and its model."""

    port: int
    service: Service
    model: Held
    server: HttpServer
    root: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def send(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            response = connection.getresponse()
            return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
        finally:
            connection.close()

    def ask(self, question: str, video: str = "clip.mp4", **more: object) -> Answer:
        return self.send("POST", "/v1/chat/completions", body_of(question, video, **more), Content_Type="application/json")

    @property
    def temporary(self) -> list[str]:
        """Files that the server holds."""
        return sorted(path.name for path in self.service.sources.folder.iterdir() if not path.name.startswith("."))

    def settled(self) -> None:
        """Wait until no question has a place."""
        until(lambda: self.service.answers.is_idle)


def body_of(question: str, video: str = "clip.mp4", **more: object) -> bytes:
    parts = [{"type": "video_url", "video_url": {"url": video}}, {"type": "text", "text": question}]
    body = {"model": "held", "messages": [{"role": "user", "content": parts}], "act2see": {"choices": ["red", "blue"]}}
    return json.dumps({**body, **more}).encode()


def until(holds: Callable[[], bool]) -> None:
    for _ in range(1000):
        if holds():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come to that")


Load = Callable[..., tuple[Models, int]]
Start = Callable[..., AbstractContextManager[Running]]


@contextmanager
def started(root: Path, workers: int = 2, load: Load | None = None, **settings: Any) -> Iterator[Running]:
    """Start a server; `settings` are those of `ServeConfig`."""
    model = Held()
    models = shared(Models(model, Middle(), Copyist()), check_current)
    config = replace(ServeConfig(model_name="held", allow_root=(root,), port=0), workers=workers, **settings)
    with listen("127.0.0.1", 0) as listening, service(config, load=load or (lambda *_: (models, workers))) as made:
        answers = made.answers
        server = HttpServer(Application(made).asgi(), Ending(answers.drain, lambda: answers.is_idle, answers.stop_all), config.write_seconds)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            until(lambda: server.started)
            yield Running(listening.getsockname()[1], made, model, server, root)
        finally:
            model.go_on.set()
            server.should_exit = True
            thread.join(10)
            assert not thread.is_alive()


FAKES = ("--backend", "serving_fakes:Slow", "--retriever", "serving_fakes:middle", "--generator", "none", "--model-name", "held")


@contextmanager
def as_process(home: Path, *arguments: str | Path, **environment: str) -> "Iterator[tuple[subprocess.Popen[str], int]]":
    """`act2see serve` as a process, and its port."""
    paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "act2see", "serve", "--port", "0", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": paths, "XDG_CONFIG_HOME": str(home), **environment}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if found := re.search(r"serving \S+ on http://127\.0\.0\.1:(\d+)/v1", line):
                yield process, int(found[1])
                break
    finally:
        process.kill()
        process.communicate()


def send_to(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """The status and the content of a response."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with closing(connection):
        connection.request(method, path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()
