"""The bytes of a streamed answer as pieces: what servers send, what they should not send, and anything at all."""

import itertools
import json
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from act2see.backends import stream
from act2see.backends.stream import BrokenStreamError, Chunk, Delta, ReportedError, Usage, read_chunks
from raw_server import delta, event

DONE = b"data: [DONE]\n\n"


def read(*chunks: bytes, max_characters: int = 1000) -> list[Chunk]:
    return list(read_chunks(chunks, max_characters))


def text(found: Iterable[Chunk]) -> str:
    return "".join(piece.delta.content for piece in found)


def broken(*chunks: bytes) -> str:
    with pytest.raises(BrokenStreamError) as raised:
        read(*chunks)
    return str(raised.value)


# What servers send


def test_an_answer() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
    found = read(event(delta("ab")), event(delta("c", "stop")), event({"choices": [], "usage": usage}), DONE, b"trailing garbage\n\n", event(7))
    assert found == [Chunk(Delta("ab")), Chunk(Delta("c"), "stop"), Chunk(usage=Usage(9, 2, 4))]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_every_end_of_a_line_and_every_field(end: bytes) -> None:
    lines = [
        b"\xef\xbb\xbf: a comment",
        b"id: 7",
        b"retry: 10",
        b"event: message",
        b'data: {"choices": [{"delta":',
        b'data:{"content": "\xc3\xa9"}}]}',
        b"",
        b"",
    ]
    raw = end.join(lines) + end
    assert text(read(raw)) == "é"
    assert text(read(*(raw[at : at + 1] for at in range(len(raw))))) == "é"  # a character's bytes come one by one


@given(st.lists(st.integers(0, 400), max_size=8))
def test_where_the_bytes_are_cut_changes_nothing(cuts: list[int]) -> None:
    raw = b": hello\n\n" + event(delta("ab\u00e9\U0001f600")) + event(delta("c")).replace(b"\n", b"\r\n") + event(delta("", "stop")) + DONE
    places = sorted({0, *cuts, len(raw)} & set(range(len(raw) + 1)))
    assert read(*(raw[a:b] for a, b in itertools.pairwise(places))) == read(raw)


def test_an_unfinished_event_at_the_end_is_none() -> None:
    assert text(read(event(delta("a")), b'data: {"choices": [{"delta": {"content": "b"}}]}\n')) == "a"
    assert text(read(event(delta("a")), b'data: {"choi')) == "a"


def test_the_json_of_a_server_that_does_not_stream() -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "ab", "reasoning_content": "r"}, "finish_reason": "stop"}
    raw = json.dumps({"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}, indent=1).encode()
    assert read(b"\n  ", raw) == [Chunk(Delta("ab", "r"), "stop", usage=Usage(3, 1, 0))]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a", "a"),
        (None, ""),
        ([], ""),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab"),
        (["a", "b"], "ab"),
        ("\x00", "\x00"),
        ("\ud83d", "\ufffd"),  # half a character
        ("\ude00a", "\ufffda"),
        ("\ud83d\ude00", "\U0001f600"),
    ],
)
def test_content(value: Any, expected: str) -> None:
    for name in ("content", "refusal"):
        assert read(event({"choices": [{"delta": {name: value}, "finish_reason": "stop"}]}))[0].delta == Delta(expected)
    for name in ("reasoning", "reasoning_content"):
        assert read(event({"choices": [{"delta": {name: value}, "finish_reason": "stop"}]}))[0].delta == Delta("", expected)


def test_halves_of_a_character_in_two_pieces_are_joined() -> None:
    assert (
        text(read(event(delta("a\ud83d")), event(delta("\ude00b")), event(delta("\ud83d")), event(delta("c")), event(delta("", "stop"))))
        == "a\U0001f600b\ufffdc"
    )


