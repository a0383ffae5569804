"""`act2see chat`: questions about one video, one after another, on one loaded model."""

import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from act2see.cli.ask import Printing
from act2see.cli.exits import ANSWERED, FAILURE, NO_ANSWER
from act2see.cli.options import Options
from act2see.cli.output import complain, complain_of, end_line, print_answer, say, say_text, show_progress
from act2see.cli.video_source import open_video
from act2see.config import AskConfig, ChatConfig, SettingsFile
from act2see.config.checks import check_file_to_write
from act2see.core.errors import Act2SeeError, ConfigError, InternalError, ScopeError
from act2see.execution.faults import unexpected

if TYPE_CHECKING:
    from act2see.core.trace import Trace
    from act2see.evaluation.conversation import Conversation

PROMPT = "> "
REPORT = Path("report.html")
HELP = """Type a question, and its choices after it if there are any: Where is the cross? | left | right
/frames         lists the frames that the model has seen
/look on|off    lets the model look again, or not; on at the start
/report [FILE]  writes the questions so far to an HTML report (report.html)
/help           prints this
/quit           ends; so does Ctrl-D. Ctrl-C stops an answer."""


def chat(
    video: Annotated[str, Parameter(help="Video file or http(s) URL.")],
    /,
    *,
    settings: Annotated[ChatConfig, Parameter(name="*")] = ChatConfig(),
    option: Options = (),
    config: SettingsFile = None,
) -> int:
    """Ask several questions about a video, read from the terminal or, one a line, from stdin.

    Choices follow a question after bars: Where is the cross? | left | right. Models are loaded and frames decoded once. Answers go to stdout, the
    reasoning to stderr. Lines that start with / are commands: /help lists them. Ctrl-C stops an answer, Ctrl-D ends.

    Exit codes: 0 all answered, 1 error in a question, 2 usage, 3 a question without an answer, 70 internal error, 130 interrupted while loading.
    """
    del config, option  # the parser has applied both
    from act2see.evaluation.conversation import Conversation, load_models

    opened = open_video(video, cached=settings.cache)
    with show_progress(transient=True) as progress:
        Conversation(opened, settings)  # an error in the video is raised before the models are loaded
        models = load_models(settings, progress=progress)
        talk = Talk(Conversation(opened, settings, models=models, save=settings.save, progress=progress), video)
        talk.greet()
        for line in _lines():
            if not talk.take(line):
                break
    return FAILURE if talk.failed else NO_ANSWER if talk.unanswered else ANSWERED


def _lines() -> Iterator[str]:
    """The lines that are typed or piped, until the end of the input. Ctrl-C drops the line that is being typed."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # a line that is no UTF-8 is refused as one, and does not end the program
    typed = sys.stdin.isatty() and sys.stdout.isatty()
    if typed:
        import readline  # noqa: F401  # gives `input` its editing and its history
    while True:
        try:
            line = input(PROMPT) if typed else sys.stdin.readline()
        except EOFError:
            end_line()
            return
        except KeyboardInterrupt:
            if not typed:
                raise
            end_line()
            complain("/quit or Ctrl-D ends")
            continue
        if not typed and not line:
            return
        yield line.strip()


@dataclass(slots=True)
class Talk:
    """One conversation in a terminal: takes lines, prints answers, and counts what went wrong."""

    conversation: "Conversation"
    video: str
    """The video as the user named it."""
    looks: bool = True
    traces: "list[Trace]" = field(default_factory=list)
    failed: int = 0
    """Questions that ended in an error."""
    unanswered: int = 0

    def greet(self) -> None:
        """Say on stderr, where lines are typed, what can be typed."""
        if sys.stdin.isatty():
            seconds = self.conversation.video.duration_seconds
            complain(f"{Path(self.video).name}, {seconds:.1f} s: type a question, or /help")

    def take(self, line: str) -> bool:
        """Answer a question or run a command. Returns False at /quit."""
        if not line:
            return True
        if not line.startswith("/"):
            self._ask(line)
            return True
        name, _, rest = line.partition(" ")
        if name == "/quit":
            return False
        try:
            self._command(name, rest.strip())
        except Act2SeeError as error:
            complain(str(error))
        return True

    def _command(self, name: str, rest: str) -> None:
        commands: dict[str, Callable[[str], None]] = {"/frames": self._frames, "/look": self._look, "/report": self._report, "/help": self._help}
        if name not in commands:
            raise ConfigError(f"unknown command {name}; type /help for the commands, or a question")
        commands[name](rest)

    def _ask(self, line: str) -> None:
        question, *choices = (part.strip() for part in line.split("|"))
        show = Printing()
        try:
            with unexpected(BrokenPipeError), self.conversation.stream(question, choices, looks=self.looks) as answering:
                try:
                    for event in answering:
                        show.event(event)
                except KeyboardInterrupt:
                    end_line()
                    complain("stopped")
                    return
                finally:
                    if answering.trace.steps:
                        self.traces.append(answering.trace)
        except ScopeError as error:
            complain(str(error))
            self.unanswered += 1
            return
        except Act2SeeError as error:
            complain_of(error) if isinstance(error, InternalError) else complain(str(error))
            self.failed += 1
            return
        show.finish(answering.trace)
        self.unanswered += not print_answer(answering.trace, AskConfig())

    def _frames(self, rest: str) -> None:
        from act2see.cli.terminal import frame_line

        _refuse(rest, "/frames")
        if not self.traces:
            raise ConfigError("no frames yet: ask a question first")
        last = self.traces[-1]
        times = [f"{frame.seconds:.1f}" for frame in last.frames if frame.seconds is not None]
        say(f"{len(last.frames)} initial frames at {', '.join(times)} s")
        for number, trace in enumerate(self.traces, 1):
            for frame in trace.brought_frames:
                say(f"question {number}: {frame_line(frame)}")

    def _look(self, rest: str) -> None:
        if rest not in ("on", "off"):
            raise ConfigError(f"/look is {'on' if self.looks else 'off'}: write /look on or /look off")
        self.looks = rest == "on"
        say(f"look {rest}")

    def _report(self, rest: str) -> None:
        from act2see.report import write_report

        path = Path(rest) if rest else REPORT
        if not self.traces:
            raise ConfigError("nothing to report yet: ask a question first")
        check_file_to_write(path, self.video, run=self.conversation.save)
        write_report(self.traces, path)
        say(f"report: {path}")

    def _help(self, rest: str) -> None:
        _refuse(rest, "/help")
        say_text(HELP)


def _refuse(rest: str, name: str) -> None:
    if rest:
        raise ConfigError(f"{name} takes nothing after it, and got {rest!r}")
