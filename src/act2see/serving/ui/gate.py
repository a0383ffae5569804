"""What every request to the page passes, before Gradio sees it: whose page sent it, which address it names, its size, and the files in it.

Gradio itself answers any host name, takes uploads from any site, fetches http(s) addresses for its visitors, and keeps what a broken upload leaves.
"""

import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from act2see.core.errors import InternalError
from act2see.core.plaintext import one_line
from act2see.execution.faults import unexpected
from act2see.serving.gate import check_sender, limited, stated_bytes
from act2see.serving.refusals import RefusalError, answer_for
from act2see.serving.room import Room
from act2see.serving.workspace import LOCK
from act2see.storage.codec import JSON, shown

_log = logging.getLogger(__name__)
_API = "/gradio_api/"
_UPLOAD = f"{_API}upload"
_FILE = f"{_API}file="
_POSTED = ("queue/join", "cancel", "reset")
_READ = ("queue/data", "queue/status", "upload_progress", "startup-events", "theme.css", "info", "app_id", "login_check", "token", "user")
_HEARTBEAT = re.compile(r"heartbeat/[A-Za-z0-9_-]{1,64}")
_BODY_BYTES = 1 << 20
"""Maximum size of a request that is no upload: a question with its choices takes some kilobytes. Our choice."""
_FORM_BYTES = 1 << 16
_BODY_SECONDS = 30.0
_UPLOAD_SECONDS = 900.0
"""Time limits for receiving a request's body, and an upload. Our choice."""


@dataclass(slots=True)
class PageGate:
    """An ASGI application around Gradio's."""

    app: ASGIApp
    hosts: tuple[str, ...] | None
    """See `Gate.hosts`."""
    folder: Path
    """Where Gradio keeps uploads; resolved."""
    room: Room
    max_upload_bytes: int
    sweep: Callable[[], None]
    """Deletes uploads that nobody uses; called before each upload."""
    _uploading: int = field(default=0, init=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it in one line of text."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        if scope["type"] != "http":
            return
        has_begun = False

        async def tell(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                headers = MutableHeaders(scope=message)
                headers["X-Content-Type-Options"] = "nosniff"
                headers["X-Frame-Options"] = "SAMEORIGIN"
            await send(message)

        try:
            with unexpected(ClientDisconnect):
                await self._passed(scope, receive, tell)
        except (RefusalError, InternalError) as error:
            if isinstance(error, InternalError):
                _log.error("the page failed: %s", one_line(str(error)))
            if not has_begun:
                told = answer_for(error)
                await PlainTextResponse(told.message, told.status, {**told.headers})(scope, receive, tell)
        except ClientDisconnect:  # while its body was read here or by Gradio
            return

    async def _passed(self, scope: Scope, receive: Receive, send: Send) -> None:
        request, path = Request(scope, receive), str(scope["path"])
        check_sender(Headers(scope=scope), self.hosts, is_open=True)
        self._check_address(str(scope["method"]), path)
        if path != _UPLOAD:
            if scope["method"] == "POST":
                receive = await self._checked(request)
            await self.app(scope, receive, send)
            return
        most = self.max_upload_bytes + _FORM_BYTES
        body = limited(request, most, _UPLOAD_SECONDS)
        stated = stated_bytes(request.headers)
        expected = most if stated is None else stated
        if expected > most:
            expected = 0  # what is received of it is thrown away
        self._uploading += 1
        try:
            await run_in_threadpool(self.sweep)
            await run_in_threadpool(self.room.take, expected)
            try:
                await self.app(scope, body.receive, send)
            finally:
                self.room.give(expected)
        finally:
            self._uploading -= 1
            if not self._uploading:
                await run_in_threadpool(self._delete_broken)

    def _check_address(self, method: str, path: str) -> None:
        """Refuse what the page never asks for."""
        if path.startswith(_FILE):
            if method in ("GET", "HEAD") and self._is_ours(path.removeprefix(_FILE)):
                return
        elif path.startswith(_API):
            name = path.removeprefix(_API).rstrip("/")
            if (method == "POST" and (name in _POSTED or path == _UPLOAD)) or (method == "GET" and (name in _READ or _HEARTBEAT.fullmatch(name))):
                return
        elif (method in ("GET", "HEAD") and not path.startswith(("/monitoring", "/run-history"))) or method == "OPTIONS":
            return
        raise RefusalError("there is nothing here", 404, "not_found")

    async def _checked(self, request: Request) -> Receive:
        """The body again, once it is known to be JSON that names only files of this page. Raises `RefusalError`."""
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise RefusalError("send the body as Content-Type: application/json", 415, "wrong_content_type")
        body = await limited(request, _BODY_BYTES, _BODY_SECONDS).body()
        try:
            value = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise RefusalError("the body is not JSON", code="invalid_json") from error
        for path in _paths(value):
            if not isinstance(path, str) or not self._is_ours(path):
                raise RefusalError(f"{shown(path)} is no file of this page: upload it", code="invalid_video")
        is_sent = False

        async def receive() -> Message:
            nonlocal is_sent
            if is_sent:
                return await request.receive()
            is_sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        return receive

    def _is_ours(self, path: str) -> bool:
        """Whether a path names a file below the folder, once links are resolved."""
        try:
            return path.startswith("/") and Path(path).resolve().is_relative_to(self.folder)
        except (OSError, RuntimeError, ValueError):  # a cycle of links, a null character
            return False

    def _delete_broken(self) -> None:
        """Delete what broken uploads have left; complete ones are in folders of their own."""
        for file in self.folder.iterdir():
            if file.name != LOCK and file.is_file() and not self._uploading:
                file.unlink(missing_ok=True)


def _paths(value: JSON) -> Iterator[JSON]:
    """The paths of all files in a request, as Gradio finds them."""
    left = [value]
    while left:
        match left.pop():
            case Mapping() as found:
                if found.get("path") is not None:
                    yield found["path"]
                left += found.values()
            case str():
                continue
            case Sequence() as found:
                left += found
            case _:
                continue


def size_below(folder: Path) -> int:
    """Bytes of all files below a folder."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # deleted meanwhile
                total += os.lstat(os.path.join(parent, name)).st_size
    return total
