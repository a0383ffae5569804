"""What `--workers N` saves with the embedded model: CPU seconds (user + system), peak memory and decoded tokens a CPU second, one thread.

    python benchmarks/batching.py [--n 300] [--workers 16] [--against DIR] [--json]

`act2see eval synthetic` runs once with one worker, in this checkout or in DIR, and once with N workers here, each as a process of its own, start
included; scores.jsonl must be the same bytes. Then the decoding stage alone: the first continuation of 2 N questions, one after the other and N at
once, less the same calls with one token each (the prefill).
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch

from act2see import registry
from act2see.backends.huggingface import HuggingFaceBackend
from act2see.config import EvalConfig
from act2see.core.decoding import result_of
from act2see.core.engine import new_trace
from act2see.core.interfaces import Backend, batched
from act2see.core.trace import Trace
from act2see.video import Video

HERE = Path(__file__).parents[1]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=300)
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--against", type=Path, default=HERE, help="the checkout that runs with one worker")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "run"  # the same for both: scores name the videos by their paths
        cpu_one, memory_one, scores_one = evaluated(given.against.absolute(), out, given.n, 1)
        cpu_many, memory_many, scores_many = evaluated(HERE, out, given.n, given.workers)
        if scores_one != scores_many:
            sys.exit("the scores differ")
        rates = [round(rate, 1) for rate in decoded(Path(scratch) / "videos", given.workers)]
    found = {
        "cpu_seconds": [round(cpu_one, 1), round(cpu_many, 1), round(cpu_many / cpu_one, 2)],
        "peak_mib": [round(memory_one), round(memory_many), round(memory_many / memory_one, 2)],
        "tokens_per_cpu_second": [*rates, round(rates[1] / rates[0], 2)],
    }
    if given.json:
        print(json.dumps({"n": given.n, "workers": given.workers, "python": platform.python_version(), "torch": torch.__version__, **found}))
        return
    print(f"{'':24}{'1 worker':>12}{given.workers:>10} workers{'ratio':>8}")
    for name, (one, many, ratio) in found.items():
        print(f"{name.replace('_', ' '):24}{one:12}{many:18}{ratio:8}")


def evaluated(checkout: Path, out: Path, n: int, workers: int) -> tuple[float, float, bytes]:
    """CPU seconds, peak memory in MiB, and the scores of an evaluation in a process of its own."""
    command = [sys.executable, "-m", "act2see", "eval", "synthetic", "--n", str(n), "--workers", str(workers), "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(checkout / "src")}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed in {checkout}")
    scores = (out / "scores.jsonl").read_bytes()
    out.rename(out.with_name(f"run-{workers}"))
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, scores


def decoded(folder: Path, rows: int) -> tuple[float, float]:
    """Decoded tokens a CPU second, one conversation after the other and several at once."""
    config = EvalConfig(n=2 * rows)
    backend = registry.backend(config.backend, config)
    if not isinstance(backend, HuggingFaceBackend):
        sys.exit("the embedded model is no HuggingFaceBackend")
    samples = list(registry.benchmark("synthetic", config, folder).samples())
    traces = [new_trace(Video(one.video), one.question, one.choices, fps=1.0, id=one.id, backend=backend) for one in samples]
    settings = backend.settings
    found = []
    for count in (1, rows):
        spent = []
        for limit in (1, settings.max_tokens):
            backend.settings = replace(settings, max_tokens=limit)
            spent.append(asked(batched(backend, count), traces, count))
        (_, prefill), (tokens, whole) = spent
        found.append((tokens - len(traces)) / (whole - prefill))
    return found[0], found[1]


def asked(backend: Backend, traces: Sequence[Trace], threads: int) -> tuple[int, float]:
    """Tokens of the first continuation of each trace, and the CPU seconds that they took."""
    began = time.process_time()
    with ThreadPoolExecutor(threads) as pool:
        ends = list(pool.map(lambda trace: result_of(backend.decode(trace, ("retrieve",))), traces))
    return sum(one.cost.tokens_out for one in ends), time.process_time() - began


if __name__ == "__main__":
    main()
