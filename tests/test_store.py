"""Runs on disk: what was written comes back, and nothing else is believed."""

import dataclasses
import hashlib
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from act2see.core.errors import StoreError
from act2see.core.trace import Answer, Cost, Frame, Generate, Match, Observation, Provenance, Retrieve, Step, Thought, Trace
from act2see.storage.runs import FORMAT_VERSION, MAX_PNG_PIXELS, Run, decode_trace, encode_trace, files_of
from stored_traces import CONFIG, generated, picture, same, trace


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run", command="ask", config=CONFIG, seed=3)


# Traces


def frames_for(provenance: st.SearchStrategy[Provenance]) -> st.SearchStrategy[Frame]:
    images = st.builds(picture, st.integers(0, 3), st.sampled_from([(1, 1), (5, 3)]))
    number = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e9, max_value=1e9)
    pairs = st.tuples(number, number)
    match = st.builds(
        Match, st.integers(0, 2**40), st.none() | pairs, st.lists(pairs, max_size=2).map(tuple), st.booleans(), st.lists(pairs, max_size=3).map(tuple)
    )
    real = st.builds(Frame, images, st.none() | number, st.none() | number, match=st.none() | match)
    return real | st.builds(Frame, images, st.none(), st.none() | number, provenance)


TEXTS = st.text(st.characters(exclude_categories=()))  # lone surrogates too: a tokenizer may cut a character in two
NUMBERS = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e9, max_value=1e9)
PROVENANCES = st.builds(
    Provenance, TEXTS, st.none() | NUMBERS, TEXTS, st.integers(-(2**64), 2**64), st.none() | NUMBERS, st.dictionaries(TEXTS, NUMBERS)
)
FRAMES = frames_for(PROVENANCES)
STEPS: st.SearchStrategy[Step] = st.one_of(
    st.builds(Thought, TEXTS),
    st.builds(Retrieve, TEXTS),
    st.builds(Generate, TEXTS),
    st.builds(Answer, TEXTS),
    st.builds(Observation, frames=st.lists(FRAMES, min_size=1, max_size=2).map(tuple)),
    st.builds(Observation, error=TEXTS),
)
COSTS = st.builds(
    Cost,
    st.integers(0, 2**40),
    st.integers(0, 2**53),
    st.integers(0, 2**53),
    st.dictionaries(TEXTS, st.floats(0, 1e6)),
    st.none() | st.floats(0, 1e6),
)
TRACES = st.builds(
    Trace,
    id=TEXTS,
    video=TEXTS,
    question=TEXTS,
    frames=st.lists(FRAMES, max_size=2).map(tuple),
    choices=st.lists(TEXTS, max_size=3).map(tuple),
    duration_seconds=st.none() | st.floats(0, 1e9),
    steps=st.lists(STEPS, max_size=5),
    finish=st.sampled_from([None, "answer", "end", "length", "errors"]),
    cost=COSTS,
    made_with=st.dictionaries(TEXTS, TEXTS),
)


@settings(max_examples=60, deadline=None)
@given(TRACES)
def test_a_trace_comes_back_from_json(original: Trace) -> None:
    pictures: dict[str, Image.Image] = {}

    def name(frame: Frame) -> str:
        found = hashlib.sha256(frame.image.tobytes() + repr(frame.image.size).encode()).hexdigest() + ".png"
        pictures[found] = frame.image
        return found

    record = json.loads(json.dumps(encode_trace(original, name), allow_nan=False))
    assert decode_trace(record, pictures.__getitem__) == original


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(originals=st.lists(TRACES, max_size=3), chance=st.randoms(use_true_random=False))
def test_traces_come_back_from_the_disk(originals: list[Trace], chance: random.Random, tmp_path: Path) -> None:
    folder = tmp_path / f"{chance.getrandbits(64):x}"
    run = Run.create_or_open(folder, command="ask", config=CONFIG, seed=None)
    known = list(run.traces())
    for original in originals:
        run.append(original)
    back = list(Run.open(folder).traces())
    assert len(back) == len(known) + len(originals)
    assert all(same(*pair) for pair in zip(back, known + originals, strict=True))
    assert run.ids() == {item.id for item in back}


