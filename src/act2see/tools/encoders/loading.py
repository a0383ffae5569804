"""What all encoders share: their settings, a model's folder and what lies in it, batches, and the digest that an index is kept under."""

import hashlib
import json
import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer

from act2see.backends import pretrained
from act2see.core.errors import ConfigError

_FORMAT = "act2see-encoder-1"
"""Counts up when our own part of the way from a picture to its vectors changes, so that old indexes are made anew."""
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
"""Which encoder takes a model type of transformers."""
_OWN_FILE = "act2see.json"
_WHOLE_BYTES = 64 << 20
_SAMPLE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class EncoderSettings:
    """Which encoder, and how it runs."""

    model: str
    """A folder, or a name on the hub. Weights are read from safetensors only, and code that comes with a model is never run."""
    device: str = "auto"
    """auto (a GPU if there is one), cpu, cuda, cuda:1, mps."""
    dtype: str = "auto"
    """auto (float32 on a CPU, a half type elsewhere), float32, bfloat16, float16."""
    batch: int = 32
    """Frames encoded at once."""
    compile: bool = False
    """Compile the picture's part with torch.compile: half a minute or more at the first batch, so for many hours of video only."""
    threshold: float | None = None
    """The score above which a frame shows something like the query; if not given, the one in the folder's act2see.json, or else the class's own."""
    width: int | None = None
    """Keep this many of a vector's first numbers. For `embedding:` models that were trained for it."""


@dataclass(frozen=True, slots=True)
class Parts:
    """A loaded dual encoder and what was found about it."""

    folder: Path
    model: Any
    tokenizer: Any
    image_processor: Any
    dtype: torch.dtype
    side: int
    fingerprint: str


def load_parts(settings: EncoderSettings, kind: str, model_class: Any) -> Parts:
    """Load model, tokenizer and image processor of the encoder `kind`. Raises `ConfigError` with one line for what cannot be used."""
    if settings.width is not None:
        raise ConfigError(f"{kind}:{settings.model} has vectors of one width only: leave width out, or name an embedding:DIR")
    device, dtype = placement(settings, torch.float16)
    folder = open_folder(settings, kind)
    what = f"{kind}:{settings.model}"
    model = pretrained.load_model(model_class, folder, what, dtype=dtype).to(device).requires_grad_(False)
    tokenizer = pretrained.load_part(AutoTokenizer, folder, f"the tokenizer of {what}")
    # Pillow's, because torchvision need not be there; the same everywhere, so that vectors are.
    image_processor = pretrained.load_part(AutoImageProcessor, folder, f"the image processor of {what}", backend="pil")
    with pretrained.reading(f"the image processor of {what}"):
        side = _wanted_side(image_processor)
    return Parts(folder, model, tokenizer, image_processor, dtype, side, fingerprint([folder], kind, dtype, side))


def open_folder(settings: EncoderSettings, kind: str) -> Path:
    """The model's folder, downloaded if it is a name on the hub, with a model inside that the encoder `kind` takes. Raises `ConfigError`."""
    if settings.batch < 1:
        raise ConfigError(f"batch is {settings.batch}; it must be 1 or more")
    what = f"{kind}:{settings.model}"
    folder = pretrained.locate(settings.model, what)
    model_type = pretrained.read_model_type(folder, what)
    taken = _KIND_OF.get(model_type)
    if taken != kind:
        hint = f"name it {taken}:{settings.model}" if taken else f"{kind} takes {', '.join(name for name, of in _KIND_OF.items() if of == kind)}"
        raise ConfigError(f"{kind}:{settings.model} is a model of type {model_type!r}: {hint}")
    pretrained.weight_files(folder, what)
    return folder


def placement(settings: EncoderSettings, half: torch.dtype) -> tuple[torch.device, torch.dtype]:
    """Where the model runs and in which number format; `half` is what auto means off the CPU. Raises `ConfigError`."""
    device = pretrained.device_of(settings.device)
    return device, pretrained.dtype_of(settings.dtype, device, half) or half


