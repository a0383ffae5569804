"""Models and retrievers that are no models, and the command line as tests run it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from act2see.config import EvalConfig, ModelConfig
from act2see.core.chat import Tool
from act2see.core.errors import BackendError, ToolError
from act2see.core.interfaces import Continuation, Sample
from act2see.core.protocol import STOPS
from act2see.core.trace import Cost, Frame, Trace
from act2see.video import Video


class Scripted:
    """Writes its chunks, one a call."""

    chunks: tuple[str, ...] = ()
    notice: str | None = None

    def __init__(self, config: ModelConfig) -> None:
        self.made_with: Mapping[str, str] = {"backend": "scripted", "looks": str(config.max_looks)}
        self._calls = 0

    def decode(self, trace: Trace, tools: Sequence[Tool]) -> Generator[str, None, Continuation]:
        text = self.chunks[self._calls % len(self.chunks)]
        self._calls += 1
        yield from text
        return Continuation(text, "tag" if text.endswith(STOPS) else "end", Cost(tokens_in=10, tokens_out=len(text), seconds={"decode": 0.5}))


class Direct(Scripted):
    chunks = ("<think>Plain to see.</think><answer> B. red </answer>",)


class Looker(Scripted):
    chunks = ("<think>It is not here.<retrieve> the red star </retrieve>", "Now I see it.</think><answer>B</answer>")


class Watcher(Scripted):
    chunks = (
        "<think>When?<retrieve> 0.2 to 0.9 s </retrieve>",
        "And what is that?<retrieve> zoom 0 0 0.5 0.5 at 0.5 s </retrieve>",
        "And then?<retrieve> at 99 s </retrieve>",
        "So.</think><answer>B</answer>",
    )


class Free(Scripted):
    chunks = ("<answer>a \x1b[31mred\x07 star\nand more</answer>",)


class Silent(Scripted):
    chunks = ("<think>I do not know.</think>",)


class Purple(Scripted):
    chunks = ("<answer>purple</answer>",)


class Stubborn(Scripted):
    chunks = ("<retrieve>x</retrieve>",)


class Narrow(Direct):
    notice = "this model knows only stars"


class Dead(Scripted):
    def decode(self, trace: Trace, tools: Sequence[Tool]) -> Generator[str, None, Continuation]:
        yield from ()
        raise BackendError("no answer from the server\nat localhost: start it")


class Halfway(Scripted):
    """Looks once, then never ends."""

    def decode(self, trace: Trace, tools: Sequence[Tool]) -> Generator[str, None, Continuation]:
        if trace.steps:
            yield "Now I"
            time.sleep(600)
        text = "<think>Look.<retrieve>the star</retrieve>"
        yield text
        return Continuation(text, "tag", Cost())


class Finder:
    name = "finder"

    def __init__(self, config: ModelConfig) -> None:
        pass

    def find(self, video: Video, query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
        frame = video.frame_at(0.5)
        return [Frame(frame.image, frame.seconds, score=0.75)]


class Blind(Finder):
    def find(self, video: Video, query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
        raise ToolError("no frame left to show")


class Bench:
    """Questions about the clip that ACT2SEE_TEST_CLIP names."""

    name = "bench"

    def __init__(self, config: EvalConfig) -> None:
        self._count = config.n or 3

    def samples(self) -> Iterator[Sample]:
        for number in range(self._count):
            yield Sample(f"q{number}", Path(os.environ["ACT2SEE_TEST_CLIP"]), "What colour?", ("blue", "red"), "red", ("even", "odd")[number % 2])

    def is_right(self, sample: Sample, trace: Trace) -> bool | None:
        return None if trace.answer is None else "B" in trace.answer


class Done(NamedTuple):
    """What a run of the command line left."""

    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one line that an error prints; nothing may be on stdout."""
        assert self.code == 1
        assert self.out == ""
        assert self.err.count("\n") == 1
        assert self.err.startswith("act2see: ")
        return self.err


Act2See = Callable[..., Done]
COLOURS = ("--choices", "blue", "red")


def fakes(backend: str, retriever: str = "Finder") -> tuple[str, ...]:
    """The flags that name these fakes."""
    return ("--backend", f"cli_fakes:{backend}", "--retriever", f"cli_fakes:{retriever}")


def start(tmp_path: Path, *arguments: str | Path) -> "subprocess.Popen[str]":
    """The command line in a process of its own."""
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "XDG_CONFIG_HOME": str(tmp_path / "settings")}
    return subprocess.Popen(
        [sys.executable, "-m", "act2see", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        # A test run in the background may ignore SIGINT, and its children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )
