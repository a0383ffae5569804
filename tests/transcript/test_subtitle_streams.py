"""Subtitles of a container and of files beside it: which are read, at which times, and what is said of those that are not."""

from pathlib import Path

import pytest

from act2see.core.errors import ConfigError
from act2see.video import Video
from act2see.video.transcript.subtitles import beside, read_file, read_subtitles
from word_videos import TALK, Cue, srt, write_talk

HEARD = [(0.5, 1.4, "Welcome everybody"), (1.5, 2.4, "Now to the budget of next year"), (2.5, 2.9, "Thank you & bye")]


def lines(path: Path) -> list[tuple[float, float, str]]:
    return [(round(line.start_seconds, 3), round(line.stop_seconds, 3), line.text) for line in read_subtitles(Video(path)).lines]


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "mov_text"), ("a.mkv", "subrip"), ("a.mkv", "webvtt")])
def test_a_containers_text_has_its_times(tmp_path: Path, name: str, codec: str) -> None:
    assert lines(write_talk(tmp_path / name, [(codec, TALK)])) == HEARD


@pytest.mark.parametrize("name", ["a.mkv", "a.ts"])
def test_times_are_since_the_first_frame_where_the_containers_clock_starts_late(tmp_path: Path, name: str) -> None:
    path = write_talk(tmp_path / name, [("subrip", TALK)] if name == "a.mkv" else [], starts_at=7.0)
    (tmp_path / "a.srt").write_text(srt(TALK), encoding="utf-8")
    assert float(Video(path).zero_seconds) == pytest.approx(7.0, abs=2.0)
    assert lines(path) == HEARD


def test_ass_is_read_without_its_styles_and_drawings(tmp_path: Path) -> None:
    path = tmp_path / "a.ass"
    events = (
        r"Dialogue: 0,0:00:01.00,0:00:02.50,Default,,0,0,0,,{\i1}Hello{\i0}, you\Nthere",
        r"Dialogue: 0,0:00:02.00,0:00:02.50,Default,,0,0,0,,{\p1}m 0 0 l 100 0{\p0}",
    )
    path.write_text(
        "[Script Info]\nScriptType: v4.00+\n\n[Events]\nFormat: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
        + "\n".join(events)
        + "\n",
        encoding="utf-8",
    )
    (line,) = read_file(path)
    assert (line.start_seconds, line.stop_seconds, line.text) == (1.0, 2.5, "Hello, you there")


def test_webvtt_is_read_without_its_marks(tmp_path: Path) -> None:
    path = tmp_path / "a.vtt"
    path.write_text("WEBVTT\n\n00:01.000 --> 00:02.500 align:start\n<v Ann>a&nbsp;{b} <00:00:01.500><c>c</c> <00:00:02.000>d\n", encoding="utf-8")
    (line,) = read_file(path)
    assert (line.start_seconds, line.stop_seconds, line.text) == (1.0, 2.5, "a {b} c d")


def test_of_several_streams_one_is_read_and_the_others_are_named(tmp_path: Path) -> None:
    other: tuple[Cue, ...] = ((0.5, 1.0, "Willkommen"),)
    found = read_subtitles(Video(write_talk(tmp_path / "a.mkv", [("subrip", TALK), ("subrip", other)], languages=["eng", "ger"])))
    assert found.source == "subtitles:stream 1 (eng)"
    assert {line.source for line in found.lines} == {found.source}
    assert found.notes == ("a.mkv has more subtitles, which are not read: stream 2 (ger)",)


def test_subtitles_that_are_pictures_are_told_in_one_line(tmp_path: Path) -> None:
    import av

    source, path = write_talk(tmp_path / "plain.mkv", []), tmp_path / "a.mkv"
    with av.open(source) as given, av.open(path, "w") as container:
        video = container.add_stream_from_template(given.streams.video[0])
        container.add_stream("dvdsub")
        for packet in given.demux(video=0):
            if packet.dts is not None:
                packet.stream = video
                container.mux(packet)
    found = read_subtitles(Video(path))
    assert found.lines == ()
    assert found.notes == ("the subtitles of stream 1 in a.mkv are pictures, not text: they are not read",)


def test_files_beside_are_read_in_order_until_one_has_lines(tmp_path: Path) -> None:
    video = write_talk(tmp_path / "talk.mp4", [])
    (tmp_path / "talk.srt").write_text("no subtitles at all", encoding="utf-8")
    (tmp_path / "talk.en.srt").write_text(srt(TALK), encoding="utf-8")
    (tmp_path / "talk2.srt").write_text(srt(TALK), encoding="utf-8")
    assert [path.name for path in beside(video)] == ["talk.srt", "talk.en.srt"]
    found = read_subtitles(Video(video))
    assert found.source == "subtitles:talk.en.srt"
    assert [line.text for line in found.lines] == [text for _, _, text in HEARD]
    (note,) = found.notes
    assert note.endswith("talk.srt contains no subtitles: no line has a timestamp such as 00:01:02,500 --> 00:01:04,000")


def test_ten_thousand_lines_are_read_and_control_characters_are_not(tmp_path: Path) -> None:
    path = tmp_path / "a.srt"
    path.write_text(srt([(at / 2, at / 2 + 0.4, f"line\x1b[31m {at}\u202e") for at in range(10_000)]), encoding="utf-8")
    found = read_file(path)
    assert len(found) == 10_000
    assert found[-1].text == "line[31m 9999"


def test_an_unknown_kind_of_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"known are \.srt, \.vtt, \.ass, \.ssa"):
        read_file(tmp_path / "a.txt")


def test_a_cut_that_begins_between_key_frames_has_the_texts_at_its_pictures_times(tmp_path: Path) -> None:
    import av

    source = write_talk(tmp_path / "whole.mp4", [("mov_text", ((0.5, 1.0, "zero"), (2.4, 2.6, "after the cut")))])
    path = tmp_path / "cut.mp4"
    with av.open(source) as given, av.open(path, "w") as container:
        streams = {stream.index: container.add_stream_from_template(stream) for stream in given.streams}
        for packet in given.demux():
            if packet.dts is None or packet.pts is None or packet.time_base is None:
                continue
            moved = int(2 / packet.time_base)
            packet.pts, packet.dts = packet.pts - moved, packet.dts - moved
            if packet.stream.type == "video" or packet.pts >= 0:
                packet.stream = streams[packet.stream_index]
                container.mux(packet)
    video = Video(path)
    assert video.duration_seconds == pytest.approx(1.0, abs=0.01)
    assert lines(path) == [(0.4, 0.6, "after the cut")]
