"""Videos as they are built for the attacks: one colour all along, another one for two frames, so that what is found has a known time and colour."""

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from attacking.fakes import Colour

BLUE, RED = (30, 60, 180), (200, 40, 40)
FPS, FRAMES, FOUND = 5, 10, (6, 7)
"""Two seconds; frames 6 and 7 are red."""
_CLOCK = 90_000


@dataclass(frozen=True, slots=True)
class Clip:
    """How a file is written."""

    name: str
    codec: str = "libx264"
    pixels: str = "yuv420p"
    size: tuple[int, int] = (64, 48)
    frames: int = FRAMES
    form: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    file_options: Mapping[str, str] = field(default_factory=dict)
    rate: int = FPS
    times: Sequence[float] | None = None
    """The frames' presentation times in seconds; evenly spread if not given."""
    prepare: Callable[[Any], None] = lambda stream: None
    """Takes the stream before it is opened."""
    picture: Callable[[Colour, tuple[int, int], str], av.VideoFrame] | None = None
    """Makes a frame of one colour in the pixel format; the scaler does if not given."""
    change: Callable[[bytes], bytes] = lambda content: content
    """Changes the finished file."""
    sound: bool = False

    def write(self, folder: Path) -> Path:
        """Write the file and give its path."""
        path = folder / self.name
        speed = {"preset": "ultrafast", "crf": "4"} if self.codec.startswith("libx26") else {}
        quiet = {"x265-params": "log-level=none"} if self.codec == "libx265" else {}
        quality = {"qmin": "1", "qmax": "3"} if self.codec in _QUANTISED else {}
        with av.open(path, "w", format=self.form, options=dict(self.file_options)) as container:
            stream: Any = container.add_stream(
                self.codec, rate=Fraction(self.rate), options={"threads": "1", **speed, **quiet, **quality, **self.options}
            )
            stream.width, stream.height, stream.pix_fmt = *self.size, self.pixels
            if self.times is not None:
                stream.codec_context.time_base = Fraction(1, _CLOCK)
            self.prepare(stream)
            sound: Any = container.add_stream("aac", rate=48_000) if self.sound else None
            container.start_encoding()  # so that a file without a frame has a head
            for number in range(self.frames):
                frame = (self.picture or scaled)(RED if number in FOUND else BLUE, self.size, self.pixels)
                frame.pts, frame.time_base = (
                    (number, Fraction(1, self.rate)) if self.times is None else (round(self.times[number] * _CLOCK), Fraction(1, _CLOCK))
                )
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
            if sound is not None:
                silence(container, sound)
        path.write_bytes(self.change(path.read_bytes()))
        return path


_QUANTISED = (
    "mpeg4",
    "mpeg2video",
    "mpeg1video",
    "msmpeg4",
    "msmpeg4v2",
    "h263",
    "h263p",
    "h261",
    "flv",
    "wmv1",
    "wmv2",
    "mjpeg",
    "rv10",
    "rv20",
    "snow",
)


def scaled(colour: Colour, size: tuple[int, int], pixels: str) -> av.VideoFrame:
    """A frame of one colour by FFmpeg's own scaler."""
    picture = np.broadcast_to(np.array(colour, np.uint8), (size[1], size[0], 3))
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24").reformat(format=pixels)


def planes(values: Sequence[float], size: tuple[int, int], pixels: str) -> av.VideoFrame:
    """A frame of three whole planes, one value each."""
    wide = np.uint16 if "10" in pixels else np.uint8
    stacked = np.stack([np.full((size[1], size[0]), round(value), wide) for value in values])
    return av.VideoFrame.from_ndarray(stacked, format=pixels)


def silence(container: Any, stream: Any, seconds: float = 1.0) -> None:
    """Mux silence."""
    sound = av.AudioFrame.from_ndarray(np.zeros((1, round(48_000 * seconds)), np.float32), format="fltp", layout="mono")
    sound.rate, sound.pts = 48_000, 0
    container.mux(stream.encode(sound))
    container.mux(stream.encode(None))


