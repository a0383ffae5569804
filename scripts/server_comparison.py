"""What the scripts that compare a real server with the local backend share: the same questions of both sides, and every word compared."""

import argparse
import json
import os
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from act2see import registry
from act2see.backends.huggingface import HuggingFaceBackend, HuggingFaceSettings
from act2see.backends.openai import OpenAIBackend
from act2see.benchmarks.synthetic import SyntheticBenchmark
from act2see.config import ModelConfig
from act2see.core import chat
from act2see.core.engine import LoopOptions
from act2see.core.interfaces import Backend
from act2see.evaluation.evaluator import Evaluator, Scored
from act2see.evaluation.frame_controls import RandomFrames
from act2see.execution.pool import imap_unordered

START_SECONDS = 600
"""Importing torch and loading the model takes longest on a machine that has just installed them."""
CONTEXT = 40


@dataclass(frozen=True, slots=True)
class Pair:
    """The two answers to one question, and the two whole texts."""

    id: str
    kind: str
    right: str
    answers: tuple[str | None, str | None]
    texts: tuple[str, str]
    outcomes: tuple[str, str]


def parser(doc: str | None, name: str, questions: int = 20) -> argparse.ArgumentParser:
    """The options that every comparison has; `name` is that of its scratch folder."""
    scratch = Path(tempfile.gettempdir()) / f"act2see-{name}"
    options = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    options.add_argument("model", type=Path, help="a model's folder, with chat_template.jinja in it")
    options.add_argument("--n", type=int, default=questions, help="how many questions of the synthetic world")
    options.add_argument("--seed", type=int, default=0, help="which questions")
    options.add_argument("--env", type=Path, default=scratch / "env", help="the server's virtual environment; made if it is not there")
    options.add_argument("--work", type=Path, default=scratch / "work", help="clips and the server's log")
    options.add_argument("--max-tokens", type=int, default=512, help="tokens of one call")
    options.add_argument("--max-looks", type=int, default=1)
    options.add_argument("--retriever", default="micro", help="as for `act2see ask`, or `random`")
    return options


def parsed(options: argparse.ArgumentParser) -> argparse.Namespace:
    """The command line, with the model's folder checked and the work folder made."""
    given = options.parse_args()
    given.model = given.model.resolve()
    if not (given.model / "chat_template.jinja").is_file():
        options.error(f"{given.model} has no chat_template.jinja: `act2see template` prints one")
    given.work.mkdir(parents=True, exist_ok=True)
    return given


def environment(folder: Path, program: str, requirements: Sequence[str]) -> Path:
    """A program of an environment with these requirements, made if it is not there."""
    path = folder / "bin" / program
    done = folder / "installed"
    if not done.is_file():
        print(f"installing {', '.join(requirements)} into {folder}; this takes a while")
        venv.create(folder, with_pip=True)
        subprocess.run([folder / "bin" / "python", "-m", "pip", "install", "--quiet", *requirements], check=True)
        done.touch()
    return path


def free_port() -> int:
    """A port on 127.0.0.1 that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def serving(command: Sequence[str], port: int, log: Path, environ: Mapping[str, str] | None = None) -> Iterator[str]:
    """The base URL of a server that runs as long as the block. Raises SystemExit with the log's end when it does not come up."""
    with log.open("w", encoding="utf-8") as out:
        # Offline: everything lies in the folder, and nothing else may be looked for.
        server = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=os.environ | {"HF_HUB_OFFLINE": "1"} | dict(environ or {}))
        try:
            until = time.monotonic() + START_SECONDS
            while not healthy(f"http://127.0.0.1:{port}/health"):
                if server.poll() is not None or time.monotonic() > until:
                    raise SystemExit(f"the server did not come up; the end of {log}:\n{log.read_text(encoding='utf-8')[-2000:]}")
                time.sleep(0.5)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()
            server.wait(30)


