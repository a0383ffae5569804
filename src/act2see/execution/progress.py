"""Progress of long work: the library counts, and whoever passes the callback shows the counts."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

ProgressCallback = Callable[[int, int | None, str], None]
"""Called with the number of items done, their total (None while it is unknown), and what is being done. Another text begins another count."""

T = TypeVar("T")


def counted(items: Iterable[T], progress: ProgressCallback | None, what: str, total: int | None) -> Iterator[T]:
    """Yield the same items; report 0 before the first one and each item when the next one is asked for."""
    if progress is None:
        yield from items
        return
    progress(0, total, what)
    for done, item in enumerate(items, 1):
        yield item
        progress(done, total, what)
