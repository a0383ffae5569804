"""What every request passes: the host it names, its key, the size and speed of its body; and what every response carries."""

import asyncio
import hmac
import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from act2see.serving.refusals import RefusalError, answer_for

OPEN_ROUTES = ("/health",)
"""Routes that need no key: a load balancer asks them."""
_DISCARDED_BYTES = 64 << 20
"""A body beyond its limit by no more is received and thrown away: a client that is still sending would see a reset connection, not the 413."""
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True, slots=True)
class Gate:
    """An ASGI application around another one."""

    app: ASGIApp
    api_key: str | None
    hosts: tuple[str, ...] | None
    """Names of this server in a request's Host header; None for any. A page of another site that has its name resolve to 127.0.0.1 sends its own."""
    count: Callable[[str, int], None]
    routes: frozenset[str]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        if scope["type"] != "http":
            return
        route = scope["path"] if scope["path"] in self.routes else "/v1/files/{id}" if scope["path"].startswith("/v1/files/") else "other"

        async def tell(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Content-Type-Options"] = "nosniff"
                headers["X-Frame-Options"] = "DENY"
                headers["Cache-Control"] = "no-store"
                self.count(route, message["status"])
            await send(message)

        try:
            self._check(scope["path"], Headers(scope=scope))
        except RefusalError as error:
            told = answer_for(error)
            await JSONResponse(told.body(), told.status, {**told.headers, "Connection": "close"})(scope, receive, tell)
            return
        await self.app(scope, receive, tell)

    def _check(self, path: str, headers: Headers) -> None:
        check_sender(headers, self.hosts, is_open=self.api_key is None)
        if self.api_key is None or path in OPEN_ROUTES:
            return
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(key.strip().encode(), self.api_key.encode()):
            raise RefusalError("wrong or missing API key: send Authorization: Bearer KEY", 401, "invalid_api_key", {"WWW-Authenticate": "Bearer"})


def check_sender(headers: Headers, hosts: tuple[str, ...] | None, *, is_open: bool) -> None:
    """Raise `RefusalError` (403) for a request to another host (see `Gate.hosts`), and for one that a page of another site sends.

    A browser names the page in the Origin header, and sends forms to any address without asking. A page that knows no key can do nothing where one is
    asked for (`is_open` is false).
    """
    name = _host_of(headers.get("host", ""))
    if hosts is not None and name not in hosts:
        raise RefusalError("the Host header does not name this server (behind a proxy: --proxy-host)", 403, "wrong_host")
    origin = headers.get("origin")
    if origin is not None and is_open and _host_of(origin.partition("://")[2]) not in (hosts or (name,)):
        raise RefusalError(
            "a page of another site may not ask this server: its Origin header is not this server's (behind a proxy: --proxy-host)",
            403,
            "wrong_origin",
        )


def _host_of(text: str) -> str:
    """The host of `HOST` or `HOST:PORT` in lower case."""
    text = text.lower()
    return text if text.endswith("]") else text.rpartition(":")[0] or text


def own_names(host: str, proxies: Sequence[str] = ()) -> tuple[str, ...] | None:
    """The names by which a server on this address is asked: those of this machine and of the proxies for a loopback address, any for others."""
    try:
        is_loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return None
    return tuple({*_LOOPBACK, f"[{host}]" if ":" in host else host, *map(str.lower, proxies)}) if is_loopback else None


def stated_bytes(headers: Headers) -> int | None:
    """The size of a request's body by its head; None if it is not known. That of a chunked body is whatever comes: its Content-Length may lie."""
    stated = headers.get("content-length", "")
    return int(stated) if stated.isdecimal() and "transfer-encoding" not in headers else None


def limited(request: Request, max_bytes: int, seconds: float) -> Request:
    """The request with a body that raises `RefusalError` beyond these limits: 413 for its size, 408 for its time."""
    size = stated_bytes(request.headers) or 0
    if size > max_bytes and (size - max_bytes > _DISCARDED_BYTES or "expect" in request.headers):
        raise _too_large(max_bytes)
    until = asyncio.get_running_loop().time() + seconds
    received, is_whole = 0, False

    async def receive() -> Message:
        nonlocal received, is_whole
        if is_whole:  # what comes now is the client's leaving
            return await request.receive()
        try:
            async with asyncio.timeout_at(until):
                message = await request.receive()
        except TimeoutError as error:
            raise RefusalError(f"the body took longer than {seconds:g} s: send it faster", 408, "body_timeout", {"Connection": "close"}) from error
        received += len(message.get("body", b""))
        is_whole = not message.get("more_body", False)
        if received > max_bytes >= size or (size > max_bytes and is_whole):
            raise _too_large(max_bytes)
        return {**message, "body": b""} if size > max_bytes else message

    return Request(request.scope, receive)


def _too_large(max_bytes: int) -> RefusalError:
    return RefusalError(f"the body has more than {max_bytes:,} bytes: send a smaller video", 413, "too_large", {"Connection": "close"})
