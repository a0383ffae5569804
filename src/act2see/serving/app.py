"""The HTTP application: OpenAI's chat completions, files and models, health, metrics and the OpenAPI document."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from act2see.core.errors import Act2SeeError, StoreError, disk_reason
from act2see.core.plaintext import one_line
from act2see.execution.faults import unexpected
from act2see.serving.answers import Answered, Event, Job
from act2see.serving.chat_requests import read_request
from act2see.serving.completions import error_event
from act2see.serving.gate import Gate, limited, own_names, stated_bytes
from act2see.serving.metrics import CONTENT_TYPE, Metrics
from act2see.serving.openapi import document
from act2see.serving.refusals import RefusalError, StoppedError, answer_for, is_hidden, too_late
from act2see.serving.service import Service
from act2see.serving.uploads import Upload
from act2see.storage.codec import JSON

KEEP_ALIVE_SECONDS = 15.0
"""A comment is sent on a stream that has been silent for this long, so that proxies keep it open. Our choice."""
_UPLOADS_AT_ONCE = 8
_FORM_BYTES = 1 << 16
"""What a multipart form may have beside its file."""
_MOST_NAME_CHARACTERS = 255
_CLOSE = {"Connection": "close"}
EVENTS = "text/event-stream"
Endpoint = Callable[[Request], Awaitable[Response]]
_log = logging.getLogger(__name__)


class Application:
    """The endpoints of one service. Where it is one of several replicas, `counters_of_all` gives the text of /metrics."""

    def __init__(self, service: Service, counters_of_all: Callable[[], Awaitable[bytes]] | None = None) -> None:
        self.service, self._counters_of_all = service, counters_of_all
        self.metrics = Metrics(lambda: service.answers.running, lambda: service.answers.waiting)
        self._uploading = asyncio.Semaphore(_UPLOADS_AT_ONCE)
        self._document = document(service.model_name, has_key=service.config.api_key is not None)

    def asgi(self) -> ASGIApp:
        """The application for an ASGI server."""
        paths: tuple[tuple[str, str, Endpoint], ...] = (
            ("/v1/chat/completions", "POST", self.chat),
            ("/v1/files", "POST", self.upload),
            ("/v1/files/{id}", "GET", self.uploaded),
            ("/v1/files/{id}", "DELETE", self.delete),
            ("/v1/models", "GET", self.models),
            ("/v1/models/{name:path}", "GET", self.one_model),
            ("/health", "GET", self.health),
            ("/metrics", "GET", self.counters),
            ("/openapi.json", "GET", self.openapi),
        )
        handlers = {Act2SeeError: _refuse, HTTPException: _not_there}
        app = Starlette(routes=[Route(path, _guarded(found), methods=[method]) for path, method, found in paths], exception_handlers=handlers)
        config = self.service.config
        routes = frozenset(path for path, _, _ in paths if "{" not in path)
        return Gate(app, config.api_key, own_names(config.host, config.proxy_host), self.metrics.request, routes)

    # Questions

    async def chat(self, request: Request) -> Response:
        """Answer a question about a video."""
        _check_is_json(request)
        config, answers = self.service.config, self.service.answers
        job = answers.reserve()
        events: asyncio.Queue[Event] = asyncio.Queue()
        names: dict[str, str] = {}
        try:
            body = await limited(request, config.max_body_mb << 20, config.body_seconds).body()
            asked = await run_in_threadpool(read_request, body)
            del body
            self.service.start(job, asked, _teller(events), names)
            del asked
            first = await self._first(events, job, request)
        except BaseException:  # also of a task that is cancelled because its client is gone
            answers.stop(job, _gone())
            raise
        match first:
            case bytes():
                return _Stream(self._stream(first, events, job, names), lambda: answers.stop(job, _gone()))
            case Answered():
                self._count(first, job)
                return Response(first.content, media_type=EVENTS if first.content.startswith(b"data:") else "application/json")
            case _:
                told = answer_for(first, names)
                return JSONResponse(told.body(), told.status, told.headers)

    async def _first(self, events: "asyncio.Queue[Event]", job: Job, request: Request) -> Event:
        """The first event of a job. Stops it at its deadline, and raises `ClientDisconnect` when the client leaves."""
        event, gone = asyncio.ensure_future(events.get()), asyncio.ensure_future(_disconnected(request))
        try:
            await asyncio.wait({event, gone}, timeout=job.seconds_left, return_when=asyncio.FIRST_COMPLETED)
            if event.done():
                return event.result()
            if gone.done():
                raise ClientDisconnect
            return self._expire(job)
        finally:
            event.cancel()
            gone.cancel()

    async def _stream(self, event: Event, events: "asyncio.Queue[Event]", job: Job, names: dict[str, str]) -> AsyncIterator[bytes]:
        """A stream from its first event on."""
        while isinstance(event, bytes):
            yield event
            while True:
                try:
                    event = await asyncio.wait_for(events.get(), min(KEEP_ALIVE_SECONDS, job.seconds_left))
                    break
                except TimeoutError:
                    if not job.seconds_left:
                        event = self._expire(job)
                        break
                    yield b": waiting\n\n"
        if isinstance(event, Answered):
            self._count(event, job)
            yield event.content
        else:
            yield error_event(answer_for(event, names).body())

    def _expire(self, job: Job) -> StoppedError:
        reason = too_late(job.deadline_seconds)
        self.service.answers.stop(job, reason)
        return reason

    def _count(self, answered: Answered, job: Job) -> None:
        self.metrics.answer(answered.trace, job.deadline_seconds - job.seconds_left)

    # Uploads

    async def upload(self, request: Request) -> Response:
        """Store a video for later questions."""
        config, uploads = self.service.config, self.service.uploads
        if self.service.answers.is_draining:
            raise RefusalError("the server is shutting down", 503, "shutting_down", {"Retry-After": "10", "Connection": "close"})
        if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            raise RefusalError("send the video as the field file of multipart/form-data", 415, "wrong_content_type", _CLOSE)
        if self._uploading.locked():
            raise RefusalError("too many uploads at once: try again soon", 429, "uploads_busy", {"Retry-After": "5", **_CLOSE})
        async with self._uploading:
            most = (config.max_upload_mb << 20) + _FORM_BYTES
            received = limited(request, most, config.body_seconds)
            stated = stated_bytes(request.headers)
            expected = most if stated is None else stated
            try:
                with uploads.room.taken(expected if expected <= most else 0):  # a longer body is not kept
                    async with received.form(max_files=1, max_fields=8, max_part_size=_FORM_BYTES) as form:
                        file = form.get("file")
                        if not isinstance(file, UploadFile):
                            raise RefusalError("the form has no file in its field file")
                        name = one_line(file.filename or "video")[:_MOST_NAME_CHARACTERS]
                        made = await run_in_threadpool(uploads.add, name, file.file, file.size or 0)
            except OSError as error:  # the form's parser writes what it receives into a temporary file
                raise StoreError(f"cannot receive an upload: {disk_reason(error)}") from error
        return JSONResponse(self._upload_record(made))

    async def uploaded(self, request: Request) -> Response:
        """Describe an upload."""
        return JSONResponse(self._upload_record(self.service.uploads.get(request.path_params["id"])))

    async def delete(self, request: Request) -> Response:
        """Delete an upload."""
        name = str(request.path_params["id"])
        await run_in_threadpool(self.service.uploads.delete, name)
        return JSONResponse({"id": name, "object": "file", "deleted": True})

    def _upload_record(self, upload: Upload) -> dict[str, JSON]:
        expires = int(time.time() + self.service.uploads.seconds_left(upload))
        return {
            "id": upload.id,
            "object": "file",
            "bytes": upload.size_bytes,
            "created_at": int(upload.created),
            "expires_at": expires,
            "filename": upload.name,
            "purpose": "user_data",
            "status": "processed",
        }

    # The rest

    async def models(self, request: Request) -> Response:
        """List the one model."""
        return JSONResponse({"object": "list", "data": [self._model()]})

    async def one_model(self, request: Request) -> Response:
        """Describe a model."""
        if request.path_params["name"] != self.service.model_name:
            raise RefusalError(f"no such model; this server has {self.service.model_name!r}", 404, "model_not_found")
        return JSONResponse(self._model())

    def _model(self) -> dict[str, JSON]:
        return {"id": self.service.model_name, "object": "model", "created": self.service.created, "owned_by": "act2see"}

    async def health(self, request: Request) -> Response:
        """Whether new questions are taken."""
        answers = self.service.answers
        status = "draining" if answers.is_draining else "ok"
        return JSONResponse({"status": status, "running": answers.running, "waiting": answers.waiting}, 503 if answers.is_draining else 200)

    async def counters(self, request: Request) -> Response:
        """Prometheus' counters."""
        text = self.metrics.text() if self._counters_of_all is None else await self._counters_of_all()
        return Response(text, media_type=CONTENT_TYPE)

    async def openapi(self, request: Request) -> Response:
        """The OpenAPI document."""
        return JSONResponse(self._document)


