"""The frame indexes of many videos as one FAISS index, for collections that are too large, or asked too often, for one index a video."""

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np

from act2see.config import IndexConfig
from act2see.core.errors import ConfigError
from act2see.core.interfaces import FrameEncoder
from act2see.core.plaintext import is_well_formed
from act2see.evaluation.frames import IndexedVideo
from act2see.storage.cache import Cache
from act2see.tools.index import Index
from act2see.video import Video

_LISTS_FROM = 2_000_000
"""Rows from which the vectors are sorted into lists, of which a query reads some. Our choice: fewer are read in a quarter of a second."""
_TRAINING_ROWS_A_LIST = 40  # FAISS warns below 39
_SEARCHED_LISTS = 128


@dataclass(frozen=True, slots=True)
class ExportedVectors:
    """What was written."""

    index: Path
    rows: Path
    """A line of JSON for each row of the index, in its order: `video`, `seconds`, `frame_index`."""
    count: int


def export_vectors(videos: Sequence[IndexedVideo], encoder: FrameEncoder, options: IndexConfig, cache: Cache, path: Path) -> ExportedVectors:
    """Write the cached indexes of these videos to `path`, and what each row is to `path` with `.jsonl` at its end, each whole or not at all.

    Scores are inner products, of 16-bit numbers; of a frame with several vectors each is a row. Raises `ConfigError` if there is nothing to write or
    the files cannot be written, and `VideoError` for a video that has changed.
    """
    rows_path = rows_beside(path)
    indexes = [_loaded(video, encoder, options, cache) for video in videos]
    count = sum(len(index.vectors) * index.vectors.shape[1] for index in indexes)
    if not count:
        raise ConfigError("nothing to export: no video was indexed")
    made = _empty(indexes[0].vectors.shape[2], count)
    if not made.is_trained:
        step = max(1, count // (_TRAINING_ROWS_A_LIST * made.nlist))
        made.train(np.concatenate([_flat(index)[::step] for index in indexes]))
    for index in indexes:
        made.add(_flat(index))
    try:
        _replace(path, lambda name: faiss.write_index(made, name))
        _replace(rows_path, lambda name: Path(name).write_text("".join(_rows(videos, indexes)), encoding="utf-8"))
    except (OSError, RuntimeError) as error:
        raise ConfigError(f"cannot write {path}: {error}; give a file in a writable folder") from error
    return ExportedVectors(path, rows_path, count)


def rows_beside(path: Path) -> Path:
    """The file beside an index that says what each of its rows is."""
    return path.with_name(f"{path.name}.jsonl")


def _replace(path: Path, write: Callable[[str], object]) -> None:
    """Write beside and rename: FAISS writes by name only."""
    with tempfile.TemporaryDirectory(prefix=".act2see-", dir=path.parent) as folder:
        name = os.path.join(folder, path.name)
        write(name)
        os.replace(name, path)


def _loaded(video: IndexedVideo, encoder: FrameEncoder, options: IndexConfig, cache: Cache) -> Index:
    opened = Video(video.video, cache)
    return Index.build(opened, encoder, options.retrieve_fps, cache, skip_duplicates=options.skip_duplicates, keyframes_only=options.keyframes_first)


def _empty(width: int, count: int) -> "faiss.Index":
    if count < _LISTS_FROM:
        return faiss.IndexScalarQuantizer(width, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    coarse = faiss.IndexFlatIP(width)
    made = faiss.IndexIVFScalarQuantizer(coarse, width, round(count**0.5), faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    made.nprobe = _SEARCHED_LISTS  # is written with the index
    made.coarse = coarse  # FAISS only borrows it
    return made


def _flat(index: Index) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
    vectors = index.vectors
    return vectors.reshape(-1, vectors.shape[2]).astype(np.float32)


def _rows(videos: Sequence[IndexedVideo], indexes: Sequence[Index]) -> Iterator[str]:
    for video, index in zip(videos, indexes, strict=True):
        path = os.path.abspath(video.video)
        for seconds, number in zip(index.seconds.tolist(), index.frame_indices.tolist(), strict=True):
            row = json.dumps({"video": path, "seconds": seconds, "frame_index": number}, ensure_ascii=not is_well_formed(path)) + "\n"
            yield from [row] * index.vectors.shape[1]
