"""Files that are open, go away or change."""

import gc
import os
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest

from act2see.core.errors import VideoError
from act2see.core.trace import Frame
from act2see.video import Video

Write = Callable[..., Path]
NumberOf = Callable[[Frame], int]


def open_files() -> list[str]:
    links = (f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd"))
    return sorted(os.readlink(link) for link in links if os.path.exists(link))


def test_nothing_stays_open(write_video: Write) -> None:
    path = write_video("clip.mp4", [Fraction(number, 24) for number in range(48)])
    video = Video(path)
    frames = video.sample(1)
    assert next(frames).seconds == 0
    assert str(path) in open_files()  # streaming
    del frames
    video.frame_at(1)
    list(video.sample(1))
    with pytest.raises(VideoError):
        Video(path.with_name("none.mp4"))
    gc.collect()
    assert str(path) not in open_files()


@pytest.mark.parametrize("name", ["clip.mp4", "clip.h264"])  # by the plan, and plainly
def test_decoded_frames_are_let_go(name: str, write_video: Write) -> None:
    kind = {"clock": 24, "file_format": "h264"} if name == "clip.h264" else {}
    video = Video(write_video(name, [Fraction(number, 24) for number in range(120)], **kind))
    gc.collect()
    gc.disable()  # what waits for the collector may wait for hundreds of frames, of megabytes each
    try:
        for number, _ in enumerate(video.sample(24, short_side=32)):
            if number % 40 == 39:
                assert sum(issubclass(type(thing), av.VideoFrame) for thing in gc.get_objects()) < 20
    finally:
        gc.enable()


def test_a_file_that_went_away(write_video: Write) -> None:
    path = write_video("clip.mp4", [0, 1])
    video = Video(path)
    path.unlink()
    with pytest.raises(VideoError, match="No such file"):
        video.frame_at(0)


def test_digest_is_about_the_content(write_video: Write) -> None:
    path = write_video("clip.mp4", [0, 1])
    digest = Video(path).digest
    assert re.fullmatch("[0-9a-f]{64}", digest)
    copy = path.with_name("copy.mp4")
    copy.write_bytes(path.read_bytes())
    assert Video(copy).digest == digest
    for changed in (path.read_bytes() + b"\0", path.read_bytes()[:-1] + b"\1"):
        copy.write_bytes(changed)
        assert Video(copy).digest != digest
    padding = bytearray(3 << 20)  # what lies in the middle of a large file is not read
    copy.write_bytes(path.read_bytes() + padding)
    large = Video(copy).digest
    padding[3 << 19] = 1
    copy.write_bytes(path.read_bytes() + padding)
    assert Video(copy).digest == large
