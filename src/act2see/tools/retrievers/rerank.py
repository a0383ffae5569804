"""Re-ranking by a vision-language model, and its use for query decomposition. Both run through `Backend` and are off by default.

An encoder embeds frame and text separately. A model that reads them together separates near misses, at the cost of a prompt with sixteen frames
per look.
"""

import re
from collections.abc import Callable, Sequence

from act2see.core import decoding
from act2see.core.interfaces import Backend
from act2see.core.protocol import parse_chunk
from act2see.core.trace import Answer, Frame, Trace
from act2see.tools.retrievers.decomposition import Ask

RERANKED_FRAMES = 16
"""Number of top frames to re-rank. Our choice, in line with the re-ranking literature."""

Judge = Callable[[str, Sequence[Frame]], int | None]
"""Maps a query and frames in temporal order to the index of the best frame; None if undecided."""

_QUESTION = "Which of these {count} frames shows this best: {query}? Count them from 1, and answer with one number."
_NUMBER = re.compile(r"(?:frame\s*)?#?(\d{1,3})\.?", re.IGNORECASE)


def judge(backend: Backend) -> Judge:
    """A `Judge` that asks a vision-language model once; any reply other than a valid frame number counts as undecided. Raises `BackendError`."""

    def best(query: str, frames: Sequence[Frame]) -> int | None:
        reply = _reply(backend, _QUESTION.format(count=len(frames), query=query), frames)
        number = _NUMBER.fullmatch(reply.strip())
        return int(number.group(1)) - 1 if number and 1 <= int(number.group(1)) <= len(frames) else None

    return best


def asker(backend: Backend) -> Ask:
    """An `Ask` for `decomposition.decomposer` that prompts a backend without frames. Raises `BackendError`."""
    return lambda prompt: _reply(backend, prompt, ())


def _reply(backend: Backend, question: str, frames: Sequence[Frame]) -> str:
    """The model's answer from a single decode; if there is none, the text after its thoughts."""
    trace = Trace(id="rerank", video="", question=question, frames=tuple(frames))
    continuation = decoding.result_of(decoding.decode(backend, trace, ()))
    text = continuation.text
    steps, _ = parse_chunk(text, decoding.before(trace, backend), ended=continuation.stopped == "end")
    answers = [step.text for step in steps if isinstance(step, Answer)]
    return answers[0] if answers else text.rpartition("</think>")[2]
