"""Small videos with subtitles, sound and text, and readers that know what they are shown."""

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

ASS_HEADER = (
    b"[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\nFormat: Name, Fontname, Fontsize\nStyle: Default,Arial,16\n\n"
    b"[Events]\nFormat: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
)
Cue = tuple[float, float, str]
TALK: tuple[Cue, ...] = ((0.5, 1.4, "Welcome everybody"), (1.5, 2.4, "Now to the budget of next year"), (2.5, 2.9, "Thank you &amp; <b>bye</b>"))


def noise(number: int, size: tuple[int, int] = (64, 48)) -> NDArray[np.uint8]:
    """A picture that is not of the synthetic world."""
    return np.random.default_rng(number).integers(0, 255, (size[1], size[0], 3), np.uint8)


def write_talk(
    path: Path,
    streams: Sequence[tuple[str, Sequence[Cue]]] = (("mov_text", TALK),),
    *,
    seconds: float = 3.0,
    sound: NDArray[np.float32] | None = None,
    sound_from: float = 0.0,
    starts_at: float = 0.0,
    pictures: Sequence[NDArray[np.uint8]] | None = None,
    fps: int = 10,
    languages: Sequence[str] = (),
) -> Path:
    """Write a video with subtitle streams, each a codec and its cues, and sound of 16,000 values a second.

    `starts_at` is the first frame's time on the container's clock."""
    with av.open(path, "w") as container:
        shown = pictures if pictures is not None else [noise(number) for number in range(round(seconds * fps))]
        video: Any = container.add_stream("libx264", rate=fps)
        video.height, video.width = shown[0].shape[:2]
        video.pix_fmt, video.codec_context.time_base = "yuv420p", Fraction(1, 1000)
        video.options = {"preset": "ultrafast", "crf": "18", "bf": "0"}
        written: list[tuple[Any, str, Sequence[Cue]]] = []
        for number, (codec, cues) in enumerate(streams):
            stream: Any = container.add_stream(codec)
            stream.codec_context.subtitle_header = ASS_HEADER
            if number < len(languages):
                stream.metadata["language"] = languages[number]
            written.append((stream, codec, cues))
        voice: Any = container.add_stream("aac", rate=16_000, layout="mono") if sound is not None else None
        for number, picture in enumerate(shown):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(1000 * (starts_at + number / fps)), Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for stream, codec, cues in written:
            for start, stop, text in cues:
                content = text.encode()
                packet = av.Packet(len(content).to_bytes(2, "big") + content if codec == "mov_text" else content)
                packet.stream, packet.time_base = stream, Fraction(1, 1000)
                packet.pts = packet.dts = round(1000 * (starts_at + start))
                packet.duration = round(1000 * (stop - start))
                container.mux(packet)
        if voice is not None and sound is not None:
            heard = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
            heard.rate, heard.pts, heard.time_base = 16_000, round(16_000 * (starts_at + sound_from)), Fraction(1, 16_000)
            container.mux(voice.encode(heard))
            container.mux(voice.encode(None))
    return path


def srt(cues: Sequence[Cue]) -> str:
    """The cues as an .srt file."""

    def stamp(seconds: float) -> str:
        whole = round(1000 * seconds)
        return f"{whole // 3600000:02d}:{whole // 60000 % 60:02d}:{whole // 1000 % 60:02d},{whole % 1000:03d}"

    file = io.StringIO()
    for number, (start, stop, text) in enumerate(cues, 1):
        file.write(f"{number}\n{stamp(start)} --> {stamp(stop)}\n{text}\n\n")
    return file.getvalue()
