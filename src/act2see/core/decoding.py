"""One continuation of a backend, up to a call, an answer or the end of its turn: stops that are only mentioned are decoded over."""

from collections.abc import Generator as Yields
from collections.abc import Sequence
from dataclasses import replace

from act2see.core import chat
from act2see.core.interfaces import Backend, Continuation
from act2see.core.protocol import is_mention
from act2see.core.trace import Cost, Thought, Trace

MAX_MENTIONS = 32
"""A model that quotes the protocol this often in one continuation goes on for ever: it has used up its length. Not in the paper; our choice."""


def decode(backend: Backend, trace: Trace, tools: Sequence[chat.Tool]) -> Yields[str, None, Continuation]:
    """Continue the trace as `Backend.decode` does, but go on where the backend stopped at a tag that is only mentioned.

    Yields text as it streams; returns all of it with what all of it cost. The trace is not changed. Raises `BackendError`.
    """
    text, cost = "", Cost()
    for _ in range(MAX_MENTIONS):
        begun = trace if not text else replace(trace, steps=[*trace.steps, Thought(text)])
        found = yield from backend.decode(begun, tools)
        text += found.text
        cost.add(found.cost)
        if found.stopped != "tag" or not is_mention(text, before(trace, backend)):
            return Continuation(text, found.stopped, cost)
    return Continuation(text, "length", cost)


def silently(stream: Yields[str, None, Continuation]) -> Continuation:
    """What a stream returns in the end, for those who do not listen to it. Raises `BackendError`."""
    while True:
        try:
            next(stream)
        except StopIteration as end:
            continuation: Continuation = end.value
            return continuation


def before(trace: Trace, backend: Backend) -> str:
    """What the turn that the backend continues holds already, as `protocol` reads it."""
    return chat.words_of_turn(trace, chat.style_of(backend.made_with))