@pytest.mark.parametrize(
    ("event_value", "expected"),
    [
        ({}, Chunk()),
        ({"choices": None}, Chunk()),
        ({"choices": []}, Chunk()),
        ({"choices": [{}]}, Chunk()),
        ({"choices": [{"index": 0}]}, Chunk()),
        ({"choices": [{"index": None, "delta": None}]}, Chunk()),
        ({"choices": [{"index": 1, "delta": {"content": "not asked for"}}]}, Chunk()),
        ({"choices": [{"index": 1, "delta": {"content": "b"}}, {"index": 0, "delta": {"content": "a"}}]}, Chunk(Delta("a"))),
        (delta("", "stop", stop_reason="</answer>"), Chunk(finish_reason="stop", stop_reason="</answer>")),
        (delta("", "stop", stop_reason=151645, matched_stop=2), Chunk(finish_reason="stop")),
        (delta("", "stop", matched_stop="</answer>"), Chunk(finish_reason="stop", matched_stop="</answer>")),
        (delta("", ""), Chunk()),
        (delta("", "EOS_TOKEN"), Chunk(finish_reason="stop")),
        (delta("", "MAX_TOKENS"), Chunk(finish_reason="length")),
        (delta("", "content_filter: SAFETY"), Chunk(finish_reason="content_filter")),
        (delta("", "tool_calls"), Chunk(finish_reason="tool_calls")),
    ],
)
def test_an_event(event_value: Any, expected: Chunk) -> None:
    assert read(event(event_value)) == [expected]


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, None),
        ("many", None),
        ([1], None),
        ({}, Usage(0, 0, 0)),
        ({"prompt_tokens": 5.0, "completion_tokens": 2, "prompt_tokens_details": None}, Usage(5, 2, 0)),
        ({"prompt_tokens": "5", "completion_tokens": True, "prompt_tokens_details": "x"}, Usage(0, 0, 0)),
        ({"prompt_tokens": float("nan"), "completion_tokens": float("inf")}, Usage(0, 0, 0)),
        ({"prompt_tokens": -5, "completion_tokens": 1e300}, Usage(0, 0, 0)),
        ({"prompt_tokens": 10**4000, "completion_tokens": 1.5}, Usage(0, 0, 0)),
        ({"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 9}}, Usage(5, 0, 5)),
    ],
)
def test_usage(usage: Any, expected: Usage | None) -> None:
    assert read(event({"choices": [], "usage": usage})) == [Chunk(usage=expected)]


# What they should not send


@pytest.mark.parametrize(
    ("raw", "part"),
    [
        (b"data: {not json\n\n", "a line is not valid JSON"),
        (b'data: {"choices": []} and more\n\n', "a line is not valid JSON"),
        (b"data: \x00\n\n", "a line is not valid JSON"),
        (b"data: " + b"9" * 5000 + b"\n\n", "a line is not valid JSON"),
        (b'data: {"choices": [{"delta": {"content": "\xc3"}}]}\n\n', "a line is not valid UTF-8"),
        (b"data: " + b"[" * 200_000 + b"\n\n", "a line is nested too deeply"),
        (b'data: {"a":' + b'{"a":' * 200_000 + b"\n\n", "a line is nested too deeply"),
        (b"<!doctype html><title>It works!</title>", "the response is a web page"),
        (b'{"choices": [', "a line is not valid JSON"),
        (event([1]), "an event is a list where an object is expected"),
        (event(5), "an event is a number where an object is expected"),
        (event("x"), "an event is a text where an object is expected"),
        (event(None), "an event is null where an object is expected"),
        (event({"choices": "x"}), "the choices are a text where a list is expected"),
        (event({"choices": {"0": {}}}), "the choices are an object where a list is expected"),
        (event({"choices": [5]}), "a choice is a number where an object is expected"),
        (event({"choices": [None]}), "a choice is null where an object is expected"),
        (event({"choices": [{"index": "first"}]}), "a choice's index is a text where a number is expected"),
        (event({"choices": [{"delta": "x"}]}), "a delta is a text where an object is expected"),
        (event({"choices": [{"delta": 5}]}), "a delta is a number where an object is expected"),
        (event({"choices": [{"delta": ["x"]}]}), "a delta is a list where an object is expected"),
        (event(delta(5)), "the content is a number where a text is expected"),
        (event(delta(True)), "the content is a boolean where a text is expected"),
        (event(delta({"text": "x"})), "the content is an object where a text is expected"),
        (event(delta([5])), "the content has parts that are not text"),
        (event(delta([{"type": "image_url"}])), "the content has parts that are not text"),
        (event({"choices": [{"delta": {"refusal": 5}}]}), "the refusal is a number"),
        (event({"choices": [{"delta": {"reasoning": {"a": 1}}}]}), "the reasoning is an object"),
        (event({"choices": [{"delta": {"reasoning_content": 1.5}}]}), "the reasoning is a number"),
        (event(delta("", 5)), "a finish reason is a number where a text is expected"),
        (event(delta("", "error")), "the finish reason is 'error'"),
        (event(delta("", "abort")), "the finish reason is 'abort'"),
        (event(delta("", "\x1b[31m\nodd" + "x" * 900)), r"the finish reason is '\x1b[31m\nodd"),
    ],
)
def test_what_is_no_answer(raw: bytes, part: str) -> None:
    said = broken(raw)
    assert part in said
    assert len(said) < 200


