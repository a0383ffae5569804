"""Text embeddings by a sentence-transformers model, such as BGE-M3, which the paper uses to compare reasoning."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from act2see.backends import pretrained
from act2see.core.errors import ConfigError

BGE_M3 = "BAAI/bge-m3"
_BATCH = 16


class Sentences:
    """A model from a folder or the hub. Prompts and pooling follow the folder's configuration; the model truncates long texts."""

    def __init__(self, model: str, device: str = "auto") -> None:
        """Load the model. Raises `ConfigError`."""
        self.name = f"sentence-transformers:{Path(model).name}"
        placed = pretrained.device_of(device)
        try:
            folder = pretrained.locate(model, f"the embedder {model}")
            pretrained.weight_files(folder, f"the embedder {model}")
            with pretrained.reading(f"the embedder {model}"):
                self._model = SentenceTransformer(
                    str(folder), device=str(placed), local_files_only=True, trust_remote_code=False, model_kwargs={"use_safetensors": True}
                )
        except ConfigError as error:
            hint = "download it and use --embedder sentence-transformers:DIR, or compare by word counts with --embedder words"
            raise ConfigError(f"{error}; {hint}") from error

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors of shape (texts, width)."""
        vectors = self._model.encode(list(texts), batch_size=_BATCH, normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False)
        return np.asarray(vectors, np.float32)
