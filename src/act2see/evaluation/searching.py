"""Several videos and several texts: the frames that fit best, ranked over all videos."""

import logging
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from act2see import registry
from act2see.config import RetrieveConfig
from act2see.config.checks import check_text
from act2see.core.errors import ConfigError, NoMatchError, ScopeError, ToolError, VideoError
from act2see.core.interfaces import Retriever
from act2see.core.trace import Frame
from act2see.evaluation.frames import check_scope, frames_in, retriever_for
from act2see.evaluation.indexing import FailedVideo
from act2see.execution.faults import unexpected
from act2see.execution.progress import ProgressCallback
from act2see.storage.cache import Cache
from act2see.tools.index import Progress
from act2see.video import Video

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Hit:
    """A frame that was found, with its time and score, and the video that it is in."""

    video: str
    frame: Frame


@dataclass(frozen=True, slots=True)
class QueryResult:
    """What was found for one text, best first."""

    query: str
    hits: tuple[Hit, ...]


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The results of `search_videos`."""

    queries: tuple[QueryResult, ...]
    """One for each text, in the order in which they were given."""
    searched: tuple[str, ...]
    failed: tuple[FailedVideo, ...]
    """Files that could not be searched, and why."""
    notice: str | None = None
    """As in `RetrieveResult`."""


class _Counter:
    """Counts the frames that are indexed, for the video at hand."""

    def __init__(self, progress: ProgressCallback | None) -> None:
        self._progress = progress
        self.name = ""

    def __call__(self, now: Progress) -> None:
        if self._progress is not None:
            self._progress(now.done, now.total, f"indexing {self.name}")


def search_videos(
    videos: Sequence[str | os.PathLike[str]],
    queries: Sequence[str],
    options: RetrieveConfig = RetrieveConfig(),
    progress: ProgressCallback | None = None,
    on_failure: Callable[[FailedVideo], None] = lambda failed: None,
) -> SearchResult:
    """For each text, find the `options.top` frames of all these videos that fit best, best first; nothing but the index is written.

    The encoder is loaded once and each video opened once. In each video the frames are chosen by `options.select`; what was chosen is ranked by
    score, frames below the retriever's threshold last. A video that cannot be searched does not stop the others; `on_failure` receives it at
    once. `progress` counts the frames indexed. Raises `ConfigError` for an empty text and a retriever that cannot be used.
    """
    if not queries:
        raise ConfigError("nothing to look for: give a text")
    for query in queries:
        check_text("the query", query)
    texts = list(dict.fromkeys(query.strip() for query in queries))
    counter = _Counter(progress)
    retrievers: dict[str, Retriever] = {}
    best: dict[str, list[Hit]] = {text: [] for text in texts}
    searched: list[str] = []
    failed: list[FailedVideo] = []
    notices: list[str] = []
    for path in dict.fromkeys(os.fspath(video) for video in videos):
        try:
            with unexpected():
                opened = Video(path, Cache() if options.cache else None)
                for note in (opened.damage, opened.colours):
                    if note is not None:
                        _log.warning("%s", note)
                named = retriever_for(opened, options)
                notices += [notice] if (notice := check_scope(named, opened)) is not None else []
                retriever = retrievers.get(named.retriever) or retrievers.setdefault(named.retriever, _loaded(named, counter))
                counter.name = Path(path).name
                found = {text: _found(opened, text, retriever, options.top) for text in texts}
        except (VideoError, ScopeError, ToolError) as error:
            failed.append(FailedVideo(path, error))
            on_failure(failed[-1])
            continue
        searched.append(path)
        for text, frames in found.items():
            hits = [*best[text], *(Hit(path, frame) for frame in frames)]
            best[text] = hits if len(searched) == 1 else sorted(hits, key=_rank)[: options.top]
    _warn(best, next(iter(retrievers.values())) if len(retrievers) == 1 else None)
    results = tuple(QueryResult(text, tuple(best[text])) for text in texts)
    return SearchResult(results, tuple(searched), tuple(failed), notices[0] if notices else None)


def _found(video: Video, text: str, retriever: Retriever, count: int) -> tuple[Frame, ...]:
    """The frames of one video; none if nothing that is said or written in it matches."""
    try:
        return frames_in(video, text, retriever, count)[0]
    except NoMatchError:
        return ()


def _loaded(options: RetrieveConfig, counter: _Counter) -> Retriever:
    retriever = registry.retriever(options.retriever, options, counter)
    if retriever is None:
        raise ConfigError("retriever 'none' finds nothing: name one, such as micro or siglip:DIR")
    return retriever


def _rank(hit: Hit) -> tuple[bool, float]:
    """The smaller, the better: frames that pass the threshold first, by score; frames without a score last."""
    match, score = hit.frame.match, hit.frame.score
    return match is not None and match.is_fallback, math.inf if score is None else -score


def _warn(best: dict[str, list[Hit]], retriever: Retriever | None) -> None:
    for text, hits in best.items():
        if not hits:
            _log.warning("nothing said or written matches %r", text)
    weak = [text for text, hits in best.items() if hits and all(hit.frame.match is not None and hit.frame.match.is_fallback for hit in hits)]
    for text in weak:
        threshold = getattr(getattr(retriever, "encoder", None), "threshold", None)
        passed = "the retriever's threshold" + (f" of {threshold:g}" if isinstance(threshold, float) else "")
        _log.warning("no frame found for %r passes %s: take what follows as a guess", text, passed)
