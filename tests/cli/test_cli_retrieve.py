"""`retrieve`: a line a frame on stdout, files named by time, JSON, and what is said of what was found."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from act2see import Frame, SearchConfig, Video, cli, encoder, retrieve
from act2see.core.errors import ConfigError
from act2see.tools.index import Index
from cli_fakes import Act2See, Finder

GREY = ("--retriever", "tiny_encoder:Grey", "--retrieve-fps", "10")


def test_the_best_frame_is_one_line(act2see: Act2See, clip: Path) -> None:
    done = act2see("retrieve", clip, "grey 120", *GREY, "--select", "argmax")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("1.000 s  score 0.99")
    assert done.out.endswith("  frame 10\n")


def test_several_frames_are_files_named_by_their_time(act2see: Act2See, clip: Path) -> None:
    done = act2see("retrieve", clip, " grey 120 ", *GREY, "--select", "argmax", "--top", "3", "--out", "found/here")
    assert [line.split("  ")[0] for line in done.out.splitlines()] == ["1.000 s", "0.900 s", "0.800 s"]
    assert done.out.splitlines()[0].endswith("  found/here/00001.000.png")
    files = sorted(Path("found/here").iterdir())
    assert [file.name for file in files] == ["00000.800.png", "00000.900.png", "00001.000.png"]
    for file, grey in zip(files, (96, 108, 120), strict=True):
        with Image.open(file) as image:
            assert image.size == (64, 48)
            assert np.asarray(image.convert("L")).mean() == pytest.approx(grey, abs=2)


def test_a_frame_takes_the_place_of_a_link_or_a_fifo_whole(act2see: Act2See, clip: Path, tmp_path: Path) -> None:
    """A FIFO would be waited for, what a link names would be overwritten, and a full disk would leave an empty picture."""
    (tmp_path / "kept").write_text("kept", encoding="utf-8")
    Path("found").mkdir()
    Path("found/00001.000.png").symlink_to(tmp_path / "kept")
    os.mkfifo("found/00000.900.png")
    assert act2see("retrieve", clip, "grey 120", *GREY, "--select", "argmax", "--top", "2", "--out", "found").code == 0
    assert (tmp_path / "kept").read_text(encoding="utf-8") == "kept"
    for file in Path("found").iterdir():
        with Image.open(file) as image:
            assert (image.size, file.is_symlink()) == ((64, 48), False)


def test_json_is_one_line_with_everything(act2see: Act2See, clip: Path) -> None:
    done = act2see("retrieve", clip, "grey 120", *GREY, "--top", "2", "--json", "--out", "found")
    told = json.loads(done.out)
    assert (done.code, done.out.count("\n"), done.err) == (0, 1, "")
    assert {name: told[name] for name in ("query", "retriever", "threshold", "plot")} == {
        "query": "grey 120",
        "retriever": "tiny_encoder:Grey",
        "threshold": 0.98,
        "plot": None,
    }
    first, second = told["frames"]
    assert first["seconds"] == pytest.approx(1.0)
    assert (first["frame_index"], first["is_fallback"], first["file"]) == (10, False, "found/00001.000.png")
    assert first["score"] > 0.98
    start, stop = first["span_seconds"]
    assert start <= 1.0 <= stop
    assert all(len(one) == 2 for one in first["runners_up"])
    assert second["seconds"] != first["seconds"]


def test_what_is_merely_the_best_there_is_is_said_to_be(act2see: Act2See, clip: Path) -> None:
    done = act2see("retrieve", clip, "number 5", *GREY)
    assert done.code == 0
    assert done.err == "act2see: note: no frame reaches the retriever's threshold of 0.98: the result is a best guess\n"
    assert done.out.rstrip().endswith("fallback")
    assert json.loads(act2see("retrieve", clip, "number 5", *GREY, "--json").out)["frames"][0]["is_fallback"]


@pytest.mark.parametrize("select", ["grounding", "argmax", "top_k", "uniform", "random"])
def test_every_selection_can_be_named(act2see: Act2See, clip: Path, select: str) -> None:
    def times(*seed: str) -> list[str]:
        return [
            line.split("  ")[0] for line in act2see("retrieve", clip, "grey 120", *GREY, "--top", "2", "--select", select, *seed).out.splitlines()
        ]

    assert len(times()) == 2
    assert times("--seed", "3") == times("--seed", "3")
    assert select != "random" or len({tuple(times("--seed", str(seed))) for seed in range(5)}) > 1


def test_an_index_is_kept_and_used_unless_told_otherwise(act2see: Act2See, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACT2SEE_TEST_LOG", str(tmp_path / "log"))
    assert act2see("retrieve", clip, "grey 120", *GREY, "--no-cache").code == 0
    assert not (tmp_path / "cache").exists()
    for _ in range(2):
        assert act2see("retrieve", clip, "grey 120", *GREY).code == 0
    assert len((tmp_path / "log").read_text(encoding="utf-8").splitlines()) == 2  # once without the cache, once into it


def test_a_cache_that_cannot_be_written_is_one_note(act2see: Act2See, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACT2SEE_CACHE", "/proc/not-here")
    done = act2see("retrieve", clip, "grey 120", *GREY)
    assert (done.code, done.out.startswith("1.000 s")) == (0, True)
    assert done.err.startswith("act2see: note: nothing is kept in the cache /proc/not-here: ")
    assert done.err.count("\n") == 1


def test_a_third_partys_retriever_tells_what_it_can(act2see: Act2See, clip: Path) -> None:
    done = act2see("retrieve", clip, "anything", "--retriever", "cli_fakes:Finder")
    assert (done.code, done.out, done.err) == (0, "0.500 s  score 0.7500\n", "")
    assert "no frame left to show" in act2see("retrieve", clip, "anything", "--retriever", "cli_fakes:Blind").complaint


def test_the_embedded_retriever_refuses_what_it_does_not_know(act2see: Act2See, clip: Path) -> None:
    done = act2see("retrieve", clip, "the red star", "--json", "--retriever", "micro")
    assert (done.code, done.out) == (3, "")
    assert "clip.mp4 is not of the synthetic world" in done.err
    assert "--retriever siglip:" in done.err
    forced = act2see("retrieve", clip, "the red star", "--json", "--force")
    assert forced.code == 0
    assert "--force" in json.loads(forced.out)["notice"]
    demo = act2see("retrieve", cli.DEMO / "clip-2.mp4", "the yellow cross", "--json")
    assert "synthetic world" not in demo.err
    assert not json.loads(demo.out)["frames"][0]["is_fallback"]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ((" ",), "the query is empty"),
        (("x", "--retriever", "none"), "cannot search"),
        (("x", "--retriever", "clib:x"), "did you mean clip:DIR?"),
        (("x", "--retriever", "blip2:/no/such/folder"), "no folder /no/such/folder"),
        (("x", "--out", "a_file"), "it is not a folder"),
        (("x", "--plot", "scores.txt"), "must end in one of .png, .svg, .pdf"),
        (("x", "--plot", "nowhere/scores.png"), "folder nowhere does not exist"),
    ],
)
def test_what_cannot_be_done_is_one_line(act2see: Act2See, clip: Path, arguments: tuple[str, ...], part: str) -> None:
    Path("a_file").touch()
    given = arguments if "--retriever" in arguments else (*arguments, *GREY)
    assert part in act2see("retrieve", clip, *given).complaint


@pytest.mark.parametrize(("flag", "value"), [("--top", "0"), ("--select", "best"), ("--retrieve-fps", "0")])
def test_wrong_usage_is_2(act2see: Act2See, clip: Path, flag: str, value: str) -> None:
    done = act2see("retrieve", clip, "x", flag, value)
    assert (done.code, done.out) == (2, "")
    assert flag in done.err


# The same without the command line


def test_the_public_api_finds_frames(clip: Path) -> None:
    config = SearchConfig(retrieve_fps=10.0, select="argmax", cache=False)
    found = retrieve(clip, "grey 120", retriever="tiny_encoder:Grey", count=2, config=config)
    assert all(isinstance(frame, Frame) for frame in found)
    assert [frame.seconds for frame in found] == pytest.approx([1.0, 0.9])
    assert found[0].match is not None
    assert found[0].match.frame_index == 10
    (other,) = retrieve(Video(clip), "anything", retriever=Finder(config))  # type: ignore[arg-type]
    assert other.seconds == 0.5


def test_the_public_api_refuses_in_one_line(clip: Path) -> None:
    with pytest.raises(ConfigError, match="the query is empty"):
        retrieve(clip, "  ")
    with pytest.raises(ConfigError, match="count is 0; it must be at least 1"):
        retrieve(clip, "x", count=0)
    with pytest.raises(ConfigError, match="cannot search"):
        retrieve(clip, "x", retriever="none")
    with pytest.raises(ConfigError, match="encodes nothing"):
        encoder("none")
    with pytest.raises(ConfigError, match="it has no 'encode_frames'"):
        encoder("cli_fakes:Finder")


def test_an_index_is_made_with_a_named_encoder(clip: Path) -> None:
    index = Index.build(Video(clip), encoder("tiny_encoder:Grey"), fps=10.0)
    assert index.scores("grey 120").argmax() == 10
