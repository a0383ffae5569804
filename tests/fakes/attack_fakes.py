"""Items that are wrong in each way that the attacks' harness must notice, and one that is right."""

import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from attacking.harness import Item, Kinds, act2see, faults


def _killed(folder: Path) -> list[str]:
    os.kill(os.getpid(), signal.SIGKILL)
    return []


def _slow(folder: Path) -> list[str]:
    time.sleep(600)
    return []


def _raises(folder: Path) -> list[str]:
    raise RuntimeError("a fault of the attack")


def _right(folder: Path) -> list[str]:
    return faults(act2see("retrieve", "none.mp4", "x"), (1,), "no such file")


def _not_said(folder: Path) -> list[str]:
    return faults(act2see("retrieve", "none.mp4", "x"), (0,), "what is not said")


def items(seed: int) -> Sequence[Item]:
    """All of them."""
    found = {"killed": _killed, "slow": _slow, "raises": _raises, "right": _right, "not said": _not_said}
    return [Item(name, attack, limit_seconds=60 if name != "slow" else 1) for name, attack in found.items()]


KINDS: Kinds = {"bad": items}
WRONG: Mapping[str, str] = {
    "killed": "the process died with exit code -9",
    "slow": "a hang: no end within 1 s",
    "raises": "the attack itself failed: RuntimeError: a fault of the attack",
    "not said": "exit code 1 where 0 is right",
}
