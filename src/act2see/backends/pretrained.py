"""Load models, tokenizers and processors from a folder or the hub: from safetensors only, never running a repository's code.

All calls of `from_pretrained` are in this module. Config and headers are validated before any weights are read. Failures become one-line errors,
and the libraries print nothing to stdout.
"""

import json
import os
import re
import sys
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, Protocol, TypedDict, TypeVar, cast, runtime_checkable

import torch
from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled, StrictDataclassError
from jinja2 import TemplateError
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import AutoConfig
from transformers.utils import logging

from act2see.core.errors import Act2SeeError, BackendError, ConfigError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")
HUB_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
_HUB_LEFT = ("open_clip*", "onnx/*", "openvino/*", "original/*")
"""Copies of the weights for other programs; not downloaded."""
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_ADAPTER = "adapter_config.json"
_JSON_BYTES = 64 << 20
"""Maximum size of a JSON file. A config has some KB, an index of a thousand shards a few MB. Our choice."""
_LAYER_COUNT = re.compile(r"(num|n)_(\w+_)?layers|depth")
_MESSAGE_LENGTH = 200
CONVERT = "convert it to safetensors if you trust it: AutoModel.from_pretrained(DIR, use_safetensors=False).save_pretrained(DIR)"

Raised = type[Act2SeeError]


_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)
_Model = TypeVar("_Model", bound=nn.Module)


class Loadable(Protocol[_T_co]):
    """A class of transformers or diffusers. Some auto classes do not declare what they load."""

    def from_pretrained(self, *args: Any, **options: Any) -> _T_co:
        """Load an object of this class from a folder, or of the class that the folder names."""
        ...


# Device and dtype


def device_of(name: str) -> torch.device:
    """The device of that name; `auto` is a GPU if available. Raises `ConfigError`."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about deprecated names, then raises
            device = torch.device(name)
            torch.empty(0, device=device)
        if device.type == "meta":
            raise NotImplementedError("it cannot hold data")
    # torch raises any of these: for an unknown name, a build without the device, or an index out of range.
    except (RuntimeError, AssertionError, NotImplementedError, ImportError, ValueError, TypeError) as error:
        raise ConfigError(f"device {name!r} cannot be used here ({first_line(error)}); auto and cpu always can") from error
    return device


def dtype_of(name: str, device: torch.device, half: torch.dtype | None) -> torch.dtype | None:
    """The dtype of the weights: `auto` is float32 on a CPU and `half` elsewhere (None: as stored). Raises `ConfigError`."""
    if name != "auto" and name not in DTYPES:
        raise ConfigError(f"dtype is {name!r}; allowed are auto, {', '.join(DTYPES)}")
    # Half precision is slow on CPUs, and some operations are not implemented.
    return (torch.float32 if device.type == "cpu" else half) if name == "auto" else DTYPES[name]


# Folders


def locate(model: str, what: str, error: Raised = ConfigError, *, files: Sequence[str] = HUB_FILES) -> Path:
    """The model's local folder: as given, downloaded from the hub, or from the hub's cache if the hub is unreachable.

    `what` is the model's name in errors. All further reads use the folder, so that the hub is queried once.
    """
    # os.path instead of Path, which raises for unknown users, long names and missing permissions.
    folder = Path(os.path.expanduser(model))
    if model and os.path.isdir(folder):
        if not os.access(folder, os.R_OK | os.X_OK):
            raise error(f"cannot load {what}: the folder {folder} is not readable by this user")
        return folder
    if not _HUB_NAME.fullmatch(model) or os.path.exists(folder):
        raise error(f"cannot load {what[:200]}: no folder {model[:200]!r}; give a model's folder, or its name on the hub, such as OWNER/NAME")
    with quiet():
        try:
            return Path(snapshot_download(model, allow_patterns=list(files), ignore_patterns=list(_HUB_LEFT)))
        except (LocalEntryNotFoundError, OfflineModeIsEnabled) as gone:
            reason = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else first_line(gone)
            server = ", or ask a server: --backend openai:MODEL" if error is BackendError else ""
            raise error(
                f"cannot load {what}: it is not a local folder, not in the hub's cache, and the hub is unreachable ({reason}); name a local folder, "
                f"set HF_HOME to a cache that holds it, or HF_ENDPOINT to a mirror{server}"
            ) from gone
        except (OSError, ValueError) as refused:
            raise error(f"cannot load {what} from the hub, and it is not a local folder: {first_line(refused)}") from refused


def read_model_type(folder: Path, what: str, error: Raised = ConfigError) -> str:
    """The `model_type` in the folder's config.json. The error for an adapter or a pipeline names it as such."""
    return str(_read_config(folder, what, error)["model_type"])


