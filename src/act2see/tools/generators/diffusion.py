"""Image generation with diffusers: any image-to-image pipeline, from the paper's Stable Diffusion 3.5 to instruction editors."""

import hashlib
import inspect
import math
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, ParamSpec, Protocol, TypeVar, cast

import torch
from diffusers import AutoPipelineForImage2Image
from diffusers.quantizers import PipelineQuantizationConfig
from diffusers.utils import logging
from PIL import Image

from act2see.backends import pretrained
from act2see.core.errors import ConfigError, OutOfMemoryToolError, UnsupportedSizeError
from act2see.core.flops import count
from act2see.tools.generators.flops import StableDiffusion3

Memory = Literal["auto", "none", "model-offload", "group-offload", "nf4"]
_MULTIPLE = 16
_MEMO_SIZE = 8
_T5_TOKENS = 256  # diffusers' default for Stable Diffusion 3
_P = ParamSpec("_P")
_R = TypeVar("_R")


@dataclass(frozen=True, slots=True)
class Preset:
    """A model with its recommended settings."""

    model: str
    steps: int
    guidance: float | None
    strengths: tuple[float, ...] = ()
    """Weakest first; the first picture that passes verification is kept. For image-to-image models only."""
    options: Mapping[str, object] = field(default_factory=dict)
    """Further keyword arguments of the pipeline call."""


PRESETS: dict[str, Preset] = {
    # The paper's model. Steps and guidance are from its model card. The paper states neither, and no strength: the strengths are our choice.
    "sd3.5-large": Preset("stabilityai/stable-diffusion-3.5-large", 28, 3.5, (0.5, 0.65, 0.8)),
    # Distilled: four steps without guidance, from its model card.
    "flux2-klein": Preset("black-forest-labs/FLUX.2-klein-4B", 4, 1.0),
    "qwen-image-edit": Preset("Qwen/Qwen-Image-Edit-2511", 40, None, options={"true_cfg_scale": 4.0, "negative_prompt": " "}),
}
DEFAULT_STRENGTHS = (0.5, 0.65, 0.8)
"""For image-to-image models without a preset. Our choice: texture and colour change from about 0.5, layout from 0.8."""
DEFAULT_PIXELS = 1024 * 1024
"""Most models were trained at about one megapixel: larger frames are scaled down to it, and the result is scaled back up. Our choice."""


@dataclass(frozen=True, slots=True)
class DiffusionSettings:
    """The model and how to run it. None selects the default of the preset, the folder or the pipeline."""

    model: str
    """A preset's name, a folder, or a name on the hub. Only safetensors weights are loaded; remote code is never executed."""
    device: str = "auto"
    dtype: str = "auto"
    """auto: float32 on a CPU, bfloat16 elsewhere."""
    steps: int | None = None
    guidance: float | None = None
    strengths: tuple[float, ...] | None = None
    max_pixels: int | None = None
    memory: Memory = "auto"
    """none: all components on the device; model-offload: one component at a time; group-offload: a few layers at a time; nf4: 4-bit weights
    (bitsandbytes). auto picks the first of the first three that fits in device memory."""


class _Autoencoder(Protocol):
    encode: Callable[..., object]


class _Output(Protocol):
    @property
    def images(self) -> Sequence[Image.Image]: ...


class Pipeline(Protocol):
    """The parts of a diffusers image-to-image pipeline that `DiffusionPainter` uses. Pipelines differ in their keyword arguments."""

    @property
    def vae(self) -> _Autoencoder:
        """The image autoencoder."""
        ...

    @property
    def encode_prompt(self) -> Callable[..., object]:
        """Encodes the prompt for all text encoders."""
        ...

    def __call__(self, *args: Any, **kwargs: Any) -> _Output:
        """Generate images."""
        ...

    def set_progress_bar_config(self, *, disable: bool) -> None:
        """Configure the progress bar."""
        ...


class _LoadedPipeline(Pipeline, Protocol):
    """A pipeline as loaded from disk, which can be moved and offloaded."""

    @property
    def components(self) -> Mapping[str, object]: ...

    def to(self, device: torch.device) -> object: ...

    def enable_model_cpu_offload(self, *, device: torch.device) -> None: ...

    def enable_group_offload(self, *, onload_device: torch.device, offload_type: str, use_stream: bool) -> None: ...


