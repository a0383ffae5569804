"""Every family of local models, on tiny random models of its own classes, against transformers: prompts, logits, texts and usage.

`python scripts/families_table.py` prints the outcome as a table.
"""

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.gemma3.processing_gemma3 import Gemma3Processor
from transformers.models.gemma4.processing_gemma4 import Gemma4Processor
from transformers.models.internvl.processing_internvl import InternVLProcessor
from transformers.models.smolvlm.processing_smolvlm import get_image_prompt_string

from act2see.backends.families import FAMILIES
from act2see.backends.huggingface import HuggingFaceBackend, HuggingFaceSettings
from act2see.backends.kv_cache import CachedConversation
from act2see.backends.loading import reader
from act2see.backends.pieces import Piece, joined
from act2see.core import chat, decoding
from act2see.core.errors import BackendError
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_texts_do_not_depend_on_the_number_of_rows(loaded: Loaded) -> None:
    backend = loaded.backend
    traces = [trace(looks, question) for looks in (0, 1) for question in ("What colour is the star?", "Where is it?")]
    for number, one in enumerate(traces):
        one.id = f"t{number}"
    expected = [decoding.result_of(backend.decode(one, ("retrieve",))).text for one in traces]
    together = batched(backend, len(traces))
    # Sliding windows have no caches that lie side by side: one at a time, which the caller says.
    assert is_concurrent(together) is not loaded.type.startswith("gemma")
    if is_concurrent(together):
        with ThreadPoolExecutor(len(traces)) as pool:
            assert list(pool.map(lambda one: decoding.result_of(together.decode(one, ("retrieve",))).text, traces)) == expected
    else:
        assert together is backend


@pytest.mark.slow
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


def stock_tokens(name: str, count: int) -> str:
    """What the model's own processor puts in a picture's place, for `count` placeholders, and what its chat template has around it."""
    match name:
        case "smolvlm":
            marks = {"fake_token_around_image": "<fake_token_around_image>", "global_image_token": "<global-img>"}
            return str(get_image_prompt_string(0, 0, count, image_token="<image>", **marks))
        case "internvl":
            marks = {"start_image_token": "<img>", "image_token": "<IMG_CONTEXT>", "end_image_token": "</img>"}
            own: Any = SimpleNamespace(**marks, image_seq_length=count)
            return InternVLProcessor.replace_image_token(own, {"num_patches": [1]}, 0) + "\n"
        case "gemma3":
            own = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()))
            own.boi_token, own.image_token, own.eoi_token, own.boi_token_id = "<start_of_image>", "<image_soft_token>", "<end_of_image>", 0
            own.image_token_id = 0
            return Gemma3Processor(Gemma3ImageProcessorPil(), own, image_seq_length=count).full_image_sequence
        case "gemma4" | "gemma4 (large)":
            around = "\n\n" if "large" in name else ""
            own = SimpleNamespace(boi_token="<|image>", image_token="<|image|>", eoi_token="<image|>")
            return around + Gemma4Processor.replace_image_token(own, {"num_soft_tokens_per_image": [count]}, 0) + around
        case "glm4v" | "glm4v_moe" | "glm46v":
            return "<|begin_of_image|>" + "<|image|>" * count + "<|end_of_image|>"
        case _:
            return "<|vision_start|>" + "<|image_pad|>" * count + "<|vision_end|>"


def test_a_picture_has_the_tokens_of_the_models_own_processor(loaded: Loaded) -> None:
    encoder = loaded.backend.encoder
    for frame in (FRAMES[0], Frame(picture(96, 32), None)):
        (piece,) = encoder.encode([chat.Picture(frame)])
        written = stock_tokens(loaded.type, piece.ids.count(encoder.image_id))
        assert list(piece.ids) == encoder.tokenizer.encode(written, add_special_tokens=False)


# Bad input, told before weights are loaded


def folder_of(loaded: Loaded, tmp_path: Path) -> Path:
    """The model's folder without its weights."""
    own = tmp_path / "own"
    shutil.copytree(loaded.folder, own, ignore=shutil.ignore_patterns("*.safetensors"))
    return own


def refusal(folder: Path, **settings: Any) -> str:
    with pytest.raises(BackendError) as refused:
        HuggingFaceBackend.load(HuggingFaceSettings(str(folder), device="cpu", **settings))
    assert "\n" not in str(refused.value)
    return str(refused.value)


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize("loaded", ["qwen2_5_vl"], indirect=True)
def test_a_folder_without_weights_gets_as_far_as_that(loaded: Loaded, tmp_path: Path) -> None:
    """Else the refusals below could come from something else."""
    assert "no weights in safetensors" in refusal(folder_of(loaded, tmp_path))


@pytest.mark.parametrize("loaded", ["qwen2_5_vl"], indirect=True)
def test_a_folder_without_a_processor_is_refused(loaded: Loaded, tmp_path: Path) -> None:
    own = folder_of(loaded, tmp_path)
    (own / "preprocessor_config.json").unlink()
    assert "cannot load the image processor of" in refusal(own)


def test_a_chat_template_that_is_not_the_familys_is_refused(loaded: Loaded, tmp_path: Path) -> None:
    own = folder_of(loaded, tmp_path)
    (own / "chat_template.jinja").write_text("{% for m in messages %}[INST]{{ m.role }}{% endfor %}", encoding="utf-8")
    assert f"is not {loaded.backend.encoder.family.name}'s, as act2see knows it" in refusal(own)


def test_a_context_that_holds_no_frame_is_refused(loaded: Loaded, tmp_path: Path) -> None:
    own = folder_of(loaded, tmp_path)
    edit(own / "config.json", lambda config: config["text_config"].update(max_position_embeddings=64))
    assert "is 64 tokens, and act2see's instructions with one small frame take" in refusal(own)


def test_what_a_family_cannot_do_is_refused(loaded: Loaded, tmp_path: Path) -> None:
    own, family = folder_of(loaded, tmp_path), loaded.backend.encoder.family
    if family.video_pad is None:
        assert "takes initial frames as images only" in refusal(own, frames_as="video")
    for rendering in {"same_turn", "tool_turn", "user_turn"} - set(family.renderings):
        assert "allowed are same_turn and user_turn" in refusal(own, rendering=rendering)


def test_other_models_are_refused_with_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llava"}', encoding="utf-8")
    assert "its chat format and its pictures' tokens are not described in act2see; local models of type qwen3_vl, " in refusal(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}', encoding="utf-8")
    assert "transformers has no model of that type that reads pictures and text" in refusal(tmp_path)


@pytest.mark.parametrize("loaded", ["qwen2_5_vl"], indirect=True)
def test_an_older_folder_keeps_its_chat_template_with_the_processor(loaded: Loaded, tmp_path: Path) -> None:
    own = folder_of(loaded, tmp_path)
    template = (own / "chat_template.jinja").read_text(encoding="utf-8")
    (own / "chat_template.jinja").unlink()
    (own / "chat_template.json").write_text(json.dumps({"chat_template": template}), encoding="utf-8")
    assert reader(str(own))[1].opening == loaded.backend.style.opening
