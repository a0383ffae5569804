"""`find_frames` and `generate_frame` as functions: typed results, nothing printed or written unasked, progress by callback, notes as warnings."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from act2see import registry
from act2see.config import GenerateConfig, IndexConfig, RetrieveConfig
from act2see.core.errors import ConfigError, ScopeError, ToolError
from act2see.evaluation.frames import GeneratedFiles, find_frames, generate_frame, index_video, save_frames
from act2see.storage.cache import Cache
from act2see.video import Video

GREY = RetrieveConfig(retriever="tiny_encoder:Grey", retrieve_fps=5.0, top=2, cache=False)
TINT = GenerateConfig(retriever="cli_fakes:Finder", generator="tiny_generator:Tint", strengths=(0.5,), seed=3)


@pytest.fixture
def noise(tmp_path: Path) -> Video:
    """A video that is not of the synthetic world."""
    import av

    path = tmp_path / "noise.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(10):
            picture = Image.merge("RGB", [Image.effect_noise((64, 48), 90) for _ in range(3)])
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())
    return Video(path)


def test_frames_come_with_the_scores_that_they_were_chosen_by(video: Video, capsys: pytest.CaptureFixture[str]) -> None:
    counts: list[tuple[int, int | None, str]] = []
    found = find_frames(video, " grey 10 ", GREY, lambda *count: counts.append(count))
    assert (len(found.frames), found.notice) == (2, None)
    assert found.curve is not None
    assert found.frames[0].score == max(frame.score or 0 for frame in found.frames)
    assert counts[-1][0] == counts[-1][1] == len(found.curve.seconds)
    assert {what for _, _, what in counts} == {f"indexing {video.path.name}"}
    assert find_frames(str(video.path), "grey 10", GREY).frames[0].seconds == found.frames[0].seconds
    assert capsys.readouterr() == ("", "")


def test_a_retriever_that_gives_no_scores_has_no_curve(video: Video) -> None:
    found = find_frames(video, "x", replace(GREY, retriever="cli_fakes:Finder"))
    assert ([frame.seconds for frame in found.frames], found.curve) == ([0.5], None)


def test_frames_are_saved_by_their_time(video: Video, tmp_path: Path) -> None:
    found = find_frames(video, "grey 10", GREY)
    files = save_frames(found, tmp_path / "new" / "folder")
    assert [file.name for file in files] == [f"{frame.seconds:09.3f}.png" for frame in found.frames]
    assert all(file.is_file() for file in files)
    with pytest.raises(ConfigError, match="cannot write frames into"):
        save_frames(found, files[0])


def test_a_weak_match_is_a_warning(video: Video, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "act2see"):
        found = find_frames(video, "grey 250", GREY)
    assert all(frame.match and frame.match.is_fallback for frame in found.frames)
    assert [record.getMessage() for record in caplog.records] == ["no frame reaches the retriever's threshold of 0.98: the result is a best guess"]


def test_a_generated_picture_comes_with_anchor_pair_and_provenance(video: Video, tmp_path: Path) -> None:
    made = generate_frame(video, " all is red ", TINT)
    assert (made.provenance.prompt, made.provenance.seed, made.provenance.strength) == ("all is red", 3, 0.5)
    assert (made.anchor.seconds, made.picture.seconds) == (0.5, None)
    width, height = made.anchor.image.size
    assert made.pair.image.size == (2 * width + 8, height)
    assert made.pair.image.getpixel((2 * width, 1)) == (255, 0, 0)
    assert list(tmp_path.iterdir()) == []
    files = made.save(tmp_path / "to.png")
    assert files == GeneratedFiles(tmp_path / "to.png", tmp_path / "to-anchor.png", tmp_path / "to-pair.png")
    assert sorted(tmp_path.iterdir()) == sorted([files.picture, files.anchor, files.pair])


def test_a_video_indexed_once_is_not_encoded_again(video: Video, tmp_path: Path) -> None:
    cache, counts = Cache(tmp_path / "cache"), list[int]()
    options = IndexConfig(retriever="tiny_encoder:Grey", retrieve_fps=5.0)
    grey = registry.encoder(options.retriever, options)
    first = index_video(video, grey, options, cache, lambda done, total, what: counts.append(done))
    assert (first.video, first.damage) == (str(video.path), None)
    assert first.duration_seconds == pytest.approx(2.0, abs=0.1)
    assert counts[-1] == first.frames > 0
    counts.clear()
    assert index_video(video.path, grey, options, cache, lambda done, total, what: counts.append(done)) == first
    assert counts == []


def test_the_anchor_can_be_named_by_its_time(video: Video) -> None:
    assert generate_frame(video, "x", replace(TINT, at=1.0)).anchor.seconds == pytest.approx(1.0, abs=0.05)


def test_an_unfaithful_picture_is_an_error_with_advice(video: Video) -> None:
    with pytest.raises(ToolError, match="no faithful picture could be made; try another --seed"):
        generate_frame(video, "x", replace(TINT, generator="tiny_generator:Unfaithful"))


def test_what_cannot_be_looked_for_is_refused(video: Video) -> None:
    with pytest.raises(ConfigError, match="the query is empty"):
        find_frames(video, " ", GREY)
    with pytest.raises(ConfigError, match="the prompt is empty"):
        generate_frame(video, "", TINT)
    with pytest.raises(ConfigError, match="retriever 'none' cannot search"):
        find_frames(video, "x", replace(GREY, retriever="none"))
    with pytest.raises(ConfigError, match="generator 'none'"):
        generate_frame(video, "x", replace(TINT, generator="none"))


def test_the_embedded_retriever_refuses_what_it_does_not_know_unless_forced(noise: Video, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ScopeError):
        find_frames(noise, "a dog", RetrieveConfig(retriever="micro", cache=False))
    with caplog.at_level(logging.WARNING, "act2see"):
        found = find_frames(noise, "a dog", RetrieveConfig(cache=False, force=True))
    assert found.notice is not None
    assert found.notice in [record.getMessage() for record in caplog.records]
