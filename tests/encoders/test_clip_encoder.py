"""CLIP and its kin on tiny random models: the cosines are those behind transformers' own logits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

from act2see.core.interfaces import FrameEncoder
from act2see.tools.encoders.clip import ClipEncoder
from act2see.tools.encoders.loading import EncoderSettings

QUERIES = ("the red star", "where is the blue ring", "a long query that goes on and on and on and on and on")


@pytest.mark.parametrize(("model_class", "length"), [("clip", 10), ("metaclip_2", 10), ("chinese_clip", 10), ("altclip", 9)])
def test_scores_are_those_of_transformers_own_forward(model_class: str, length: int, tiny: Callable[[str], Path], images: list[Image.Image]) -> None:
    folder = tiny(model_class)
    encoder: FrameEncoder = ClipEncoder.load(EncoderSettings(str(folder), batch=3))
    frames = encoder.encode_frames(images)
    model: Any = AutoModel.from_pretrained(folder).eval()
    pixels = AutoImageProcessor.from_pretrained(folder, backend="pil")(images=images, return_tensors="pt")["pixel_values"]
    for query in QUERIES:
        text = AutoTokenizer.from_pretrained(folder)([query], truncation=True, max_length=length, return_tensors="pt")
        with torch.no_grad():
            logits = model(pixel_values=pixels, input_ids=text["input_ids"], attention_mask=text["attention_mask"]).logits_per_image
        theirs = (logits / model.logit_scale.exp())[:, 0].detach().numpy()
        assert theirs.std() > 1e-3
        np.testing.assert_allclose(encoder.scores(frames, encoder.encode_text(query)), theirs, atol=1e-5)
