"""Floating-point operations: the products that models are made of, and a counter that tools report to.

Counted as `torch.utils.flop_counter` counts: a multiplication with its addition is two; attention scores that a mask hides count; norms, activations,
positions and lookups do not. What a cache holds is not computed and not counted, and neither is padding of a batch.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

Flops = dict[str, float | None]
"""FLOPs by part of the work, such as `prefill` or `retriever`; None for a part whose FLOPs are unknown."""

_UNITS = (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6))
_COUNTER: ContextVar[Flops | None] = ContextVar("flops", default=None)
_PART: ContextVar[str | None] = ContextVar("part", default=None)


def product(rows: float, inner: float, columns: float) -> float:
    """A matrix product of (rows, inner) and (inner, columns)."""
    return 2.0 * rows * inner * columns


def attention(queries: float, keys: float, width: float) -> float:
    """Scores and weighted sum of so many queries over so many keys; `width` is the width of all heads together."""
    return 4.0 * queries * keys * width


def convolution(pixels: float, channels: float, filters: float, kernel: int) -> float:
    """A square convolution that gives so many pixels."""
    return product(pixels, channels * kernel**2, filters)


def add(to: Flops, other: Mapping[str, float | None]) -> None:
    """Add FLOPs part by part; an unknown one makes the sum unknown."""
    for part, flops in other.items():
        before = to.get(part, 0.0)
        to[part] = None if before is None or flops is None else before + flops


def total(flops: Mapping[str, float | None]) -> float | None:
    """The FLOPs of an answer; None if those of a part are unknown, or if the backend's are not there."""
    known = [value for value in flops.values() if value is not None]
    return sum(known) if len(known) == len(flops) and "decode" in flops else None


def in_units(flops: float) -> str:
    """FLOPs as a text with three digits: `877 TFLOPs`, `2.89 GFLOPs`."""
    unit, size = next(((unit, size) for unit, size in _UNITS if flops >= size), ("", 1.0))
    return f"{flops / size:.{max(0, 2 - int(math.log10(max(1.0, flops / size))))}f} {unit}FLOPs"


@contextmanager
def counting() -> Iterator[Flops]:
    """Collect what `count` is told in this thread meanwhile."""
    found: Flops = {}
    token = _COUNTER.set(found)
    try:
        yield found
    finally:
        _COUNTER.reset(token)


@contextmanager
def counted_as(part: str) -> Iterator[None]:
    """Count everything meanwhile as this part: an encoder may search, and it may judge a picture."""
    token = _PART.set(part)
    try:
        yield
    finally:
        _PART.reset(token)


def count(part: str, flops: float | None) -> None:
    """Report FLOPs that a tool has spent, None if they are unknown. Without effect where nobody counts."""
    count_parts({_PART.get() or part: flops})


def count_parts(flops: Mapping[str, float | None]) -> None:
    """Report what another process has counted."""
    counter = _COUNTER.get()
    if counter is not None:
        add(counter, flops)
