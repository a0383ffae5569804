"""What is said and written in a video, as lines of text with times: subtitles, speech, and text on the screen."""

from act2see.core.trace import Line
from act2see.video.transcript.reading import Transcript, read_transcript

__all__ = ["Line", "Transcript", "read_transcript"]
