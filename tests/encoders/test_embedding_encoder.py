"""Qwen3-VL-Embedding's class on a tiny random model, loaded as sentence-transformers loads a real one: its vectors are transformers' own states."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer, Qwen3VLModel

from act2see.core.errors import ConfigError
from act2see.core.interfaces import FrameEncoder
from act2see.tools.encoders.embedding import EmbeddingEncoder
from act2see.tools.encoders.loading import EncoderSettings

QUERIES = ("the red star", "where is the ring?")


def last_states(folder: Path, message: list[dict[str, str]], **pictures: Any) -> Any:
    """The last token's state over a message in the model's chat template, at length 1, by transformers alone."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    written: str = tokenizer.apply_chat_template([{"role": "user", "content": message}], tokenize=False, add_generation_prompt=True)
    if pictures:
        tokens = int(pictures["image_grid_thw"].prod()) // 4
        written = written.replace("<|image_pad|>", "<|image_pad|>" * tokens)
    ids = tokenizer(written, return_tensors="pt")["input_ids"]
    kinds = (ids == tokenizer.convert_tokens_to_ids("<|image_pad|>")).int()
    model = Qwen3VLModel.from_pretrained(folder).eval()
    with torch.no_grad():
        state = model(input_ids=ids, attention_mask=torch.ones_like(ids), mm_token_type_ids=kinds, **pictures).last_hidden_state[0, -1]
    return torch.nn.functional.normalize(state, dim=-1).numpy()


def test_vectors_are_transformers_own_states(tiny: Callable[[str], Path], images: list[Image.Image]) -> None:
    folder = tiny("embedding")
    encoder: FrameEncoder = EmbeddingEncoder.load(EncoderSettings(str(folder), batch=3))
    frames = encoder.encode_frames(images)
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    states = np.stack([last_states(folder, [{"type": "image"}], **processor(images=[image], return_tensors="pt")) for image in images])
    assert states.std(axis=0).max() > 1e-3
    np.testing.assert_allclose(frames[:, 0], states, atol=1e-5)
    for query in QUERIES:
        text = last_states(folder, [{"type": "text", "text": query}])
        np.testing.assert_allclose(encoder.encode_text(query), text, atol=1e-5)
        np.testing.assert_allclose(encoder.scores(frames, text), states @ text, atol=1e-5)


def test_a_smaller_width_keeps_the_first_numbers(tiny: Callable[[str], Path], images: list[Image.Image]) -> None:
    full = EmbeddingEncoder.load(EncoderSettings(str(tiny("embedding"))))
    cut = EmbeddingEncoder.load(EncoderSettings(str(tiny("embedding")), width=64))
    kept = full.encode_frames(images)[..., :64]
    np.testing.assert_allclose(cut.encode_frames(images), kept / np.linalg.norm(kept, axis=-1, keepdims=True), atol=1e-5)
    assert cut.encode_text("the star").shape == (64,)
    assert cut.fingerprint != full.fingerprint
    assert cut.name == f"{full.name}@64"


@pytest.mark.parametrize(
    ("settings", "message"), [({"width": 193}, "supports 1 to 192"), ({"width": 0}, "width is 0"), ({"compile": True}, "omit compile")]
)
def test_what_the_model_cannot_do_is_refused(tiny: Callable[[str], Path], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EmbeddingEncoder.load(EncoderSettings(str(tiny("embedding")), **settings))


def test_a_model_that_writes_is_refused(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    folder = shutil.copytree(tiny("embedding"), tmp_path / "vlm")
    (folder / "modules.json").unlink()
    with pytest.raises(ConfigError, match=r"no modules\.json"):
        EmbeddingEncoder.load(EncoderSettings(str(folder)))


def test_code_of_the_folder_is_never_run(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    folder = shutil.copytree(tiny("embedding"), tmp_path / "coded")
    (folder / "own.py").write_text("raise SystemExit('it ran')\n")
    modules = json.loads((folder / "modules.json").read_text())
    modules[2]["type"] = "own.Module"
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ConfigError, match="cannot load embedding"):
        EmbeddingEncoder.load(EncoderSettings(str(folder)))


def test_the_files_of_the_folder_stay_as_they_were(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    folder = shutil.copytree(tiny("embedding"), tmp_path / "own")
    (folder / "processor_config.json").write_text(json.dumps({"processor_class": "Qwen3VLProcessor"}))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    EmbeddingEncoder.load(EncoderSettings(str(folder)))
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
