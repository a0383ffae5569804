"""`act2see ask`: one question about one video."""

import os
import sys
import uuid
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from act2see.cli.checks import check_file_to_write, check_question
from act2see.cli.exits import ANSWERED, INTERRUPTED, NO_ANSWER
from act2see.cli.opening import open_video
from act2see.config import AskConfig, ModelConfig, SettingsFile, recorded
from act2see.errors import Act2SeeError, ScopeError
from act2see.output import complain, end_line, index_progress, say_json, tell_answer

if TYPE_CHECKING:
    from act2see.interfaces import Backend, Generator, Retriever
    from act2see.scope import Scope
    from act2see.store import Run
    from act2see.trace import Trace
    from act2see.video import Video


def ask(
    video: Annotated[str, Parameter(help="Video file, or its http(s) address.")],
    question: Annotated[str, Parameter(help="What to ask about it.")],
    /,
    *,
    settings: Annotated[AskConfig, Parameter(name="*")] = AskConfig(),
    config: SettingsFile = None,
) -> int:
    """Ask a question about a video.

    The answer goes to stdout, the reasoning to stderr. Exit codes: 0 answered, 1 error, 2 usage, 3 no answer, 130 interrupted.
    """
    del config  # read before this function was called
    from act2see import registry
    from act2see.engine import insert, new_trace
    from act2see.report import write_report

    check_question(question, settings.choices)
    check_file_to_write(settings.report)
    registry.check_backend(settings.backend)
    registry.check_retriever(settings.retriever)
    registry.check_generator(settings.generator, settings.judge)
    opened = open_video(video, cached=settings.cache)
    trace = new_trace(opened, question, settings.choices, fps=settings.fps, id=uuid.uuid4().hex)
    screen(trace, registry.scope(settings), as_json=settings.json)
    run = _open_run(settings) if settings.save else None
    backend = registry.backend(settings.backend, settings)
    with index_progress(opened.path.name) as progress:
        retriever = registry.retriever(settings.retriever, settings, progress) if settings.max_looks else None
        generator = registry.generator(settings.generator, settings, retriever)
        if settings.insert and retriever is not None:
            insert(trace, opened, retriever, settings.insert)
        _notice(backend, trace, settings)
        try:
            reason_aloud(trace, opened, backend, retriever, generator, settings)
        except KeyboardInterrupt:
            kept = [settings.save] if run and trace.steps else []
            if settings.report:  # of what there is
                write_report(trace, settings.report)
                kept.append(settings.report)
            complain("interrupted" + (f"; what was thought so far is kept in {' and '.join(map(str, kept))}" if kept else ""))
            return INTERRUPTED
        finally:
            if run and (trace.steps or trace.finish):
                run.append(trace)
    if settings.report:
        write_report(trace, settings.report)
    return ANSWERED if tell_answer(trace, settings) else NO_ANSWER


def reason_aloud(
    trace: "Trace", video: "Video", backend: "Backend", retriever: "Retriever | None", generator: "Generator | None", how: ModelConfig
) -> None:
    """Run the loop to its end, showing every step on stderr as it happens."""
    from act2see.engine import Delta, reason
    from act2see.registry import limits
    from act2see.terminal import Printer

    printer = Printer.for_stream(sys.stderr, os.environ)
    line_open = False
    try:
        for event in reason(trace, video, backend, retriever, generator, **limits(how)):
            line_open = True
            if isinstance(event, Delta):
                printer.delta(event.text)
            else:
                printer.step(event)
    except (Act2SeeError, KeyboardInterrupt):
        if line_open:  # what is said next begins on a line of its own
            end_line()
        raise
    printer.finish(trace)


def _open_run(settings: AskConfig) -> "Run":
    from act2see.store import Run

    assert settings.save is not None
    return Run.create_or_open(
        settings.save, command="ask", config=recorded(settings, leave_out={"choices", "save", "report", "json", "cache"}), seed=settings.seed
    )


def screen(trace: "Trace", scope: "Scope", *, as_json: bool) -> None:
    """Refuse what the embedded model does not know, before anything heavy is loaded; or put the notice into the trace. Raises `ScopeError`."""
    from act2see.scope import NOTICE

    if not scope.is_limited:
        return
    if (refused := scope.refusal(trace)) is not None:
        if as_json:
            say_json({"answer": None, "choice": None, "finish": None, "refused": refused})
        raise ScopeError(refused)
    if (notice := scope.notice(trace)) is not None:
        trace.made_with[NOTICE] = notice


def _notice(backend: "Backend", trace: "Trace", settings: AskConfig) -> None:
    """Say what must not be relied on: of an embedded model what was found about this video, of any other what it says of itself."""
    from act2see.registry import scope
    from act2see.scope import NOTICE

    own = None if scope(settings).backend else getattr(backend, "notice", None)
    for notice in (own, trace.made_with.get(NOTICE)):
        if notice:
            complain(f"note: {notice}")
