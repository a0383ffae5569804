"""Frames of a video file by presentation time: never by index and average frame rate, and without loading the whole video.

Times are in seconds on the player's clock, see `clock`. One pass over the packets, without decoding, yields all timestamps. Then only the packets
that the requested frames depend on are decoded; the pictures are bit-identical to those of a full decode.
"""

from act2see.video.files import MAX_PIXELS
from act2see.video.timeline import MAX_FPS, TOLERANCE_SECONDS
from act2see.video.video import Sampling, Video

__all__ = ["MAX_FPS", "MAX_PIXELS", "TOLERANCE_SECONDS", "Sampling", "Video"]
