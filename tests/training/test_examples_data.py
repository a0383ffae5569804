"""Runs as training data: ids and labels of a thousand random traces under Qwen-like merges, counts, order, and what is left out by name."""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForImageTextToText, PreTrainedTokenizerFast

from act2see.backends.encoder import Encoder
from act2see.backends.pieces import joined
from act2see.core import chat
from act2see.core.errors import ConfigError
from act2see.core.trace import Answer, Frame, Generate, Observation, Retrieve, Step, Thought, Trace
from act2see.storage.runs import Run
from act2see.training.examples import IGNORED, Shrink, collate, collate_single, counts, pack, pieces_of, token_loss
from act2see.training.micro.model import SPECIAL, make_image_processor
from act2see.training.recipe import Recipe
from act2see.training.sources import Examples, limit_pixels, order, survey

RANDOM = np.random.default_rng(0)


def picture(width: int = 64, height: int = 64) -> Image.Image:
    return Image.fromarray(RANDOM.integers(0, 256, (height, width, 3), np.uint8))


FRAMES = tuple(Frame(picture(), float(n)) for n in range(4))
SEEN = Observation(frames=(Frame(picture(128, 64), 1.3),))
MADE = Observation(frames=(Frame(picture(48, 96), None),))


@pytest.fixture(scope="module")
def bytes_encoder() -> Encoder:
    """Every byte a token of its own, but `><` and `>` with a line end are one, as in Qwen's vocabulary: tokens can be counted by hand."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {sign: number for number, sign in enumerate([*alphabet, "><", ">Ċ"])}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=[(">", "<"), (">", "Ċ")]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in SPECIAL])
    return Encoder(PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|endoftext|>"), make_image_processor())


def trace_of(steps: Sequence[Step], id: str = "t", frames: tuple[Frame, ...] = FRAMES[:2]) -> Trace:
    return Trace(id, "clip.mp4", "What is it?", frames, ("red", "blue"), steps=list(steps), finish="answer", made_with={"tools": "retrieve,generate"})


LOOKS = trace_of([Thought("<think>Hm."), Retrieve(" it "), SEEN, Thought(" Red.</think>\n"), Answer("A")])


# Ids and labels


def random_trace(rng: random.Random) -> Trace:
    def words() -> str:
        return "".join(rng.choice(["a", " b", "<", ">", "><", ">\n", "\n", "</think>", "é", "★", ". "]) for _ in range(rng.randint(1, 6))) + "x"

    steps: list[Step] = []
    for _ in range(rng.randint(0, 3)):
        call: Step = Retrieve(words()) if rng.random() < 0.5 else Generate(words())
        steps += [Thought(words()), call, rng.choice([SEEN, MADE, Observation(error="no look is left"), Observation(error=">\n<")])]
    return trace_of([*steps, Thought(words()), Answer(words())], frames=FRAMES[: rng.randint(0, 3)])


def own_words(steps: Sequence[Step]) -> list[str]:
    """What a model wrote before each observation, and at the end; joined as decoding gives it."""
    found = [""]
    for step in steps:
        match step:
            case Observation():
                found.append("")
            case Thought(text):
                found[-1] += text
            case Retrieve(text):
                found[-1] += f"<retrieve>{text}</retrieve>"
            case Generate(text):
                found[-1] += f"<generate>{text}</generate>"
            case Answer(text):
                found[-1] += f"<answer>{text}</answer>"
    return found


@pytest.mark.slow
def test_the_ids_of_a_thousand_random_traces_are_those_of_decoding(bytes_encoder: Encoder) -> None:
    rng = random.Random(0)
    would_merge = 0
    for number in range(1000):
        trace = random_trace(rng)
        style = chat.Style(("same_turn", "tool_turn", "user_turn")[number % 3], opening=rng.choice(["", "<think>\n"]))
        tools = chat.tools_of(trace)
        example = pack([pieces_of(trace, tools, style, bytes_encoder)], bytes_encoder.merge)
        ids = example.ids.tolist()
        labelled: list[int] = []
        looks = [at for at, step in enumerate(trace.steps) if isinstance(step, Observation)]
        for at, wrote in zip([*looks, len(trace.steps)], own_words(trace.steps), strict=True):
            begin = max([look + 1 for look in looks if look < at], default=0)
            prompt = joined(bytes_encoder.encode(chat.segments(chat.turns(replace(trace, steps=trace.steps[:begin]), tools, style))))
            written = [token for run in chat.split_words(wrote) for token in bytes_encoder.words(run)]
            assert ids[: len(prompt) + len(written)] == prompt + written
            assert (example.labels[len(prompt) : len(prompt) + len(written)] == written).all()
            would_merge += list(bytes_encoder.words(wrote)) != written
            labelled += written
            if at == len(trace.steps) or style.rendering != "same_turn":
                labelled.append(bytes_encoder.tokenizer.eos_token_id)
        assert example.labels[example.labels != IGNORED].tolist() == labelled  # so nothing of a prompt or of a frame
        assert counts(trace, tools, style, bytes_encoder)[:2] == (len(ids), len(labelled))
    assert would_merge > 100


def test_labels_are_counted_by_hand(bytes_encoder: Encoder) -> None:
    # `<think>Hm.` 10, `<retrieve> it </retrieve>` 25; frame; ` Red.</think>` 13; `\n<answer>A</answer>` 19; the end 1. In no run do two signs merge.
    example = pack([pieces_of(LOOKS, ("retrieve",), chat.Style(), bytes_encoder)], bytes_encoder.merge)
    labelled = example.labels != IGNORED
    assert labelled.sum() == 10 + 25 + 13 + 19 + 1
    first = int(np.flatnonzero(labelled)[0])
    text = bytes_encoder.tokenizer.decode(example.ids[:first])
    assert text.endswith("<|im_start|>assistant\n")
    # 128 x 64 pixels become 80 x 32: within 64 x 64 in all, in tokens of 16 x 16.
    unlabelled_after = bytes_encoder.tokenizer.decode(example.ids[first:][~labelled[first:]])
    assert unlabelled_after == "<frame><1.3 seconds><|vision_start|>" + "<|image_pad|>" * 10 + "<|vision_end|></frame>"


def test_counting_needs_no_pixels(tiny_encoder: Encoder) -> None:
    for trace in (LOOKS, trace_of([Thought("<think>x</think>"), Generate("y"), MADE, Answer("B")], frames=FRAMES)):
        pieces = pieces_of(trace, ("retrieve",), chat.Style(), tiny_encoder)
        example = pack([pieces], tiny_encoder.merge)
        patches = sum(len(piece.pixels) for piece in pieces if piece.pixels is not None)
        expected = (len(example.ids), int((example.labels != IGNORED).sum()), patches)
        assert counts(trace, ("retrieve",), chat.Style(), tiny_encoder) == expected


@pytest.fixture(scope="module")
def tiny_encoder(tiny_vlm: Path) -> Encoder:
    from act2see.backends.loading import reader

    return reader(str(tiny_vlm))[0]


@pytest.mark.parametrize(
    ("opening", "wrote", "trained"),
    [
        ("", "<think>Hm.</think>", "<think>Hm.</think>"),
        ("<think>\n", "<think>Hm.</think>", "Hm.</think>"),
        ("<think>\n", "<think>\nHm.</think>", "Hm.</think>"),
        ("<think>\n", "Hm.</think>", "Hm.</think>"),
        ("", "Hm.</think>", "<think>Hm.</think>"),
        ("", "Hm.", "Hm."),
    ],
)
def test_what_the_template_writes_is_not_the_models_to_learn(opening: str, wrote: str, trained: str) -> None:
    first = chat.opened(trace_of([Thought(wrote), Answer("A")]), opening).steps[0]
    assert first == Thought(trained)


def test_tools_are_those_that_the_trace_was_made_with() -> None:
    assert chat.tools_of(LOOKS) == ("retrieve", "generate")
    assert chat.tools_of(replace(LOOKS, made_with={"tools": "none"})) == ()
    assert chat.tools_of(replace(LOOKS, made_with={})) == ("retrieve",)


def test_logits_where_a_label_needs_them_give_the_same_loss_as_all(tiny_vlm: Path, tiny_encoder: Encoder) -> None:
    model: Any = AutoModelForImageTextToText.from_pretrained(tiny_vlm, dtype="float32").eval()
    short = pack([pieces_of(LOOKS, ("retrieve",), chat.Style(), tiny_encoder)], tiny_encoder.merge)
    plain = trace_of([Thought("<think>Red, red, red.</think>"), Answer("A")], frames=FRAMES)
    long = pack([pieces_of(plain, ("retrieve",), chat.Style(), tiny_encoder)], tiny_encoder.merge)
    whole = collate([short, long], pad=0)
    single = collate_single([short, long], pad=0)
    labels = single.pop("labels")
    with torch.no_grad():
        expected = float(model(**whole).loss)
        outputs = model(**single)
    assert len(outputs.logits) == int((labels != IGNORED).sum())
    assert float(token_loss(outputs, labels)) == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match="packed"):
        collate_single([pack([pieces_of(LOOKS, (), chat.Style(), tiny_encoder)] * 2, tiny_encoder.merge)], pad=0)


# Runs


@pytest.fixture
def write_run(tmp_path: Path) -> Callable[[Sequence[Trace]], Path]:
    def write(traces: Sequence[Trace]) -> Path:
        run = Run.create(tmp_path / "run", command="test", config={}, seed=0)
        for trace in traces:
            run.append(trace)
        return run.folder

    return write


def read(folder: Path, encoder: Encoder, **changes: Any) -> Any:
    return survey([folder], Recipe("m", **changes), encoder, chat.Style())


def test_what_cannot_be_trained_on_is_skipped_by_name_and_counted(write_run: Callable[..., Path], bytes_encoder: Encoder) -> None:
    unanswered = replace(trace_of([Thought("Hm.")], "cut off"), finish="length")
    torn = trace_of([Thought("x"), Retrieve("y"), Observation(frames=(Frame(picture(), 2.0),)), Answer("B")], "torn")
    folder = write_run([LOOKS, unanswered, torn])
    frames = [json.loads(line) for line in (folder / "traces.jsonl").read_text().splitlines()][2]
    name = next(step for step in frames["steps"] if "frames" in step)["frames"][0]["file"]
    (folder / "frames" / name).unlink()
    with (folder / "traces.jsonl").open("a") as file:
        file.write("{broken\n")
    found = read(folder, bytes_encoder)
    assert [item.id for item in found.items] == ["t"]
    no_answer, unreadable = sorted(found.notes())
    assert unreadable.startswith(f"2 of 4 traces skipped, cannot be read; the first: {folder}/traces.jsonl:3: ")
    assert unreadable.endswith(f"{name} is missing: the trace cannot be read without it")
    assert no_answer == f"1 of 4 traces skipped, without an answer; the first: {folder}:2 (cut off)"
    assert found.skipped["cannot be read"][1].startswith(f"{folder}/traces.jsonl:4: ")


def test_nothing_to_train_on_is_an_error(write_run: Callable[..., Path], bytes_encoder: Encoder) -> None:
    folder = write_run([replace(trace_of([Thought("Hm.")]), finish="end")])
    with pytest.raises(ConfigError, match=r"no traces to train on; 1 of 1 traces skipped, without an answer; the first: .*:1 \(t\)"):
        read(folder, bytes_encoder)


def test_a_long_trace_is_never_cut(write_run: Callable[..., Path], bytes_encoder: Encoder) -> None:
    big = tuple(Frame(picture(128, 128), float(n)) for n in range(6))
    folder = write_run([LOOKS, replace(trace_of(LOOKS.steps, "long"), frames=big)])
    whole = [item.tokens for item in read(folder, bytes_encoder).items]
    limit = whole[1] - 20
    skipping = read(folder, bytes_encoder, max_tokens=limit)
    assert [item.id for item in skipping.items] == ["t"]
    assert skipping.skipped == {f"longer than max_tokens {limit}": [f"{folder}:2 (long) with {whole[1]} tokens"]}

    fewer = read(folder, bytes_encoder, max_tokens=limit, too_long="fewer_frames")
    assert fewer.items[1].shrink == Shrink(every=2)
    # 64 x 64 pixels in all, whatever the picture: this processor makes every picture the same size.
    example = Examples(fewer.items, [1], bytes_encoder, chat.Style())[0]
    assert len(example.ids) == fewer.items[1].tokens <= limit
    assert sum(piece.grid is not None for piece in example.pieces) == 3 + 1
    assert bytes_encoder.tokenizer.decode(example.ids[example.labels != IGNORED]).endswith("<answer>A</answer><|im_end|>")
    assert read(folder, bytes_encoder, max_tokens=limit, too_long="lower_resolution").skipped  # no smaller picture helps here


def test_a_lower_resolution_makes_a_trace_fit(write_run: Callable[..., Path], bytes_encoder: Encoder) -> None:
    processor = make_image_processor()
    processor.size = {"shortest_edge": 256, "longest_edge": 128 * 128}
    encoder = Encoder(bytes_encoder.tokenizer, processor)
    folder = write_run([replace(LOOKS, frames=tuple(Frame(picture(128, 128), float(n)) for n in range(3)))])
    whole = read(folder, encoder).items[0].tokens
    (item,) = read(folder, encoder, max_tokens=whole - 60, too_long="lower_resolution").items
    assert 0.25 <= item.shrink.scale < 1
    example = Examples([item], [0], encoder, chat.Style())[0]
    assert len(example.ids) == item.tokens <= whole - 60
    limit_pixels(encoder, 32 * 32)
    assert read(folder, encoder).items[0].tokens < item.tokens


def test_equal_runs_have_equal_digests(write_run: Callable[..., Path], bytes_encoder: Encoder) -> None:
    folder = write_run([LOOKS])
    before = read(folder, bytes_encoder).digest
    assert read(folder, bytes_encoder).digest == before
    Run.open(folder).append(trace_of([Answer("B")], "another"))
    assert read(folder, bytes_encoder).digest != before


def test_an_epoch_holds_every_trace_once_in_steps_of_like_length() -> None:
    lengths = RANDOM.integers(100, 1000, 803).tolist()
    found = order(lengths, epochs=2, per_step=8, seed=3)
    assert sorted(found[:803]) == sorted(found[803:]) == list(range(803))
    assert found[:803] != found[803:]
    assert found == order(lengths, epochs=2, per_step=8, seed=3) != order(lengths, epochs=2, per_step=8, seed=4)
    spread = np.mean([np.ptp([lengths[index] for index in found[at : at + 8]]) for at in range(0, 800, 8)])
    assert spread < 100
    firsts = [lengths[found[at]] for at in range(0, 400, 8)]
    assert abs(np.corrcoef(firsts, range(50))[0, 1]) < 0.5  # not from short to long
