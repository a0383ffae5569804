"""Videos for `benchmarks/video.py`, made once with PyAV: camera-like pictures whose every frame carries its own number as a barcode.

python benchmarks/video_files.py quick|full NAME FOLDER
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

BITS = 17
_CELLS = 30  # the barcode's cells have a thirtieth of the picture's height
VERSION = 5  # part of the folder's name: a changed recipe makes new files


@dataclass(frozen=True)
class Clip:
    """One file. `loops`: how often the encoded stream is repeated; the barcode then begins anew. `seconds_of` gives uneven times."""

    name: str
    size: tuple[int, int]
    frames: int
    codec: str = "libx264"
    options: Mapping[str, str] = field(default_factory=dict)
    fps: int = 30
    loops: int = 1
    is_uneven: bool = False
    is_still: bool = False
    grain: float = 2.0
    start_seconds: Fraction = Fraction(0)

    def times(self) -> list[Fraction]:
        """When each of the frames is shown, in seconds since the first."""
        count = self.frames * self.loops
        if not self.is_uneven:
            return [Fraction(number, self.fps) for number in range(count)]
        steps = np.random.default_rng(7).choice([33, 40, 100, 17, 1500], count, p=[0.6, 0.2, 0.1, 0.08, 0.02])
        return [Fraction(int(tick), 1000) for tick in np.concatenate([[0], np.cumsum(steps)[:-1]])]


_X264 = {"preset": "medium", "crf": "23"}  # what FFmpeg does when it is told nothing
_LONG = {"x264-params": "keyint=250:bframes=3:scenecut=0"}
_HD, _720, _360 = (1920, 1080), (1280, 720), (640, 360)


def clips(quick: bool) -> dict[str, Clip]:
    """The files of a run, by a short name."""
    made = [
        Clip("gop250.mp4", _HD, 600, options=_X264 | _LONG),
        Clip("gop30.mp4", _HD, 600, options=_X264 | {"x264-params": "keyint=30:bframes=3:scenecut=0"}),
        Clip("uneven.mp4", _360, 300, options=_X264 | _LONG, is_uneven=True),
        Clip("uneven.mkv", _360, 300, options=_X264 | _LONG, is_uneven=True),
        Clip("late.ts", _360, 300, options=_X264 | _LONG, start_seconds=Fraction(5)),
        Clip("open.mkv", _360, 300, options=_X264 | {"x264-params": "keyint=48:open-gop=1:bframes=5"}),
    ]
    if not quick:
        made += [
            Clip("grain.mp4", _HD, 600, options={"preset": "medium", "b": "11M"} | _LONG, grain=4.0),
            Clip("no-b.mp4", _HD, 600, options=_X264 | {"bf": "0", "g": "250"}),
            Clip("hevc.mp4", _720, 600, "libx265", {"preset": "fast", "x265-params": "keyint=250:log-level=none"}),
            Clip("vp9.webm", _720, 600, "libvpx-vp9", {"g": "128", "b": "2500k", "cpu-used": "5", "deadline": "good"}),
            Clip("av1.mp4", _720, 600, "libsvtav1", {"g": "128", "preset": "10", "crf": "35"}),
            Clip("mpeg4.mp4", _360, 300, "mpeg4", {"bf": "2", "g": "60"}),
            Clip("mpeg2.ts", _360, 300, "mpeg2video", {"bf": "2", "g": "15", "flags": "+ilme+ildct"}),
            Clip("2min.mp4", _HD, 600, options=_X264 | _LONG, loops=6),
            Clip("hour.mp4", _360, 10_800, options={"preset": "veryfast", "b": "600k", "x264-params": "keyint=250:bframes=3"}, loops=10),
            Clip("hour-still.mp4", _360, 10_800, options={"preset": "veryfast", "crf": "23", "x264-params": "bframes=3"}, loops=10, is_still=True),
        ]
    return {clip.name: clip for clip in made}


def path_of(clip: Clip, folder: Path) -> Path:
    """Where the clip's file is or will be."""
    return folder / f"{clip.frames}-{clip.loops}-{clip.name}"


def make(clip: Clip, folder: Path) -> None:
    """Make the clip's file if it is not there yet."""
    path = path_of(clip, folder)
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial, whole = path.with_name("part-" + path.name), path.with_name("whole-" + path.name)
        _encode(clip, partial)
        if clip.loops > 1:
            _repeat(partial, whole, clip)
            partial.unlink()
            partial = whole
        partial.rename(path)


def _encode(clip: Clip, path: Path) -> None:
    times = clip.times()
    clock = clip.fps if clip.codec in ("mpeg4", "mpeg2video") else 90_000
    with av.open(path, "w") as container:
        stream: Any = container.add_stream(clip.codec, rate=clip.fps, options=dict(clip.options))
        stream.width, stream.height = clip.size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, clock)
        for number, planes in enumerate(_pictures(clip)):
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.pts, frame.time_base = round((times[number] + clip.start_seconds) * clock), Fraction(1, clock)
            container.mux(_lasting(stream.encode(frame), clip))
        container.mux(_lasting(stream.encode(None), clip))


