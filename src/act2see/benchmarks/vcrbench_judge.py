"""VCR-Bench's judge: any backend that is asked four bounded questions in text about one answer."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from act2see.benchmarks.judge_prompts import OURS, Prompts
from act2see.core import decoding
from act2see.core.errors import BackendError, JudgeError
from act2see.core.interfaces import Backend
from act2see.core.protocol import parse_chunk
from act2see.core.trace import Answer, Generate, Observation, Retrieve, Thought, Trace
from act2see.storage.codec import shown

TRIES = 3
"""So often one question is asked until its reply can be read. The official loop asks for ever; our choice."""
_MAX_DECODES = 4
"""A judge that writes calls, though it is told of no tool, is given up after as many."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Judge:
    """Asks the backend. Readings are kept by what was asked, so that counting again asks nothing twice."""

    backend: Backend
    prompts: Prompts = OURS
    tries: int = TRIES
    _kept: dict[tuple[str, str], str] = field(default_factory=dict, repr=False, compare=False)

    @property
    def name(self) -> str:
        """For a summary: whose word it is, and by whose prompts."""
        return f"{self.backend.made_with.get('model', self.backend.made_with.get('backend', 'a model'))}, {self.prompts.name}"

    def steps_as_text(self, reasoning: str) -> str:
        """The right solution's steps, a line each, as the prompts want them: the official ones get Python's writing of a list."""
        return str(reasoning.split("\n")) if self.prompts.as_list else reasoning

    def extract(self, question: str, response: str) -> str:
        """The final answer in what the model wrote. Raises `JudgeError`."""
        return self._ask("extract", self.prompts.extract.filled(question=question, response=response), str.strip)

    def compare(self, question: str, extracted: str, answer: str) -> str:
        """The judge's word on whether two answers agree, as written: only "1" says so. Raises `JudgeError`."""
        return self._ask("compare", self.prompts.compare.filled(question=question, extracted=extracted, answer=answer), str)

    def says_the_same(self, question: str, given: str, answer: str) -> bool:
        """Whether two answers agree; the judge is asked again where it writes neither 1 nor 0. Raises `JudgeError`."""
        return self._ask("verdict", self.prompts.compare.filled(question=question, extracted=given, answer=answer), _verdict)

    def recall(self, question: str, answer: str, response: str, reasoning: str, read: Callable[[str], T]) -> T:
        """What `read` makes of the judged steps of the right solution; the judge is asked again where it raises `ValueError`. Raises `JudgeError`."""
        return self._ask("recall", self.prompts.recall.filled(question=question, answer=answer, response=response, reasoning=reasoning), read)

    def precision(self, question: str, response: str, reasoning: str, read: Callable[[str], T]) -> T:
        """What `read` makes of the judged steps of the model's reasoning. As `recall`."""
        return self._ask("precision", self.prompts.precision.filled(question=question, response=response, reasoning=reasoning), read)

    def _ask(self, what: str, prompt: str, read: Callable[[str], T]) -> T:
        if (what, prompt) in self._kept:
            return read(self._kept[what, prompt])
        problem = ""
        for _ in range(self.tries):
            try:
                reply = self._reply(prompt)
            except BackendError as error:
                raise JudgeError(f"judge error in {what}: {error}") from error
            try:
                found = read(reply)
            except ValueError as error:
                problem = str(error)
                continue
            self._kept[what, prompt] = reply
            return found
        raise JudgeError(f"judge error in {what}: {problem} ({self.tries} tries)")

    def _reply(self, prompt: str) -> str:
        """What the judge answers: the text of its answer, or all that it wrote after its thoughts. Raises `BackendError`."""
        trace = Trace("judge", "", prompt, ())
        for _ in range(_MAX_DECODES):
            before = decoding.before(trace, self.backend)
            continuation = decoding.result_of(decoding.decode(self.backend, trace, ()))
            steps, _ = parse_chunk(continuation.text, before, ended=continuation.stopped == "end")
            trace.steps.extend(steps)
            if trace.answer is not None or continuation.stopped != "tag":
                break
        if trace.answer is not None:
            return trace.answer
        return "".join(step.text for step in trace.steps if isinstance(step, Thought)).rpartition("</think>")[2].strip()


def _verdict(reply: str) -> bool:
    if reply.strip() not in ("0", "1"):
        raise ValueError(f"the judge wrote {shown(reply)} where 1 or 0 is expected")
    return reply.strip() == "1"


def response_of(trace: Trace) -> str:
    """All that the model wrote, its calls among it, but not the pictures that came back."""
    parts = []
    for step in trace.steps:
        match step:
            case Thought(text):
                parts.append(text)
            case Retrieve(text) | Generate(text):
                parts.append(f"({text.strip()})")
            case Answer(text):
                parts.append(f"\nAnswer: {text.strip()}")
            case Observation():
                pass
    return re.sub(r"</?think>", "", "".join(parts)).strip()
