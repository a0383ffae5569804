"""What is damaged gives what is left of it."""

import re
import subprocess
import sys
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


@pytest.mark.parametrize(("name", "options"), [("cut.mp4", {"movflags": "faststart"}), ("cut.mkv", {}), ("cut.ts", {})])
def test_a_cut_file_gives_what_is_left(name: str, options: dict[str, str], write_video: Write, number_of: NumberOf) -> None:
    times = [Fraction(number, 24) for number in range(240)]
    path = write_video(name, times, file_options=options, options={"g": "24", "bf": "0"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    video = Video(path)
    assert 3 < video.duration_seconds < 8
    numbers = [number_of(frame) for frame in video.sample(24)]
    assert numbers == list(range(len(numbers)))
    assert len(video.times(24)) - len(numbers) <= 1
    assert video.duration_seconds == pytest.approx(len(numbers) / 24, abs=1.5 / 24)
    assert number_of(video.frame_at(2)) == 48
    with pytest.raises(VideoError, match=r"no frame at 9\.50 s"):
        video.frame_at(9.5)
    if name != "cut.ts":  # its format does not say how long it should be
        assert video.damage is not None
        assert re.fullmatch(rf"{name} is damaged: it ends after \d\.\d\d s although its header says 10\.00 s.*", video.damage)


def test_damage_in_the_middle_loses_no_frame_number(write_video: Write, number_of: NumberOf) -> None:
    times = [Fraction(number, 24) for number in range(240)]
    path = write_video("hurt.mp4", times, options={"g": "24", "bf": "0"})
    with av.open(path) as container:
        places = [packet.pos for packet in container.demux(video=0) if packet.pos is not None]
    content = bytearray(path.read_bytes())
    for number in (60, 61, 62, 100):
        content[places[number] : places[number + 1]] = b"\xff" * (places[number + 1] - places[number])
    path.write_bytes(content)
    video = Video(path)
    found = {round((frame.seconds or 0) * 24): number_of(frame) for frame in video.sample(24)}
    for place in (*range(60), *range(72, 96), *range(120, 240)):  # between two key frames of which none is hurt
        assert found[place] == place
    assert video.damage == "hurt.mp4 is damaged: 4 packets cannot be decoded"
    assert number_of(video.frame_at(61 / 24)) == 59  # what a player would still show
    assert video.duration_seconds == pytest.approx(10)


def test_a_cut_at_any_byte_is_an_error_or_a_shorter_video(write_video: Write, number_of: NumberOf) -> None:
    path = write_video("cut.mkv", [Fraction(number, 24) for number in range(48)], options={"bf": "0"})
    content = path.read_bytes()
    for length in range(0, len(content), max(1, len(content) // 30)):
        path.write_bytes(content[:length])
        try:
            numbers = [number_of(frame) for frame in Video(path).sample(24)]
        except VideoError:
            continue
        assert numbers == list(range(len(numbers)))


def test_damage_prints_nothing(write_video: Write) -> None:
    path = write_video("cut.mkv", [Fraction(number, 24) for number in range(240)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    code = f"from act2see.video import Video; video = Video({str(path)!r}); list(video.sample(5)); assert video.damage"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")