def _read_config(folder: Path, what: str, error: Raised) -> Mapping[str, object]:
    if not (folder / "config.json").is_file():
        if (folder / _ADAPTER).is_file():
            raise error(f"cannot load {what}: {folder} holds an adapter, not a model; name its base as the model and this folder with --adapter")
        if (folder / "model_index.json").is_file():
            raise error(f"cannot load {what}: {folder} holds a diffusers pipeline; name it with --generator diffusers:{folder}")
        raise error(f"cannot load {what}: no config.json in {folder}; name the folder that holds it and {_WEIGHTS}")
    config = read_json(folder / "config.json", what, error)
    if not isinstance(config.get("model_type"), str):
        raise error(f"cannot load {what}: its config.json has no 'model_type' that is a text")
    return config


def read_json(path: Path, what: str, error: Raised = ConfigError) -> Mapping[str, object]:
    """Read a JSON object from a small file."""
    try:
        size = path.stat().st_size
        if size > _JSON_BYTES:
            raise ValueError(f"it has {size:,} bytes; at most {_JSON_BYTES:,} are read")
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("it holds no JSON object")
    except (OSError, ValueError, RecursionError) as fault:
        raise error(f"cannot load {what}: {path.name} cannot be read: {first_line(fault)}") from fault
    return found


def weight_files(folder: Path, what: str, error: Raised = ConfigError, *, single: str = _WEIGHTS) -> list[Path]:
    """The folder's safetensors files, after checking that none is missing. Pickles are rejected, because loading one can run code.

    `single` is the name of an unsharded file, or a pattern.
    """
    if found := sorted(path for path in folder.glob(single) if path.is_file()):
        return found
    if single == _WEIGHTS and (folder / _INDEX).is_file():
        return _shards(folder, what, error)
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern) if path.name != "training_args.bin")
    if pickles:
        raise error(f"cannot load {what}: it has no weights in safetensors, and {pickles[0]} is a pickle, which can run code; {CONVERT}")
    raise error(f"cannot load {what}: it has no weights in safetensors: no {single} in {folder}")


def _shards(folder: Path, what: str, error: Raised) -> list[Path]:
    places = read_json(folder / _INDEX, what, error).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(name, str) and Path(name).name == name for name in places.values()):
        raise error(f"cannot load {what}: {_INDEX} names no files of its folder in 'weight_map'")
    names = sorted(set(places.values()))
    if lost := [name for name in names if not (folder / name).is_file()]:
        raise error(f"cannot load {what}: {len(lost)} of {len(names)} weight files are missing, {lost[0]} for one; download the folder again")
    return [folder / name for name in names]


def tensor_sizes(files: Sequence[Path], what: str, error: Raised = ConfigError) -> dict[str, int]:
    """The number of elements of each tensor, from the headers alone, which safetensors validates against the file sizes."""
    found: dict[str, int] = {}
    for path in files:
        try:
            with safe_open(path, framework="pt") as weights:
                for name in weights.keys():  # noqa: SIM118 - no mapping
                    found[name] = torch.Size(weights.get_slice(name).get_shape()).numel()
        except (OSError, SafetensorError) as fault:
            raise error(f"cannot load {what}: the weights in {path.name} are damaged ({first_line(fault)}); download the file again") from fault
    return found


# Loading


class _Report(TypedDict):
    """What transformers reports of a loaded model's tensors."""

    missing_keys: Collection[str]
    mismatched_keys: Collection[tuple[str, Sequence[int], Sequence[int]]]
    """Name, shape in the file, shape in the model."""
    unexpected_keys: Collection[str]


@runtime_checkable
class _AutoClass(Protocol):
    """A class of transformers that chooses a model's class by its config."""

    def from_config(self, config: object) -> nn.Module: ...


