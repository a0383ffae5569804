"""Training the embedded models: what batch `i` holds, the shapes, and a few real steps that end in folders which can be loaded."""

import os
import random
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerFast, TrainingArguments
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from act2see.backends.encoder import Encoder
from act2see.backends.huggingface import HuggingFaceBackend, HuggingFaceSettings
from act2see.config import MicroRetrieverConfig, MicroVlmConfig
from act2see.core.errors import ConfigError
from act2see.core.trace import Frame, Trace
from act2see.synthetic.world import COLOURS, PLACES, SHAPES, UNSEEN_PAIRS, Actor, Clip, make_clip
from act2see.tools.encoders.loading import EncoderSettings
from act2see.tools.encoders.siglip import SiglipEncoder
from act2see.tools.retrievers.search import SearchRetriever
from act2see.training.examples import IGNORED, Example
from act2see.training.micro import retriever as micro_retriever
from act2see.training.micro import vlm as micro_vlm
from act2see.training.micro.model import NOTICE, PICTURE, SPECIAL, TAGS, make_tokenizer, make_vlm
from act2see.training.micro.retriever import RetrieverBatches, ShapeQuery, make_retriever, random_query
from act2see.training.micro.vlm import FRAMES, PARTS, CurriculumBatches, Stage, word_example
from act2see.training.trainer_loop import LoopSettings, release_freed_memory, run_trainer
from act2see.video import Video

SEE = Stage("see", 0.5, frames=10)
ASK = Stage("ask", 0.5, frames=0, seconds=(2.0, 4.0), clips=2, questions=4, captions=0.5, words=1)
FEW = 8
"""Single frames a batch where a training is tried for its files and its weights, not for what it learns."""


# The model's shape


