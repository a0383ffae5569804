"""`act2see ask`: one question about one video."""

import os
import sys
import uuid
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from act2see.cli.checks import check_file_to_write, check_question
from act2see.cli.exits import ANSWERED, INTERRUPTED, NO_ANSWER
from act2see.cli.opening import open_video
from act2see.cli.output import complain, end_line, index_progress, note_frames_left_out, say_json, tell_answer, working
from act2see.config import AskConfig, ModelConfig, SettingsFile, recorded
from act2see.core.errors import Act2SeeError, ScopeError

if TYPE_CHECKING:
    from act2see.core.interfaces import Backend, Generator, Retriever
    from act2see.core.trace import Trace
    from act2see.storage.runs import Run
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

    The answer goes to stdout, the reasoning to stderr. Exit codes: 0 answered, 1 error, 2 usage, 3 no answer, 70 internal error,
    130 interrupted.
    """
    del config  # read before this function was called
    from act2see import registry
    from act2see.core.engine import frames_left_out, insert, new_trace
    from act2see.report import write_report
    from act2see.synthetic.scope import NOTICE

    check_question(question, settings.choices)
    check_file_to_write(settings.report, video)
    registry.check_backend(settings.backend)
    registry.check_retriever(settings.retriever)
    registry.check_generator(settings.generator, settings.judge)
    opened = open_video(video, cached=settings.cache)
    opened.times(settings.fps)  # what is wrong with the video or the rate is said before a model is loaded
    notice = screen(opened, settings)
    run = _open_run(settings) if settings.save else None
    with working(f"loading {settings.backend}"):
        backend = registry.backend(settings.backend, settings)
    trace = new_trace(opened, question, settings.choices, fps=settings.fps, id=uuid.uuid4().hex, backend=backend, max_frames=settings.max_frames)
    trace.made_with |= {} if notice is None else {NOTICE: notice}
    note_frames_left_out(frames_left_out(trace), len(trace.frames))
    with index_progress(opened.path.name) as progress:
        retriever = registry.retriever(settings.retriever, settings, progress) if settings.max_looks else None
        generator = registry.generator(settings.generator, settings, retriever)
        if settings.insert and retriever is not None:
            insert(trace, opened, retriever, settings.insert, backend)
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
    is_answered = tell_answer(trace, settings)  # first: a disk that is full must not cost what the model was asked
    if settings.report:
        write_report(trace, settings.report)
    return ANSWERED if is_answered else NO_ANSWER


def reason_aloud(
    trace: "Trace", video: "Video", backend: "Backend", retriever: "Retriever | None", generator: "Generator | None", how: ModelConfig
) -> None:
    """Run the loop to its end, showing every step on stderr as it happens."""
    from act2see.cli.terminal import Printer
    from act2see.core.engine import Delta, reason
    from act2see.registry import loop_options

    printer = Printer.for_stream(sys.stderr, os.environ)
    line_open = False
    try:
        for event in reason(trace, video, backend, retriever, generator, loop_options(how)):
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
    from act2see.storage.runs import Run

    assert settings.save is not None
    return Run.create_or_open(
        settings.save, command="ask", config=recorded(settings, leave_out={"choices", "save", "report", "json", "cache"}), seed=settings.seed
    )


def screen(video: "Video", settings: AskConfig) -> str | None:
    """What must not be relied on in an embedded model's answer about this video; None where nothing is said against it.

    Asked before anything heavy is loaded. Raises `ScopeError` for what the model does not know, unless the settings say to ask all the same.
    """
    from act2see.registry import scope
    from act2see.synthetic.scope import glance

    limits = scope(settings)
    if not limits.is_limited:
        return None
    seen = glance(video, settings.choices)
    if (refused := limits.refusal(seen)) is not None:
        if settings.json:
            say_json({"answer": None, "choice": None, "finish": None, "refused": refused})
        raise ScopeError(refused)
    return limits.notice(seen)


def _notice(backend: "Backend", trace: "Trace", settings: AskConfig) -> None:
    """Say what must not be relied on: of an embedded model what was found about this video, of any other what it says of itself."""
    from act2see.registry import scope
    from act2see.synthetic.scope import NOTICE

    own = None if scope(settings).backend else getattr(backend, "notice", None)
    for notice in (own, trace.made_with.get(NOTICE)):
        if notice:
            complain(f"note: {notice}")
