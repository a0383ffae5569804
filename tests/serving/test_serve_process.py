"""The server as a process: told to end, killed, and with the embedded model."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from act2see.serving.service import load_service_models
from act2see.serving.workspace import PREFIX
from served import body_of, started

DEMO = Path(__file__).parents[2] / "src" / "act2see" / "synthetic" / "demo"


@contextmanager
def serving(tmp_path: Path, *arguments: str | Path) -> "Iterator[tuple[subprocess.Popen[str], int]]":
    """The process and its port."""
    fakes = Path(__file__).parents[1] / "fakes"
    paths = os.pathsep.join([str(fakes), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": paths, "XDG_CONFIG_HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "act2see", "serve", "--port", "0", *map(str, arguments)]
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


def send(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with closing(connection):
        connection.request(method, path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()


FAKES = ("--backend", "serving_fakes:Slow", "--retriever", "serving_fakes:middle", "--generator", "none", "--model-name", "held")


@pytest.mark.slow
def test_sigkill_leaves_nothing_locked_and_sigterm_completes_an_answer(tmp_path: Path) -> None:
    with serving(tmp_path, *FAKES, "--allow-root", DEMO) as (process, port):
        process.kill()
        process.wait(60)
    (left,) = tmp_path.glob(f"{PREFIX}*")
    os.utime(left, (1, 1))
    with serving(tmp_path, *FAKES, "--allow-root", DEMO) as (process, port), ThreadPoolExecutor(1) as pool:
        assert not left.exists()
        asked = pool.submit(send, port, "POST", "/v1/chat/completions", body_of("wait", "clip-1.mp4"))
        while b'"running":1' not in send(port, "GET", "/health")[1]:
            pass
        process.send_signal(signal.SIGTERM)
        status, content = asked.result(60)
        assert (status, json.loads(content)["choices"][0]["message"]["content"]) == (200, "red")
        assert process.wait(60) == 0
        assert process.stdout is not None
        assert process.stdout.read() == ""
    assert list(tmp_path.glob(f"{PREFIX}*")) == []


@pytest.mark.slow
def test_the_embedded_model_answers_several_at_once() -> None:
    questions = json.loads((DEMO / "questions.json").read_text(encoding="utf-8"))[:3]

    def answer(one: dict[str, object]) -> str | None:
        content = [{"type": "video_url", "video_url": {"url": one["video"]}}, {"type": "text", "text": one["question"]}]
        messages: Any = [{"role": "user", "content": content}]
        made = client.chat.completions.create(model="micro", messages=messages, extra_body={"act2see": {"choices": one["choices"]}})
        return made.choices[0].message.content

    with (
        started(DEMO, workers=3, load=load_service_models, model_name="micro", generator="none") as running,
        openai.OpenAI(base_url=running.url, api_key="none", max_retries=0) as client,
        ThreadPoolExecutor(3) as pool,
    ):
        assert list(pool.map(answer, questions)) == [one["answer"] for one in questions]
        with pytest.raises(openai.BadRequestError, match="does not support open questions"):
            answer({**questions[0], "choices": []})
        streamed = running.ask(questions[0]["question"], questions[0]["video"], stream=True, model="micro", act2see={"choices": ["ring", "cross"]})
        assert streamed.content.count(b'"reasoning_content"') > 5  # also in a batch the text comes while it is decoded
