"""Frames of a video file by presentation time: never by index times average rate, and never the whole video in memory.

Times are seconds since the first frame that can be decoded. One walk over the packets, without decoding, tells when each frame is shown; only what
the wanted frames need is then decoded, and the pictures are the same, bit by bit, as if everything had been.
"""

from act2see.video.files import MAX_PIXELS
from act2see.video.timeline import MAX_FPS, TOLERANCE_SECONDS
from act2see.video.video import Sampling, Video

__all__ = ["MAX_FPS", "MAX_PIXELS", "TOLERANCE_SECONDS", "Sampling", "Video"]
