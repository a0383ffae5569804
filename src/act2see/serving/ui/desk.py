"""What the page does, without a page: visitors with a video each, one model for all, and the pieces of HTML that an answer consists of."""

import json
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from importlib.resources import files
from pathlib import Path

from act2see.config import ModelConfig, UiConfig
from act2see.core.engine import Delta
from act2see.core.errors import Act2SeeError, ConfigError, ScopeError, VideoError
from act2see.core.plaintext import one_line
from act2see.core.trace import Frame, Observation, Step, Trace
from act2see.evaluation.conversation import Answering, Conversation, Models
from act2see.execution.faults import unexpected
from act2see.report import write_report
from act2see.report.fragments import answer_html, reasoning_html, timeline_html, words_html
from act2see.serving.chat_requests import MAX_QUESTION_CHARACTERS
from act2see.video import Video

BUNDLED = Path(str(files("act2see.synthetic").joinpath("demo")))
IDLE_SECONDS = 1800.0
"""A visitor who has done nothing for so long is forgotten, and the video deleted. Our choice."""
UNOPENED_SECONDS = 600.0
"""An upload that no visitor has opened for so long is deleted. Our choice."""
MOST_VISITORS = 64
"""Beyond these, the one that has been idle for longest is forgotten. Our choice."""
_TWENTIETH = 0.05  # seconds between two updates of streamed text: the eye sees no more, and a browser need not draw more
_TOKENS = 16  # random bytes in a folder's name


@dataclass(frozen=True, slots=True)
class Pane:
    """One answer as HTML: the steps so far, the words after them, and the answer with its cost."""

    reasoning: str = ""
    words: str = ""
    answer: str = ""


@dataclass(frozen=True, slots=True)
class Screen:
    """What the page shows at one moment."""

    message: str = ""
    """Plain text: what is wrong or what to know."""
    timeline: str = ""
    panes: tuple[Pane, ...] = ()
    report: Path | None = None
    traces: Path | None = None
    """The files to download: an HTML report of all questions about this video, and its run folder as a zip file."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A bundled clip with its question."""

    file: str
    question: str
    choices: tuple[str, ...]


def suggestions() -> tuple[Suggestion, ...]:
    """The bundled clips in order of their names."""
    items = json.loads((BUNDLED / "questions.json").read_text(encoding="utf-8"))
    return tuple(sorted((Suggestion(item["video"], item["question"], tuple(item["choices"])) for item in items), key=lambda one: one.file))


class Desk:
    """All visitors. One answer is computed at a time: a new one ends any other that nobody reads any more."""

    def __init__(self, settings: UiConfig, models: Models, folder: Path) -> None:
        """`folder` is for temporary files: uploads below it are deleted when their last visitor is done with them."""
        self.settings, self.models, self.folder = settings, models, folder.resolve()
        self._visitors: dict[str, Visitor] = {}
        self._holders: dict[Path, set[str]] = {}
        self._changing = threading.RLock()
        self.computing = threading.Lock()
        self.running: Answering | None = None

    def visitor(self, key: str) -> "Visitor":
        """The visitor with this key, which the server chose or nobody can guess; a new one at the first call."""
        with self._changing:
            now = time.monotonic()
            for other in [one for one, found in self._visitors.items() if one != key and now - found.touched > IDLE_SECONDS]:
                self.leave(other)
            if key not in self._visitors:
                while len(self._visitors) >= MOST_VISITORS:
                    self.leave(min(self._visitors, key=lambda one: self._visitors[one].touched))
                self._visitors[key] = Visitor(self, key)
            found = self._visitors[key]
            found.touched = now
            return found

    def leave(self, key: str) -> None:
        """Forget a visitor: stop the answer, delete the video and the files to download."""
        with self._changing:
            if (visitor := self._visitors.pop(key, None)) is not None:
                visitor.close()

    def sweep(self) -> None:
        """Delete uploads that nobody opens: their page was closed before, or they were not sent by a page."""
        with self._changing:
            visitors = {visitor.folder for visitor in self._visitors.values()}
            for folder in [one for one in self.folder.iterdir() if one.is_dir() and one not in visitors]:
                for file in folder.iterdir():
                    if file not in self._holders and time.time() - file.lstat().st_mtime > UNOPENED_SECONDS:
                        file.unlink(missing_ok=True)
                with suppress(OSError):  # not empty
                    folder.rmdir()

    def hold(self, path: Path, key: str) -> None:
        """Note that a visitor uses an upload. Equal uploads of two visitors may be one file."""
        with self._changing:
            self._holders.setdefault(path, set()).add(key)

    def let_go(self, path: Path, key: str) -> None:
        """Delete an upload that no other visitor uses."""
        with self._changing:
            holders = self._holders.get(path, set())
            holders.discard(key)
            if not holders:
                self._holders.pop(path, None)
                path.unlink(missing_ok=True)
                with suppress(OSError):  # not empty, or the folder of all
                    if path.parent != self.folder:
                        path.parent.rmdir()


