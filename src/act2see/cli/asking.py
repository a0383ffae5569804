"""What a run's questions are asked with, and how many are under way at once."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from threading import Semaphore
from typing import TYPE_CHECKING

from act2see.cli.output import complain
from act2see.config import ParallelConfig, SourceConfig

if TYPE_CHECKING:
    from act2see.core.interfaces import Backend, Benchmark
    from act2see.evaluation.evaluator import Evaluator

_LOOKED_AT = 5
"""So many questions whose videos do not open are passed over before a run is let begin all the same."""


def evaluator_here(asked: "Benchmark", settings: SourceConfig, pace: ParallelConfig) -> "Evaluator":
    """The models that the settings name, loaded in this process, over the questions."""
    from act2see import registry
    from act2see.evaluation import setup
    from act2see.execution.metering import cost_tracking

    loaded = registry.backend(settings.backend, settings)
    scope = registry.scope(settings)
    # Of the embedded model it was seen before whether it knows what is asked.
    if (notice := getattr(loaded, "notice", None)) and asked.name != "synthetic" and (settings.force or not scope.backend):
        complain(f"note: {notice}")
    backend = cost_tracking(loaded, pace.prices, pace.requests_per_minute)
    return setup.evaluator(settings, asked, backend, setup.tools(settings), _turns(backend, settings.backend, pace.workers))


def check_scope(asked: "Benchmark", settings: SourceConfig) -> None:
    """Refuse a run of the embedded model over what it does not know, before anything is loaded: its first video that opens is looked at.

    Later videos that are not of the synthetic world end their questions without an answer. Raises `ScopeError`.
    """
    from act2see import registry
    from act2see.core.engine import new_trace
    from act2see.core.errors import ScopeError, VideoError
    from act2see.video import Video

    scope = registry.scope(settings)
    if asked.name == "synthetic" or not scope.backend or scope.force:
        return
    for sample in islice(asked.samples(), _LOOKED_AT):
        try:
            trace = new_trace(Video(sample.video), sample.question, sample.choices, fps=settings.fps, id=sample.id)
        except VideoError:
            continue
        if (refused := scope.refusal(trace)) is not None:
            raise ScopeError(f"question {sample.id!r}: {refused}")
        return


def _turns(backend: "Backend", name: str, wanted: int) -> Semaphore | None:
    """What lets so many ask the backend at once; None where it takes one question at a time, as it does unless its attribute `concurrent` is true."""
    if wanted > 1 and not getattr(backend, "concurrent", False):
        complain(f"note: backend {name!r} takes one question at a time: --workers {wanted} is 1")
        return None
    return Semaphore(wanted) if wanted > 1 else None


def threads_for(workers: int) -> int:
    """More threads than may ask at once, so that videos are opened and traces are written while all of those wait (our choice: a quarter more)."""
    return workers + max(1, workers // 4)


def digest_of(folders: Sequence[Path]) -> str:
    """Of model folders, for a fingerprint."""
    from act2see.tools.encoders.loading import fingerprint

    return fingerprint(folders)


def check_ray(address: str | None) -> None:
    """Refuse a Ray cluster where there is no Ray. Raises `ConfigError`."""
    import importlib

    from act2see.core.naming import importing

    if address is not None:
        with importing("--ray"):
            importlib.import_module("act2see.integrations.ray.cluster")
