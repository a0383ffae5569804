"""Several videos and several texts: the frames that fit best, ranked over all videos."""

import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
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
from act2see.tools.retrievers.search import SearchRetriever, frames_of, thinned
from act2see.tools.retrievers.selection import Pick
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
    score, frames below the retriever's threshold last, and only the best are decoded. A video that cannot be searched does not stop the others;
    `on_failure` receives it at once. `progress` counts the frames indexed. Raises `ConfigError` for an empty text and a retriever that cannot be
    used.
    """
    if not queries:
        raise ConfigError("nothing to look for: give a text")
    for query in queries:
        check_text("the query", query)
    texts = list(dict.fromkeys(query.strip() for query in queries))
    counter = _Counter(progress)
    retrievers: dict[str, Retriever] = {}
    best: dict[str, list[_Candidate]] = {text: [] for text in texts}
    searched: list[str] = []
    failed: list[FailedVideo] = []
    notices: list[str] = []
    told: set[str | None] = {None}
    for path in dict.fromkeys(os.fspath(video) for video in videos):
        try:
            with unexpected():
                opened = Video(path, Cache() if options.cache else None)
                named = retriever_for(opened, options, told)
                notices += [notice] if (notice := check_scope(named, opened)) is not None else []
                retriever = retrievers.get(named.retriever) or retrievers.setdefault(named.retriever, _loaded(named, counter))
                counter.name = Path(path).name
                found = {text: _candidates(opened, path, text, retriever, options.top) for text in texts}
        except (VideoError, ScopeError, ToolError) as error:
            failed.append(FailedVideo(path, error))
            on_failure(failed[-1])
            continue
        searched.append(path)
        _tell_once({opened.damage, opened.colours}, told)
        for text, candidates in found.items():
            ranked = [*best[text], *candidates]
            best[text] = ranked if len(searched) == 1 else sorted(ranked, key=_rank)[: options.top]
    if searched:
        _warn(best, next(iter(retrievers.values())) if len(retrievers) == 1 else None)
    results = tuple(QueryResult(text, tuple(_decoded(best[text], options, told))) for text in texts)
    return SearchResult(results, tuple(searched), tuple(failed), notices[0] if notices else None)


def _loaded(options: RetrieveConfig, counter: _Counter) -> Retriever:
    retriever = registry.retriever(options.retriever, options, counter)
    if retriever is None:
        raise ConfigError("retriever 'none' cannot search: choose another, such as micro or siglip:DIR")
    return retriever


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A choice of one video; its frame is decoded only if it is among the best of all videos."""

    video: str
    choice: Frame | Pick
    curve: tuple[tuple[float, float], ...] = ()

    @property
    def is_fallback(self) -> bool:
        choice = self.choice
        return choice.is_fallback if isinstance(choice, Pick) else choice.match is not None and choice.match.is_fallback


def _candidates(video: Video, path: str, text: str, retriever: Retriever, count: int) -> list[_Candidate]:
    if not isinstance(retriever, SearchRetriever) or retriever.judge is not None:
        try:
            return [_Candidate(path, frame) for frame in frames_in(video, text, retriever, count)[0]]
        except NoMatchError:  # nothing said or written in this video matches
            return []
    picked = retriever.pick(video, text, count=count)
    for note in picked.notes:
        _log.warning("%s", note)
    curve = thinned(picked.curve)
    return [_Candidate(path, pick, curve) for pick in picked.picks]


def _decoded(candidates: Sequence[_Candidate], options: RetrieveConfig, told: set[str | None]) -> list[Hit]:
    """The frames in the same order; each video is opened once. Warns of what is not in `notes` yet."""
    hits: dict[int, Hit] = {}
    for path in dict.fromkeys(one.video for one in candidates):
        of_video = [(place, one) for place, one in enumerate(candidates) if one.video == path]
        picks = [one.choice for _, one in of_video if isinstance(one.choice, Pick)]
        opened = Video(path, Cache() if options.cache else None)
        frames = iter(frames_of(opened, picks, of_video[0][1].curve) if picks else ())
        hits |= {place: Hit(path, next(frames) if isinstance(one.choice, Pick) else one.choice) for place, one in of_video}
        _tell_once({opened.damage}, told)  # packets that are found undecodable only now
    return [hits[place] for place in sorted(hits)]


def _tell_once(notes: set[str | None], told: set[str | None]) -> None:
    for note in sorted(str(note) for note in notes - told):
        _log.warning("%s", note)
        told.add(note)


def _rank(one: _Candidate) -> tuple[bool, float]:
    """The smaller, the better: frames that pass the threshold first, by score; frames without a score last."""
    return one.is_fallback, math.inf if one.choice.score is None else -one.choice.score


def _warn(best: Mapping[str, Sequence[_Candidate]], retriever: Retriever | None) -> None:
    for text, candidates in best.items():
        if not candidates:
            _log.warning("nothing said or written matches %r", text)
    weak = [text for text, candidates in best.items() if candidates and all(one.is_fallback for one in candidates)]
    for text in weak:
        threshold = getattr(getattr(retriever, "encoder", None), "threshold", None)
        passed = "the retriever's threshold" + (f" of {threshold:g}" if isinstance(threshold, float) else "")
        _log.warning("no frame found for %r passes %s: take what follows as a guess", text, passed)
