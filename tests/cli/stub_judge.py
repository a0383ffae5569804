"""Judges of open answers that are no models: one that decides by the words alone, and some that never decide. And the embedded model, asked once."""

import hashlib
import re
from collections.abc import Generator, Mapping, Sequence
from typing import ClassVar

from act2see import registry
from act2see.config import ModelConfig
from act2see.core.chat import Tool
from act2see.core.errors import BackendError
from act2see.core.interfaces import Backend, Continuation
from act2see.core.protocol import STOPS
from act2see.core.trace import Cost, Frame, Observation, Trace

_COMPARED = re.compile(r"The right answer: (.*)\n\nThe given answer: (.*)", re.DOTALL)
_FILLERS = {"it", "is", "a"}


def says_the_same(right: str, given: str) -> bool:
    """Whether an answer holds every word of the right one, but for those that say nothing."""
    said, wanted = ({*re.findall(r"[a-z]+", text.lower())} for text in (given, right))
    return wanted - _FILLERS <= said


class WordByWord:
    """Says 1 or 0, as `says_the_same` has it. `prompts` are all that any judge of this class was asked."""

    made_with: Mapping[str, str] = {"backend": "stub", "model": "word-by-word"}
    prompts: ClassVar[list[str]] = []

    def __init__(self, config: ModelConfig) -> None:
        self.prompts.clear()

    def decode(self, trace: Trace, tools: Sequence[Tool]) -> Generator[str, None, Continuation]:
        self.prompts.append(trace.question)
        text = self.reply(trace.question)
        yield text
        return Continuation(text, "tag" if text.endswith(STOPS) else "end", Cost())

    def reply(self, prompt: str) -> str:
        """What it answers."""
        match = _COMPARED.search(prompt)
        if match is None:
            raise BackendError("this judge only compares answers")
        return f"<think>Word by word.</think><answer>{int(says_the_same(*match.groups()))}</answer>"


class Babbler(WordByWord):
    """Writes what is neither 1 nor 0, however often it is asked."""

    prompts: ClassVar[list[str]] = []

    def reply(self, prompt: str) -> str:
        return "Well, who can say? 1, or else 0."


class Caller(WordByWord):
    """Only ever asks to see a frame, though nobody offered it any."""

    prompts: ClassVar[list[str]] = []

    def reply(self, prompt: str) -> str:
        return "<retrieve> the right answer </retrieve>"


class Gone(WordByWord):
    """Cannot be reached."""

    prompts: ClassVar[list[str]] = []

    def reply(self, prompt: str) -> str:
        raise BackendError("no answer from the judge's server")


class Remembered:
    """The embedded model, loaded once: what it has answered before, to the pixel and the word, it answers again without computing.

    Several official files ask the same questions about the same clips.
    """

    _loaded: ClassVar[list[Backend]] = []
    _said: ClassVar[dict[str, Continuation]] = {}

    def __init__(self, config: ModelConfig) -> None:
        if not self._loaded:
            self._loaded.append(registry.backend("micro", config))

    @property
    def made_with(self) -> Mapping[str, str]:
        return self._loaded[0].made_with

    def decode(self, trace: Trace, tools: Sequence[Tool]) -> Generator[str, None, Continuation]:
        key = _digest(trace, tools)
        if key not in self._said:
            self._said[key] = yield from self._loaded[0].decode(trace, tools)
        return self._said[key]


def _digest(trace: Trace, tools: Sequence[Tool]) -> str:
    """Of all that a model is given."""
    found = hashlib.sha256()

    def add(what: object, frames: Sequence[Frame]) -> None:
        found.update(f"{what!r}, {len(frames)} frames\n".encode())
        for frame in frames:
            found.update(f"{frame.seconds}, {frame.image.size}\n".encode() + frame.image.tobytes())

    add((trace.question, trace.choices, tuple(tools)), trace.frames)
    for step in trace.steps:
        add(step.error if isinstance(step, Observation) else step, step.frames if isinstance(step, Observation) else ())
    return found.hexdigest()
