"""What is common to all attacks: an item, the command line run on it, what must hold whatever the input is, and workers that may die."""

import faulthandler
import importlib.metadata
import io
import multiprocessing
import os
import platform
import queue
import re
import resource
import subprocess
import sys
import tempfile
import traceback
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from act2see.cli import main

MAX_BYTES = 6 << 30
"""Memory of one worker: an input that asks for more fails there, not on the machine."""
_START_SECONDS = 120.0
_COMPLAINT = re.compile(r"act2see: (?!note: )")


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that is tried: `attack` gets an empty folder, which is the working directory, and tells what was wrong, in lines."""

    name: str
    attack: Callable[[Path], list[str]]
    limit_seconds: float = 120.0
    """After this the worker is ended and the item is wrong: nothing may hang."""
    inputs: int = 1
    """So many inputs are tried in it."""


Kinds = Mapping[str, Callable[[int], Sequence[Item]]]
"""From a seed to the items, by the kind's name. Called in every worker, so it must give the same items each time."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of an item."""

    kind: str
    item: Item
    wrong: Sequence[str]


# The command line, and what holds for every input


@dataclass(frozen=True, slots=True)
class Ended:
    """What one run of the command line left; `raised` is the traceback of what `main` let through."""

    code: int | None
    out: str
    err: str
    raised: str = ""


def act2see(*arguments: str | Path) -> Ended:
    """Run `act2see.cli.main` in this process, with what it and the libraries under it write to the two streams."""
    code, raised = None, ""
    with _captured() as written:
        try:
            code = main([str(argument) for argument in arguments])
        except BaseException:  # noqa: BLE001 - whatever comes out of there is the finding
            raised = traceback.format_exc()
    out, err = written
    return Ended(code, out, err, raised)


