"""Training examples: the ids that decoding would hold, labels on the model's own words alone, a packed loss that is the sum of its parts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

from act2see.backends.encoder import Encoder
from act2see.backends.pieces import Piece, joined
from act2see.core import chat
from act2see.core.trace import Answer, Frame, Generate, Observation, Retrieve, Step, Thought, Trace
from act2see.training.examples import IGNORED, Example, collate, pack, pieces_of

RANDOM = np.random.default_rng(0)
RENDERINGS: list[chat.Rendering] = ["same_turn", "tool_turn", "user_turn"]


def picture(width: int = 64, height: int = 64) -> Image.Image:
    return Image.fromarray(RANDOM.integers(0, 256, (height, width, 3), np.uint8))


FRAMES = tuple(Frame(picture(), float(n)) for n in range(3))
LOOKED = Observation(frames=(Frame(picture(), 1.3),))
WIDE = Observation(frames=(Frame(picture(128, 64), 2.7),))
MADE = Observation(frames=(Frame(picture(48, 96), None),))

KNOWN: list[Step] = [Thought("<think>At 0.0 seconds I see it: a red star.</think>"), Answer("A")]
LOOKS: list[Step] = [
    Thought("<think>I look."), Retrieve(" the star "), LOOKED, Thought(" Not there."), Retrieve(" it "), WIDE, Thought(" Red.</think>"), Answer("A"),
]  # fmt: skip
FAILS: list[Step] = [
    Thought("<think>I look."),
    Retrieve(" the star "),
    Observation(error="no look is left"),
    Thought(" I guess.</think>\n"),
    Answer("B"),
]
IMAGINES: list[Step] = [Thought("<think>What if?"), Generate(" a blue star "), MADE, Thought(" Blue.</think>"), Answer("B")]
STRETCH = Observation(frames=tuple(Frame(picture(), 1 + n / 4) for n in range(1, 4)))
PART = Observation(frames=(Frame(picture(96, 64), 1.3, box=(0.2, 0.1, 0.6, 0.5)),))
SPOTS: list[Step] = [
    Thought("<think>When?"), Retrieve(" 1 to 2 s "), STRETCH, Thought(" Then."), Retrieve(" zoom 0.2 0.1 0.6 0.5 at 1.3 s "), PART,
    Thought(" It reads 7.</think>"), Answer("A"),
]  # fmt: skip
BREAKS_OFF: list[Step] = [Thought("<think>I cannot say.")]


def trace_of(steps: Sequence[Step], question: str = "What colour is the star?", frames: tuple[Frame, ...] = FRAMES) -> Trace:
    return Trace("t", "clip.mp4", question, frames, ("red", "blue"), steps=list(steps), finish="answer")


def encoded(
    encoder: Encoder, steps: Sequence[Step], question: str = "What colour is the star?", rendering: chat.Rendering = "same_turn"
) -> list[Piece]:
    return pieces_of(trace_of(steps, question), ("retrieve",), chat.Style(rendering), encoder)


@pytest.fixture(scope="module")
def model(tiny_vlm: Path) -> Any:
    return AutoModelForImageTextToText.from_pretrained(tiny_vlm, dtype="float32").eval()


@pytest.fixture(scope="module")
def encoder(tiny_vlm: Path) -> Encoder:
    return Encoder(AutoTokenizer.from_pretrained(tiny_vlm), AutoImageProcessor.from_pretrained(tiny_vlm))


@pytest.fixture(params=["tags are tokens", "tags are merged"])
def either_encoder(request: pytest.FixtureRequest, encoder: Encoder, merging_encoder: Encoder) -> Encoder:
    return encoder if request.param == "tags are tokens" else merging_encoder


# Loss


def losses(model: Any, examples: Sequence[Example]) -> torch.Tensor:
    """The summed loss of each example in the batch: every label against the logits one token before it, as transformers' own loss does."""
    batch = collate(examples, pad=0)
    labels = batch.pop("labels")
    with torch.no_grad():
        logits = model(**batch).logits.float()
    each = functional.cross_entropy(logits[:, :-1].transpose(1, 2), labels[:, 1:], reduction="none", ignore_index=IGNORED)
    return each.sum(dim=1)


def the_models_own_loss(model: Any, pieces: Sequence[Piece], image_id: int) -> float:
    """What transformers makes of one trace when it is given no more than ids, labels and pictures, and counts positions itself: the oracle."""
    ids = torch.tensor([joined(pieces)])
    labels = torch.cat([torch.full((len(piece.ids),), IGNORED) if not piece.own else torch.tensor(piece.ids) for piece in pieces])[None]
    shown = [piece for piece in pieces if piece.pixels is not None]
    model.model.rope_deltas = None
    with torch.no_grad():
        loss = model(
            input_ids=ids,
            labels=labels,
            attention_mask=torch.ones_like(ids),
            mm_token_type_ids=(ids == image_id).int(),
            pixel_values=torch.cat([torch.from_numpy(piece.pixels) for piece in shown]),
            image_grid_thw=torch.tensor([piece.grid for piece in shown]),
        ).loss
    return float(loss) * int((labels[:, 1:] != IGNORED).sum())


