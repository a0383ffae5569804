"""What hypothesis draws for the laws: words with the protocol's tags, JSON, traces, subtitles, settings, addresses and streams."""

import json
import math

from hypothesis import strategies as st
from PIL import Image

from act2see.cli import SETTINGS_OF
from act2see.core.trace import Answer, Cost, Frame, Generate, Match, Observation, Provenance, Retrieve, Step, Thought, Trace

PIXEL = Image.new("RGB", (1, 1))
signs = st.text(st.characters(exclude_categories=()), max_size=12)
tags = st.sampled_from([f"<{slash}{name}>" for name in ("think", "retrieve", "generate", "frame", "answer") for slash in ("", "/")])
marks = st.sampled_from(
    ["<|im_end|>", "<|im_start|>", "<|image_pad|>", "<｜User｜>", "<tool_call>", "</tool_response>", "[INST]", "[/INST]", "<s>", "<bos>", "<", "|>"]
)
words = st.sampled_from(
    ["your answer", "what to look for", " B ", "red", "`", '"', "```\n", "\n", " and ", "So ", "\u2028", "\ud800", "\x1b[2J", "A.", "(b)", "**"]
)
texts = st.lists(tags | words | signs | marks, max_size=14).map("".join)
long_texts = st.tuples(texts, st.integers(1, 3000)).map(lambda drawn: drawn[0] * min(drawn[1], 5_000 // (len(drawn[0]) + 1)))
openings = st.sampled_from(["", "<think>\n", "<think>x</think>", "`<think>`"])
numbers = st.integers() | st.floats() | st.sampled_from([0, -1, 2**63, 2**70, 10**400, math.nan, math.inf, -0.0])
FIELDS = (
    "version",
    "id",
    "video",
    "question",
    "choices",
    "steps",
    "frames",
    "finish",
    "cost",
    "type",
    "text",
    "seconds",
    "made_with",
    "kind",
    "outcome",
    "error",
)
values = st.recursive(
    st.none() | st.booleans() | numbers | signs | st.sampled_from(["thought", "answer", "correct", "A", "end"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS) | signs, inner, max_size=6),
    max_leaves=20,
)
choices = st.lists(st.sampled_from(["red", "blue", "A", "B", "b.", "C. x", "(a)", "**", "", "１", "Ａ", "none of these"]) | signs, max_size=30)
forms = st.sampled_from(["{}", " {} ", "({})", "[{}]", "**{}**", "${}$", "\\boxed{{{}}}", "{}.", "{})", "{}。", "`{}`", "“{}”"])
some = st.permutations(["a red star", "a cup", "the blue one", "nothing", "two of them", "12"])
finite = st.floats(-1e9, 1e9)
seconds = st.none() | finite
plain = st.text(max_size=12)
provenances = st.builds(Provenance, plain, seconds, plain, st.integers(0, 2**40), seconds, st.dictionaries(plain, finite, max_size=2))
matches = st.builds(
    lambda index, span, fallback: Match(index, span, (), is_fallback=fallback),
    st.integers(0, 999),
    st.none() | st.tuples(finite, finite),
    st.booleans(),
)
frames = st.builds(lambda at, score, match: Frame(PIXEL, at, score=score, match=match), finite, seconds, st.none() | matches)
imagined = st.builds(lambda made: Frame(PIXEL, None, provenance=made), provenances)
steps: st.SearchStrategy[Step] = st.builds(Thought, plain) | st.builds(Retrieve, plain) | st.builds(Generate, plain) | st.builds(Answer, plain)
steps |= st.builds(lambda found: Observation(tuple(found)), st.lists(frames | imagined, min_size=1, max_size=2)) | st.builds(
    lambda error: Observation(error=error), st.text(min_size=1, max_size=12)
)
traces = st.builds(
    Trace,
    id=plain,
    video=plain,
    question=plain,
    frames=st.lists(frames, max_size=2).map(tuple),
    choices=st.lists(plain, max_size=3).map(tuple),
    duration_seconds=st.none() | st.floats(0, 1e6),
    steps=st.lists(steps, max_size=5),
    finish=st.sampled_from([None, "answer", "end"]),
    cost=st.builds(Cost, st.integers(0, 2**40), st.integers(0, 2**40), st.integers(0, 2**40), st.dictionaries(plain, st.floats(0, 1e6), max_size=2)),
    made_with=st.dictionaries(plain, plain, max_size=2),
)
clock = st.builds("{:02d}:{:02d}:{:02d},{:03d}".format, st.integers(0, 99), st.integers(0, 70), st.integers(0, 70), st.integers(0, 999))
cue = st.builds(
    "{}{}{} --> {}{}{}{}".format,
    st.sampled_from(["1\n", "", "x\r\n"]),
    clock,
    st.just(""),
    clock,
    st.sampled_from(["\n", "\r\n", "\r\r\n"]),
    signs,
    st.sampled_from(["\n\n", "\n", "\r\n\r\n", ""]),
)
files = st.lists(cue | signs | st.sampled_from(["\n\n", "-->", "<i>", "{\\an8}", "&lt;", "\ufeff"]), max_size=8).map("".join)
odd = values | st.sampled_from(["../../etc/passwd", "/etc/passwd", "http://127.0.0.1:9/a.mp4", "a\0b", "x" * 5000, "A", "(B)", "[1, 2"])
keys = st.sampled_from(["fps", "backend", "max-looks", "choices", "seed", "base-url", "temperature", "report", "json", "cache", "retries", "x"])
scalars = st.sampled_from(
    [
        "1",
        "-1",
        "1.5",
        "nan",
        "inf",
        "true",
        '"x"',
        '""',
        "[]",
        "[1, [2]]",
        '["a", "b"]',
        "1979-05-27",
        "99999999999999999999",
        '"\\u0000"',
        "{}",
        "{a = 1}",
    ]
)
entries = st.builds("{} = {}\n".format, keys | signs, scalars | signs)
tables = st.sampled_from([f"[{name}]\n" for name in (*list(SETTINGS_OF)[:3], "nothing", '"train micro-vlm"', "ask.x")] + ["[[ask]]\n"])
toml = st.lists(entries | tables | signs, max_size=5).map("".join)
toml |= st.builds(lambda part, count: part * count, st.sampled_from(["[", "a.", "x = [", '"']), st.integers(1, 3000))
hosts = (
    st.sampled_from(["127.0.0.1", "h", "[::1]", "[::1", "a..b", "user:pw@h", "h:0", "h:99999", "h:x", "☃.net", "%31", "h\\x", "", "xn--a", "1" * 70])
    | signs
)
urls = st.builds(
    "{}{}{}".format,
    st.sampled_from(["http://", "https://", "HTTP://", "ftp://", "//", "", " http://", "http:/"]),
    hosts,
    st.sampled_from(["/v1", "", "/v1?x", "/v1#x", "/chat/completions", "/\n"]) | signs,
)
fields = st.dictionaries(
    st.sampled_from(["choices", "delta", "content", "index", "usage", "error", "code", "finish_reason", "message"]), values, max_size=4
)
events = (fields | values).map(lambda value: b"data: " + json.dumps(value).encode() + b"\n\n")
chunks = st.lists(
    events | st.binary(max_size=20) | st.sampled_from([b"data: ", b"\n\n", b"\r", b"data: [DONE]\n\n", b": x\n", b'{"choices": ']), max_size=8
)
