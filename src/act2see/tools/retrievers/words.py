"""Frames by what is said and written: the query is matched to the lines of the transcript, and the frame in the best line's time is returned."""

import logging
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from act2see.config import WordsConfig
from act2see.core.errors import NoFrameError, NoMatchError
from act2see.core.trace import Frame, Match
from act2see.execution.progress import ProgressCallback
from act2see.storage.cache import Cache
from act2see.tools.retrievers.search import Found, thinned
from act2see.tools.retrievers.selection import APART_SECONDS, RUNNERS_UP, SAME_TIME_SECONDS, Curve
from act2see.video import Video
from act2see.video.transcript.lexicon import Lexicon
from act2see.video.transcript.matching import THRESHOLD, Hit, Matcher, best_over_time
from act2see.video.transcript.reading import Transcript, named_sources, read_transcript

_TRANSCRIPTS_KEPT = 128
"""Each hour of speech takes about 2 MiB. Our choice."""
_LEXICON_WORDS = 500_000
"""Transcripts share a lexicon up to this size; then those that are read later share a new one. Our choice."""
_CURVE_FPS = 3.0
_PLACES = (0.5, 0.25, 0.75, 0.1, 0.9)
"""Where in a line's time a frame is taken, in this order: a slide that fades in is whole in the middle. Our choice."""

_log = logging.getLogger(__name__)


class WordsRetriever:
    """Finds frames by the words of a video: subtitles, speech, and text on the screen.

    A transcript is read at the first query; the last few are held in memory, all of them in the cache, if one is given. A score is from 0 to 1; where
    no line scores more than `THRESHOLD`, nothing is returned. `progress` counts the seconds of video that are read.
    """

    def __init__(self, options: WordsConfig | None = None, cache: Cache | None = None, progress: ProgressCallback | None = None) -> None:
        self.options, self.cache, self.progress = options or WordsConfig(), cache, progress
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._lexicon = Lexicon()
        self._name = f"words({named_sources(self.options)})"

    @property
    def name(self) -> str:
        """The retriever and its sources, for `Trace.made_with`."""
        return self._name

    def find(self, video: Video, query: str, *, shown: Collection[float], count: int = 1) -> Sequence[Frame]:
        """At most `count` frames, best first, none at a time in `shown` (seconds).

        Raises `NoMatchError` if nothing that is said or written matches, and `NoFrameError` if all that does has been shown.
        """
        found = self.search(video, query, shown=shown, count=count)
        if found.frames:
            return found.frames
        if found.curve.scores.max(initial=0.0) > THRESHOLD:
            raise NoFrameError("every frame with words that match has been shown")
        raise NoMatchError(self.why_nothing(video))

    def search(self, video: Video, query: str, *, shown: Collection[float] = (), count: int = 1) -> Found:
        """Like `find`, but also returns the scores over time, and no frames if nothing matches."""
        kept = self._read(video)
        matcher = kept.matcher
        scores = matcher.scores(query)
        curve = kept.curve(scores)
        order = np.argsort(-scores, kind="stable")
        hits = [Hit(matcher.lines[at], float(scores[at])) for at in order[: _most(count)].tolist() if scores[at] > 0]
        chosen = list(_chosen(video, [hit for hit in hits if hit.score > THRESHOLD], shown, count))
        best = tuple((round(hit.line.start_seconds, 3), round(hit.score, 4)) for hit in hits)
        frames = []
        for hit, seconds in chosen:
            frame = video.frame_at(seconds)
            at = frame.seconds or 0.0
            others = tuple(one for one in best if abs(one[0] - hit.line.start_seconds) >= APART_SECONDS)[:RUNNERS_UP]
            span = (hit.line.start_seconds, min(hit.line.stop_seconds, video.duration_seconds))
            match = Match(video.frame_index(at), span, others, curve=thinned(curve), line=hit.line)
            frames.append(Frame(frame.image, at, round(hit.score, 6), match=match))
        return Found(tuple(frames), curve)

    def curve(self, video: Video, query: str) -> Curve:
        """The best score of a line at each time, three times a second."""
        kept = self._read(video)
        return kept.curve(kept.matcher.scores(query))

    def index(self, video: Video) -> Transcript:
        """The video's transcript, read if necessary."""
        return self._read(video).transcript

    def why_nothing(self, video: Video) -> str:
        """What was searched in vain, and what was not searched, in one line."""
        transcript = self._read(video).transcript
        searched = f"searched: {', '.join(transcript.sources)}" if transcript.sources else "there are no words in it"
        return f"nothing said or written matches ({'; '.join([searched, *transcript.notes])})"

    def _read(self, video: Video) -> "_Kept":
        kept = self._kept.pop(video.digest, None)
        if kept is None:
            transcript = read_transcript(video, self.options, self.cache, self.progress)
            if len(self._lexicon) > _LEXICON_WORDS:
                self._lexicon = Lexicon()
            seconds = np.array(video.times(_CURVE_FPS))
            indices = np.array([video.frame_index(at) for at in seconds.tolist()], np.int64)
            kept = _Kept(transcript, Matcher(transcript.lines, self._lexicon), seconds, indices)
        self._kept[video.digest] = kept
        if len(self._kept) > _TRANSCRIPTS_KEPT:
            self._kept.popitem(last=False)
        return kept


@dataclass(frozen=True, slots=True)
class _Kept:
    """A video's words, ready for a query, and the times at which scores are given, with the frames' numbers."""

    transcript: Transcript
    matcher: Matcher
    seconds: NDArray[np.float64]
    indices: NDArray[np.int64]

    def curve(self, scores: NDArray[np.float64]) -> Curve:
        return Curve(self.seconds, best_over_time(self.matcher.lines, scores, self.seconds), THRESHOLD, self.indices)


def _most(count: int) -> int:
    """Lines to look at for so many frames: several lines may share a frame, or be shown already."""
    return 20 * count + 200


def _chosen(video: Video, hits: Sequence[Hit], shown: Collection[float], count: int) -> Iterator[tuple[Hit, float]]:
    """The lines to return and a time in each, apart from each other and from what was shown."""
    taken = list(shown)
    found: list[float] = []
    for hit in hits:
        if len(found) == count:
            return
        start, stop = hit.line.start_seconds, min(hit.line.stop_seconds, video.duration_seconds)
        if start > video.duration_seconds:  # a subtitle after the last picture
            continue
        for place in _PLACES:
            at = _on_screen(video, start + place * max(0.0, stop - start))
            if all(abs(at - other) > SAME_TIME_SECONDS for other in taken) and all(abs(at - other) >= APART_SECONDS for other in found):
                taken.append(at)
                found.append(at)
                yield hit, at
                break


def _on_screen(video: Video, seconds: float) -> float:
    """The presentation time of the frame that is on the screen then."""
    return video.frame_time(min(seconds, video.duration_seconds))
