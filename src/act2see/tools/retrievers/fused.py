"""What is said and written, and what is seen: the query goes to both, and the better answer wins."""

from collections.abc import Collection, Sequence

from act2see.core.errors import NoFrameError, ToolError
from act2see.core.interfaces import FrameEncoder, Retriever, encoder_of
from act2see.core.trace import Frame
from act2see.tools.retrievers.search import Found, SearchRetriever
from act2see.tools.retrievers.words import WordsRetriever
from act2see.video import Video
from act2see.video.transcript.matching import THRESHOLD

_UNKNOWN, _UNKNOWN_FALLBACK = 0.55, 0.25
"""Confidence in a frame of a retriever whose threshold is unknown: above the bar if it says that it found something. Our choice."""


class FusedRetriever:
    """Asks a `WordsRetriever` and another retriever, and returns the frames of the one that is surer.

    Sureness is 0.5 at each one's own threshold and 1 at its highest score, 1: the scores themselves are in different units. Where neither passes
    its threshold, the other retriever's best frame is returned, as a fallback.
    """

    def __init__(self, words: WordsRetriever, seen: Retriever) -> None:
        self.words, self.seen = words, seen

    @property
    def name(self) -> str:
        """Both names, for `Trace.made_with`."""
        return f"{self.words.name}+{self.seen.name}"

    @property
    def encoder(self) -> FrameEncoder | None:
        """The encoder of the other retriever, which a picture's judge may share."""
        return encoder_of(self.seen)

    def index(self, video: Video) -> object:
        """Read the transcript, and index the frames if the other retriever has an index."""
        self.words.index(video)
        return self.seen.index(video) if isinstance(self.seen, SearchRetriever) else None

    def find(self, video: Video, query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
        """At most `count` frames, best first. Raises `ToolError` if neither has one."""
        said = self.words.search(video, query, shown=shown, count=count).frames
        try:
            seen = tuple(self.seen.find(video, query, shown=shown, count=count))
        except ToolError:
            if not said:
                raise
            return said
        return self._better(said, seen)

    def search(self, video: Video, query: str, *, shown: Collection[float] = (), count: int = 1) -> Found:
        """Like `find`, with the scores of the one whose frames are returned. For a `SearchRetriever` only."""
        said = self.words.search(video, query, shown=shown, count=count)
        if not isinstance(self.seen, SearchRetriever):
            raise NoFrameError(f"retriever {self.seen.name} gives no scores over time")
        seen = self.seen.search(video, query, shown=shown, count=count)
        return said if said.frames and self._better(said.frames, seen.frames) is said.frames else seen

    def _better(self, said: tuple[Frame, ...], seen: tuple[Frame, ...]) -> tuple[Frame, ...]:
        if not said or not seen:
            return said or seen
        return said if sureness(said[0], THRESHOLD) >= sureness(seen[0], self._threshold) else seen

    @property
    def _threshold(self) -> float | None:
        encoder = self.encoder
        return None if encoder is None else encoder.threshold


def sureness(frame: Frame, threshold: float | None) -> float:
    """How sure a retriever is of a frame, from 0 to 1, with 0.5 at its threshold; scores are taken to reach from 0, or the threshold, to 1."""
    if threshold is None or frame.score is None:
        return _UNKNOWN_FALLBACK if frame.match is not None and frame.match.is_fallback else _UNKNOWN
    if frame.score <= threshold:
        return max(0.0, 0.5 * frame.score / threshold) if threshold > 0 else 0.0
    return min(1.0, 0.5 + 0.5 * (frame.score - threshold) / max(1e-9, 1.0 - threshold))
