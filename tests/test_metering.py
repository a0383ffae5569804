"""What asking costs, and how often a minute it is done."""

import threading
from collections.abc import Generator as Yields
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from act2see.core.chat import Tool
from act2see.core.errors import BackendError, ConfigError
from act2see.core.interfaces import Backend, Continuation, reseeded
from act2see.core.trace import Cost, Trace
from act2see.execution.metering import CostTrackingBackend, Price, RateLimiter, cost_tracking, price_of, read_prices

TRACE = Trace("t", "v.mp4", "?", ())


@dataclass(frozen=True)
class Says:
    """Writes two words; `asked` is kept over all copies of it."""

    made_with: Mapping[str, str] = field(default_factory=lambda: {"backend": "says", "model": "some-model"})
    asked: list[tuple[Trace, tuple[Tool, ...]]] = field(default_factory=list)
    cost: Cost = field(default_factory=lambda: Cost(1000, 200, 400, {"decode": 1.0}))
    fails: bool = False

    def decode(self, trace: Trace, tools: Sequence[Tool]) -> Yields[str, None, Continuation]:
        self.asked.append((trace, tuple(tools)))
        if self.fails:
            raise BackendError("the server is gone")
        yield "a "
        yield "b"
        return Continuation("a b", "end", self.cost)


@dataclass(frozen=True)
class Seeded(Says):
    """A server's client, which is told its seed once."""

    seed: int = 7
    concurrent: bool = True

    def reseeded(self, number: int) -> "Seeded":
        return replace(self, seed=self.seed + number)


def said(backend: Backend) -> tuple[list[str], Continuation]:
    texts, stream = [], backend.decode(TRACE, ("retrieve",))
    while True:
        try:
            texts.append(next(stream))
        except StopIteration as end:
            return texts, end.value