# Colour matrices, by the formulas of ITU-T H.273


_LUMA = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087), 9: (0.2627, 0.0593), 12: (0.2126, 0.0722)}
"""The weights of red and blue by the number of `matrix_coefficients`; 12 with the primaries of BT.709."""
MATRICES = (*_LUMA, 0, 8)


def in_matrix(matrix: int, *, full_range: bool) -> Callable[[Colour, tuple[int, int], str], av.VideoFrame]:
    """What makes frames whose planes hold a colour by that matrix, 8 bits."""

    def make(colour: Colour, size: tuple[int, int], pixels: str) -> av.VideoFrame:
        red, green, blue = (part / 255 for part in colour)
        if matrix == 0:
            luma, first, second = green, blue - 0.5, red - 0.5
        elif matrix == 8:  # YCgCo
            luma, first, second = (red + 2 * green + blue) / 4, (2 * green - red - blue) / 4, (red - blue) / 2
        else:
            of_red, of_blue = _LUMA[matrix]
            luma = of_red * red + (1 - of_red - of_blue) * green + of_blue * blue
            first, second = (blue - luma) / (2 - 2 * of_blue), (red - luma) / (2 - 2 * of_red)
        if full_range:
            return planes((255 * luma, 128 + 255 * first if matrix else 255 * blue, 128 + 255 * second if matrix else 255 * red), size, pixels)
        scale = 224 if matrix else 219
        return planes(
            (16 + 219 * luma, 128 + scale * first if matrix else 16 + 219 * blue, 128 + scale * second if matrix else 16 + 219 * red), size, pixels
        )

    return make


def labelled(matrix: int, *, full_range: bool = False) -> Callable[[Any], None]:
    """What writes a matrix and a range into the stream's header."""

    def prepare(stream: Any) -> None:
        stream.codec_context.colorspace = matrix
        stream.codec_context.color_range = 2 if full_range else 1
        stream.codec_context.color_primaries = stream.codec_context.color_trc = 1

    return prepare


# Files that are no plain videos


def sound_alone(path: Path, codec: str = "aac") -> Path:
    """A second of silence."""
    with av.open(path, "w") as container:
        silence(container, container.add_stream(codec, rate=48_000))
    return path


def picture_file(path: Path, form: str) -> Path:
    """A still picture."""
    Image.new("RGB", (64, 48), RED).save(path, form)
    return path


def animation(path: Path, form: str) -> Path:
    """The clip as an animated picture."""
    shots = [Image.new("RGB", (64, 48), RED if number in FOUND else BLUE) for number in range(FRAMES)]
    for number, shot in enumerate(shots):
        shot.putpixel((number, 0), (number, 0, 0))  # equal pictures in a row would be joined
    shots[0].save(path, form, save_all=True, append_images=shots[1:], duration=1000 // FPS, loop=0)
    return path


def cover_art(sound: bytes) -> bytes:
    """The sound of an MP3 behind an ID3 tag with a picture."""
    picture = BytesIO()
    Image.new("RGB", (64, 64), "red").save(picture, "JPEG")
    content = b"\0image/jpeg\0\x03\0" + picture.getvalue()
    tag = b"APIC" + struct.pack(">IH", len(content), 0) + content
    return b"ID3\x03\0\0" + bytes([len(tag) >> shift & 127 for shift in (21, 14, 7, 0)]) + tag + sound


def resized(folder: Path, name: str, sizes: Sequence[tuple[int, int]], form: str) -> Path:
    """An elementary H.264 stream, or one in a transport stream, whose pictures change their size."""
    parts = []
    for number, size in enumerate(sizes):
        parts.append(Clip(f"part{number}.{form}", size=size, form=form).write(folder).read_bytes())
    (path := folder / name).write_bytes(b"".join(parts))
    return path
