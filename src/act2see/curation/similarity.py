"""How alike a run's traces and people's reasonings are, by an embedder of texts; what was computed once is kept in the run."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from typing import TypeVar

import numpy as np

from act2see.core.errors import StoreError
from act2see.core.interfaces import TextEmbedder
from act2see.core.trace import Cost, Trace
from act2see.curation.filters import own_words
from act2see.curation.qa_records import Reference, sample_and_number
from act2see.storage.codec import read_number, read_object, read_text
from act2see.storage.runs import Place, Run

SIMILARITIES = "similarities.jsonl"
_AT_ONCE = 64
T = TypeVar("T")


def finished(
    run: Run,
    references: Mapping[str, Reference] | None = None,
    damaged: list[str] | None = None,
) -> tuple[dict[str, Place], list[Cost]]:
    """Where the traces stand that have ended, by their ids (of several the last), and what those cost that a failure ended.

    What cannot be judged is told in `damaged`, where that is given: what is no trace or lacks a frame, and what answers no question of the
    references, or another one.
    """
    ended: dict[str, Place] = {}
    failed: list[Cost] = []
    for place, trace in run.sketches(damaged, with_files=damaged is not None):
        try:
            if references is not None:
                _check_question(trace, reference_of(trace, references))
        except StoreError as error:
            if damaged is None:
                raise
            damaged.append(f"{run.folder / 'traces.jsonl'}:{place.line}: {error}")
            continue
        if trace.finish:
            ended[trace.id] = place
        else:
            failed.append(trace.cost)
    return ended, failed


def _check_question(trace: Trace, one: Reference) -> None:
    if (trace.question, sorted(trace.choices)) != (one.question, sorted(one.choices)):
        raise StoreError(f"trace {trace.id} answers another question than samples.jsonl has under its id")


def reference_of(trace: Trace, references: Mapping[str, Reference]) -> Reference:
    """The question that a trace answers. Raises `StoreError` where there is none."""
    name, _ = sample_and_number(trace.id)
    if name not in references:
        raise StoreError(f"trace {trace.id} answers no question of samples.jsonl: construct again with --resume, or give the run as it was")
    return references[name]


def similarities(
    run: Run,
    places: Mapping[str, Place],
    references: Mapping[str, Reference],
    embedder: Callable[[], TextEmbedder],
    name: str,
    each: Callable[[Iterable[str]], Iterable[str]] = lambda ids: ids,
) -> dict[str, float]:
    """The cosine between each trace's own words and the person's reasoning, by the trace's id; no entry where there is no such reasoning.

    What was computed before by an embedder of this `name` is read from the run, and the embedder is made only if more is needed. `each` may show
    how far it has come.
    """
    kept = _kept(run)
    found: dict[str, float] = {}
    fresh: list[tuple[str, str, str, str]] = []
    for trace_id, place in places.items():
        trace = run.sketch_at(place)
        reasoning = reference_of(trace, references).reasoning
        if not reasoning:
            continue
        key = _key(name, own_words(trace), reasoning)
        if key in kept:
            found[trace_id] = kept[key]
        else:
            fresh.append((trace_id, key, own_words(trace), reasoning))
    if not fresh:
        return found
    embed = embedder().embed
    waiting = iter(each([trace_id for trace_id, *_ in fresh]))
    try:
        for batch in _batches(fresh, _AT_ONCE):
            vectors = embed([text for _, _, said, reasoning in batch for text in (said, reasoning)])
            cosines = np.einsum("nw,nw->n", vectors[0::2], vectors[1::2])
            for (trace_id, key, _, _), cosine in zip(batch, cosines, strict=True):
                found[trace_id] = kept[key] = round(float(cosine), 6)
                next(waiting, None)
        next(waiting, None)  # whoever shows the progress sees its end
    finally:  # Ctrl-C included
        run.write_rows(SIMILARITIES, ({"key": key, "cosine": cosine} for key, cosine in kept.items()))
    return found


def _key(name: str, said: str, reasoning: str) -> str:
    return hashlib.sha256("\0".join((name, said, reasoning)).encode("utf-8", "surrogatepass")).hexdigest()


def _kept(run: Run) -> dict[str, float]:
    """What was computed before; a line that cannot be read is computed again."""
    found = {}
    for where, value in run.rows(SIMILARITIES, damaged=[]) or ():
        with suppress(StoreError):
            key, cosine = _read_row(value, where)
            found[key] = cosine
    return found


def _pair(key: str, cosine: float) -> tuple[str, float]:
    return key, cosine


_read_row = read_object(_pair, key=read_text, cosine=read_number)


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