# Prices


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "prices.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_prices_of_models(tmp_path: Path) -> None:
    path = written(tmp_path, '["some.model"]\ninput = 1.25\noutput = 10\n[free]\ninput = 0\noutput = 0\ncached = 0.5\n')
    assert read_prices(path) == {"some.model": Price(1.25, 10.0), "free": Price(0.0, 0.0, 0.5)}
    assert read_prices(written(tmp_path, "")) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[m\n", "is not valid TOML"),
        ("[m]\ninput = 1\ninput = 2\n", "is not valid TOML"),
        ("[m]\ninput = 1\n", '"m": the field "output" is missing'),
        ("[m]\noutput = 1\n", '"m": the field "input" is missing'),
        ("[m]\ninput = 1\noutput = 1\nper = 1000\n", '"m": unknown field "per"; known are input, output, cached'),
        ("[m]\ninput = '1'\noutput = 1\n", '"m": input is "1" where a price in dollars per million tokens is expected'),
        ("[m]\ninput = true\noutput = 1\n", "input is true"),
        ("[m]\ninput = -0.5\noutput = 1\n", "input is -0.5"),
        ("[m]\ninput = nan\noutput = 1\n", "input is NaN"),
        ("[m]\ninput = inf\noutput = 1\n", "input is Infinity"),
        ("[m]\ninput = 2020-01-01\noutput = 1\n", 'input is "2020-01-01"'),
        ("[m]\ninput = 1\noutput = 1\ncached = []\n", "cached is []"),
        (f"[m]\ninput = 1{'0' * 400}\noutput = 1\n", "input is 1000"),
        ("m = 3\n", '"m" is 3: a table ["m"] with input and output is expected'),
    ],
)
def test_a_file_that_tells_no_price(text: str, message: str, tmp_path: Path) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        read_prices(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["nothing.toml", "."])
def test_a_file_that_cannot_be_read(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the prices"):
        read_prices(tmp_path / name)
    (tmp_path / "latin.toml").write_bytes(b"# \xe9\n")
    with pytest.raises(ConfigError, match="cannot read the prices"):
        read_prices(tmp_path / "latin.toml")


def test_the_price_of_a_backends_model(tmp_path: Path) -> None:
    assert price_of(Says(), written(tmp_path, "[some-model]\ninput = 1\noutput = 2\n")) == Price(1.0, 2.0)
    with pytest.raises(ConfigError, match=r"has no price for 'some-model'; it has 'other', 'more': add a table for it"):
        price_of(Says(), written(tmp_path, "[other]\ninput = 1\noutput = 2\n[more]\ninput = 1\noutput = 2\n"))
    with pytest.raises(ConfigError, match="it has none"):
        price_of(Says(made_with={}), written(tmp_path, ""))


def test_dollars_by_hand() -> None:
    cost = Cost(tokens_in=1_000_000, tokens_out=500_000, tokens_reused=400_000)
    assert Price(1.25, 10.0, 0.125).of(cost) == pytest.approx(0.6 * 1.25 + 0.4 * 0.125 + 0.5 * 10)
    assert Price(1.25, 10.0).of(cost) == pytest.approx(1.25 + 5)
    assert Price(1.25, 10.0, 0.0).of(cost) == pytest.approx(0.75 + 5)
    assert Price(2.0, 3.0).of(Cost()) == 0


PRICES = st.floats(0, 1000)
TOKENS = st.integers(0, 10**9)


@given(PRICES, PRICES, PRICES, TOKENS, TOKENS, TOKENS)
def test_dollars_of_two_costs_are_the_dollars_of_both(wanted: float, out: float, cached: float, first: int, second: int, reused: int) -> None:
    one, other = Cost(first + reused, second, reused), Cost(second, first)
    both = Cost(first + reused + second, first + second, reused)
    price = Price(wanted, out, cached)
    assert price.of(one) + price.of(other) == pytest.approx(price.of(both))
    assert price.of(both) >= 0


# The pace


@dataclass
class Clock:
    """A clock that only sleeping moves, each sleeper's own way: nobody waits for real."""

    now: float = 100.0
    slept: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.slept.append(seconds)

    def time(self) -> float:
        return self.now


def test_turns_are_evenly_spread_whatever_the_number_of_threads() -> None:
    clock, begin = Clock(), threading.Barrier(8, timeout=60)
    pace = RateLimiter(30, clock.sleep, clock.time)

    def ask() -> None:
        begin.wait()
        for _ in range(25):
            pace.wait()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(clock.slept) == [2.0 * turn for turn in range(1, 200)]  # the first of 200 need not wait


def test_who_asks_seldom_never_waits_and_saves_no_turns() -> None:
    clock = Clock()
    pace = RateLimiter(60, clock.sleep, clock.time)
    pace.wait()
    clock.now += 10
    pace.wait()
    assert clock.slept == []
    pace.wait()
    clock.now += 0.25
    pace.wait()
    assert clock.slept == [1.0, 1.75]


# The cost-tracking backend


def test_nothing_is_put_around_a_backend_without_need() -> None:
    backend = Says()
    assert cost_tracking(backend, None, None) is backend


def test_text_and_making_pass_through_and_only_the_dollars_are_added(tmp_path: Path) -> None:
    inner = Says()
    backend = cost_tracking(inner, written(tmp_path, "[some-model]\ninput = 1\noutput = 10\ncached = 0.5\n"), None)
    texts, continuation = said(backend)
    assert texts == ["a ", "b"]
    dollars = (600 * 1 + 400 * 0.5 + 200 * 10) / 1e6
    assert continuation == Continuation("a b", "end", Cost(1000, 200, 400, {"decode": 1.0}, pytest.approx(dollars)))  # type: ignore[arg-type]
    assert inner.asked == [(TRACE, ("retrieve",))]
    assert inner.asked[0][0] is TRACE
    assert backend.made_with == inner.made_with
    assert inner.cost.dollars is None


def test_a_pace_alone_adds_no_dollars() -> None:
    assert said(cost_tracking(Says(), None, 60_000_000))[1].cost.dollars is None


def test_a_pace_is_kept_before_each_question_and_a_failure_comes_through() -> None:
    clock = Clock()
    backend = CostTrackingBackend(Says(), None, RateLimiter(60, clock.sleep, clock.time))
    for _ in range(3):
        said(backend)
    assert clock.slept == [1.0, 2.0]
    with pytest.raises(BackendError, match="gone"):
        said(replace(backend, inner=Says(fails=True)))


@pytest.mark.parametrize(("inner", "expected"), [(Says(), False), (Seeded(), True), (Seeded(concurrent=False), False)])
def test_it_is_asked_in_threads_if_its_inner_one_may_be(inner: Backend, expected: bool) -> None:
    assert CostTrackingBackend(inner).concurrent is expected


def test_a_backend_with_a_seed_gets_another_for_each_try() -> None:
    backend = Seeded()
    assert reseeded(backend, 0) is backend
    assert reseeded(backend, 2) == replace(backend, seed=9)
    plain = Says()
    assert reseeded(plain, 2) is plain


def test_another_seed_keeps_price_and_pace() -> None:
    """A pace of its own for each try would be none."""
    backend = CostTrackingBackend(Seeded(), Price(1, 2), RateLimiter(60))
    again = reseeded(backend, 2)
    assert isinstance(again, CostTrackingBackend)
    assert again.inner == replace(Seeded(), seed=9)
    assert again.rate_limiter is backend.rate_limiter
    assert again.price == backend.price
    assert reseeded(CostTrackingBackend(Says()), 2) == CostTrackingBackend(Says())


def test_a_name_with_dots_and_no_quotes_is_told_what_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text("[gemini-2.5-pro]\ninput = 1.0\noutput = 2.0\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="between quotes"):
        read_prices(path)
