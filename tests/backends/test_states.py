"""Caches that cannot be cropped return to borders, exactly: the end of the pictures, of a prompt, and of the model's turns."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from act2see.backends.families.gemma3 import masks_of
from act2see.backends.huggingface import HuggingFaceBackend, HuggingFaceSettings
from act2see.backends.kv_cache import CachedConversation, Slots
from act2see.backends.pieces import Piece, joined
from act2see.backends.states import MOST_BORDERS, bytes_of_states, states_of
from act2see.core import chat, decoding
from act2see.core.interfaces import Backend, batched
from act2see.core.trace import Frame, Observation, Retrieve, Thought, Trace
from tiny_families import TINY, make

CLOSE = 1e-4
RANDOM = np.random.default_rng(3)


def frame(seconds: float) -> Frame:
    return Frame(Image.fromarray(RANDOM.integers(0, 256, (48, 64, 3), np.uint8)), seconds)


FIRST = Trace("t", "clip.mp4", "What colour is the star?", (frame(0), frame(1)), ("red", "blue"))
LOOKED = replace(FIRST, steps=[Thought("I look."), Retrieve(" it "), Observation((frame(2),))])


@pytest.fixture(scope="module", params=["qwen3_5", "gemma3"])
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> HuggingFaceBackend:
    folder: Path = make(TINY[request.param], tmp_path_factory.mktemp("model"))
    return HuggingFaceBackend.load(HuggingFaceSettings(str(folder), device="cpu", temperature=0))


def pieces(backend: HuggingFaceBackend, trace: Trace) -> list[Piece]:
    return backend.encoder.prompt(chat.turns(trace, ("retrieve",), backend.style))


def fed(backend: HuggingFaceBackend, conversation: CachedConversation, trace: Trace) -> int:
    """The tokens that were reused, once the logits are known to be those of a new conversation."""
    logits, tokens, reused = conversation.feed(pieces(backend, trace))
    expected, all_tokens, _ = CachedConversation(backend.model, backend.encoder.merge).feed(pieces(backend, trace))
    assert float((logits - expected).abs().max()) < CLOSE
    assert tokens == all_tokens
    return reused


def after_own_turn(backend: HuggingFaceBackend) -> tuple[CachedConversation, int]:
    """A conversation in which the model wrote what `LOOKED` says, and its tokens."""
    conversation = CachedConversation(backend.model, backend.encoder.merge)
    fed(backend, conversation, FIRST)
    own = [token for piece in pieces(backend, LOOKED) if piece.own for token in piece.ids]
    for token in own:
        conversation.append(token)
    return conversation, len(joined(pieces(backend, FIRST))) + len(own)


def test_nothing_is_computed_twice_when_the_conversation_goes_on(backend: HuggingFaceBackend) -> None:
    conversation, tokens = after_own_turn(backend)
    assert fed(backend, conversation, LOOKED) == tokens


def test_another_frame_in_the_same_look_returns_to_the_end_of_the_turn(backend: HuggingFaceBackend) -> None:
    conversation, tokens = after_own_turn(backend)
    fed(backend, conversation, LOOKED)
    for _ in range(2):
        other = replace(LOOKED, steps=[*LOOKED.steps[:2], Observation((frame(2),))])
        assert fed(backend, conversation, other) == tokens


def test_another_question_about_the_same_frames_reuses_them(backend: HuggingFaceBackend) -> None:
    conversation, _ = after_own_turn(backend)
    fed(backend, conversation, LOOKED)
    prompt = pieces(backend, FIRST)
    last = max(number for number, piece in enumerate(prompt) if piece.is_picture)
    assert fed(backend, conversation, replace(FIRST, question="Where is it?")) == len(joined(prompt[: last + 1]))


def test_other_frames_begin_anew(backend: HuggingFaceBackend) -> None:
    conversation, _ = after_own_turn(backend)
    assert fed(backend, conversation, replace(FIRST, frames=(frame(0), frame(1)))) == 0


def test_few_borders_are_kept_and_the_first_of_all(backend: HuggingFaceBackend) -> None:
    conversation = CachedConversation(backend.model, backend.encoder.merge)
    trace = FIRST
    for number in range(MOST_BORDERS):
        trace = replace(trace, steps=[*trace.steps, Thought(f"Look {number}."), Retrieve(" it "), Observation((frame(number),))])
        conversation.feed(pieces(backend, trace))
    assert conversation._borders is not None
    assert len(conversation._borders._kept) == MOST_BORDERS
    assert fed(backend, conversation, replace(FIRST, question="Where is it?")) > 0


def test_masks_are_those_of_a_window_over_pictures_that_see_themselves(backend: HuggingFaceBackend) -> None:
    pads = torch.tensor([False, True, True, False, True])
    masks = masks_of(pads, held=5, window=4, model=backend.model)
    full, window = masks["full_attention"], masks["sliding_attention"]
    assert full is not None
    assert window is not None
    # Rows are the five tokens after five others; the window's layer holds the last three of these.
    assert (full[0, 0] == 0).int().tolist() == [
        [1, 1, 1, 1, 1, 1, 0, 0, 0, 0],
        [1, 1, 1, 1, 1, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 1, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 1, 1, 1, 1, 1, 0],
        [1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
    ]
    assert (window[0, 0] == 0).int().tolist() == [
        [1, 1, 1, 1, 0, 0, 0, 0],
        [0, 1, 1, 1, 1, 1, 0, 0],
        [0, 0, 1, 1, 1, 1, 0, 0],
        [0, 0, 0, 1, 1, 1, 1, 0],
        [0, 0, 0, 0, 1, 1, 1, 1],
    ]


# Linear attention in a batch


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> HuggingFaceBackend:
    folder = make(TINY["qwen3_5"], tmp_path_factory.mktemp("linear"))
    return HuggingFaceBackend.load(HuggingFaceSettings(str(folder), device="cpu", temperature=0, max_tokens=9))


def asked(backend: Backend, trace: Trace) -> list[tuple[str, int, int]]:
    """Text, prompt and reused tokens of a first continuation, and of the next one after a look."""
    first = decoding.result_of(backend.decode(trace, ("retrieve",)))
    looked = replace(trace, steps=[Thought(first.text), Retrieve(" it "), Observation((trace.frames[0],))])
    second = decoding.result_of(backend.decode(looked, ("retrieve",)))
    return [(one.text, one.cost.tokens_in, one.cost.tokens_reused) for one in (first, second)]


def test_conversations_come_and_go_in_a_batch_as_if_alone(linear: HuggingFaceBackend) -> None:
    traces = [replace(FIRST, id=f"t{number}", question="What colour is the star? " * (number + 1), frames=(frame(0),)) for number in range(4)]
    expected = [asked(HuggingFaceBackend(linear.settings, linear.model, linear.encoder, linear.style), trace) for trace in traces]
    together = batched(linear, 4)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda trace: asked(together, trace), traces)) == expected


def test_a_conversation_in_a_batch_begins_with_anothers_frames(linear: HuggingFaceBackend) -> None:
    together = batched(linear, 2)
    (first, _), (other, _) = asked(together, FIRST), asked(together, replace(FIRST, id="other", question="Where is it?"))
    assert first[2] == 0
    assert other[2] > 0
    alone = HuggingFaceBackend(linear.settings, linear.model, linear.encoder, linear.style)
    assert other[0] == asked(alone, replace(FIRST, question="Where is it?"))[0][0]


def test_a_forward_pass_that_fails_changes_no_state(linear: HuggingFaceBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch is then tried row by row, from the states before."""
    conversation = CachedConversation(linear.model, linear.encoder.merge)
    conversation.feed(pieces(linear, FIRST))
    slots = Slots(linear.model, 1)
    slots.join(conversation.cache)
    before = {place: state.clone() for place, state in slots._states.items()}
    with monkeypatch.context() as patch:
        patch.setattr(linear.model.lm_head, "forward", fail)
        with pytest.raises(ArithmeticError):
            slots.step([[5]], [conversation.next_position])
    assert all(torch.equal(state, before[place]) for place, state in slots._states.items())
    expected = conversation.append(5)
    assert torch.allclose(slots.step([[5]], [conversation.next_position - 1])[0][0], expected, atol=CLOSE)


def fail(*args: object) -> None:
    raise ArithmeticError


def test_memory_of_states_is_told_from_the_config(linear: HuggingFaceBackend) -> None:
    conversation = CachedConversation(linear.model, linear.encoder.merge)
    conversation.feed(pieces(linear, FIRST))
    held = sum(state.numel() * state.element_size() for state in states_of(conversation.cache).values())
    assert bytes_of_states(linear.model.config.get_text_config(), 4) == held
