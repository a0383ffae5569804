"""Similarity of a run's traces to the human reasoning, by a text embedder; results are cached in the run."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np

from act2see.core.errors import StoreError
from act2see.core.interfaces import TextEmbedder
from act2see.core.trace import Cost, Trace
from act2see.curation.qa_records import Reference, sample_and_number
from act2see.execution.progress import ProgressCallback
from act2see.storage.codec import read_number, read_object, read_text
from act2see.storage.runs import Place, Run

SIMILARITIES = "similarities.jsonl"
_AT_ONCE = 64
T = TypeVar("T")


def finished(
    run: Run,
    keep: Callable[[Place, Trace], T],
    questions: Mapping[str, Reference] | None = None,
    damaged: list[str] | None = None,
) -> tuple[dict[str, T], list[Cost]]:
    """What `keep` makes of each trace that has ended, by its id (of several the last), and what those cost that a failure ended.

    Each line is decoded once. With `damaged`, what cannot be judged is added to it and passed over: what is no trace or lacks a frame, and what
    answers none of the `questions`, or another one than its id says. Otherwise it is a `StoreError`.
    """
    ended: dict[str, T] = {}
    failed: list[Cost] = []
    for place, trace in run.sketches(damaged, with_files=damaged is not None):
        try:
            if questions is not None:
                _check_question(trace, reference_of(trace, questions))
        except StoreError as error:
            if damaged is None:
                raise
            damaged.append(f"{run.folder / 'traces.jsonl'}:{place.line}: {error}")
            continue
        if trace.finish:
            ended[trace.id] = keep(place, trace)
        else:
            failed.append(trace.cost)
    return ended, failed


def _check_question(trace: Trace, one: Reference) -> None:
    if (trace.question, sorted(trace.choices)) != (one.question, sorted(one.choices)):
        raise StoreError(f"the question of trace {trace.id} differs from samples.jsonl")


def reference_of(trace: Trace, references: Mapping[str, Reference]) -> Reference:
    """The question that a trace answers. Raises `StoreError` where there is none."""
    name, _ = sample_and_number(trace.id)
    if name not in references:
        raise StoreError(f"trace {trace.id} has no question in samples.jsonl: run act2see construct --resume, or restore the file")
    return references[name]


@dataclass(frozen=True, slots=True)
class Pair:
    """What is compared of one trace: its own words (`own_words`), and the person's reasoning about its question."""

    said: str
    reasoning: str


def similarities(
    run: Run, pairs: Mapping[str, Pair], embedder: Callable[[], TextEmbedder], name: str, progress: ProgressCallback | None = None
) -> dict[str, float]:
    """The cosine between the two texts of each pair, by the trace's id.

    What was computed before by an embedder of this `name` is read from the run, and the embedder is made only if more is needed.
    """
    kept = _kept(run)
    keys = {trace_id: _key(name, pair.said, pair.reasoning) for trace_id, pair in pairs.items()}
    found = {trace_id: kept[key] for trace_id, key in keys.items() if key in kept}
    fresh = [trace_id for trace_id in pairs if trace_id not in found]
    if not fresh:
        return found
    embed = embedder().embed
    try:
        for batch in _batches(fresh, _AT_ONCE):
            vectors = embed([text for trace_id in batch for text in (pairs[trace_id].said, pairs[trace_id].reasoning)])
            cosines = np.einsum("nw,nw->n", vectors[0::2], vectors[1::2])
            for trace_id, cosine in zip(batch, cosines, strict=True):
                found[trace_id] = kept[keys[trace_id]] = round(float(cosine), 6)
            if progress is not None:
                progress(len(found) - len(pairs) + len(fresh), len(fresh), "texts compared")
    finally:  # Ctrl-C included
        run.write_rows(SIMILARITIES, ({"key": key, "cosine": cosine} for key, cosine in kept.items()))
    return found


def _key(name: str, said: str, reasoning: str) -> str:
    return hashlib.sha256("\0".join((name, said, reasoning)).encode("utf-8", "surrogatepass")).hexdigest()


def _kept(run: Run) -> dict[str, float]:
    """Cached results; unreadable lines are recomputed."""
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
