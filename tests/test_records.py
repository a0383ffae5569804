"""A trace's line is read the quick way or the exact way, and both say the same: what is refused, and what is read."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from act2see.core.errors import StoreError
from act2see.core.trace import Frame, Observation, Retrieve
from act2see.storage.codec import parse_json
from act2see.storage.records import decode_trace, encode_trace, read_trace
from stored_traces import trace

PIXEL = Image.new("RGB", (1, 1))
FILE = "0" * 64 + ".png"
RECORD = json.loads(json.dumps(encode_trace(trace(), lambda frame: FILE)))
LINE = json.dumps(RECORD)


def load(name: str) -> Image.Image:
    return PIXEL


def told(read: Any, value: Any) -> object:
    """The trace that is read, or the words with which it is refused."""
    try:
        return read(value, load)
    except StoreError as error:
        return str(error)


def both_ways(line: bytes) -> tuple[object, object]:
    def exactly(content: bytes, load: Any) -> object:
        return decode_trace(parse_json(content), load)

    return told(read_trace, line), told(exactly, line)


KEYS = [match.span(1) for match in re.finditer(r'("[^"]*"): ', LINE)]


@pytest.mark.parametrize("at", KEYS, ids=lambda at: f"{at[0]}-{LINE[slice(*at)]}")
def test_a_key_that_is_there_twice_is_refused_wherever_it_stands(at: tuple[int, int]) -> None:
    start, end = at
    key = LINE[start:end]
    twice = f'{LINE[:start]}{key}\t: null, "\\u{ord(key[1]):04x}{LINE[start + 2 :]}'  # once more, with its first letter spelled by its number
    assert told(read_trace, twice.encode()) == f"the key {key} is there twice in one object"


@pytest.mark.parametrize("text", ["\ud800", "a\udfff", '":"', '\\":', "\\\\", '{"a": 1, "a": 2}', '\\\\":\\', " : "])
def test_no_text_is_taken_for_keys_and_half_characters_are_read(text: str) -> None:
    line = json.dumps(RECORD | {"question": text, "made_with": {text: text}}).encode()
    read = read_trace(line, load)
    assert (read.question, read.made_with) == (text, {text: text})
    assert both_ways(line)[0] == both_ways(line)[1]


ODD: st.SearchStrategy[object] = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.lists(st.integers(), max_size=3) | st.just({})
)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [*([at] if at else []), *(place for key, one in inner for place in places(one, (*at, key)))]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(places(RECORD)), ODD)
def test_a_line_with_another_value_in_it_is_read_alike_both_ways(place: tuple[Any, ...], value: Any) -> None:
    changed = json.loads(LINE)
    inner = changed
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    quickly, exactly = both_ways(json.dumps(changed).encode())
    assert quickly == exactly


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(LINE) - 1), st.sampled_from(['"', ":", ",", "}", "\\", "9", "e", " ", "\x00", "[", "\\u0061", '"a": 1, ']))
def test_a_line_with_another_character_in_it_is_read_alike_both_ways(at: int, piece: str) -> None:
    quickly, exactly = both_ways(f"{LINE[:at]}{piece}{LINE[at:]}".encode())
    assert quickly == exactly


def test_the_part_of_a_picture_that_a_frame_shows_is_kept_and_others_do_not_mention_it() -> None:
    box = (0.1, 0.2, 0.4, 0.6)
    whole, part = Frame(PIXEL, 1.0), Frame(PIXEL, 1.0, box=box)
    kept = replace(trace(), frames=(whole,), steps=[Retrieve("zoom"), Observation((part,))])
    record = json.loads(json.dumps(encode_trace(kept, lambda frame: FILE)))
    assert "box" not in record["frames"][0]
    assert record["steps"][1]["frames"][0]["box"] == list(box)
    read = read_trace(json.dumps(record).encode(), load)
    assert (read.frames[0].box, read.brought_frames[0].box) == (None, box)


@pytest.mark.parametrize("box", [[0.1, 0.2, 0.4], [0.4, 0.2, 0.1, 0.6], [0, 0, 2, 1], ["0", 0, 1, 1], None])
def test_what_is_no_part_of_a_picture_is_refused_with_its_place(box: object) -> None:
    record = json.loads(LINE)
    record["frames"][0]["box"] = box
    quickly, exactly = both_ways(json.dumps(record).encode())
    assert quickly == exactly
    assert "frames[0]" in str(quickly)
    assert "box" in str(quickly)
