"""Traces as JSON objects, and the strict way back: a record that holds anything else than what was written is refused, with the place in it."""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, TypeVar, assert_never, get_args

from PIL import Image

from act2see.core.errors import StoreError
from act2see.core.trace import Answer, Cost, Finish, Frame, Generate, Match, Observation, Provenance, Retrieve, Step, Thought, Trace

FORMAT_VERSION = 1
"""Stands in every record; another version is refused."""

MAX_CHOICES = 26
"""Each choice has a letter."""

_FRAME_FILE = re.compile(r"[0-9a-f]{64}\.(png|jpg)")
_SHOWN_CHARACTERS = 80
_TOO_LARGE = 1e300  # keeps 1e999, which is infinite, and integers beyond a float out
_LARGEST_WHOLE = 2**64  # seeds are the largest whole numbers that are kept
_LARGEST_COUNT = 2**53
_DEEPEST = 64
"""So many lists and objects may stand inside each other; a trace needs nine."""

_T = TypeVar("_T")
Reader = Callable[[Any, str], _T]
"""Takes a JSON value and its place in the record, and gives what it stands for or raises `StoreError`."""


# Traces


def encode_trace(trace: Trace, frame_name: Callable[[Frame], str]) -> dict[str, Any]:
    """The trace as one JSON object; `frame_name` gives the name of a frame's file."""

    def encode_frame(frame: Frame) -> dict[str, Any]:
        made = None if frame.provenance is None else encode_provenance(frame.provenance)
        match = None if frame.match is None else asdict(frame.match)
        return {"file": frame_name(frame), "seconds": frame.seconds, "score": frame.score, "match": match, "provenance": made}

    def encode_step(step: Step) -> dict[str, Any]:
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
        "cost": {field.name: getattr(trace.cost, field.name) for field in fields(Cost)},
        "made_with": trace.made_with,
    }


def decode_trace(record: Any, load: Callable[[str], Image.Image], check: Callable[[str, Frame], None] = lambda file, frame: None) -> Trace:
    """The trace that `encode_trace` wrote; `load` gives the picture of a frame's file. Whatever is not exactly that is a `StoreError`.

    `check` may refuse a frame, with its file's name, by a `StoreError`.
    """

    def make_frame(file: str, **others: Any) -> Frame:
        frame = Frame(load(file), **others)
        check(file, frame)
        return frame

    number = optional(read_number)
    read_provenance = read_object(
        Provenance,
        prompt=read_text,
        anchor_seconds=number,
        model=read_text,
        seed=read_integer,
        strength=number,
        scores=map_of(read_number),
        unverified=optional(read_text),
    )
    read_match = read_object(
        Match,
        frame_index=read_count,
        span_seconds=optional(read_pair),
        runners_up=tuple_of(read_pair),
        is_fallback=read_truth,
        curve=tuple_of(read_pair),
    )
    read_frame = read_object(
        make_frame,
        file=_read_frame_file,
        seconds=number,
        score=number,
        match=optional(lambda value, where: read_match(_with_curve(value), where)),
        provenance=optional(lambda value, where: read_provenance(_with_unverified(value), where)),
    )
    steps: Mapping[str, Reader[Step]] = {
        "thought": read_object(Thought, text=read_text),
        "retrieve": read_object(Retrieve, query=read_text),
        "generate": read_object(Generate, prompt=read_text),
        "observation": read_object(Observation, frames=tuple_of(read_frame), error=optional(read_text)),
        "answer": read_object(Answer, text=read_text),
    }

    def read_step(value: Any, where: str) -> Step:
        rest = dict(value) if isinstance(value, dict) else {}
        kind = rest.pop("type", None)
        if not isinstance(kind, str) or kind not in steps:
            raise StoreError(f"{where}: unknown step {shown(kind)}; known are {', '.join(steps)}")
        return steps[kind](rest, where)

    read_cost = read_object(
        Cost, tokens_in=read_count, tokens_out=read_count, tokens_reused=read_count, seconds=map_of(read_amount), dollars=optional(read_amount)
    )
    read_trace = read_object(
        Trace,
        id=read_text,
        video=read_text,
        question=read_text,
        choices=_read_choices,
        duration_seconds=optional(read_amount),
        frames=tuple_of(read_frame),
        steps=list_of(read_step),
        finish=_read_finish,
        cost=read_cost,
        made_with=map_of(read_text),
    )
    return read_trace(without_version(record), "")


