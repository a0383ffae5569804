"""Decode several conversations at once: a thread that steps all of them together in one forward pass."""

import atexit
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch

from act2see.backends.continuation import Decoding
from act2see.backends.drafts import Drafts
from act2see.backends.kv_cache import CachedConversation, Slots, begun_like
from act2see.backends.pieces import Piece
from act2see.core.errors import Act2SeeError, InternalError
from act2see.execution.faults import unexpected

_IDLE_SECONDS = 1.0
"""The thread ends after this long without work; the next conversation starts another. Our choice."""
_PIECE_SECONDS = 0.05
"""How often a row's reader looks for new text: more often would take time from the forward passes. Our choice."""
_log = logging.getLogger(__name__)
_Logits: TypeAlias = torch.Tensor
"""Of one row: (tokens that it was fed, vocabulary)."""


@dataclass(slots=True, eq=False)
class Row:
    """One continuation on its way through the batch, and what it has cost."""

    conversation: str
    """A name, equal for all continuations of one conversation."""
    pieces: Sequence[Piece]
    decoding: Decoding
    tokens_in: int | None = None
    reused: int = 0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    cached: CachedConversation | None = None
    error: Act2SeeError | None = None
    is_wanted: bool = True
    finished: threading.Event = field(default_factory=threading.Event)

    @property
    def fed(self) -> Sequence[Piece]:
        """The prompt and the tokens decoded so far."""
        return [*self.pieces, Piece(tuple(self.decoding.ids), tuple(self.decoding.ids))] if self.decoding.ids else self.pieces


