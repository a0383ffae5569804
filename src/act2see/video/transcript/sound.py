"""The sound of a video as the speech recogniser takes it: mono, 16 kHz, each value at its presentation time."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import av
import numpy as np
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from numpy.typing import NDArray

from act2see.video import Video
from act2see.video.files import FORMATS, MAX_PIXELS

RATE = 16_000
"""Values a second."""
_JUMP_SECONDS = 0.05
"""Timestamps that are off by less follow the values before: containers round them."""
_CANCELS = 0.2
"""A mean of the channels with less than this share of the first channel's power is no mean of them: they are in opposite phase."""
_LATER_SECONDS = 60.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sound:
    """Values from -1 to 1, of shape (seconds x 16,000,), from time zero on the player's clock. Where the file has none they are 0."""

    values: NDArray[np.float32]


def decode_sound(video: Video) -> Sound | str:
    """The default sound track, or why there is none, in one line.

    Placed by presentation time: a track that begins late, or has holes, is not squeezed together. What comes a minute after the last frame is cut.
    """
    options = {"protocol_whitelist": "file", "format_whitelist": FORMATS, "max_pixels": str(MAX_PIXELS)}
    try:
        with av.open(f"file:{video.path.absolute()}", options=options, metadata_errors="ignore") as container:
            stream = _chosen(container)
            if stream is None:
                return f"{video.path.name} has no sound"
            parts = list(_parts(container, stream, float(video.zero_seconds), video.duration_seconds + _LATER_SECONDS))
    except (FFmpegError, ValueError) as error:
        return f"the sound of {video.path.name} cannot be decoded ({error})"
    values = np.zeros(max((at + len(part) for at, part in parts), default=0), np.float32)
    for at, part in parts:
        values[at : at + len(part)] = part
    return Sound(values) if len(values) else f"the sound of {video.path.name} cannot be decoded"


def _chosen(container: InputContainer) -> AudioStream | None:
    usable = [stream for stream in container.streams.audio if getattr(stream, "codec_context", None) is not None]
    return next((stream for stream in usable if stream.disposition & Disposition.default), usable[0] if usable else None)


def _parts(container: InputContainer, stream: AudioStream, start_seconds: float, stop_seconds: float) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Runs of values with the place of their first one; what is before time zero is cut off."""
    resampler = AudioResampler(format="fltp", rate=RATE)
    place, expected = 0, None
    for frame in _frames(container, stream):
        seconds = None if frame.time is None else frame.time - start_seconds
        if seconds is not None and (expected is None or abs(seconds - expected) > _JUMP_SECONDS):
            resampler = AudioResampler(format="fltp", rate=RATE)  # it keeps values of what came before a jump
            place, expected = round(seconds * RATE), seconds
        elif expected is None:
            expected = 0.0
        expected += frame.samples / frame.sample_rate
        if expected > stop_seconds:
            return
        frame.pts = None
        for resampled in resampler.resample(frame):
            values = _mono(resampled.to_ndarray().astype(np.float32, copy=False))
            skipped = min(len(values), max(0, -place))
            if skipped < len(values):
                yield place + skipped, values[skipped:]
            place += len(values)


def _frames(container: InputContainer, stream: AudioStream) -> "Iterator[av.AudioFrame]":
    """Decoded frames; damaged packets are skipped, and a read error ends the file."""
    try:
        for packet in container.demux(stream):
            try:
                yield from packet.decode()
            except FFmpegError as error:
                _log.info("a packet of the sound cannot be decoded: %s", error)
    except (FFmpegError, IndexError):
        return


def _mono(channels: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean of the channels; the first one where they cancel each other out."""
    mean: NDArray[np.float32] = channels.mean(axis=0, dtype=np.float32)
    power, of_first = float((mean**2).mean()), float((channels[0] ** 2).mean())
    first: NDArray[np.float32] = channels[0]
    return first if power < _CANCELS**2 * of_first else mean
