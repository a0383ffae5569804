"""What hypothesis draws, through everything that reads words, files and settings: laws that hold for every input, none slower than a second.

The number of inputs is fixed and the seed given, so a run is the same each time.
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from act2see.backends import servers
from act2see.backends.stream import BrokenStreamError, ReportedError, read_chunks
from act2see.benchmarks import choosing
from act2see.benchmarks.catalogue import BY_NAME
from act2see.benchmarks.official import causalvqa, egonormia, literals, minerva
from act2see.cli import SETTINGS_OF
from act2see.config import EvalConfig, read_settings
from act2see.core import chat, naming, protocol
from act2see.core.errors import Act2SeeError, ConfigError, StoreError
from act2see.core.interfaces import Sample
from act2see.core.trace import Answer, Frame, Generate, Observation, Retrieve, Step, Trace
from act2see.evaluation.scores import read_score
from act2see.registry import data_set
from act2see.storage import codec, records
from act2see.video.transcript import subtitles
from attacking.drawn import (
    PIXEL,
    choices,
    chunks,
    files,
    forms,
    long_texts,
    numbers,
    odd,
    openings,
    signs,
    some,
    texts,
    toml,
    traces,
    urls,
    values,
    words,
)
from attacking.harness import Item, act2see, faults

MAX_SECONDS = 1.0
"""Of the processor, for one input."""
ROOT = Path(__file__).parents[2]

Law = Callable[[Any], None]
LAWS: dict[str, tuple[int, st.SearchStrategy[Any], Law]] = {}
"""How many inputs, from what they are drawn, and what must hold for each; by name."""


def law(name: str, count: int, drawn: st.SearchStrategy[Any]) -> Callable[[Law], Law]:
    """Add a law."""

    def add(check: Law) -> Law:
        LAWS[name] = (count, drawn, check)
        return check

    return add


def items(number: int) -> list[Item]:
    """One a law."""
    return [Item(name, _attack(name, number), limit_seconds=900, inputs=count) for name, (count, _, _) in LAWS.items()]


def _attack(name: str, number: int) -> Callable[[Path], list[str]]:
    def attack(folder: Path) -> list[str]:
        count, drawn, check = LAWS[name]
        tried, slow = 0, 0.0
        rules = settings(
            max_examples=count, database=None, deadline=None, phases=(Phase.generate, Phase.shrink), suppress_health_check=list(HealthCheck)
        )

        @seed(number)
        @rules
        @given(drawn)
        def holds(value: Any) -> None:
            nonlocal tried, slow
            tried += 1
            begun = time.process_time()
            check(value)
            slow = max(slow, time.process_time() - begun)

        try:
            holds()
        except Exception as error:  # noqa: BLE001 - whatever a law raises is the finding
            notes = " ".join(getattr(error, "__notes__", ()))
            return [f"{type(error).__name__}: {error} {notes}"[:1500]]
        wrong = [f"{slow:.1f} s for one input"] if slow > MAX_SECONDS else []
        return [*wrong, *([f"only {tried} inputs were drawn"] if tried < count else [])]

    return attack


def refused(*errors: type[Exception]) -> Any:
    """These errors are what should come; their words are one line that can be written."""

    class Checked(suppress):
        def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> bool:
            if isinstance(error, errors):
                assert str(error).strip()
            return super().__exit__(kind, error, traceback)

    return Checked(*errors)


# The protocol and the chat


def rendered(steps: Sequence[Step]) -> str:
    """The steps' words."""
    return "".join(piece for piece in chat.render(steps) if isinstance(piece, str))


@law("the first call or answer in a text", 4000, st.tuples(texts | long_texts, openings))
def _(value: tuple[str, str]) -> None:
    text, before = value
    found = protocol.first_use(text, before)
    if found is None:
        assert protocol.is_mention(text, before) == text.endswith(protocol.STOPS)
        return
    assert 0 <= found.start <= found.end <= len(text)
    assert text[: found.end].endswith(protocol.STOPS)
    assert protocol.first_use(text[: found.end], before) == found  # nothing behind it decides


@law("steps of a text are the text", 4000, st.tuples(texts | long_texts, openings, st.booleans()))
def _(value: tuple[str, str, bool]) -> None:
    text, before, ended = value
    steps, problem = protocol.parse_chunk(text, before, ended=ended)
    assert text.startswith(rendered(steps))
    assert problem is None or not any(isinstance(step, Retrieve | Generate | Answer) for step in steps)
    if not any(isinstance(step, Retrieve | Generate | Answer) for step in steps) and problem is None:
        assert rendered(steps) == text


