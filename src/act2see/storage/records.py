"""A trace's line in traces.jsonl: its types, and the way from a `Trace` to it and back. Whatever is not exactly this is refused, with its path."""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from typing import Annotated, Any, Literal, TypeAlias, assert_never

from msgspec import UNSET, Meta, Struct, UnsetType
from PIL import Image

from act2see.core.errors import StoreError
from act2see.core.trace import Answer, Cost, Finish, Frame, Generate, Line, Match, Observation, Provenance, Retrieve, Step, Thought, Trace
from act2see.storage.codec import FORMAT_VERSION, JSON, LARGEST_WHOLE, MAX_CHOICES, encode_provenance, shown, without_version
from act2see.storage.typed_json import Amount, Count, JsonReader, Number, converted

_FRAME_FILE = re.compile(r"[0-9a-f]{64}\.(png|jpg)")
_FILE_NAME = "the name of a frame's file (a sha256 and .png or .jpg)"

Load: TypeAlias = Callable[[str], Image.Image]
"""Gives the picture of a frame's file, by its name."""
Check: TypeAlias = Callable[[str, Frame], None]
"""May refuse a frame, with its file's name, by a `StoreError`."""
_Pair: TypeAlias = tuple[Number, Number]


# What a line holds


class _ProvenanceRecord(Struct, forbid_unknown_fields=True):
    prompt: str
    anchor_seconds: Number | None
    model: str
    seed: int
    strength: Number | None
    scores: dict[str, int | Number]
    """Whole numbers stay whole: 1 and 1.0 are spelled differently in the provenance that a picture's file is named after."""
    unverified: str | UnsetType | None = UNSET
    """Written only where there is something to say: a picture's file is named after its provenance."""


class _LineRecord(Struct, forbid_unknown_fields=True):
    start_seconds: Number
    stop_seconds: Number
    text: str
    source: str


_LineRecords: TypeAlias = tuple[_LineRecord, ...]


class _MatchRecord(Struct, forbid_unknown_fields=True):
    frame_index: Count
    span_seconds: _Pair | None
    runners_up: tuple[_Pair, ...]
    is_fallback: bool
    curve: tuple[_Pair, ...] | UnsetType = UNSET
    """Traces that were written before curves were kept have none."""
    line: _LineRecord | UnsetType = UNSET
    """Written only for a match that rests on words."""


class _FrameRecord(Struct, forbid_unknown_fields=True):
    file: Annotated[str, Meta(extra={"words": _FILE_NAME})]
    seconds: Number | None
    score: Number | None
    match: _MatchRecord | None
    provenance: _ProvenanceRecord | None
    box: tuple[Number, Number, Number, Number] | UnsetType = UNSET
    """Written only for a part of a picture."""
    lines: _LineRecords | UnsetType = UNSET
    """Written only where there are some, as in a trace."""


class _ThoughtRecord(Struct, forbid_unknown_fields=True, tag_field="type", tag="thought"):
    text: str


class _RetrieveRecord(Struct, forbid_unknown_fields=True, tag_field="type", tag="retrieve"):
    query: str


class _GenerateRecord(Struct, forbid_unknown_fields=True, tag_field="type", tag="generate"):
    prompt: str


class _ObservationRecord(Struct, forbid_unknown_fields=True, tag_field="type", tag="observation"):
    frames: list[_FrameRecord]
    error: str | None


class _AnswerRecord(Struct, forbid_unknown_fields=True, tag_field="type", tag="answer"):
    text: str


_StepRecord: TypeAlias = _ThoughtRecord | _RetrieveRecord | _GenerateRecord | _ObservationRecord | _AnswerRecord


class _CostRecord(Struct, forbid_unknown_fields=True):
    tokens_in: Count
    tokens_out: Count
    tokens_reused: Count
    seconds: dict[str, Amount]
    dollars: Amount | None
    flops: dict[str, Amount | None] | UnsetType = UNSET
    """Written only where there are some: servers report none, and older traces have none."""


class _TraceRecord(Struct, forbid_unknown_fields=True):
    version: Literal[1]
    id: str
    video: str
    question: str
    choices: Annotated[tuple[str, ...], Meta(max_length=MAX_CHOICES, extra={"words": f"a list of at most {MAX_CHOICES} choices"})]
    duration_seconds: Amount | None
    frames: list[_FrameRecord]
    steps: list[_StepRecord]
    finish: Finish | None
    cost: _CostRecord
    made_with: dict[str, str]
    lines: _LineRecords | UnsetType = UNSET


def _of_our_version(record: JSON) -> JSON:
    without_version(record)
    return record


_reader = JsonReader(_TraceRecord, _of_our_version)


# From a trace


