"""SigLIP and SigLIP 2: one vector a frame, and a score that is a probability. The embedded retriever is one of these."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import AutoModel

from act2see.tools.encoders import loading
from act2see.tools.encoders.loading import EncoderSettings, Parts

_THRESHOLD = 0.1
"""Provisional, our choice: no real weights were calibrated. See docs/encoders.md for how to find a model's own."""


class SiglipEncoder:
    """Scores are sigmoid(scale × cosine + bias), in 0…1, as the model was trained to tell a match from none.

    Takes the fixed resolutions (`SiglipModel`) and NaFlex (`Siglip2Model`).
    """

    def __init__(self, settings: EncoderSettings, parts: Parts) -> None:
        self.name = f"siglip:{Path(settings.model).name}"
        self.fingerprint, self.side = parts.fingerprint, parts.side
        self.threshold = loading.threshold(settings, parts.folder, _THRESHOLD)
        self._settings, self._dtype = settings, parts.dtype
        self._model, self._tokenizer, self._image_processor = parts.model, parts.tokenizer, parts.image_processor
        self._features = torch.compile(parts.model.get_image_features) if settings.compile else parts.model.get_image_features
        self._length = int(parts.model.config.text_config.max_position_embeddings)
        self._scale, self._bias = float(parts.model.logit_scale.float().exp()), float(parts.model.logit_bias.float())
        # SigLIP 2 learned from lower-case texts. NaFlex models' tokenizer sees to it; the others name the plain Gemma tokenizer.
        self._lower = type(parts.tokenizer).__name__.startswith("Gemma")

    @classmethod
    def load(cls, settings: EncoderSettings) -> "SiglipEncoder":
        """Load the model. Raises `ConfigError`."""
        return cls(settings, loading.load_parts(settings, "siglip", AutoModel))

    def encode_frames(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Unit vectors (images, 1, width). There must be an image."""
        return loading.in_batches(images, self._settings, self._encode)

    def encode_text(self, text: str) -> NDArray[np.float32]:
        """A unit vector (width,). The text is padded to the model's full length and cut there: it learned from texts of that length."""
        text = text.lower() if self._lower else text
        tokens = self._tokenizer([text], padding="max_length", truncation=True, max_length=self._length, return_tensors="pt")
        with torch.inference_mode():
            return loading.unit(self._model.get_text_features(input_ids=tokens["input_ids"].to(self._model.device)).pooler_output[0])

    def scores(self, frames: NDArray[np.floating], text: NDArray[np.float32]) -> NDArray[np.float32]:
        """The model's probability of a match for each frame, in 0…1."""
        logits = loading.cosines(frames, text) * np.float32(self._scale) + np.float32(self._bias)
        return torch.sigmoid(torch.from_numpy(logits)).numpy()

    def _encode(self, images: list[Image.Image]) -> torch.Tensor:
        made = self._image_processor(images=images, return_tensors="pt").to(self._model.device)
        made["pixel_values"] = made["pixel_values"].to(self._dtype)
        features: torch.Tensor = self._features(**made).pooler_output
        return features[:, None]
