"""How many initial frames are shown and how large they are kept: what a processor makes of them stays what it makes of the whole ones."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Generator as Yields
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize

from act2see.backends.encoder import Encoder
from act2see.backends.openai import OpenAIBackend, OpenAISettings
from act2see.core import chat
from act2see.core.engine import frames_left_out, insert, new_trace, reason
from act2see.core.errors import BackendError, VideoError
from act2see.core.framing import (
    LEAST_LONG_SIDE,
    MAX_ASPECT,
    SERVER_PICTURES,
    SERVER_PIXELS,
    FrameLimit,
    Processor,
    at_size,
    most_that_fit,
    server_limit,
)
from act2see.core.interfaces import Continuation, LimitsFrames
from act2see.core.trace import Cost, Frame, Observation, Trace
from act2see.execution.metering import CostTrackingBackend
from act2see.video import Video
from engine_fakes import ANSWER, CALL, Numbered, Scripted

Write = Callable[..., Path]
QWEN3 = (32, 65_536, 16_777_216)
MICRO = (16, 4096, 4096)
SMALL = (32, 65_536, 256 * 1024)


def processor(factor: int, least: int, most: int) -> Any:
    return Qwen2VLImageProcessorPil(patch_size=factor // 2, merge_size=2, size={"shortest_edge": least, "longest_edge": most})


def textured(size: tuple[int, int]) -> Image.Image:
    """A picture with edges, ramps and grain."""
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (12, 20, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
    grain = random.integers(-12, 13, (size[1], size[0], 3))
    return Image.fromarray((np.asarray(coarse, np.int16) + grain).clip(0, 255).astype(np.uint8))


sides = st.integers(8, 4000)


@settings(max_examples=300, deadline=None)
@given(width=sides, height=sides, limits=st.sampled_from([QWEN3, MICRO, SMALL, (28, 3136, 1_003_520)]))
def test_sizes_are_those_of_transformers(width: int, height: int, limits: tuple[int, int, int]) -> None:
    factor, least, most = limits
    ours = Processor(*limits)
    if max(width, height) > MAX_ASPECT * min(width, height):
        with pytest.raises(ValueError, match="absolute aspect ratio"):
            smart_resize(height, width, factor, least, most)
        with pytest.raises(VideoError, match=f"its pictures have {width}x{height} pixels"):
            ours.seen((width, height))
        return
    seen = smart_resize(height, width, factor, least, most)[::-1]
    assert ours.seen((width, height)) == seen
    kept = ours.kept((width, height))
    if kept is not None:
        assert kept[0] <= width
        assert kept[1] <= height
        assert kept[0] * kept[1] < width * height
        assert smart_resize(kept[1], kept[0], factor, least, most)[::-1] == seen
        assert max(kept) >= LEAST_LONG_SIDE


@pytest.mark.parametrize("size", [(1920, 1080), (1280, 720), (1080, 1920), (3840, 2160), (1000, 999)])
def test_the_processors_result_is_the_same_bytes(size: tuple[int, int]) -> None:
    kept = Processor(*SMALL).kept(size)
    assert kept is not None
    whole, make = textured(size), processor(*SMALL)
    smaller = at_size(Frame(whole, 0.0), kept, size).image
    assert smaller.size == kept
    before, after = make(images=[whole], return_tensors="np"), make(images=[smaller], return_tensors="np")
    assert np.array_equal(before["image_grid_thw"], after["image_grid_thw"])
    assert np.array_equal(before["pixel_values"], after["pixel_values"])


@pytest.mark.parametrize("size", [(1920, 1080), (640, 640), (480, 853)])
def test_the_embedded_model_sees_the_same_within_rounding(size: tuple[int, int]) -> None:
    # It sees fewer pixels than a report shows, so that its processor scales once more.
    kept = Processor(*MICRO).kept(size)
    assert kept is not None
    assert max(kept) == LEAST_LONG_SIDE
    whole, make = textured(size), processor(*MICRO)
    before, after = (make(images=[one], return_tensors="np") for one in (whole, at_size(Frame(whole, 0.0), kept, size).image))
    assert np.array_equal(before["image_grid_thw"], after["image_grid_thw"])
    assert np.abs(before["pixel_values"] - after["pixel_values"]).mean() < 1 / 127.5  # one step of 256


@pytest.mark.parametrize(
    ("limits", "size"),
    [(MICRO, (256, 256)), (MICRO, (320, 180)), (QWEN3, (1920, 1080)), (QWEN3, (3840, 2160)), (SMALL, (640, 360)), (SMALL, (512, 512))],
)
def test_what_is_small_enough_is_kept_as_it_is(limits: tuple[int, int, int], size: tuple[int, int]) -> None:
    assert Processor(*limits).kept(size) is None


def test_a_native_video_shares_its_pixels() -> None:
    videos = Processor(32, 4096, 25_165_824)
    assert videos.kept((1920, 1080), 2) is None
    sizes = [videos.kept((1920, 1080), frames) for frames in (64, 256, 768)]
    areas = [size[0] * size[1] for size in sizes if size is not None]
    assert len(areas) == 3
    assert areas == sorted(areas, reverse=True)
    assert all(area * frames <= 25_165_824 for area, frames in zip(areas[:2], (64, 256), strict=True))


def test_how_many_fit() -> None:
    assert most_that_fit(600, lambda count: count * 25, 6144) == 245
    assert most_that_fit(10, lambda count: count * 25, 6144) == 10
    assert most_that_fit(10, lambda count: count * 25, 1) == 1


@given(frames=st.integers(1, 5000), width=st.integers(1, 8000), height=st.integers(1, 4000))
def test_a_server_is_sent_no_more_than_fits(frames: int, width: int, height: int) -> None:
    limit = server_limit((width, height), frames)
    assert limit.frames == min(frames, SERVER_PICTURES)
    kept = limit.size or (width, height)
    assert limit.frames * kept[0] * kept[1] <= max(SERVER_PIXELS, limit.frames * max(kept))
    assert limit.size is None or width * height * limit.frames > SERVER_PIXELS


def test_short_videos_go_to_a_server_as_they_are() -> None:
    assert server_limit((1920, 1080), 60) == FrameLimit(60, None, None)
    assert server_limit((1920, 1080), 600) == FrameLimit(128, (1365, 768), (1365, 768))


@dataclass
class Limited(Scripted):
    """A model that takes in a few small frames."""

    limit: FrameLimit = field(default_factory=lambda: FrameLimit(3, (64, 32), (32, 16)))
    asked: list[tuple[tuple[int, int], int]] = field(default_factory=list)

    def frame_limit(self, size: tuple[int, int], frames: int) -> FrameLimit:
        self.asked.append((size, frames))
        return FrameLimit(min(frames, self.limit.frames), self.limit.size, self.limit.brought)


@pytest.fixture
def ten_seconds(write_video: Write) -> Video:
    return Video(write_video("clip.mp4", [Fraction(number, 2) for number in range(20)], fps=2))


def test_a_trace_has_what_the_model_takes_in(ten_seconds: Video) -> None:
    backend = Limited([ANSWER])
    trace = new_trace(ten_seconds, "What?", (), fps=1, id="t", backend=backend)
    assert [frame.seconds for frame in trace.frames] == [0.0, 4.0, 9.0]
    assert {frame.image.size for frame in trace.frames} == {(64, 32)}
    assert backend.asked == [((128, 64), 10)]
    assert trace.made_with == {"initial_frames": "3 of 10"}
    assert frames_left_out(trace) == 7
    list(reason(trace, ten_seconds, backend, None))
    assert trace.made_with["initial_frames"] == "3 of 10"


def test_max_frames_spreads_them_evenly(ten_seconds: Video) -> None:
    for most, times in ((1, [0]), (2, [0, 9]), (4, [0, 3, 6, 9]), (10, list(range(10))), (99, list(range(10)))):
        trace = new_trace(ten_seconds, "What?", (), fps=1, id="t", max_frames=most)
        assert [frame.seconds for frame in trace.frames] == times
        assert frames_left_out(trace) == 10 - len(times)
        assert ("initial_frames" in trace.made_with) == (len(times) < 10)
    assert Limited([]).frame_limit((1, 1), 2).frames == 2
    assert len(new_trace(ten_seconds, "What?", (), fps=1, id="t", backend=Limited([]), max_frames=2).frames) == 2
    assert len(new_trace(ten_seconds, "What?", (), fps=1, id="t", backend=Limited([]), max_frames=5).frames) == 3


def test_nothing_changes_where_nothing_bites(ten_seconds: Video) -> None:
    as_before = new_trace(ten_seconds, "What?", (), fps=2, id="t")
    for backend in (Scripted([]), Limited([], limit=FrameLimit(20))):
        trace = new_trace(ten_seconds, "What?", (), fps=2, id="t", backend=backend)
        assert [(one.seconds, one.image.tobytes()) for one in trace.frames] == [(one.seconds, one.image.tobytes()) for one in as_before.frames]
        assert trace.made_with == {}


def test_frames_that_a_look_brings_are_bounded_too(ten_seconds: Video) -> None:
    @dataclass
    class Whole(Numbered):
        def find(self, video: Video, *args: Any, **options: Any) -> Sequence[Frame]:
            return (video.frame_at(2.0),)

    backend = Limited([CALL, ANSWER])
    trace = new_trace(ten_seconds, "What?", (), fps=1, id="t", backend=backend)
    list(reason(trace, ten_seconds, backend, Whole()))
    assert [step.frames[0].image.size for step in trace.steps if isinstance(step, Observation)] == [(32, 16)]
    insert(trace, ten_seconds, Whole(), backend=backend)
    assert {frame.image.size for frame in trace.frames} == {(64, 32)}


def test_the_limit_is_found_behind_what_is_wrapped_around_a_backend(ten_seconds: Video) -> None:
    wrapped = CostTrackingBackend(CostTrackingBackend(Limited([ANSWER])))
    assert not isinstance(wrapped, LimitsFrames)
    assert len(new_trace(ten_seconds, "What?", (), fps=1, id="t", backend=wrapped).frames) == 3


def test_a_backend_that_says_nothing_is_taken_for_a_servers(write_video: Write) -> None:
    video = Video(write_video("long.mp4", [Fraction(number, 24) for number in range(200)]))
    assert frames_left_out(new_trace(video, "What?", (), fps=24, id="t", backend=Scripted([]))) == 200 - SERVER_PICTURES


def test_a_server_has_room_for_the_looks(write_video: Write) -> None:
    backend = OpenAIBackend(OpenAISettings("m", "http://127.0.0.1:9/v1", max_frames=125))
    assert backend.frame_limit((128, 64), 200) == FrameLimit(125)


@pytest.mark.parametrize("said", ["", "3", "3 of", "5 of 3", "many of 10", "1 of 99999999999999999999"])
def test_what_a_trace_from_elsewhere_says_is_not_trusted(said: str) -> None:
    assert frames_left_out(Trace("t", "a.mp4", "What?", (), made_with={"initial_frames": said})) == 0


class Refusing:
    """A model that the pictures of no video fit."""

    made_with: Mapping[str, str] = {}

    def frame_limit(self, size: tuple[int, int], frames: int) -> FrameLimit:
        Processor(*QWEN3).seen((2048, 8))
        return FrameLimit(frames)

    def decode(self, trace: Trace, tools: Sequence[chat.Tool]) -> Yields[str, None, Continuation]:
        yield ""
        return Continuation("", "end", Cost())


def test_pictures_that_are_too_long_are_one_line_with_the_videos_name(ten_seconds: Video) -> None:
    with pytest.raises(VideoError, match=r"^clip\.mp4: its pictures have 2048x8 pixels; .* 200 times as long as wide: pad them"):
        new_trace(ten_seconds, "What?", (), fps=1, id="t", backend=Refusing())


# The encoder of a local model


def test_the_embedded_encoder_says_how_many_fit(merging_encoder: Encoder) -> None:
    limit = merging_encoder.frame_limit((1920, 1080), 600, 6144)
    tokens = 80 * 48 // 256 + 2 + len(merging_encoder.words(chat.seconds_tag(3599.0)))
    assert limit == FrameLimit(6144 // tokens, (320, 180), (320, 180))
    assert merging_encoder.frame_limit((256, 256), 10, 6144) == FrameLimit(10)


class Videos:
    """What Qwen3-VL's video processor says of itself (it needs torchvision): transformers 5.23's numbers."""

    patch_size, merge_size, temporal_patch_size, max_frames = 16, 2, 2, 768
    size: Mapping[str, int] = {"shortest_edge": 4096, "longest_edge": 25_165_824}


def test_a_native_video_has_its_processors_limits(merging_encoder: Encoder) -> None:
    both = Encoder(merging_encoder.tokenizer, processor(*QWEN3), Videos())
    limit = both.frame_limit((1920, 1080), 3600, 196_608, as_video=True)
    assert limit.frames == 768
    assert limit.size is not None
    assert max(limit.size) == LEAST_LONG_SIDE
    assert limit.brought is None
    few = both.frame_limit((1920, 1080), 7, 196_608, as_video=True)
    assert few == FrameLimit(7)
    assert both.frame_limit((1920, 1080), 100, 2000, as_video=True).frames < 100


def test_what_a_processor_refuses_is_one_line(merging_encoder: Encoder) -> None:
    frames = (Frame(textured((1000, 4)), 0.0),)
    with pytest.raises(BackendError, match="the model's processor refuses a picture of 1000x4 pixels"):
        merging_encoder.encode([chat.Picture(frames[0])])


def frames_of(*sizes: tuple[int, int]) -> Iterator[Frame]:
    return (Frame(textured(size), float(number)) for number, size in enumerate(sizes))


def test_a_native_video_of_two_sizes_is_one_line(merging_encoder: Encoder) -> None:
    both = Encoder(merging_encoder.tokenizer, processor(*QWEN3), Videos())
    with pytest.raises(BackendError, match="need one size, and these have 32x32 and 64x32 pixels"):
        both.encode([chat.Clip(tuple(frames_of((64, 32), (32, 32), (64, 32))))])