def healthy(url: str) -> bool:
    """Whether the server answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def ask_both(given: argparse.Namespace, remote: OpenAIBackend, rendering: chat.Rendering) -> list[Pair]:
    """Ask the server and a local backend every question, greedily."""
    return pairs(ask(given, local(given, rendering)), ask(given, remote))


def local(given: argparse.Namespace, rendering: chat.Rendering, adapter: Path | None = None) -> HuggingFaceBackend:
    """The model in this process: greedy, float32, one thread, frames as images."""
    torch.set_num_threads(1)
    settings = HuggingFaceSettings(
        str(given.model),
        None if adapter is None else str(adapter),
        device="cpu",
        dtype="float32",
        rendering=rendering,
        frames_as="images",
        max_tokens=given.max_tokens,
        temperature=0.0,
    )
    return HuggingFaceBackend.load(settings)


def ask(given: argparse.Namespace, backend: Backend, workers: int = 1) -> list[Scored]:
    """The answers of a backend to all questions, in their order, so many at once."""
    retriever = RandomFrames() if given.retriever == "random" else registry.retriever(given.retriever, ModelConfig())
    benchmark = SyntheticBenchmark(given.work / "clips", given.n, given.seed)
    evaluator = Evaluator(benchmark, backend, retriever, loop=LoopOptions(max_looks=given.max_looks))
    samples = list(benchmark.samples())
    found = {scored.sample.id: scored for scored in imap_unordered(samples, evaluator.answer, workers)}
    return [found[sample.id] for sample in samples]


def pairs(here: Sequence[Scored], there: Sequence[Scored]) -> list[Pair]:
    """The answers of two sides to the same questions."""
    return [_pair(one, other) for one, other in zip(here, there, strict=True)]


def _pair(*both: Scored) -> Pair:
    sample = both[0].sample
    one, other = (scored.trace.answer if scored.trace else None for scored in both)
    return Pair(sample.id, sample.kind, sample.answer, (one, other), (text(both[0]), text(both[1])), (both[0].outcome, both[1].outcome))


def text(scored: Scored) -> str:
    """All that was written and seen, as one text; a look stands as its frames' times or its error."""
    whole = ""
    for piece in chat.render(scored.trace.steps) if scored.trace else []:
        whole += piece if isinstance(piece, str) else f"[{piece.error or ', '.join(f'{frame.seconds} s' for frame in piece.frames)}]"
    return whole + (scored.error or "")


def report(pairs: list[Pair], given: argparse.Namespace, server: Sequence[str], **facts: str) -> int:
    """Print everything; 0 if all texts are equal."""
    print(f"{'question':24} {'kind':10} {'right':12} {'here':20} {'over HTTP':20} texts")
    for pair in pairs:
        answers = (answer if answer is not None else f"({outcome})" for answer, outcome in zip(pair.answers, pair.outcomes, strict=True))
        equal = "equal" if pair.texts[0] == pair.texts[1] else "DIFFER"
        print(f"{pair.id:24} {pair.kind:10} {pair.right:12.12} {next(answers):20.20} {next(answers):20.20} {equal}, {len(pair.texts[0])} characters")
        if pair.texts[0] != pair.texts[1]:
            at = next((n for n, (one, other) in enumerate(zip(*pair.texts, strict=False)) if one != other), min(map(len, pair.texts)))
            for where, whole in zip(("here", "over HTTP"), pair.texts, strict=True):
                print(f"    {where:10} …{whole[max(0, at - CONTEXT) : at]!r} then {whole[at : at + CONTEXT]!r}")
    print(json.dumps(summary(pairs, given, server) | facts))
    return 0 if all(pair.texts[0] == pair.texts[1] for pair in pairs) else 1


def summary(pairs: list[Pair], given: argparse.Namespace, server: Sequence[str]) -> dict[str, Any]:
    """The run in one line."""
    return {
        "n": len(pairs),
        "equal_texts": sum(pair.texts[0] == pair.texts[1] for pair in pairs),
        "equal_answers": sum(pair.answers[0] == pair.answers[1] for pair in pairs),
        "correct_here": sum(pair.outcomes[0] == "correct" for pair in pairs),
        "correct_over_http": sum(pair.outcomes[1] == "correct" for pair in pairs),
        "looks": sum("<retrieve>" in pair.texts[0] for pair in pairs),
        "characters": sum(len(pair.texts[0]) for pair in pairs),
        "model": given.model.name,
        "server": list(server),
    }