def act2see_process(*arguments: str | Path, limit_seconds: float = 110.0) -> Ended:
    """The same in a process of its own."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    command = [sys.executable, "-m", "act2see", *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, check=False, timeout=limit_seconds, stdin=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": path}
    )
    return Ended(done.returncode, done.stdout.decode("utf-8", "backslashreplace"), done.stderr.decode("utf-8", "backslashreplace"))


@contextmanager
def _captured() -> Iterator[list[str]]:
    """Everything that is written to the streams, by Python or below it, in the list at the end."""
    written: list[str] = []
    old, saved = (sys.stdout, sys.stderr), (os.dup(1), os.dup(2))
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            for number, file in ((1, out), (2, err)):
                os.dup2(file.fileno(), number)
            sys.stdout, sys.stderr = (
                io.TextIOWrapper(io.FileIO(number, "w", closefd=False), encoding="utf-8", errors="surrogatepass", write_through=True)
                for number in (1, 2)
            )
            yield written
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            (sys.stdout, sys.stderr) = old
            for number, descriptor in enumerate(saved, start=1):
                os.dup2(descriptor, number)
                os.close(descriptor)
            for file in (out, err):
                file.seek(0)
                written.append(file.read().decode("utf-8", "backslashreplace"))


def faults(ended: Ended, codes: Sequence[int], said: str | None = None, *, steps: bool = False) -> list[str]:
    """What of a run breaks the rules that hold for every input, or ended in none of `codes`, or did not say `said` (a pattern) on stderr.

    `steps`: reasoning is shown on stderr too, so other lines than act2see's own may stand there.
    """
    found = []
    if ended.raised:
        return [f"a traceback: {ended.raised.strip().splitlines()[-1]} ({_place(ended.raised)})"]
    if ended.code not in codes:
        found.append(f"exit code {ended.code} where {' or '.join(map(str, codes))} is right: {_end(ended.err)}")
    complaints = [line for line in ended.err.splitlines() if _COMPLAINT.match(line)]
    if ended.code == 1 and len(complaints) != 1:
        found.append(f"{len(complaints)} error lines where one is right: {_end(ended.err)}")
    if not steps and any(not line.startswith("act2see: ") for line in ended.err.splitlines()):
        found.append(f"a line on stderr that is not act2see's: {_end(ended.err)}")
    for name, text in (("stdout", ended.out), ("stderr", ended.err)):
        if "Traceback (most recent call last)" in text or "internal error" in text:
            found.append(f"an internal error on {name}: {_end(text)}")
        if steering := {letter for letter in text if unicodedata.category(letter) in ("Cc", "Cs") and letter not in "\n\t"}:
            found.append(f"control characters on {name}: {sorted(steering)!r}")
    if said is not None and not re.search(said, ended.err):
        found.append(f"{said!r} is not said: {_end(ended.err)}")
    return found


def _place(raised: str) -> str:
    """The last place of ours in a traceback."""
    places = re.findall(r'File ".*?/(act2see/[^"]+)", line (\d+)', raised)
    return ":".join(places[-1]) if places else "outside act2see"


def _end(text: str) -> str:
    return repr(text.strip()[-400:])


# Workers


def run_all(kinds: Kinds, wanted: Mapping[str, Sequence[Item]], seed: int, workers: int) -> Iterator[Result]:
    """Try all items, as they end. One that hangs or ends its process is told as wrong, and the others go on."""
    free: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
    hired = [_Worker(kinds, seed) for _ in range(workers)]
    for worker in hired:
        free.put(worker)

    def attempt(kind: str, item: Item) -> Result:
        worker = free.get()
        try:
            return Result(kind, item, worker.do(kind, item))
        finally:
            free.put(worker)

    try:
        with ThreadPoolExecutor(workers) as pool:
            for done in as_completed([pool.submit(attempt, kind, item) for kind, items in wanted.items() for item in items]):
                yield done.result()
    finally:
        for worker in hired:
            worker.end()


class _Worker:
    """A process that tries one item after another, and its replacement once it is lost."""

    def __init__(self, kinds: Kinds, seed: int) -> None:
        self._kinds, self._seed = kinds, seed
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._where = tempfile.NamedTemporaryFile("r", prefix="act2see-attack-", suffix=".txt")  # noqa: SIM115 - `end` closes it
        self._process = context.Process(target=_serve, args=(theirs, self._kinds, self._seed, self._where.name), daemon=True)
        self._process.start()
        theirs.close()
        self._is_ready = False

    def do(self, kind: str, item: Item) -> list[str]:
        """What was wrong with the item."""
        try:
            if not self._is_ready and not self._pipe.poll(_START_SECONDS):
                raise SystemExit("a worker does not start")
            self._is_ready = self._is_ready or self._pipe.recv()
            self._pipe.send((kind, item.name))
            if self._pipe.poll(item.limit_seconds):
                wrong: list[str] = self._pipe.recv()
                return wrong
            places = re.findall(r'File ".*?/((?:act2see|attacking)/[^"]+)", line (\d+)', self._where.read())
            fault = f"a hang: no end within {item.limit_seconds:g} s, at {' < '.join(':'.join(place) for place in places[:3])}"
        except (EOFError, ConnectionError):
            self._process.join()
            fault = f"the process died with exit code {self._process.exitcode}"
        self.end()
        self._start()
        return [fault]

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()
        self._pipe.close()
        self._where.close()


def _serve(pipe: Connection, kinds: Kinds, seed: int, where: str) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (MAX_BYTES, MAX_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.environ["SVT_LOG"] = "1"  # SVT-AV1 tells its settings otherwise
    items: dict[str, dict[str, Item]] = {}
    pipe.send(True)
    while True:
        try:
            kind, name = pipe.recv()
        except EOFError:
            return
        if kind not in items:
            items[kind] = {item.name: item for item in kinds[kind](seed)}
        item = items[kind][name]
        with open(where, "w", encoding="utf-8") as file:  # so that a hang tells its place
            faulthandler.dump_traceback_later(0.9 * item.limit_seconds, file=file)
            wrong = attempt(item)
            faulthandler.cancel_dump_traceback_later()
        pipe.send(wrong)


def attempt(item: Item) -> list[str]:
    """Try one item here, in a folder of its own with a cache and settings of its own."""
    with tempfile.TemporaryDirectory(prefix="act2see-attack-") as made:
        place = Path(made).resolve()
        (folder := place / "here").mkdir()
        own = {"ACT2SEE_CACHE": str(place / "cache"), "XDG_CONFIG_HOME": str(place / "settings"), "OPENAI_API_KEY": ""}
        with _environment(own), chdir(folder):
            try:
                return item.attack(folder)
            except Exception as error:  # noqa: BLE001 - an attack that fails itself proves nothing, and must not stop the others
                return [f"the attack itself failed: {type(error).__name__}: {error}"[:600]]


@contextmanager
def _environment(own: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(own)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def machine() -> dict[str, Any]:
    """What the table was made with."""
    names = ("act2see", "av", "hypothesis", "httpx2", "numpy", "openai", "pillow", "pyarrow", "torch", "transformers")
    versions = {name: importlib.metadata.version(name) for name in names}
    return {"python": platform.python_version(), "machine": f"{platform.machine()}, {os.cpu_count()} cores", **versions}
