"""Pictures by a diffusion model: any that diffusers loads for image-to-image, from the paper's Stable Diffusion 3.5 to instruction editors."""

import hashlib
import inspect
import math
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import AutoPipelineForImage2Image
from diffusers.quantizers import PipelineQuantizationConfig
from diffusers.utils import logging
from PIL import Image

from act2see.backends import pretrained
from act2see.core.errors import ConfigError, OutOfMemoryToolError, UnsupportedSizeError

Memory = Literal["auto", "none", "model-offload", "group-offload", "nf4"]
_MULTIPLE = 16
_KEPT = 8


@dataclass(frozen=True, slots=True)
class Preset:
    """A model with the settings that its makers recommend."""

    model: str
    steps: int
    guidance: float | None
    strengths: tuple[float, ...] = ()
    """From the weakest: the first whose picture passes is kept. For image-to-image models only."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What else the pipeline is called with."""


PRESETS: dict[str, Preset] = {
    # The paper's model. Steps and guidance are those of its model card; the paper gives none, nor a strength: the ladder is our choice.
    "sd3.5-large": Preset("stabilityai/stable-diffusion-3.5-large", 28, 3.5, (0.5, 0.65, 0.8)),
    # Distilled: four steps without guidance, by its model card.
    "flux2-klein": Preset("black-forest-labs/FLUX.2-klein-4B", 4, 1.0),
    "qwen-image-edit": Preset("Qwen/Qwen-Image-Edit-2511", 40, None, options={"true_cfg_scale": 4.0, "negative_prompt": " "}),
}
DEFAULT_STRENGTHS = (0.5, 0.65, 0.8)
"""For image-to-image models without a preset. Our choice: texture and colour change from about 0.5 on, places from 0.8."""
DEFAULT_PIXELS = 1024 * 1024
"""Most models were trained at about a megapixel; larger frames are worked on at that, and the picture scaled back. Our choice."""


@dataclass(frozen=True, slots=True)
class DiffusionSettings:
    """Which model, and how it runs. What is None is the preset's, the folder's or the pipeline's own."""

    model: str
    """A preset's name, a folder, or a name on the hub. Weights are read from safetensors only; code that comes with a model is never run."""
    device: str = "auto"
    dtype: str = "auto"
    """auto: float32 on a CPU, bfloat16 elsewhere."""
    steps: int | None = None
    guidance: float | None = None
    strengths: tuple[float, ...] | None = None
    max_pixels: int | None = None
    memory: Memory = "auto"
    """none: all on the device; model-offload: one part of the model at a time; group-offload: a few layers at a time; nf4: 4-bit weights by
    bitsandbytes. auto takes the first of the first three for which the device has room."""


