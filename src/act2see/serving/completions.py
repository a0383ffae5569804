"""Answers as chat completions, whole or as a stream of chunks."""

import json
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from act2see.api import AskResult
from act2see.core.engine import Delta
from act2see.core.trace import Cost, Generate, Observation, Retrieve, Step, Thought, Trace
from act2see.serving.evidence import evidence_of, step_record
from act2see.storage.codec import JSON

_MARK = re.compile(r"</?think(?:ing)?>|</?thought>")
_ANSWER = "<answer>"
_TAGS = ("<think>", "</think>", "<thinking>", "</thinking>", "<thought>", "</thought>", _ANSWER)
_LONGEST_TAG = max(map(len, _TAGS))


def reasoning_of(steps: Sequence[Step]) -> str:
    """The model's own words up to its answer, calls included, without the marks of reasoning."""
    return _MARK.sub("", "".join(_written(step) for step in steps))


def _written(step: Step) -> str:
    match step:
        case Thought(text):
            return text
        case Retrieve(query):
            return f"<retrieve>{query}</retrieve>"
        case Generate(prompt):
            return f"<generate>{prompt}</generate>"
        case _:
            return ""


def content_of(result: AskResult) -> str:
    """The answer's text; with choices that of the chosen one, or what the model wrote if that is none of them."""
    return result.answer or result.trace.answer or ""


def _finish_reason(trace: Trace) -> str:
    return "length" if trace.finish == "length" else "stop"


def _usage(cost: Cost) -> dict[str, JSON]:
    return {
        "prompt_tokens": cost.tokens_in,
        "completion_tokens": cost.tokens_out,
        "total_tokens": cost.tokens_in + cost.tokens_out,
        "prompt_tokens_details": {"cached_tokens": cost.tokens_reused},
    }


@dataclass(slots=True)
class Completion:
    """One request's completion. A stream's reasoning is passed on as the model writes it, and put right once its steps are known."""

    model: str
    ignored: tuple[str, ...] = ()
    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(16)}")
    created: int = field(default_factory=lambda: int(time.time()))
    _is_open: bool = False
    _steps: list[Step] = field(default_factory=list)
    _held: str = ""
    """What may become a tag with the next piece."""
    _is_answering: bool = False
    """Whether the model has begun its answer, which is sent whole once it is known to be one."""
    _sent: int = 0
    """Characters of the reasoning that are in earlier chunks."""

    def whole(self, result: AskResult, video_name: str) -> dict[str, JSON]:
        """The completion of a request that is not streamed."""
        message: dict[str, JSON] = {
            "role": "assistant",
            "content": content_of(result),
            "reasoning_content": reasoning_of(result.trace.steps),
            "refusal": None,
        }
        choice: dict[str, JSON] = {"index": 0, "message": message, "finish_reason": _finish_reason(result.trace), "logprobs": None}
        evidence = self._evidence(result, video_name)
        return {**self._head("chat.completion"), "choices": [choice], "usage": _usage(result.trace.cost), "act2see": evidence}

    def chunks(self, event: Delta | Step) -> list[bytes]:
        """The chunks for an event; none if it has no new text."""
        return [*self._opened(), *self._of(event)]

    def _opened(self) -> list[bytes]:
        """The chunk that opens a stream, once."""
        if self._is_open:
            return []
        self._is_open = True
        return [self._chunk({"role": "assistant", "content": ""})]

    def _of(self, event: Delta | Step) -> list[bytes]:
        if isinstance(event, Delta):
            fresh = self._sayable(event.text)
            self._sent += len(fresh)
            return [self._chunk({"reasoning_content": fresh})] if fresh else []
        self._steps.append(event)
        self._held, self._is_answering = "", False
        reasoning = reasoning_of(self._steps)
        fresh, self._sent = reasoning[self._sent :], max(self._sent, len(reasoning))
        found = [self._chunk({"reasoning_content": fresh})] if fresh else []
        if isinstance(event, Retrieve | Generate | Observation):
            found.append(self._chunk({}, act2see={"step": step_record(event)}))
        return found

    def last(self, result: AskResult, video_name: str, *, include_usage: bool) -> list[bytes]:
        """The chunks that end a stream: the answer, the evidence, and the usage if it was asked for."""
        found = [*self._opened(), self._chunk({"content": content_of(result)})]
        found.append(self._chunk({}, finish=_finish_reason(result.trace), act2see=self._evidence(result, video_name)))
        if include_usage:
            found.append(_event({**self._head("chat.completion.chunk"), "choices": [], "usage": _usage(result.trace.cost)}))
        return [*found, DONE]

    def _sayable(self, text: str) -> str:
        """The new text, without marks, the answer, and what may become either."""
        if self._is_answering:
            return ""
        text = self._held + text
        cut = text.find(_ANSWER)
        self._is_answering = cut >= 0
        if cut < 0:
            cut = text.rfind("<", max(0, len(text) - _LONGEST_TAG))
            if cut < 0 or not any(tag.startswith(text[cut:]) for tag in _TAGS):
                cut = len(text)
        self._held = text[cut:]
        return _MARK.sub("", text[:cut])

    def _evidence(self, result: AskResult, video_name: str) -> dict[str, JSON]:
        return {**evidence_of(result, video_name), "ignored": list(self.ignored)}

    def _chunk(self, delta: Mapping[str, JSON], *, finish: str | None = None, act2see: Mapping[str, JSON] | None = None) -> bytes:
        choice: dict[str, JSON] = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        more: dict[str, JSON] = {} if act2see is None else {"act2see": act2see}
        return _event({**self._head("chat.completion.chunk"), "choices": [choice], **more})

    def _head(self, kind: str) -> dict[str, JSON]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


DONE = b"data: [DONE]\n\n"


def error_event(body: Mapping[str, JSON]) -> bytes:
    """An error in a stream that has begun; clients raise it."""
    return _event(body)


def _event(value: Mapping[str, JSON]) -> bytes:
    return f"data: {json.dumps(value, separators=(',', ':'))}\n\n".encode()
