"""Questions about one video, one after another, on loaded models. `act2see ask` is a conversation of one question."""

import logging
import os
import uuid
from collections.abc import Generator as Yields
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

from act2see import registry
from act2see.config import ModelConfig, recorded
from act2see.config.checks import check_question
from act2see.core.chat import chosen
from act2see.core.engine import Delta, frames_left_out, insert, new_trace, reason
from act2see.core.errors import ScopeError
from act2see.core.interfaces import Backend, Generator, Retriever, notice_of
from act2see.core.plaintext import one_line
from act2see.core.trace import Cost, Step, Trace
from act2see.evaluation import setup
from act2see.execution.progress import ProgressCallback
from act2see.storage.runs import Run
from act2see.synthetic.scope import NO_LIMITS, NOTICE, Scope, glance
from act2see.tools.index import Progress
from act2see.video import Video

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Models:
    """A loaded backend with its tools, for several questions."""

    backend: Backend
    retriever: Retriever | None = None
    generator: Generator | None = None
    scope: Scope = NO_LIMITS
    """Limits of the embedded models among them."""


@dataclass(frozen=True, slots=True)
class AskResult:
    """A question's trace and its answer."""

    trace: Trace
    choice: int | None
    """Index of the chosen answer choice; None without choices, and if the answer matches none."""

    @property
    def answer(self) -> str | None:
        """The answer; with choices, the text of the chosen one. None without an answer."""
        if self.trace.choices:
            return None if self.choice is None else self.trace.choices[self.choice]
        return self.trace.answer

    def _repr_html_(self) -> str:
        return self.trace._repr_html_()


def load_models(options: ModelConfig | None = None, *, progress: ProgressCallback | None = None) -> Models:
    """Load the backend, the retriever and the generator of the options.

    `progress` receives the number of loaded models and, later, of indexed frames of each video. Raises `ConfigError` and `BackendError`.
    """
    options = options or ModelConfig()
    setup.check_models(options)
    if progress is not None:
        progress(0, 1, f"loading {options.backend}")
    backend = registry.backend(options.backend, options)
    if progress is not None:
        progress(1, 1, f"loading {options.backend}")

    def report(now: Progress) -> None:
        assert progress is not None
        progress(now.done, now.total, "indexing")

    retriever = registry.retriever(options.retriever, options, None if progress is None else report) if options.max_looks else None
    return Models(backend, retriever, registry.generator(options.generator, options, retriever), registry.scope(options))


