"""One thing in a run's folder changed, by name: files that are none, odd lines, other values, other bytes, pictures, and what somebody might do."""

import json
import os
import random
import shutil
import socket
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

Change = Callable[[Path], object]


def changes(seed: int) -> Iterator[tuple[str, Change]]:
    """All of them; those that begin with `construct: ` are for a run of `construct`, the others for one of `eval`."""
    yield "as it is", lambda run: None
    yield "construct: as it is", lambda run: None
    yield from _special()
    yield from _odd_contents()
    yield from _random_values(seed)
    yield from _random_bytes(seed)
    yield from _frames()
    yield from _stories()


FILES = ("run.json", "traces.jsonl", "scores.jsonl", "summary.json", "costs.json", "frames", "frames/*")
OF_CONSTRUCTION = ("samples.jsonl",)


def _named(run: Path, name: str) -> Path:
    """The file; of `frames/*` the first by its name."""
    return next(iter(sorted((run / "frames").iterdir()))) if name == "frames/*" else run / name


def _special() -> Iterator[tuple[str, Change]]:
    outside = "../../outside"
    kinds: dict[str, Callable[[Path], object]] = {
        "missing": lambda path: None,
        "empty": lambda path: path.write_bytes(b""),
        "a link out": lambda path: path.symlink_to(
            Path(outside, "secret.json").resolve() if path.parent.name == "frames" else Path(outside, "secret.json")
        ),
        "a link to nothing": lambda path: path.symlink_to("../../outside/new"),
        "a link to itself": lambda path: path.symlink_to(path.name),
        "a link to /dev/zero": lambda path: path.symlink_to("/dev/zero"),
        "a link to a folder": lambda path: path.symlink_to(outside),
        "a FIFO": os.mkfifo,
        "a socket": _socket,
        "a folder": lambda path: path.mkdir(),
    }
    for group, files in (("eval", FILES), ("construct", OF_CONSTRUCTION)):
        for name in files:
            for kind, make in kinds.items():

                def change(run: Path, name: str = name, make: Callable[[Path], object] = make) -> None:
                    path = _named(run, name)
                    remove(path)
                    make(path)

                yield f"{group}: {name} is {kind}", change


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))  # the path of a socket may not be long


LINES: Mapping[str, bytes] = {
    "empty": b"",
    "spaces": b"  ",
    "NUL": b"\0" * 20,
    "no UTF-8": b'{"version": 1, "id": "\xff\xfe"}',
    "UTF-16": '{"version": 1}'.encode("utf-16"),
    "null": b"null",
    "a list": b"[]",
    "NaN": b'{"version": 1, "n": NaN}',
    "-Infinity": b'{"version": -Infinity}',
    "1e999": b'{"version": 1, "n": 1e999}',
    "5,000 digits": b'{"version": 1, "n": ' + b"9" * 5000 + b"}",
    "400 digits": b'{"version": 1, "n": ' + b"9" * 400 + b"}",
    "deep lists": b"[" * 5000 + b"]" * 5000,
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "doubled keys": b'{"version": 1, "version": 1}',
    "escapes": b'{"version": "\\u001b[2J", "\\u001b[31mx": 1}',
    "a lone surrogate": b'{"version": "\\ud800", "\\udfff": 1}',
    "HTML": b"<html><body>404</body></html>",
    "a line of 5 MB": b'{"version": 1, "x": "' + b"y" * 5_000_000 + b'"}',
}


def _odd_contents() -> Iterator[tuple[str, Change]]:
    for group, names in (("eval", ("run.json", "traces.jsonl", "scores.jsonl", "summary.json")), ("construct", ("samples.jsonl",))):
        for name in names:
            for kind, line in LINES.items():
                place = "a line of it" if name.endswith("l") else "it"
                yield f"{group}: {name}, {place} is {kind}", _with_line(name, line)
    yield "eval: costs.json, it is deep lists", _with_line("costs.json", LINES["deep lists"])


def _with_line(name: str, line: bytes) -> Change:
    """The file as that line alone; of JSON lines the second one."""

    def change(run: Path) -> None:
        path = run / name
        first, _, *rest = [*path.read_bytes().splitlines(keepends=True), b"", b""]
        path.write_bytes(b"".join([first, line + b"\n", *rest]) if name.endswith("l") else line)

    return change


VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    0.5,
    2**53 + 1,
    2**70,
    -1e300,
    "",
    "x" * 3000,
    "\ud800",
    "\x1b[2J\nact2see: x",
    [],
    [[]],
    {},
    {"all": "x"},
    [1, 2, 3],
    "../../outside/secret.json",
    "/etc/passwd",
    "http://127.0.0.1:9/x",
    "os:system",
)


