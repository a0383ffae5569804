"""Many videos indexed ahead of time, one after the other or in parallel processes."""

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from act2see import registry
from act2see.config import IndexConfig
from act2see.core.errors import Act2SeeError, ConfigError
from act2see.core.interfaces import FrameEncoder
from act2see.evaluation.frames import IndexedVideo, index_video
from act2see.execution.faults import unexpected
from act2see.execution.processes import Report, imap_processes
from act2see.execution.progress import ProgressCallback
from act2see.storage.cache import Cache
from act2see.video import Video
from act2see.video.transcript.reading import read_transcript

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FailedVideo:
    """A file that could not be indexed or searched, and why."""

    video: str
    error: Act2SeeError


@dataclass(frozen=True, slots=True)
class IndexResult:
    """The videos that are in the cache now, and the files that are not, each in the order in which they were given."""

    videos: tuple[IndexedVideo, ...]
    failed: tuple[FailedVideo, ...]


def index_videos(
    videos: Sequence[str | os.PathLike[str]],
    options: IndexConfig = IndexConfig(),
    cache: Cache | None = None,
    progress: ProgressCallback | None = None,
    on_video: Callable[[IndexedVideo | FailedVideo, float], None] = lambda outcome, seconds: None,
) -> IndexResult:
    """Encode the frames of several videos ahead of the first query and keep them in the cache (the user's own if not given).

    With `options.workers` above 1, as many processes load the encoder each and index one video at a time; a script that calls this needs
    `if __name__ == "__main__"`. What is in the cache is not encoded again, also of a video that was interrupted. `progress` counts frames.
    `on_video` receives each outcome as it comes, with the seconds that it took. Raises `ConfigError` for an encoder or a cache that cannot be
    used; an error of one video does not stop the others.
    """
    cache = cache or Cache()
    if not cache.is_usable():
        raise ConfigError(f"cannot write the index to {cache.folder}: set ACT2SEE_CACHE to a writable folder")
    paths = [os.fspath(video) for video in videos]
    found: dict[int, IndexedVideo | FailedVideo] = {}
    if not paths:
        return IndexResult((), ())
    workers = min(options.workers, len(paths))
    indexer = _Indexer(options, cache.folder, cache.max_bytes)
    outcomes = _in_processes(indexer, paths, workers, progress) if workers > 1 else _one_by_one(indexer, paths, progress)
    for number, outcome, seconds in outcomes:
        if isinstance(outcome, ConfigError):  # of the encoder, and so of every video
            raise outcome
        found[number] = FailedVideo(paths[number], outcome) if isinstance(outcome, Act2SeeError) else replace(outcome, video=paths[number])
        on_video(found[number], seconds)
    in_order = [found[number] for number in sorted(found)]
    return IndexResult(
        tuple(one for one in in_order if isinstance(one, IndexedVideo)), tuple(one for one in in_order if isinstance(one, FailedVideo))
    )


class _Indexer:
    """Indexes a video with an encoder that is loaded for the first one."""

    def __init__(self, options: IndexConfig, folder: Path, max_bytes: int) -> None:
        self._options, self._folder, self._max_bytes = options, folder, max_bytes
        self._encoder: FrameEncoder | None = None

    def index(self, path: str, progress: ProgressCallback | None) -> IndexedVideo:
        cache = Cache(self._folder, self._max_bytes)
        opened = Video(path, cache)
        for note in (opened.damage, opened.colours):
            if note is not None:
                _log.warning("%s", note)
        words, _, _ = self._options.retriever.partition("+")
        lines = len(read_transcript(opened, self._options, cache, progress).lines) if words == "words" else None
        if self._options.retriever == "words":
            return IndexedVideo(path, 0, opened.duration_seconds, opened.damage, lines)
        if self._encoder is None:
            self._encoder = registry.encoder(self._options.retriever, self._options)
        return replace(index_video(opened, self._encoder, self._options, cache, progress), lines=lines)

    def __call__(self, job: tuple[int, str], report: Report) -> tuple[IndexedVideo, float]:
        """For a process: the outcome with the seconds that it took; each count of frames is reported."""
        begun = time.monotonic()
        return self.index(job[1], lambda done, total, what: report(done)), time.monotonic() - begun


def _one_by_one(
    indexer: _Indexer, paths: Sequence[str], progress: ProgressCallback | None
) -> Iterator[tuple[int, IndexedVideo | Act2SeeError, float]]:
    for number, path in enumerate(paths):
        begun = time.monotonic()
        outcome: IndexedVideo | Act2SeeError
        try:
            with unexpected():
                outcome = indexer.index(path, progress)
        except Act2SeeError as error:
            outcome = error
        yield number, outcome, time.monotonic() - begun


def _in_processes(
    indexer: _Indexer, paths: Sequence[str], workers: int, progress: ProgressCallback | None
) -> Iterator[tuple[int, IndexedVideo | Act2SeeError, float]]:
    frames: dict[int, int] = {}

    def count(job: tuple[int, str], done: int) -> None:
        frames[job[0]] = done
        if progress is not None:
            progress(sum(frames.values()), None, f"indexing {len(paths)} videos")

    for (number, _), outcome in imap_processes(list(enumerate(paths)), indexer, workers, count):
        if isinstance(outcome, Act2SeeError):
            yield number, outcome, 0.0
        else:
            yield number, *outcome
    if progress is not None and frames:
        progress(sum(frames.values()), sum(frames.values()), f"indexing {len(paths)} videos")