def _with_curve(match: Any) -> Any:
    """Traces that were written before curves were kept have none."""
    return {"curve": [], **match} if isinstance(match, dict) else match


def _with_unverified(made: Any) -> Any:
    """It is written only where there is something to say: a picture's file is named after its provenance."""
    return {"unverified": None, **made} if isinstance(made, dict) else made


def encode_provenance(made: Provenance) -> dict[str, Any]:
    """Where a generated frame came from, as a JSON object."""
    encoded = {field.name: getattr(made, field.name) for field in fields(made)} | {"scores": dict(made.scores)}
    return {name: value for name, value in encoded.items() if name != "unverified" or value is not None}


def _read_frame_file(value: Any, where: str) -> str:
    if not isinstance(value, str) or not _FRAME_FILE.fullmatch(value):
        raise StoreError(f"{where} is {shown(value)}; a frame's file is named by a sha256 and ends in .png or .jpg")
    return value


def _read_choices(value: Any, where: str) -> tuple[str, ...]:
    choices = tuple_of(read_text)(value, where)
    if len(choices) > MAX_CHOICES:
        raise StoreError(f"{where} holds {len(choices):,} choices; a question has at most {MAX_CHOICES}")
    return choices


def _read_finish(value: Any, where: str) -> Finish | None:
    finish: Finish
    for finish in get_args(Finish):
        if value == finish:
            return finish
    if value is None:
        return None
    raise StoreError(f"{where} is {shown(value)}; known are {', '.join(get_args(Finish))} and null")


# JSON that is not trusted


def parse_json(content: bytes) -> Any:
    """The value of a JSON text. Raises `StoreError` for everything else: NaN and Infinity, numbers that no float holds, whole ones beyond 64 bits, a
    key that an object has twice, and what is nested deeper than anything that is written here.
    """

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is not allowed")

    try:
        value = json.loads(content, parse_constant=refuse, object_pairs_hook=_each_key_once)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"no JSON: {error}") from error
    _check_bounds(value)
    return value


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise StoreError(f"the key {shown(twice)} is there twice in one object")
    return found


def _check_bounds(value: Any) -> None:
    """Level by level rather than by recursion: whoever reads the value afterwards may recurse into it."""
    level, depth = [value], 0
    while level:
        depth += 1
        deeper: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                deeper += one.values()
            elif isinstance(one, list):
                deeper += one
            elif isinstance(one, float) and not abs(one) < _TOO_LARGE:
                raise StoreError(f"the number {one!r} is out of range")
            elif isinstance(one, int) and abs(one) > _LARGEST_WHOLE:
                raise StoreError(f"the whole number {shown(one)} is out of range")
        if depth > _DEEPEST and deeper:
            raise StoreError(f"no JSON of ours: more than {_DEEPEST} lists and objects stand inside each other")
        level = deeper


def without_version(record: Any) -> dict[str, Any]:
    """The record without its version, which must be ours."""
    if not isinstance(record, dict):
        raise StoreError(f"{shown(record)} where an object is expected")
    version = record.get("version")
    if isinstance(version, bool) or not isinstance(version, int) or version != FORMAT_VERSION:
        raise StoreError(f"format version {shown(version)}; this act2see reads version {FORMAT_VERSION}: use the one that wrote it")
    return {name: value for name, value in record.items() if name != "version"}


