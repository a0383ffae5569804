"""SigLIP and SigLIP 2: one vector per frame, scored by a probability. The embedded retriever is one of these."""

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

_THRESHOLD = 0.1
"""Provisional, our choice: not calibrated on real weights. See docs/encoders.md for how to calibrate a model."""


class SiglipEncoder:
    """Scores are sigmoid(scale × cosine + bias), in [0, 1]: the match probability that the model was trained to predict.

    Supports fixed resolutions (`SiglipModel`) and NaFlex (`Siglip2Model`).
    """

    def __init__(self, settings: EncoderSettings, parts: Parts) -> None:
        self.name = f"siglip:{Path(settings.model).name}"
        self.fingerprint, self.side = parts.fingerprint, parts.side
        self.threshold = loading.threshold(settings, parts.folder, _THRESHOLD)
        self._settings, self._dtype, self._flops = settings, parts.dtype, parts.flops
        self._model = model = cast(ContrastiveModel, parts.model)
        self._tokenizer, self._image_processor = parts.tokenizer, parts.image_processor
        self._features = torch.compile(model.get_image_features) if settings.compile else model.get_image_features
        self._length = model.config.text_config.max_position_embeddings
        self._scale, self._bias = float(model.logit_scale.float().exp()), float(model.logit_bias.float())
        # SigLIP 2 was trained on lower-case texts. NaFlex tokenizers lower-case by themselves; the other models use the plain Gemma tokenizer.
        self._lower = type(parts.tokenizer).__name__.startswith("Gemma")

    @classmethod
    def load(cls, settings: EncoderSettings) -> "SiglipEncoder":
        """Load the model. Raises `ConfigError`."""
        return cls(settings, loading.load_parts(settings, "siglip", AutoModel))

    def encode_frames(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Unit vectors of shape (images, 1, width), for at least one image."""
        loading.count_frames(self._flops, len(images))
        return loading.in_batches(images, self._settings, self._encode)

    def encode_text(self, text: str) -> NDArray[np.float32]:
        """A unit vector of shape (width,). The text is padded and truncated to the model's maximum length, as in training."""
        text = text.lower() if self._lower else text
        tokens = self._tokenizer([text], padding="max_length", truncation=True, max_length=self._length, return_tensors="pt")
        loading.count_text(self._flops, tokens["input_ids"])
        with torch.inference_mode():
            return loading.unit(self._model.get_text_features(input_ids=tokens["input_ids"].to(self._model.device)).pooler_output[0])

    def scores(self, frames: NDArray[np.floating], text: NDArray[np.float32]) -> NDArray[np.float32]:
        """Match probability of each frame, in [0, 1]."""
        logits = loading.cosines(frames, text) * np.float32(self._scale) + np.float32(self._bias)
        return torch.sigmoid(torch.from_numpy(logits)).numpy()

    def _encode(self, images: list[Image.Image]) -> torch.Tensor:
        inputs = self._image_processor(images=images, return_tensors="pt").to(self._model.device)
        inputs["pixel_values"] = inputs["pixel_values"].to(self._dtype)
        return self._features(**inputs).pooler_output[:, None]
