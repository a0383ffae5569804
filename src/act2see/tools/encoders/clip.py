"""CLIP and its kin: one vector a frame, and the plain cosine as score."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import AutoModel

from act2see.tools.encoders import loading
from act2see.tools.encoders.loading import EncoderSettings, Parts

_THRESHOLD = 0.25
"""Provisional, our choice: cosines of CLIP's matches differ from model to model. See docs/encoders.md for how to find a model's own."""


class ClipEncoder:
    """Scores are cosines, in -1…1. CLIP's own scale only matters between texts, of which there is one here."""

    def __init__(self, settings: EncoderSettings, parts: Parts) -> None:
        self.name = f"clip:{Path(settings.model).name}"
        self.fingerprint, self.side = parts.fingerprint, parts.side
        self.threshold = loading.threshold(settings, parts.folder, _THRESHOLD)
        self._settings, self._dtype = settings, parts.dtype
        self._model, self._tokenizer, self._image_processor = parts.model, parts.tokenizer, parts.image_processor
        self._features = torch.compile(parts.model.get_image_features) if settings.compile else parts.model.get_image_features
        text = parts.model.config.text_config
        # XLM-RoBERTa, of which AltCLIP's texts are, counts positions from behind the padding's number.
        self._length = int(text.max_position_embeddings) - (text.pad_token_id + 1 if parts.model.config.model_type == "altclip" else 0)

    @classmethod
    def load(cls, settings: EncoderSettings) -> "ClipEncoder":
        """Load the model. Raises `ConfigError`."""
        return cls(settings, loading.load_parts(settings, "clip", AutoModel))

    def encode_frames(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Unit vectors (images, 1, width). There must be an image."""
        return loading.in_batches(images, self._settings, self._encode)

    def encode_text(self, text: str) -> NDArray[np.float32]:
        """A unit vector (width,) of the text, cut at the model's length."""
        tokens = self._tokenizer([text], truncation=True, max_length=self._length, return_tensors="pt").to(self._model.device)
        inputs = {name: tokens[name] for name in ("input_ids", "attention_mask")}
        with torch.inference_mode():
            return loading.unit(self._model.get_text_features(**inputs).pooler_output[0])

    def scores(self, frames: NDArray[np.floating], text: NDArray[np.float32]) -> NDArray[np.float32]:
        """Each frame's cosine with the text."""
        return loading.cosines(frames, text)

    def _encode(self, images: list[Image.Image]) -> torch.Tensor:
        pixels = self._image_processor(images=images, return_tensors="pt")["pixel_values"]
        features: torch.Tensor = self._features(pixel_values=pixels.to(self._model.device, self._dtype)).pooler_output
        return features[:, None]
