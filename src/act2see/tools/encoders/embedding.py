"""Qwen3-VL-Embedding through sentence-transformers: a vision-language model whose last token's state is the vector, of a picture as of a text."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sentence_transformers import SentenceTransformer
from transformers import AutoProcessor, ProcessorMixin, Qwen3VLConfig, Qwen3VLModel, Qwen3VLProcessor

from act2see.backends import pretrained
from act2see.core.errors import ConfigError
from act2see.tools.encoders import loading
from act2see.tools.encoders.loading import EncoderSettings

_THRESHOLD = 0.4
"""Provisional, our choice: no real weights were calibrated. See docs/encoders.md for how to find a model's own."""
_SIDE = 448
"""Our choice: at 16:9 some 350 tokens a frame. The model would take frames many times larger, and many times as long."""
_PROCESSOR_FILE = "processor_config.json"


class PicturesProcessor(Qwen3VLProcessor):
    """Qwen3-VL's processor without its part for videos: that part needs torchvision, and here frames are pictures."""

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, chat_template: str | None = None) -> None:
        ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)
        self.image_token = "<|image_pad|>"
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)


class _PicturesConfig(Qwen3VLConfig):
    """Only there to make `PicturesProcessor` known by name; nothing has this type."""


AutoProcessor.register(_PicturesConfig, PicturesProcessor, exist_ok=True)


class EmbeddingEncoder:
    """Scores are cosines, in -1…1. Prompts, pooling and normalisation are those that the model's folder declares for sentence-transformers."""

    def __init__(self, settings: EncoderSettings, folder: Path, model: SentenceTransformer, dtype: torch.dtype) -> None:
        self.name = f"embedding:{Path(settings.model).name}" + (f"@{settings.width}" if settings.width else "")
        self.side = _SIDE
        modules = sorted(path.parent for path in folder.glob("*/config.json"))
        self.fingerprint = loading.fingerprint([folder, *modules], "embedding", dtype, _SIDE, settings.width)
        self.threshold = loading.threshold(settings, folder, _THRESHOLD)
        self._settings, self._model = settings, model
        self._how: dict[str, Any] = {"truncate_dim": settings.width, "convert_to_tensor": True, "show_progress_bar": False}

    @classmethod
    def load(cls, settings: EncoderSettings) -> "EmbeddingEncoder":
        """Load the model. Raises `ConfigError`."""
        device, dtype = loading.placement(settings, torch.bfloat16)
        folder = loading.open_folder(settings, "embedding")
        if settings.compile:
            raise ConfigError(f"embedding:{settings.model} is not compiled, its inputs differ in length from text to text: leave compile out")
        if not (folder / "modules.json").exists():
            raise ConfigError(f"embedding:{settings.model} has no modules.json: it is a model that writes, not one of sentence-transformers")
        pretrained.check_sizes(Qwen3VLModel, folder, f"embedding:{settings.model}")
        with pretrained.reading(f"embedding:{settings.model}"), _without_videos(folder) as view:
            model = SentenceTransformer(
                str(view),
                device=str(device),
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"dtype": dtype, "use_safetensors": True},
                processor_kwargs={"backend": "pil"},
            ).eval()
        full = model.get_embedding_dimension() or 0
        if settings.width is not None and not 1 <= settings.width <= full:
            raise ConfigError(
                f"width is {settings.width}; the vectors of embedding:{settings.model} have {full} numbers, of which 1 to all can be kept"
            )
        return cls(settings, folder, model, dtype)

    def encode_frames(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Unit vectors (images, 1, width). There must be an image."""
        return loading.in_batches(images, self._settings, self._encode)

    def encode_text(self, text: str) -> NDArray[np.float32]:
        """A unit vector (width,)."""
        return loading.unit(self._model.encode_query([text], **self._how)[0])

    def scores(self, frames: NDArray[np.floating], text: NDArray[np.float32]) -> NDArray[np.float32]:
        """Each frame's cosine with the text."""
        return loading.cosines(frames, text)

    def _encode(self, images: list[Image.Image]) -> torch.Tensor:
        made: torch.Tensor = self._model.encode_document(images, batch_size=self._settings.batch, **self._how)
        return made[:, None]


@contextmanager
def _without_videos(folder: Path) -> Iterator[Path]:
    """The folder as it is, but for the name of the processor that reads it."""
    given = folder / _PROCESSOR_FILE
    content = json.loads(given.read_text(encoding="utf-8")) if given.exists() else {}
    with tempfile.TemporaryDirectory(prefix="act2see-") as name:
        view = Path(name) / folder.name
        view.mkdir()
        for path in folder.iterdir():
            if path.name != _PROCESSOR_FILE:
                (view / path.name).symlink_to(path.resolve())
        (view / _PROCESSOR_FILE).write_text(json.dumps(content | {"processor_class": PicturesProcessor.__name__}), encoding="utf-8")
        yield view