class DiffusionPainter:
    """One picture from another and a text. A pipeline that takes a `strength` wants the target described, any other an instruction."""

    def __init__(self, pipeline: Any, settings: DiffusionSettings, preset: Preset, max_pixels: int) -> None:
        self._pipeline, self._settings, self._preset, self._max_pixels = pipeline, settings, preset, max_pixels
        takes = inspect.signature(pipeline.__call__).parameters
        self.is_editor = "strength" not in takes
        self._guidance_name = "guidance_scale" if "guidance_scale" in takes else None
        self.strengths: tuple[float | None, ...] = (None,) if self.is_editor else settings.strengths or preset.strengths or DEFAULT_STRENGTHS
        pipeline.set_progress_bar_config(disable=True)
        pipeline.encode_prompt = _remembering(pipeline.encode_prompt)
        pipeline.vae.encode = _remembering(pipeline.vae.encode)

    @classmethod
    def load(cls, settings: DiffusionSettings) -> "DiffusionPainter":
        """Load the pipeline and put it where there is room for it. Raises `ConfigError` with one line for what cannot be used."""
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        device = pretrained.device_of(settings.device)
        dtype = pretrained.dtype_of(settings.dtype, device, torch.bfloat16) or torch.bfloat16
        preset = PRESETS.get(settings.model)
        folder = Path(os.path.expanduser(settings.model))
        own: Mapping[str, Any] = {}
        pixels = DEFAULT_PIXELS
        if preset is None:
            with pretrained.reading(f"the generator {settings.model}"):
                if (folder / "act2see.json").is_file():
                    own = dict(pretrained.read_json(folder / "act2see.json", f"the generator {settings.model}"))
                preset = _own_preset(settings.model, own)
                pixels = int(own.get("max_pixels", DEFAULT_PIXELS))
        more: dict[str, Any] = {"quantization_config": _nf4(dtype)} if settings.memory == "nf4" else {}
        pipeline = _pipeline(settings.model if folder.is_dir() else preset.model, dtype, **more)
        _place(pipeline, device, settings.memory)
        return cls(pipeline, settings, preset, settings.max_pixels or pixels)

    @property
    def name(self) -> str:
        """The model, with what changes its pictures."""
        model = self._settings.model
        return f"{Path(model).name if Path(model).is_dir() else model}({self._steps} steps)"

    @property
    def model(self) -> str:
        """The model alone, for a picture's provenance."""
        return self._preset.model if self._settings.model in PRESETS else Path(self._settings.model).name

    @property
    def _steps(self) -> int:
        return self._settings.steps or self._preset.steps

    def paint(self, prompt: str, anchor: Image.Image, *, seed: int, strength: float | None) -> Image.Image:
        """An RGB picture of the anchor's size. The same seed gives the same picture, bit for bit, on a CPU. Raises `ToolError`."""
        width, height = work_size(anchor.size, self._max_pixels, _longest_side(self._pipeline), shortest=_shortest_side(self._pipeline))
        said = f"Change the picture so that it shows this: {prompt}. Keep all else as it is." if self.is_editor else prompt
        given: dict[str, Any] = dict(self._preset.options) | {"prompt": said, "num_inference_steps": self._steps, "height": height, "width": width}
        if strength is not None:
            given["strength"] = min(1.0, max(strength, 1 / self._steps))  # less than one step is an error inside the pipeline
        guidance = self._settings.guidance if self._settings.guidance is not None else self._preset.guidance
        if guidance is not None and self._guidance_name:
            given[self._guidance_name] = guidance
        if getattr(self._pipeline, "text_encoder_3", self) is None:
            given["max_sequence_length"] = 1  # the third encoder's place is filled with zeros: as few as there can be
        small = anchor.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
        try:
            with torch.inference_mode():
                made = self._pipeline(image=small, generator=torch.Generator("cpu").manual_seed(seed), **given).images[0]
        except torch.OutOfMemoryError as error:
            raise OutOfMemoryToolError(f"the generator ran out of memory at {width} x {height} pixels") from error
        except ValueError as error:  # a pipeline refuses some shapes of pictures, such as FLUX.2 those above 8 to 1
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UnsupportedSizeError(f"the generator cannot work at {width} x {height} pixels ({reason})") from error
        painted: Image.Image = made.convert("RGB").resize(anchor.size, Image.Resampling.LANCZOS)
        return painted


def work_size(size: tuple[int, int], max_pixels: int, longest: int | None = None, *, shortest: int = _MULTIPLE) -> tuple[int, int]:
    """Width and height to work at: the frame's own shape, at most `max_pixels`, no side above `longest`, both multiples of 16.

    A side below `shortest` makes the picture larger than the frame, and a very long one may then have more than `max_pixels`.
    """
    scale = min(1.0, math.sqrt(max_pixels / (size[0] * size[1])), (longest or math.inf) / max(size))
    scale = max(scale, shortest / min(size)) if shortest > _MULTIPLE else scale
    width, height = (max(_MULTIPLE, round(side * scale / _MULTIPLE) * _MULTIPLE) for side in size)
    return width, height


def _own_preset(model: str, own: Mapping[str, Any]) -> Preset:
    """What a folder's act2see.json says of itself. Raises `ValueError` or `TypeError` for numbers that cannot be used."""
    steps, guidance, strengths = int(own.get("steps", 28)), own.get("guidance"), tuple(float(one) for one in own.get("strengths", ()))
    if steps < 1 or not all(0 < one <= 1 for one in strengths):
        raise ValueError(f"its act2see.json has steps {steps} and strengths {strengths}; at least 1, and each above 0 and at most 1")
    return Preset(model, steps, None if guidance is None else float(guidance), strengths)


def _longest_side(pipeline: Any) -> int | None:
    """The most pixels a side may have where the model knows its patches' places from a table, as Stable Diffusion 3 does."""
    config: Any = getattr(getattr(pipeline, "transformer", None), "config", None)
    places = getattr(config, "pos_embed_max_size", None)
    return None if places is None else int(places * config.patch_size * pipeline.vae_scale_factor)


