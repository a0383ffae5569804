"""Cost tracking in dollars, and a rate limit, for any backend."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Generator as Yields
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, TypeAlias

from msgspec import Meta

from act2see.config.toml import read_toml
from act2see.core.chat import Tool
from act2see.core.errors import ConfigError
from act2see.core.interfaces import Backend, Continuation, is_concurrent, reseeded
from act2see.core.trace import Cost, Trace
from act2see.storage.codec import shown
from act2see.storage.typed_json import converted

PER = 1_000_000
"""Prices are per this many tokens, as vendors publish them."""
Dollars: TypeAlias = Annotated[float, Meta(ge=0, lt=1e9, extra={"words": "a price in dollars per million tokens"})]


@dataclass(frozen=True, slots=True)
class Price:
    """The price of one model, in dollars per million tokens. `cached` is for cached prompt tokens and defaults to `input`."""

    input: Dollars
    output: Dollars
    cached: Dollars | None = None

    def of(self, cost: Cost) -> float:
        """The price of the counted tokens in dollars, not rounded."""
        cached = self.input if self.cached is None else self.cached
        fresh = max(0, cost.tokens_in - cost.tokens_reused)
        return (fresh * self.input + cost.tokens_reused * cached + cost.tokens_out * self.output) / PER


def read_prices(path: Path) -> dict[str, Price]:
    """The prices in a TOML file, a table a model: `["gemini-2.5-pro"]` with `input`, `output` and perhaps `cached`. Raises `ConfigError`."""
    content = read_toml(path, "prices")
    return {model: _price(f"{path}: {shown(model)}", model, table) for model, table in content.items()}


def _price(where: str, model: str, table: object) -> Price:
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where} is {shown(table)}: a table [{shown(model)}] with input and output is expected")
    for name, value in table.items():
        if isinstance(value, Mapping):
            raise ConfigError(f"{where}: {shown(name)} is a table: put a name with dots in it between quotes")
    return converted(table, Price, where, ConfigError)


def price_of(backend: Backend, path: Path) -> Price:
    """The price of the backend's model in a TOML file. Raises `ConfigError` if it has none."""
    return price_in(read_prices(path), backend, str(path))


def price_in(prices: Mapping[str, Price], backend: Backend, where: str) -> Price:
    """The price of the backend's model in `prices`; `where` names their source in errors."""
    model = backend.made_with.get("model", "")
    if model not in prices:
        raise ConfigError(f"{where} has no price for {model!r}; it has {', '.join(map(repr, prices)) or 'none'}: add a table for it")
    return prices[model]


@dataclass(slots=True)
class RateLimiter:
    """Spaces requests evenly, at most `per_minute`, over all threads."""

    per_minute: float
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    _next: float = float("-inf")
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def wait(self) -> None:
        """Block until the next request is allowed."""
        with self._lock:
            now = self.clock()
            turn = max(now, self._next)
            self._next = turn + 60.0 / self.per_minute
        if turn > now:
            self.sleep(turn - now)


@dataclass(frozen=True, slots=True)
class CostTrackingBackend:
    """A backend with cost tracking and rate limiting."""

    inner: Backend
    price: Price | None = None
    rate_limiter: RateLimiter | None = None

    @property
    def made_with(self) -> Mapping[str, str]:
        """The backend's own metadata: neither option changes an answer."""
        return self.inner.made_with

    @property
    def concurrent(self) -> bool:
        """Whether the wrapped backend is concurrent."""
        return is_concurrent(self.inner)

    def reseeded(self, number: int) -> "CostTrackingBackend":
        """See `ReseedableBackend`."""
        return replace(self, inner=reseeded(self.inner, number))

    def decode(self, trace: Trace, tools: Sequence[Tool]) -> Yields[str, None, Continuation]:
        """See `Backend.decode`."""
        if self.rate_limiter is not None:
            self.rate_limiter.wait()
        continuation = yield from self.inner.decode(trace, tools)
        if self.price is not None:
            continuation = replace(continuation, cost=replace(continuation.cost, dollars=self.price.of(continuation.cost)))
        return continuation


def cost_tracking(backend: Backend, prices: Path | None, requests_per_minute: float | None) -> Backend:
    """The backend, wrapped if prices or a rate limit are given. Raises `ConfigError` as `price_of` does."""
    if prices is None and requests_per_minute is None:
        return backend
    price = None if prices is None else price_of(backend, prices)
    return CostTrackingBackend(backend, price, None if requests_per_minute is None else RateLimiter(requests_per_minute))