def encode_trace(trace: Trace, frame_name: Callable[[Frame], str]) -> dict[str, Any]:
    """The trace as one JSON object; `frame_name` gives the name of a frame's file."""

    def encode_frame(frame: Frame) -> dict[str, JSON]:
        made = None if frame.provenance is None else encode_provenance(frame.provenance)
        match = None if frame.match is None else asdict(frame.match)
        if match is not None and match["line"] is None:
            del match["line"]
        encoded: dict[str, JSON] = {"file": frame_name(frame), "seconds": frame.seconds, "score": frame.score, "match": match, "provenance": made}
        box: dict[str, JSON] = {} if frame.box is None else {"box": list(frame.box)}
        return encoded | box | _encoded_lines(frame.lines)

    def encode_step(step: Step) -> dict[str, JSON]:
        match step:
            case Thought(text):
                return {"type": "thought", "text": text}
            case Retrieve(query):
                return {"type": "retrieve", "query": query}
            case Generate(prompt):
                return {"type": "generate", "prompt": prompt}
            case Observation(frames, error):
                return {"type": "observation", "frames": [encode_frame(frame) for frame in frames], "error": error}
            case Answer(text):
                return {"type": "answer", "text": text}
            case _:
                assert_never(step)

    return {
        "version": FORMAT_VERSION,
        "id": trace.id,
        "video": trace.video,
        "question": trace.question,
        "choices": list(trace.choices),
        "duration_seconds": trace.duration_seconds,
        "frames": [encode_frame(frame) for frame in trace.frames],
        "steps": [encode_step(step) for step in trace.steps],
        "finish": trace.finish,
        "cost": {field.name: getattr(trace.cost, field.name) for field in fields(Cost) if field.name != "flops" or trace.cost.flops},
        "made_with": trace.made_with,
        **_encoded_lines(trace.lines),
    }


def _encoded_lines(lines: Sequence[Line]) -> dict[str, Any]:
    """Nothing for no lines: records without words are what they were before there were any."""
    return {"lines": [asdict(line) for line in lines]} if lines else {}


# Back to a trace


def read_trace(line: bytes, load: Load, check: Check | None = None) -> Trace:
    """The trace that `encode_trace` wrote, from its line. Raises `StoreError` for whatever is not exactly that."""
    return _trace(_reader.read(line), load, check)


def decode_trace(record: JSON, load: Load, check: Check | None = None) -> Trace:
    """The same from a value that `parse_json` gave."""
    return _trace(converted(_of_our_version(record), _TraceRecord), load, check)


def _trace(record: _TraceRecord, load: Load, check: Check | None) -> Trace:
    frames = _frames(record.frames, "", load, check)
    cost = record.cost
    return Trace(
        record.id,
        record.video,
        record.question,
        frames,
        record.choices,
        record.duration_seconds,
        [_step(step, number, load, check) for number, step in enumerate(record.steps)],
        record.finish,
        Cost(cost.tokens_in, cost.tokens_out, cost.tokens_reused, cost.seconds, cost.dollars, {} if cost.flops is UNSET else cost.flops),
        record.made_with,
        _lines(record.lines),
    )


def _step(record: _StepRecord, number: int, load: Load, check: Check | None) -> Step:
    match record:
        case _ThoughtRecord():
            return Thought(record.text)
        case _ObservationRecord():
            frames = _frames(record.frames, f"steps[{number}].", load, check)
            try:
                return Observation(frames, record.error)
            except ValueError as error:
                raise StoreError(f"steps[{number}]: {error}") from error
        case _RetrieveRecord():
            return Retrieve(record.query)
        case _GenerateRecord():
            return Generate(record.prompt)
        case _AnswerRecord():
            return Answer(record.text)
        case _:
            assert_never(record)


def _frames(records: Sequence[_FrameRecord], where: str, load: Load, check: Check | None) -> tuple[Frame, ...]:
    frames: list[Frame] = []
    for record in records:  # nine of ten values in a line are in here: nothing is called that need not be
        file, match, made = record.file, record.match, record.provenance
        try:
            if not _FRAME_FILE.fullmatch(file):
                raise StoreError(f"{where}frames[{len(frames)}].file is {shown(file)} where {_FILE_NAME} is expected")
            provenance = None if made is None else _provenance(made)
            box = None if record.box is UNSET else record.box
            lines = () if record.lines is UNSET else _lines(record.lines)
            frame = Frame(load(file), record.seconds, record.score, provenance, None if match is None else _match(match), box, lines)
        except ValueError as error:
            raise StoreError(f"{where}frames[{len(frames)}]: {error}") from error
        if check is not None:
            check(file, frame)
        frames.append(frame)
    return tuple(frames)


def _match(record: _MatchRecord) -> Match:
    curve = () if record.curve is UNSET else record.curve
    line = None if record.line is UNSET else _line(record.line)
    return Match(record.frame_index, record.span_seconds, record.runners_up, record.is_fallback, curve, line)


def _line(record: _LineRecord) -> Line:
    return Line(record.start_seconds, record.stop_seconds, record.text, record.source)


def _lines(records: _LineRecords | UnsetType) -> tuple[Line, ...]:
    return () if records is UNSET else tuple(map(_line, records))


def _provenance(record: _ProvenanceRecord) -> Provenance:
    if abs(record.seed) > LARGEST_WHOLE:
        raise ValueError(f"provenance.seed is {shown(record.seed)}: a whole number of at most 64 bits is expected")
    unverified = None if record.unverified is UNSET else record.unverified
    return Provenance(record.prompt, record.anchor_seconds, record.model, record.seed, record.strength, record.scores, unverified)
