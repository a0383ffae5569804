"""PQ and HLG are tone mapped to what a person sees on an SDR display, and HD without a colour label is read as players read it."""

import json
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

import act2see
from act2see.video import Video, hdr
from act2see.video.pictures import FrameConverter

COLOURS = [(200, 30, 30), (30, 160, 40), (30, 40, 200), (220, 200, 30), (224, 172, 140), (255, 255, 255)]
WIDTH, HEIGHT = 384, 216
PQ, HLG = 16, 18
BT2020, P3 = 9, 12
Floats = NDArray[np.float64]
_TO_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])  # ITU-R BT.2087
_LUMA = np.array([0.2627, 0.6780, 0.0593])


def light_of(colours: Any) -> Floats:
    """Linear light of sRGB colours, 1 for white, of shape (…, 3)."""
    code = np.asarray(colours) / 255
    return np.asarray(np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4))


def coded(light: Floats, trc: int) -> Floats:
    """PQ or HLG codes from 0 to 1 of light with BT.2020 primaries, with white at 203 cd/m² (BT.2408)."""
    if trc == PQ:
        power = (light * 203 / 10_000) ** 0.1593017578125
        return np.asarray(((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375)
    display = light * 203 / 1000
    scene = display * np.maximum(display @ _LUMA, 1e-9)[..., None] ** (1 / 1.2 - 1)
    code: Floats = np.where(scene <= 1 / 12, np.sqrt(3 * scene), 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073)
    return code


def picture(codes: Floats, trc: int, *, primaries: int = BT2020, matrix: int = 9) -> VideoFrame:
    """Limited-range YUV of codes of shape (height, width, 3), with BT.2020's matrix."""
    luma = codes @ _LUMA
    blue, red = (codes[..., 2] - luma) / 1.8814, (codes[..., 0] - luma) / 1.4746
    planes = (64 * np.stack([64 + 876 * luma, 512 + 896 * blue, 512 + 896 * red], axis=-1)).round().astype(np.uint16)
    frame = VideoFrame.from_ndarray(planes, format="yuv444p16le")
    frame.color_trc, frame.color_primaries, frame.colorspace, frame.color_range = trc, primaries, matrix, 1
    return frame


def columns(codes: Floats, trc: int, *, primaries: int = BT2020, matrix: int = 9) -> VideoFrame:
    """One column a code triple."""
    return picture(np.repeat(codes[None], HEIGHT, 0).repeat(WIDTH // len(codes), 1), trc, primaries=primaries, matrix=matrix)


def write(path: Path, frames: Iterable[VideoFrame], rate: int = 1) -> Path:
    """HDR10 or HLG in HEVC, with the labels of the frames. Matroska, because PyAV 18.1 fails now and then to write HEVC as MP4."""
    with av.open(path, "w") as container:
        stream: Any = container.add_stream("libx265", rate=rate, options={"x265-params": "log-level=none:crf=6", "preset": "veryfast"})
        for number, frame in enumerate(frames):
            if number == 0:
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "yuv420p10le"
                context = stream.codec_context
                context.color_trc, context.color_primaries, context.colorspace, context.color_range = frame.color_trc, frame.color_primaries, 9, 1
            small = VideoReformatter().reformat(frame, format="yuv420p10le", dst_colorspace=9)
            small.pts, small.time_base = number, Fraction(1, rate)
            container.mux(stream.encode(small))
        container.mux(stream.encode(None))
    return path


def seen(image: Any) -> Any:
    """The six columns' colours, of shape (6, 3)."""
    pixels = np.asarray(image).astype(int)
    assert pixels.shape[2] == 3
    return pixels[pixels.shape[0] // 2, [round(pixels.shape[1] * (at + 0.5) / 6) for at in range(6)]]


@pytest.mark.parametrize("trc", [PQ, HLG])
def test_every_way_to_a_frame_shows_what_a_person_sees(trc: int, tmp_path: Path) -> None:
    video = Video(write(tmp_path / "a.mkv", [columns(coded(light_of(COLOURS) @ _TO_BT2020.T, trc), trc)] * 3))
    sampled = [frame.image for frame in video.sample(1, short_side=100)]
    assert len(sampled) == 3
    for image in (video.frame_at(1).image, *sampled, *(frame.image for frame in video.keyframes())):
        # The aim is 40, by which libplacebo and OpenCV 5 differ. White leaves room for what is brighter.
        assert abs(seen(image)[:5] - COLOURS[:5]).max() <= 10
        assert seen(image)[5].min() >= 235
        assert image.mode == "RGB"
    assert video.colours is None


@pytest.mark.parametrize("trc", [PQ, HLG])
def test_greys_stay_greys_and_in_order(trc: int) -> None:
    nits = np.array([0, 1, 5, 20, 50, 100, 140, 203, 400, 600, 800, 1000])
    frame = columns(coded(np.repeat(nits[:, None] / 203, 3, 1), trc), trc)
    pixels = np.asarray(FrameConverter((WIDTH, HEIGHT)).image(frame))[0, WIDTH // 24 :: WIDTH // 12].astype(int)
    assert np.ptp(pixels, axis=1).max() <= 1
    assert (np.diff(pixels[:, 1]) > 0)[:9].all()
    assert (np.diff(pixels[:, 1]) >= 0).all()
    assert pixels[-1].min() >= 252
    assert pixels[5, 1] == pytest.approx(184, abs=2)  # half of white's light


def test_highlights_keep_their_hue() -> None:
    light = np.array([[900.0, 90, 90], [90, 900, 90], [90, 90, 900], [900, 900, 90], [90, 900, 900], [900, 90, 900]]) / 203
    pixels = seen(FrameConverter((WIDTH, HEIGHT)).image(columns(coded(light @ _TO_BT2020.T, PQ), PQ)))
    for pixel, bright in zip(pixels, light > 1, strict=True):
        assert pixel[bright].min() >= 220
        assert pixel[~bright].max() < 140


@pytest.mark.parametrize("primaries", [1, P3])
def test_other_primaries_are_their_own(primaries: int) -> None:
    to = {1: np.eye(3), P3: np.array([[0.8225, 0.1774, 0], [0.0332, 0.9669, 0], [0.0171, 0.0724, 0.9108]])}[primaries]
    frame = columns(coded(light_of(COLOURS) @ to.T, PQ), PQ, primaries=primaries)
    pixels = seen(FrameConverter((WIDTH, HEIGHT)).image(frame))
    assert abs(pixels[:5] - COLOURS[:5]).max() <= 12


def test_a_missing_matrix_label_is_bt2020s() -> None:
    frame = columns(coded(light_of(COLOURS) @ _TO_BT2020.T, PQ), PQ, primaries=2, matrix=2)
    assert abs(seen(FrameConverter((WIDTH, HEIGHT)).image(frame))[:5] - COLOURS[:5]).max() <= 10


@pytest.mark.parametrize("trc", [PQ, HLG])
def test_the_table_is_close_to_the_arithmetic(trc: int) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (WIDTH, 3))
    frame = columns(coded(light_of(colours) @ _TO_BT2020.T, trc), trc)
    planes = VideoReformatter().reformat(frame, format=hdr.PIXEL_FORMAT)
    pixels = np.asarray(hdr.tone_mapped(planes, trc, BT2020))[0].astype(int)
    off = abs(pixels - colours)[colours.max(axis=1) < 220]  # the rest is above the knee
    assert off.mean() < 2
    assert np.percentile(off, 99) < 16


@pytest.mark.parametrize(("size", "shown"), [((1280, 720), True), ((720, 1280), True), ((1280, 534), True), ((720, 576), False), ((854, 480), False)])
@pytest.mark.parametrize("labelled", [None, 1, 6])
def test_hd_without_a_label_is_bt709(size: tuple[int, int], shown: bool, labelled: int | None) -> None:
    """`shown`: BT.709 is right for unlabelled pictures of this size."""
    left, right = (200, 30, 30), (30, 160, 40)
    picture = np.empty((size[1], size[0], 3), np.uint8)
    picture[:, : size[0] // 2], picture[:, size[0] // 2 :] = left, right
    is_bt709 = shown if labelled is None else labelled == 1
    frame = VideoFrame.from_ndarray(picture).reformat(format="yuv420p", dst_colorspace=1 if is_bt709 else 5)
    frame.colorspace = 2 if labelled is None else labelled
    image = FrameConverter((100, 100)).image(frame)
    assert image.getpixel((20, 50)) == pytest.approx(left, abs=4)
    assert image.getpixel((80, 50)) == pytest.approx(right, abs=4)


DEMO = Path(act2see.__file__).parent / "synthetic" / "demo"


@pytest.mark.slow
def test_the_embedded_model_answers_about_an_hdr_clip_as_about_the_sdr_one(tmp_path: Path) -> None:
    item = next(item for item in json.loads((DEMO / "questions.json").read_text()) if item["video"] == "clip-1.mp4")
    clips, light = [DEMO / item["video"]], light_of(np.arange(256))
    with av.open(clips[0]) as container:
        rate = round(container.streams.video[0].average_rate or 24)
        pixels = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    for trc in (PQ, HLG):
        frames = (picture(coded(light[one] @ _TO_BT2020.T, trc), trc) for one in pixels)
        clips.append(write(tmp_path / f"{trc}.mkv", frames, rate))
    config = act2see.AskConfig(choices=tuple(item["choices"]))
    models = act2see.load_models(config)
    answers = [act2see.ask(clip, item["question"], config, models=models).trace.answer for clip in clips]
    assert item["answer"] in str(answers[0])
    assert answers == answers[:1] * 3
