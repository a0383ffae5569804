"""Stretches of a video as small files of their own, with sound, to watch what a search has found."""

import io
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.resampler import AudioResampler
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.reformatter import Colorspace, VideoReformatter
from numpy.typing import NDArray

from act2see.core.trace import Frame
from act2see.storage.atomic import replace_file, writing
from act2see.video import files
from act2see.video.packets import packets_of
from act2see.video.video import Video

MAX_CLIP_SECONDS = 120.0
"""Longer clips are refused: a clip is made in memory. Our choice."""

_TICKS = 90_000  # per second
_RATE = 48_000  # samples per second of a clip's sound
_GAP_SAMPLES = _RATE // 20  # the resampler holds some samples back; a larger difference is a gap in the sound
_BEFORE_SECONDS = 0.5  # sound decoders need some packets before their output is right
_BT709, _LIMITED = 1, 1  # H.273, and FFmpeg's name for the range
_PICTURES = {"preset": "veryfast", "crf": "18"}


def write_clip(video: Video, start_seconds: float, stop_seconds: float, path: Path) -> tuple[float, float]:
    """Write what a player shows from `start_seconds` to `stop_seconds`, with sound, as an H.264 MP4 file; whole or not at all.

    The stretch is cut where the video begins and ends; returns what is left of it. It is encoded anew, so that it begins exactly there. Raises
    `VideoError` for a start outside the video, `StoreError` for a file that cannot be written.
    """
    start = max(0.0, start_seconds)
    stop = min(stop_seconds, video.duration_seconds, start + MAX_CLIP_SECONDS)
    content = _encoded(video, start, stop)
    with writing(path.parent):
        replace_file(path, content)
    return start, stop


def _encoded(video: Video, start: float, stop: float) -> bytes:
    buffer = io.BytesIO()
    samples = _sound(video, start, stop)
    with av.open(buffer, "w", format="mp4") as target:
        pictures: Any = target.add_stream("libx264", rate=25, options=_PICTURES)
        context = pictures.codec_context
        pictures.width, pictures.height = (max(2, side - side % 2) for side in video.size)  # 4:2:0 needs even sides
        pictures.pix_fmt, context.time_base = "yuv420p", Fraction(1, _TICKS)
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED
        sound: Any = None
        if samples is not None:
            sound = target.add_stream("aac", rate=_RATE)
            sound.layout = "mono" if len(samples) == 1 else "stereo"
        reformatter, durations = VideoReformatter(), dict[int, int]()
        for pts, duration, frame in _timed(video, start, stop):
            shown = av.VideoFrame.from_image(frame.image)
            coded = reformatter.reformat(shown, pictures.width, pictures.height, "yuv420p", dst_colorspace=Colorspace.ITU709)
            coded.pts, coded.time_base = pts, Fraction(1, _TICKS)
            durations[pts] = duration
            _mux(target, pictures.encode(coded), durations)
        _mux(target, pictures.encode(None), durations)
        if samples is not None:
            heard = av.AudioFrame.from_ndarray(samples, format="fltp", layout=sound.layout.name)
            heard.rate, heard.pts = _RATE, 0
            target.mux(sound.encode(heard))
            target.mux(sound.encode(None))
    return buffer.getvalue()


def _mux(target: OutputContainer, packets: Iterable["Packet[Any]"], durations: Mapping[int, int]) -> None:
    """Write packets of pictures with their durations, which the encoder does not know."""
    for packet in packets:
        packet.duration = durations[packet.pts or 0]
        target.mux(packet)


def _timed(video: Video, start: float, stop: float) -> Iterator[tuple[int, int, Frame]]:
    """The frames of a stretch with increasing times and their durations, in ticks since its start; the last one stands until the end."""
    before: tuple[int, Frame] | None = None
    for frame in video.frames_between(start, stop):
        assert frame.seconds is not None
        at = max(0, round((frame.seconds - start) * _TICKS))
        if before is not None:
            at = max(at, before[0] + 1)
            yield before[0], at - before[0], before[1]
        before = at, frame
    if before is not None:
        yield before[0], max(1, round((stop - start) * _TICKS) - before[0]), before[1]


def _sound(video: Video, start: float, stop: float) -> NDArray[np.float32] | None:
    """The samples of a stretch, of shape (channels, samples) at `_RATE`, silent where the file has none; None for a file without sound."""
    with files.opened(video.path) as (container, _):
        stream = next(iter(container.streams.audio), None)
        if stream is None or not stream.codec_context or not stream.codec_context.channels:
            return None
        layout = "mono" if stream.codec_context.channels == 1 else "stereo"
        samples = np.zeros((1 if layout == "mono" else 2, max(1, round((stop - start) * _RATE))), np.float32)
        resampler = AudioResampler(format="fltp", layout=layout, rate=_RATE)
        at: int | None = None
        for seconds, decoded in _decoded(container, stream, start, stop, float(video.zero_seconds)):
            due = round((seconds - start) * _RATE)
            if at is None or abs(due - at) > _GAP_SAMPLES:
                at = due
            for piece in (one.to_ndarray() for one in resampler.resample(decoded)):
                taken = piece[:, max(0, -at) : max(0, samples.shape[1] - at)]
                samples[:, max(0, at) : max(0, at) + taken.shape[1]] = taken
                at += piece.shape[1]
        return samples


def _decoded(container: InputContainer, stream: Any, start: float, stop: float, zero: float) -> Iterator[tuple[float, av.AudioFrame]]:
    """The sound from shortly before a stretch to its end, with times on the player's clock; damaged packets are left out."""
    try:
        container.seek(round((start + zero - _BEFORE_SECONDS) / stream.time_base), stream=stream)
    except FFmpegError:  # no index: read from the start
        container.seek(0)
    for packet in packets_of(container.demux(stream)):
        try:
            frames = stream.decode(packet)
        except FFmpegError:
            continue
        for frame in frames:
            if frame.pts is None or frame.time_base is None:
                continue
            seconds = float(frame.pts * frame.time_base) - zero
            if seconds >= stop:
                return
            yield seconds, frame
