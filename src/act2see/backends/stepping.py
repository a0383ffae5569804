"""An engine that decodes many conversations, stepped by one thread; each conversation reads its own queue."""

import atexit
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Generator as Yields
from dataclasses import dataclass, field
from itertools import count
from queue import SimpleQueue
from typing import Protocol, TypeVar

from act2see.core.errors import Act2SeeError, BackendError, InternalError
from act2see.core.plaintext import one_line
from act2see.execution.faults import unexpected

_CLOSING_SECONDS = 10.0
"""How long the program waits at its end for a step that is under way. Our choice."""
_WATCH_SECONDS = 0.5
"""How often the engine's processes are checked. Our choice."""
_MAX_RESENDS = 2
"""How often a request is sent again that the engine failed on before its first token. Our choice."""
_REASON_CHARACTERS = 400

_R = TypeVar("_R")


class EngineDiedError(BackendError):
    """The engine has ended for good: nothing more can be asked of it."""


class Completion(Protocol):
    """What a step has added to one request, as in vLLM's `CompletionOutput`."""

    @property
    def token_ids(self) -> Sequence[int]:
        """The new tokens."""
        ...

    @property
    def finish_reason(self) -> str | None:
        """`stop`, `length`, `abort` or `error`; None while the request goes on."""
        ...


class Output(Protocol):
    """What a step has brought for one request, as in vLLM's `RequestOutput`."""

    @property
    def request_id(self) -> str:
        """The id that the request was added with."""
        ...

    @property
    def prompt_token_ids(self) -> Sequence[int] | None:
        """The whole prompt, each picture as its placeholders."""
        ...

    @property
    def num_cached_tokens(self) -> int | None:
        """Prompt tokens reused from the prefix cache."""
        ...

    @property
    def finished(self) -> bool:
        """Whether this is the request's last output."""
        ...

    @property
    def outputs(self) -> Sequence[Completion]:
        """One completion."""
        ...


class Engine(Protocol):
    """As much of an engine as the thread needs. It calls nothing from two threads."""

    def add(self, request_id: str, prompt: Mapping[str, object], sampling: object) -> None:
        """Take a request. Raises an exception for one that it refuses."""
        ...

    def step(self) -> Sequence[Output]:
        """Decode a step of all requests, and return what is new."""
        ...

    def abort(self, request_ids: Sequence[str]) -> None:
        """Forget requests, finished or not."""
        ...

    @property
    def is_busy(self) -> bool:
        """Whether a request is unfinished."""
        ...

    @property
    def is_alive(self) -> bool:
        """Whether its processes live. Asked from a thread of its own: a step may wait for ever for a process that was killed."""
        ...

    def close(self) -> None:
        """End the engine and its processes."""
        ...


@dataclass(slots=True, eq=False)
class _Request:
    id: str
    prompt: Mapping[str, object]
    sampling: object
    events: "SimpleQueue[Output | Act2SeeError]" = field(default_factory=SimpleQueue)
    is_wanted: bool = True
    is_done: bool = False
    """Its last event is in the queue."""
    is_begun: bool = False
    """An output is in the queue."""
    resends: int = 0


