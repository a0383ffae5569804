"""Shared by all encoders: settings, loading a model's folder, batching, and the fingerprint under which an index is cached."""

import hashlib
import json
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer, BaseImageProcessor, PreTrainedTokenizerBase

from act2see.backends import pretrained
from act2see.core.errors import ConfigError
from act2see.core.flops import count
from act2see.tools.encoders.flops import EncoderFlops

_FORMAT = "act2see-encoder-1"
"""Increment when our own preprocessing or postprocessing changes, to invalidate cached indexes."""
_KIND_OF = {
    "siglip": "siglip",
    "siglip2": "siglip",
    "clip": "clip",
    "metaclip_2": "clip",
    "chinese_clip": "clip",
    "altclip": "clip",
    "blip-2": "blip2",
    "qwen3_vl": "embedding",
}
"""The encoder for each transformers model type."""
_OWN_FILE = "act2see.json"
_WHOLE_BYTES = 64 << 20
_SAMPLE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class EncoderSettings:
    """The encoder and how to run it."""

    model: str
    """A folder, or a name on the hub. Only safetensors weights are loaded; remote code is never executed."""
    device: str = "auto"
    """auto (a GPU if available), cpu, cuda, cuda:1, mps."""
    dtype: str = "auto"
    """auto (float32 on a CPU, a 16-bit type elsewhere), float32, bfloat16, float16."""
    batch: int = 32
    """Batch size in frames."""
    compile: bool = False
    """Compile the vision tower with torch.compile. The first batch takes half a minute or more, so this pays off only for hours of video."""
    threshold: float | None = None
    """The score above which a frame counts as a match; if not given, the one in the folder's act2see.json, else the class's default."""
    width: int | None = None
    """Truncate vectors to this many dimensions. For `embedding:` models trained with Matryoshka representation learning."""


class Pooled(Protocol):
    """Output of a tower of a contrastive model."""

    @property
    def pooler_output(self) -> torch.Tensor:
        """Features of shape (batch, width)."""
        ...


class _TextConfig(Protocol):
    max_position_embeddings: int
    pad_token_id: int


class _ContrastiveConfig(Protocol):
    model_type: str
    text_config: _TextConfig


class ContrastiveModel(Protocol):
    """The parts of transformers' CLIP and SigLIP models that the encoders use; AutoModel's return type hides them."""

    config: _ContrastiveConfig
    device: torch.device
    logit_scale: torch.Tensor
    logit_bias: torch.Tensor
    """SigLIP only."""

    def get_image_features(self, **inputs: torch.Tensor) -> Pooled:
        """Run the vision tower."""
        ...

    def get_text_features(self, **inputs: torch.Tensor) -> Pooled:
        """Run the text tower."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """A loaded dual encoder."""

    folder: Path
    model: torch.nn.Module
    tokenizer: PreTrainedTokenizerBase
    image_processor: BaseImageProcessor
    dtype: torch.dtype
    side: int
    """Useful input resolution: the shorter side in pixels."""
    fingerprint: str
    flops: EncoderFlops | None
    """None if they are unknown."""


def load_parts(settings: EncoderSettings, kind: str, model_class: pretrained.Loadable[Any]) -> Parts:
    """Load model, tokenizer and image processor of the encoder `kind`. Raises `ConfigError` if they cannot be used."""
    if settings.width is not None:
        raise ConfigError(f"{kind}:{settings.model} does not support width: omit it, or name an embedding:DIR")
    device, dtype = placement(settings, torch.float16)
    folder = open_folder(settings, kind)
    what = f"{kind}:{settings.model}"
    model = pretrained.load_model(model_class, folder, what, dtype=dtype).to(device).requires_grad_(False)
    tokenizer = pretrained.load_part(AutoTokenizer, folder, f"the tokenizer of {what}")
    # The Pillow backend: torchvision is optional, and vectors must not depend on whether it is installed.
    image_processor = pretrained.load_part(AutoImageProcessor, folder, f"the image processor of {what}", backend="pil")
    with pretrained.reading(f"the image processor of {what}"):
        side = _input_side(image_processor)
    flops = EncoderFlops.of(model.config.to_dict())
    return Parts(folder, model, tokenizer, image_processor, dtype, side, fingerprint([folder], kind, dtype, side), flops)


def open_folder(settings: EncoderSettings, kind: str) -> Path:
    """The model's folder, downloaded if given as a hub name. Raises `ConfigError` unless its model type matches the encoder `kind`."""
    if settings.batch < 1:
        raise ConfigError(f"batch is {settings.batch}; it must be at least 1")
    what = f"{kind}:{settings.model}"
    folder = pretrained.locate(settings.model, what)
    model_type = pretrained.read_model_type(folder, what)
    supported = _KIND_OF.get(model_type)
    if supported != kind:
        types = ", ".join(name for name, of in _KIND_OF.items() if of == kind)
        hint = f"name it {supported}:{settings.model}" if supported else f"{kind} supports {types}"
        raise ConfigError(f"{kind}:{settings.model} is a model of type {model_type!r}: {hint}")
    pretrained.weight_files(folder, what)
    return folder


def placement(settings: EncoderSettings, half: torch.dtype) -> tuple[torch.device, torch.dtype]:
    """Device and dtype; `half` is the dtype for auto on accelerators. Raises `ConfigError`."""
    device = pretrained.device_of(settings.device)
    return device, pretrained.dtype_of(settings.dtype, device, half) or half