@law(
    "a turn is parsed, written and parsed again",
    3000,
    st.lists(texts | st.sampled_from([Observation(error="no"), Observation(error="x <b")]), max_size=5),
)
def _(pieces: list[str | Observation]) -> None:
    steps = chat.parse(pieces)
    again = chat.parse(chat.render(steps))
    assert rendered(again) == rendered(steps)
    assert [step for step in again if isinstance(step, Observation)] == [piece for piece in pieces if isinstance(piece, Observation)]


@law("no mark of a chat format is left in a text", 4000, texts | long_texts)
def _(text: str) -> None:
    clean = chat.without_marks(text)
    for mark in ("<|", "<｜", "<tool_call>", "</tool_response>", "[INST]", "[/INST]", "<s>", "<bos>"):
        assert mark not in clean
    assert clean.replace(" ", "") == text.replace(" ", "")


@law("a choice is one of the choices, or none", 4500, st.tuples(texts | long_texts | words, choices))
def _(value: tuple[str, list[str]]) -> None:
    answer, options = value
    index = chat.chosen(answer, options)
    assert index is None or 0 <= index < len(options)


@law(
    "a letter that is decorated names its choice",
    3000,
    st.tuples(st.integers(0, 5), some, forms, st.sampled_from(["", ". {}", ") {}", " - {}", ": {}"])),
)
def _(value: tuple[int, list[str], str, str]) -> None:
    index, options, form, behind = value
    letter = "ABCDEF"[index]
    said = form.format(letter) if not behind else letter + behind.format(options[index])
    assert chat.chosen(said, options) == index


# Records


def _load(name: str) -> Image.Image:
    return PIXEL


@law("JSON of any kind is no trace", 2000, values)
def _(value: Any) -> None:
    with refused(StoreError):
        trace = records.decode_trace(value, _load)
        assert isinstance(trace, Trace)


@law(
    "bytes of any kind are JSON or one error",
    3500,
    st.binary(max_size=60)
    | texts.map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.builds(lambda part, count: part * count, st.sampled_from([b"[", b'{"a":', b"9", b'"', b"[1,"]), st.integers(1, 30_000)),
)
def _(content: bytes) -> None:
    with refused(StoreError):
        codec.parse_json(content)


def _name(frame: Frame) -> str:
    return "0" * 64 + ".png"


@law("a trace is written and read", 1000, traces)
def _(trace: Trace) -> None:
    written = codec.canonical_json(records.encode_trace(trace, _name))
    read = records.decode_trace(codec.parse_json(written.encode()), _load)
    assert codec.canonical_json(records.encode_trace(read, _name)) == written


def _places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [*([at] if at else []), *(place for key, one in inner for place in _places(one, (*at, key)))]


def _changed(record: Any, at: int, value: Any) -> Any:
    """A copy with one value in place of another."""
    record = json.loads(json.dumps(record))
    places = _places(record)
    if not places:
        return record
    place = places[at % len(places)]
    inner = record
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return record


@law("a trace with another value in it", 1500, st.tuples(traces, st.integers(0, 99), values))
def _(value: tuple[Trace, int, Any]) -> None:
    trace, at, other = value
    with refused(StoreError):
        records.decode_trace(_changed(records.encode_trace(trace, _name), at, other), _load)


@law(
    "a score with another value in it",
    1200,
    values | st.dictionaries(st.sampled_from(["id", "kind", "outcome", "number", "groups", "error", "guesses"]), values),
)
def _(row: Any) -> None:
    with refused(StoreError):
        read_score(row, "scores.jsonl:1")


# Benchmarks


@law("subtitles of any kind", 2000, files.map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=80))
def _(content: bytes) -> None:
    (path := Path("a.srt")).write_bytes(content)
    with refused(ConfigError):
        lines = subtitles.read_srt(path)
        assert all(math.isfinite(line.start_seconds) and line.text.strip() for line in lines)
        assert [line.start_seconds for line in lines] == sorted(line.start_seconds for line in lines)
        assert subtitles.as_text(lines).count("\n") <= max(0, len(lines) - 1)


