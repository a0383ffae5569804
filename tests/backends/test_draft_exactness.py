"""Drafts of any kind, right or wrong, change nothing: neither what a row says and costs nor what its cache holds for the next turn."""

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

import act2see
from act2see.backends.batching import DecodingBatch, Row
from act2see.backends.continuation import Decoding
from act2see.backends.drafts import Drafts
from act2see.backends.huggingface import HuggingFaceBackend, HuggingFaceSettings
from act2see.backends.kv_cache import CachedConversation, Slots, begun_like
from act2see.backends.pieces import Piece
from act2see.core.trace import Frame, Observation, Retrieve, Step, Thought, Trace

ROWS = 3
STUCK_AFTER = 3


@cache
def backend() -> HuggingFaceBackend:
    model = Path(act2see.__file__).parent / "micro" / "vlm"
    return HuggingFaceBackend.load(HuggingFaceSettings(str(model), device="cpu", top_k=0, top_p=1.0))


@cache
def trace(number: int) -> Trace:
    pixels = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return Trace(f"t{number}", "clip.mp4", "What is the star after"[: 6 + 7 * number], (Frame(Image.fromarray(pixels), 0.0),), ("red", "blue"))


def pieces(number: int, said: str = "") -> list[Piece]:
    """The prompt of a conversation, after a look if it has said something."""
    first = trace(number)
    steps: list[Step] = [Thought(said), Retrieve(" it "), Observation(frames=first.frames)] if said else []
    return backend()._pieces(Trace(first.id, first.video, first.question, first.frames, first.choices, steps=steps), ("retrieve",))


@dataclass(frozen=True)
class Limits:
    """How a row draws, and where it ends at the latest."""

    temperature: float
    max_tokens: int
    is_stuck: bool
    """Whether it says one word again and again after some tokens, until that is noticed."""


def row(number: int, limits: Limits, said: str = "") -> Row:
    one = backend()
    one.settings = HuggingFaceSettings("", temperature=limits.temperature, top_k=0, top_p=1.0)
    sampler, drawn = one._sampler(trace(number)), itertools.count()

    def draw(logits: torch.Tensor) -> int:
        token = sampler(logits)
        return one.encoder.words(" the")[0] if limits.is_stuck and next(drawn) >= STUCK_AFTER else token

    decoding = Decoding(one.encoder.tokenizer, draw, one._ends, max_tokens=limits.max_tokens, repeated_tokens=4)
    return Row(f"t{number}", pieces(number, said), decoding)


@cache
def alone(number: int, limits: Limits, said: str = "") -> Row:
    """The same row without a batch."""
    one, conversation = row(number, limits, said), CachedConversation(backend().model, backend().encoder.merge)
    logits, one.tokens_in, _ = conversation.feed(one.pieces)
    one.decoding.take(logits)
    while one.decoding.stopped is None:
        one.decoding.take(conversation.append(one.decoding.ids[-1]))
    return one


@cache
def logits_after(number: int, said: str) -> torch.Tensor:
    """Those of the next turn's prompt, prefilled as a whole."""
    return CachedConversation(backend().model, backend().encoder.merge).feed(pieces(number, said))[0]


class AnyDrafts(Drafts):
    """Drafts that begin like what comes and go on at random: with the end of the turn, with stop strings, and beyond all limits."""

    def __init__(self, coming: Sequence[Sequence[int]], seed: int) -> None:
        super().__init__()
        self.coming, self.random = coming, random.Random(seed)
        self.likely = sorted({*backend()._ends, *backend().encoder.words("</answer></retrieve>"), *(token for ids in coming for token in ids)})

    def after(self, ids: Sequence[int]) -> list[int]:
        known = next((one[len(ids) :] for one in self.coming if list(one[: len(ids)]) == list(ids)), ())
        right = [*known[: self.random.randrange(6)]]
        return right + self.random.choices(self.likely, k=self.random.randrange(3))


def drive(batch: DecodingBatch, rows: Sequence[Row], cancelled: int | None, cancel_at: int) -> None:
    """Decode the rows as the batch's thread does."""
    batch._waiting.extend(rows)
    steps = 0
    with torch.inference_mode():
        while batch._active or batch._waiting:
            if cancelled is not None and steps == cancel_at:
                rows[cancelled].is_wanted = False
            batch._admit()
            batch._step()
            steps += 1


@given(
    limits=st.builds(Limits, st.sampled_from([0.0, 1.0]), st.sampled_from([1, 7, 20]), st.booleans()),
    seed=st.integers(0, 2**16),
    cancelled=st.none() | st.integers(0, ROWS - 1),
    cancel_at=st.integers(0, 4),
    fails_at=st.none() | st.integers(0, 12),
)
@settings(max_examples=8, deadline=None, derandomize=True, phases=(Phase.generate,))  # shrinking would take minutes
def test_no_draft_changes_a_text_a_cost_or_the_next_turn(
    limits: Limits, seed: int, cancelled: int | None, cancel_at: int, fails_at: int | None
) -> None:
    one = backend()
    batch = DecodingBatch(one.model, one.encoder.merge, ROWS)
    assert batch._slots.takes_drafts
    expected = [alone(number, limits) for number in range(ROWS)]
    batch._drafts = AnyDrafts([found.decoding.ids for found in expected], seed)
    step, passes = Slots.step, 0

    def failing(self: Slots, *given: Any) -> list[torch.Tensor]:
        nonlocal passes
        passes += 1
        found = step(self, *given)
        if passes - 1 == fails_at:
            for row_number in range(len(self.lengths)):
                self.lengths[row_number] -= 1  # as before, but for what was written beyond the end
            raise torch.OutOfMemoryError("out of memory")
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Slots, "step", failing)
        rows = [row(number, limits) for number in range(ROWS)]
        drive(batch, rows, cancelled, cancel_at)
    for number, (found, right) in enumerate(zip(rows, expected, strict=True)):
        if found.is_wanted:
            assert found.error is None
            assert (found.decoding.text, found.decoding.ids, found.decoding.stopped) == (
                right.decoding.text,
                right.decoding.ids,
                right.decoding.stopped,
            )
            assert (found.tokens_in, found.decoding.tokens_out) == (right.tokens_in, right.decoding.tokens_out)
        if (cached := batch._kept.get(found.conversation)) is not None:
            assert cached.cache.get_seq_length() == cached._tokens
            said = right.decoding.text + "."
            copied = begun_like([cached], pieces(number, said))
            assert copied is not None
            for conversation in (copied, cached):
                logits, _, reused = conversation.feed(pieces(number, said))
                assert reused
                torch.testing.assert_close(logits, logits_after(number, said), atol=1e-4, rtol=0)
