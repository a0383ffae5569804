"""A run's folder from a stranger: whatever is in it, each command that reads it ends in one line, and nothing outside it changes or is read."""

import io
import json
import os
import random
import shutil
import socket
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from act2see import cli
from act2see.core.trace import Answer, Frame
from act2see.curation.qa_records import Reference, reference_row
from act2see.storage.frames import name_of
from act2see.storage.runs import SAMPLES, Run
from cli_fakes import Act2See, Done, fakes
from stored_traces import generated, trace

SECRET = b"what only its owner may read"
Change = Callable[[Path], object]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `eval` with scores, summary and costs; its traces have frames of every kind, and it can be filtered too."""
    folder = tmp_path_factory.mktemp("original")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(folder / "settings"))
        patch.chdir(folder)
        assert cli.main(("eval", "synthetic", *fakes("Direct"), "--n", "3", "--kind", "static", "--max-looks", "0", "--out", "run")) == 0
    run = Run.open(folder / "run")
    shutil.rmtree(folder / "run" / "videos")
    (folder / "run" / "costs.json").write_text('{"n": 3, "seconds": {"all": {"mean": 0.5}}, "dollars": 0.75}', encoding="utf-8")
    asked = list(run.traces())
    (folder / "run" / "traces.jsonl").unlink()
    shutil.rmtree(folder / "run" / "frames")
    large = Frame(Image.linear_gradient("L").resize((640, 480)).convert("RGB"), 0.0)
    for number, one in enumerate(asked):
        full = trace(one.id, seed=4 * number)
        full.video, full.question, full.choices, full.steps[-1] = one.video, one.question, one.choices, Answer("A")
        full.frames = (*full.frames, large) if number == 1 else full.frames
        run.append(full)
    rows = [
        Reference(one.id, "made-up", "MIT", one.video, one.question, one.choices, one.choices[0], "static", "It is seen to fall.") for one in asked
    ]
    run.write_rows(SAMPLES, map(reference_row, rows))
    return folder / "run"


COMMANDS: dict[str, tuple[str, ...]] = {
    "score": ("score", "run"),
    "compare": ("compare", "run", "good"),
    "tradeoff": ("tradeoff", "run"),
    "by dollars": ("tradeoff", "run", "--by", "dollars"),
    "export": ("export", "run", "--format", "trl", "--out", "exported"),
    "filter": ("filter", "run", "--out", "kept", "--embedder", "words"),
}
ALL = tuple(COMMANDS)


class Stranger:
    """The folder of the run, beside one that is fine and one that holds a secret."""

    def __init__(self, act2see: Act2See, original: Path) -> None:
        self.act2see, self.original = act2see, original
        act2see("--version")  # the fixture's folder
        self.outside = Path("outside").absolute()
        self.outside.mkdir()
        for name in ("secret.json", "secret.png", "traces.jsonl"):
            (self.outside / name).write_bytes(SECRET)
        shutil.copytree(original, "good")

    def try_all(self, change: Change, commands: tuple[str, ...] = ALL) -> dict[str, Done]:
        """What the commands say of the changed run: always something that a user can read."""
        told = {}
        for name in commands:
            for left in ("run", "exported", "kept"):
                shutil.rmtree(left, ignore_errors=True)
            shutil.copytree(self.original, "run")
            change(Path("run"))
            told[name] = done = self.act2see(*COMMANDS[name])
            assert done.code in (0, 1), (name, done)
            assert "Traceback" not in done.err
            if done.code == 1:
                complaints = [line for line in done.err.splitlines() if line.startswith("act2see: ") and not line.startswith("act2see: note: ")]
                assert len(complaints) == 1, (name, done.err)
                assert done.out == ""
            self.check_outside(name)
        return told

    def check_outside(self, name: str) -> None:
        """Nothing there was written, and nothing of it was read into anything."""
        assert {path.name: path.read_bytes() for path in self.outside.iterdir()} == dict.fromkeys(
            ("secret.json", "secret.png", "traces.jsonl"), SECRET
        ), name
        for folder in ("exported", "kept"):
            assert not any(SECRET in path.read_bytes() for path in Path(folder).rglob("*") if path.is_file())
            assert not any(path.is_symlink() for path in Path(folder).rglob("*"))


@pytest.fixture
def stranger(act2see: Act2See, original: Path) -> Stranger:
    return Stranger(act2see, original)


def test_the_run_is_fine_as_it_is(stranger: Stranger) -> None:
    told = stranger.try_all(lambda run: None)
    assert {name: done.code for name, done in told.items()} == dict.fromkeys(COMMANDS, 0)
    assert told["export"].out.startswith("3 traces")


# What is no file


def _replaced(name: str, make: Callable[[Path, Path], object]) -> Change:
    def change(run: Path) -> None:
        path = run / name if name != "frames/*" else next(iter(sorted((run / "frames").glob("*.png"))))
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        make(path, run.absolute().parent / "outside")

    return change


def _socket(path: Path, outside: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        here = os.getcwd()
        os.chdir(path.parent)  # a socket's path may not be long
        made.bind(path.name)
        os.chdir(here)


SPECIAL: dict[str, Callable[[Path, Path], object]] = {
    "link": lambda path, outside: path.symlink_to(outside / "secret.json"),
    "link to nothing": lambda path, outside: path.symlink_to(outside / "new"),
    "link to itself": lambda path, outside: path.symlink_to(path.name),
    "link to a device": lambda path, outside: path.symlink_to("/dev/zero"),
    "link to a folder": lambda path, outside: path.symlink_to(outside),
    "FIFO": lambda path, outside: os.mkfifo(path),
    "socket": _socket,
    "folder": lambda path, outside: path.mkdir(),
}
FILES = (
    "run.json",
    "traces.jsonl",
    "scores.jsonl",
    "summary.json",
    "costs.json",
    SAMPLES,
    "frames",
    "frames/*",
    "similarities.jsonl",
    "verdicts.jsonl",
)


@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_file_is_refused_at_once(stranger: Stranger, kind: str) -> None:
    for name in FILES:
        told = stranger.try_all(_replaced(name, SPECIAL[kind]), ("score", "compare", "tradeoff", "export", "filter"))
        if name in ("run.json", "traces.jsonl"):
            assert told["score"].code == 1
            assert told["export"].code == 1
        if name in ("scores.jsonl", "summary.json"):
            assert told["compare"].code == 1
        if name.startswith("frames") and kind != "folder":
            assert told["export"].code == (1 if name == "frames" else 0)
    assert not (stranger.outside / "new").exists()


def test_a_run_that_is_gone_on_with_writes_nothing_elsewhere(stranger: Stranger) -> None:
    again = ("eval", "synthetic", *fakes("Direct"), "--n", "4", "--kind", "static", "--max-looks", "0", "--out", "run", "--resume")
    places = ("traces.jsonl", "scores.jsonl", "summary.json", "costs.json", "frames", "videos", "videos/clips", ".lock", "run.json")
    for name in places:
        shutil.rmtree("run", ignore_errors=True)
        shutil.copytree(stranger.original, "run")
        if name == "videos/clips":
            Path("run/videos").mkdir()
        _replaced(name, SPECIAL["link to a folder" if name in ("frames", "videos", "videos/clips") else "link"])(Path("run"))
        done = stranger.act2see(*again)
        assert (done.code, "is a link: in a run's folder only regular files are read and written" in done.err) == (1, True), (name, done)
        stranger.check_outside(name)
    shutil.rmtree("run")
    shutil.copytree(stranger.original, "run")
    os.link("run/traces.jsonl", "second")
    assert "has a second name (a hard link)" in stranger.act2see(*again).err


# Bytes


def _written(name: str, make: Callable[[bytes], bytes]) -> Change:
    return lambda run: (run / name).write_bytes(make((run / name).read_bytes()))


def _line(make: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Change the second line alone."""

    def change(content: bytes) -> bytes:
        first, second, *rest = content.splitlines(keepends=True)
        return b"".join([first, make(second[:-1]) + b"\n", *rest])

    return change


