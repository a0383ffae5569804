"""VCR-Bench's judge: any backend, prompted up to four times about one answer."""

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
"""Attempts per prompt until the reply can be parsed. The official loop never stops; our choice."""
_MAX_DECODES = 4
"""Maximum decodes per reply, for a judge that writes tool calls although it has no tools."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Judge:
    """Prompts the backend. Replies are cached by prompt, so that scoring again needs no further calls."""

    backend: Backend
    prompts: Prompts = OURS
    tries: int = TRIES
    _kept: dict[tuple[str, str], str] = field(default_factory=dict, repr=False, compare=False)

    @property
    def name(self) -> str:
        """The judge model and its prompts, for a summary."""
        return f"{self.backend.made_with.get('model', self.backend.made_with.get('backend', 'a model'))}, {self.prompts.name}"

    def steps_as_text(self, reasoning: str) -> str:
        """The reference steps, one per line, in the prompts' format: the official ones use the repr of a list."""
        return str(reasoning.split("\n")) if self.prompts.as_list else reasoning

    def extract(self, question: str, response: str) -> str:
        """The final answer in the model's response. Raises `JudgeError`."""
        return self._ask("extract", self.prompts.extract.filled(question=question, response=response), str.strip)

    def compare(self, question: str, extracted: str, answer: str) -> str:
        """The judge's raw verdict on whether two answers agree; only "1" means yes. Raises `JudgeError`."""
        return self._ask("compare", self.prompts.compare.filled(question=question, extracted=extracted, answer=answer), str)

    def agrees(self, question: str, given: str, answer: str) -> bool:
        """Whether two answers agree; retries if the judge writes neither 1 nor 0. Raises `JudgeError`."""
        return self._ask("verdict", self.prompts.compare.filled(question=question, extracted=given, answer=answer), _verdict)

    def recall(self, question: str, answer: str, response: str, reasoning: str, read: Callable[[str], T]) -> T:
        """The judged reference steps, parsed by `read`; retries if it raises `ValueError`. Raises `JudgeError`."""
        return self._ask("recall", self.prompts.recall.filled(question=question, answer=answer, response=response, reasoning=reasoning), read)

    def precision(self, question: str, response: str, reasoning: str, read: Callable[[str], T]) -> T:
        """The judged steps of the model's reasoning, parsed by `read`. Retries and raises like `recall`."""
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
        """The judge's reply: its answer, or all text after its thoughts. Raises `BackendError`."""
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
        raise ValueError(f"the judge replied {shown(reply)}, expected 1 or 0")
    return reply.strip() == "1"


def response_of(trace: Trace) -> str:
    """Everything that the model wrote, including its calls, without the returned pictures."""
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
