"""What a player does before it shows a picture: pixel shape, cropping, orientation, fields, transparency."""

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest
from av.filter import Graph
from av.packet import Packet
from av.sidedata.sidedata import Type as SideDataType
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image

from act2see.core.errors import VideoError
from act2see.video import Video
from act2see.video.display import check_base_layer

Pixels = NDArray[np.uint8]
RED, GREEN, BLUE, WHITE, BLACK = (220, 0, 0), (0, 180, 0), (0, 0, 220), (255, 255, 255), (0, 0, 0)


def write(
    path: Path,
    pictures: Sequence[Pixels],
    *,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    options: dict[str, str] | None = None,
    prepare: Callable[[Any], None] = lambda stream: None,
    change: Callable[[int, Any], Any] = lambda number, packet: packet,
    fields: str = "prog",
) -> Path:
    """These RGB or RGBA pictures, ten a second."""
    with av.open(path, "w") as container:
        stream: Any = container.add_stream(codec, rate=10, options=({"crf": "8"} if codec == "libx264" else {}) | (options or {}))
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pixels
        prepare(stream)
        packets: list[Any] = []
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgba" if picture.shape[2] == 4 else "rgb24").reformat(format=pixels)
            frame.pts, frame.time_base = number, Fraction(1, 10)
            packets += stream.encode(marked(frame, fields))
        packets += stream.encode(None)
        for number, packet in enumerate(packets):
            changed = change(number, packet)
            changed.stream = stream
            container.mux(changed)
    return path


def marked(frame: av.VideoFrame, fields: str) -> Any:
    """The frame with its fields' order: tff, bff, or prog for none."""
    graph = Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 10))
    graph.link_nodes(source, graph.add("setfield", fields), graph.add("buffersink")).configure()
    graph.push(frame)
    return graph.pull()