def read_object(make: Callable[..., _T], /, **readers: Reader[Any]) -> Reader[_T]:
    """A reader of objects with exactly these fields; `make` builds the value of them and may refuse with a `ValueError`."""

    def read(value: Any, where: str) -> _T:
        place = f"{where}: " if where else ""
        if not isinstance(value, dict):
            raise StoreError(f"{place}{shown(value)} where an object is expected")
        for unknown in sorted(value.keys() - readers.keys()):
            raise StoreError(f"{place}unknown field {shown(unknown)}; known are {', '.join(readers)}")
        for missing in sorted(readers.keys() - value.keys()):
            raise StoreError(f"{place}the field {shown(missing)} is missing")
        read_fields = {name: reader(value[name], f"{where}.{name}" if where else name) for name, reader in readers.items()}
        try:
            return make(**read_fields)
        except ValueError as error:
            raise StoreError(f"{place}{error}") from error

    return read


def read_text(value: Any, where: str) -> str:
    """A text."""
    if not isinstance(value, str):
        raise StoreError(f"{where} is {shown(value)} where a text is expected")
    return value


def read_integer(value: Any, where: str) -> int:
    """A whole number."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise StoreError(f"{where} is {shown(value)} where a whole number is expected")
    return value


def read_count(value: Any, where: str) -> int:
    """A whole number of things, from 0 to 2^53."""
    found = read_integer(value, where)
    if not 0 <= found <= _LARGEST_COUNT:
        raise StoreError(f"{where} is {shown(value)} where a count is expected, from 0 to 2^53")
    return found


def read_amount(value: Any, where: str) -> float:
    """A finite number that is not negative: seconds, dollars."""
    found = read_number(value, where)
    if found < 0:
        raise StoreError(f"{where} is {shown(value)} where a number is expected that is not negative")
    return found


def read_number(value: Any, where: str) -> float:
    """A finite number."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < _TOO_LARGE:
        raise StoreError(f"{where} is {shown(value)} where a number is expected")
    return float(value)


def read_truth(value: Any, where: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise StoreError(f"{where} is {shown(value)} where true or false is expected")
    return value


def read_pair(value: Any, where: str) -> tuple[float, float]:
    """Two numbers."""
    numbers = tuple_of(read_number)(value, where)
    if len(numbers) != 2:
        raise StoreError(f"{where} is {shown(value)} where two numbers are expected")
    return numbers[0], numbers[1]


def optional(read: Reader[_T]) -> Reader[_T | None]:
    """A reader that lets null pass as None."""
    return lambda value, where: None if value is None else read(value, where)


def list_of(read: Reader[_T]) -> Reader[list[_T]]:
    """A reader of lists."""

    def read_list(value: Any, where: str) -> list[_T]:
        if not isinstance(value, list):
            raise StoreError(f"{where} is {shown(value)} where a list is expected")
        return [read(item, f"{where}[{number}]") for number, item in enumerate(value)]

    return read_list


def tuple_of(read: Reader[_T]) -> Reader[tuple[_T, ...]]:
    """A reader of lists that become tuples."""
    read_list = list_of(read)
    return lambda value, where: tuple(read_list(value, where))


def map_of(read: Reader[_T]) -> Reader[dict[str, _T]]:
    """A reader of objects whose fields have any names and one kind of value."""

    def read_map(value: Any, where: str) -> dict[str, _T]:
        if not isinstance(value, dict):
            raise StoreError(f"{where} is {shown(value)} where an object is expected")
        return {name: read(item, f"{where}.{name}") for name, item in value.items()}

    return read_map


def shown(value: Any) -> str:
    """A value as an error quotes it: JSON, on one line, cut short."""
    text = json.dumps(value, default=str)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


def canonical_json(value: Any) -> str:
    """The one spelling of a value, in ASCII: equal values have equal texts."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def plain(value: Any) -> Any:
    """Settings in one spelling: 1 and 1.0, a tuple and a list, are the same."""
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
