"""Escapes, control characters, markup and lone surrogates in data never reach the terminal, whichever command prints them; JSON stays JSON."""

import json
import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from act2see.config import EvalConfig, ModelConfig
from act2see.core.chat import Tool
from act2see.core.errors import BackendError
from act2see.core.interfaces import Continuation, Sample
from act2see.core.trace import Answer, Cost, Frame, Thought, Trace
from act2see.storage.runs import Run
from cli_fakes import Act2See, Done, Scripted

ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202eevil\u2066\x7f[red]"
HOSTILE = f"{ESCAPES}\r\n\x85forged line\ud800"
FINDER = ("--retriever", "cli_fakes:Finder", "--generator", "none")
MODULE = "test_cli_hostile_text"


class Talker(Scripted):
    """Writes hostile text wherever a model may write any."""

    chunks = (f"<think>{HOSTILE}<retrieve> {HOSTILE} </retrieve>", f"{HOSTILE}</think><answer>A {HOSTILE}</answer>")
    notice = f"this model knows {HOSTILE}"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.made_with = {"backend": HOSTILE, "model": HOSTILE}


class Failing(Scripted):
    def decode(self, trace: Trace, tools: Sequence[Tool]) -> Generator[str, None, Continuation]:
        yield HOSTILE
        raise BackendError(f"the server says: {HOSTILE}")


class Faulty(Scripted):
    def decode(self, trace: Trace, tools: Sequence[Tool]) -> Generator[str, None, Continuation]:
        yield HOSTILE
        raise LookupError(HOSTILE)


class Bench:
    """Hostile names, kinds, groups and choices."""

    name = HOSTILE

    def __init__(self, config: EvalConfig) -> None:
        self._count = config.n or 3

    def samples(self) -> Iterator[Sample]:
        for number in range(self._count):
            clip = Path(os.environ["ACT2SEE_TEST_CLIP"])
            yield Sample(
                f"q{number} {HOSTILE}", clip, f"What {HOSTILE}?", (f"a {HOSTILE}", "b"), "b", f"kind {HOSTILE}", (f"group {HOSTILE}",), "Why."
            )

    def is_right(self, sample: Sample, trace: Trace) -> bool | None:
        return trace.id.startswith("q0")


def is_harmless(text: str) -> bool:
    forbidden = {*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A), *range(0xD800, 0xE000)} - {0x09, 0x0A}
    return not forbidden & set(map(ord, text))


def checked(done: Done, *, codes: tuple[int, ...] = (0,), is_aloud: bool = False) -> Done:
    assert done.code in codes, done.err
    assert is_harmless(done.out), ascii(done.out)
    assert is_harmless(done.err), ascii(done.err)
    assert not [line for line in (done.out if is_aloud else done.out + done.err).splitlines() if line.startswith("forged line")], done
    return done


@pytest.fixture
def hostile_clip(own_clip: Path) -> Path:
    """A video whose name steers a terminal."""
    name = own_clip.with_name(f"clip {ESCAPES}\n.mp4".replace("/", "_"))
    name.write_bytes(own_clip.read_bytes())
    return name


def talking(backend: str = "Talker") -> tuple[str, ...]:
    return ("--backend", f"{MODULE}:{backend}", *FINDER)


def test_ask(act2see: Act2See, hostile_clip: Path) -> None:
    question = f"What {ESCAPES}?"
    checked(act2see("ask", hostile_clip, question, "--choices", f"A {ESCAPES}", "b", *talking()), codes=(0, 3), is_aloud=True)
    told = checked(act2see("ask", hostile_clip, question, *talking(), "--json", "--save", f"run {ESCAPES}", "--report", "report.html"), is_aloud=True)
    assert told.out.isascii()
    assert json.loads(told.out)["made_with"]["backend"] == HOSTILE
    free = act2see("ask", hostile_clip, question, *talking())
    assert is_harmless(free.out)  # an open answer keeps its own line breaks
    checked(act2see("ask", hostile_clip, question, *talking("Failing")), codes=(1,), is_aloud=True)
    assert "internal error: LookupError" in checked(act2see("ask", hostile_clip, question, *talking("Faulty")), codes=(70,), is_aloud=True).err
    checked(act2see("ask", f"no {HOSTILE}", question, *talking()), codes=(1,))
    checked(act2see("ask", hostile_clip, HOSTILE, *talking()), codes=(1,))
    checked(act2see("ask", hostile_clip, question, "--backend", HOSTILE), codes=(1,))
    checked(act2see("ask", hostile_clip, question, f"--{ESCAPES}"), codes=(2,))
    checked(act2see("ask", hostile_clip, question, "--config", f"no {ESCAPES}.toml"), codes=(1,))