class Visitor:
    """One visitor's video and the questions about it."""

    def __init__(self, desk: Desk, key: str) -> None:
        self.desk, self.key, self.touched = desk, key, time.monotonic()
        self.folder: Path | None = None
        """Where this visitor's run folder and the files to download are."""
        self._upload: Path | None = None
        self._conversation: Conversation | None = None
        self._traces: list[Trace] = []
        self._answering: Answering | None = None
        self._ticks: tuple[tuple[Frame, ...], str] = ((), "")  # the initial frames, and the timeline with nothing but them

    # The video

    def open(self, path: Path) -> Screen:
        """Take an uploaded video in place of the present one. A video that is refused is deleted at once."""
        self.close()
        path = path.resolve()
        if path.parent.parent != self.desk.folder or path.is_dir() or not path.exists():  # each is in a folder of its own
            raise ConfigError("this is no upload: choose a video again")
        self.desk.hold(path, self.key)
        self._upload = path
        try:
            with unexpected():
                return Screen(self._opened(path))
        except Act2SeeError as error:
            told = self._told(error)
            self.close()
            return Screen(told)

    def open_bundled(self, name: str) -> tuple[Screen, Path]:
        """Take a bundled clip. Returns also where the browser can have it: a copy among this visitor's own files."""
        if name not in {one.file for one in suggestions()}:
            raise ConfigError(f"there is no bundled clip {name}")
        folder = self.desk.folder / secrets.token_hex(_TOKENS)
        folder.mkdir(mode=0o700)
        shutil.copyfile(BUNDLED / name, folder / name)
        return self.open(folder / name), folder / name

    def _opened(self, path: Path) -> str:
        settings = self.desk.settings
        size = path.stat().st_size
        if size > settings.max_upload_mb * 2**20:
            raise VideoError(f"the video has {size / 2**20:.0f} MiB; allowed are {settings.max_upload_mb} (act2see ui --max-upload-mb)")
        video = Video(path)
        if video.duration_seconds > settings.max_video_seconds:
            allowed = f"allowed are {settings.max_video_seconds:g} (act2see ui --max-video-seconds)"
            raise VideoError(f"the video has {video.duration_seconds:.0f} seconds; {allowed}")
        self.folder = self.desk.folder / secrets.token_hex(_TOKENS)
        self.folder.mkdir(mode=0o700)
        options = ModelConfig(**{one.name: getattr(settings, one.name) for one in fields(ModelConfig)})  # a download tells nothing of the server
        self._conversation = Conversation(video, options, models=self.desk.models, save=self.folder / "run")
        notes = [note for note in (video.damage, video.colours) if note]
        try:
            notice = self._conversation.screen(("yes", "no"))  # what a question with choices would be told
        except ScopeError as error:
            notice = str(error)
        return one_line(" ".join([*notes, *([notice] if notice else [])]))

    def _told(self, error: Act2SeeError) -> str:
        """An error without the place of the upload on this machine."""
        message = one_line(str(error))
        return message if self._upload is None else message.replace(f"{self._upload.parent}{os.sep}", "")

    def stop(self) -> None:
        """End the answer that is being computed for this visitor; its steps so far stay."""
        if self._answering is not None and self.desk.running is self._answering:
            self.desk.running = None

    def close(self) -> None:
        """Stop, and delete the video and the files to download."""
        self.stop()
        self._conversation, self._traces, self._ticks = None, [], ((), "")
        if self._upload is not None:
            self.desk.let_go(self._upload, self.key)
            self._upload = None
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None

    # Questions

    def ask(self, question: str, choices: str, *, compare: bool = False) -> Iterator[Screen]:
        """Answer a question, and with `compare` again without looks, beside it. Choices are lines, or separated by bars.

        Yields what to show; whatever goes wrong is the last screen's message.
        """
        conversation, options = self._conversation, [one.strip() for one in re.split(r"[\n|]", choices) if one.strip()]
        screen = Screen()
        if conversation is None:
            yield Screen("choose a video first: drop a file, or pick a bundled clip")
            return
        if (letters := len(question) + len(choices)) > MAX_QUESTION_CHARACTERS:
            yield Screen(f"the question and its choices have {letters:,} characters; at most {MAX_QUESTION_CHARACTERS:,} are taken: ask shorter")
            return
        try:
            for looks in (True, False) if compare else (True,):
                heading = ("With looking" if looks else "Without looking") if compare else ""
                with unexpected(), conversation.stream(question, options, looks=looks) as answering:
                    before = screen
                    for screen in self._streamed(answering, before, heading):
                        yield screen
                if answering.trace.finish is None:
                    screen = replace(screen, message="stopped")
                    break
            yield replace(screen, report=self._report(), traces=self._zipped())
        except Act2SeeError as error:
            yield replace(screen, message=self._told(error))

    def _streamed(self, answering: Answering, before: Screen, heading: str) -> Iterator[Screen]:
        """The screens of one answer, beside the panes that are there already."""
        trace = answering.trace
        trace.video = Path(trace.video).name  # where the server keeps it is nobody's business
        self._answering = answering
        pane, words, shown_at = Pane(reasoning_html(trace, heading)), "", 0.0
        if self._ticks[0] is not trace.frames:
            self._ticks = (trace.frames, timeline_html(trace))
        screen = replace(before, timeline=before.timeline or self._ticks[1], panes=(*before.panes, pane))
        yield screen
        for event in self._events(answering):
            if isinstance(event, Delta):
                words += event.text
                if time.monotonic() - shown_at < _TWENTIETH or not (html := words_html(words)):
                    continue
                pane = replace(pane, words=html)
            else:
                words = ""
                pane = Pane(reasoning_html(trace, heading))
                if isinstance(event, Observation):
                    screen = replace(screen, timeline=timeline_html(trace))
            shown_at = time.monotonic()
            screen = replace(screen, panes=(*before.panes, pane))
            yield screen
        if trace.steps:
            self._traces.append(trace)
        yield replace(screen, panes=(*before.panes, Pane(reasoning_html(trace, heading), answer=answer_html(trace))))

    def _events(self, answering: Answering) -> Iterator[Delta | Step]:
        """The answer's events until its end, or until another answer has taken its place or the visitor has stopped it.

        The model has one KV cache, and a browser that goes away may leave an answer behind that nobody closes: it must not go on beside a new one.
        """
        events = iter(answering)
        with self.desk.computing:
            self.desk.running = answering
        while True:
            with self.desk.computing:
                if self.desk.running is not answering:
                    return
                try:
                    event = next(events)
                except StopIteration:
                    self.desk.running = None
                    return
            yield event

    def _report(self) -> Path | None:
        if self.folder is None or not self._traces:
            return None
        path = self.folder / "report.html"
        write_report(self._traces, path)
        return path

    def _zipped(self) -> Path | None:
        if self.folder is None or not (self.folder / "run").is_dir():
            return None
        return Path(shutil.make_archive(str(self.folder / "traces"), "zip", root_dir=self.folder, base_dir="run"))
