"""QA records: the questions stored beside their traces, so that filtering needs no data set; and the ids of tries."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from act2see.core.errors import StoreError
from act2see.core.interfaces import Sample
from act2see.storage.codec import JSON, Reader, optional, read_object, read_text, tuple_of


def attempt_id(sample: str, number: int) -> str:
    """The id of the trace of a sample's `number`-th try, from 0: `SAMPLE#0`."""
    return f"{sample}#{number}"


def sample_and_number(trace_id: str) -> tuple[str, int]:
    """The sample and the number of the try that a trace's id names. A trace that was not constructed is its own sample's only try."""
    sample, mark, number = trace_id.rpartition("#")
    return (sample, int(number)) if mark and number.isdecimal() and number.isascii() else (trace_id, 0)


@dataclass(frozen=True, slots=True)
class Reference:
    """A question with its right answer and human reasoning, if any: a line of samples.jsonl."""

    id: str
    source: str
    licence: str
    video: str
    question: str
    choices: tuple[str, ...]
    answer: str
    kind: str
    reasoning: str | None


def reference(sample: Sample, source: str, licence: str) -> Reference:
    """What is kept of a sample. Its own licence goes before the source's."""
    named = sample.licence or licence
    video = str(sample.video)
    return Reference(sample.id, source, named, video, sample.question, sample.choices, sample.answer, sample.kind, sample.reasoning)


def reference_row(one: Reference) -> dict[str, JSON]:
    """The line of samples.jsonl."""
    return asdict(one)


def read_references(rows: Iterable[tuple[str, object]]) -> dict[str, Reference]:
    """The questions of samples.jsonl by their ids. Raises `StoreError` with the place of a line that is none, and for an id that comes twice."""
    found: dict[str, Reference] = {}
    for where, row in rows:
        one = _read_reference(row, where)
        if one.id in found:
            raise StoreError(f"{where}: duplicate id {one.id!r}")
        found[one.id] = one
    return found


_read_reference: Reader[Reference] = read_object(
    Reference,
    id=read_text,
    source=read_text,
    licence=read_text,
    video=read_text,
    question=read_text,
    choices=tuple_of(read_text),
    answer=read_text,
    kind=read_text,
    reasoning=optional(read_text),
)