def quarters(width: int = 320, height: int = 240) -> Pixels:
    """Red and green above blue and white."""
    picture = np.empty((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2], picture[: height // 2, width // 2 :] = RED, GREEN
    picture[height // 2 :, : width // 2], picture[height // 2 :, width // 2 :] = BLUE, WHITE
    return picture


def disc(width: int, height: int, shape: Fraction) -> Pixels:
    """A disc in the middle that is round when pixels of this shape are shown."""
    y, x = np.mgrid[:height, :width]
    wide, high = max(shape, Fraction(1)), max(1 / shape, Fraction(1))
    inside = np.hypot((x - width / 2) * float(wide), (y - height / 2) * float(high)) < min(width * wide, height * high) / 3
    return np.repeat(np.where(inside, 255, 0).astype(np.uint8)[:, :, None], 3, 2)


def images(path: Path, short_side: int | None = None) -> Iterator[Image.Image]:
    """The frames of a file by every way to read them."""
    video = Video(path)
    end = video.duration_seconds
    yield video.frame_at(0, short_side).image
    yield video.frame_at(end, short_side).image
    yield from (frame.image for frame in video.sample(10, short_side))
    yield from (frame.image for frame in video.frames_at([end / 2, end / 3], short_side))
    yield from (frame.image for frame in video.keyframes(short_side))


# Pixel shape


@pytest.mark.parametrize(
    ("name", "shape", "size"),
    [
        ("a.mp4", Fraction(16, 11), (1047, 576)),
        ("a.ts", Fraction(64, 45), (1024, 576)),
        ("a.mkv", Fraction(8, 9), (720, 648)),
        ("a.mp4", Fraction(1), (720, 576)),
    ],
)
def test_pixels_that_are_not_square_are_stretched(name: str, shape: Fraction, size: tuple[int, int], tmp_path: Path) -> None:
    path = write(tmp_path / name, [disc(720, 576, shape)] * 2, prepare=lambda stream: setattr(stream.codec_context, "sample_aspect_ratio", shape))
    assert Video(path).size == size
    for short_side in (None, 288):
        for image in images(path, short_side):
            assert image.size == (size if short_side is None else (round(size[0] * 288 / min(size)), round(size[1] * 288 / min(size))))
            white = np.asarray(image)[:, :, 0] > 127
            across, down = white[image.height // 2].sum(), white[:, image.width // 2].sum()
            assert across == pytest.approx(down, abs=3)


def test_stretched_pictures_that_lie_on_their_side(tmp_path: Path) -> None:
    def prepare(stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        stream.set_display_rotation(-90)

    path = write(tmp_path / "a.mp4", [quarters(240, 240)] * 2, prepare=prepare)
    assert Video(path).size == (240, 320)
    for image in images(path):
        assert image.size == (240, 320)
        assert image.getpixel((60, 80)) == pytest.approx(BLUE, abs=12)


def test_a_shape_that_no_pixel_has_is_damage(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ts", [quarters()] * 2, prepare=lambda stream: setattr(stream.codec_context, "sample_aspect_ratio", Fraction(200)))
    assert Video(path).size == (320, 240)


# Cropping


def test_h264_is_cropped_on_the_left_and_at_the_top(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", [quarters()] * 3, options={"x264-params": "crop-rect=160,40,0,0"})
    assert Video(path).size == (160, 200)
    for image in images(path):
        assert image.getpixel((2, 20)) == pytest.approx(GREEN, abs=12)
        assert image.getpixel((2, 150)) == pytest.approx(WHITE, abs=12)


@pytest.mark.parametrize("left", [2, 6, 30])
def test_cropping_on_the_left_is_exact(left: int, tmp_path: Path) -> None:
    picture = np.full((96, 128, 3), 40, np.uint8)
    picture[:, left : left + 8] = 230
    path = write(tmp_path / "a.mp4", [picture] * 2, options={"x264-params": f"crop-rect={left},0,0,0"})
    assert Video(path).size == (128 - left, 96)
    for image in images(path):
        row = np.asarray(image)[50, :, 0]
        assert row[0] > 200
        assert row[6] > 200
        assert row[10] < 80


def with_clap(path: Path, numbers: Sequence[int]) -> Path:
    """An MP4 file with a clean aperture (ISO/IEC 14496-12, 12.1.4): width, height and the centre's shift, as fractions."""
    content = bytearray(path.read_bytes())
    box = struct.pack(">I4sIIIIiIiI", 40, b"clap", *numbers)
    start = content.index(b"moov")
    assert start > content.index(b"mdat")  # so that no offset into the pictures changes
    places = [content.index(kind, start) - 4 for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1")]
    end = places[-1] + int.from_bytes(content[places[-1] : places[-1] + 4], "big")
    for place in places:
        content[place : place + 4] = (int.from_bytes(content[place : place + 4], "big") + len(box)).to_bytes(4, "big")
    path.write_bytes(content[:end] + box + content[end:])
    return path


def labelled(stream: Any) -> None:
    context = stream.codec_context
    context.colorspace = context.color_trc = context.color_primaries = 6
    context.color_range = 1


def with_pixel_crop(path: Path, **sides: int) -> Path:
    """A Matroska file of a labelled video with PixelCrop elements in place of its Colour element."""
    content = path.read_bytes()
    place = content.index(bytes.fromhex("55b0"))
    size = content[place + 2] & 127
    kinds = {"bottom": "54aa", "top": "54bb", "left": "54cc", "right": "54dd"}
    elements = b"".join(bytes.fromhex(kinds[side]) + bytes([0x81, value]) for side, value in sides.items())
    rest = size + 3 - len(elements)
    assert 2 <= rest < 127
    path.write_bytes(content[:place] + elements + bytes([0xEC, 0x80 | (rest - 2)]) + bytes(rest - 2) + content[place + size + 3 :])
    return path


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.webm"])
def test_the_containers_cropping_is_applied(name: str, tmp_path: Path) -> None:
    codec = "libvpx-vp9" if name == "a.webm" else "libx264"
    path = write(tmp_path / name, [quarters()] * 3, codec=codec, prepare=labelled)
    if name in ("a.mp4", "a.mov"):
        with_clap(path, [150, 1, 200, 1, 75, 1, 10, 1])  # from (160, 30)
    else:
        with_pixel_crop(path, bottom=10, top=30, left=160, right=10)
    assert Video(path).size == (150, 200)
    for short_side in (None, 75):
        for image in images(path, short_side):
            assert image.size == ((150, 200) if short_side is None else (75, 100))
            assert image.getpixel((2, 3)) == pytest.approx(GREEN, abs=14)
            assert image.getpixel((2, image.height * 86 // 200)) == pytest.approx(GREEN, abs=14)
            assert image.getpixel((2, image.height * 95 // 200)) == pytest.approx(WHITE, abs=14)


@pytest.mark.parametrize(
    "numbers", [(320, 1, 240, 1, 0, 1, 0, 1), (150, 0, 200, 1, 0, 1, 0, 1), (900, 1, 900, 1, 0, 1, 0, 1), (9, 1, 9, 1, 900, 1, 0, 1)]
)
def test_cropping_that_leaves_everything_or_nothing_is_none(numbers: tuple[int, ...], tmp_path: Path) -> None:
    path = with_clap(write(tmp_path / "a.mp4", [quarters()] * 2), numbers)
    assert Video(path).size == (320, 240)
    assert Video(path).frame_at(0).image.getpixel((20, 20)) == pytest.approx(RED, abs=12)


# Orientation


def turned(packet: Any) -> Any:
    """A packet with an H.264 message (D.1.27) that the picture is to be turned by 90 degrees anticlockwise, until a message says otherwise."""
    changed = Packet(b"\0\0\0\1\x06\x2f\x03" + bytes([0b00001000, 0, 0b00001001]) + b"\x80" + bytes(packet))
    changed.pts, changed.dts, changed.time_base, changed.duration = packet.pts, packet.dts, packet.time_base, packet.duration
    changed.is_keyframe = packet.is_keyframe
    return changed


@pytest.mark.parametrize("name", ["a.ts", "a.mp4", "a.h264"])
def test_a_message_on_the_first_frame_holds_for_the_sequence(name: str, tmp_path: Path) -> None:
    path = write(
        tmp_path / name,
        [quarters()] * 12,
        options={"x264-params": "keyint=4:scenecut=0"},
        change=lambda number, packet: turned(packet) if number == 0 else packet,
    )
    assert Video(path).size == (240, 320)
    corners = []
    for image in images(path):
        assert image.size == (240, 320)
        corners.append(image.getpixel((20, 20)))
    assert len(corners) > 12
    assert all(corner == pytest.approx(corners[0], abs=12) for corner in corners)
    assert corners[0] == pytest.approx(GREEN, abs=12)


def test_a_message_on_a_later_frame_turns_that_frame_whole_and_between_bars(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.ts",
        [quarters()] * 4,
        options={"x264-params": "keyint=1"},
        change=lambda number, packet: turned(packet) if number == 2 else packet,
    )
    before, later = Video(path).frame_at(0.1).image, Video(path).frame_at(0.2).image
    assert before.size == later.size == (320, 240)
    # 320x240 turned is 240x320, and 180x240 where all frames are 320x240: bars of 70 pixels.
    for x, y, colour in ((60, 120, BLACK), (258, 120, BLACK), (80, 10, GREEN), (240, 10, WHITE), (80, 230, RED), (240, 230, BLUE)):
        assert later.getpixel((x, y)) == pytest.approx(colour, abs=12)


def _shape_pixels(shape: Fraction, stream: VideoStream) -> None:
    stream.codec_context.sample_aspect_ratio = shape


def test_pixels_that_change_their_shape_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    parts = []
    for number, shape in enumerate((Fraction(16, 15), Fraction(64, 45))):
        part = tmp_path / f"{number}.h264"
        write(part, [quarters()] * 4, prepare=partial(_shape_pixels, shape))
        parts.append(part.read_bytes())
    (tmp_path / "whole.h264").write_bytes(b"".join(parts))
    for name, warned in (("0.h264", False), ("whole.h264", True)):
        caplog.clear()
        video = Video(tmp_path / name)
        assert len(list(video.sample(10))) >= 4
        assert ("pixels are 64/45 times as wide as high" in caplog.text) == warned, caplog.text


# Fields


def woven(number: int, first: int = 0) -> Pixels:
    """A bar that moves on from the first field (rows `first`, `first` + 2, …) to the second."""
    picture = np.full((288, 352, 3), 16, np.uint8)
    for later, field in enumerate((first, 1 - first)):
        left = 60 + (2 * number + later) * 6
        picture[field::2, left : left + 40] = 235
    return picture


def edges(image: Image.Image) -> list[tuple[int, int]]:
    """The first and last bright column of some rows."""
    bright = np.asarray(image)[:, :, 0] > 125
    return [(int(np.flatnonzero(row)[0]), int(np.flatnonzero(row)[-1])) for row in bright[40:-40]]


@pytest.mark.parametrize("fields", ["tff", "bff"])
@pytest.mark.parametrize(("codec", "flags"), [("libx264", {}), ("mpeg2video", {"qmax": "2"})])
def test_moving_fields_do_not_comb(codec: str, flags: dict[str, str], fields: str, tmp_path: Path) -> None:
    pictures = [woven(number, first=int(fields == "bff")) for number in range(8)]
    path = write(tmp_path / "a.mkv", pictures, codec=codec, options={"flags": "+ilme+ildct"} | flags, fields=fields)
    video = Video(path)
    for short_side in (None, 200):
        for number, frame in enumerate(video.sample(10, short_side)):
            scale = frame.image.height / 288
            for left, right in edges(frame.image):
                assert left == pytest.approx((60 + 12 * number) * scale, abs=2)  # where the first field has it
                assert right == pytest.approx((99 + 12 * number) * scale, abs=2)


def test_fields_of_one_moment_keep_their_rows(tmp_path: Path) -> None:
    """Film on video is flagged as interlaced and does not comb."""
    picture = np.full((288, 352, 3), 16, np.uint8)
    picture[100:200, 60:300] = 235
    picture[41, 60:300] = picture[50, 60:300] = 235  # a row of each field
    path = write(tmp_path / "a.mkv", [picture] * 3, options={"flags": "+ilme+ildct"}, fields="tff")
    for image in images(path):
        for row in (41, 50):
            assert image.getpixel((200, row))[0] > 200  # type: ignore[index]
            assert image.getpixel((200, row + 1))[0] < 60  # type: ignore[index]


def test_small_pictures_average_the_fields(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", [woven(number) for number in range(3)], options={"flags": "+ilme+ildct"}, fields="tff")
    with av.open(path) as container:
        plain = [frame.reformat(176, 144, "rgb24", interpolation="AREA").to_ndarray() for frame in container.decode(video=0)]
    for frame, expected in zip(Video(path).sample(10, 144), plain, strict=True):
        assert np.array_equal(np.asarray(frame.image), expected)


# Transparency


def square(opacity: int = 255) -> Pixels:
    """A black square that alone is opaque."""
    picture = np.zeros((180, 320, 4), np.uint8)
    picture[40:140, 40:140, 3] = opacity
    return picture


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "options"),
    [
        ("a.webm", "libvpx-vp9", "yuva420p", {"auto-alt-ref": "0", "deadline": "realtime", "cpu-used": "8"}),
        ("a.webm", "libvpx", "yuva420p", {"auto-alt-ref": "0", "deadline": "realtime", "cpu-used": "8"}),
        ("a.mov", "prores_ks", "yuva444p10le", {}),
        ("a.mov", "qtrle", "argb", {}),
    ],
)
def test_transparent_pixels_are_white(name: str, codec: str, pixels: str, options: dict[str, str], tmp_path: Path) -> None:
    path = write(tmp_path / name, [square()] * 5, codec=codec, pixels=pixels, options=options)
    shown = list(images(path))
    assert len(shown) >= 9
    for image in (*shown, *images(path, 90)):
        middle, corner = (90 * image.height // 180,) * 2, (image.width - 10, 10)
        assert image.getpixel(middle) == pytest.approx(BLACK, abs=8)
        assert image.getpixel(corner) == pytest.approx(WHITE, abs=8)


def test_half_transparent_pixels_are_mixed_with_white(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mov", [square(128)] * 2, codec="qtrle", pixels="argb")
    assert Video(path).frame_at(0).image.getpixel((90, 90)) == pytest.approx((127, 127, 127), abs=1)


def test_pictures_without_a_transparent_pixel_stay_as_they_are(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (180, 320, 4), np.uint8)
    noise[:, :, 3] = 255
    path = write(tmp_path / "a.mov", [noise] * 2, codec="qtrle", pixels="argb")
    with av.open(path) as container:
        expected = next(container.decode(video=0)).reformat(160, 90, "rgb24", interpolation="AREA").to_ndarray()
    assert np.array_equal(np.asarray(Video(path).frame_at(0, 90).image), expected)


def test_vp9_with_transparency_is_decoded_by_a_plan(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "act2see.video")
    pictures = []
    for number in range(20):
        picture = square()
        picture[:, :, :3] = 12 * number
        pictures.append(picture)
    path = write(tmp_path / "a.webm", pictures, codec="libvpx-vp9", pixels="yuva420p", options={"auto-alt-ref": "0", "g": "5", "cpu-used": "8"})
    video = Video(path)
    for number in (17, 3, 9):
        assert video.frame_at(number / 10).image.getpixel((90, 90)) == pytest.approx((12 * number,) * 3, abs=8)
    assert len(list(video.keyframes())) == 4
    assert "slower decoding" not in caplog.text


def test_animated_webp_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.webp"
    colours = [Image.new("RGB", (32, 32), colour) for colour in ("red", "green")]
    colours[0].save(path, save_all=True, append_images=colours[1:], duration=100)
    with pytest.raises(VideoError, match=r"a\.webp is a WebP picture, and animated WebP is not read: convert it to a video file"):
        Video(path)


# Dolby Vision


@pytest.mark.parametrize("transfer", [2, 16])
@pytest.mark.parametrize("tag", ["dvh1", "hvc1"])
def test_dolby_vision_without_a_base_layer_is_refused(tag: str, transfer: int, tmp_path: Path) -> None:
    def prepare(stream: Any) -> None:
        stream.codec_tag = tag
        stream.codec_context.color_trc = transfer

    options = {"preset": "ultrafast", "x265-params": "log-level=none"}
    for _ in range(40):  # PyAV 18.1 fails now and then to write HEVC of a few frames as MP4
        with suppress(av.error.PatchWelcomeError):
            path = write(tmp_path / "a.mp4", [quarters()] * 2, codec="libx265", options=options, prepare=prepare)
            break
    if tag == "dvh1" and transfer == 2:
        with pytest.raises(VideoError, match=r"a\.mp4 is Dolby Vision without a base layer \(profile 5\)"):
            Video(path)
    else:
        assert Video(path).frame_at(0).image.size == (320, 240)


@pytest.mark.parametrize("profile", [0, 1])
def test_dolby_visions_metadata_tells_whether_there_is_a_base_layer(profile: int) -> None:
    """The beginning of FFmpeg's AVDOVIMetadata, and its header with `vdr_rpu_profile`: 0 in profile 5, 1 in those with a base layer."""
    header = 64
    data = struct.pack("@NNN", header, header + 16, header + 32).ljust(header, b"\0") + bytes([2, 0, 18, 0, profile, 0]).ljust(64, b"\0")
    frame, nothing = av.VideoFrame(64, 64, "yuv420p"), cast("VideoStream", None)
    found = {SideDataType.DOVI_METADATA: data}
    if profile == 0:
        with pytest.raises(VideoError, match="Dolby Vision without a base layer"):
            check_base_layer(Path("a.mp4"), nothing, frame, found)
    else:
        check_base_layer(Path("a.mp4"), nothing, frame, found)