def test_a_record_from_before_curves_were_kept_has_none() -> None:
    record = encode_trace(trace(), lambda frame: GOOD_FILE)
    del record["steps"][2]["frames"][0]["match"]["curve"]
    observation = decode_trace(json.loads(json.dumps(record)), lambda name: picture(0)).steps[2]
    assert isinstance(observation, Observation)
    (brought,) = observation.frames
    assert brought.match is not None
    assert brought.match.curve == ()


def test_the_record_is_what_other_programs_read() -> None:
    record = encode_trace(trace(), lambda frame: f"{frame.seconds}")
    assert record["version"] == FORMAT_VERSION == 1
    assert set(record) == {"version"} | {field.name for field in dataclasses.fields(Trace)} - {"lines"}  # which are written where there are some
    assert record["steps"][:4] == [
        {"type": "thought", "text": "<think>hm\u2028</think>"},
        {"type": "retrieve", "query": " the cup "},
        {
            "type": "observation",
            "frames": [
                {
                    "file": "1.25",
                    "seconds": 1.25,
                    "score": 0.5,
                    "provenance": None,
                    "match": {
                        "frame_index": 30,
                        "span_seconds": (1.0, 2.0),
                        "runners_up": ((4.5, 0.25),),
                        "is_fallback": True,
                        "curve": ((1.0, 0.5),),
                    },
                }
            ],
            "error": None,
        },
        {"type": "generate", "prompt": "a star"},
    ]
    assert record["steps"][4]["frames"][0]["provenance"] == {
        "prompt": "a red — “star”",
        "anchor_seconds": 1.5,
        "model": "some/model",
        "seed": 7,
        "strength": 0.6,
        "scores": {"same place": 0.9},
    }
    assert record["cost"] == {"tokens_in": 10, "tokens_out": 20, "tokens_reused": 5, "seconds": {"decode": 1.5}, "dollars": 0.25}