def test_one_traces_loss_is_the_one_that_transformers_counts(model: Any, encoder: Encoder) -> None:
    for steps in (KNOWN, LOOKS, IMAGINES):
        pieces = encoded(encoder, steps)
        assert losses(model, [pack([pieces], encoder.merge)]).item() == pytest.approx(the_models_own_loss(model, pieces, encoder.image_id), rel=1e-5)


def branches(encoder: Encoder) -> list[list[Piece]]:
    """Traces over the same frames: other questions, other renderings, frames inside, an error, no answer."""
    return [
        encoded(encoder, LOOKS),
        encoded(encoder, KNOWN, "Where is the ring?"),
        encoded(encoder, LOOKS, "Which shape is red?", "user_turn"),
        encoded(encoder, FAILS, "Which shape is blue?"),
        encoded(encoder, IMAGINES, "What if it were blue?", "tool_turn"),
        encoded(encoder, BREAKS_OFF, "Why?"),
    ]


def test_a_packed_loss_is_the_sum_of_the_unpacked_ones(model: Any, encoder: Encoder) -> None:
    sequences = branches(encoder)
    packed = pack(sequences, encoder.merge)
    apart = [losses(model, [pack([sequence], encoder.merge)]).item() for sequence in sequences]
    assert losses(model, [packed]).item() == pytest.approx(sum(apart), rel=1e-5)
    assert len(packed.ids) < 0.6 * sum(len(joined(sequence)) for sequence in sequences)  # the frames stand there once


def test_the_order_of_branches_does_not_matter(model: Any, encoder: Encoder) -> None:
    sequences = branches(encoder)[:3]
    forth, back = (losses(model, [pack(order, encoder.merge)]).item() for order in (sequences, sequences[::-1]))
    assert forth == pytest.approx(back, rel=1e-5)


def test_examples_of_different_lengths_do_not_disturb_each_other(model: Any, encoder: Encoder) -> None:
    sequences = branches(encoder)
    examples = [pack(sequences[:3], encoder.merge), pack(sequences[3:4], encoder.merge), pack(sequences[4:], encoder.merge)]
    together = losses(model, examples)
    assert torch.isfinite(together).all()
    assert together.tolist() == pytest.approx([losses(model, [example]).item() for example in examples], rel=1e-5)


def test_two_traces_of_one_question_are_packed_exactly(model: Any, encoder: Encoder) -> None:
    """Their prompts are the same up to the model's first word."""
    sequences = [encoded(encoder, LOOKS), encoded(encoder, FAILS), encoded(encoder, KNOWN)]
    apart = [losses(model, [pack([sequence], encoder.merge)]).item() for sequence in sequences]
    assert losses(model, [pack(sequences, encoder.merge)]).item() == pytest.approx(sum(apart), rel=1e-5)


# Labels


def own_ids(encoder: Encoder, text: str) -> list[int]:
    """The ids of words that a model wrote: each run up to a closing tag on its own, as decoding leaves them in the cache."""
    return [token for words in chat.split_words(text) for token in encoder.words(words)]


def own_text(steps: Sequence[Step]) -> str:
    return "".join(piece for piece in chat.render(steps) if isinstance(piece, str))


@pytest.mark.parametrize("rendering", RENDERINGS)
@pytest.mark.parametrize(
    "steps", [KNOWN, LOOKS, FAILS, IMAGINES, SPOTS, BREAKS_OFF], ids=["known", "looks", "fails", "imagines", "spots", "breaks off"]
)
def test_labels_are_the_models_own_words_and_the_ends_of_its_turns(either_encoder: Encoder, steps: list[Step], rendering: chat.Rendering) -> None:
    example = pack([encoded(either_encoder, steps, rendering=rendering)], either_encoder.merge)
    labelled = example.labels[example.labels != IGNORED]
    assert (labelled == example.ids[example.labels != IGNORED]).all()
    turns = 1 + (rendering != "same_turn") * sum(isinstance(step, Observation) for step in steps)
    text = either_encoder.tokenizer.decode(labelled)
    assert text.count("<|im_end|>") == turns
    assert text.endswith("<|im_end|>")
    assert text.replace("<|im_end|>", "") == own_text(steps)


def test_nothing_between_frame_tags_is_labelled(encoder: Encoder) -> None:
    example = pack([encoded(encoder, LOOKS)], encoder.merge)
    opening, closing = (encoder.tokenizer.convert_tokens_to_ids(tag) for tag in ("<frame>", "</frame>"))
    inside = np.cumsum((example.ids == opening).astype(int) - (example.ids == closing).astype(int)) + (example.ids == closing)
    # The system's turn names the tags too.
    after_the_prompt = np.arange(len(example.ids)) > np.flatnonzero(example.labels != IGNORED)[0]
    assert (inside & after_the_prompt).sum() > 2 * 16
    assert (example.labels[(inside > 0)] == IGNORED).all()


