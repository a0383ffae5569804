"""How many questions are under way at once."""

from threading import Semaphore
from typing import TYPE_CHECKING

from act2see.output import complain

if TYPE_CHECKING:
    from act2see.interfaces import Backend


def turns(backend: "Backend", name: str, wanted: int) -> Semaphore | None:
    """What lets so many ask the backend at once; None where it takes one question at a time, as it does unless its attribute `concurrent` is true."""
    if wanted > 1 and not getattr(backend, "concurrent", False):
        complain(f"note: backend {name!r} takes one question at a time: --workers {wanted} is 1")
        return None
    return Semaphore(wanted) if wanted > 1 else None


def threads_for(workers: int) -> int:
    """More threads than may ask at once, so that videos are opened and traces are written while all of those wait (our choice: a quarter more)."""
    return workers + max(1, workers // 4)
