"""Decode up to a call, an answer or the end of the turn, and continue past stop strings that are only mentioned."""

from collections.abc import Generator as Yields
from collections.abc import Sequence
from dataclasses import replace

from act2see.core import chat
from act2see.core.interfaces import Backend, Continuation
from act2see.core.protocol import is_mention
from act2see.core.trace import Cost, Thought, Trace

MAX_MENTIONS = 32
"""A model that mentions the protocol's tags this often in one continuation does not terminate: it counts as cut off. Not in the paper; our choice."""


def decode(backend: Backend, trace: Trace, tools: Sequence[chat.Tool]) -> Yields[str, None, Continuation]:
    """Continue the trace as `Backend.decode` does, and decode on if the backend stopped at a tag that is only mentioned.

    Yields text as it streams, and returns all text with the total cost. Does not change the trace. Raises `BackendError`.
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


def result_of(stream: Yields[str, None, Continuation]) -> Continuation:
    """Consume a stream and return its result. Raises `BackendError`."""
    while True:
        try:
            next(stream)
        except StopIteration as end:
            continuation: Continuation = end.value
            return continuation


def before(trace: Trace, backend: Backend) -> str:
    """The text so far of the turn that the backend continues, as `protocol` parses it."""
    return chat.words_of_turn(trace, chat.style_of(backend.made_with))