@given(st.text(max_size=40))
def test_the_tokenizer_can_write_any_text(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    assert tokenizer.decode(ids) == text


def test_every_tag_is_one_token_and_every_mark_a_special_one(tokenizer: PreTrainedTokenizerFast) -> None:
    assert all(len(tokenizer.encode(text, add_special_tokens=False)) == 1 for text in (*TAGS, *SPECIAL))
    assert set(SPECIAL) <= set(tokenizer.get_added_vocab())
    assert len(tokenizer.encode("<|im_end|>", add_special_tokens=False, split_special_tokens=True)) > 1
    assert tokenizer.eos_token == "<|im_end|>"
    assert len(tokenizer) <= 1024


def test_a_tokenizer_is_made_the_same_every_time(tokenizer: PreTrainedTokenizerFast) -> None:
    assert make_tokenizer(count=100).get_vocab() == tokenizer.get_vocab()


def test_the_models_are_small(tokenizer: PreTrainedTokenizerFast) -> None:
    """In half precision the two that ship take at most 25 MB together."""
    parameters = [sum(weight.numel() for weight in model.parameters()) for model in (make_vlm(tokenizer), make_retriever(len(tokenizer)))]
    assert 2 * sum(parameters) < 25e6


@pytest.mark.parametrize("size", [(256, 256), (64, 64), (320, 180)])
def test_a_frame_becomes_sixteen_tokens_or_about_as_many(encoder: Encoder, size: tuple[int, int]) -> None:
    made = encoder.image_processor(images=[Clip(4.0, ()).draw(0).resize(size)], return_tensors="np")
    _, height, width = made["image_grid_thw"][0]
    tokens = int(height * width) // encoder.merge**2
    assert tokens == (PICTURE // 16) ** 2 if size[0] == size[1] else 8 <= tokens <= 16


# The curriculum


def content(batch: list[Example]) -> list[tuple[bytes, ...]]:
    pixels = [b"".join(piece.pixels.tobytes() for piece in example.pieces if piece.pixels is not None) for example in batch]
    return [(e.ids.tobytes(), e.labels.tobytes(), e.positions.tobytes(), e.branch.tobytes(), p) for e, p in zip(batch, pixels, strict=True)]


def test_a_batch_is_the_same_whenever_it_is_made_and_no_two_are_alike(encoder: Encoder) -> None:
    curriculum = CurriculumBatches(encoder, 3, 4, (SEE, ASK))
    made = [content(curriculum[index]) for index in range(4)]
    assert content(CurriculumBatches(encoder, 3, 4, (SEE, ASK))[2]) == made[2]
    examples = [example for batch in [*made, content(CurriculumBatches(encoder, 4, 4, (SEE, ASK))[2])] for example in batch]
    assert len(set(examples)) == len(examples) == 2 * FRAMES + 3 * 3


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("batches", [20, 999, 2600])
def test_every_stage_has_its_share_of_the_batches_in_order(encoder: Encoder, batches: int, part: str) -> None:
    curriculum = CurriculumBatches(encoder, 0, batches, PARTS[part])
    assert len(curriculum) == batches
    stages = [curriculum.stage(index) for index in range(batches)]
    assert [stage for n, stage in enumerate(stages) if not n or stage is not stages[n - 1]] == list(PARTS[part])
    assert sum(stage.share for stage in PARTS[part]) == pytest.approx(1)
    assert all(abs(stages.count(stage) - stage.share * batches) <= 1 for stage in PARTS[part])


def branches(encoder: Encoder, example: Example) -> list[tuple[str, str]]:
    """Each trace of a packed example: the prompt that all share, and what is the model's own."""
    prompt = encoder.tokenizer.decode(example.ids[example.branch == 0])
    own = example.labels != IGNORED
    return [(prompt, encoder.tokenizer.decode(example.ids[own & (example.branch == n)])) for n in sorted(set(example.branch[own].tolist()))]


def test_seeing_is_taught_by_one_frame_and_its_caption(encoder: Encoder) -> None:
    listed = rf"(nothing|({'|'.join(COLOURS)}) ({'|'.join(SHAPES)}) ({'|'.join(PLACES)}))"
    for example in CurriculumBatches(encoder, 0, 1, (SEE,))[0]:
        ((_, caption),) = branches(encoder, example)
        assert re.fullmatch(rf" {listed}(, {listed})*", caption)
        assert sum(piece.grid is not None for piece in example.pieces) == 1


def test_asking_is_taught_by_traces_that_obey_their_own_prompt(encoder: Encoder) -> None:
    """No call where no tool was told, an answer at the end of each, and no pair that training must not show."""
    curriculum = CurriculumBatches(encoder, 0, 1, (Stage("ask", 1.0, frames=0, seconds=(2.0, 8.0), clips=60, questions=4, captions=0.35, words=0),))
    told = [branch for example in curriculum[0] for branch in branches(encoder, example)]
    calls = [("<retrieve>" in own, "<retrieve>" in prompt) for prompt, own in told]
    assert (True, False) not in calls
    assert {(True, True), (False, True), (False, False)} <= set(calls)
    assert all(re.search(r"<answer>.+</answer><\|im_end\|>$", own) for _, own in told)
    assert not any(f"{colour} {shape}" in own for _, own in told for colour, shape in UNSEEN_PAIRS)
    assert any("red circle" in own for _, own in told)  # captions do list such pairs


def test_the_exercise_in_words_trains_on_what_follows_a_word_that_can_be_asked_for(encoder: Encoder) -> None:
    """The mark where the word is the one looked for, else the next word; about half of each, and no pair that training must not show."""
    for seed in range(20):
        example = word_example(random.Random(seed), encoder)
        text = encoder.tokenizer.decode(example.ids)
        assert not any(f"{colour} {shape}" in text or f"{colour}! {shape}" in text for colour, shape in UNSEEN_PAIRS)
        for number in sorted(set(example.branch.tolist()) - {0}):
            tokens = example.ids[example.branch == number]
            labels = example.labels[example.branch == number]
            sought, *listed = re.findall(r"(\w+)!", encoder.tokenizer.decode(tokens))
            assert set(listed) <= {sought}
            own = [encoder.tokenizer.decode([token]) for token in labels if token != IGNORED]
            assert 0 <= len(listed) - own.count("!") <= 1  # what follows the first word is not trained on
            assert len(set(own) - {"!"}) <= 1
            assert len(own) == 7


# The retriever's batches


def test_a_query_is_true_of_what_is_on_screen(encoder: Encoder) -> None:
    still = Actor("star", "red", "top", 25.0, 1.0, 2.0, later_colour="blue", change_seconds=1.5)
    crossing = Actor("ring", "green", "left", 25.0, 0.0, 4.0, target="right")
    clip = Clip(4.0, (still, crossing))
    for query, seconds, truth in (
        (ShapeQuery("star"), 1.0, True), (ShapeQuery("star"), 0.9, False), (ShapeQuery("star"), 2.0, False),
        (ShapeQuery(colour="red"), 1.2, True), (ShapeQuery(colour="red"), 1.6, False), (ShapeQuery("star", "blue"), 1.6, True),
        (ShapeQuery("ring", "red"), 1.2, False), (ShapeQuery("star", place="top"), 1.2, True), (ShapeQuery("star", place="left"), 1.2, False),
        (ShapeQuery("ring"), 3.0, True), (ShapeQuery("ring", place="left"), 0.0, False),
    ):  # fmt: skip
        assert query.shows(clip, seconds) is truth, (query, seconds)


def test_a_query_names_what_it_asks_for_and_never_an_unseen_pair() -> None:
    rng = random.Random(0)
    queries = [random_query(rng) for _ in range(2000)]
    assert not any((query.colour, query.shape) in UNSEEN_PAIRS for query in queries)
    for query in queries:
        text = query.words(rng)
        for value, values in ((query.shape, SHAPES), (query.colour, COLOURS), (query.place, PLACES)):
            assert [name for name in values if re.search(rf"\b{name}\b", text)] == ([value] if value else [])


def test_a_batch_of_the_retriever_is_the_same_whenever_it_is_made(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    config = MicroRetrieverConfig(tmp_path, images=12, texts=7)
    model: Any = make_retriever(len(tokenizer))
    side = model.config.vision_config.image_size
    processor = SiglipImageProcessorPil(size={"height": side, "width": side})
    one, same, other = (RetrieverBatches(config, tokenizer, processor, 4)[index] for index in (1, 1, 2))
    assert (one["pixel_values"].shape, one["input_ids"].shape, one["truth"].shape) == ((12, 3, side, side), (7, 16), (12, 7))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["pixel_values"], other["pixel_values"])
    assert 0 < one["truth"].float().mean() < 0.6


# A few real steps


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same_weights(one: Path, other: Path) -> bool:
    left, right = weights(one), weights(other)
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.fixture(scope="module")
def trained_vlm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("vlm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(micro_vlm, "FRAMES", FEW)
        assert micro_vlm.train(MicroVlmConfig(out, steps=2, save_every=1)) == out / "model"
    return out


@pytest.mark.slow
def test_the_trained_vlm_is_a_folder_that_the_backend_loads(trained_vlm: Path) -> None:
    backend = HuggingFaceBackend.load(HuggingFaceSettings(str(trained_vlm / "model"), temperature=0, max_tokens=4))
    assert backend.made_with["frames_as"] == "images"
    assert backend.made_with["rendering"] == "same_turn"
    assert backend.notice == NOTICE
    clip = make_clip(random.Random(0))
    trace = Trace("t", "clip.mp4", "What?", (Frame(clip.draw(0.0), 0.0),), ("red", "blue"))
    assert isinstance("".join(backend.decode(trace, ("retrieve",))), str)
    stored = weights(trained_vlm / "model")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    assert all(torch.isfinite(tensor).all() for tensor in stored.values())


@pytest.mark.slow
def test_an_interrupted_training_ends_with_the_weights_of_an_uninterrupted_one(
    trained_vlm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(micro_vlm, "FRAMES", FEW)
    checkpoints = trained_vlm / "checkpoints"
    assert sorted(path.name for path in checkpoints.iterdir()) == ["checkpoint-1", "checkpoint-2"]
    shutil.copytree(checkpoints / "checkpoint-1", tmp_path / "checkpoints" / "checkpoint-1")
    finished = micro_vlm.train(MicroVlmConfig(tmp_path, steps=2, save_every=1))
    assert same_weights(finished, trained_vlm / "model")
    before = load_file(checkpoints / "checkpoint-1" / "model.safetensors")
    assert any(not torch.equal(tensor.half(), weights(finished)[name]) for name, tensor in before.items())  # the second step did something


@pytest.mark.slow
def test_a_second_training_begins_with_the_first_ones_weights(trained_vlm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a learning rate below what a float can add to a weight, they stay what they were."""
    monkeypatch.setitem(micro_vlm.PARTS, "ask", (Stage("words", 1.0, frames=0, clips=1, questions=1, words=1),))
    finished = micro_vlm.train(MicroVlmConfig(tmp_path, part="ask", start_from=trained_vlm / "model", steps=1, learning_rate=1e-12))
    assert same_weights(finished, trained_vlm / "model")


@pytest.fixture(scope="module")
def trained_retriever(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("retriever")
    assert micro_retriever.train(MicroRetrieverConfig(out, steps=2, save_every=1, images=8, texts=6)) == out / "model"
    return out


@pytest.mark.slow
def test_the_trained_retriever_is_a_folder_that_the_retriever_loads(trained_retriever: Path, write_video: Callable[..., Path]) -> None:
    retriever = SearchRetriever(SiglipEncoder.load(EncoderSettings(str(trained_retriever / "model"))))
    scores = retriever.curve(Video(write_video("clip.mp4", [n / 24 for n in range(30)])), "the red star").scores
    assert len(scores) == 4
    assert all(0 < score < 1 for score in scores)
    assert {tensor.dtype for tensor in weights(trained_retriever / "model").values()} == {torch.float16}


@pytest.mark.slow
def test_an_interrupted_training_of_the_retriever_ends_with_the_same_weights(trained_retriever: Path, tmp_path: Path) -> None:
    shutil.copytree(trained_retriever / "checkpoints" / "checkpoint-1", tmp_path / "checkpoints" / "checkpoint-1")
    finished = micro_retriever.train(MicroRetrieverConfig(tmp_path, steps=2, save_every=1, images=8, texts=6))
    assert same_weights(finished, trained_retriever / "model")
    before = load_file(tmp_path / "checkpoints" / "checkpoint-1" / "model.safetensors")
    assert any(not torch.equal(tensor.half(), weights(finished)[name.removeprefix("model.")]) for name, tensor in before.items())


# What both trainings share


class Counted(Dataset[Any]):
    """Item `i` is `i`; Ctrl-C is pressed while item `interrupted_at` is made."""

    def __init__(self, batches: int, interrupted_at: int | None = None) -> None:
        self.batches, self.interrupted_at = batches, interrupted_at
        self.made: list[int] = []

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, index: int) -> int:
        if index == self.interrupted_at and index not in self.made:
            os.kill(os.getpid(), signal.SIGINT)
        self.made.append(index)
        return index


class Line(nn.Module):
    """One weight that follows the items' numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, number: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": ((self.weight - number) ** 2).mean()}


def fitted(
    out: Path, interrupted_at: int | None = None, *, steps: int = 6, batches: int | None = None, number: Callable[[int], float] = float
) -> float:
    line = Line()
    run_trainer(
        line,
        lambda batches: Counted(batches, interrupted_at),
        lambda items: {"number": torch.tensor([number(items[0])])},
        LoopSettings(out, steps, seed=0, learning_rate=0.1, save_every=100, batches=batches, warmup=0),
    )
    return line.weight.item()


def test_ctrl_c_leaves_a_checkpoint_from_which_training_goes_on(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fitted(tmp_path / "stopped", interrupted_at=3)
    (checkpoint,) = (tmp_path / "stopped" / "checkpoints").iterdir()
    assert checkpoint.name in ("checkpoint-3", "checkpoint-4")  # the next batch is made while a step runs
    assert signal.getsignal(signal.SIGINT) is before
    whole = fitted(tmp_path / "whole")
    assert whole != 0
    assert fitted(tmp_path / "stopped") == whole


def test_a_worker_that_ignores_ctrl_c_is_not_stopped_by_it(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert fitted(tmp_path / "pressed", interrupted_at=3) == fitted(tmp_path / "left")
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_step_of_two_batches_follows_their_mean(tmp_path: Path) -> None:
    both = fitted(tmp_path / "both", steps=3, batches=2)
    means = fitted(tmp_path / "means", steps=3, number=lambda index: 2 * index + 0.5)
    assert both == pytest.approx(means, abs=1e-6)
    assert both != pytest.approx(fitted(tmp_path / "one", steps=3), abs=1e-3)


@pytest.mark.parametrize("batches", [1, 3])
def test_processes_that_cannot_share_a_step_evenly_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batches: int) -> None:
    monkeypatch.setattr(TrainingArguments, "world_size", 2)
    with pytest.raises(ConfigError, match=f"a step of {batches} batches cannot be divided among 2 processes"):
        fitted(tmp_path, batches=batches)


def held_megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_what_was_freed_is_given_back_before_workers_are_forked() -> None:
    """As glibc does it, which the tests need as they need Linux."""
    tensors = [torch.ones(4096) for _ in range(20_000)]  # 312 MB
    tensors = tensors[-1:]  # the last one keeps all before it from being given back by itself
    before = held_megabytes()
    release_freed_memory()
    assert before - held_megabytes() > 150