def _lasting(packets: list[Any], clip: Clip) -> list[Any]:
    """The packets, each with its duration, as FFmpeg's command line writes it."""
    for packet in packets:
        packet.duration = packet.duration or round(1 / (clip.fps * packet.time_base))
    return packets


def _repeat(source: Path, target: Path, clip: Clip) -> None:
    """The same packets again and again, each time later."""
    with av.open(target, "w") as new:
        stream: Any = None
        for turn in range(clip.loops):
            with av.open(source) as old:
                stream = stream or new.add_stream_from_template(old.streams.video[0])
                for packet in old.demux(video=0):
                    if packet.dts is None or packet.pts is None or packet.time_base is None:
                        continue
                    shift = round(Fraction(clip.frames * turn, clip.fps) / packet.time_base)
                    packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                    new.mux(packet)


def _pictures(clip: Clip) -> Iterator[NDArray[np.uint8]]:
    """A textured scene under a moving camera, with grain and things that move on their own; or slides with a cursor."""
    width, height = clip.size
    rng = np.random.default_rng(1)
    margin = 128
    scene = _texture(rng, height + 2 * margin, width + 2 * margin)
    colour = [_texture(rng, height // 2 + margin, width // 2 + margin) // 3 + 85 for _ in range(2)]
    grain = rng.normal(0, clip.grain, (height + 64, width + 64)).astype(np.int8)
    things = [(rng.integers(30, 220), rng.uniform(0, 6, 2), rng.uniform(0.01, 0.06, 2)) for _ in range(6)]
    side = height // 8
    for number in range(clip.frames):
        moment = number // 250 * 97 if clip.is_still else number
        x, y = round(margin * (1 + 0.9 * np.sin(moment / 90))), round(margin * (1 + 0.9 * np.cos(moment / 70)))
        luma = scene[y : y + height, x : x + width].astype(np.int16)
        for brightness, phase, speed in things[: 1 if clip.is_still else None]:
            left = round((width - side) * (0.5 + 0.49 * np.sin(phase[0] + speed[0] * number)))
            top = round((height - side) * (0.5 + 0.49 * np.sin(phase[1] + speed[1] * number)))
            area = luma[top : top + side, left : left + side]
            area += (brightness - area) // 2
        if not clip.is_still:
            shift = rng.integers(0, 64, 2)
            luma += grain[shift[0] : shift[0] + height, shift[1] : shift[1] + width]
        luma = luma.clip(16, 235)
        cell = height // _CELLS
        for bit in range(BITS):
            luma[:cell, bit * cell : (bit + 1) * cell] = 235 if number >> bit & 1 else 16
        chroma = [plane[y // 2 : y // 2 + height // 2, x // 2 : x // 2 + width // 2] for plane in colour]
        for plane in chroma:
            plane[: cell // 2 + 1, : BITS * cell // 2 + 1] = 128
        packed = np.concatenate([luma.ravel(), *(plane.ravel() for plane in chroma)]).astype(np.uint8)
        yield packed.reshape(height * 3 // 2, width)


def _texture(rng: np.random.Generator, height: int, width: int) -> NDArray[np.int16]:
    """Noise of several sizes, as in nature: 0 to 255."""
    total = np.zeros((height, width))
    for step, weight in ((4, 1.0), (16, 2.5), (64, 6.0)):
        coarse = rng.uniform(0, 1, (height // step + 2, width // step + 2))
        rows, columns = np.arange(height) / step, np.arange(width) / step
        top, left = rows.astype(int), columns.astype(int)
        down, right = (rows - top)[:, None], columns - left
        upper = coarse[top][:, left] * (1 - right) + coarse[top][:, left + 1] * right
        lower = coarse[top + 1][:, left] * (1 - right) + coarse[top + 1][:, left + 1] * right
        total += weight * (upper * (1 - down) + lower * down)
    scaled: NDArray[np.int16] = ((total - total.min()) / np.ptp(total) * 255).astype(np.int16)
    return scaled


def number_in(picture: NDArray[np.uint8], height: int | None = None) -> int:
    """The number that a picture of any size carries; `picture` is RGB, (height, width, 3), or the top of one of that height."""
    cell = (height or picture.shape[0]) / _CELLS
    row = picture[int(cell / 2)]
    return sum(int(row[int((bit + 0.5) * cell)].mean() > 127) << bit for bit in range(BITS))


if __name__ == "__main__":
    make(clips(sys.argv[1] == "quick")[sys.argv[2]], Path(sys.argv[3]))
