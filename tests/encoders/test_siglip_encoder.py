"""SigLIP and SigLIP 2 on tiny random models: the scores are transformers' own."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer, GemmaTokenizer

import act2see
from act2see.core.interfaces import FrameEncoder
from act2see.tools.encoders.loading import EncoderSettings
from act2see.tools.encoders.siglip import SiglipEncoder

QUERIES = ("the red star", "where is the blue ring", "a long query that goes on and on and on and on and on", "unheard words")
EMBEDDED = Path(act2see.__file__).parent / "micro" / "retriever"


def forward(folder: Path, images: list[Image.Image], queries: tuple[str, ...]) -> Any:
    """Scores (images, queries) as transformers computes them, each query padded to the model's length."""
    model, tokenizer = AutoModel.from_pretrained(folder, dtype=torch.float32).eval(), AutoTokenizer.from_pretrained(folder)
    length = model.config.text_config.max_position_embeddings
    pixels = AutoImageProcessor.from_pretrained(folder, backend="pil")(images=images, return_tensors="pt")
    texts = tokenizer(list(queries), padding="max_length", truncation=True, max_length=length, return_tensors="pt")
    with torch.no_grad():
        return torch.sigmoid(model(**pixels, input_ids=texts["input_ids"]).logits_per_image).numpy()


@pytest.mark.parametrize("model_class", ["siglip", "siglip2", "embedded"])
def test_scores_are_those_of_transformers_own_forward(model_class: str, tiny: Callable[[str], Path], images: list[Image.Image]) -> None:
    folder = EMBEDDED if model_class == "embedded" else tiny(model_class)
    theirs = forward(folder, images, QUERIES)
    assert theirs.std(axis=0).min() > 1e-3  # else any encoder would agree
    encoder: FrameEncoder = SiglipEncoder.load(EncoderSettings(str(folder), batch=3))
    frames = encoder.encode_frames(images)
    ours = np.stack([encoder.scores(frames, encoder.encode_text(query)) for query in QUERIES], axis=1)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_the_side_is_what_the_image_processor_keeps(tiny: Callable[[str], Path]) -> None:
    assert SiglipEncoder.load(EncoderSettings(str(tiny("siglip")))).side == 32
    assert SiglipEncoder.load(EncoderSettings(str(tiny("siglip2")))).side == 4 * 8  # 16 patches of 8 pixels
    assert SiglipEncoder.load(EncoderSettings(str(EMBEDDED))).side == AutoModel.from_pretrained(EMBEDDED).config.vision_config.image_size


def test_siglip_2_reads_lower_case(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    """The fixed resolutions of SigLIP 2 come with Gemma's tokenizer, which keeps capitals that the model never saw."""
    folder = shutil.copytree(tiny("siglip"), tmp_path / "gemma")
    letters = {letter: number for number, letter in enumerate(["<pad>", "<eos>", "<bos>", "<unk>", *"theTHE▁"])}
    GemmaTokenizer(vocab=letters, merges=[]).save_pretrained(folder)
    encoder = SiglipEncoder.load(EncoderSettings(str(folder)))
    assert type(AutoTokenizer.from_pretrained(folder)).__name__ == "GemmaTokenizer"
    np.testing.assert_array_equal(encoder.encode_text("THE"), encoder.encode_text("the"))
    assert np.abs(encoder.encode_text("the") - encoder.encode_text("teh")).max() > 1e-3
    kept = SiglipEncoder.load(EncoderSettings(str(EMBEDDED)))
    assert np.abs(kept.encode_text("THE STAR") - kept.encode_text("the star")).max() > 1e-3  # another tokenizer knows its own letters


def test_the_embedded_retriever_finds_what_is_there() -> None:
    encoder = SiglipEncoder.load(EncoderSettings(str(EMBEDDED)))
    shades = {"red": (220, 40, 40), "blue": (50, 80, 220), "green": (50, 170, 70)}
    pictures = []
    for shade in shades.values():
        pictures.append(Image.new("RGB", (96, 96), (40, 40, 40)))
        ImageDraw.Draw(pictures[-1]).ellipse((30, 30, 62, 62), fill=shade)
    frames = encoder.encode_frames(pictures)
    for number, name in enumerate(shades):
        assert encoder.scores(frames, encoder.encode_text(f"a {name} circle")).argmax() == number
