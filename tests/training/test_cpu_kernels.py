"""The arithmetic that a CPU is quick at gives the losses and gradients of transformers' own: pictures of any size; packed, padded, laid out."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import PreTrainedTokenizerFast

from act2see.backends.encoder import Encoder
from act2see.core import chat
from act2see.core.trace import Frame
from act2see.training.examples import Example, collate, pack
from act2see.training.micro.cpu_kernels import collate_for_cpu, spans, use_cpu_kernels
from act2see.training.micro.model import make_vlm
from act2see.training.micro.vlm import CurriculumBatches, Stage

STAGES = {
    "single frames, padded": Stage("frames", 1.0, frames=10),
    "packed clips, laid out": Stage("clips", 1.0, frames=0, seconds=(2.0, 5.0), clips=2, questions=3, words=1),
}


@pytest.fixture(scope="module")
def models(tokenizer: PreTrainedTokenizerFast) -> tuple[Any, Any]:
    """Twice the same random weights: as transformers computes, and as we do."""
    torch.manual_seed(0)
    stock, quick = make_vlm(tokenizer), make_vlm(tokenizer)
    quick.load_state_dict(stock.state_dict())
    use_cpu_kernels(quick)
    return stock, quick


COLLATORS: tuple[Callable[[Sequence[Example], int], Mapping[str, Any]], ...] = (collate, collate_for_cpu)


def compare(models: tuple[Any, Any], examples: Sequence[Example]) -> None:
    losses = []
    for model, gather in zip(models, COLLATORS, strict=True):
        model.zero_grad()
        loss = model(**gather(examples, 0)).loss
        loss.backward()
        losses.append(loss.item())
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    for (name, theirs), (_, ours) in zip(models[0].named_parameters(), models[1].named_parameters(), strict=True):
        assert (theirs.grad is None) == (ours.grad is None), name
        if theirs.grad is not None and ours.grad is not None:
            assert (theirs.grad - ours.grad).abs().max() <= 1e-4 * theirs.grad.abs().max(), name


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES.keys())
def test_losses_and_gradients_are_those_of_transformers(models: tuple[Any, Any], encoder: Encoder, stage: Stage) -> None:
    compare(models, CurriculumBatches(encoder, 0, 2, (stage,))[0])


def test_pictures_of_different_sizes_go_one_by_one(models: tuple[Any, Any], encoder: Encoder) -> None:
    parts: list[Any] = []
    for size in ((64, 64), (320, 180)):
        pixels = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
        parts += [chat.Text("a "), chat.Picture(Frame(Image.fromarray(pixels), 0.0)), chat.Text("star", own=True)]
    example = pack([encoder.encode(parts)], encoder.merge)
    assert len({piece.grid for piece in example.pieces if piece.grid is not None}) == 2
    compare(models, [example])


def test_in_half_precision_the_loss_stays_close(models: tuple[Any, Any], encoder: Encoder) -> None:
    examples = CurriculumBatches(encoder, 0, 2, (STAGES["packed clips, laid out"],))[0]
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        stock, quick = (model(**gather(examples, 0)).loss.item() for model, gather in zip(models, COLLATORS, strict=True))
    assert quick == pytest.approx(stock, abs=0.02)


def example_of(branch: Sequence[int]) -> Example:
    ids = np.arange(len(branch))
    return Example(ids, ids, np.stack([ids] * 4), np.array(branch), ())


def test_spans_are_each_prompt_and_then_each_branch_that_sees_it() -> None:
    found = spans([example_of([0, 0, 0, 1, 1, 2]), example_of([0, 1])])
    assert found == [(0, 3, 0, 0), (3, 5, 0, 3), (5, 6, 0, 3), (6, 7, 6, 6), (7, 8, 6, 7)]


def test_spans_see_what_the_mask_shows(encoder: Encoder) -> None:
    examples = CurriculumBatches(encoder, 0, 2, (STAGES["packed clips, laid out"],))[0]
    begin = 0
    seen = torch.zeros(total := sum(len(example.ids) for example in examples), total, dtype=torch.bool)
    for a, b, prompt, prompt_end in spans(examples):
        seen[a:b, prompt:prompt_end] = True
        seen[a:b, a:b] = torch.ones(b - a, b - a, dtype=torch.bool).tril()
    for example in examples:
        end = begin + len(example.ids)
        assert torch.equal(seen[begin:end, begin:end], collate([example], 0)["attention_mask"][0, 0])
        assert not seen[begin:end, :begin].any()
        begin = end


def test_a_batch_that_says_nothing_of_who_sees_whom_is_refused(models: tuple[Any, Any]) -> None:
    with pytest.raises(ValueError, match="neither a mask nor spans: use collate_for_cpu"):
        models[1](input_ids=torch.ones(1, 4, dtype=torch.long))


@pytest.mark.parametrize(("own", "then"), [(None, "128"), ("7", "7")])
def test_few_kernels_are_kept_where_nobody_says_how_many(
    models: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch, own: str | None, then: str
) -> None:
    name = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
    monkeypatch.setenv(name, "of the machine")  # what this test leaves is undone
    if own is None:
        monkeypatch.delenv(name)
    else:
        monkeypatch.setenv(name, own)
    use_cpu_kernels(models[1])
    assert os.environ[name] == then
