"""A model that writes the same over and over is stopped where its folder says so; no list that counts, and no other model, is."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers import AutoTokenizer

from act2see.backends.huggingface import HuggingFaceBackend, HuggingFaceSettings
from act2see.backends.loading import SETTINGS_FILE
from act2see.backends.repetition import EVERY, repeats
from act2see.core.engine import LoopOptions, reason
from act2see.core.errors import BackendError
from act2see.core.trace import Frame, Trace
from act2see.registry import MICRO
from act2see.synthetic.dataset import items
from act2see.synthetic.world import Clip
from act2see.training.micro.model import LIMITS
from act2see.video import Video

pieces = st.lists(st.integers(0, 9), min_size=1, max_size=16)


@given(st.lists(st.integers(0, 9), max_size=40), pieces)
def test_a_piece_over_and_over_is_found_at_the_next_look(before: list[int], piece: list[int]) -> None:
    ids = before + piece * 100
    ids = ids[: len(before) + 64 + EVERY]
    assert any(repeats(ids[:length], 64) for length in range(len(before) + 64, len(ids) + 1))


@given(st.lists(st.integers(0, 9), min_size=64, max_size=64))
def test_what_it_finds_is_a_piece_four_times(ids: list[int]) -> None:
    assert repeats(ids, 64) == any(all(a == b for a, b in zip(ids, ids[period:], strict=False)) for period in range(1, 17))


@pytest.mark.parametrize("ids", [[], [1] * 63, list(range(64)), [*range(17)] * 4])
def test_what_is_short_or_differs_does_not_repeat(ids: list[int]) -> None:
    assert not repeats(ids, 64)


def test_zero_turns_it_off() -> None:
    assert not repeats([1] * 640, 0)


def test_no_right_reasoning_of_the_world_repeats() -> None:
    tokenizer = AutoTokenizer.from_pretrained(MICRO / "vlm")
    longest = 0
    for item in items("held-out", 60, 3, kinds=("static", "transient", "hypothetical")):
        ids = tokenizer(item.reasoning, add_special_tokens=False)["input_ids"]
        longest = max(longest, len(ids))
        assert not any(repeats(ids[:length], 64) for length in range(len(ids) + 1)), item.name
    assert longest > 128  # so that there was something to find it in


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Video:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    Clip(1.0, ()).write(path)
    return Video(path)


def written(folder: Path, video: Video, max_tokens: int = 8192) -> Trace:
    backend = HuggingFaceBackend.load(HuggingFaceSettings(str(folder), device="cpu", temperature=0, max_tokens=max_tokens))
    trace = Trace("a", str(video.path), "What?", (Frame(Image.new("RGB", (64, 64)), 0.0),))
    for _ in reason(trace, video, backend, None, options=LoopOptions(max_looks=0)):
        pass
    return trace


def test_the_folder_says_where_a_model_stops(tiny_vlm: Path, video: Video, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_vlm, tmp_path / "model"))
    own = json.loads((folder / SETTINGS_FILE).read_text())
    assert written(folder, video, max_tokens=200).cost.tokens_out == 200  # random weights: it says one thing for ever

    (folder / SETTINGS_FILE).write_text(json.dumps({**own, "max_tokens": 40}))
    cut = written(folder, video, max_tokens=200)
    assert (cut.finish, cut.cost.tokens_out) == ("length", 40)
    assert written(folder, video, max_tokens=20).cost.tokens_out == 20

    (folder / SETTINGS_FILE).write_text(json.dumps({**own, "repeated_tokens": 64}))
    stopped = written(folder, video, max_tokens=200)
    assert stopped.finish == "length"
    assert 64 <= stopped.cost.tokens_out < 200


@pytest.mark.parametrize(("name", "value"), [("max_tokens", 0), ("max_tokens", True), ("repeated_tokens", "64"), ("knows", "stars")])
def test_a_folder_that_says_something_else_is_one_line(tiny_vlm: Path, tmp_path: Path, name: str, value: object) -> None:
    folder = Path(shutil.copytree(tiny_vlm, tmp_path / "model"))
    (folder / SETTINGS_FILE).write_text(json.dumps({name: value}))
    with pytest.raises(BackendError, match=f"{name} is .*allowed are"):
        HuggingFaceBackend.load(HuggingFaceSettings(str(folder), device="cpu"))


def test_the_embedded_model_has_an_end() -> None:
    own = json.loads((MICRO / "vlm" / SETTINGS_FILE).read_text())
    assert {name: own[name] for name in LIMITS} == LIMITS
    assert own["max_tokens"] == 512
