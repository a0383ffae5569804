"""Traces as a Parquet table: one row a trace, with its frames' files, from which the trace can be rebuilt. Needs pyarrow."""

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow
from PIL import Image
from pyarrow import parquet

from act2see.core.errors import StoreError
from act2see.core.trace import Trace
from act2see.storage.codec import FORMAT_VERSION
from act2see.storage.records import read_trace
from act2see.storage.runs import JSON

ROWS_AT_ONCE = 16
"""Rows in memory at once, and in one row group. Our choice: a row holds some MB of frames."""

_FRAME = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
_COLUMNS: list[tuple[str, pyarrow.DataType]] = [
    ("id", pyarrow.string()),
    ("video", pyarrow.string()),
    ("question", pyarrow.string()),
    ("choices", pyarrow.list_(pyarrow.string())),
    ("answer", pyarrow.string()),
    ("looks", pyarrow.int64()),
    ("trace", pyarrow.string()),
    ("frames", pyarrow.list_(_FRAME)),
]
# `datasets` reads this and decodes `frames` as pictures.
_FEATURES: dict[str, JSON] = {
    **{name: {"dtype": "string", "_type": "Value"} for name in ("id", "video", "question", "answer", "trace")},
    "choices": {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"},
    "looks": {"dtype": "int64", "_type": "Value"},
    "frames": {"feature": {"_type": "Image"}, "_type": "List"},
}
SCHEMA = pyarrow.schema(_COLUMNS, metadata={"huggingface": json.dumps({"info": {"features": {name: _FEATURES[name] for name, _ in _COLUMNS}}})})
"""`trace` is the trace's record as in traces.jsonl, `frames` the files that it names; the other columns repeat parts of it, to search by."""


def write(path: Path, traces: Iterable[tuple[Trace, Mapping[str, JSON], Mapping[str, bytes]]]) -> int:
    """Write traces with their records and frames' files; returns the number of rows."""
    done = 0
    with parquet.ParquetWriter(path, SCHEMA) as table:
        rows: list[dict[str, object]] = []
        for trace, record, frames in traces:
            rows.append(_row(trace, record, frames))
            done += 1
            if len(rows) == ROWS_AT_ONCE:
                table.write_batch(pyarrow.RecordBatch.from_pylist(rows, SCHEMA))
                rows = []
        if rows:
            table.write_batch(pyarrow.RecordBatch.from_pylist(rows, SCHEMA))
    return done


def read(path: Path) -> Iterator[Trace]:
    """The traces of a table that `write` wrote, pixel for pixel those of the run. Raises `StoreError` for anything else."""
    try:
        table = parquet.ParquetFile(path)
        if not table.schema_arrow.equals(SCHEMA):
            raise StoreError(f"{path} is not a table of traces: its columns are {', '.join(table.schema_arrow.names)}")
        for batch in table.iter_batches(batch_size=1):
            (row,) = batch.to_pylist()
            yield _trace(row)
    except (OSError, pyarrow.ArrowException) as error:
        raise StoreError(f"cannot read {path}: {(str(error).splitlines() or [''])[0]}") from error


def _row(trace: Trace, record: Mapping[str, JSON], frames: Mapping[str, bytes]) -> dict[str, object]:
    return {
        "id": _utf8(trace.id),
        "video": _utf8(trace.video),
        "question": _utf8(trace.question),
        "choices": [_utf8(choice) for choice in trace.choices],
        "answer": _utf8(trace.answer or ""),
        "looks": trace.looks,
        "trace": json.dumps({"version": FORMAT_VERSION, **record}, allow_nan=False),
        "frames": [{"bytes": content, "path": name} for name, content in frames.items()],
    }


def _utf8(text: str) -> str:
    """Replace lone surrogates, which UTF-8 cannot encode, by question marks: in the searchable columns only, not in the trace."""
    return text.encode(errors="replace").decode()


def _trace(row: dict[str, Any]) -> Trace:
    frames = {frame["path"]: frame["bytes"] for frame in row["frames"]}

    def load(name: str) -> Image.Image:
        if name not in frames:
            raise StoreError(f"trace {row['id']}: its frame {name} is not in the table")
        try:
            with Image.open(io.BytesIO(frames[name]), formats=("PNG", "JPEG")) as opened:
                image = opened.convert("RGB")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise StoreError(f"trace {row['id']}: its frame {name} is not a picture") from error
        image.info = {}
        return image

    return read_trace(row["trace"].encode(), load)
