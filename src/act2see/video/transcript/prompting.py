"""What is said and written, shown to a model: around the initial frames, or around a frame that it asked for."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from act2see.config import WordsConfig
from act2see.core.plaintext import one_line
from act2see.core.trace import Frame, Line, Trace
from act2see.storage.cache import Cache
from act2see.video import Video
from act2see.video.transcript.matching import around
from act2see.video.transcript.reading import Transcript, read_transcript

_log = logging.getLogger(__name__)

AROUND_SECONDS = 2.0
"""Lines that are said or stand within this time of a frame are shown with it. Our choice."""
QUESTION_CHARACTERS, FRAME_CHARACTERS = 12_000, 1_200
"""Of the lines in a question, and of a frame's. Our choice: about 3,000 and 300 tokens."""


@dataclass(frozen=True, slots=True)
class LinesOfVideos:
    """Reads transcripts for prompts."""

    options: WordsConfig
    is_cached: bool = True

    def read(self, video: Video) -> Transcript:
        """The video's transcript. Raises as `read_transcript` does."""
        return read_transcript(video, self.options, Cache() if self.is_cached else None)

    def add_to_question(self, trace: Trace, video: Video) -> None:
        """Put the lines around the initial frames into a new trace; of too many, an even choice, which `made_with` records."""
        transcript = self.read(video)
        near = around(transcript.lines, [frame.seconds for frame in trace.frames if frame.seconds is not None], AROUND_SECONDS)
        trace.lines = bounded(near, QUESTION_CHARACTERS)
        trace.made_with["transcript"] = f"{len(trace.lines)} of {len(near)} lines: {', '.join(transcript.sources) or 'none'}"
        if not near:
            _log.warning("no lines of %s are shown to the model: %s", video.path.name, "; ".join(map(one_line, transcript.notes)) or "none are near")


def lines_for(frame: Frame, transcript: Transcript) -> tuple[Line, ...]:
    """The lines around a frame, the one that it was found by first of all where there is one."""
    if frame.seconds is None:
        return ()
    near = around(transcript.lines, [frame.seconds], AROUND_SECONDS)
    found_by = frame.match.line if frame.match is not None else None
    return bounded([*([found_by] if found_by is not None else []), *(line for line in near if line != found_by)], FRAME_CHARACTERS)


def bounded(lines: Sequence[Line], characters: int) -> tuple[Line, ...]:
    """The lines, or as many of them, evenly chosen, as fit."""
    count = len(lines)
    while count:
        chosen = [lines[at * len(lines) // count] for at in range(count)]
        total = sum(len(line.text) for line in chosen)
        if total <= characters:
            return tuple(chosen)
        count = min(count - 1, count * characters // total)
    return ()
