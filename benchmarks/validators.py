"""What it costs to check the lines of 10,000 traces, by library: CPU seconds of the reading alone.

    python benchmarks/validators.py [--traces 10000] [--against DIR]

Every row makes typed objects of the same lines. `pydantic` has strict models of the same fields, without ranges; like bare `msgspec` it takes
the last of two equal keys and refuses lone surrogates. `records` is what this project reads with: msgspec, held to everything that `parse_json`
refuses, up to a `Trace`. `exact` is the way that records goes for a line that msgspec does not take. `--against` names a checkout from before
msgspec, whose hand-written codec is then measured too.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
from PIL import Image
from reading import make_runs

from act2see.storage import records
from act2see.storage.codec import parse_json

CODEC = """
import sys, time
from PIL import Image
from act2see.storage.codec import decode_trace, parse_json
pixel = Image.new("RGB", (1, 1))
lines = open(sys.argv[1], "rb").read().splitlines()
begun = time.process_time()
for line in lines:
    decode_trace(parse_json(line), lambda name: pixel)
print(time.process_time() - begun)
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=int, default=10_000)
    parser.add_argument("--against", type=Path, help="checkout with another storage/codec.py to compare with")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        make_runs(Path(scratch), given.traces)
        path = Path(scratch) / "eval" / "traces.jsonl"
        lines = path.read_bytes().splitlines()
        rows = {name: _seconds(read, lines) for name, read in _readers().items()}
        if given.against is not None:
            environment = os.environ | {"PYTHONPATH": str(given.against.absolute() / "src")}
            done = subprocess.run([sys.executable, "-c", CODEC, str(path)], env=environment, check=True, capture_output=True, text=True)
            rows["hand-written codec"] = float(done.stdout)
    print(f"| {given.traces:,} traces, {sum(map(len, lines)) / 1e6:.1f} MB | CPU s |\n|---|---|")
    for name, seconds in sorted(rows.items(), key=lambda row: row[1]):
        print(f"| {name} | {seconds:.2f} |")


def _readers() -> dict[str, Callable[[bytes], object]]:
    pixel = Image.new("RGB", (1, 1))
    found: dict[str, Callable[[bytes], object]] = {
        f"msgspec {msgspec.__version__}": msgspec.json.Decoder(records._TraceRecord).decode,
        "records": lambda line: records.read_trace(line, lambda name: pixel),
        "exact": lambda line: records.decode_trace(parse_json(line), lambda name: pixel),
    }
    try:
        import pydantic
    except ModuleNotFoundError:
        return found
    model = _model(records._TraceRecord, {})
    return found | {f"pydantic {pydantic.VERSION}": model.model_validate_json}


def _seconds(read: Callable[[bytes], object], lines: Sequence[bytes]) -> float:
    begun = time.process_time()
    for line in lines:
        read(line)
    return time.process_time() - begun


def _model(struct: Any, known: dict[Any, Any]) -> Any:
    """The pydantic model of a msgspec `Struct`."""
    import pydantic

    if struct not in known:
        hints = typing.get_type_hints(struct)
        optional = dict.fromkeys(("unverified", "curve"))
        names = [name for name in hints if name in struct.__struct_fields__]
        made: dict[str, Any] = {name: (_annotation(hints[name], known), optional.get(name, ...)) for name in names}
        if struct.__struct_config__.tag is not None:
            made["type"] = (Literal[struct.__struct_config__.tag], ...)
        config = pydantic.ConfigDict(extra="forbid", strict=True)
        known[struct] = pydantic.create_model(struct.__name__.strip("_"), __config__=config, **made)
    return known[struct]


def _annotation(hint: Any, known: dict[Any, Any]) -> Any:
    import pydantic

    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return _model(hint, known)
    arguments = tuple(_annotation(one, known) for one in typing.get_args(hint) if one is not msgspec.UnsetType)
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        union = typing.Union[arguments]  # noqa: UP007
        is_tagged = all("type" in getattr(one, "model_fields", ()) for one in arguments)
        return typing.Annotated[union, pydantic.Field(discriminator="type")] if is_tagged else union
    origin = typing.get_origin(hint)
    return origin[arguments] if arguments and origin in (list, tuple, dict) else hint


if __name__ == "__main__":
    main()
