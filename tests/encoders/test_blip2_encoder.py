"""BLIP-2's contrast on a tiny random model: encoded once, and yet the score of transformers' own forward, which encodes frames with every query."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer, Blip2ForImageTextRetrieval

from act2see.core.interfaces import FrameEncoder
from act2see.tools.encoders.blip2 import Blip2Encoder
from act2see.tools.encoders.loading import EncoderSettings

QUERIES = ("the red star", "where is the blue ring", " ".join(["a long query that goes on and on"] * 9))


def test_scores_are_those_of_transformers_own_forward(tiny: Callable[[str], Path], images: list[Image.Image]) -> None:
    folder = tiny("blip2")
    encoder: FrameEncoder = Blip2Encoder.load(EncoderSettings(str(folder), batch=3))
    frames = encoder.encode_frames(images)
    assert frames.shape == (7, 6, 24)
    model = Blip2ForImageTextRetrieval.from_pretrained(folder).eval()
    pixels = AutoImageProcessor.from_pretrained(folder, backend="pil")(images=images, return_tensors="pt")["pixel_values"]
    for query in QUERIES:
        text = AutoTokenizer.from_pretrained(folder)([query], truncation=True, max_length=35, return_tensors="pt")
        inputs = {"input_ids": text["input_ids"], "attention_mask": text["attention_mask"]}
        with torch.no_grad():
            theirs = model(pixel_values=pixels, **inputs, use_image_text_matching_head=False).logits_per_image[:, 0].numpy()
        assert theirs.std() > 1e-3
        np.testing.assert_allclose(encoder.scores(frames, encoder.encode_text(query)), theirs, atol=1e-5)