class _Stream(StreamingResponse):
    """Server-sent events; `at_end` is called however the response ends, also before its first byte."""

    def __init__(self, content: AsyncIterator[bytes], at_end: Callable[[], None]) -> None:
        super().__init__(content, media_type=EVENTS, headers={"X-Accel-Buffering": "no"})
        self._at_end = at_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._at_end()


def _teller(events: "asyncio.Queue[Event]") -> Callable[[Event], None]:
    """What puts a worker's events into the queue of a request's task."""
    loop = asyncio.get_running_loop()

    def tell(event: Event) -> None:
        with suppress(RuntimeError):  # the loop has ended, and with it the request
            loop.call_soon_threadsafe(events.put_nowait, event)

    return tell


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _gone() -> StoppedError:
    return StoppedError("the client is gone", 499, "client_gone")


def _check_is_json(request: Request) -> None:
    """Refuse other content: a page of another site can send a form without being asked whether it may, but no JSON."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RefusalError("send the body as Content-Type: application/json", 415, "wrong_content_type", _CLOSE)


# Errors


def _guarded(endpoint: Endpoint) -> Endpoint:
    """The endpoint with unexpected exceptions as `InternalError`, so that one request's fault is one response."""

    async def guarded(request: Request) -> Response:
        try:
            with unexpected(HTTPException, ClientDisconnect):
                return await endpoint(request)
        except ClientDisconnect:
            return Response(status_code=499)  # nobody reads it
        except Act2SeeError as error:
            if is_hidden(error):
                _log.error("%s failed: %s", request.url.path, one_line(str(error)))
            raise

    return guarded


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, Act2SeeError)
    told = answer_for(error)
    return JSONResponse(told.body(), told.status, told.headers)


async def _not_there(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    messages = {404: "no such address: see /openapi.json", 405: f"{request.method} is not possible here: see /openapi.json"}
    codes = {404: "not_found", 405: "method_not_allowed"}
    message = messages.get(error.status_code) or one_line(error.detail)
    told = answer_for(RefusalError(message, error.status_code, codes.get(error.status_code, "invalid_request"), error.headers))
    return JSONResponse(told.body(), told.status, told.headers)