def load_model(
    model_class: Loadable[_Model], folder: Path, what: str, error: Raised = ConfigError, *, exact: bool = False, **options: object
) -> _Model:
    """Load a model with all its weights from the folder, in evaluation mode.

    Config and headers are compared first. Missing tensors and shape mismatches, which transformers would fill with random values, raise `error`; with
    `exact`, unexpected tensors do too.
    """
    check_sizes(model_class, folder, what, error)
    with reading(f"the weights of {what}", error):
        model, report = cast("Loadable[tuple[_Model, _Report]]", model_class).from_pretrained(
            str(folder),
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **options,
        )
    if lost := sorted(report["missing_keys"]):
        raise error(f"cannot load the weights of {what}: {len(lost)} tensors of a {type(model).__name__} are missing, {lost[0]} for one")
    if others := sorted(report["mismatched_keys"]):
        name, held, wanted = others[0]
        raise error(f"cannot load the weights of {what}: {name} is {list(held)} there and {list(wanted)} by its config.json ({len(others)} such)")
    if exact and (foreign := sorted(report["unexpected_keys"])):
        raise error(f"cannot load the weights of {what}: its config.json has no place for {foreign[0]} ({len(foreign)} such)")
    return model.eval()


def check_sizes(model_class: Loadable[nn.Module], folder: Path, what: str, error: Raised = ConfigError) -> None:
    """Raise `error` if the weights cannot match the config, judged by the headers alone, before anything is allocated."""
    content = _read_config(folder, what, error)
    held = tensor_sizes(weight_files(folder, what, error), what, error)
    if (layers := max(_layer_counts(content), default=0)) > len(held):
        raise error(f"cannot load {what}: its config.json names {layers:,} layers, and the weights hold {len(held):,} tensors")
    if "quantization_config" in content:  # packed: several values per element
        return
    with reading(f"the weights of {what}", error):
        config = AutoConfig.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
        with torch.device("meta"):
            make = model_class.from_config if isinstance(model_class, _AutoClass) else cast("Callable[..., nn.Module]", model_class)
            outline = make(config)
    wanted = sum(weight.numel() for weight in outline.parameters())
    if wanted > sum(held.values()):
        if lost := [name for name, _ in outline.named_parameters() if name not in held]:
            raise error(f"cannot load the weights of {what}: {len(lost)} tensors of a {type(outline).__name__} are missing, {lost[0]} for one")
        raise error(
            f"cannot load the weights of {what}: its config.json wants {wanted:,} numbers and there are {sum(held.values()):,}: some are missing, "
            "or the two are not of one model"
        )


def load_part(part_class: Loadable[_T], folder: Path, what: str, error: Raised = ConfigError, **options: object) -> _T:
    """Load a config, tokenizer or processor from the folder; `what` is its name in errors."""
    with reading(what, error):
        return part_class.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True, **options)


def load_pipeline(pipeline_class: Loadable[_T], folder: str, what: str, error: Raised = ConfigError, **options: object) -> _T:
    """Load a diffusers pipeline from a folder, or by its name on the hub, from which diffusers selects the files."""
    with reading(what, error):
        return pipeline_class.from_pretrained(folder, use_safetensors=True, trust_remote_code=False, **options)


@contextmanager
def quiet() -> Iterator[None]:
    """Redirect the libraries' prints from stdout, which is for results, to stderr, and suppress their warnings: real problems are raised."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(before)


@contextmanager
def reading(what: str, error: Raised = ConfigError) -> Iterator[None]:
    """Convert the libraries' exceptions for a bad folder into `error`, with the first line of their message."""
    try:
        with quiet():
            yield
    except (OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, ImportError) as fault:
        raise error(f"cannot load {what}: {first_line(fault)}") from fault
    except (SafetensorError, StrictDataclassError, TemplateError) as fault:
        raise error(f"cannot load {what}: {first_line(fault)}") from fault
    except Exception as fault:
        if type(fault) is not Exception:  # tokenizers raises the base class itself, for a too new tokenizer.json for example
            raise
        raise error(f"cannot load {what}: {first_line(fault)}") from fault


def first_line(error: Exception) -> str:
    """The first line of an error's message, truncated."""
    line = next((line.strip() for line in str(error).split("\n") if line.strip()), type(error).__name__)
    line = f"no {line}" if isinstance(error, KeyError) else line
    return line if len(line) <= _MESSAGE_LENGTH else line[:_MESSAGE_LENGTH].rstrip() + "…"


def _layer_counts(config: Mapping[str, object]) -> Iterator[int]:
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _layer_counts(value)
        elif isinstance(value, int) and _LAYER_COUNT.fullmatch(name):
            yield value