class _Component(Protocol):
    """A model of a pipeline, as diffusers and transformers define it."""

    def parameters(self) -> Iterable[torch.Tensor]: ...

    def get_memory_footprint(self) -> int: ...


class DiffusionPainter:
    """Generates an image from an anchor image and a text.

    Pipelines with a `strength` argument receive a description of the target image, all others receive an instruction.
    """

    def __init__(self, pipeline: Pipeline, settings: DiffusionSettings, preset: Preset, max_pixels: int) -> None:
        self._pipeline, self._settings, self._preset, self._max_pixels = pipeline, settings, preset, max_pixels
        accepted = inspect.signature(pipeline.__call__).parameters
        self.is_editor = "strength" not in accepted
        self._guidance_name = "guidance_scale" if "guidance_scale" in accepted else None
        self.strengths: tuple[float | None, ...] = (None,) if self.is_editor else settings.strengths or preset.strengths or DEFAULT_STRENGTHS
        self._flops = StableDiffusion3.of(pipeline)
        pipeline.set_progress_bar_config(disable=True)
        pipeline.encode_prompt = _memoized(self._counted_texts(pipeline.encode_prompt))  # type: ignore[misc] # the method of this one instance is replaced
        pipeline.vae.encode = _memoized(self._counted_encoding(pipeline.vae.encode))

    @classmethod
    def load(cls, settings: DiffusionSettings) -> "DiffusionPainter":
        """Load the pipeline and place it in memory. Raises `ConfigError` if it cannot be used."""
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        device = pretrained.device_of(settings.device)
        dtype = pretrained.dtype_of(settings.dtype, device, torch.bfloat16) or torch.bfloat16
        preset = PRESETS.get(settings.model)
        folder = Path(os.path.expanduser(settings.model))
        pixels = DEFAULT_PIXELS
        if preset is None:
            with pretrained.reading(f"the generator {settings.model}"):
                path = folder / "act2see.json"
                declared = pretrained.read_json(path, f"the generator {settings.model}") if path.is_file() else {}
                preset = _folder_preset(settings.model, declared)
                given = declared.get("max_pixels", DEFAULT_PIXELS)
                if not isinstance(given, int):
                    raise ValueError(f"max_pixels is {given!r}; an integer is expected")
                pixels = given
        quantization = _nf4(dtype) if settings.memory == "nf4" else None
        pipeline = _load(settings.model if folder.is_dir() else preset.model, dtype, quantization)
        _place(pipeline, device, settings.memory)
        return cls(pipeline, settings, preset, settings.max_pixels or pixels)

    @property
    def name(self) -> str:
        """The model and its number of steps."""
        model = self._settings.model
        return f"{Path(model).name if Path(model).is_dir() else model}({self._steps} steps)"

    @property
    def model(self) -> str:
        """The model's name, for a picture's provenance."""
        return self._preset.model if self._settings.model in PRESETS else Path(self._settings.model).name

    @property
    def _steps(self) -> int:
        return self._settings.steps or self._preset.steps

    def paint(self, prompt: str, anchor: Image.Image, *, seed: int, strength: float | None) -> Image.Image:
        """Generate an RGB image of the anchor's size. On a CPU, equal seeds give bit-identical images. Raises `ToolError`."""
        width, height = work_size(anchor.size, self._max_pixels, _longest_side(self._pipeline), shortest=_shortest_side(self._pipeline))
        text = f"Change the picture so that it shows this: {prompt}. Keep all else as it is." if self.is_editor else prompt
        arguments: dict[str, object] = {**self._preset.options, "prompt": text, "num_inference_steps": self._steps, "height": height, "width": width}
        if strength is not None:
            arguments["strength"] = min(1.0, max(strength, 1 / self._steps))  # pipelines fail on less than one step
        guidance = self._settings.guidance if self._settings.guidance is not None else self._preset.guidance
        if guidance is not None and self._guidance_name:
            arguments[self._guidance_name] = guidance
        if getattr(self._pipeline, "text_encoder_3", self) is None:
            arguments["max_sequence_length"] = 1  # the missing third encoder's embeddings are zeros: keep them as few as possible
        small = anchor.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
        try:
            with torch.inference_mode():
                generated = self._pipeline(image=small, generator=torch.Generator("cpu").manual_seed(seed), **arguments).images[0]
        except torch.OutOfMemoryError as error:
            raise OutOfMemoryToolError(f"the generator ran out of memory at {width} x {height} pixels") from error
        except ValueError as error:  # pipelines reject some aspect ratios: FLUX.2 those above 8 to 1
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UnsupportedSizeError(f"the generator cannot work at {width} x {height} pixels ({reason})") from error
        self._count(strength, guidance, (width, height))
        return generated.convert("RGB").resize(anchor.size, Image.Resampling.LANCZOS)

    def _count(self, strength: float | None, guidance: float | None, size: tuple[int, int]) -> None:
        """Report the FLOPs of the steps and of the codec's decoder. Pipelines skip the first steps, by the strength."""
        if self._flops is None or strength is None:
            count("generator", None)
            return
        steps = self._steps - int(max(self._steps - min(1.0, max(strength, 1 / self._steps)) * self._steps, 0))
        denoising = self._flops.denoising(steps, size, _T5_TOKENS if self._flops.t5 else 1, guided=guidance is None or guidance > 1)
        count("generator", denoising + self._flops.decoding(size))

    def _counted_texts(self, encode: Callable[_P, _R]) -> Callable[_P, _R]:
        def counted(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            if self._flops is not None:
                prompts = 2 if kwargs.get("do_classifier_free_guidance", True) else 1
                count("generator", self._flops.texts(prompts, cast("int", kwargs.get("max_sequence_length", _T5_TOKENS))))
            return encode(*args, **kwargs)

        return counted

    def _counted_encoding(self, encode: Callable[_P, _R]) -> Callable[_P, _R]:
        def counted(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            if self._flops is not None and args and isinstance(args[0], torch.Tensor):
                count("generator", self._flops.encoding((args[0].shape[-1], args[0].shape[-2])))
            return encode(*args, **kwargs)

        return counted


def work_size(size: tuple[int, int], max_pixels: int, longest: int | None = None, *, shortest: int = _MULTIPLE) -> tuple[int, int]:
    """Width and height to generate at: the frame's aspect ratio, at most `max_pixels`, no side above `longest`, both multiples of 16.

    If a side would be below `shortest`, the image is scaled up; with an extreme aspect ratio it may then exceed `max_pixels`.
    """
    scale = min(1.0, math.sqrt(max_pixels / (size[0] * size[1])), (longest or math.inf) / max(size))
    scale = max(scale, shortest / min(size)) if shortest > _MULTIPLE else scale
    width, height = (max(_MULTIPLE, round(side * scale / _MULTIPLE) * _MULTIPLE) for side in size)
    return width, height


def _folder_preset(model: str, declared: Mapping[str, Any]) -> Preset:
    """The preset in a folder's act2see.json. Raises `ValueError` or `TypeError` for invalid numbers."""
    steps, guidance = int(declared.get("steps", 28)), declared.get("guidance")
    strengths = tuple(float(one) for one in declared.get("strengths", ()))
    if steps < 1 or not all(0 < one <= 1 for one in strengths):
        raise ValueError(f"act2see.json has steps {steps} and strengths {strengths}; steps must be at least 1, each strength above 0 and at most 1")
    return Preset(model, steps, None if guidance is None else float(guidance), strengths)


class _Scaled(Protocol):
    vae_scale_factor: int


class _TabledConfig(Protocol):
    pos_embed_max_size: int | None
    patch_size: int


def _longest_side(pipeline: object) -> int | None:
    """Maximum side in pixels of models with a fixed table of position embeddings, such as Stable Diffusion 3."""
    config = getattr(getattr(pipeline, "transformer", None), "config", None)
    if getattr(config, "pos_embed_max_size", None) is None:
        return None
    tabled = cast("_TabledConfig", config)
    return int((tabled.pos_embed_max_size or 0) * tabled.patch_size * cast("_Scaled", pipeline).vae_scale_factor)


def _shortest_side(pipeline: object) -> int:
    """Minimum side in pixels: 64 if the pipeline checks its input images, as FLUX.2's do."""
    return 64 if hasattr(getattr(pipeline, "image_processor", None), "check_image_input") else _MULTIPLE


def _load(model: str, dtype: torch.dtype, quantization: PipelineQuantizationConfig | None) -> _LoadedPipeline:
    """Load a pipeline; a local folder must hold every weight of its components. Raises `ConfigError`."""
    what = f"the generator {model}"
    # For a hub name, fetch only the list of components: diffusers downloads the files that each of them needs.
    folder = pretrained.locate(model, what, files=("model_index.json",))
    if not (folder / "model_index.json").is_file():
        raise ConfigError(f"cannot load {what}: no model_index.json in {folder}; name the folder of a diffusers pipeline")
    index = pretrained.read_json(folder / "model_index.json", what)
    is_local = os.path.isdir(os.path.expanduser(model))
    local = [name for name in index if is_local and (folder / name / "config.json").is_file()]
    stored = {name: _parameter_count(folder / name, f"{what}: its {name}") for name in local}
    # diffusers requires components that the index declares absent, such as Stable Diffusion 3's third text encoder, to be passed as None.
    options: dict[str, object] = {name: None for name, value in index.items() if value == [None, None]}
    if quantization is not None:
        options["quantization_config"] = quantization
    source = str(folder) if is_local else model
    pipeline: _LoadedPipeline = pretrained.load_pipeline(AutoPipelineForImage2Image, source, what, ConfigError, dtype=dtype, **options)
    for name in stored if quantization is None else ():
        needed = sum(weight.numel() for weight in cast("_Component", pipeline.components[name]).parameters())
        if needed > stored[name]:  # diffusers initialises missing weights at random, with no more than a warning
            raise ConfigError(f"cannot load {what}: its {name} has {needed:,} parameters, but the files hold only {stored[name]:,}")
    return pipeline


def _parameter_count(folder: Path, what: str) -> int:
    """Number of parameters in a component's weight files. A tensor stored in several files, e.g. in two precisions, counts once."""
    return sum(pretrained.tensor_sizes(pretrained.weight_files(folder, what, single="*.safetensors"), what).values())


def _place(pipeline: _LoadedPipeline, device: torch.device, memory: Memory) -> None:
    models = {name: cast("_Component", part) for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}
    if memory == "auto":
        memory = _memory_for({name: part.get_memory_footprint() for name, part in models.items()}, _free_bytes(device))
    if device.type == "cpu" or memory == "none":
        pipeline.to(device)
    elif memory in ("model-offload", "nf4"):
        pipeline.enable_model_cpu_offload(device=device)
    else:
        pipeline.enable_group_offload(onload_device=device, offload_type="leaf_level", use_stream=device.type == "cuda")


def _free_bytes(device: torch.device) -> int | None:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None


def _memory_for(part_bytes: Mapping[str, int], free_bytes: int | None) -> Memory:
    """The mode that fits: all components, only the largest, or neither. A quarter is reserved for activations (our choice). None: unlimited."""
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


def _memoized(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Memoize the last results: trying several strengths and seeds encodes the same prompt and anchor each time."""
    results: OrderedDict[str, _R] = OrderedDict()

    def memoized(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        key = hashlib.sha256(repr([*map(_content, args), *((name, _content(value)) for name, value in sorted(kwargs.items()))]).encode()).hexdigest()
        if key not in results:
            results[key] = function(*args, **kwargs)
            while len(results) > _MEMO_SIZE:
                results.popitem(last=False)
        results.move_to_end(key)
        return results[key]

    return memoized


def _content(value: object) -> object:
    """A representation of an argument by content, for use in a key."""
    match value:
        case torch.Tensor():
            return (value.dtype, tuple(value.shape), hashlib.sha256(value.float().cpu().numpy().tobytes()).hexdigest())
        case Image.Image():
            return (value.mode, value.size, hashlib.sha256(value.tobytes()).hexdigest())
        case list() | tuple():
            return [_content(one) for one in value]
        case _:
            return repr(value)