ODD_LINES: dict[str, bytes] = {
    "empty": b"",
    "NUL": b"\0" * 20,
    "no UTF-8": b'{"version": 1, "id": "\xff\xfe"}',
    "null": b"null",
    "NaN": b'{"version": 1, "n": NaN}',
    "Infinity": b'{"version": -Infinity}',
    "too large": b'{"version": 1, "n": 1e999}',
    "digits": b'{"version": 1, "n": ' + b"9" * 5000 + b"}",
    "deep": b"[" * 5000 + b"]" * 5000,
    "deeper than is read": b'{"a":' * 100 + b"1" + b"}" * 100,
    "twice": b'{"version": 1, "version": 1}',
    "lone surrogate": b'{"version": "\\ud800"}',
    "HTML": b"<html><body>404</body></html>",
}


@pytest.mark.parametrize("line", ODD_LINES.values(), ids=ODD_LINES)
def test_an_odd_line_is_named_with_its_place(stranger: Stranger, line: bytes) -> None:
    told = stranger.try_all(_written("traces.jsonl", _line(lambda _: line)), ("score", "export", "filter"))
    assert "run/traces.jsonl:2: " in told["score"].err
    assert told["score"].code == 1  # its question has no other answer
    assert (told["export"].code, told["filter"].code) == (0, 0)
    assert "skipped trace of line 2: traces.jsonl:2: " in told["export"].err
    assert "run/traces.jsonl:2: " in told["filter"].err
    told = stranger.try_all(_written("scores.jsonl", _line(lambda _: line)), ("score", "compare"))
    assert (told["score"].code, told["compare"].code) == (0, 1)
    assert all("run/scores.jsonl:2: " in one.err for one in told.values())
    for name, command in (("run.json", "score"), ("summary.json", "tradeoff"), (SAMPLES, "filter")):
        told = stranger.try_all(_written(name, lambda _: line + b"\n"), (command,))
        assert told[command].code == 1
        assert f"run/{name}" in told[command].err or told[command].err.startswith("act2see: run ")
    stranger.try_all(_written("costs.json", lambda _: line), ("by dollars",))


