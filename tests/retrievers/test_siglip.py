"""The SigLIP retriever on a tiny random model: its scores are transformers' own, and what was shown is not given again."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from act2see.errors import ConfigError, ToolError
from act2see.retrievers.siglip import SiglipRetriever, SiglipSettings
from act2see.trace import Frame
from act2see.training.micro_model import make_tokenizer
from act2see.training.micro_retriever import make_retriever
from act2see.video import Video

QUERIES = ("the star", "something red", "a frame with the ring where the ring is and so on until it is far too long to be read whole")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SigLIP with random weights, saved as a real one is."""
    path = tmp_path_factory.mktemp("tiny-siglip")
    torch.manual_seed(0)
    tokenizer = make_tokenizer(count=50)
    model: Any = make_retriever(len(tokenizer))
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    side = model.config.vision_config.image_size
    SiglipImageProcessorPil(size={"height": side, "width": side}).save_pretrained(path)
    return path


@pytest.fixture
def video(write_video: Callable[..., Path]) -> Video:
    """Two seconds of numbered frames: seven of them at 3 fps."""
    return Video(write_video("clip.mp4", [n / 24 for n in range(49)]))


@pytest.fixture
def retriever(folder: Path) -> SiglipRetriever:
    return SiglipRetriever.load(SiglipSettings(str(folder), batch=3))


def test_scores_are_those_of_transformers_own_forward(folder: Path, retriever: SiglipRetriever, video: Video) -> None:
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    pixels = processor(images=[frame.image for frame in video.sample(3.0)], return_tensors="pt")["pixel_values"]
    ids = tokenizer(list(QUERIES), padding="max_length", truncation=True, max_length=16, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        theirs = torch.sigmoid(model(pixel_values=pixels, input_ids=ids).logits_per_image)
    assert theirs.shape == (7, 3)
    assert theirs.std() > 1e-4  # else every retriever would agree
    for number, query in enumerate(QUERIES):
        assert retriever.scores(video, query) == pytest.approx(theirs[:, number].tolist(), abs=1e-5)


def test_the_best_frames_come_first_with_their_times_and_scores(retriever: SiglipRetriever, video: Video, number_of: Callable[[Frame], int]) -> None:
    scores = retriever.scores(video, "the star")
    times = video.times(3.0)
    best = sorted(range(7), key=lambda n: -scores[n])
    for count in (1, 3, 7):
        found = retriever.find(video, "the star", shown=(), count=count)
        assert [(frame.seconds, frame.score) for frame in found] == [(times[n], scores[n]) for n in best[:count]]
        assert [number_of(frame) for frame in found] == [8 * n for n in best[:count]]


def test_what_was_shown_is_left_out(retriever: SiglipRetriever, video: Video) -> None:
    order = [frame.seconds for frame in retriever.find(video, "the star", shown=(), count=7)]
    shown = [seconds for seconds in order[:2] if seconds is not None]
    assert [frame.seconds for frame in retriever.find(video, "the star", shown=shown, count=5)] == order[2:]
    near = [seconds + 0.005 for seconds in shown]  # the same frames, as another container rounds their times
    assert [frame.seconds for frame in retriever.find(video, "the star", shown=near, count=5)] == order[2:]
    neighbours = [seconds + 1 / 24 for seconds in shown]
    assert [frame.seconds for frame in retriever.find(video, "the star", shown=neighbours, count=7)] == order


def test_more_than_there_are_gives_what_there_is(retriever: SiglipRetriever, video: Video) -> None:
    assert len(retriever.find(video, "the star", shown=video.times(1.0), count=99)) == 7 - 3


def test_when_all_was_shown_there_is_nothing_to_give(retriever: SiglipRetriever, video: Video) -> None:
    with pytest.raises(ToolError, match="every frame at 3 fps has been shown") as raised:
        retriever.find(video, "the star", shown=video.times(3.0))
    assert "\n" not in str(raised.value)


# With encoders that this file controls


class Flat:
    """An encoder to which all pictures look the same, so that all scores are equal."""

    config = SimpleNamespace(text_config=SimpleNamespace(max_position_embeddings=4))
    device, dtype = torch.device("cpu"), torch.float32
    logit_scale, logit_bias = torch.tensor(1.0), torch.tensor(0.0)

    def __init__(self) -> None:
        self.encoded: list[int] = []
        """How many pictures each call held."""

    def get_text_features(self, input_ids: torch.Tensor) -> Any:
        return SimpleNamespace(pooler_output=torch.ones(len(input_ids), 2))

    def get_image_features(self, pixel_values: torch.Tensor) -> Any:
        self.encoded.append(len(pixel_values))
        return SimpleNamespace(pooler_output=torch.ones(len(pixel_values), 2))


def flat(folder: Path, fps: float = 3.0, batch: int = 3) -> tuple[SiglipRetriever, Flat]:
    model = Flat()
    parts = AutoTokenizer.from_pretrained(folder), AutoImageProcessor.from_pretrained(folder, backend="pil")
    return SiglipRetriever(SiglipSettings(str(folder), fps=fps, batch=batch), model, *parts), model


def test_equal_scores_go_to_the_earlier_frame(folder: Path, video: Video) -> None:
    retriever, _ = flat(folder)
    assert [frame.seconds for frame in retriever.find(video, "the star", shown=(), count=3)] == video.times(3.0)[:3]
    assert [frame.seconds for frame in retriever.find(video, "the star", shown=(0.0,), count=2)] == video.times(3.0)[1:3]


def test_a_video_is_encoded_once_and_in_batches(folder: Path, video: Video, write_video: Callable[..., Path]) -> None:
    retriever, model = flat(folder)
    for query in QUERIES:
        retriever.find(video, query, shown=())
        retriever.find(Video(video.path), query, shown=(0.0,))  # opened anew, but the same file
    assert model.encoded == [3, 3, 1]
    retriever.find(Video(write_video("other.mp4", [n / 24 for n in range(20)])), "the star", shown=())
    assert model.encoded == [3, 3, 1, 3]


def test_the_rate_is_the_one_that_was_asked_for(folder: Path, video: Video) -> None:
    retriever, _ = flat(folder, fps=6.0)
    assert len(retriever.find(video, "the star", shown=(), count=99)) == 13
    assert retriever.name == f"siglip:{folder.name}@6fps"


# What cannot be loaded


@pytest.mark.parametrize("fps", [0.0, -1.0])
def test_a_rate_of_nothing_is_refused(folder: Path, fps: float) -> None:
    with pytest.raises(ConfigError, match="must be above 0"):
        SiglipRetriever.load(SiglipSettings(str(folder), fps=fps))


def test_a_folder_without_a_model_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot load retriever") as raised:
        SiglipRetriever.load(SiglipSettings(str(tmp_path)))
    assert "\n" not in str(raised.value)


def test_another_kind_of_model_is_refused(tmp_path: Path, folder: Path) -> None:
    from transformers import CLIPConfig, CLIPModel

    small: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    marks = {"vocab_size": 50, "bos_token_id": 0, "eos_token_id": 1}
    CLIPModel(CLIPConfig(text_config=small | marks, vision_config=small | {"image_size": 32, "patch_size": 16})).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    AutoImageProcessor.from_pretrained(folder, backend="pil").save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="CLIPModel; a SigLIP"):
        SiglipRetriever.load(SiglipSettings(str(tmp_path)))
