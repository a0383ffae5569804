"""Text-to-frame search: an encoder scores a video's frames, and a selection picks among them. This is the `Retriever` of the loop."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from act2see.core.errors import ConfigError, NoFrameError
from act2see.core.interfaces import FrameEncoder
from act2see.core.trace import Frame, Match
from act2see.storage.cache import Cache
from act2see.tools.index import Index, Progress
from act2see.tools.retrievers import decomposition
from act2see.tools.retrievers.rerank import RERANKED_FRAMES, Judge
from act2see.tools.retrievers.selection import SELECTIONS, Curve, Grounding, Pick, Select
from act2see.video import MAX_FPS, Video

CURVE_POINTS = 240
"""Maximum number of curve points in a trace: 80 seconds at 3 fps in full, a few kilobytes for an hour of video. Our choice."""
_INDEXES_KEPT = 4

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """The result of a search."""

    frames: tuple[Frame, ...]
    """Best first, at full resolution, with scores and matches."""
    curve: Curve
    """The scores of all frames."""
    notes: tuple[str, ...] = ()
    """Warnings, one line each."""


@dataclass(frozen=True, slots=True)
class Picked:
    """The result of a search before the frames are decoded."""

    picks: tuple[Pick, ...]
    """Best first."""
    curve: Curve
    notes: tuple[str, ...] = ()


class SearchRetriever:
    """Scores a video's frames at `fps` (3 in the paper) with the encoder and picks with `select`: a name in `selection.SELECTIONS`, or a callable.

    The first query builds a video's index. Later queries reuse it: the last few are held in memory, all of them in the cache, if one is given.
    `decompose` decomposes queries with a language model (`grounding` and `middle` only); `judge` re-ranks the top frames. Both are off by default.
    `keyframes_only` searches the keyframes first, then all frames around the best ones; it and `skip_duplicates` trade recall for speed.

    Raises `ConfigError` for options that cannot be combined.
    """

    def __init__(
        self,
        encoder: FrameEncoder,
        *,
        select: str | Select = "grounding",
        fps: float = 3.0,
        cache: Cache | None = None,
        progress: Callable[[Progress], None] | None = None,
        decompose: decomposition.Decompose | None = None,
        judge: Judge | None = None,
        skip_duplicates: bool = False,
        keyframes_only: bool = False,
    ) -> None:
        if not 0 < fps <= MAX_FPS:
            raise ConfigError(f"retrieve-fps is {fps:g}; it must be above 0 and at most {MAX_FPS}, such as 3")
        self.encoder, self.fps, self.cache, self.progress = encoder, fps, cache, progress
        self.select = _named(select) if isinstance(select, str) else select
        if decompose is not None and not isinstance(self.select, Grounding):
            raise ConfigError("query decomposition needs the selection 'grounding' or 'middle': select one, or do without the language model")
        self.decompose, self.judge = decompose, judge
        self.skip_duplicates, self.keyframes_only = skip_duplicates, keyframes_only
        self._indexes: OrderedDict[str, Index] = OrderedDict()
        options = {"votes": decompose, "judge": judge, "skip-duplicates": skip_duplicates, "keyframes": keyframes_only}
        chosen_by = select if isinstance(select, str) else getattr(select, "__name__", repr(select))
        self._name = "+".join([f"{encoder.name}@{fps:g}fps", chosen_by, *(name for name, value in options.items() if value)])

    @property
    def name(self) -> str:
        """Encoder, frame rate, selection and options, for `Trace.made_with`."""
        return self._name

    def find(self, video: Video, query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
        """At most `count` frames, best first, excluding those at `shown` (seconds). Raises `ToolError` if none is left."""
        found = self.search(video, query, shown=shown, count=count)
        for note in found.notes:
            _log.warning("%s", note)
        if not found.frames:
            raise NoFrameError(f"every frame at {self.fps:g} fps has been shown")
        return found.frames

    def search(self, video: Video, query: str, *, shown: Collection[float] = (), count: int = 1) -> Found:
        """Like `find`, but also returns the scores, and no frames if none is left.

        Raises `ConfigError` for an encoder that returns non-finite scores.
        """
        picked = self.pick(video, query, shown=shown, count=max(count, RERANKED_FRAMES) if self.judge else count)
        curve, notes = picked.curve, picked.notes
        frames = frames_of(video, picked.picks, thinned(curve))
        if self.judge and len(frames) > 1:
            frames, problem = _judged(self.judge, query, frames)
            notes += problem
        return Found(tuple(frames[:count]), curve, notes)

    def pick(self, video: Video, query: str, *, shown: Collection[float] = (), count: int = 1) -> Picked:
        """Like `search`, without decoding the frames (see `frames_of`), and so without `judge`."""
        index = self._searched(video, query)
        curve = self._curve(video, index, query)
        picks, notes = self._picks(video, query, index, curve, shown, count)
        return Picked(tuple(picks), curve, notes)

    def index(self, video: Video) -> Index:
        """The video's index, built if necessary."""
        index = self._indexes.pop(video.digest, None)
        if index is None:
            options = {"skip_duplicates": self.skip_duplicates, "keyframes_only": self.keyframes_only}
            index = Index.build(video, self.encoder, self.fps, self.cache, self.progress, **options)
        self._indexes[video.digest] = index
        if len(self._indexes) > _INDEXES_KEPT:
            self._indexes.popitem(last=False)
        return index

    def curve(self, video: Video, query: str) -> Curve:
        """The scores of all indexed frames. Raises `ConfigError` like `search`."""
        return self._curve(video, self._searched(video, query), query)

    def _searched(self, video: Video, query: str) -> Index:
        index = self.index(video)
        return index.refined(video, query, self.fps) if self.keyframes_only else index

    def _curve(self, video: Video, index: Index, query: str) -> Curve:
        scores = np.asarray(index.scores(query), dtype=np.float64)
        if not np.isfinite(scores).all():
            raise ConfigError(f"encoder {self.encoder.name} returned non-finite scores: try float32")
        return Curve(index.seconds, scores, self.encoder.threshold, index.frame_indices, key=f"{video.digest} {query}")

    def _picks(
        self, video: Video, query: str, index: Index, curve: Curve, shown: Collection[float], count: int
    ) -> tuple[list[Pick], tuple[str, ...]]:
        if self.decompose is None or not isinstance(self.select, Grounding):
            return self.select(curve, shown, count), ()
        select, parts = self.select, self.decompose(query)
        spans = decomposition.ground(query, parts, lambda text: select.spans(curve if text == query else self._curve(video, index, text)))
        return select.from_spans(curve, shown, count, spans), (parts.problem,) if parts.problem else ()