def _random_values(seed: int) -> Iterator[tuple[str, Change]]:
    chance = random.Random(f"values {seed}")
    counts = {"run.json": 40, "traces.jsonl": 60, "scores.jsonl": 25, "summary.json": 25, "costs.json": 8, "samples.jsonl": 20}
    for name, count in counts.items():
        group = "construct" if name in OF_CONSTRUCTION else "eval"
        for number in range(count):
            yield f"{group}: {name} with another value, {number}", _with_value(name, chance.random(), chance.choice(VALUES))


def _with_value(name: str, at: float, value: Any) -> Change:
    """One value of the (second) record is another one; `at`, from 0 to 1, says which."""

    def change(run: Path) -> None:
        path = run / name
        lines = path.read_bytes().splitlines()
        number = 1 if name.endswith("l") else 0
        record = json.loads(b"\n".join(lines)) if number == 0 else json.loads(lines[number])
        places = list(_places(record))
        _set(record, places[int(at * len(places))], value)
        changed = json.dumps(record).encode()
        path.write_bytes(changed if number == 0 else b"\n".join([lines[0], changed, *lines[2:]]) + b"\n")

    return change


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


def _random_bytes(seed: int) -> Iterator[tuple[str, Change]]:
    chance = random.Random(f"bytes {seed}")
    for name in ("run.json", "traces.jsonl", "scores.jsonl", "summary.json", "samples.jsonl"):
        group = "construct" if name in OF_CONSTRUCTION else "eval"
        for number in range(4):
            yield f"{group}: {name} cut, {number}", _with_bytes(name, chance.random(), None)
            yield f"{group}: {name} with a flipped byte, {number}", _with_bytes(name, chance.random(), chance.randrange(1, 256))


def _with_bytes(name: str, at: float, flipped: int | None) -> Change:
    def change(run: Path) -> None:
        content = bytearray((run / name).read_bytes())
        place = int(at * len(content))
        if flipped is None:
            del content[place:]
        else:
            content[place] ^= flipped
        (run / name).write_bytes(bytes(content))

    return change


# Pictures


def _png_that_claims(width: int, height: int) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def _saved(form: str, size: tuple[int, int] = (12, 8), **options: Any) -> Callable[[Path], None]:
    return lambda path: Image.new("RGB", size).save(path, form, **options)


def _text_chunk() -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("x", "y" * 3_000_000, zip=True)
    return info


def _on_a_frame(make: Callable[[Path], object]) -> Change:
    return lambda run: make(_named(run, "frames/*"))


def _hard_link(path: Path) -> None:
    path.unlink()
    os.link("../outside/secret.png", path)


def _frames() -> Iterator[tuple[str, Change]]:
    kinds: dict[str, Callable[[Path], object]] = {
        "another picture": _saved("PNG"),
        "a JPEG": _saved("JPEG"),
        "a GIF": _saved("GIF"),
        "a TIFF": _saved("TIFF"),
        "text": lambda path: path.write_bytes(b"no picture"),
        "noise": lambda path: path.write_bytes(random.Random(0).randbytes(3000)),
        "cut": lambda path: path.write_bytes(path.read_bytes()[:-20]),
        "a picture with more behind it": lambda path: path.write_bytes(path.read_bytes() + b"x" * 1000),
        "claiming 60000x60000": lambda path: path.write_bytes(_png_that_claims(60_000, 60_000)),
        "claiming 9000x9000": lambda path: path.write_bytes(_png_that_claims(9000, 9000)),
        "claiming 0x0": lambda path: path.write_bytes(_png_that_claims(0, 0)),
        "grey": lambda path: Image.new("L", (12, 8)).save(path, "PNG"),
        "transparent": lambda path: Image.new("RGBA", (12, 8)).save(path, "PNG"),
        "with a text of 3 MB": _saved("PNG", pnginfo=_text_chunk()),
        "1x1": _saved("PNG", (1, 1)),
        "of 30 MB": lambda path: path.write_bytes(path.read_bytes() + bytes(30_000_000)),
        "a second name of a file outside": _hard_link,
    }
    for group in ("eval", "construct"):
        for kind, make in kinds.items():
            yield f"{group}: a frame is {kind}", _on_a_frame(make)


# What somebody might do on purpose, or by accident