SETS = {
    "egonormia": "egonormia/MADE_UP_final_data.json",
    "minerva": "minerva/MADE_UP_minerva.json",
    "social-genome": "social-genome/MADE_UP_qa_test.json",
}
SETS |= {
    "vcr-bench": "vcr-bench/MADE_UP_meta_info_video.json",
    "video-mme": "video-mme/MADE_UP_hf_row.json",
    "videoespresso": "videoespresso/MADE_UP_bench.json",
}
SETS = {name: file for name, file in SETS.items() if name in BY_NAME}
RECORDS: dict[str, Any] = {name: json.loads((ROOT / "tests/data/benchmarks" / file).read_bytes()) for name, file in SETS.items()}
RECORDS["jsonl"] = {"id": "1", "video": "a.mp4", "question": "What?", "choices": ["red", "blue"], "answer": "red"}


@law("records of data sets with another value in them", 2300, st.tuples(st.sampled_from(sorted(RECORDS)), st.integers(0, 200), odd))
def _(drawn: tuple[str, int, Any]) -> None:
    name, at, other = drawn
    for old in Path().glob("set.*"):
        old.unlink()
    text = json.dumps(_changed(RECORDS[name], at, other))
    Path("set.jsonl" if name == "jsonl" else "set.json").write_text(text, encoding="utf-8")
    with refused(Act2SeeError):
        for sample in data_set(name, EvalConfig(data=Path())).samples():
            assert isinstance(sample, Sample)
            assert sample.video.resolve().is_relative_to(Path().resolve())


@law("official readers of an answer", 3000, texts | long_texts | st.text("0123456789[]{}(),'\"-+.eE ABCDE", max_size=40))
def _(text: str) -> None:
    assert egonormia.last_number(text) is None or isinstance(egonormia.last_number(text), int)
    egonormia.pick_sensible(text, [1])
    assert isinstance(minerva.extract(text), str)
    causalvqa.read(text)
    with suppress(ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # as it says
        literals.literal(text)


@law("letters before options, and the right one", 2000, st.tuples(choices, signs | st.sampled_from(["A", "(C)", "B.", "Ｄ", "z"])))
def _(value: tuple[list[str], str]) -> None:
    options, answer = value
    assert len(choosing.without_letters(options)) == len(options)
    with refused(ConfigError):
        assert 0 <= choosing.right_index(answer, max(1, len(options))) < max(1, len(options))


# Settings and addresses


@law("settings files by themselves", 2500, toml)
def _(text: str) -> None:
    (path := Path("config.toml")).write_bytes(text.encode("utf-8", "surrogatepass"))
    with refused(ConfigError):
        read_settings(path, {name: {"fps", "backend", "choices", "seed"} for name in SETTINGS_OF})


@law("settings files", 300, toml)
def _(text: str) -> None:
    Path("config.toml").write_bytes(text.encode("utf-8", "surrogatepass"))
    wrong = faults(act2see("ask", "none.mp4", "What?", "--config", "config.toml"), (1, 2))
    assert not wrong, wrong


@law("addresses of servers", 3000, urls)
def _(url: str) -> None:
    with refused(ConfigError):
        servers.check_url(url, "--base-url")
        assert httpx2.URL(url).host


@law(
    "names of backends", 1500, texts | st.builds("{}:{}".format, st.sampled_from(["micro", "openai", "huggingface", "os", "act2see.nothing"]), signs)
)
def _(spec: str) -> None:
    with refused(ConfigError):
        naming.split_spec("backend", spec, ("micro", "huggingface:DIR", "openai:MODEL", "package.module:Class"))


@law("streams of servers", 1200, chunks)
def _(received: list[bytes]) -> None:
    with suppress(BrokenStreamError, ReportedError):
        for piece in read_chunks(received, 50):
            (piece.delta.content + piece.delta.reasoning).encode("utf-8")
            assert piece.usage is None or piece.usage.prompt_tokens >= 0


@law(
    "pauses that a server asks for",
    1500,
    st.dictionaries(
        st.sampled_from(["retry-after", "retry-after-ms"]),
        signs | numbers.map(str) | st.sampled_from(["Mon, 99 Foo 2999", "Fri, 01 Jan 2100 00:00:00 GMT"]),
    ),
)
def _(headers: dict[str, str]) -> None:
    pause = servers.retry_after(headers)
    assert pause is None or 0 <= pause < math.inf
