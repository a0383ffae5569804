"""`generate`: the picture, its anchor and both side by side as files, a line or JSON on stdout, and nothing written where nothing was made."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from act2see import cli
from act2see.storage.image_metadata import DESCRIPTION, PROVENANCE_KEY
from cli_fakes import Act2See

TINT = ("--generator", "tiny_generator:Tint", "--retriever", "cli_fakes:Finder")
RED = (255, 0, 0)


def pictures() -> list[str]:
    return sorted(file.name for file in Path().iterdir() if file.is_file())


def colour(path: str, x: int = 5) -> tuple[int, ...]:
    with Image.open(path) as image:
        return tuple(int(value) for value in np.asarray(image.convert("RGB"))[5, x])


def texts(path: str) -> dict[str, str]:
    with Image.open(path) as image:
        return {str(name): value for name, value in image.info.items() if isinstance(value, str)}


def test_the_picture_its_anchor_and_both_side_by_side_are_written(act2see: Act2See, clip: Path) -> None:
    done = act2see("generate", clip, " all is red ", *TINT, "--seed", "3", "-o", "strengths=0.5,0.75")
    assert (done.code, done.err) == (0, "")
    files = "imagined.png  imagined-anchor.png  imagined-pair.png"
    assert done.out == f"imagined from 0.500 s by tint-1, seed 3, strength 0.5  gain 0.25  picture anchor 0.5  {files}\n"
    assert pictures() == ["imagined-anchor.png", "imagined-pair.png", "imagined.png"]
    assert colour("imagined.png") == colour("imagined-pair.png", x=64 + 8 + 5) == RED
    assert colour("imagined-anchor.png") == colour("imagined-pair.png") == pytest.approx((60, 60, 60), abs=4)  # the fifth frame's grey
    with Image.open("imagined-pair.png") as pair:
        assert pair.size == (2 * 64 + 8, 48)


def test_a_file_that_holds_an_imagined_picture_says_so(act2see: Act2See, clip: Path) -> None:
    assert act2see("generate", clip, "all is red", *TINT, "--seed", "3").code == 0
    for name in ("imagined.png", "imagined-pair.png"):
        told = texts(name)
        assert told["Description"] == DESCRIPTION
        assert json.loads(told[PROVENANCE_KEY]) == {
            "prompt": "all is red",
            "anchor_seconds": 0.5,
            "model": "tint-1",
            "seed": 3,
            "strength": None,
            "scores": {"gain": 0.25, "picture_anchor": 0.5},
        }
    assert texts("imagined-anchor.png") == {}


def test_json_is_one_line_with_everything(act2see: Act2See, clip: Path) -> None:
    Path("to").mkdir()
    done = act2see("generate", clip, "all is red", *TINT, "-o", "strengths=0.5", "--json", "--out", "to/here.jpg")
    assert (done.code, done.out.count("\n"), done.err) == (0, 1, "")
    assert json.loads(done.out) == {
        "video": str(clip),
        "prompt": "all is red",
        "anchor_seconds": 0.5,
        "model": "tint-1",
        "seed": 0,
        "strength": 0.5,
        "scores": {"gain": 0.25, "picture_anchor": 0.5},
        "files": {"picture": "to/here.jpg", "anchor": "to/here-anchor.jpg", "pair": "to/here-pair.jpg"},
    }
    with Image.open("to/here.jpg") as picture:
        assert picture.format == "JPEG"
        assert json.loads(picture.info["comment"])["model"] == "tint-1"
    assert pictures() == []


def test_the_frame_can_be_named_by_its_time(act2see: Act2See, clip: Path) -> None:
    done = act2see("generate", clip, "all is red", *TINT, "--at", "1.52")
    assert (done.code, done.out.partition(" by ")[0]) == (0, "imagined from 1.500 s")
    assert colour("imagined-anchor.png") == pytest.approx((180, 180, 180), abs=4)


def test_a_picture_that_nobody_looked_at_is_said_to_be_one(act2see: Act2See, clip: Path) -> None:
    done = act2see("generate", clip, "all is red", *TINT[2:], "--generator", "tiny_generator:Unlooked")
    assert (done.code, done.out) == (
        0,
        "imagined from 0.500 s by tint-1, seed 0  not verified  imagined.png  imagined-anchor.png  imagined-pair.png\n",
    )


def test_the_embedded_generator_needs_no_name(act2see: Act2See) -> None:
    done = act2see("generate", cli.DEMO / "clip-4.mp4", "the cross is red", "--at", "1", "--json")
    assert (done.code, done.err) == (0, "")
    told = json.loads(done.out)
    assert (told["model"], told["scores"]["says_yes"]) == ("generator", 1.0)
    with Image.open("imagined.png") as made, Image.open("imagined-anchor.png") as anchor:
        assert made.size == anchor.size
        assert made.tobytes() != anchor.tobytes()


def test_what_the_embedded_generator_cannot_make_is_not_shown(act2see: Act2See) -> None:
    done = act2see("generate", cli.DEMO / "clip-4.mp4", "the square is red", "--at", "1")  # there is no square
    assert done.code == 1
    assert "no faithful picture could be made" in done.err


def test_an_anchor_that_is_named_by_its_time_needs_no_retriever(act2see: Act2See) -> None:
    done = act2see("generate", cli.DEMO / "clip-4.mp4", "the cross is red", "--at", "1", "--retriever", "none", "--json")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out)["anchor_seconds"] == 1.0


@pytest.mark.parametrize("name", ["imagined-anchor.png", "imagined-pair.png"])
def test_a_folder_in_the_place_of_a_file_is_seen_before_anything_is_painted(act2see: Act2See, clip: Path, name: str) -> None:
    Path(name).mkdir()
    done = act2see("generate", clip, "all is red", *TINT)
    assert done.code == 1
    assert f"cannot write {name}: it is a folder" in done.err
    assert not Path("imagined.png").exists()


@pytest.mark.parametrize(
    ("kind", "advice"),
    [
        ("OutOfMemoryToolError", "it failed; try --memory group-offload"),
        ("UnsupportedSizeError", "it failed; give a video of another shape"),
        ("NoFrameError", "it failed; try another --seed"),
        ("ToolError", "it failed; try another --seed"),
    ],
)
def test_the_advice_is_one_that_helps(act2see: Act2See, clip: Path, kind: str, advice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINY_GENERATOR_ERROR", kind)
    done = act2see("generate", clip, "all is red", "--generator", "tiny_generator:Fails", *TINT[2:])
    assert done.code == 1
    assert advice in done.err


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ((" ",), "the prompt is empty"),
        (("x", "--out", "made.gif"), "must end in one of .png, .jpg, .jpeg"),
        (("x", "--out", "nowhere/made.png"), "folder nowhere does not exist"),
        (("x", "--generator", "none"), "generator 'none' cannot generate pictures"),
        (("x", "--generator", "mirco"), "did you mean micro?"),
        (("x", "--generator", "cli_fakes:Finder"), "it has no 'generate'"),
        (("x", "--generator", "tiny_generator:Unfaithful"), "no faithful picture could be made; try another --seed"),
        (("x", "--retriever", "none"), "retriever 'none' cannot find an anchor frame"),
        (("x", "--retriever", "cli_fakes:Blind"), "no frame left to show"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_no_file(act2see: Act2See, clip: Path, arguments: tuple[str, ...], part: str) -> None:
    named = [flag for index in (0, 2) if TINT[index] not in arguments for flag in TINT[index : index + 2]]
    assert part in act2see("generate", clip, *arguments, *named).complaint
    assert pictures() == []


def test_no_such_video_is_one_line_and_no_file(act2see: Act2See) -> None:
    assert "not-here.mp4" in act2see("generate", "not-here.mp4", "all is red", *TINT).complaint
    assert pictures() == []


@pytest.mark.parametrize(("flag", "value"), [("--at", "-1"), ("--tries", "0"), ("--memory", "some")])
def test_wrong_usage_is_2(act2see: Act2See, clip: Path, flag: str, value: str) -> None:
    done = act2see("generate", clip, "x", flag, value)
    assert (done.code, done.out) == (2, "")
    assert flag in done.err


@pytest.mark.parametrize(("strengths", "said"), [(("0",), "Must be > 0"), (("0.5", "1.5"), "Must be <= 1"), (("nan",), "Must be")])
def test_a_strength_that_is_none_is_refused(act2see: Act2See, clip: Path, strengths: tuple[str, ...], said: str) -> None:
    done = act2see("generate", clip, "x", "-o", f"strengths={','.join(strengths)}")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert said in done.err
