"""Rows of a Parquet table, as the Hub stores data sets. Needs pyarrow."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from act2see.core.errors import ConfigError


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """Each row as an object, lists as lists. Raises `ConfigError` for what is no Parquet file."""
    try:
        for batch in parquet.ParquetFile(path).iter_batches(batch_size=256):
            yield from batch.to_pylist()
    except pyarrow.ArrowException as error:
        raise ConfigError(f"is no Parquet table: {(str(error).splitlines() or [''])[0]}") from error
