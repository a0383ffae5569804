"""BLIP-2's image-text contrast, the frame score that the paper's retriever (TFVTG) was released with: 32 vectors a frame, the best one counts."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import Blip2ForImageTextRetrieval

from act2see.core.errors import ConfigError
from act2see.tools.encoders import loading
from act2see.tools.encoders.loading import EncoderSettings, Parts

_THRESHOLD = 0.2
"""TFVTG's, as released, for the weights trained on COCO."""
_RECOMMENDED = "Salesforce/blip2-itm-vit-g-coco"
_TEXT_LENGTH = 35
"""Tokens of a text that TFVTG's release keeps."""


class Blip2Encoder:
    """Scores are the highest cosine of the text with a frame's 32 vectors, in -1…1, as `Blip2ForImageTextRetrieval` scores without its matching head.

    The vision tower and the Q-Former run once a frame, where transformers' own forward would run them once a query.
    """

    def __init__(self, settings: EncoderSettings, parts: Parts) -> None:
        self.name = f"blip2:{Path(settings.model).name}"
        self.fingerprint, self.side = parts.fingerprint, parts.side
        self.threshold = loading.threshold(settings, parts.folder, _THRESHOLD)
        self._settings, self._dtype = settings, parts.dtype
        self._model, self._tokenizer, self._image_processor = parts.model, parts.tokenizer, parts.image_processor
        self._features = torch.compile(self._queries) if settings.compile else self._queries
        self._length = min(_TEXT_LENGTH, int(parts.model.config.qformer_config.max_position_embeddings))

    @classmethod
    def load(cls, settings: EncoderSettings) -> "Blip2Encoder":
        """Load the model. Raises `ConfigError`."""
        parts = loading.load_parts(settings, "blip2", Blip2ForImageTextRetrieval)
        if not parts.model.config.qformer_config.use_qformer_text_input:
            raise ConfigError(f"blip2:{settings.model} has a Q-Former that reads no text; take one trained to compare, such as {_RECOMMENDED}")
        return cls(settings, parts)

    def encode_frames(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Unit vectors (images, 32, width). There must be an image."""
        return loading.in_batches(images, self._settings, self._encode)

    def encode_text(self, text: str) -> NDArray[np.float32]:
        """A unit vector (width,) of the text, cut at 35 tokens."""
        tokens = self._tokenizer([text], truncation=True, max_length=self._length, return_tensors="pt").to(self._model.device)
        model = self._model
        with torch.inference_mode():
            words = model.embeddings(input_ids=tokens["input_ids"])
            read = model.qformer(query_embeds=words, query_length=0, attention_mask=tokens["attention_mask"]).last_hidden_state
            return loading.unit(model.text_projection(read[0, 0].to(model.text_projection.weight.dtype)))

    def scores(self, frames: NDArray[np.floating], text: NDArray[np.float32]) -> NDArray[np.float32]:
        """For each frame, the highest cosine of its vectors with the text."""
        return loading.cosines(frames, text)

    def _encode(self, images: list[Image.Image]) -> torch.Tensor:
        pixels = self._image_processor(images=images, return_tensors="pt")["pixel_values"]
        return self._features(pixels.to(self._model.device, self._dtype))

    def _queries(self, pixels: torch.Tensor) -> torch.Tensor:
        """What the Q-Former's queries see in each picture, projected: (batch, queries, width)."""
        model = self._model
        seen = model.vision_model(pixel_values=pixels).last_hidden_state
        everywhere = torch.ones(seen.shape[:-1], dtype=torch.long, device=seen.device)
        asked = model.query_tokens.expand(len(seen), -1, -1)
        read = model.qformer(query_embeds=asked, encoder_hidden_states=seen, encoder_attention_mask=everywhere).last_hidden_state
        projected: torch.Tensor = model.vision_projection(read.to(model.vision_projection.weight.dtype))
        return projected
