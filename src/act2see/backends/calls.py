"""Requests to OpenAI-compatible servers that come to an end: each try has a connection of its own, a deadline, bounded bodies, and is counted."""

import random
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Protocol, cast

import httpx2
import openai

from act2see.backends.servers import Server, TransientError, redacted
from act2see.core.errors import BackendError, ConfigError
from act2see.execution.deadline import Deadline

CONNECT_SECONDS = 10.0
"""A server that takes longer to accept a connection counts as not there."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 8.0
"""Between tries, where the server asks for no other pause. As the openai client's own."""
PATIENCE_SECONDS = 120.0
"""A server that asks for a longer pause is not asked again. As the openai client's own."""
MAX_ERROR_BYTES = 32 * 1024
"""So much of an error's body is read; its message is cut to 300 characters. Our choice."""
LONGEST_SECONDS = 10_000_000.0
"""The longest time limit that can be set, 115 days: timers take no infinity."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long an answer may take, and how often it is asked for."""

    wait_seconds: float
    """The longest wait for the next bytes."""
    answer_seconds: float
    """The time for the whole answer, all tries and pauses included."""
    retries: int
    answer_option: str
    """What the user changes to allow an answer more time."""

    def __post_init__(self) -> None:
        for name, seconds in (("timeout", self.wait_seconds), ("answer's time", self.answer_seconds)):
            if not 0 < seconds <= LONGEST_SECONDS:
                raise ConfigError(f"the {name} is {seconds:g} s; it must be above 0 and at most {LONGEST_SECONDS:,.0f}")
        if self.retries < 0:
            raise ConfigError(f"retries are {self.retries}; 0 or more are possible")


@dataclass(frozen=True, slots=True)
class Call:
    """One try: a client whose connections end with the deadline."""

    client: openai.OpenAI
    deadline: Deadline


class _Stream(Protocol):
    """A network stream of httpx's transport."""

    def get_extra_info(self, info: str) -> socket.socket: ...


class Caller:
    """Makes the tries of requests to one server. Safe to use from several threads."""

    def __init__(self, server: Server, policy: RetryPolicy, *, follow_redirects: bool, sleep: Callable[[float], None]) -> None:
        """Redirects are followed on the same server alone, or not at all. Raises `ConfigError` for surroundings that the client cannot use."""
        self.server = server
        self.policy = policy
        self._follow_redirects = follow_redirects
        self._sleep = sleep
        try:
            self._tls = _tls_context()
            self._http(Deadline(0)).close()  # reads the proxies' settings
            self._client = openai.OpenAI(
                api_key=server.key or "none",  # the client insists on one; servers without keys ignore it
                base_url=server.url,
                timeout=openai.Timeout(policy.wait_seconds, connect=min(CONNECT_SECONDS, policy.wait_seconds)),
                max_retries=0,  # they are made here, where their number and the deadline are known
                default_headers={"Accept-Encoding": "identity"},  # a few compressed bytes can hold any number of others
            )
        except (openai.OpenAIError, httpx2.InvalidURL, OSError, ValueError) as error:
            reason = redacted(error, server.key)
            raise ConfigError(
                f"no client for {server.url}: {reason}; check the proxies, certificates and OPENAI_ names in the environment"
            ) from error

    def tries(self) -> "Tries":
        """The tries of one request."""
        return Tries(self, time.monotonic() + self.policy.answer_seconds)

    @contextmanager
    def call(self, seconds: float) -> Iterator[Call]:
        """A client for one try. What is still open at the end is closed.

        Each has connections of its own: only of a new one is it known which request it serves, so that it can be shut down.
        """
        with Deadline(seconds) as deadline, self._http(deadline) as http:
            yield Call(self._client.with_options(http_client=http), deadline)

    def pause(self, seconds: float) -> None:
        """Wait between two tries."""
        self._sleep(seconds)

    def _http(self, deadline: Deadline) -> httpx2.Client:
        def connected(event: str, info: Mapping[str, object]) -> None:
            if event.endswith("connect_tcp.complete"):
                deadline.watch(cast("_Stream", info["return_value"]).get_extra_info("socket"))

        def asked(request: httpx2.Request) -> None:
            request.extensions["trace"] = connected

        hooks: dict[str, list[Callable[..., object]]] = {"request": [asked], "response": [self._check]}
        return openai.DefaultHttpxClient(verify=self._tls, follow_redirects=self._follow_redirects, event_hooks=hooks)

    def _check(self, response: httpx2.Response) -> None:
        """Refuse redirects to another server, which would get the frames, and bound the body of whatever is no success."""
        if response.has_redirect_location:
            target = _redirected(response)
            if not self._follow_redirects or target is None or not _is_same_server(response.url, target):
                where = redacted(target.host if target is not None and target.host else "an address that cannot be read", self.server.key)
                hint = f"if that is the server you mean, name it with {self.server.option}"
                raise BackendError(f"{self.server.url} redirects ({response.status_code}) to {where}, which is not followed; {hint}")
        if not response.is_success:
            assert isinstance(response.stream, httpx2.SyncByteStream)
            is_encoded = response.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity")
            response.stream = _Beginning(response.stream, 0 if is_encoded else MAX_ERROR_BYTES)


