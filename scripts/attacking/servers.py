"""Servers that misbehave, each in its own way, behind `ask --backend openai:m`: the answer, or one line within the deadline."""

import importlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from attacking.answers import ANSWER_SECONDS, CASES, KEY, TIMEOUT_SECONDS, Case
from attacking.clips import Clip
from attacking.harness import Ended, Item, act2see, act2see_process, faults
from attacking.serving import Server, serving

SLACK_SECONDS = 6.0
"""What stands before and behind an answer."""


def items(seed: int) -> list[Item]:
    """All of them; nothing is drawn."""
    del seed
    cases = {f"{group}: {name}": case for group, make in CASES.items() for name, case in make().items()}
    found = [Item(name, _attack(case)) for name, case in cases.items()]
    sample = ("odd: plain", "endless: a token now and then", "streams: a stream that is deep", "odd: escapes in the answer")
    return [*found, *(Item(f"{name}, in a process of its own", _attack(cases[name], process=True), limit_seconds=240) for name in sample)]


def _attack(case: Case, *, process: bool = False) -> Callable[[Path], list[str]]:
    def attack(folder: Path) -> list[str]:
        importlib.import_module("act2see.backends.openai")  # which takes seconds under load, and is not the server's time
        os.environ["OPENAI_API_KEY"] = KEY
        clip = Clip("clip.mp4").write(folder)
        with serving(*case.scripts) as server:
            begun = time.monotonic()
            ended = (act2see_process if process else act2see)(*_question(clip, server.port))
            took = time.monotonic() - begun
        return [*_judged(case, ended, took, process=process), *_requests(case, server)]

    return attack


def _question(clip: Path, port: int) -> tuple[str | Path, ...]:
    server = ("--backend", "openai:m", "--base-url", f"http://127.0.0.1:{port}/v1", "--retries", "1", "--max-tokens", "2000")
    patience = ("--timeout-seconds", f"{TIMEOUT_SECONDS:g}", "--answer-seconds", f"{ANSWER_SECONDS:g}")
    looks = ("--retriever", "attacking.fakes:Colours", "--max-looks", "1", "--choices", "red", "blue")
    return ("ask", clip, "What colour is it?", *server, *patience, *looks)


def _judged(case: Case, ended: Ended, took: float, *, process: bool) -> list[str]:
    wrong = faults(ended, case.codes, case.says, steps=True)
    if ended.code == 0 and ended.out != "B. blue\n":
        wrong.append(f"the answer {ended.out!r} where B is right")
    if ended.code and ended.out:
        wrong.append(f"{ended.out!r} on stdout without an answer")
    if KEY in ended.out + ended.err:
        wrong.append("the key is shown")
    if took > 3 * ANSWER_SECONDS + SLACK_SECONDS + 20 * process:  # a look makes it two answers
        wrong.append(f"{took:.1f} s where {ANSWER_SECONDS:g} s for an answer are allowed")
    return wrong


def _requests(case: Case, server: Server) -> list[str]:
    if len(server.requests) > case.most_requests:
        return [f"{len(server.requests)} requests where {case.most_requests} are right"]
    return []
