"""Counters of the server in Prometheus' text format."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from act2see.core.trace import Trace

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """The counters of one server. Labels hold names of our own only, never a client's text."""

    def __init__(self, running: Callable[[], int], waiting: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter("act2see_requests_total", "HTTP requests.", ("route", "status"), registry=self._registry)
        self._answers = Counter("act2see_answers_total", "Answered questions, by how they ended.", ("finish",), registry=self._registry)
        self._seconds = Histogram("act2see_answer_seconds", "Seconds per answer, waiting included.", buckets=_SECONDS, registry=self._registry)
        self._tokens = Counter("act2see_tokens_total", "Tokens of all answers.", ("kind",), registry=self._registry)
        self._looks = Counter("act2see_looks_total", "Calls of the model that returned a frame.", registry=self._registry)
        for name, help, value in (("running", "Questions being answered.", running), ("waiting", "Questions that wait for a worker.", waiting)):
            Gauge(f"act2see_questions_{name}", help, registry=self._registry).set_function(value)

    def request(self, route: str, status: int) -> None:
        """Count a request."""
        self._requests.labels(route, str(status)).inc()

    def answer(self, trace: Trace, seconds: float) -> None:
        """Count an answer."""
        self._answers.labels(trace.finish or "none").inc()
        self._seconds.observe(seconds)
        for kind, count in (("in", trace.cost.tokens_in), ("out", trace.cost.tokens_out), ("reused", trace.cost.tokens_reused)):
            self._tokens.labels(kind).inc(count)
        self._looks.inc(trace.looks)

    def text(self) -> bytes:
        """All counters, as Prometheus reads them."""
        return generate_latest(self._registry)

    def families(self) -> list[Metric]:
        """All counters, for `text_of_replicas`."""
        return list(self._registry.collect())


def text_of_replicas(counters: Mapping[str, Iterable[Metric]]) -> bytes:
    """The counters of several servers as those of one, with the label `replica`. They are given by the replica's name."""
    registry = CollectorRegistry()
    registry.register(_Replicas(counters))
    return generate_latest(registry)


@dataclass(frozen=True, eq=False)  # a registry keeps collectors by their identity
class _Replicas(Collector):
    counters: Mapping[str, Iterable[Metric]]

    def collect(self) -> Iterator[Metric]:
        together: dict[str, Metric] = {}
        for replica, families in self.counters.items():
            for one in families:
                whole = together.setdefault(one.name, Metric(one.name, one.documentation, one.type, one.unit))
                whole.samples.extend(sample._replace(labels={**sample.labels, "replica": replica}) for sample in one.samples)
        yield from together.values()