@pytest.mark.parametrize(
    ("raw", "status", "body"),
    [
        (event({"error": "no attribute"}), None, "no attribute"),
        (event({"error": {"message": "m", "code": 500}}), 500, {"message": "m", "code": 500}),
        (event({"error": {"message": "m", "code": "429"}}), 429, {"message": "m", "code": "429"}),
        (event({"error": {"message": "m", "code": "rate_limited"}, "status_code": 503}), 503, {"message": "m", "code": "rate_limited"}),
        (event({"error": {"code": 10**100}}), None, {"code": 10**100}),
        (event({"error": [1]}), None, [1]),
        (b"event: error\n" + event({"message": "m", "code": 400}), 400, {"message": "m", "code": 400}),
        (b'{"error": {"message": "m", "code": 500}}', 500, {"message": "m", "code": 500}),
    ],
)
def test_a_reported_error(raw: bytes, status: int | None, body: object) -> None:
    with pytest.raises(ReportedError) as raised:
        read(event(delta("a")), raw) if raw.startswith(b"data") else read(raw)
    assert (raised.value.status, raised.value.body) == (status, body)


# What has no end


@pytest.mark.parametrize("endless", [b"data: x", b"data: x\n", b": comment", b'{"a": 1,'])
def test_an_event_without_end(monkeypatch: pytest.MonkeyPatch, endless: bytes) -> None:
    monkeypatch.setattr(stream, "MAX_EVENT_BYTES", 1000)
    assert broken(*[endless] * 1000) == "an event has more than 1,000 bytes"


@pytest.mark.parametrize("endless", [b": comment\n", b"\n", b"id: 1\n\n", event({"choices": [], "usage": {"prompt_tokens": 1}})])
def test_a_stream_without_end_and_text(monkeypatch: pytest.MonkeyPatch, endless: bytes) -> None:
    monkeypatch.setattr(stream, "MAX_BYTES", 10_000)
    assert broken(*[endless] * 10_001) == "the response has more than 10,000 bytes"


def test_a_text_without_end_is_cut_as_by_the_token_limit() -> None:
    found = read(*[event(delta("abc"))] * 100, max_characters=10)
    assert text(found) == "abcabcabca"
    assert [piece.finish_reason for piece in found] == [None, None, None, "length"]
    assert read(event({"choices": [{"delta": {"content": "abc", "reasoning": "rst"}}]}), max_characters=4) == [Chunk(Delta("a", "rst"), "length")]
    assert read(event(delta("abcd", "stop")), max_characters=4) == [Chunk(Delta("abcd"), "stop")]


# Anything at all

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=()), max_size=5) | st.just("stop"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(("choices", "delta", "content", "index", "usage", "error", "code")), inner)
    ),
    max_leaves=12,
)


def check(raw: list[bytes]) -> None:
    with suppress(BrokenStreamError, ReportedError):
        for piece in read_chunks(raw, 50):
            (piece.delta.content + piece.delta.reasoning).encode("utf-8")
            assert piece.finish_reason in (None, "stop", "length", "content_filter", "tool_calls")
            assert piece.usage is None or 0 <= piece.usage.cached_tokens <= piece.usage.prompt_tokens < 1e13


@given(st.lists(st.binary(max_size=40) | st.sampled_from((b"data: ", b"\n\n", b"\r", event(delta("a")), b'{"choices": ')), max_size=12))
def test_any_bytes_are_pieces_or_one_error(raw: list[bytes]) -> None:
    check(raw)


@given(st.lists(json_values, max_size=4), st.sampled_from(("choices", "delta", "content", "reasoning", "finish_reason", "usage", "index", "error")))
def test_any_json_is_pieces_or_one_error(values: list[Any], place: str) -> None:
    for value in values:
        choice = {"index": 0, "delta": {"content": "a"}} | {place: value}
        check([event(value), event({place: value}), event({"choices": [choice]}), event({"choices": [{"delta": {place: value}}]})])
        check([event({"usage": {"prompt_tokens": value, "completion_tokens": value, "prompt_tokens_details": {"cached_tokens": value}}})])