def threshold(settings: EncoderSettings, folder: Path, default: float) -> float:
    """The settings' threshold, or that of the folder's act2see.json (`{"threshold": 0.3}`), or the default. Raises `ConfigError`."""
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
    """Unit vectors (images, vectors, width) of all the images, a batch at a time. `encode` gives (batch, vectors, width) of any length."""
    if not images:
        raise ValueError("no images to encode")
    size = settings.batch
    parts = []
    with torch.inference_mode():
        for start in range(0, len(images), size):
            batch = list(images[start : start + size])
            # Compiled code is made for one size of batch, and making it is what takes long: the last batch is filled up.
            filling = [batch[-1]] * (size - len(batch)) if settings.compile else []
            parts.append(unit(encode(batch + filling)[: len(batch)]))
    return np.concatenate(parts)


def unit(vectors: torch.Tensor) -> NDArray[np.float32]:
    """The vectors at length 1, in float32."""
    made: NDArray[np.float32] = torch.nn.functional.normalize(vectors.float(), dim=-1).cpu().numpy()
    return made


def cosines(frames: NDArray[np.floating], text: NDArray[np.float32]) -> NDArray[np.float32]:
    """The highest cosine of each frame's vectors (frames, vectors, width) with the text's (width,), as (frames,).

    Goes through the frames in pieces, which fit a processor's cache, and with torch: numpy takes ten times as long to widen half numbers.
    """
    count, vectors, width = frames.shape
    made = torch.empty(count)
    wanted = torch.from_numpy(text)
    rows = max(1, (1 << 18) // (vectors * width))
    for start in range(0, count, rows):
        piece = torch.from_numpy(np.array(frames[start : start + rows]))  # a copy: torch warns of arrays that cannot be written to, as mapped ones
        made[start : start + rows] = (piece.float() @ wanted).amax(dim=1)
    return made.numpy()


def fingerprint(folders: Sequence[Path], *more: object) -> str:
    """A digest of all that determines a picture's and a text's vectors: the folders' weights, configs, tokenizers, and `more`.

    Weights count by content, not by name: a file of up to 64 MiB as a whole, of a larger one its header (names, shapes and places of all tensors)
    and the first and last 4 KiB of every tensor, so that many gigabytes take no minutes. A change inside a tensor that leaves both its ends as
    they were is not seen; training leaves no tensor's ends as they were. The folder's act2see.json does not count: a threshold moves no vector.
    """
    found = hashlib.sha256("\n".join([_FORMAT, *map(str, more)]).encode())
    for number, folder in enumerate(folders):
        for path in sorted(path for pattern in pretrained.HUB_FILES for path in folder.glob(pattern) if path.name != _OWN_FILE):
            facts = path.stat()
            of_weights = path.suffix == ".safetensors"
            digest = (
                _weights_digest(path.resolve(), facts.st_size, facts.st_mtime_ns) if of_weights else hashlib.sha256(path.read_bytes()).hexdigest()
            )
            found.update(f"\n{number} {path.name} {digest}".encode())
    return found.hexdigest()


@lru_cache(maxsize=256)
def _weights_digest(path: Path, size: int, _modified_ns: int) -> str:
    """Of one safetensors file; remembered while it keeps its size and time. See `fingerprint`."""
    with path.open("rb") as file:
        if size <= _WHOLE_BYTES:
            return hashlib.file_digest(file, "sha256").hexdigest()
        start = file.read(8)
        header = file.read(struct.unpack("<Q", start)[0])
        found = hashlib.sha256(str(size).encode() + header)
        data_starts = len(start) + len(header)
        spans = sorted(entry["data_offsets"] for name, entry in json.loads(header).items() if name != "__metadata__")
        for begin, end in spans:
            for place in (begin, max(begin, end - _SAMPLE_BYTES)):
                file.seek(data_starts + place)
                found.update(file.read(min(_SAMPLE_BYTES, end - begin)))
    return found.hexdigest()


def _wanted_side(image_processor: Any) -> int:
    """The shorter side in pixels that is worth decoding: more would only be thrown away by the image processor."""
    patches = getattr(image_processor, "max_num_patches", None)
    if patches:  # NaFlex keeps the picture's shape within a number of patches: a square one has the longest shorter side
        return math.isqrt(patches) * int(image_processor.patch_size)
    size = dict(image_processor.size)
    sides = [int(size[name]) for name in ("height", "width", "shortest_edge") if size.get(name)]
    if not sides:
        raise ValueError(f"its size {size} names no height, width or shortest_edge")
    return max(sides)
