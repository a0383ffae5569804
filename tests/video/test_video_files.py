"""Files that are open, go away or change."""

import gc
import os
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from act2see.errors import VideoError
from act2see.trace import Frame
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
