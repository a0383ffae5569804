"""Qwen3-VL-Embedding through sentence-transformers: the last token's hidden state embeds an image or a text."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sentence_transformers import SentenceTransformer
from transformers import (
    AutoProcessor,
    BaseImageProcessor,
    PreTrainedTokenizerBase,
    ProcessorMixin,
    Qwen3VLConfig,
    Qwen3VLModel,
    Qwen3VLProcessor,
)

from act2see.backends import pretrained
from act2see.core.errors import ConfigError
from act2see.core.flops import count
from act2see.tools.encoders import loading
from act2see.tools.encoders.loading import EncoderSettings

_THRESHOLD = 0.4
"""Provisional, our choice: not calibrated on real weights. See docs/encoders.md for how to calibrate a model."""
_SIDE = 448
"""Our choice: about 350 tokens per frame at 16:9. The model accepts much larger frames, at a much higher cost."""
_PROCESSOR_FILE = "processor_config.json"


class PicturesProcessor(Qwen3VLProcessor):
    """Qwen3-VL's processor without its video processor, which needs torchvision; frames are passed as images."""

    def __init__(
        self, image_processor: BaseImageProcessor | None = None, tokenizer: PreTrainedTokenizerBase | None = None, chat_template: str | None = None
    ) -> None:
        if tokenizer is None:  # transformers always passes both, but requires defaults
            raise ValueError("the processor has no tokenizer")
        ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)
        self.image_token = "<|image_pad|>"
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)


class _PicturesConfig(Qwen3VLConfig):
    """Registers `PicturesProcessor` by name; never instantiated."""


class _EncodeOptions(TypedDict):
    truncate_dim: int | None
    convert_to_tensor: bool
    show_progress_bar: bool


AutoProcessor.register(_PicturesConfig, PicturesProcessor, exist_ok=True)


class EmbeddingEncoder:
    """Scores are cosine similarities, in [-1, 1]. Prompts, pooling and normalisation follow the folder's sentence-transformers configuration."""

    def __init__(self, settings: EncoderSettings, folder: Path, model: SentenceTransformer, dtype: torch.dtype) -> None:
        self.name = f"embedding:{Path(settings.model).name}" + (f"@{settings.width}" if settings.width else "")
        self.side = _SIDE
        modules = sorted(path.parent for path in folder.glob("*/config.json"))
        self.fingerprint = loading.fingerprint([folder, *modules], "embedding", dtype, _SIDE, settings.width)
        self.threshold = loading.threshold(settings, folder, _THRESHOLD)
        self._settings, self._model = settings, model
        self._options: _EncodeOptions = {"truncate_dim": settings.width, "convert_to_tensor": True, "show_progress_bar": False}

    @classmethod
    def load(cls, settings: EncoderSettings) -> "EmbeddingEncoder":
        """Load the model. Raises `ConfigError`."""
        device, dtype = loading.placement(settings, torch.bfloat16)
        folder = loading.open_folder(settings, "embedding")
        if settings.compile:
            raise ConfigError(f"embedding:{settings.model} cannot be compiled, as its inputs vary in length: omit compile")
        if not (folder / "modules.json").exists():
            raise ConfigError(f"embedding:{settings.model} has no modules.json: it is a generative model, not a sentence-transformers one")
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
            raise ConfigError(f"width is {settings.width}; embedding:{settings.model} supports 1 to {full}")
        return cls(settings, folder, model, dtype)

    def encode_frames(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Unit vectors of shape (images, 1, width), for at least one image."""
        loading.count_frames(None, len(images))
        return loading.in_batches(images, self._settings, self._encode)

    def encode_text(self, text: str) -> NDArray[np.float32]:
        """A unit vector of shape (width,)."""
        count("retriever", None)
        vectors = cast(torch.Tensor, self._model.encode_query([text], **self._options))
        return loading.unit(vectors[0])

    def scores(self, frames: NDArray[np.floating], text: NDArray[np.float32]) -> NDArray[np.float32]:
        """Cosine similarity of each frame with the text."""
        return loading.cosines(frames, text)

    def _encode(self, images: list[Image.Image]) -> torch.Tensor:
        vectors = cast(torch.Tensor, self._model.encode_document(images, batch_size=self._settings.batch, **self._options))
        return vectors[:, None]


@contextmanager
def _without_videos(folder: Path) -> Iterator[Path]:
    """A view of the folder that names `PicturesProcessor` as its processor class."""
    original = folder / _PROCESSOR_FILE
    content = json.loads(original.read_text(encoding="utf-8")) if original.exists() else {}
    with tempfile.TemporaryDirectory(prefix="act2see-") as name:
        view = Path(name) / folder.name
        view.mkdir()
        for path in folder.iterdir():
            if path.name != _PROCESSOR_FILE:
                (view / path.name).symlink_to(path.resolve())
        (view / _PROCESSOR_FILE).write_text(json.dumps(content | {"processor_class": PicturesProcessor.__name__}), encoding="utf-8")
        yield view
