"""`act2see ask`: one question about one video."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from act2see.cli.exits import ANSWERED, NO_ANSWER
from act2see.cli.options import Options
from act2see.cli.output import leave_line_open, print_answer, say_json, show_progress
from act2see.cli.video_source import open_video
from act2see.config import AskConfig, SettingsFile
from act2see.config.checks import check_file_to_write, check_question
from act2see.core.errors import ScopeError

if TYPE_CHECKING:
    from act2see.core.engine import Delta
    from act2see.core.trace import Step, Trace


def ask(
    video: Annotated[str, Parameter(help="Video file or http(s) URL.")],
    question: Annotated[str, Parameter(help="Question about the video.")],
    /,
    *,
    settings: Annotated[AskConfig, Parameter(name="*")] = AskConfig(),
    option: Options = (),
    config: SettingsFile = None,
) -> int:
    """Ask a question about a video.

    The answer goes to stdout, the reasoning to stderr. Exit codes: 0 answered, 1 error, 2 usage, 3 no answer, 70 internal error,
    130 interrupted.
    """
    del config, option  # the parser has applied both
    check_question(question, settings.choices)  # before a video is downloaded
    check_file_to_write(settings.report, video, run=settings.save)
    from act2see import api

    opened = open_video(video, cached=settings.cache)
    answered = []
    with show_progress(transient=True) as progress, printing() as show:

        def report(result: api.AskResult) -> None:
            show.finish(result.trace)
            answered.append(print_answer(result.trace, settings))

        try:
            api.ask(opened, question, settings, on_event=show.event, on_result=report, progress=progress)
        except ScopeError as error:
            if settings.json:
                say_json({"answer": None, "choice": None, "finish": None, "refused": str(error)})
            raise
    return ANSWERED if any(answered) else NO_ANSWER


class Printing:
    """Prints the steps of a trace to stderr as they happen."""

    def __init__(self) -> None:
        from act2see.cli.terminal import Printer

        self._printer = Printer.for_stream(sys.stderr, os.environ)

    def event(self, event: "Delta | Step") -> None:
        """Print a chunk of text, or a step."""
        from act2see.core.engine import Delta

        leave_line_open()
        self._printer.delta(event.text) if isinstance(event, Delta) else self._printer.step(event)

    def finish(self, trace: "Trace") -> None:
        """Print how the trace ended."""
        self._printer.finish(trace)
        leave_line_open(is_open=False)


@contextmanager
def printing() -> Iterator[Printing]:
    """Yield a printer of steps; any other message then begins on a new line."""
    yield Printing()
