"""The clock of a video file: one zero for its pictures, sound and subtitles, the one that players use.

Zero is the start of the earliest stream after edit lists and encoder delay, as FFmpeg reports it for the file; mpv and `ffmpeg -ss` count from there.
Pictures that begin later than the sound have later times. The last picture stands until the sound ends.
"""

from collections.abc import Mapping
from fractions import Fraction

import av
from av.container import InputContainer
from av.stream import Disposition

_MICROSECOND = Fraction(1, av.time_base)
# Rounded up, a last frame may end this much later than its packets; a subtitle may end this much later than the pictures.
_MISSING_SECONDS = 0.5
# Formats whose header states the duration; for others, FFmpeg estimates it from the bit rate.
_FORMATS_WITH_DURATION = {"mov", "matroska", "flv"}

Span = tuple[Fraction, Fraction]
"""First presentation time and end of a stream in seconds, as the file counts."""


def start_of(container: InputContainer) -> Fraction | None:
    """Time zero of an open file in seconds, as the file counts; None if it states no times.

    Subtract it from the times of any stream of the file: pictures, sound or subtitles.
    """
    if container.start_time is None:
        return None
    rounded = container.start_time * _MICROSECOND
    # FFmpeg rounds to microseconds; the stream that begins there has the exact value.
    starts = [stream.start_time * stream.time_base for stream in container.streams if stream.start_time is not None and stream.time_base is not None]
    return min((start for start in starts if abs(start - rounded) <= _MICROSECOND), key=lambda start: abs(start - rounded), default=rounded)


def end_of_others(container: InputContainer, spans: Mapping[int, Span], own: int) -> Fraction | None:
    """End of the longest stream of pictures or sound besides stream `own`, in seconds, as the file counts; None if there is none.

    `spans` by stream index. Cover art and subtitles do not prolong a video.
    """
    covers = Disposition.attached_pic | Disposition.timed_thumbnails
    streams = [one for one in container.streams if one.type in ("video", "audio") and one.index != own and not one.disposition & covers]
    return max((spans[stream.index][1] for stream in streams if stream.index in spans), default=None)


def missing(container: InputContainer, spans: Mapping[int, Span]) -> str | None:
    """The part of the header's duration that the packets do not cover, in one line.

    Most headers state a length. Those of pieces that do not begin at zero (Matroska segments, DASH) state the end.
    """
    if not spans or container.duration is None or not _FORMATS_WITH_DURATION & set(container.format.name.split(",")):
        return None
    end = max(last for _, last in spans.values())
    covered = float(max(end, end - min(first for first, _ in spans.values())))
    promised = container.duration / av.time_base
    return f"it ends after {covered:.2f} s although its header says {promised:.2f} s" if promised - covered > _MISSING_SECONDS else None