Change = Callable[[dict[str, Any]], object]
GOOD_FILE = "0" * 64 + ".png"
REFUSED: list[tuple[Change, str]] = [
    (lambda record: record.update(x=1), 'unknown field "x"; known are version, id, video, '),
    (lambda record: record.pop("question"), 'the field "question" is missing'),
    (lambda record: record.update(version=2), "format version 2; this act2see reads version 1"),
    (lambda record: record.update(version=True), "format version true"),
    (lambda record: record.pop("version"), "format version null"),
    (lambda record: record.update(question=None), "question is null where a text is expected"),
    (lambda record: record.update(choices="ab"), 'choices is "ab" where a list of at most 26 choices is expected'),
    (lambda record: record.update(choices=[1]), "choices[0] is 1 where a text is expected"),
    (lambda record: record.update(choices=["a"] * 10_000), 'choices is ["a", "a", "a"'),
    (lambda record: record.update(duration_seconds="2"), 'duration_seconds is "2" where a number that is not negative is expected'),
    (lambda record: record.update(duration_seconds=True), "duration_seconds is true where a number that is not negative"),
    (lambda record: record.update(duration_seconds=10**400), "the whole number 1000000000000000"),
    (lambda record: record.update(finish="won"), 'finish is "won"; known are answer, end, errors, length'),
    (lambda record: record.update(finish=["answer"]), 'finish is ["answer"]; known are'),
    (lambda record: record.update(made_with={"a": 1}), "made_with.a is 1 where a text is expected"),
    (lambda record: record.update(made_with=[]), "made_with is [] where an object is expected"),
    (lambda record: record["cost"].update(tokens_in=1.5), "cost.tokens_in is 1.5 where a count (0 to 2^53) is expected"),
    (lambda record: record["cost"].pop("dollars"), 'cost: the field "dollars" is missing'),
    (lambda record: record["cost"].update(seconds={"decode": "1"}), 'cost.seconds.decode is "1" where a number'),
    (lambda record: record["steps"][0].update(text=1), "steps[0].text is 1 where a text is expected"),
    (lambda record: record["steps"][0].update(type="guess"), 'steps[0].type is "guess"; known are thought, retrieve, '),
    (lambda record: record["steps"][0].update(type=["thought"]), 'steps[0].type is ["thought"]; known are thought, '),
    (lambda record: record["steps"].insert(0, "thought"), 'steps[0] is "thought" where an object is expected'),
    (lambda record: record["steps"][1].update(text="t"), 'steps[1]: unknown field "text"; known are query'),
    (lambda record: record["steps"][2].update(error="and an error"), "steps[2]: an observation holds frames or an error"),
    (lambda record: record["steps"][2].update(frames=[]), "steps[2]: an observation holds frames or an error"),
    (lambda record: record["frames"][0].update(provenance={}), "frames[0].provenance: the field"),
    (lambda record: record["steps"][4]["frames"][0].update(seconds=1), "steps[4].frames[0]: a generated frame has no time"),
    (lambda record: record["steps"][4]["frames"][0]["provenance"].update(seed=0.5), "steps[4].frames[0].provenance.seed is 0.5"),
    (lambda record: record.clear(), "format version null"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_a_record_that_is_not_ours(change: Change, message: str, run: Run) -> None:
    run.append(trace())
    run.append(trace("two"))
    lines = (run.folder / "traces.jsonl").read_text().splitlines()
    record = json.loads(lines[1])
    change(record)
    (run.folder / "traces.jsonl").write_text(f"{lines[0]}\n{json.dumps(record)}\n{lines[0]}\n")
    found = run.traces()
    assert next(found).id == "one"
    with pytest.raises(StoreError) as caught:
        next(found)
    assert str(caught.value).startswith(f"{run.folder / 'traces.jsonl'}:2: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[]",
        "1",
        '"x"',
        "null",
        "\udcff",
        '{"version": NaN}',
        '{"version": 1, "id": Infinity}',
        "[" * 100_000,
        '{"version": 1' + "0" * 9000 + "}",
    ],
    ids=lambda line: line[:12],
)
def test_a_broken_line_in_the_middle(line: str, run: Run) -> None:
    run.append(trace())
    path = run.folder / "traces.jsonl"
    path.write_bytes(path.read_bytes() + line.encode(errors="surrogateescape") + b"\n" + path.read_bytes())
    for read in (run.ids, lambda: list(run.traces())):
        with pytest.raises(StoreError, match=re.escape(f"{path}:2: ")):
            read()


@pytest.mark.parametrize(
    "file",
    [
        "../../secret.png",
        "/etc/passwd",
        "a.png",
        "0" * 63 + ".png",
        "0" * 64 + ".gif",
        "0" * 64 + ".png\n",
        "0" * 64 + ".png/x",
        "A" * 64 + ".png",
        "http://example.org/a.png",
        "",
        None,
        1,
    ],
)
def test_a_frame_is_never_a_path(file: object) -> None:
    record = encode_trace(trace(), lambda frame: GOOD_FILE)
    record["frames"][0]["file"] = file

    def load(name: str) -> Image.Image:
        assert name == GOOD_FILE
        return picture(0)

    with pytest.raises(StoreError, match=r"^frames\[0\]\.file is .* where the name of a frame's file \(a sha256 and \.png or \.jpg\) is expected$"):
        decode_trace(record, load)


def test_a_picture_that_is_missing_or_broken(run: Run) -> None:
    run.append(trace())
    path = run.folder / "frames" / json.loads((run.folder / "traces.jsonl").read_text())["frames"][0]["file"]
    content = path.read_bytes()
    Image.new("RGB", (4, 4)).save(path, "GIF")
    for broken in (b"", b"words", content[: len(content) // 2], path.read_bytes()):
        path.write_bytes(broken)
        with pytest.raises(StoreError, match=re.escape(f"{path} cannot be read as a picture")):
            list(run.traces())
    path.unlink()
    with pytest.raises(StoreError, match=re.escape(f"traces.jsonl:1: {path} is missing")):
        list(run.traces())
    assert run.ids() == {"one"}


# Frames as files


def test_frames_are_files_named_by_their_pixels(run: Run) -> None:
    run.append(trace("one"))
    files = {path.name: path.stat().st_mtime_ns for path in (run.folder / "frames").iterdir()}
    assert len(files) == 4
    first = hashlib.sha256(b"12x8\n" + picture(0).tobytes()).hexdigest() + ".png"
    assert first in files
    run.append(trace("two"))  # the same pictures: nothing is written again
    assert {path.name: path.stat().st_mtime_ns for path in (run.folder / "frames").iterdir()} == files
    assert b"base64" not in (run.folder / "traces.jsonl").read_bytes()


def test_equal_pixels_of_another_shape_are_another_frame(run: Run) -> None:
    wide, high = Image.new("RGB", (8, 2), "red"), Image.new("RGB", (2, 8), "red")
    run.append(dataclasses.replace(trace(), frames=(Frame(wide, 0.0), Frame(high, 1.0))))
    (back,) = run.traces()
    assert [frame.image.size for frame in back.frames] == [(8, 2), (2, 8)]


def test_a_generated_picture_says_so_inside(run: Run) -> None:
    real = dataclasses.replace(generated(3), provenance=None, seconds=1.0)  # the same pixels, from the video
    run.append(dataclasses.replace(trace(), frames=(real,)))
    record = json.loads((run.folder / "traces.jsonl").read_text())
    generated_file, real_file = record["steps"][4]["frames"][0]["file"], record["frames"][0]["file"]
    assert generated_file != real_file
    with Image.open(run.folder / "frames" / generated_file) as image:
        texts = dict(image.info)
    assert texts["Description"] == "Generated by a model; this picture was never in the video."
    assert json.loads(texts["act2see:provenance"]) == record["steps"][4]["frames"][0]["provenance"]
    with Image.open(run.folder / "frames" / real_file) as image:
        assert not image.info


def test_a_generated_pictures_scores_come_back_whole_where_they_were_whole(run: Run) -> None:
    made = Provenance("a star", 1.0, "some/model", 7, 0.25, {"says yes": 1.0, "painted": 1})
    run.append(dataclasses.replace(trace(), steps=[Generate("a star"), Observation((Frame(Image.new("RGB", (4, 4)), None, provenance=made),))]))
    (back,) = run.traces()
    (frame,) = back.observations[0].frames
    assert frame.provenance is not None
    assert repr(frame.provenance.scores) == repr(made.scores)


def test_large_frames_are_jpeg_and_generated_ones_are_not(run: Run) -> None:
    large = Image.linear_gradient("L").resize((640, 480)).convert("RGB")
    assert large.width * large.height > MAX_PNG_PIXELS
    frames = (Frame(large, 0.0), Frame(large.resize((512, 512)), 1.0), dataclasses.replace(generated(0), image=large))
    run.append(dataclasses.replace(trace(), frames=frames))
    record = json.loads((run.folder / "traces.jsonl").read_text())
    assert [frame["file"][-3:] for frame in record["frames"]] == ["jpg", "png", "png"]
    (back,) = run.traces()
    assert np.abs(np.asarray(back.frames[0].image, int) - np.asarray(large, int)).max() <= 4
    assert back.frames[1].image == frames[1].image
    assert back.frames[2].image == large
    name = record["frames"][0]["file"]
    assert name == hashlib.sha256(b"640x480\n" + large.tobytes()).hexdigest() + ".jpg"


def test_a_pictures_size_is_read_without_decoding_it(tmp_path: Path) -> None:
    run = Run.create(tmp_path, command="ask", config={}, seed=None)
    small, large = Frame(Image.new("RGB", (7, 5)), 0.0), Frame(Image.new("RGB", (800, 600)), 1.0)
    run.append(Trace("t", "v.mp4", "What?", (small, large)))
    sizes = {Path(name).suffix: run.frames.size(name) for _, trace in run.sketches() for name in files_of(trace)}
    assert sizes == {".png": (7, 5), ".jpg": (800, 600)}
    path = next(tmp_path.glob("frames/*.png"))
    Image.new("L", (7, 5)).save(path)
    with pytest.raises(StoreError, match="its pixels are L, not RGB"):
        run.frames.size(path.name)
    path.write_bytes(b"\x89PNG")
    with pytest.raises(StoreError, match="cannot be read as a picture"):
        run.frames.size(path.name)
    path.unlink()
    with pytest.raises(StoreError, match="is missing"):
        run.frames.size(path.name)