def threshold(settings: EncoderSettings, folder: Path, default: float) -> float:
    """The threshold from the settings, else from the folder's act2see.json (`{"threshold": 0.3}`), else the default. Raises `ConfigError`."""
    if settings.threshold is not None:
        return settings.threshold
    path = folder / _OWN_FILE
    if not path.exists():
        return default
    with pretrained.reading(str(path)):
        value = pretrained.read_json(path, str(path)).get("threshold", default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError('its "threshold" must be a number')
    return float(value)


def in_batches(images: Sequence[Image.Image], settings: EncoderSettings, encode: Callable[[list[Image.Image]], torch.Tensor]) -> NDArray[np.float32]:
    """Encode images batch by batch into unit vectors (images, vectors, width). `encode` returns (batch, vectors, width), not normalised."""
    if not images:
        raise ValueError("no images to encode")
    size = settings.batch
    parts = []
    with torch.inference_mode():
        for start in range(0, len(images), size):
            batch = list(images[start : start + size])
            # A new batch size triggers recompilation, which is slow: pad the last batch.
            padding = [batch[-1]] * (size - len(batch)) if settings.compile else []
            parts.append(unit(encode(batch + padding)[: len(batch)]))
    return np.concatenate(parts)


def count_frames(flops: EncoderFlops | None, images: int) -> None:
    """Report the FLOPs of so many encoded frames."""
    count("retriever", None if flops is None else images * flops.frame)


def count_text(flops: EncoderFlops | None, tokens: torch.Tensor) -> None:
    """Report the FLOPs of an encoded text; `tokens` are its ids, of shape (1, tokens)."""
    count("retriever", None if flops is None else flops.text(tokens.shape[1]))


def unit(vectors: torch.Tensor) -> NDArray[np.float32]:
    """L2-normalise vectors, in float32."""
    normalized: NDArray[np.float32] = torch.nn.functional.normalize(vectors.float(), dim=-1).cpu().numpy()
    return normalized


def cosines(frames: NDArray[np.floating], text: NDArray[np.float32]) -> NDArray[np.float32]:
    """Maximum cosine similarity of each frame's vectors (frames, vectors, width) with the text vector (width,), of shape (frames,).

    Processes the frames in chunks that fit the CPU cache. Uses torch, as numpy takes ten times as long to convert float16.
    """
    count, vectors, width = frames.shape
    scores = torch.empty(count)
    query = torch.from_numpy(text)
    rows = max(1, (1 << 18) // (vectors * width))
    for start in range(0, count, rows):
        chunk = torch.from_numpy(np.array(frames[start : start + rows]))  # a copy: torch warns about read-only arrays, such as memory-mapped ones
        scores[start : start + rows] = (chunk.float() @ query).amax(dim=1)
    return scores.numpy()


def fingerprint(folders: Sequence[Path], *more: object) -> str:
    """A digest of everything that determines the vectors: the folders' weights, configs and tokenizers, and `more`.

    Weights are hashed by content: files up to 64 MiB in full, larger ones by header (names, shapes and offsets of all tensors) and the first and
    last 4 KiB of every tensor, because hashing many gigabytes would take minutes. A change in the middle of a tensor alone goes unnoticed, but
    training changes all values. act2see.json is excluded: a threshold does not affect vectors.
    """
    digest = hashlib.sha256("\n".join([_FORMAT, *map(str, more)]).encode())
    for number, folder in enumerate(folders):
        for path in sorted(path for pattern in pretrained.HUB_FILES for path in folder.glob(pattern) if path.name != _OWN_FILE):
            status = path.stat()
            if path.suffix == ".safetensors":
                content = _weights_digest(path.resolve(), status.st_size, status.st_mtime_ns)
            else:
                content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"\n{number} {path.name} {content}".encode())
    return digest.hexdigest()


@lru_cache(maxsize=256)
def _weights_digest(path: Path, size: int, _modified_ns: int) -> str:
    """Digest of one safetensors file, memoized by size and modification time. See `fingerprint`."""
    with path.open("rb") as file:
        if size <= _WHOLE_BYTES:
            return hashlib.file_digest(file, "sha256").hexdigest()
        start = file.read(8)
        header = file.read(struct.unpack("<Q", start)[0])
        digest = hashlib.sha256(str(size).encode() + header)
        data_start = len(start) + len(header)
        spans = sorted(entry["data_offsets"] for name, entry in json.loads(header).items() if name != "__metadata__")
        for begin, end in spans:
            for place in (begin, max(begin, end - _SAMPLE_BYTES)):
                file.seek(data_start + place)
                digest.update(file.read(min(_SAMPLE_BYTES, end - begin)))
    return digest.hexdigest()


class _Sizes(Protocol):
    size: Mapping[str, int | None]
    patch_size: int
    """NaFlex only."""


def _input_side(image_processor: BaseImageProcessor) -> int:
    """The shorter side in pixels at which to decode: the image processor would discard any further detail."""
    patches = getattr(image_processor, "max_num_patches", None)
    if patches:  # NaFlex keeps the aspect ratio within a number of patches: a square image has the longest shorter side
        return math.isqrt(patches) * cast("_Sizes", image_processor).patch_size
    size = dict(cast("_Sizes", image_processor).size)
    sides = [int(side) for name in ("height", "width", "shortest_edge") if (side := size.get(name))]
    if not sides:
        raise ValueError(f"its size {size} has no height, width or shortest_edge")
    return max(sides)
