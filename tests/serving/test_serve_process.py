"""The server as a process: told to end, killed, and with the embedded model."""

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from act2see.serving.service import load_service_models
from act2see.serving.workspace import PREFIX
from served import FAKES, as_process, body_of, send_to, started

DEMO = Path(__file__).parents[2] / "src" / "act2see" / "synthetic" / "demo"


@pytest.mark.slow
def test_sigkill_leaves_nothing_locked_and_sigterm_completes_an_answer(tmp_path: Path) -> None:
    with as_process(tmp_path, *FAKES, "--allow-root", DEMO, TMPDIR=str(tmp_path)) as (process, port):
        process.kill()
        process.wait(60)
    (left,) = tmp_path.glob(f"{PREFIX}*")
    os.utime(left, (1, 1))
    with as_process(tmp_path, *FAKES, "--allow-root", DEMO, TMPDIR=str(tmp_path)) as (process, port), ThreadPoolExecutor(1) as pool:
        assert not left.exists()
        asked = pool.submit(send_to, port, "POST", "/v1/chat/completions", body_of("wait", "clip-1.mp4"))
        while b'"running":1' not in send_to(port, "GET", "/health")[1]:
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