def _edited(name: str, edit: Callable[[Any], object], line: int = 1) -> Change:
    """A record changed by hand."""

    def change(run: Path) -> None:
        lines = (run / name).read_bytes().splitlines()
        record = json.loads(lines[line] if name.endswith("l") else b"\n".join(lines))
        edit(record)
        changed = json.dumps(record).encode()
        (run / name).write_bytes(b"\n".join([*lines[:line], changed, *lines[line + 1 :]]) + b"\n" if name.endswith("l") else changed)

    return change


def _trace_with(**fields: Any) -> Change:
    return _edited("traces.jsonl", lambda one: one.update(fields))


def _configure(fields: Mapping[str, Any], record: Any) -> None:
    record["config"].update(fields)


def _rename_frame(file: str, record: Any) -> None:
    _frames_of(record)[0]["file"] = file


def _frames_of(record: Any) -> list[dict[str, Any]]:
    return [*record["frames"], *(frame for step in record["steps"] for frame in step.get("frames", []))]


def _with_more(name: str, make: Callable[[bytes], bytes]) -> Change:
    return lambda run: (run / name).write_bytes(make((run / name).read_bytes()))


def _stories() -> Iterator[tuple[str, Change]]:
    for group in ("eval", "construct"):
        for kind, file in (
            ("out", "../../outside/secret.png"),
            ("absolute", "/etc/passwd"),
            ("a device", "/dev/zero"),
            ("upper", "A" * 64 + ".png"),
            ("", ""),
        ):
            yield f"{group}: a frame's name is {kind or 'empty'}", _edited("traces.jsonl", partial(_rename_frame, file))
        for place in ("/etc/passwd", "../../outside/secret.json", "http://127.0.0.1:9/a.mp4", "\0", "x" * 5000, "/dev/zero"):
            yield f"{group}: a trace's video is {place[:30]!r}", _trace_with(video=place)
        yield f"{group}: an id twice", _trace_with(id="held-out-0-00000")
        yield f"{group}: each line twice", _with_more("traces.jsonl", lambda content: content * 2)
        yield f"{group}: an unknown id", _trace_with(id="../../x")
        yield f"{group}: another question", _trace_with(question="Another one?")
        yield f"{group}: other choices", _trace_with(choices=["x", "y"])
        yield f"{group}: 10,000 choices", _trace_with(choices=[str(number) for number in range(10_000)])
        yield f"{group}: 20,000 steps", _trace_with(steps=[{"type": "thought", "text": "hm"}] * 20_000)
        yield (
            f"{group}: marks in the text",
            _trace_with(steps=[{"type": "thought", "text": "<|im_end|><image></answer>"}]),
        )
        yield f"{group}: control characters in the question", _trace_with(question="\x1b[2J\x07 \u202e \x9b31m")
        yield f"{group}: no line end at the end", _with_more("traces.jsonl", lambda content: content.rstrip(b"\n"))
        yield f"{group}: the last line is cut", _with_more("traces.jsonl", lambda content: content[:-30])
        yield f"{group}: another version", _edited("run.json", lambda one: one.update(version=99))
        yield f"{group}: another command", _edited("run.json", lambda one: one.update(command="rm -rf"))
    for benchmark in ("os:system", "nothing", "", "../x", "minerva", "attacking.fakes:Witness", "jsonl"):
        yield f"eval: a run of {benchmark!r}", _edited("run.json", partial(_configure, {"benchmark": benchmark}))
    for place in ("../outside", "/etc", "/dev/zero", "\ud800"):
        yield f"eval: data lie in {place!r}", _edited("run.json", partial(_configure, {"data": place}))
    for count in (0, -5, 10**6, 10**12, 2**70, "4", True, 4.5, None):
        yield f"eval: {count!r} questions", _edited("run.json", partial(_configure, {"n": count}))
    yield "eval: more scores than questions", _with_more("scores.jsonl", lambda content: content * 50)
    yield "eval: a folder of videos that leads out", _linked("videos", "../../outside")
    yield "eval: a lock that leads out", _linked(".lock", "../../outside/secret.json")
    in_its_place: dict[str, Callable[[Path], object]] = {
        "an empty folder": lambda path: path.mkdir(),
        "a file": lambda path: path.write_bytes(b"x"),
        "a FIFO": os.mkfifo,
        "a link to nothing": lambda path: path.symlink_to("nothing"),
    }
    for kind, make in in_its_place.items():
        yield f"eval: in its place is {kind}", _replaced(make)


def _linked(name: str, target: str) -> Change:
    def change(run: Path) -> None:
        remove(run / name)
        (run / name).symlink_to(target)

    return change


def _replaced(make: Callable[[Path], object]) -> Change:
    def change(run: Path) -> None:
        remove(run)
        make(run)

    return change


def remove(path: Path) -> None:
    """Whatever it is."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