class DecodingBatch:
    """Decodes up to `rows` conversations in one forward pass a token. May be used from several threads.

    A conversation joins after its prefill, which is computed alone, and leaves when it stops. Its cache is kept until it comes back with a frame; at
    most `rows` caches are kept. The next token of a row depends on its own logits and generator only, so a text does not depend on the other rows,
    except where rounding decides between two tokens. On a CPU, a pass also checks what a row probably writes next; see `Drafts`. An error in a row is
    its own. Out of memory, the batch is halved and goes on.
    """

    def __init__(self, model: Any, merge: int, rows: int) -> None:
        self.model, self.merge, self.rows = model, merge, rows
        self._limit = rows
        self._slots = Slots(model, rows)
        self._drafts = Drafts()
        self._active: list[Row] = []  # in the order of their slots
        self._waiting: deque[Row] = deque()
        self._kept: OrderedDict[str, CachedConversation] = OrderedDict()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_closing = False

    def run(self, row: Row) -> None:
        """Decode a continuation to its end; blocks. Raises its error."""
        for _ in self.stream(row):
            pass

    def stream(self, row: Row) -> Iterator[str]:
        """Decode a continuation to its end, and yield its text as it grows. Raises its error. Closing the iterator takes the row out of the batch."""
        began = time.perf_counter()
        with self._changed:
            self._waiting.append(row)
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, daemon=True, name="decoding")
                self._thread.start()
                atexit.register(self._close)  # a daemon thread must not be inside torch when the interpreter goes down
            self._changed.notify()
        shown, is_finished = 0, False
        try:
            while not is_finished:
                is_finished = row.finished.wait(_PIECE_SECONDS)
                text = row.decoding.text
                if len(text) > shown:
                    yield text[shown:]
                    shown = len(text)
        finally:
            row.is_wanted = False
        row.decode_seconds = time.perf_counter() - began - row.prefill_seconds
        if row.error is not None:
            raise row.error

    def _close(self) -> None:
        with self._changed:
            self._is_closing, thread = True, self._thread
            self._changed.notify()
        if thread is not None:
            thread.join()

    # Everything below runs in the batch's thread.

    def _serve(self) -> None:
        with torch.inference_mode():
            while self._has_work():
                try:
                    with unexpected():
                        self._admit()
                        self._step()
                except Act2SeeError as error:  # ours, and not a row's: nobody may wait for this thread for ever
                    self._fail_all(error)
        atexit.unregister(self._close)

    def _has_work(self) -> bool:
        with self._changed:
            if not self._active:
                self._changed.wait_for(lambda: self._waiting or self._is_closing, _IDLE_SECONDS)
            if self._is_closing or not (self._active or self._waiting):
                self._thread = None
                return False
            return True

    def _admit(self) -> None:
        """Prefill what waits, as far as there is room."""
        for number in reversed(range(len(self._active))):
            if not self._active[number].is_wanted:
                self._leave(number)
        while self._waiting and len(self._active) < self._limit:
            row = self._waiting.popleft()
            if not row.is_wanted:
                continue
            try:
                with unexpected(torch.OutOfMemoryError):
                    self._prefill(row)
            except torch.OutOfMemoryError as error:
                self._make_room(error, row)
            except Act2SeeError as error:
                self._finish(row, error)

    def _prefill(self, row: Row) -> None:
        began = time.perf_counter()
        row.cached = self._cached(row)
        logits, tokens, reused = row.cached.feed(row.fed)
        row.prefill_seconds += time.perf_counter() - began
        if row.tokens_in is None:
            row.tokens_in, row.reused = tokens, reused
        row.decoding.take(logits)
        if row.decoding.stopped is None:
            self._slots.join(row.cached.cache)
            row.cached.release()
            self._active.append(row)
        else:
            self._keep(row)
            self._finish(row)

    def _cached(self, row: Row) -> CachedConversation:
        """The row's own conversation, or the beginning of another one that begins like it."""
        own = self._kept.pop(row.conversation, None)
        if own is not None:
            return own
        return begun_like(self._kept.values(), row.fed) or CachedConversation(self.model, self.merge)

    def _step(self) -> None:
        """One token more in each active row, and as many of its drafted ones as it draws."""
        if not self._active:
            return
        drafted = [self._drafts.after(row.decoding.ids) if self._slots.takes_drafts else [] for row in self._active]
        found: list[_Logits | Act2SeeError]
        try:
            with unexpected(torch.OutOfMemoryError):
                found = [*self._forward(0, drafted)]
        except torch.OutOfMemoryError as error:
            self._make_room(error)
            return
        except InternalError:  # one of them is to blame: each is tried alone, without drafts, which may be to blame too
            drafted = [[] for _ in self._active]
            found = [self._alone(number) for number in range(len(self._active))]
        for number in reversed(range(len(self._active))):
            self._take(number, drafted[number], found[number])

    def _forward(self, first: int, drafted: Sequence[list[int]]) -> "list[_Logits]":
        stepped = self._active[first : first + len(drafted)]
        cached = [row.cached for row in stepped if row.cached is not None]
        tokens = [row.decoding.ids[-1] for row in stepped]
        fed = [[token, *draft] for token, draft in zip(tokens, drafted, strict=True)]
        logits = self._slots.step(fed, [one.next_position for one in cached], first)
        for one, token in zip(cached, tokens, strict=True):
            one.hold(token)
        return logits

    def _alone(self, number: int) -> "_Logits | Act2SeeError":
        try:
            with unexpected():
                return self._forward(number, [[]])[0]
        except Act2SeeError as error:
            return error

    def _take(self, number: int, drafted: list[int], logits: "_Logits | Act2SeeError") -> None:
        row = self._active[number]
        try:
            if isinstance(logits, Act2SeeError):
                raise logits
            with unexpected():
                self._draw(number, drafted, logits)
        except Act2SeeError as error:
            self._leave(number)
            self._finish(row, error)
            return
        if row.decoding.stopped is not None:
            self._leave(number)
            self._finish(row)

    def _draw(self, number: int, drafted: list[int], logits: "_Logits") -> None:
        """Draw a row's next token, and one after each drafted token that was drawn."""
        row = self._active[number]
        for place, one in enumerate(logits):
            row.decoding.take(one)
            if row.decoding.stopped is not None:
                return
            token = row.decoding.ids[-1]
            self._drafts.learn(row.decoding.ids)
            if place == len(drafted) or token != drafted[place]:
                return
            assert row.cached is not None
            row.cached.hold(token)
            self._slots.accept(number)

    def _leave(self, number: int) -> None:
        """Free a row's slot, and keep its cache for the conversation's next turn."""
        row = self._active[number]
        assert row.cached is not None
        row.cached.cache = self._slots.leave(number)
        last = self._active.pop()
        if last is not row:
            self._active[number] = last
        self._keep(row)

    def _keep(self, row: Row) -> None:
        if row.cached is not None:
            self._kept[row.conversation], row.cached = row.cached, None
        while len(self._kept) > self._limit:
            self._kept.popitem(last=False)

    def _finish(self, row: Row, error: Act2SeeError | None = None) -> None:
        row.error, row.cached = error, None
        row.finished.set()

    def _fail_all(self, error: Act2SeeError) -> None:
        rows = [*self._active, *self._waiting]
        self._active, self._slots = [], Slots(self.model, self.rows)
        self._waiting.clear()
        self._kept.clear()
        for row in rows:
            self._finish(row, error)

    def _make_room(self, error: torch.OutOfMemoryError, row: Row | None = None) -> None:
        """Out of memory: give up the caches that are only kept, and halve the batch. `row` was to join it.

        What leaves is computed again later, from its prompt and its tokens so far. A row that does not fit alone fails.
        """
        if row is not None:
            row.cached = None
        had, kept = len(self._active), len(self._kept)
        self._kept.clear()
        if (not had and not kept and row is not None) or (had == 1 and not kept and row is None):
            alone = row or self._active.pop()
            self._slots.keep(0)
            self._finish(alone, InternalError(f"out of memory with one conversation: {error}", str(error)))
            return
        self._limit = max(1, had // 2)
        _log.warning("out of memory with %d conversations in a forward pass: going on with %d", had + (row is not None), self._limit)
        gone = [*self._active[self._limit :], *([row] if row is not None else [])]
        del self._active[self._limit :]
        for one in gone:
            one.cached = None
        self._slots.keep(len(self._active))
        self._waiting.extendleft(reversed(gone))
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
