"""Every family of local models, on tiny random models of its own classes, against transformers: prompts, logits, texts and usage.

`python scripts/families_table.py` prints the outcome as a table.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from act2see.backends.families import FAMILIES
from act2see.backends.huggingface import HuggingFaceBackend, HuggingFaceSettings
from act2see.backends.kv_cache import CachedConversation
from act2see.backends.pieces import Piece, joined
from act2see.core import chat, decoding
from act2see.core.interfaces import batched, is_concurrent
from act2see.core.trace import Frame, Generate, Observation, Retrieve, Step, Thought, Trace
from tiny_families import TINY, make, whole

CLOSE = 1e-4
"""The largest difference in logits (float32) from one full prefill."""
TOKENS = 12
RANDOM = np.random.default_rng(7)


def picture(width: int, height: int) -> Image.Image:
    return Image.fromarray(RANDOM.integers(0, 256, (height, width, 3), np.uint8))


LOOKS: list[list[Step]] = [
    [Thought("I look."), Retrieve(" the star "), Observation((Frame(picture(64, 48), 1.3),))],
    [Thought(" Not there."), Retrieve(" the star again "), Observation((Frame(picture(96, 32), 2.7),))],
    [Generate(" a red star "), Observation((Frame(picture(40, 80), None),))],
]
FRAMES = tuple(Frame(picture(64, 64), float(at)) for at in range(2))


def trace(looks: int, question: str = "What colour is the star?") -> Trace:
    steps = [step for look in LOOKS[:looks] for step in look]
    return Trace("t", "clip.mp4", question, FRAMES, ("red", "blue"), steps=steps)


def pictures(asked: Trace) -> list[Image.Image]:
    shown = [*asked.frames, *(frame for step in asked.steps if isinstance(step, Observation) for frame in step.frames)]
    return [frame.image for frame in shown]


@dataclass(frozen=True)
class Loaded:
    """A family's tiny model, and transformers' own way to ask it."""

    type: str
    backend: HuggingFaceBackend
    folder: Path

    def pieces(self, asked: Trace) -> list[Piece]:
        return self.backend.encoder.prompt(chat.turns(asked, ("retrieve",), self.backend.style))

    def whole(self, asked: Trace) -> dict[str, torch.Tensor]:
        encoder = self.backend.encoder
        return whole(TINY[self.type], self.backend.model, encoder.image_processor, self.pieces(asked), pictures(asked), encoder.image_id)

    def full_logits(self, asked: Trace) -> torch.Tensor:
        with torch.no_grad():
            logits: torch.Tensor = self.backend.model(**self.whole(asked)).logits[0, -1].float()
        return logits

    def conversation(self) -> CachedConversation:
        return CachedConversation(self.backend.model, self.backend.encoder.merge)


@pytest.fixture(scope="session", params=TINY)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    folder = make(TINY[request.param], tmp_path_factory.mktemp(request.param.partition(" ")[0]))
    settings = HuggingFaceSettings(str(folder), device="cpu", temperature=0, max_tokens=TOKENS)
    return Loaded(request.param, HuggingFaceBackend.load(settings), folder)


def test_every_family_is_tested() -> None:
    assert {name.partition(" ")[0] for name in TINY} == {name for family in FAMILIES for name in family.types}


def test_every_prompt_extends_the_last(loaded: Loaded) -> None:
    for rendering in loaded.backend.encoder.family.renderings:
        style = chat.Style(rendering, opening=loaded.backend.style.opening)
        prompts = [joined(loaded.backend.encoder.prompt(chat.turns(trace(looks), ("retrieve",), style))) for looks in range(4)]
        for shorter, longer in pairwise(prompts):
            assert longer[: len(shorter)] == shorter, rendering
            assert len(longer) > len(shorter)


def test_logits_after_looks_are_those_of_one_full_prefill(loaded: Loaded) -> None:
    conversation, shared = loaded.conversation(), 0
    for looks in (0, 1, 3):
        asked = trace(looks)
        logits, tokens, reused = conversation.feed(loaded.pieces(asked))
        expected = loaded.full_logits(asked)
        assert float((logits - expected).abs().max()) < CLOSE, looks
        assert tokens == len(joined(loaded.pieces(asked)))
        assert reused == shared
        # The model writes something else than the steps say: the cache must go back.
        for token in (5, 6, 7):
            conversation.append(token)
        shared = tokens


def test_a_picture_and_its_place_matter(loaded: Loaded) -> None:
    """Else the test above could not fail."""
    asked, other = trace(3), trace(3)
    other.steps[2] = Observation((Frame(picture(64, 48), 1.3),))
    expected = loaded.full_logits(asked)
    assert float((loaded.full_logits(other) - expected).abs().max()) > 1e-2
    conversation = loaded.conversation()
    conversation.feed(loaded.pieces(trace(1)))
    held = conversation._held[-1]
    object.__setattr__(held, "after", held.after + 1)
    assert float((conversation.feed(loaded.pieces(asked))[0] - expected).abs().max()) > 10 * CLOSE


def test_greedy_text_is_that_of_generate(loaded: Loaded) -> None:
    backend = loaded.backend
    asked = trace(0)
    for looks in (0, 1, 3):
        asked = trace(looks)
        found = decoding.result_of(backend.decode(asked, ("retrieve",)))
        with torch.no_grad():
            ids = backend.model.generate(**loaded.whole(asked), max_new_tokens=TOKENS, do_sample=False)[0]
        own = [token for token in ids[len(joined(loaded.pieces(asked))) :].tolist() if token not in backend._ends]
        text = backend.encoder.tokenizer.decode(own)
        assert found.text == text, looks
        assert found.text


def test_texts_do_not_depend_on_the_number_of_rows(loaded: Loaded) -> None:
    backend = loaded.backend
    traces = [trace(looks, question) for looks in (0, 1) for question in ("What colour is the star?", "Where is it?")]
    for number, one in enumerate(traces):
        one.id = f"t{number}"
    expected = [decoding.result_of(backend.decode(one, ("retrieve",))).text for one in traces]
    together = batched(backend, len(traces))
    # Linear attention and sliding windows have no caches that lie side by side: one at a time, which the caller says.
    assert is_concurrent(together) is loaded.conversation().can_be_cut
    if is_concurrent(together):
        with ThreadPoolExecutor(len(traces)) as pool:
            assert list(pool.map(lambda one: decoding.result_of(together.decode(one, ("retrieve",))).text, traces)) == expected
    else:
        assert together is backend


def test_usage_counts_prompt_new_and_reused_tokens(loaded: Loaded) -> None:
    backend = HuggingFaceBackend(loaded.backend.settings, loaded.backend.model, loaded.backend.encoder, loaded.backend.style)
    before = 0
    for looks in (0, 1, 3):
        asked = trace(looks)
        found = decoding.result_of(backend.decode(asked, ("retrieve",)))
        prompt = len(joined(loaded.pieces(asked)))
        assert (found.cost.tokens_in, found.cost.tokens_reused) == (prompt, before)
        assert found.cost.tokens_out == TOKENS or found.stopped == "end"
        before = prompt
