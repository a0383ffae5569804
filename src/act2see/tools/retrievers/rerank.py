"""A vision-language model has the last word on which of the best frames to show, and may take a query apart: both through `Backend`. Options.

An encoder sees a frame and a text apart from each other; a model that reads them together tells near misses apart, at the price of a prompt of
sixteen frames a look.
"""

import re
from collections.abc import Callable, Sequence

from act2see.core import decoding
from act2see.core.interfaces import Backend
from act2see.core.protocol import parse_chunk
from act2see.core.trace import Answer, Frame, Trace
from act2see.tools.retrievers.voting import Ask

RERANKED_FRAMES = 16
"""How many of the best frames are judged. Our choice, as in the literature on re-ranking."""

Judge = Callable[[str, Sequence[Frame]], int | None]
"""A query and frames in order of time to the number, from 0, of the one that shows it best; None when it cannot say."""

_QUESTION = "Which of these {count} frames shows this best: {query}? Count them from 1, and answer with one number."
_NUMBER = re.compile(r"(?:frame\s*)?#?(\d{1,3})\.?", re.IGNORECASE)


def judge(backend: Backend) -> Judge:
    """A `Judge` that asks a vision-language model once; a reply that is no number of a frame is no judgement. Raises `BackendError`."""

    def best(query: str, frames: Sequence[Frame]) -> int | None:
        reply = _reply(backend, _QUESTION.format(count=len(frames), query=query), frames)
        number = _NUMBER.fullmatch(reply.strip())
        return int(number.group(1)) - 1 if number and 1 <= int(number.group(1)) <= len(frames) else None

    return best


def asker(backend: Backend) -> Ask:
    """An `Ask`, for `voting.decomposer`, that asks a backend without showing it a frame. Raises `BackendError`."""
    return lambda prompt: _reply(backend, prompt, ())


def _reply(backend: Backend, question: str, frames: Sequence[Frame]) -> str:
    """The answer that the model gives in one go, or, without one, what it wrote after its thoughts."""
    trace = Trace(id="rerank", video="", question=question, frames=tuple(frames))
    continuation = decoding.silently(decoding.decode(backend, trace, ()))
    text = continuation.text
    steps, _ = parse_chunk(text, decoding.before(trace, backend), ended=continuation.stopped == "end")
    answers = [step.text for step in steps if isinstance(step, Answer)]
    return answers[0] if answers else text.rpartition("</think>")[2]