def _named(name: str) -> Select:
    if name not in SELECTIONS:
        raise ConfigError(f"unknown selection {name!r}; allowed: {', '.join(SELECTIONS)}")
    return SELECTIONS[name]()


def thinned(curve: Curve) -> tuple[tuple[float, float], ...]:
    """The scores as a trace stores them, at most `CURVE_POINTS`: for a long video, the maximum of each of as many segments. Four digits each."""
    segments = np.array_split(np.arange(len(curve.scores)), min(len(curve.scores), CURVE_POINTS))
    best = [segment[np.argmax(curve.scores[segment])] for segment in segments]
    return tuple((round(float(curve.seconds[at]), 3), float(f"{curve.scores[at]:.4g}")) for at in best)


def frames_of(video: Video, picks: Sequence[Pick], curve: tuple[tuple[float, float], ...]) -> list[Frame]:
    """Decode the picks of one video, in their order; `curve` is `thinned`. Raises `NoFrameError`."""
    if not picks:
        return []
    in_time = sorted(picks, key=lambda pick: pick.seconds)
    frames = list(video.frames_at([pick.seconds for pick in in_time]))
    if len(frames) != len(picks):
        raise NoFrameError("the frames that fit can no longer be decoded")
    images = {pick.seconds: frame.image for pick, frame in zip(in_time, frames, strict=True)}
    return [
        Frame(
            images[pick.seconds],
            pick.seconds,
            score=pick.score,
            match=Match(pick.frame_index, pick.span_seconds, pick.runners_up, pick.is_fallback, curve),
        )
        for pick in picks
    ]


def _judged(judge: Judge, query: str, frames: list[Frame]) -> tuple[list[Frame], tuple[str, ...]]:
    """Move the judge's choice to the front."""
    in_time = sorted(frames[:RERANKED_FRAMES], key=lambda frame: frame.seconds or 0.0)
    best = judge(query, in_time)
    if best is None:
        return frames, ("the re-ranker chose no frame; frames are in order of their scores",)
    first = in_time[best]
    return [first, *(frame for frame in frames if frame is not first)], ()
