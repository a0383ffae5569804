"""Identifies a folder of weights, for the cache."""

import json
from pathlib import Path


def weights_key(folder: Path) -> str:
    """The sizes and dates of a model's files, for a cache key: a digest of a gigabyte would take longer than a short video."""
    found = sorted(path for path in folder.iterdir() if path.is_file())
    return json.dumps([[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in found])
