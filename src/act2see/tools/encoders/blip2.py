"""BLIP-2 image-text contrastive (ITC) scores, as in the released code of the paper's retriever (TFVTG): the best of 32 vectors per frame."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import Blip2ForImageTextRetrieval, Blip2QFormerConfig

from act2see.core.errors import ConfigError
from act2see.tools.encoders import loading
from act2see.tools.encoders.loading import EncoderSettings, Parts

_THRESHOLD = 0.2
"""TFVTG's released threshold, for the COCO weights."""
_RECOMMENDED = "Salesforce/blip2-itm-vit-g-coco"
_TEXT_LENGTH = 35
"""Maximum number of text tokens in TFVTG's release."""


class Blip2Encoder:
    """Scores are the maximum cosine similarity of the text with a frame's 32 vectors, in [-1, 1]: `Blip2ForImageTextRetrieval` without ITM head.

    The vision tower and the Q-Former run once per frame; transformers' own forward runs them once per query.
    """

    def __init__(self, settings: EncoderSettings, parts: Parts) -> None:
        self.name = f"blip2:{Path(settings.model).name}"
        self.fingerprint, self.side = parts.fingerprint, parts.side
        self.threshold = loading.threshold(settings, parts.folder, _THRESHOLD)
        self._settings, self._dtype, self._flops = settings, parts.dtype, parts.flops
        self._model = cast(Blip2ForImageTextRetrieval, parts.model)
        self._tokenizer, self._image_processor = parts.tokenizer, parts.image_processor
        self._features = torch.compile(self._queries) if settings.compile else self._queries
        self._length = min(_TEXT_LENGTH, _qformer_config(parts).max_position_embeddings)

    @classmethod
    def load(cls, settings: EncoderSettings) -> "Blip2Encoder":
        """Load the model. Raises `ConfigError`."""
        parts = loading.load_parts(settings, "blip2", Blip2ForImageTextRetrieval)
        if not _qformer_config(parts).use_qformer_text_input:
            raise ConfigError(f"blip2:{settings.model} has a Q-Former without text input; use one trained for retrieval, such as {_RECOMMENDED}")
        return cls(settings, parts)

    def encode_frames(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Unit vectors of shape (images, 32, width), for at least one image."""
        loading.count_frames(self._flops, len(images))
        return loading.in_batches(images, self._settings, self._encode)

    def encode_text(self, text: str) -> NDArray[np.float32]:
        """A unit vector of shape (width,); the text is truncated to 35 tokens."""
        tokens = self._tokenizer([text], truncation=True, max_length=self._length, return_tensors="pt").to(self._model.device)
        model = self._model
        loading.count_text(self._flops, tokens["input_ids"])
        with torch.inference_mode():
            embeddings = model.embeddings(input_ids=tokens["input_ids"])
            hidden = model.qformer(query_embeds=embeddings, query_length=0, attention_mask=tokens["attention_mask"]).last_hidden_state
            return loading.unit(model.text_projection(hidden[0, 0].to(model.text_projection.weight.dtype)))

    def scores(self, frames: NDArray[np.floating], text: NDArray[np.float32]) -> NDArray[np.float32]:
        """Maximum cosine similarity of each frame's vectors with the text."""
        return loading.cosines(frames, text)

    def _encode(self, images: list[Image.Image]) -> torch.Tensor:
        pixels = self._image_processor(images=images, return_tensors="pt")["pixel_values"]
        return self._features(pixels.to(self._model.device, self._dtype))

    def _queries(self, pixels: torch.Tensor) -> torch.Tensor:
        """Projected Q-Former outputs, of shape (batch, queries, width)."""
        model = self._model
        patches = model.vision_model(pixel_values=pixels).last_hidden_state
        mask = torch.ones(patches.shape[:-1], dtype=torch.long, device=patches.device)
        queries = model.query_tokens.expand(len(patches), -1, -1)
        hidden = model.qformer(query_embeds=queries, encoder_hidden_states=patches, encoder_attention_mask=mask).last_hidden_state
        projected: torch.Tensor = model.vision_projection(hidden.to(model.vision_projection.weight.dtype))
        return projected


def _qformer_config(parts: Parts) -> Blip2QFormerConfig:
    return cast(Blip2QFormerConfig, cast(Blip2ForImageTextRetrieval, parts.model).config.qformer_config)