# Law 3: what is trained on is what decoding would hold


def decoded_ids(encoder: Encoder, trace: Trace, style: chat.Style) -> list[list[int]]:
    """Before each call of the model its prompt, then the prompt with the words that it wrote: as a backend feeds them."""
    found = []
    begins = [0, *[n + 1 for n, step in enumerate(trace.steps) if isinstance(step, Observation)]]
    ends = [*[n for n, step in enumerate(trace.steps) if isinstance(step, Observation)], len(trace.steps)]
    for begin, end in zip(begins, ends, strict=True):
        prompt = encoder.encode(chat.segments(chat.turns(trace_of(trace.steps[:begin], trace.question, trace.frames), ("retrieve",), style)))
        found += [joined(prompt), [*joined(prompt), *own_ids(encoder, own_text(trace.steps[begin:end]))]]
    return found


@pytest.mark.parametrize("rendering", RENDERINGS)
@pytest.mark.parametrize(
    "steps", [KNOWN, LOOKS, FAILS, IMAGINES, SPOTS, BREAKS_OFF], ids=["known", "looks", "fails", "imagines", "spots", "breaks off"]
)
def test_an_examples_ids_are_those_that_decoding_holds(either_encoder: Encoder, steps: list[Step], rendering: chat.Rendering) -> None:
    style = chat.Style(rendering)
    trained = joined(pieces_of(trace_of(steps), ("retrieve",), style, either_encoder))
    held = decoded_ids(either_encoder, trace_of(steps), style)
    assert all(trained[: len(ids)] == ids for ids in held)
    assert trained == [*held[-1], either_encoder.tokenizer.convert_tokens_to_ids("<|im_end|>")]


words = st.text("ab <>/\nS.é★", min_size=1, max_size=12).filter(lambda text: bool(text.strip()))
a_thought = words.map(Thought)
a_look = st.tuples(a_thought, words.map(Retrieve), st.sampled_from([Observation(error="no"), Observation(error="</frame>\n")])).map(list)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.lists(a_look, max_size=2), a_thought, words.map(Answer), st.sampled_from(RENDERINGS))
def test_whatever_was_written_is_trained_on_as_it_was_decoded(
    merging_encoder: Encoder, looks: list[list[Step]], thought: Thought, answer: Answer, rendering: chat.Rendering
) -> None:
    trace = trace_of([*[step for look in looks for step in look], thought, answer], frames=())
    trained = joined(pieces_of(trace, ("retrieve",), chat.Style(rendering), merging_encoder))
    assert all(trained[: len(ids)] == ids for ids in decoded_ids(merging_encoder, trace, chat.Style(rendering)))


# Shape


def test_a_packed_example_holds_every_token_of_every_trace(encoder: Encoder) -> None:
    sequences = branches(encoder)
    packed = pack(sequences, encoder.merge)
    for number, sequence in enumerate(sequences, start=1):
        kept = (packed.branch == 0) | (packed.branch == number)
        assert packed.ids[kept].tolist() == joined(sequence)
        alone = pack([sequence], encoder.merge)
        assert (packed.positions[1:, kept] == alone.positions[1:]).all()
        assert packed.labels[kept].tolist() == alone.labels.tolist()
    assert packed.ids.tolist() == joined(packed.pieces)
    assert packed.positions[0].tolist() == list(range(len(packed.ids)))


def test_a_batch_is_padded_and_never_cut(encoder: Encoder) -> None:
    long = pack([encoded(encoder, [Thought("<think>" + "star " * 3000), *LOOKS[1:]])], encoder.merge)
    short = pack([encoded(encoder, KNOWN)], encoder.merge)
    batch = collate([long, short], pad=0)
    assert len(long.ids) > 3000
    assert batch["input_ids"].shape == batch["labels"].shape == (2, len(long.ids))
    assert batch["position_ids"].shape == (4, 2, len(long.ids))
    assert batch["attention_mask"].shape == (2, 1, len(long.ids), len(long.ids))
    assert batch["input_ids"][1, : len(short.ids)].tolist() == short.ids.tolist()
    assert (batch["labels"][1, len(short.ids) :] == IGNORED).all()
    assert batch["image_grid_thw"].shape == (8, 3)
    assert len(batch["pixel_values"]) == int(batch["image_grid_thw"].prod(dim=1).sum())


def test_a_branch_sees_the_prompt_and_its_own_past_alone(encoder: Encoder) -> None:
    packed = pack(branches(encoder)[:3], encoder.merge)
    (mask,) = collate([packed], pad=0)["attention_mask"][0]
    for row in range(len(packed.ids)):
        seen = mask[row].numpy()
        assert set(packed.branch[seen].tolist()) <= {0, int(packed.branch[row])}
        assert seen[row]
        assert not seen[row + 1 :].any()
