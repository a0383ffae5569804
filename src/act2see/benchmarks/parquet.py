"""Reads Parquet tables, the Hub's format for data sets. Needs pyarrow."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow
from pyarrow import parquet

from act2see.core.errors import ConfigError


def rows(path: Path) -> Iterator[dict[str, object]]:
    """Each row as a dictionary. Raises `ConfigError` if the file is not Parquet."""
    try:
        for batch in parquet.ParquetFile(path).iter_batches(batch_size=256):
            yield from batch.to_pylist()
    except pyarrow.ArrowException as error:
        raise ConfigError(f"not a Parquet table: {(str(error).splitlines() or [''])[0]}") from error