def _shortest_side(pipeline: Any) -> int:
    """The least pixels that a side may have: 64 where the pipeline looks at that itself, as FLUX.2's do."""
    return 64 if hasattr(getattr(pipeline, "image_processor", None), "check_image_input") else _MULTIPLE


def _pipeline(model: str, dtype: torch.dtype, **options: Any) -> Any:
    """The pipeline, with all the weights that its parts want where it is a folder. Raises `ConfigError`."""
    what = f"the generator {model}"
    # Of a name on the hub the list of parts alone: diffusers fetches of each what it needs.
    folder = pretrained.locate(model, what, files=("model_index.json",))
    if not (folder / "model_index.json").is_file():
        raise ConfigError(f"cannot load {what}: no model_index.json in {folder}; name the folder of a pipeline of diffusers")
    parts = pretrained.read_json(folder / "model_index.json", what)
    is_here = os.path.isdir(os.path.expanduser(model))
    held = {name: _numbers(folder / name, f"{what}: its {name}") for name in parts if is_here and (folder / name / "config.json").is_file()}
    # The parts that it says it has none of, such as Stable Diffusion 3's third text encoder: diffusers wants them named.
    left_out: dict[str, Any] = {name: None for name, value in parts.items() if value == [None, None]}
    pipeline = pretrained.load_pipeline(AutoPipelineForImage2Image, str(folder) if is_here else model, what, dtype=dtype, **options, **left_out)
    for name in held if "quantization_config" not in options else ():
        wanted = sum(weight.numel() for weight in pipeline.components[name].parameters())
        if wanted > held[name]:  # diffusers fills what is missing with random numbers, and warns
            raise ConfigError(f"cannot load {what}: its {name} wants {wanted:,} numbers, and {held[name]:,} are there")
    return pipeline


def _numbers(folder: Path, what: str) -> int:
    """How many numbers a part's weight files hold; a tensor that stands in several, as of another precision, counts once."""
    return sum(pretrained.tensor_sizes(pretrained.weight_files(folder, what, single="*.safetensors"), what).values())


def _place(pipeline: Any, device: torch.device, memory: Memory) -> None:
    parts: dict[str, Any] = {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}
    if memory == "auto":
        memory = _memory_for({name: part.get_memory_footprint() for name, part in parts.items()}, _free_bytes(device))
    if device.type == "cpu" or memory == "none":
        pipeline.to(device)
    elif memory in ("model-offload", "nf4"):
        pipeline.enable_model_cpu_offload(device=device)
    else:
        pipeline.enable_group_offload(onload_device=device, offload_type="leaf_level", use_stream=device.type == "cuda")


def _free_bytes(device: torch.device) -> int | None:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None


def _memory_for(part_bytes: Mapping[str, int], free_bytes: int | None) -> Memory:
    """What has room: everything, the largest part alone, or neither. A quarter is left for what is computed; our choice. None: no limit is known."""
    room = math.inf if free_bytes is None else 0.75 * free_bytes
    if sum(part_bytes.values()) <= room:
        return "none"
    return "model-offload" if max(part_bytes.values()) <= room else "group-offload"


def _nf4(dtype: torch.dtype) -> PipelineQuantizationConfig:
    try:
        return PipelineQuantizationConfig(
            quant_backend="bitsandbytes_4bit",
            quant_kwargs={"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": dtype},
            components_to_quantize=["transformer", "text_encoder", "text_encoder_3"],
        )
    except ImportError as error:
        raise ConfigError("nf4 needs bitsandbytes: pip install bitsandbytes") from error


def _remembering(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with its last results kept: a ladder of strengths or seeds asks for the same prompt and the same anchor again and again."""
    kept: OrderedDict[str, Any] = OrderedDict()

    def remembered(*args: Any, **kwargs: Any) -> Any:
        key = hashlib.sha256(repr([*map(_content, args), *((name, _content(value)) for name, value in sorted(kwargs.items()))]).encode()).hexdigest()
        if key not in kept:
            kept[key] = function(*args, **kwargs)
            while len(kept) > _KEPT:
                kept.popitem(last=False)
        kept.move_to_end(key)
        return kept[key]

    return remembered


def _content(value: Any) -> object:
    match value:
        case torch.Tensor():
            return (value.dtype, tuple(value.shape), hashlib.sha256(value.float().cpu().numpy().tobytes()).hexdigest())
        case Image.Image():
            return (value.mode, value.size, hashlib.sha256(value.tobytes()).hexdigest())
        case list() | tuple():
            return [_content(one) for one in value]
        case _:
            return repr(value)