class Tries:
    """Counts the tries of one request, and pauses between them as long as the deadline of the answer allows."""

    def __init__(self, caller: Caller, end: float) -> None:
        self._caller = caller
        self._end = end
        self._made = 0

    @property
    def left_seconds(self) -> float:
        """Time until the deadline."""
        return max(0.0, self._end - time.monotonic())

    @contextmanager
    def next(self) -> Iterator[Call]:
        """One more try."""
        self._made += 1
        with self._caller.call(self.left_seconds) as call:
            yield call

    def overdue(self) -> BackendError:
        """The error for an answer that is not there in time."""
        server, policy = self._caller.server, self._caller.policy
        return BackendError(f"{server.url} did not finish its answer within {policy.answer_seconds:g} s; allow it more with {policy.answer_option}")

    def again(self, fault: TransientError) -> None:
        """Pause before the next try. Raises `BackendError` when there is none left, or when the server asks for more patience than there is."""
        server, wait = self._caller.server, fault.wait_seconds
        if self.left_seconds <= 0:
            raise self.overdue() from None
        longest = min(PATIENCE_SECONDS, self.left_seconds)
        if wait is not None and wait > longest:
            asked, allowed = (f"{seconds:,.0f}" if seconds >= 10 else f"{seconds:.1f}" for seconds in (wait, longest))
            raise BackendError(f"{server.url} asks to wait {asked} s{fault.why}; at most {allowed} s are waited, so try again then") from None
        if self._made > self._caller.policy.retries:
            raise fault.final(self._made) from None
        if wait is None:
            wait = min(FIRST_PAUSE_SECONDS * 2 ** (self._made - 1), LONGEST_PAUSE_SECONDS) * random.uniform(0.75, 1.0)
        self._caller.pause(min(wait, longest))


@cache
def _tls_context() -> ssl.SSLContext:
    """The certificates are read once: that takes longer than a request to a server nearby."""
    return httpx2.create_ssl_context()


class _Beginning(httpx2.SyncByteStream):
    """The first bytes of a body. It never fails: of an error's body nothing depends on being whole."""

    def __init__(self, inner: httpx2.SyncByteStream, limit: int) -> None:
        self._inner = inner
        self._limit = limit

    def __iter__(self) -> Iterator[bytes]:
        left = self._limit
        if not left:
            return
        try:
            for part in self._inner:
                yield part[:left]
                left -= len(part)
                if left <= 0:
                    return
        except httpx2.HTTPError:
            return

    def close(self) -> None:
        self._inner.close()


def _redirected(response: httpx2.Response) -> httpx2.URL | None:
    try:
        return response.url.join(response.headers["location"])
    except (httpx2.InvalidURL, ValueError):
        return None


def _is_same_server(source: httpx2.URL, target: httpx2.URL) -> bool:
    """Whether a redirect stays where it is, or goes from http to https on the same host."""
    if source.host != target.host:
        return False
    default = {"http": 80, "https": 443}
    source_port, target_port = (url.port or default.get(url.scheme) for url in (source, target))
    is_secured = (source.scheme, source_port, target.scheme, target_port) == ("http", 80, "https", 443)
    return is_secured or (source.scheme, source_port) == (target.scheme, target_port)