def test_frames_and_indexes(act2see: Act2See, hostile_clip: Path) -> None:
    checked(act2see("retrieve", hostile_clip, f"star {ESCAPES}", *FINDER[:2], "--out", f"frames {ESCAPES}"))
    checked(act2see("retrieve", hostile_clip, f"star {ESCAPES}", *FINDER[:2], "--json"))
    checked(act2see("index", hostile_clip, f"no {ESCAPES}", "--retriever", "tiny_encoder:Grey"), codes=(1,))
    checked(act2see("index", hostile_clip, "--retriever", "tiny_encoder:Grey", "--json"))
    checked(act2see("cache", "ls"))


@pytest.mark.usefixtures("own_clip")
def test_runs_and_what_is_told_of_them(act2see: Act2See) -> None:
    runs = [f"run {number} {ESCAPES}" for number in (1, 2)]
    for run in runs:
        checked(act2see("eval", f"{MODULE}:Bench", *talking(), "--n", "2", "--out", run))
    for backend in ("Failing", "Faulty"):
        checked(act2see("eval", f"{MODULE}:Bench", *talking(backend), "--n", "1"))
    as_json = checked(act2see("eval", f"{MODULE}:Bench", *talking(), "--n", "2", "--json"))
    assert as_json.out.isascii()
    assert f"kind {HOSTILE}" in json.loads(as_json.out)["n_by_kind"]
    checked(act2see("compare", *runs))
    checked(act2see("compare", *runs, "--json"))
    checked(act2see("tradeoff", *runs, "--by", "tokens"))
    checked(act2see("score", runs[0], "--benchmark", f"{MODULE}:Bench"))
    checked(act2see("audit", f"{MODULE}:Bench", *talking(), "--n", "2", "--out", f"audit {ESCAPES}"))
    checked(act2see("export", runs[0], "--format", "trl", "--out", f"data {ESCAPES}"), codes=(1,))
    checked(act2see("eval", f"{MODULE}:Bench", *talking(), "--out", runs[0]), codes=(1,))
    checked(act2see("score", f"no {HOSTILE}"), codes=(1,))


@pytest.mark.usefixtures("own_clip")
def test_training_data(act2see: Act2See) -> None:
    made, kept = f"made {ESCAPES}", f"kept {ESCAPES}"
    checked(act2see("construct", f"{MODULE}:Bench", *talking(), "--n", "2", "--out", made))
    checked(act2see("filter", made, "--out", kept, "--embedder", "words"))
    checked(act2see("contamination", made, "--against", f"{MODULE}:Bench=.", "--by", "question"), codes=(0, 1, 3))
    checked(act2see("train", f"no {ESCAPES}.toml", "--dry-run"), codes=(1,))


def test_a_strangers_run_and_data(act2see: Act2See, own_clip: Path, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "strange", command="eval", config={"benchmark": HOSTILE, "backend": HOSTILE}, seed=0)
    frame = Frame(Image.new("RGB", (8, 8)), 0.0)
    trace = Trace(
        HOSTILE, HOSTILE, HOSTILE, (frame,), (HOSTILE, "b"), 1.0, [Thought(HOSTILE), Answer(HOSTILE)], "answer", Cost(), {"backend": HOSTILE}
    )
    run.append(trace)
    run.append(replace(trace, id=f"2 {HOSTILE}", steps=[Thought(HOSTILE)], finish="end"))
    checked(act2see("export", "strange", "--format", "trl", "--out", "data"), codes=(1,))
    checked(act2see("score", "strange"), codes=(1,))
    checked(act2see("filter", "strange", "--out", "x"), codes=(1,))
    row = {"id": f"q {ESCAPES}", "video": own_clip.name, "question": f"What {ESCAPES}?", "answer": f"a {ESCAPES}", "source": f"s {ESCAPES}"}
    own_clip.with_name("questions.jsonl").write_text(json.dumps(row) + "\n" + json.dumps({**row, HOSTILE: 1}) + "\n")
    for command in (("benchmarks", "check", "jsonl"), ("eval", "jsonl", *talking())):
        checked(act2see(*command, "--data", own_clip.parent), codes=(1,))
    own_clip.with_name("questions.jsonl").write_text(json.dumps(row) + "\n")
    checked(act2see("benchmarks", "check", "jsonl", "--data", own_clip.parent))
    checked(act2see("eval", "jsonl", "--data", own_clip.parent, *talking()))
    own_clip.with_name("questions.jsonl").write_text(json.dumps({**row, "question": "half \ud83d"}) + "\n")
    assert "half a character" in act2see("eval", "jsonl", "--data", own_clip.parent, *talking()).complaint