class SteppedEngine:
    """An engine and its thread. `outputs` may be called from several threads.

    The engine is not thread-safe, and its caches rely on the order of requests: all its calls, the processing of pictures included, are made in one
    thread. With vLLM's default, a process of its own computes meanwhile.
    """

    def __init__(self, engine: Engine, died: tuple[type[Exception], ...], refused: tuple[type[Exception], ...]) -> None:
        """`died` are the exceptions by which `Engine.add` says that the engine has ended, `refused` those by which it refuses a request.

        Any exception of another method means that the engine has ended.
        """
        self._engine, self._died, self._refused = engine, died, refused
        self._new: deque[_Request] = deque()
        self._left: deque[_Request] = deque()
        self._active: dict[str, _Request] = {}
        self._numbers = count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._error: str | None = None

    @property
    def is_dead(self) -> bool:
        """Whether the engine has ended for good."""
        return self._error is not None

    def outputs(self, prompt: Mapping[str, object], sampling: object) -> Yields[Output, None, None]:
        """What each step brings for a request, until it is finished. Closing the iterator aborts the request.

        Raises `BackendError` for a prompt that the engine refuses, `EngineDiedError` once it has ended.
        """
        request = _Request(f"act2see-{next(self._numbers)}", prompt, sampling)
        with self._changed:
            self._check_alive()
            self._new.append(request)
            self._start()
            self._changed.notify()
        try:
            while True:
                event = request.events.get()
                if isinstance(event, Act2SeeError):
                    raise event
                yield event
                if event.finished:
                    return
        finally:
            with self._changed:
                request.is_wanted = False
                if not request.is_done:
                    self._left.append(request)
                    self._changed.notify()

    def close(self) -> None:
        """End the engine. Requests under way fail."""
        with self._changed:
            self._closing.set()
            thread = self._thread
            self._changed.notify()
        if thread is not None and not self.is_dead:
            thread.join(_CLOSING_SECONDS)
        atexit.unregister(self.close)
        self._engine.close()

    def _check_alive(self) -> None:
        if self._error is not None:
            raise EngineDiedError(self._error)
        if self._closing.is_set():
            raise EngineDiedError("the engine is closed")

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, daemon=True, name="engine")
            self._thread.start()
            threading.Thread(target=self._watch, daemon=True, name="engine's watch").start()
            atexit.register(self.close)  # a daemon thread must not be inside the engine when the interpreter goes down

    def _watch(self) -> None:
        """End everything when the engine's process is gone: the engine's thread may wait for it for ever."""
        while not self._closing.wait(_WATCH_SECONDS) and self._error is None:
            if not self._engine.is_alive:
                self._end(_told("its process ended"))

    # Everything below runs in the engine's thread.

    def _serve(self) -> None:
        why = "the engine is closed"
        try:
            while self._has_work():
                self._forget()
                self._admit()
                self._step()
        except EngineDiedError as error:
            why = str(error)
        finally:  # whatever ended the thread, nobody may wait for it for ever
            self._end(why)

    def _has_work(self) -> bool:
        with self._changed:
            if not self._engine_is_busy():
                self._changed.wait_for(lambda: self._new or self._left or self._error or self._closing.is_set())
            return self._error is None and not self._closing.is_set()

    def _engine_is_busy(self) -> bool:
        return self._guarded(lambda: self._engine.is_busy)

    def _forget(self) -> None:
        """Abort requests that nobody waits for any more."""
        with self._changed:
            left = [self._left.popleft() for _ in range(len(self._left))]
        ids = [request.id for request in left if self._active.pop(request.id, None) is not None]
        if ids:
            self._guarded(lambda: self._engine.abort(ids))

    def _admit(self) -> None:
        while self._new:
            request = self._new.popleft()
            if request.is_wanted:
                self._add(request)

    def _add(self, request: _Request) -> None:
        self._active[request.id] = request
        try:
            with unexpected(*self._died, *self._refused):
                self._engine.add(request.id, request.prompt, request.sampling)
        except self._died as error:
            raise EngineDiedError(_told(reason(error))) from error
        except self._refused as error:
            self._finish(request, BackendError(f"vLLM refuses the prompt: {reason(error)}"))
        except Act2SeeError as error:
            self._finish(request, error)

    def _step(self) -> None:
        if not self._engine_is_busy():
            return
        for output in self._guarded(self._engine.step):
            request = self._active.get(output.request_id)
            if request is None:  # aborted meanwhile
                continue
            if output.finished and output.outputs[0].finish_reason == "error":
                self._failed(request)
                continue
            if output.finished:
                del self._active[request.id]
                request.is_done = True
            request.is_begun = True
            request.events.put(output)

    def _failed(self, request: _Request) -> None:
        """Send a request again: one whose pictures the engine's process does not hold, because an earlier request with them was refused, succeeds."""
        del self._active[request.id]
        if request.resends < _MAX_RESENDS and not request.is_begun:
            request.resends += 1
            request.id = f"act2see-{next(self._numbers)}"
            self._new.append(request)
        else:
            self._finish(request, BackendError(f"vLLM failed on the request ({1 + request.resends} attempts); its log has the cause"))

    def _finish(self, request: _Request, error: Act2SeeError) -> None:
        self._active.pop(request.id, None)
        request.is_done = True
        request.events.put(error)

    def _guarded(self, call: "Callable[[], _R]") -> "_R":
        try:
            with unexpected():
                return call()
        except InternalError as error:
            raise EngineDiedError(_told(reason(error.__cause__ or error))) from error

    def _end(self, why: str) -> None:
        with self._changed:
            self._error = self._error or why
            self._changed.notify()
            waiting = [*self._active.values(), *self._new]
            self._active.clear()
            self._new.clear()
        for request in waiting:
            request.is_done = True
            request.events.put(EngineDiedError(why))


def _told(why: str) -> str:
    return f"vLLM's engine died: {why}; the cause is in its log above. Start again: a run that was stored continues with --resume"


def reason(error: BaseException) -> str:
    """An error's message as one short line."""
    line = one_line(str(error)).strip() or type(error).__name__
    return line if len(line) <= _REASON_CHARACTERS else f"{line[:_REASON_CHARACTERS]}…"
