"""One continuation while it is decoded: its tokens, its text, and why it stopped."""

from collections.abc import Callable, Collection
from typing import Literal, Protocol

import torch

from act2see.backends.repetition import repeats
from act2see.core.protocol import STOPS


class Detokenizer(Protocol):
    """As much of a tokenizer as turning tokens into text needs."""

    def decode(self, token_ids: list[int], /) -> str:
        """The text of tokens, special ones included."""
        ...


class Writing:
    """The tokens and the text of one continuation. `stopped` is the stop reason (see `Continuation`); None while the model has to go on."""

    def __init__(self, tokenizer: Detokenizer, ends: Collection[int], *, max_tokens: int, repeated_tokens: int = 0) -> None:
        self.ids: list[int] = []
        self.stopped: Literal["tag", "end", "length"] | None = None
        self._stream = _TextStream(tokenizer)
        self._ends, self._max_tokens, self._repeated_tokens = ends, max_tokens, repeated_tokens

    @property
    def text(self) -> str:
        """All text so far."""
        return self._stream.text

    @property
    def tokens_out(self) -> int:
        """Tokens drawn, the end of the turn included."""
        return len(self.ids) + (self.stopped == "end")

    def add(self, token: int) -> str:
        """Add the next token, and return the text that it completes."""
        if token in self._ends:
            self.stopped = "end"
            return self._stream.rest()
        self.ids.append(token)
        fresh, closed = self._stream.add(token)
        if closed:
            self.stopped = "tag"
        elif len(self.ids) >= self._max_tokens or repeats(self.ids, self._repeated_tokens):
            fresh += self.cut()
        return fresh

    def cut(self) -> str:
        """End here for want of room, and return the text that was not complete."""
        self.stopped = "length"
        return self._stream.rest()


class Decoding(Writing):
    """A continuation whose tokens are drawn here."""

    def __init__(
        self, tokenizer: Detokenizer, draw: Callable[[torch.Tensor], int], ends: Collection[int], *, max_tokens: int, repeated_tokens: int = 0
    ) -> None:
        super().__init__(tokenizer, ends, max_tokens=max_tokens, repeated_tokens=repeated_tokens)
        self._draw = draw

    def take(self, logits: torch.Tensor) -> str:
        """Draw the next token from logits (vocabulary,), and return the text that it completes."""
        return self.add(self._draw(logits))


class _TextStream:
    """Incremental detokenizer: yields whole characters only, and cuts after the first stop string, which may end inside a token."""

    def __init__(self, tokenizer: Detokenizer) -> None:
        self.text = ""
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._done = 0  # all tokens before this index are in `text`
        self._start = 0  # decoding starts at this index: a token's text may depend on the previous one

    def add(self, token: int) -> tuple[str, bool]:
        """The new complete text, and whether it ends with a stop string."""
        self._ids.append(token)
        known = self._tokenizer.decode(self._ids[self._start : self._done])
        longer = self._tokenizer.decode(self._ids[self._start :])
        if longer.endswith("\ufffd"):  # an incomplete character
            return "", False
        self._start, self._done = self._done, len(self._ids)
        return self._take(longer[len(known) :])

    def rest(self) -> str:
        """The remaining text if decoding ended inside a character."""
        known = self._tokenizer.decode(self._ids[self._start : self._done])
        return self._take(self._tokenizer.decode(self._ids[self._start :])[len(known) :])[0]

    def _take(self, fresh: str) -> tuple[str, bool]:
        longer = self.text + fresh
        ends = [at + len(stop) for stop in STOPS if (at := longer.find(stop, max(0, len(self.text) - len(stop)))) >= 0]
        before, self.text = self.text, longer[: min(ends)] if ends else longer
        return self.text[len(before) :], bool(ends)
