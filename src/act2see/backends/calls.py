"""Bounded requests to OpenAI-compatible servers: each attempt has its own connection, a deadline, and a limit on the body of an error."""

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
"""Timeout for connecting."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 8.0
"""Bounds of the exponential backoff, used if the server sends no Retry-After. As in the openai client."""
MAX_RETRY_AFTER_SECONDS = 120.0
"""A longer Retry-After is not waited for: the request fails. As in the openai client."""
MAX_ERROR_BYTES = 32 * 1024
"""How much of an error's body is read. Its message is cut to 300 characters. Our choice."""
LONGEST_SECONDS = 10_000_000.0
"""Maximum of a time limit, 115 days: timers do not accept infinity."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Timeouts and number of retries of a request."""

    wait_seconds: float
    """Read timeout: the longest wait for the next bytes."""
    answer_seconds: float
    """Deadline for the whole answer, including all retries and pauses."""
    retries: int
    """Maximum number of retries after a transient error."""
    answer_option: str
    """The flag that sets `answer_seconds`, named in errors."""

    def __post_init__(self) -> None:
        for name, seconds in (("timeout", self.wait_seconds), ("answer's time", self.answer_seconds)):
            if not 0 < seconds <= LONGEST_SECONDS:
                raise ConfigError(f"the {name} is {seconds:g} s; it must be above 0 and at most {LONGEST_SECONDS:,.0f}")
        if self.retries < 0:
            raise ConfigError(f"retries is {self.retries}; it must be 0 or more")


@dataclass(frozen=True, slots=True)
class Call:
    """One attempt: a client whose connections are closed at the deadline."""

    client: openai.OpenAI
    deadline: Deadline


class _Stream(Protocol):
    """A network stream of httpx's transport."""

    def get_extra_info(self, info: str) -> socket.socket: ...


class Caller:
    """Sends requests to one server with retries. Thread-safe."""

    def __init__(self, server: Server, policy: RetryPolicy, *, follow_redirects: bool, sleep: Callable[[float], None]) -> None:
        """Redirects are followed to the same server only, or not at all. Raises `ConfigError` for proxies or certificates that cannot be used."""
        self.server = server
        self.policy = policy
        self._follow_redirects = follow_redirects
        self._sleep = sleep
        try:
            self._tls = _tls_context()
            self._http(Deadline(0)).close()  # reads the proxy settings
            self._client = openai.OpenAI(
                api_key=server.key or "none",  # required by the client; servers without keys ignore it
                base_url=server.url,
                timeout=openai.Timeout(policy.wait_seconds, connect=min(CONNECT_SECONDS, policy.wait_seconds)),
                max_retries=0,  # retries are made here, within the deadline
                default_headers={"Accept-Encoding": "identity"},  # a compressed body has no bounded size
            )
        except (openai.OpenAIError, httpx2.InvalidURL, OSError, ValueError) as error:
            reason = redacted(error, server.key)
            raise ConfigError(
                f"no client for {server.url}: {reason}; check the proxies, certificates and OPENAI_ names in the environment"
            ) from error

    def tries(self) -> "Tries":
        """A new request: an iterator over its attempts."""
        return Tries(self, time.monotonic() + self.policy.answer_seconds)

    @contextmanager
    def call(self, seconds: float) -> Iterator[Call]:
        """A client for one attempt, closed at the end.

        Each attempt has its own connections, so that the deadline can shut down exactly those.
        """
        with Deadline(seconds) as deadline, self._http(deadline) as http:
            yield Call(self._client.with_options(http_client=http), deadline)

    def pause(self, seconds: float) -> None:
        """Sleep between two attempts."""
        self._sleep(seconds)

    def _http(self, deadline: Deadline) -> httpx2.Client:
        def connected(event: str, info: Mapping[str, object]) -> None:
            if event.endswith("connect_tcp.complete"):
                deadline.watch(cast("_Stream", info["return_value"]).get_extra_info("socket"))

        def traced(request: httpx2.Request) -> None:
            request.extensions["trace"] = connected

        hooks: dict[str, list[Callable[..., object]]] = {"request": [traced], "response": [self._check]}
        return openai.DefaultHttpxClient(verify=self._tls, follow_redirects=self._follow_redirects, event_hooks=hooks)

    def _check(self, response: httpx2.Response) -> None:
        """Reject redirects to another server, which would receive the frames, and limit the body of an error."""
        if response.has_redirect_location:
            target = _redirected(response)
            if not self._follow_redirects or target is None or not _is_same_server(response.url, target):
                where = redacted(target.host if target is not None and target.host else "an address that cannot be read", self.server.key)
                hint = f"if that is the server you mean, name it with {self.server.option}"
                raise BackendError(f"{self.server.url} redirects ({response.status_code}) to {where}, which is not followed; {hint}")
        if not response.is_success:
            assert isinstance(response.stream, httpx2.SyncByteStream)
            is_encoded = response.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity")
            response.stream = _Truncated(response.stream, 0 if is_encoded else MAX_ERROR_BYTES)


class Tries:
    """The attempts of one request, with pauses between them, within the deadline of the answer."""

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
        """Start the next attempt."""
        self._made += 1
        with self._caller.call(self.left_seconds) as call:
            yield call

    def overdue(self) -> BackendError:
        """The error for an answer that missed its deadline."""
        server, policy = self._caller.server, self._caller.policy
        return BackendError(f"{server.url} did not finish its answer within {policy.answer_seconds:g} s; allow it more with {policy.answer_option}")

    def again(self, fault: TransientError) -> None:
        """Sleep before the next attempt. Raises `BackendError` if no retry is left, or if Retry-After exceeds the limit."""
        server, wait = self._caller.server, fault.wait_seconds
        if self.left_seconds <= 0:
            raise self.overdue() from None
        longest = min(MAX_RETRY_AFTER_SECONDS, self.left_seconds)
        if wait is not None and wait > longest:
            wanted, allowed = (f"{seconds:,.0f}" if seconds >= 10 else f"{seconds:.1f}" for seconds in (wait, longest))
            raise BackendError(f"{server.url} asks for a pause of {wanted} s{fault.why}; the maximum is {allowed} s: try again later") from None
        if self._made > self._caller.policy.retries:
            raise fault.final(self._made) from None
        if wait is None:
            wait = min(FIRST_PAUSE_SECONDS * 2 ** (self._made - 1), LONGEST_PAUSE_SECONDS) * random.uniform(0.75, 1.0)
        self._caller.pause(min(wait, longest))


@cache
def _tls_context() -> ssl.SSLContext:
    """Loaded once: reading the certificates takes longer than a request to a local server."""
    return httpx2.create_ssl_context()


class _Truncated(httpx2.SyncByteStream):
    """The first bytes of an error's body. Ends early instead of failing, because a message may be incomplete."""

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
    """Whether a redirect stays on the same origin, or upgrades http to https on the same host."""
    if source.host != target.host:
        return False
    default = {"http": 80, "https": 443}
    source_port, target_port = (url.port or default.get(url.scheme) for url in (source, target))
    is_secured = (source.scheme, source_port, target.scheme, target_port) == ("http", 80, "https", 443)
    return is_secured or (source.scheme, source_port) == (target.scheme, target_port)