@pytest.mark.slow
def test_cuts_and_flipped_bytes(stranger: Stranger) -> None:
    chance = random.Random(0)
    for name in ("run.json", "traces.jsonl", "scores.jsonl", "summary.json", SAMPLES):
        for _ in range(3):
            at, flipped = chance.random(), chance.randrange(1, 256)

            def cut(content: bytes, at: float = at) -> bytes:
                return content[: int(at * len(content))]

            def flip(content: bytes, at: float = at, flipped: int = flipped) -> bytes:
                place = int(at * len(content))
                return content[:place] + bytes([content[place] ^ flipped]) + content[place + 1 :]

            for make in (cut, flip):
                stranger.try_all(_written(name, make), ("score", "tradeoff", "export", "filter"))


# Values


VALUES: tuple[Any, ...] = (None, True, -1, 0.5, 2**53 + 1, 2**70, -1e9, "", "x" * 300, "\ud800", "\x1b[2J", [], [[]], {}, {"all": "x"}, [1, 2, 3])


def _places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each value in a JSON value; of a list to its first alone."""
    if at:
        yield at
    inner = value.items() if isinstance(value, dict) else list(enumerate(value))[:1] if isinstance(value, list) else ()
    for key, one in inner:
        yield from _places(one, (*at, key))


def _set(record: Any, at: tuple[Any, ...], value: Any) -> None:
    for key in at[:-1]:
        record = record[key]
    record[at[-1]] = value


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "commands"),
    [
        ("run.json", ("score", "compare", "export")),
        ("traces.jsonl", ("score", "export", "filter")),
        ("scores.jsonl", ("score", "compare")),
        ("summary.json", ("score", "compare", "tradeoff")),
        ("costs.json", ("by dollars",)),
        (SAMPLES, ("filter",)),
    ],
)
def test_each_field_with_other_values(stranger: Stranger, name: str, commands: tuple[str, ...]) -> None:
    chance = random.Random(name)
    content = (stranger.original / name).read_bytes()
    record = json.loads(content.splitlines()[1] if name.endswith("l") else content)
    places = list(_places(record))
    for at in chance.sample(places, min(20, len(places))):
        for value in chance.sample(VALUES, 2):
            changed = json.loads(json.dumps(record))
            _set(changed, at, value)
            line = json.dumps(changed).encode()
            stranger.try_all(_written(name, _line(lambda _, line=line: line) if name.endswith("l") else lambda _, line=line: line), commands)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"tokens_in": -1}, "cost.tokens_in is -1 where a count (0 to 2^53) is expected"),
        ({"tokens_out": 2**60}, "cost.tokens_out is 1152921504606846976 where a count (0 to 2^53) is expected"),
        ({"dollars": -0.5}, "cost.dollars is -0.5 where a number that is not negative is expected"),
        ({"seconds": {"decode": -2}}, "cost.seconds.decode is -2 where a number that is not negative is expected"),
        ({"tokens_in": True}, "cost.tokens_in is true where a count (0 to 2^53) is expected"),
    ],
)
def test_numbers_out_of_range_are_named(stranger: Stranger, change: dict[str, Any], part: str) -> None:
    def negative(line: bytes) -> bytes:
        record = json.loads(line)
        record["cost"] |= change
        return json.dumps(record).encode()

    done = stranger.try_all(_written("traces.jsonl", _line(negative)), ("score",))["score"]
    assert f"run/traces.jsonl:2: {part}" in done.err


# Pictures


def _png(size: tuple[int, int], *, pixels: bytes = b"", mode: int = 2) -> bytes:
    """A PNG whose header says what it likes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = size[0].to_bytes(4, "big") + size[1].to_bytes(4, "big") + bytes([8, mode, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def _with_text() -> bytes:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Comment", "x" * 10_000_000, zip=True)
    return _saved(Image.new("RGB", (12, 8)), "PNG", pnginfo=texts)


PICTURES: dict[str, bytes] = {
    "another picture": _saved(Image.new("RGB", (12, 8), "red"), "PNG"),
    "100,000 x 100,000": _png((100_000, 100_000)),
    "9,000 x 9,000": _png((9000, 9000)),
    "no pixels": _png((0, 5)),
    "few pixels": _png((12, 8), pixels=b"\0" * 10),
    "palette": _saved(Image.new("P", (12, 8)), "PNG", transparency=b"\0\1"),
    "transparent": _saved(Image.new("RGBA", (12, 8)), "PNG"),
    "GIF": _saved(Image.new("RGB", (12, 8)), "GIF"),
    "JPEG": _saved(Image.new("RGB", (12, 8)), "JPEG"),
    "text beyond all": _with_text(),
    "nothing": b"",
    "padded": _saved(Image.new("RGB", (12, 8)), "PNG") + b"\0" * 5_000_000,
}


@pytest.mark.parametrize("content", PICTURES.values(), ids=PICTURES)
def test_a_picture_that_is_not_the_one_that_it_is_named_by(stranger: Stranger, content: bytes) -> None:
    def change(run: Path) -> None:
        first = json.loads((run / "traces.jsonl").read_bytes().splitlines()[1])["frames"][0]["file"]
        (run / "frames" / first).write_bytes(content)

    done = stranger.try_all(change, ("export",))["export"]
    assert done.code == 0
    assert done.out.startswith("2 traces")
    assert "traces.jsonl:2: frames/" in done.err


def test_a_jpeg_that_is_none_and_a_generated_one(stranger: Stranger) -> None:
    def change(run: Path) -> None:
        (jpeg,) = (run / "frames").glob("*.jpg")
        jpeg.write_bytes(_saved(Image.new("RGB", (640, 480)), "PNG"))

    assert "cannot be read as a picture: it is no JPEG" in stranger.try_all(change, ("export",))["export"].err
    frame = generated(3)
    assert name_of(frame) != name_of(Frame(frame.image, 1.0))

    def swap(line: bytes) -> bytes:
        record = json.loads(line)
        record["steps"][4]["frames"][0]["provenance"]["prompt"] = "what it was not made from"
        return json.dumps(record).encode()

    done = stranger.try_all(_written("traces.jsonl", _line(swap)), ("export",))["export"]
    assert "is not the picture that it is named by: it was changed, or put in another's place" in done.err
