"""CLIP and its variants: one vector per frame, scored by cosine similarity."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import AutoModel

from act2see.tools.encoders import loading
from act2see.tools.encoders.loading import ContrastiveModel, EncoderSettings, Parts

_THRESHOLD = 0.25
"""Provisional, our choice: the cosine similarity of matches differs between CLIP models. See docs/encoders.md for how to calibrate a model."""


class ClipEncoder:
    """Scores are cosine similarities, in [-1, 1]. CLIP's logit scale only matters when comparing texts, and a query is a single text."""

    def __init__(self, settings: EncoderSettings, parts: Parts) -> None:
        self.name = f"clip:{Path(settings.model).name}"
        self.fingerprint, self.side = parts.fingerprint, parts.side
        self.threshold = loading.threshold(settings, parts.folder, _THRESHOLD)
        self._settings, self._dtype, self._flops = settings, parts.dtype, parts.flops
        self._model = model = cast(ContrastiveModel, parts.model)
        self._tokenizer, self._image_processor = parts.tokenizer, parts.image_processor
        self._features = torch.compile(model.get_image_features) if settings.compile else model.get_image_features
        text = model.config.text_config
        # XLM-RoBERTa, AltCLIP's text encoder, numbers positions from the padding token's id + 1.
        self._length = text.max_position_embeddings - (text.pad_token_id + 1 if model.config.model_type == "altclip" else 0)

    @classmethod
    def load(cls, settings: EncoderSettings) -> "ClipEncoder":
        """Load the model. Raises `ConfigError`."""
        return cls(settings, loading.load_parts(settings, "clip", AutoModel))

    def encode_frames(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Unit vectors of shape (images, 1, width), for at least one image."""
        loading.count_frames(self._flops, len(images))
        return loading.in_batches(images, self._settings, self._encode)

    def encode_text(self, text: str) -> NDArray[np.float32]:
        """A unit vector of shape (width,); the text is truncated to the model's maximum length."""
        tokens = self._tokenizer([text], truncation=True, max_length=self._length, return_tensors="pt").to(self._model.device)
        inputs = {name: tokens[name] for name in ("input_ids", "attention_mask")}
        loading.count_text(self._flops, tokens["input_ids"])
        with torch.inference_mode():
            return loading.unit(self._model.get_text_features(**inputs).pooler_output[0])

    def scores(self, frames: NDArray[np.floating], text: NDArray[np.float32]) -> NDArray[np.float32]:
        """Cosine similarity of each frame with the text."""
        return loading.cosines(frames, text)

    def _encode(self, images: list[Image.Image]) -> torch.Tensor:
        pixels = self._image_processor(images=images, return_tensors="pt")["pixel_values"]
        return self._features(pixel_values=pixels.to(self._model.device, self._dtype)).pooler_output[:, None]