class Answering:
    """A question that is being answered. Iterate over it: it yields text as it streams, and each step once it is in the trace.

    Used as a context manager, or closed, it stops early; its trace can then be continued with `reason`. A trace with steps is saved in any case.
    """

    def __init__(self, trace: Trace, events: Iterator[Delta | Step], run: Run | None = None) -> None:
        self.trace = trace
        self._events = self._saving(events, run)

    def _saving(self, events: Iterator[Delta | Step], run: Run | None) -> Yields[Delta | Step, None, None]:
        try:
            yield from events
        finally:
            if run and (self.trace.steps or self.trace.finish):
                run.append(self.trace)

    def __iter__(self) -> Iterator[Delta | Step]:
        return self._events

    def __enter__(self) -> "Answering":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stop, and save the trace if it has steps. Does nothing after the end."""
        self._events.close()

    @property
    def result(self) -> AskResult:
        """The trace so far and its answer, which is None until the end."""
        return AskResult(self.trace, chosen(self.trace.answer, self.trace.choices) if self.trace.choices else None)


class Conversation:
    """Asks several questions about one video. One at a time: neither a local model nor this class is thread-safe.

    The initial frames are decoded once, the retriever's index is built once, and a local model keeps the part of its KV cache that the questions
    share: instructions and frames. Questions are independent: no prompt quotes an earlier question.
    """

    def __init__(
        self,
        video: Video | str | os.PathLike[str],
        options: ModelConfig | None = None,
        *,
        models: Models | None = None,
        save: Path | None = None,
        progress: ProgressCallback | None = None,
    ) -> None:
        """`models` are loaded at the first question unless given; `save` is a run folder that each trace is appended to.

        Raises `VideoError` and `ConfigError`.
        """
        self.options, self.save = options or ModelConfig(), save
        setup.check_models(self.options)
        self.video = video if isinstance(video, Video) else Video(video)
        self.video.times(self.options.fps)  # an error in the video or the rate is raised before a model is loaded
        self._models, self._progress = models, progress
        self._scope = models.scope if models is not None else registry.scope(self.options)
        self._seen: Trace | None = None
        self._first: Trace | None = None
        self._warned: set[str] = set()

    def stream(self, question: str, choices: Sequence[str] = (), *, looks: bool = True) -> Answering:
        """Ask a question. Nothing is decoded before the result is iterated over.

        Without `looks`, no tool is offered, which changes the instructions at the start of the prompt: its KV cache is not shared with questions
        that may look. Raises `ConfigError`, `BackendError`, `StoreError`, and `ScopeError` for input outside the embedded models' domain; the
        iteration raises `BackendError`, `VideoError` and `StoreError`.
        """
        choices = tuple(choices)
        check_question(question, choices)
        notice = self.screen(choices)
        run = None if self.save is None else _run(self.save, self.options)
        if self._models is None:
            self._models = load_models(self.options, progress=self._progress)
        models = self._models
        trace = self._new_trace(question, choices, notice)
        if self.options.insert and models.retriever is not None:
            insert(trace, self.video, models.retriever, self.options.insert, models.backend)
        own = None if self._scope.backend else notice_of(models.backend)
        for warning in (own, notice):
            if warning:
                self._warn(one_line(warning))
        options = self.options if looks else replace(self.options, max_looks=0)
        events = reason(trace, self.video, models.backend, models.retriever, models.generator, registry.loop_options(options))
        return Answering(trace, events, run)

    def screen(self, choices: Sequence[str]) -> str | None:
        """The warning to attach to an embedded model's answer about this video, if any. Loads no model.

        Raises `ScopeError` for input outside the model's domain, unless the options force it.
        """
        if not self._scope.is_limited:
            return None
        self._seen = replace(self._seen, choices=tuple(choices)) if self._seen is not None else glance(self.video, choices)
        if (refused := self._scope.refusal(self._seen)) is not None:
            raise ScopeError(refused)
        return self._scope.notice(self._seen)

    def _new_trace(self, question: str, choices: tuple[str, ...], notice: str | None) -> Trace:
        """A trace with the initial frames and lines, which are read for the first question only."""
        options = self.options
        if self._first is None:
            assert self._models is not None
            first = new_trace(self.video, "", (), fps=options.fps, id="", backend=self._models.backend, max_frames=options.max_frames)
            first.made_with |= {} if notice is None else {NOTICE: notice}
            if (lines := registry.lines_of_videos(options)) is not None:
                lines.add_to_question(first, self.video)
            self._first = first
            if left_out := frames_left_out(first):
                shown = len(first.frames)
                self._warn(
                    f"{shown} of {shown + left_out} initial frames are used, evenly spaced, due to --max-frames or the model's limit; "
                    "a look can still return any frame"
                )
        made_with = {name: value for name, value in self._first.made_with.items() if name != NOTICE or notice is not None}
        if notice is not None:
            made_with[NOTICE] = notice
        return replace(self._first, id=uuid.uuid4().hex, question=question, choices=choices, steps=[], cost=Cost(), made_with=made_with)

    def _warn(self, warning: str) -> None:
        """Log a warning once."""
        if warning not in self._warned:
            self._warned.add(warning)
            _log.warning("%s", warning)


def _run(folder: Path, options: ModelConfig) -> Run:
    config = recorded(options, leave_out={"choices", "save", "report", "json", "cache"})
    return Run.create_or_open(folder, command="ask", config=config, seed=options.seed)
