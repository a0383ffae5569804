"""`act2see serve` under load: throughput against one request at a time, p95, lost requests, and memory over many requests.

    python benchmarks/serve.py [--n 200] [--workers 16] [--concurrent 50] [--replicas 2] [--memory 2000] [--json]

The embedded model answers held-out synthetic questions, on one thread: first one client at a time on a server with one worker, then `--concurrent`
clients on one with `--workers`. Both get the same questions; the answers must be equal. Each server is a process of its own. With `--replicas` the
second one is on Ray, its workers shared among so many replicas, and the first one has as many workers and clients. The memory run asks a
scripted model, so that 2,000 requests take a minute and a leak of the server is not hidden by the model's caches; its resident size is compared
between the first tenth of the requests and the end.
"""

import argparse
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

from act2see.benchmarks.synthetic import SyntheticBenchmark
from act2see.core.interfaces import Sample

HERE = Path(__file__).parents[1]
SCRIPTED = ("--backend", "serving_fakes:Slow", "--retriever", "serving_fakes:middle", "--generator", "none", "--model-name", "micro")


@dataclass(frozen=True)
class Load:
    """What a load test found."""

    seconds: float
    """Wall time of all requests."""
    cpu_seconds: float
    """The server's, user and system."""
    latencies: tuple[float, ...]
    answers: tuple[str | None, ...]
    """None for a lost request."""

    @property
    def p95(self) -> float:
        """Seconds within which 95 of 100 requests were answered."""
        return statistics.quantiles(self.latencies, n=20)[-1]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--concurrent", type=int, default=50)
    parser.add_argument("--replicas", type=int, default=0, help="replicas on Ray; 0 for none (needs act2see[ray-serve])")
    parser.add_argument("--memory", type=int, default=2000, help="requests of the memory run; 0 for none")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found: dict[str, object] = {"python": platform.python_version()}
    with tempfile.TemporaryDirectory() as scratch:
        samples = list(SyntheticBenchmark(Path(scratch), given.n, 0).samples())
        if given.n:
            first = (given.workers, given.concurrent) if given.replicas else (1, 1)
            with served(Path(scratch), first[0]) as (process, port):
                one = loaded(process, port, samples, first[1])
            on_ray = ("--ray", "local", "--replicas", str(given.replicas)) if given.replicas else ()
            with served(Path(scratch), given.workers // max(1, given.replicas), *on_ray) as (process, port):
                many = loaded(process, port, samples, given.concurrent)
            found |= compared(one, many)
        if given.memory:
            found |= memory(Path(scratch), samples or list(SyntheticBenchmark(Path(scratch), 8, 0).samples()), given.memory, given.concurrent)
    if given.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name.replace('_', ' '):40}{value}")


def compared(one: Load, many: Load) -> dict[str, object]:
    """The figures of both loads and their ratios."""
    return {
        "requests": len(one.answers),
        "lost": sum(answer is None for answer in (*one.answers, *many.answers)),
        "different_answers": sum(first != second for first, second in zip(one.answers, many.answers, strict=True)),
        "requests_per_second": [round(len(load.answers) / load.seconds, 2) for load in (one, many)],
        "throughput_ratio": round(one.seconds / many.seconds, 2),
        "cpu_seconds_per_request": [round(load.cpu_seconds / len(load.answers), 3) for load in (one, many)],
        "throughput_ratio_by_cpu": round(one.cpu_seconds / many.cpu_seconds, 2),
        "p95_seconds": [round(load.p95, 2) for load in (one, many)],
    }


def memory(folder: Path, samples: Sequence[Sample], count: int, concurrent: int) -> dict[str, object]:
    """Resident memory of a server with a scripted model, early and late."""
    repeated = [samples[number % len(samples)] for number in range(count)]
    with served(folder, 8, *SCRIPTED) as (process, port):
        loaded(process, port, repeated[: count // 10], concurrent)
        early = resident_mib(process.pid)
        load = loaded(process, port, repeated[count // 10 :], concurrent)
        late = resident_mib(process.pid)
    lost = sum(answer is None for answer in load.answers)
    return {"memory_requests": count, "memory_lost": lost, "memory_mib": [round(early, 1), round(late, 1)], "memory_ratio": round(late / early, 3)}


@contextmanager
def served(folder: Path, workers: int, *flags: str) -> "Iterator[tuple[subprocess.Popen[str], int]]":
    """A server process and its port."""
    command = [
        sys.executable,
        "-m",
        "act2see",
        "serve",
        "--port",
        "0",
        "--workers",
        str(workers),
        "--queue",
        "1000",
        "--allow-root",
        str(folder),
        *flags,
    ]
    paths = os.pathsep.join([str(HERE / "src"), str(HERE / "tests" / "fakes")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if ready := re.search(r"serving \S+ on http://127\.0\.0\.1:(\d+)/v1", line):
            break
    else:
        sys.exit("the server did not start")
    threading.Thread(target=process.stderr.read, daemon=True).start()
    try:
        yield process, int(ready[1])
    finally:
        process.send_signal(signal.SIGTERM)
        if process.wait(120):
            sys.exit(f"the server ended with {process.returncode}")


def loaded(process: "subprocess.Popen[str]", port: int, samples: Sequence[Sample], clients: int) -> Load:
    """Ask all questions with so many clients at once."""
    asked = [(json.dumps(body(sample)).encode(), port) for sample in samples]
    began, cpu = time.perf_counter(), cpu_seconds(process.pid)
    with ThreadPoolExecutor(clients) as pool:
        answers = list(pool.map(ask, asked))
    seconds = time.perf_counter() - began
    return Load(seconds, cpu_seconds(process.pid) - cpu, tuple(took for took, _ in answers), tuple(answer for _, answer in answers))


def body(sample: Sample) -> dict[str, object]:
    """A request for a question."""
    parts = [{"type": "video_url", "video_url": {"url": str(sample.video)}}, {"type": "text", "text": sample.question}]
    return {"model": "micro", "messages": [{"role": "user", "content": parts}], "act2see": {"choices": sample.choices, "max_looks": 1}}


def ask(request: tuple[bytes, int]) -> tuple[float, str | None]:
    """Seconds and answer of one request; None if it was lost."""
    content, port = request
    began = time.perf_counter()
    connection = HTTPConnection("127.0.0.1", port, timeout=600)
    try:
        connection.request("POST", "/v1/chat/completions", content, {"Content-Type": "application/json"})
        response = connection.getresponse()
        told = json.loads(response.read())
        answer = str(told["choices"][0]["message"]["content"]) if response.status == 200 else None
    except (OSError, ValueError):
        answer = None
    finally:
        connection.close()
    return time.perf_counter() - began, answer


def cpu_seconds(pid: int) -> float:
    """User and system time so far of a process and of those that it started: with Ray, all of Ray's."""
    every = {int(path.parent.name): fields for path in Path("/proc").glob("[0-9]*/stat") if (fields := fields_of(path))}

    def is_ours(found: int) -> bool:
        return found == pid or (found in every and is_ours(int(every[found][1])))

    return sum(int(fields[11]) + int(fields[12]) for found, fields in every.items() if is_ours(found)) / os.sysconf("SC_CLK_TCK")


def fields_of(path: Path) -> list[str]:
    """What the system says of a process after its name; nothing of one that has just ended."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def resident_mib(pid: int) -> float:
    """Resident memory of a process in MiB."""
    (size,) = re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="ascii"))
    return int(size) / 1024


if __name__ == "__main__":
    main()
