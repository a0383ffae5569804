"""The server on Ray Serve: what its replicas get of a cluster, their counters together, and two of them as a process."""

import os
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from act2see.config import ServeConfig
from act2see.serving.metrics import Metrics, text_of_replicas
from act2see.serving.shares import ReplicaShare, reason_in
from served import FAKES, as_process, body_of, send_to

DEMO = Path(__file__).parents[2] / "src" / "act2see" / "synthetic" / "demo"
OPEN = {"CPU": 8.0, "GPU": 2.0}


@pytest.mark.parametrize(
    ("settings", "has", "is_own", "expected", "lacking"),
    [
        ({"replicas": 2}, {"CPU": 3.0}, True, (2, 1.0, 0.0), []),
        ({"replicas": 3}, {"CPU": 2.0}, True, (3, 0.66, 0.0), []),
        ({}, OPEN, False, (1, 1.0, 0.0), []),
        ({"replicas": 4}, {"CPU": 2.0}, False, (4, 1.0, 0.0), ["2 of 4 CPUs"]),
        ({"replicas": 2, "replica_gpus": 0.5}, OPEN, False, (2, 1.0, 0.5), []),
        ({"replicas": 2, "replica_gpus": 0.5}, {"CPU": 8.0}, False, (2, 1.0, 0.5), ["0 of 1 GPUs"]),
        ({"replicas": 2, "backend": "vllm:DIR", "tensor_parallel": 2}, OPEN, False, (2, 1.0, 2.0), ["2 of 4 GPUs"]),
        ({"replicas": 2, "backend": "vllm:DIR", "tensor_parallel": 2}, {"CPU": 8.0}, False, (2, 1.0, 0.0), []),
    ],
)
def test_replicas_share_the_cluster(
    settings: dict[str, Any], has: Mapping[str, float], is_own: bool, expected: tuple[int, float, float], lacking: list[str]
) -> None:
    share = ReplicaShare.of(ServeConfig(ray="local", **settings), has, is_own=is_own)
    assert (share.replicas, share.cpus, share.gpus) == expected
    assert share.options == {"num_cpus": expected[1], "num_gpus": expected[2]}
    assert share.lacks(has) == lacking


def test_the_reason_is_our_own_error_where_there_is_one() -> None:
    account = "The deployment failed.\nRuntimeError: Traceback:\n  File x\nact2see.core.errors.ConfigError: no backend 'a': allowed are b\n"
    assert reason_in(["Deploying failed.", account]) == "no backend 'a': allowed are b"
    assert reason_in(["Deploying failed.", "it died\n \n"]) == "a replica cannot start: it died"


def test_the_counters_of_all_replicas_are_one_page() -> None:
    first, second = Metrics(lambda: 2, lambda: 0), Metrics(lambda: 0, lambda: 3)
    first.request("/health", 200)
    for _ in range(2):
        second.request("/health", 200)
    text = text_of_replicas({"one": first.families(), "two": second.families()}).decode()
    assert text.count("# TYPE act2see_requests_total counter") == 1
    found = {(sample.name, sample.labels["replica"]): sample.value for family in text_string_to_metric_families(text) for sample in family.samples}
    assert found["act2see_requests_total", "one"] == 1
    assert found["act2see_requests_total", "two"] == 2
    assert found["act2see_questions_running", "one"] == 2
    assert found["act2see_questions_waiting", "two"] == 3


# As a process


@contextmanager
def on_ray(home: Path, *arguments: str | Path) -> "Iterator[tuple[subprocess.Popen[str], int]]":
    """The server and its port. It has time to end its Ray, also when a test fails."""
    with as_process(home, "--ray", "local", *arguments, OMP_NUM_THREADS="1") as (process, port):
        try:
            yield process, port
        finally:
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(30)


def replicas_of(port: int) -> set[str]:
    """Those that count their questions."""
    return set(re.findall(r'act2see_questions_running\{replica="(\w+)"\}', send_to(port, "GET", "/metrics")[1].decode()))


def held_by(port: int) -> list[int]:
    """The questions that each replica answers or that wait there."""
    text = send_to(port, "GET", "/metrics")[1].decode()
    held = Counter[str]()
    for replica, count in re.findall(r'act2see_questions_(?:running|waiting)\{replica="(\w+)"\} (\S+)', text):
        held[replica] += int(float(count))
    return list(held.values())


def processes_of(server: int) -> list[int]:
    """The replicas' processes."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    found = [line.split(None, 2) for line in listed.splitlines()]
    parents = {int(pid): int(parent) for pid, parent, *_ in found}

    def is_below(pid: int) -> bool:
        return pid == server or (pid in parents and is_below(parents[pid]))

    return [int(pid) for pid, _, name in found if name.startswith("ray::ServeReplica:act2see") and is_below(int(pid))]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_replicas_lose_nothing_and_one_that_dies_returns(tmp_path: Path) -> None:
    pytest.importorskip("ray.serve", reason="the extra ray-serve is not installed", exc_type=ImportError)
    with (
        on_ray(tmp_path, *FAKES, "--replicas", "2", "--workers", "2", "--allow-root", DEMO) as (process, port),
        openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0) as client,
        ThreadPoolExecutor(40) as pool,
    ):

        def ask(question: str, video: str = "clip-1.mp4") -> str | None:
            content = [{"type": "video_url", "video_url": {"url": video}}, {"type": "text", "text": question}]
            messages: Any = [{"role": "user", "content": content}]
            made = client.chat.completions.create(model="held", messages=messages, extra_body={"act2see": {"choices": ["red", "blue"]}})
            return made.choices[0].message.content

        assert list(pool.map(ask, ["what?"] * 20)) == ["red"] * 20
        streamed = send_to(port, "POST", "/v1/chat/completions", body_of("what?", "clip-1.mp4", stream=True))
        assert streamed[1].count(b'"reasoning_content"') > 5
        assert streamed[1].endswith(b"data: [DONE]\n\n")

        uploaded = client.files.create(file=DEMO / "clip-1.mp4", purpose="user_data")
        assert list(pool.map(lambda _: ask("what?", uploaded.id), range(12))) == ["red"] * 12  # in whichever replica
        assert client.files.delete(uploaded.id).deleted
        assert {send_to(port, "GET", f"/v1/files/{uploaded.id}")[0] for _ in range(6)} == {404}

        both = replicas_of(port)
        assert len(both) == 2

        def wait() -> int:
            return send_to(port, "POST", "/v1/chat/completions", body_of("wait", "clip-1.mp4"))[0]

        asked = []
        while min(held_by(port)) < 4:  # two turns of each, so that both are busy for some seconds
            asked.append(pool.submit(wait))
        os.kill(processes_of(process.pid)[0], signal.SIGKILL)
        assert {one.result(60) for one in asked} == {200, 500}  # those of the other one are answered
        assert [ask("what?") for _ in range(4)] == ["red"] * 4
        while len(now := replicas_of(port)) < 2:
            time.sleep(0.1)
        assert len(now & both) == 1

        asked = [pool.submit(wait) for _ in range(6)]
        while sum(held_by(port)) + sum(one.done() for one in asked) < len(asked):
            pass
        process.send_signal(signal.SIGTERM)
        assert [one.result(60) for one in asked] == [200] * 6
        assert process.wait(60) == 0
        assert process.stdout is not None
        assert process.stdout.read() == ""
